"""What transforms make of a file does not depend on how its bytes were read, and events are named by where they begin."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import wire
from agent.config import Multiline, Redact, Source
from agent.files.identity import BODY_AT
from agent.text import filters, multiline, packing, shape
from agent.text.blocks import BLOCK_BYTES, MAX_LINE_BYTES

KEY = "a key of some length"
TRACE = b'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\npkg.Odd: no\n'


def plan(**settings: Any) -> shape.Plan:
    found = shape.plan_of(Source("app", ("/a",), **settings))
    assert found is not None
    return found


PLANS = {
    "start": plan(multiline=Multiline(start=r"^\d")),
    "continuation": plan(multiline=Multiline(continuation=r"^[ \t]", max_lines=3)),
    "python": plan(multiline=Multiline("python")),
    "cri": plan(container="cri"),
    "cri and java": plan(container="cri", multiline=Multiline("java"), max_line_bytes=1024),
    "docker": plan(container="docker", redact=Redact(("ip",))),
    "filters": plan(include_lines=("a", "1"), exclude_lines=("b",), sample={"info": 2}),
    "redact": plan(redact=Redact(("email", "card", "bearer", "ip"), {"n": r"(?<=1)x", "s": r"1\s"}, "hash", KEY)),
    "utf-16-le": plan(encoding="utf-16-le"),
    "utf-16-be": plan(encoding="utf-16-be", multiline=Multiline(start="^1")),
    "utf-16": plan(encoding="utf-16"),
    "latin-1": plan(encoding="latin-1"),
    "shift_jis": plan(encoding="shift_jis", exclude_lines=("z",)),
}


def events_of(plan: shape.Plan, content: bytes, sizes: list[int], *, start: int = 0) -> list[tuple[int, bytes, str]]:
    """Events as a file grows to each of these sizes, with what names them beside their bytes and their mark."""
    found, offset = [], start
    for size in [*sizes, len(content)]:
        while True:
            end = min(size, offset + BLOCK_BYTES)
            shaped = shape.apply(plan, content[offset:end], offset, front=content[:2])
            if shaped is None and offset < end == len(content):
                shaped = shape.apply(plan, content[offset:end], offset, final=True, front=content[:2])
            if shaped is None:
                break
            head = shaped.header(wire.Header(wire.DATA, "r", base_offset=offset))
            events = list(packing.events_of(head, shaped.payload))
            assert len(events) == shaped.events == head.events
            found += [(at, text, "head" if offset < BODY_AT else "body") for at, text in events]
            offset += shaped.length
    return found


def texts_of(plan: shape.Plan, content: bytes) -> list[bytes]:
    return [text for _, text, _ in events_of(plan, content, [])]


pieces = st.lists(
    st.sampled_from(
        [
            b"1 a line", b"  goes on", b"\tat x.Y", b"a@b.example 10.1.2.3", b"4111 1111 1111 1111", b"1x b", b"1", b"", b"\r",
            b"Traceback (most recent call last):", b"    code", b"ValueError: x", b"t stdout F a", b"t stderr P b",
            b"t stdout P c",
            b"t stderr F \xff", b'{"log":"a\\n","stream":"stdout","time":"t"}', b'{"log":"b","stream":"stderr"}', b"x" * 1100,
            b"\xe4\x8a\n\x00", b"\x0a\x00 wide", b"\x00\n\x00", b"Authorization: Bearer abcdefgh12345", b"Caused by: y",
        ]
    ),
    max_size=14,
)  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), lines=pieces, start=st.sampled_from([0, BODY_AT - 60, BODY_AT]))
def test_any_split_gives_the_same_shaped_events(name: str, data: st.DataObject, lines: list[bytes], start: int) -> None:
    whole = b"#" * start + b"\n".join(lines) + b"\n"
    sizes = sorted(data.draw(st.lists(st.integers(start, len(whole)), max_size=12)))
    assert events_of(PLANS[name], whole, sizes, start=start) == events_of(PLANS[name], whole, [], start=start)


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=300), final=st.booleans())
def test_any_bytes_are_taken_and_nothing_is_raised(name: str, content: bytes, final: bool) -> None:
    shaped = shape.apply(PLANS[name], content, 0, final=final, flush=True, front=content[:2])
    if shaped is not None:
        assert 0 < shaped.length <= len(content)
        if final and len(content) < BODY_AT:
            assert shaped.length == len(content)


def test_a_source_without_transforms_has_no_plan() -> None:
    assert shape.plan_of(Source("app", ("/a",))) is None


def test_a_multi_line_event_begins_where_its_first_line_does_and_the_last_one_waits() -> None:
    content = b"1 one\n  more\r\n1 two\n"
    shaped = shape.apply(PLANS["start"], content, 5000)
    assert shaped is not None
    assert (shaped.length, shaped.events, shaped.reproducible) == (14, 1, True)
    head = shaped.header(wire.Header(wire.DATA, "r", base_offset=5000))
    assert list(packing.events_of(head, shaped.payload)) == [(5000, b"1 one\n  more")]
    assert shape.apply(PLANS["start"], content[14:], 5014) is None


def test_what_a_timeout_ended_is_not_reproducible() -> None:
    shaped = shape.apply(PLANS["start"], b"1 one\n  more\n", 5000, flush=True)
    assert shaped is not None
    assert not shaped.reproducible
    assert shape.apply(PLANS["start"], b"1 one\n", 5000, final=True).reproducible  # type: ignore[union-attr]


def test_lines_that_nothing_was_done_to_go_as_a_record_of_version_1() -> None:
    shaped = shape.apply(PLANS["redact"], b"nothing here\nnor here\n", 5000)
    assert shaped is not None
    assert shaped.sections is None
    assert shaped.payload == b"nothing here\nnor here\n"


def test_no_record_has_events_of_both_sides_of_the_head() -> None:
    content = b"1 a line\n  of two\n" * 400
    kinds = events_of(PLANS["start"], content, [])
    assert all((at < BODY_AT) == (kind == "head") for at, _, kind in kinds)
    assert len(kinds) == 400


def test_events_that_are_left_out_are_covered() -> None:
    shaped = shape.apply(PLANS["filters"], b"b\nb\n", 5000)
    assert shaped is not None
    assert (shaped.length, shaped.events, shaped.payload) == (4, 0, b"")


def test_an_over_long_line_is_cut_between_characters_and_says_its_length() -> None:
    cutting = plan(max_line_bytes=1024)
    content = b"short\n" + b"x" + "ü".encode() * 1000 + b"\nshort again\n"
    shaped = shape.apply(cutting, content, 5000)
    assert shaped is not None
    assert shaped.sections is not None
    head = shaped.header(wire.Header(wire.DATA, "r", base_offset=5000))
    assert isinstance(head, wire.ShapedHeader)
    assert {"truncated": "true", "full_length": "2001"} in head.marks
    texts = [text for _, text in packing.events_of(head, shaped.payload)]
    assert [len(text) for text in texts] == [5, 1023, 11]
    texts[1].decode()


def test_the_longest_block_of_empty_lines_can_be_written() -> None:
    """Their offsets would outgrow any header."""
    shaped = shape.apply(plan(exclude_lines=("never",), container="docker"), b"\n" * MAX_LINE_BYTES, 5000)
    assert shaped is not None
    assert shaped.events == wire.MAX_SHAPED_EVENTS
    assert len(shaped.payload) <= wire.MAX_RAW_BYTES


def test_parts_of_two_streams_that_lie_between_one_another_are_put_together() -> None:
    content = b"t1 stdout P a\nt2 stderr P x\nt3 stdout F b\nt4 stderr F y\nt5 stdout F end\nt6 stdout P open\n"
    assert events_of(PLANS["cri"], content, [])[:3] == [(0, b"ab", "head"), (14, b"xy", "head"), (56, b"end", "head")]
    shaped = shape.apply(PLANS["cri"], content, 5000)
    assert shaped is not None
    assert shaped.length == content.index(b"t6")
    assert shaped.payload.endswith(b"t1\nt2\nt5\n")


def test_a_docker_line_may_hold_newlines_and_a_line_that_is_no_json_is_kept() -> None:
    said = [json.dumps({"log": text, "stream": "stdout", "time": "t"}).encode() for text in ("a\nb\n", "half", " line\n")]
    content = b"\n".join([*said, b"{broken", b""])
    assert texts_of(PLANS["docker"], content) == [b"a\nb", b"half line", b"{broken"]


def test_docker_lines_that_are_all_well_formed_lose_their_line_ends() -> None:
    said = [json.dumps({"log": text, "stream": "stdout", "time": "t"}).encode() for text in ("a\r\n", "b\n", "\n")]
    assert texts_of(PLANS["docker"], b"\n".join([*said, b""])) == [b"a", b"b", b""]


@pytest.mark.parametrize(
    ("encoding", "raw", "expected"),
    [
        ("utf-16", "\ufeffone\r\nzwölf 🐢\nਊ\n".encode("utf-16-le"), ["one", "zwölf 🐢", "ਊ"]),
        ("utf-16", "\ufeffone\nÿ\n".encode("utf-16-be"), ["one", "ÿ"]),
        ("utf-16-le", "no bom\n\nend\n".encode("utf-16-le"), ["no bom", "", "end"]),
        ("latin-1", b"caf\xe9\nplain\n", ["café", "plain"]),
        ("shift_jis", "日本語\nok\n".encode("shift_jis"), ["日本語", "ok"]),
        ("windows-1252", b"\x80 5\n\x81\n", ["€ 5", "\ufffd"]),
    ],
)
def test_text_of_other_encodings_is_sent_as_utf_8(encoding: str, raw: bytes, expected: list[str]) -> None:
    found = events_of(plan(encoding=encoding), raw, [])
    assert [text.decode() for _, text, _ in found] == expected
    assert found[0][0] == 0
    assert sorted(at for at, _, _ in found) == [at for at, _, _ in found]


PRESETS = {
    "python": (b"2026-01-01 ERROR failed\n" + TRACE + b"2026-01-01 INFO next\n", [0, 5]),
    "java": (
        b"2026 ERROR x\njava.lang.IllegalStateException: bad\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: y\n"
        b"\t... 3 more\n2026 INFO next\n",
        [0, 5],
    ),
    "go": (
        b"panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:5 +0x1d\nexit status 2\n2026 INFO next\n",
        [0, 6],
    ),
    "dotnet": (
        b"fail: App[0]\n      Went wrong\n      System.Exception: bad\n         at A.B() in C.cs:line 3\ninfo: App[0]\n  ok\n",
        [0, 4],
    ),
    "ruby": (b"a.rb:1:in `f': bad (RuntimeError)\n\tfrom a.rb:2:in `g'\n\tfrom a.rb:3:in `<main>'\nI, next\n", [0, 3]),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_trace_is_one_event(name: str) -> None:
    content, firsts = PRESETS[name]
    lines = content.splitlines(keepends=True)
    ends = [*firsts[1:], len(lines)]
    expected = [b"".join(lines[a:b]).removesuffix(b"\n") for a, b in zip(firsts, ends, strict=True)]
    assert texts_of(plan(multiline=Multiline(name)), content) == expected  # type: ignore[arg-type]


REDACTED = [
    ("email", "mail jo.e+x@shop.example.com, now", "mail [email], now"),
    ("email", "user@host and @home", "user@host and @home"),
    ("card", "pay 4111 1111 1111 1111 ok 4111-1111-1111-1112", "pay [card] ok 4111-1111-1111-1112"),
    ("card", "5500005555555559 378282246310005", "[card] [card]"),
    ("card", "id 12345678901234567890123", "id 12345678901234567890123"),
    ("card", "6304000000000000000 16304000000000000000", "[card] 16304000000000000000"),
    ("bearer", "Bearer abcdefghBearer abcdefgh", "Bearer [bearer] [bearer]"),
    ("bearer", "Authorization: Bearer eyJhbGciOi.JIUzI1-NiJ9_x next", "Authorization: Bearer [bearer] next"),
    ("ip", "from 10.0.0.255, v1.2.3.4.5 999.1.1.1 1.2.3", "from [ip], v1.2.3.4.5 999.1.1.1 1.2.3"),
]


@pytest.mark.parametrize(("preset", "line", "expected"), REDACTED)
def test_presets_redact_what_they_name_and_nothing_else(preset: str, line: str, expected: str) -> None:
    for around in ("", "x\n"):
        content = (around + line + "\n").encode()
        assert texts_of(plan(redact=Redact((preset,))), content)[-1].decode() == expected  # type: ignore[arg-type]


def test_a_keyed_hash_is_equal_for_equal_values_and_needs_the_key() -> None:
    hashed = plan(redact=Redact(("ip",), {}, "hash", KEY))
    one, two, other = texts_of(hashed, b"10.0.0.1\n10.0.0.1 again\n10.0.0.2\n")
    assert one == two.removesuffix(b" again") != other
    assert one != texts_of(plan(redact=Redact(("ip",), {}, "hash", KEY + "x")), b"10.0.0.1\n")[0]


def test_a_pattern_with_a_group_replaces_the_group_only() -> None:
    assert texts_of(plan(redact=Redact((), {"pw": r"password=(\S+)"})), b"password=abc x\n") == [b"password=[pw] x"]


def test_a_sample_is_decided_by_the_bytes_and_keeps_about_one_in_so_many() -> None:
    sampling = plan(sample={"debug": 10})
    content = b"".join(b"DEBUG step %d\nERROR step %d\n" % (n, n) for n in range(2000))
    kept = texts_of(sampling, content)
    assert kept == texts_of(sampling, content)
    assert sum(text.startswith(b"ERROR") for text in kept) == 2000
    assert 120 < sum(text.startswith(b"DEBUG") for text in kept) < 280


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        (b"error_code 5", "info"), (b"errors: 5", "info"), (b"x ERROR: y", "error"), (b"[Warn] error", "warning"),
        (b"", "info"), (b"panic!", "critical"), (b"eRror debug", "debug"),
        (b"x" * 300 + b" error", "info"), (b"\xc3error", "error"),
    ],
)  # fmt: skip
def test_the_first_word_that_names_a_severity_counts(event: bytes, severity: str) -> None:
    assert filters.severity_of(event) == severity


RULES = [*multiline.PRESETS, r"^\d{4}-\d\d", r"^[a-z ]+x?"]


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=100, deadline=None)
@given(lines=pieces.map(lambda found: [line for line in found if b"\n" not in line] + [b"2026-01 x", b"  y", b"Aa.BException"]))
def test_a_rule_finds_the_same_in_a_block_as_line_by_line(name: str, lines: list[bytes]) -> None:
    settings = Multiline(name) if name in multiline.PRESETS else Multiline(start=name)  # type: ignore[arg-type]
    rule = plan(multiline=settings).rule
    assert rule is not None
    assert rule.block is not None
    places = [*multiline.firsts(rule, lines), len(lines)]
    expected = [b"\n".join(lines[a:b]) for a, b in pairwise(places)]
    assert (multiline.events_in(rule, b"\n".join(lines)) or lines) == expected


@pytest.mark.parametrize("pattern", ["x", r"^\s", r"^[^a]", r"^a$", "^(?=a)", r"^\W"])
def test_a_pattern_that_could_see_beyond_its_line_is_tried_line_by_line(pattern: str) -> None:
    assert multiline.in_block(pattern, is_start=True) is None


def test_a_pattern_that_matches_beyond_a_line_s_end_is_tried_on_each_event() -> None:
    """Whether two lines are read at once must not be seen in them."""
    crossing = plan(redact=Redact((), {"pw": r"password=\s*(\S+)"}))
    assert texts_of(crossing, b"password=\nnext password= x\n") == [b"password=", b"next password= [pw]"]


def test_only_the_first_mark_of_a_wide_file_is_taken_away() -> None:
    shaped = shape.apply(plan(encoding="utf-16-le"), "\ufeffx\n".encode("utf-16-le"), 4098)
    assert shaped is not None
    assert shaped.payload.startswith("\ufeffx\n".encode())
