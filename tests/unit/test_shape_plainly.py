"""Whole blocks at once give what every line on its own would: also for what is nearly an address, a card or a trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import wire
from agent.codec import compress
from agent.config import Multiline, Redact, Source
from agent.text import containers, multiline, packing, redact, shape
from agent.text.blocks import MAX_LINE_BYTES
from collector.ingest import blocks
from collector.writing import parcels
from tests.support import plainly
from tests.support.records import FILE_ID, NOW_NS, tenant

CASES: dict[str, dict[str, Any]] = {
    "ip": {"redact": Redact(("ip",))},
    "ip hashed": {"redact": Redact(("ip",), {}, "hash", "a key")},
    "card": {"redact": Redact(("card",))},
    "email": {"redact": Redact(("email",))},
    "all": {"redact": Redact(("email", "card", "bearer", "ip"), {"user": r"user=(\S+)", "cross": r"x=\s*(\w+)"})},
    "all hashed": {"redact": Redact(("email", "card", "bearer", "ip"), {"user": r"user=(\S+)"}, "hash", "a key")},
    "looking around": {"redact": Redact(("ip",), {"b": r"(?<=a)b", "c": r"c++"})},
    "python": {"multiline": Multiline("python")},
    "go": {"multiline": Multiline("go", max_lines=3)},
    "java redacted": {"multiline": Multiline("java"), "redact": Redact(("ip", "email"), {"cross": r"x=\s*(\w+)"})},
    "start": {"multiline": Multiline(start=r"^\d{1,3}"), "redact": Redact(("card",))},
    "continuation": {"multiline": Multiline(continuation=r"^[ab]", max_lines=2), "exclude_lines": ("zz",)},
    "filters": {"include_lines": ("a", r"\d$"), "exclude_lines": ("zz",), "redact": Redact(("ip",))},
    "filters of events": {"multiline": Multiline("java"), "exclude_lines": (r"^\dx", "c$", r"(?:x|y)@\w", r"z\s", " at a")},
    "sample": {"sample": {"info": 2, "error": 3}},
    "sample of events": {"multiline": Multiline("java"), "sample": {"info": 2, "error": 3}},
    "sample some": {"sample": {"debug": 2, "critical": 3}},
    "cri": {"container": "cri", "redact": Redact(("ip",))},
    "cri java": {"container": "cri", "multiline": Multiline("java")},
    "docker": {"container": "docker", "redact": Redact(("email",))},
    "docker python": {"container": "docker", "multiline": Multiline("python")},
    "utf-16": {"encoding": "utf-16", "redact": Redact(("ip",))},
    "utf-16-be": {"encoding": "utf-16-be", "multiline": Multiline(start=r"^\d")},
    "latin-1": {"encoding": "latin-1", "redact": Redact(("email", "ip"))},
    "long": {"max_line_bytes": 1024, "redact": Redact(("ip",))},
}
SOURCES = {name: Source("app", ("/a",), **case) for name, case in CASES.items()}

PIECES = """
1.2.3.4|1.2.3|999.1.1.1|1.2.3.4.5|1.1.1.256|256.0.0.1|0.0.0.0|001.02.003.4|1.2.3.4.|.1.2.3|1..2.3.4|1234.1.1.1|255.255.255.255
10.0.0.1|v1.2.3.4|a@b|a@b.c|a@b.c@d.e|@b.c|x.y+z@h-.c|a@-b.c|a@b.c.|4111 1111 1111 1111|4111-1111-1111-1112|4111111111111111
41111111111111111111|0000 0000 0000 0000|1234 4111 1111 1111 1111|4-111|378282246310005|Bearer abcdefgh|bearer short
earer abcdefghi|Bearer |user=|x=| |  |a|b|c|ab|cc|zz|é|ü|/|-|:|,|t stdout F |t stderr F |t stdout P |t stderr P
Traceback (most recent call last):$|  File "a"$|    x$|pkg.Odd: no$|ValueError$|goroutine 1 [$|main.f()$|a.(*T).f(1)$| at a.B$
ERROR|debug|Trace|errors|error_code|panic!|info|warn|Fatal:|x$
Caused by: z$|java.io.IOException: y$|t stdout F$|{"log":"a\\n","stream":"stdout","time":"t"}$|{"log":"1.2.3.4"}$|$|$$
{"log":"a\\r\\n","stream":"stderr"}$|{"log":"x\\ny\\n"}$|{"log":"  b\\n","time":"t"}$
"""
"""Between ``|``; ``$`` stands for a newline."""
SAMPLES = [piece.replace("$", "\n") for line in PIECES.strip().split("\n") for piece in line.split("|")]

near_misses = st.lists(
    st.one_of(
        st.sampled_from([*SAMPLES, "\r\n", "\r", "\t", "\x00", "\xff", "l" * 70 + "@b.c", "y" * 600]),
        st.text("0123456789.@- ", max_size=12),
    ),
    max_size=25,
).map("".join)


def events_of(source: Source, content: bytes) -> list[plainly.Event]:
    plan = shape.plan_of(source)
    assert plan is not None
    found, offset = [], 0
    while offset < len(content):
        shaped = shape.apply(plan, content[offset:], offset, final=True, front=content[:2])
        assert shaped is not None
        header = shaped.header(wire.Header(wire.DATA, "r", base_offset=offset))
        found += [plainly.Event(*event) for event in packing.events_of(header, shaped.payload)]
        offset += shaped.length
    return found


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=80, deadline=None)
@given(text=near_misses, byte=st.sampled_from([b"", b"\xff", b"\xc3"]))
def test_whole_blocks_give_what_line_by_line_does(name: str, text: str, byte: bytes) -> None:
    source = SOURCES[name]
    encoding = {"utf-16": "utf-16-le"}.get(source.encoding, source.encoding)
    content = text.encode(encoding, "replace") + byte
    assert events_of(source, content) == plainly.events(source, content)


def taken(shaped: packing.Shaped, offset: int) -> list[plainly.Event]:
    """What a collector makes of it, after a check that it names the events as the agent does."""
    plain = wire.Header(
        wire.DATA, "r", source="app", file_id=FILE_ID, origin="o", base_offset=offset, observed_ns=NOW_NS, source_to=1
    )
    header = shaped.header(plain)
    found = [plainly.Event(*event) for event in packing.events_of(header, shaped.payload)]
    record = wire.encode_record(header, compress(shaped.payload))
    (parcel,) = blocks.open_run(record, tenant=tenant("t1"), now_ns=NOW_NS)
    assert parcels.texts_of(parcel) == [event.text for event in found]
    assert parcels.ids_of(parcel) == [wire.event_id(FILE_ID, *event) for event in found]
    return found


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=30, deadline=None)
@given(text=near_misses)
def test_a_collector_takes_what_a_transform_makes(name: str, text: str) -> None:
    source = SOURCES[name]
    plan = shape.plan_of(source)
    assert plan is not None
    content = text.encode({"utf-16": "utf-16-le"}.get(source.encoding, source.encoding), "replace")
    shaped = shape.apply(plan, content, 5000, final=True, front=content[:2])
    if shaped is not None and shaped.events:
        taken(shaped, 5000)


@pytest.mark.parametrize("name", CASES)
def test_a_collector_takes_the_event_of_a_line_longer_than_a_block(name: str) -> None:
    plan = shape.plan_of(SOURCES[name])
    assert plan is not None
    line = ("1.2.3.4 a b@c.d " * 140_000).encode("utf-16-le" if SOURCES[name].encoding.startswith("utf-16") else "utf-8")
    shaped = shape.over_long(plan, line, 5000, 5 << 30, (5 << 30) + 5001, partial=False)
    if not shaped.events:
        assert SOURCES[name].sample, "left out on purpose, which is no loss"
        assert not shaped.cut_bytes
        return
    (event,) = taken(shaped, 5000)
    assert event.offset == 5000
    assert 0 < len(event.text) <= plan.max_bytes
    assert (5 << 30) - shaped.cut_bytes <= MAX_LINE_BYTES + shape.MARGIN_BYTES
    assert shaped.cut_bytes < 5 << 30 or SOURCES[name].redact.action == "hash", "which is longer than what it stands for"


TRACES = "\n".join(f"ERROR {n}\n at a.B" for n in range(8))


@pytest.mark.parametrize("name", ["card", "filters", "filters of events", "sample", "sample of events", "sample some"])
@pytest.mark.parametrize("some", ["4111 1111 1111 1111", "zz", "1.2.3.4", "x@y", "ERROR", "errors", "debug", TRACES, "ab"])
def test_what_is_rare_in_a_block_is_found(name: str, some: str) -> None:
    lines = [f"{' ' * 13}{n % 7}a{n}" for n in range(600)]
    for place in (0, 300, 599):
        content = "\n".join([*lines[:place], some, *lines[place:]]).encode()
        assert events_of(SOURCES[name], content) == plainly.events(SOURCES[name], content)


@pytest.mark.parametrize("name", ["ip", "ip hashed"])
@pytest.mark.parametrize("some", ["", "1.2.3.4", "1.2.3.4 256.1.1.1", "1.1.1.256", "a.1.2.3.4", "a" * 100])
def test_addresses_are_found_wherever_a_piece_of_a_block_ends(name: str, some: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "PIECE_BYTES", 64)
    for before in range(0, 70, 3):
        content = (f"{'x' * before}\n" + f"7.8.9.y 10.20.30.40 {some}\n" * 5).encode()[:-1]
        assert events_of(SOURCES[name], content) == plainly.events(SOURCES[name], content)


@pytest.mark.parametrize(
    "pattern",
    ["(?-m:^)1", r"\A1", r"1\Z", "(?<!x)1", "(?=1)", "[^x]1", r"\s1", "(?s)a.1", "(?:^1|2)++", "(?:a|1)*+1", "(?i-m:^1)"],
)
def test_a_pattern_that_sees_beyond_a_line_finds_what_it_finds_in_the_line_alone(pattern: str) -> None:
    for settings_of in ({"exclude_lines": (pattern,)}, {"redact": Redact((), {"x": pattern})}):
        source = Source("app", ("/a",), **settings_of)
        content = b"1\n1 a\nx1\n 1\nb\n1\n21\n"
        assert events_of(source, content) == plainly.events(source, content)


ADVERSARIAL = {
    "digits": b"1" * 65536,
    "zeros": b"0" * 65536,
    "dots": b"." * 65536,
    "at signs": b"@" * 65536,
    "numbers": b"1." * 32768,
    "addresses that go on": b"1.2.3.4." * 8192,
    "locals": b"a@" * 32768,
    "a long local": b"a" * 65536 + b"@",
    "a domain of hyphens": b"@a" + b"-" * 65534,
    "many domains of hyphens": b"@a---" * 13107,
    "a domain of dots": b"@" + b"a." * 32767,
    "a domain of labels": b"@a" + b".a-" * 21845,
    "digits and hyphens": b"1-" * 32768,
    "cards that go on": b"1111-" * 13107,
    "bearers": b"earer " * 10922,
    "a token": b"Bearer " + b"=" * 65536,
    "spaces": b" " * 65536,
    "names of exceptions": b"a." * 32768,
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_a_line_made_to_be_slow_is_not(name: str) -> None:
    """Four times 64 KiB: what looks at each byte once takes milliseconds, what does so for each other byte takes minutes."""
    line = ADVERSARIAL[name] * 4
    for preset in redact.PRESETS:
        redact.preset(preset, b"[x]").block(line)
    for rule in multiline.PRESETS.values():
        multiline.events_in(rule, line + b"\n" + line + b"\n  " + line)
        multiline.firsts(rule, [line, b"  File ", line])
    for form in containers.FORMATS.values():
        form.columns(line + b"\n" + line)
