"""What a source's pattern may say, and what is refused before a line meets it."""

from __future__ import annotations

import pytest

from agent.patterns import MAX_GROUPS, MAX_STEPS, BadPattern, groups_of


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (r"^(?P<time>\S+) (?<level>[A-Z]+) (.*)$", ("time", "level", "")),
        (r"(?i)(?P<a>x)(?:y|z)+?[^]a\]-](?s:.)\(\?\\(?P<b>)", ("a", "b")),
        (r"(?P<a>[(?=]{2,}\x41\.\[)", ("a",)),
        (r"(?P<a>(?P<b>(?P<c>x)){3})", ("a", "b", "c")),
        (r"(?P<a>{)", ("a",)),
    ],
)
def test_groups_have_their_names_in_order(pattern: str, names: tuple[str, ...]) -> None:
    assert groups_of(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("(?P<a>x)(", "is no regular expression"),
        ("(?P<a>x))", "is no regular expression"),
        ("(?P<a>[x)", "a [ is never closed"),
        ("(?P<a>x)\\", "ends with a backslash"),
        ("(?P<a>x)**", "is no regular expression"),
        ("(?P<a>x)(?P<a>y)", "is no regular expression"),
        ("x", "no named group"),
        ("(x)", "no named group"),
        (r"(?P<a>x)(?=y)", "'(?=y' is not taken"),
        (r"(?P<a>x)(?<!y)", "is not taken"),
        (r"(?P<a>x)(?#y)", "is not taken"),
        (r"(?P<a>x)(?P=a)", "is not taken"),
        (r"(?P<a>x)(?(1)y)", "is not taken"),
        (r"(?P<a>x)(?>y)", "is not taken"),
        (r"(?P<a>x)\1", "back references are not taken"),
        (r"(?P<a>x++)", "possessive"),
        (r"(?P<a>x{2}+)", "possessive"),
        (r"(?P<a>x{,2})", "'{,' is not taken"),
        (r"(?P<a>x)\Z", r"'\Z' is not taken"),
        (r"(?P<a>\u0041)", r"'\u' is not taken"),
        (r"(?P<a>\pL)", r"'\p' is not taken"),
        (r"(?P<a>[[:alpha:]])", "'[:' is not taken"),
        (r"(?P<a>[\b])", "is not taken inside"),
        ("(?P<a>" + "x" * 5000 + ")", "bytes; at most"),
        ("(?P<a>x)" + "(y)" * MAX_GROUPS, "groups; at most"),
        ("(?P<a>x{3000})", "steps long"),
        ("(?P<a>((x{50}){50}){2})", "steps long"),
        ("(?P<a>(x{1,50}y){1,50})", "steps long"),
        (f"(?P<a>x{{{MAX_STEPS},}})", "steps long"),
    ],
)
def test_what_the_two_engines_do_not_share_or_what_costs_too_much_is_refused(pattern: str, fault: str) -> None:
    with pytest.raises(BadPattern) as caught:
        groups_of(pattern)
    assert fault in str(caught.value)
