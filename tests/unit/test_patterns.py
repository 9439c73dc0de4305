"""Which patterns of a configuration may be tried on many lines at once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.text import filters, redact
from agent.text.patterns import is_line_bound, is_literal

BOUND = r"""nothing like this
\d{3} (?:a|b)
(?i)debug
[a-z]+@[\w.]+
user=(\S+)
password=[^\s&]+
(?P<x>a+?)b
[^\n]*x
\"a\"
^#
[ \t]x$
a|b
[\[\]a-z]
a.*?b
\bx\b"""
BEYOND = r"""^\s*$
[^a]b
a++b
a*+b
a?+b
x{2}+
(?=a)
(?<!a)b
(?>a)
(?(1)a)
(?s).
(?-i:a)
(?-m:^)a
x(?i:y)
(?#x)
(a)\1
\Aa
a\Z
\W
\D
\n
a\x0ab
[\t-a]
[^a-z]
[^\t-z\n]
[\s]
[\W]
[\n]
é"""
PARTS = r"""a b . \w \d \S ^ $ \b | ( ) (?: * + ? {2} {1,} [ab] [^\sa] [^\nb] [\w.] \. (?P<x> - @ \t \s [^a] ++ (?="""
TEXTS = ["", "a", "b", "ab", " ", "a.b", "ba@", "aab", "\t", "-", "1"]


@pytest.mark.parametrize("pattern", BOUND.split("\n"))
def test_what_cannot_leave_a_line_is_tried_on_many_at_once(pattern: str) -> None:
    assert is_line_bound(pattern)


@pytest.mark.parametrize("pattern", [*BEYOND.split("\n"), "a\nb"])
def test_what_may_see_more_than_its_line_is_tried_on_each_alone(pattern: str) -> None:
    assert not is_line_bound(pattern)
    assert not is_literal(pattern)


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.sampled_from([*PARTS.split(" "), " "]), min_size=1, max_size=6).map("".join),
    st.lists(st.sampled_from(TEXTS), min_size=2, max_size=6),
)
def test_many_lines_at_once_give_what_each_alone_does(pattern: str, lines: list[str]) -> None:
    try:
        alone = re.compile(pattern.encode(), re.M)
    except re.error:
        return
    if not is_line_bound(pattern):
        return
    data = "\n".join(lines).encode()
    each = [[match.span() for match in alone.finditer(line) if match[0]] for line in data.split(b"\n")]
    starts = [sum(map(len, lines[:n])) + n for n in range(len(lines))]
    moved = [(a + start, b + start) for start, spans in zip(starts, each, strict=True) for a, b in spans]
    assert [match.span() for match in alone.finditer(data) if match[0]] == moved
    found = filters.compiled(pattern)
    assert found.find is not None
    first = next((start for start, line in zip(starts, lines, strict=True) if found.search(line.encode())), None)
    assert first is None or 0 <= found.find(data, 0) <= first + len(max(lines, key=len))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", ["x=[^&]*&", r"x=\s*y", "(?s)x=.*y", r"x=(?:a|\n)*y"])
def test_a_pattern_that_may_cross_lines_is_not_tried_on_a_block(pattern: str) -> None:
    """Where it finds nothing that would look through all that follows, from each line on: minutes for a block."""
    lines = [b"x=" + b"a" * 12] * 70_000
    redaction = redact.pattern(pattern, b"[x]")
    assert redaction.alone
    assert list(map(redaction.each, lines)) == lines
