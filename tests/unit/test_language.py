"""The query language: what is text and what is syntax, faults with their place, bounds, and that no text becomes SQL."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.search.language import patterns, refused
from collector.search.language.conditions import condition
from collector.search.language.faults import QueryFault
from collector.search.language.parsing import MAX_CHARS, parse
from collector.search.language.terms import words_of
from collector.search.language.tree import And, Between, Bound, Field, Is, Kind, Node, Not, Or, Words

NOW = 1_795_000_000_000_000
HOUR, DAY = 3_600_000_000, 86_400_000_000


def sql_of(q: str) -> tuple[str, dict[str, Any]]:
    params: dict[str, Any] = {}
    return condition(parse(q, NOW), params), params


def fault_of(q: str) -> QueryFault:
    with pytest.raises(QueryFault) as caught:
        parse(q, NOW)
    return caught.value


def words_in(node: Node) -> list[str]:
    """The words of a query that asks for nothing but words, all of them."""
    if isinstance(node, And):
        return [word for inner in node.nodes for word in words_in(inner)]
    assert isinstance(node, Words), node
    assert node.field is None
    return list(node.words)


@pytest.mark.parametrize(
    "text",
    [
        "payment refused", "GET /api/x", "GET /api/v1/items/7 HTTP/1.1", "/var/log/nginx/access.log", "/var/log and /tmp",
        "user@example.com", "key=value", 'key="some value" rest', "a-b", "10.0.0.1", "10.0.0.1:8080", "[error]", "[x] [y z]",
        "http://x/y", "see https://x.y/z&a=b#c now", "12:30:05", "at 12:30", "2026-11-25T10:00:00Z", "std::vector", "fe80::1",
        "Error: disk full", "ERROR : x", "C:\\temp\\x.log", "a\\b", "main()", "f(x)", "call f(g(x)) twice", "a <b> c", "x > 5",
        "a -> b", "a => b", "a - b", "a + b", "-- x", "--dry-run", "a != b", "wow!", "{x:String}", "{words}",
        '{"level":"error"}', "'; DROP TABLE events; --", "it's", "'quoted' x", "`x`", "100%", "a%b_c", "#7", "$x", "a|b", "a&b",
        "a||b", "~/x", "a~b", "^x", "a^b", "and or not to", "a TO b", "TO", "what ?", "\u00a0a\u2028b", "a\x00b", "a\x1cb\x85",
        "日本語 ログ", "😀 x", '5" disk', "a\tb\nc", "x ()", "x ::", "\\ x", "x\\",
    ],
)  # fmt: skip
def test_what_is_no_syntax_is_looked_for_by_its_words(text: str) -> None:
    assert tuple(dict.fromkeys(words_in(parse(text, NOW)))) == words_of(text)


@pytest.mark.parametrize(
    "text", ["a AND b", "a && b", "+a +b", "(a) b", "(a b)", "((a) AND (b))", 'a "b"', "a AND = b", "a ()b"]
)
def test_what_stands_side_by_side_is_wanted_together(text: str) -> None:
    assert words_in(parse(text, NOW)) == ["a", "b"]


def word(text: str) -> Words:
    return Words(None, (text,))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a OR b", Or((word("a"), word("b")))),
        ("a || b", Or((word("a"), word("b")))),
        ("a b OR c", And((word("a"), Or((word("b"), word("c")))))),
        ("a OR b c", And((Or((word("a"), word("b"))), word("c")))),
        ("a OR b -c", And((Or((word("a"), word("b"))), Not(word("c"))))),
        ("a AND b OR c", Or((And((word("a"), word("b"))), word("c")))),
        ("a AND (b OR c)", And((word("a"), Or((word("b"), word("c")))))),
        ("NOT a b", And((Not(word("a")), word("b")))),
        ("-a !b NOT(c)", And((Not(word("a")), Not(word("b")), Not(word("c"))))),
        ("-(a OR b)", Not(Or((word("a"), word("b"))))),
        ("NOT f(x)", Not(Words(None, ("f", "x")))),
        ("NOT a@b", Not(Words(None, ("a", "b")))),
    ],
)
def test_operators_bind_as_they_are_said_to(text: str, tree: Node) -> None:
    assert parse(text, NOW) == tree


def attribute(name: str, value: str) -> Is:
    return Is(Field(Kind.ATTRIBUTE, name), (value,))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("k8s.pod.name:web-1", attribute("k8s.pod.name", "web-1")),
        ("user.id:42", attribute("user.id", "42")),
        (r"a\:b:c", attribute("a:b", "c")),
        (r"a\ b:c\ d", attribute("a b", "c d")),
        ("a-b:c", attribute("a-b", "c")),
        ("größe:x", attribute("größe", "x")),
        ("image:nginx:1.2", attribute("image", "nginx:1.2")),
        ("at:12:30", attribute("at", "12:30")),
        ('a:"b \\"c\\" *"', attribute("a", 'b "c" *')),
        (r"a:b\*", attribute("a", "b*")),
        ("a:-5", attribute("a", "-5")),
        ("a:/var/log/x", attribute("a", "/var/log/x")),
        ("a:OR", attribute("a", "OR")),
        ("a:f(x)", attribute("a", "f(x)")),
        ("attr.level:x", attribute("level", "x")),
        ("attributes.a.b:x", attribute("a.b", "x")),
        ('a:""', attribute("a", "")),
        ("level: ERROR", Is(Field(Kind.WORD, "severity", ("debug", "info", "warning", "error", "critical"), True), ("error",))),
        ("service:shop", Is(Field(Kind.WORD, "service"), ("shop",))),
        ("source.service:shop", Is(Field(Kind.WORD, "service"), ("shop",))),
        ("service:(a OR b)", Or((Is(Field(Kind.WORD, "service"), ("a",)), Is(Field(Kind.WORD, "service"), ("b",))))),
        ("message:x", Words(Field(Kind.TEXT, "message"), ("x",))),
    ],
)  # fmt: skip
def test_a_field_is_what_is_named(text: str, tree: Node) -> None:
    assert parse(text, NOW) == tree


@pytest.mark.parametrize(
    ("text", "severities"),
    [
        ("level:>=warning", ("warning", "error", "critical")),
        ("severity:<warn", ("debug", "info")),
        ("level:[info TO error}", ("info", "warning")),
        ("level:{info TO *]", ("warning", "error", "critical")),
        ("level:*r*", ("warning", "error", "critical")),
        ("level:fatal", ("critical",)),
    ],
)
def test_severities_have_a_rank(text: str, severities: tuple[str, ...]) -> None:
    node = parse(text, NOW)
    assert isinstance(node, Is)
    assert (node.field.name, node.values) == ("severity", severities)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026-11-25", (1_795_564_800_000_000, True), (1_795_564_800_000_000 + DAY - 1, True)),
        (">2026-11-25", (1_795_564_800_000_000 + DAY - 1, False), None),
        ("<2026-11-25", None, (1_795_564_800_000_000, False)),
        (">=2026-11-25T10:00", (1_795_600_800_000_000, True), None),
        ("<=2026-11-25T10:00:00+00:00", None, (1_795_600_800_999_999, True)),
        ("2026-11-25T10:00:00.5Z", (1_795_600_800_500_000, True), (1_795_600_800_500_000, True)),
        ("[now-1h TO now]", (NOW - HOUR, True), (NOW, True)),
        ('["2026-11-25 10:00" TO *}', (1_795_600_800_000_000, True), None),
        (">-15m", (NOW - HOUR // 4, False), None),
    ],
)
def test_moments_cover_what_they_say(text: str, low: tuple[int, bool] | None, high: tuple[int, bool] | None) -> None:
    expected = Between(Field(Kind.MOMENT, "timestamp"), Bound(*low) if low else None, Bound(*high) if high else None)
    assert parse(f"timestamp:{text}", NOW) == expected


@pytest.mark.parametrize(
    ("q", "column", "said", "mend"),
    [
        ("a (b", 3, "the parenthesis is never closed", "double quotes"),
        ("a) b", 2, "the parenthesis closes nothing", "double quotes"),
        ('a "b', 3, "the quote is never closed", "close it"),
        ("a AND", 6, "ends where a term should follow", '"AND" is a word'),
        ("OR a", 1, "'OR' is not expected", '"AND" in quotes is a word'),
        ("a AND OR b", 7, "'OR' is not expected", "operators stand between terms"),
        ("level:loud", 7, "'loud' is no severity", "one of debug, info, warning, error, critical"),
        ("a status:x", 10, "'x' is no number", "like 500"),
        ("status:5*", 8, "takes no wildcards", "[1 TO 5]"),
        ("offset:/5/", 8, "takes no regular expression", "[1 TO 5]"),
        ("timestamp:yesterday", 11, "'yesterday' is no time", "ISO 8601"),
        ("x timestamp:[now TO soon]", 21, "'soon' is no time", "now"),
        ("level:", 1, "the field level has no value", "level:*"),
        ("level:>", 7, "nothing is compared with", "like level:>5"),
        ("x:[1", 3, "this is no range", "x:[1 TO 5]"),
        ("a [1 TO 5]", 3, "a range needs a field", "status_code:[400 TO 499]"),
        ("message:>5", 9, "message has words, and no order", "status_code:>=500"),
        ("service:(a b:c)", 12, "a field within the field service", "close the parenthesis"),
        ('service:""', 9, "no event has an empty service", "NOT service:*"),
        ("a NOT =", 7, "nothing to look for", "/=>/"),
        ("message:==", 1, "nothing to look for in message", "message:*"),
        ("_exists_:/x/", 10, "takes the name of a field", "_exists_:trace_id"),
        ("a roam~2", 3, "~ (relevance) means nothing", "leave it out"),
        ('"a b"~2', 1, "~ (relevance) means nothing", "leave it out"),
        ("a^2", 1, "^ (relevance) means nothing", "leave it out"),
        ("+a OR b", 1, "+ beside OR", "leave the + out"),
        ("x /a(?=b)/", 5, "looks ahead or behind", "RE2"),
        (r"/(a)\1/", 5, "refers back to a group", "RE2"),
        ("/a(b/", 3, "never closed", "RE2"),
        ("/a)b/", 3, "closes nothing", "RE2"),
        ("(" * 30 + "a" + ")" * 30, 21, "more than 20 groups", "ask for less"),
        ("NOT " * 30 + "a", 81, "more than 20 groups", "ask for less"),
        (" ".join(f"a:{n}" for n in range(65)), 313, "more than 64 terms", "ask for less"),
        (" ".join(f"a{n}*" for n in range(9)), 33, "more than 8 regular expressions and wildcards", "ask for less"),
    ],
)
def test_a_fault_has_its_column_a_caret_under_it_and_a_mend(q: str, column: int, said: str, mend: str) -> None:
    fault = fault_of(q)
    what, shown, caret = fault.told(q).split("\n")
    assert said in what
    assert what.endswith(f" at column {column}")
    assert mend in fault.mend
    assert caret.strip() == "^"
    under = shown[len(caret) - 1 : len(caret)]
    assert under == (q[column - 1 : column])


def test_the_caret_stands_right_under_wide_and_odd_characters_and_in_long_queries() -> None:
    assert fault_of("日本 (a").told("日本 (a").split("\n")[1:] == ["日本 (a", "     ^"]
    assert fault_of("a\x00\t(").told("a\x00\t(").split("\n")[1:] == ["a\ufffd (", "   ^"]
    long = f"{'x' * 200} (a {'y' * 200}"
    shown, caret = fault_of(long).told(long).split("\n")[1:]
    assert shown[len(caret) - 1] == "("
    assert (shown[0], shown[-1]) == ("…", "…")
    assert len(shown) < 100


ALPHABET = "aB5é日😀\u0301 \t\n\x00\x1f\u00a0\u2028'\"`\\/()[]{}<>=~^*?+-!&|:.,;%_#@$"
PIECES = st.sampled_from(
    ["AND", "OR", "NOT", "TO", "&&", "||", "level:", "status:", "x.y:", "timestamp:", "tags:", "host:", ">=", "[1 TO 5]",
     "{a TO *}", '"a b"', "/a+/", "*", "a*b?", "_exists_:", "evil' OR 1=1 --", "a^1.2.3", '"a"~.', "(a)^.5", "/a/^",
     "{q_word:String}", "now-1h", "5xx", "(", ")",
     "-", "'", "\\"]
)  # fmt: skip
QUERIES = st.lists(PIECES | st.text(ALPHABET, max_size=6), max_size=14).map(" ".join) | st.text(ALPHABET, max_size=40)

PLACEHOLDER = re.compile(r"\{((?:word|any_words|q_(?:pattern|words|name|values|items|bound|regex\d+))(?:_\d+)?):(String|Int64|"
                         r"Float64|Array\(String\))\}")  # fmt: skip
SAID_BY_US = re.compile(
    r"(?:lower|upper|lowerUTF8|replaceAll|toValidUTF8|match|hasAllTokens|hasAnyTokens|hasAny|has|mapContains|arrayExists|ifNull|"
    r"toFloat64OrNull|notEmpty|fromUnixTimestamp64Micro|reinterpretAsUInt64|reverse|unhex|substring|AND|OR|NOT|IN|entry|message|"
    r"title|tags|items|attributes|zero_metrics|external_id|event_type|severity|service|source|agent|path|timestamp|status_code|"
    r"'UTC'|'ς'|'σ'|''|'status_code'|'\^\[0-9a-f\]\{16\}-\[0-9a-f\]\{12\}-\[0-9a-f\]\{8\}\$'|18|12|->|!=|[<>]=?|[][(), 01])*"
)


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(QUERIES)
def test_no_text_of_a_caller_becomes_sql_and_every_fault_is_told(q: str) -> None:
    if len(q) > MAX_CHARS:
        return
    sql, params, fault = "", {}, None
    try:
        sql, params = sql_of(q)
    except QueryFault as told:
        fault = told
    if fault is not None:
        assert fault.what
        assert fault.mend
        assert 0 <= fault.at <= len(q)
        return
    bound = {name for name, _ in PLACEHOLDER.findall(sql)}
    assert bound == set(params)
    assert SAID_BY_US.fullmatch(PLACEHOLDER.sub("0", sql)), sql


@pytest.mark.parametrize("q", ["(" * 999, "NOT " * 249 + "a", "a OR b AND " * 90 + "a", '"' * 999, "/" * 999, "x:[" * 333,
                               "(a" * 20 + ")" * 20, "\\" * 999, "f:" * 499, "f(" * 499,
                               "-" * 999 + "a", "+-!" * 333, "a~" * 400])  # fmt: skip
def test_odd_queries_as_long_as_may_be_end_in_a_tree_or_a_fault(q: str) -> None:
    with contextlib.suppress(QueryFault):
        parse(q, NOW)


def test_text_and_wildcards_are_told_apart_by_the_backslash() -> None:
    assert sql_of(r"service:a\*b*")[1]["q_pattern"] == r"(?s)^a\*b.*$"
    assert sql_of("service:a?b")[1]["q_pattern"] == "(?s)^a.b$"
    assert sql_of('service:"a*b"')[1]["q_values"] == ["a*b"]


def test_whole_words_of_phrases_and_patterns_are_left_to_the_index() -> None:
    assert sql_of("/api/*/items/?")[1]["q_words"] == ["api", "items"]
    assert sql_of('"Connection reset"')[1]["q_words"] == ["connection", "reset"]
    assert "q_words" not in sql_of("conn*")[1]
    assert sql_of("a OR b OR c")[1] == {"any_words": ["a", "b", "c"]}
    assert sql_of("a.b:c")[1]["q_items"] == ["a.b=c"]


@pytest.mark.parametrize(
    "pattern", [r"[()]", r"\(", r"[])]", r"\Qa)\E", r"(?i)a(b|c)*", "(?P<x>a)", r"[^])(]", r"\\[(]", "a+?"]
)
def test_parentheses_that_are_text_in_a_regular_expression_are_no_fault(pattern: str) -> None:
    patterns.check_regex(pattern, 0)


def test_a_pattern_that_the_engine_refused_is_told_in_our_words_at_its_place() -> None:
    params = sql_of("x /a{2000}/ /b/")[1]
    assert list(refused.patterns_in(params)) == [(2, "a{2000}"), (12, "b")]
    error = refused.refusal("x /a{2000}/", 2, "cannot compile re2: a{2000}, error: invalid repetition size: {2000}. secret")
    assert "q: the regular expression repeats too often" in error.message
    assert "at column 3" in error.message
    assert error.message.endswith("\nx /a{2000}/\n  ^")
    assert "secret" not in error.message
