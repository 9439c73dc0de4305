"""Lines of every format, through the real engine, into columns. No line can fail a commit."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import wire
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home, rows_of, submit
from tests.support.records import DAY_NS, FILE_ID, NOW_NS, SECOND_NS, Event, expected_ids, record, shaped_record, tenant

pytestmark = pytest.mark.engine

NOW = datetime.fromtimestamp(NOW_NS // SECOND_NS, UTC).replace(tzinfo=None)
DAY = NOW.date().isoformat()
TODAY = datetime.combine(NOW.date(), clock(10))
AHEAD = f"{NOW.date() + timedelta(days=2)}T00:00:00Z"
S = NOW_NS // SECOND_NS
COLUMNS = (
    "external_id, timestamp, observed_timestamp, severity, service, source, path, agent, message, attributes, "
    "parse_error, event_type, retention_days"
)


def written(
    home: Home, owner: Tenant, raw: bytes, *, now_ns: int = NOW_NS, **changed: Any
) -> tuple[wire.RecordOutcome, list[dict[str, Any]]]:
    """The record's outcome, and its events by column, in order of the lines."""

    async def run() -> tuple[wire.RecordOutcome, list[dict[str, Any]]]:
        async with home.writer(now_ns=now_ns) as (writer, store):
            (outcome,) = await submit(writer, owner, record(raw, **changed))
            found = await rows_of(store, owner, COLUMNS.replace("message", "toValidUTF8(message)"))
            return outcome, [dict(zip(COLUMNS.split(", "), row, strict=True)) for row in found]

    return asyncio.run(run())


def test_a_raw_line_is_the_message_at_the_time_of_its_record(embedded: Home, owner: Tenant) -> None:
    raw = b'10.0.0.1 - - "GET /?q=%27 HTTP/1.1" 200\n\n\ttab \\n not an end\r\nlast'
    outcome, events = written(embedded, owner, raw, labels={"env": "test"})
    assert (outcome.outcome, outcome.accepted) == ("accepted", 4)
    assert [event["message"] for event in events] == [
        '10.0.0.1 - - "GET /?q=%27 HTTP/1.1" 200', "", "\ttab \\n not an end", "last",
    ]  # fmt: skip
    assert [event["external_id"] for event in events] == expected_ids(raw)
    first = events[0]
    del first["external_id"], first["message"]
    assert first == {
        "timestamp": NOW, "observed_timestamp": NOW, "severity": "info", "service": "shop", "source": "access",
        "path": "/var/log/shop.log", "agent": "agent-1", "attributes": {"env": "test"}, "parse_error": "",
        "event_type": "log", "retention_days": 30,
    }  # fmt: skip


def test_the_engine_gives_the_ids_of_the_wire_contract_for_any_byte(home: Home, owner: Tenant) -> None:
    lines = [bytes([b]) * n for b in range(256) if b not in (10,) for n in (1, 3)]
    raw = b"".join(line + b"\n" for line in lines)
    for fmt, base in (("raw", 4096), ("json", 0xFFFF_0000_0000)):
        outcome, events = written(home, owner, raw, format=fmt, base_offset=base)
        assert outcome.accepted == len(lines)
        assert {event["external_id"] for event in events} >= set(expected_ids(raw, base_offset=base))


# What one JSON line becomes. What a case does not name: message = the line, info, the record's time, no attributes.
JSON_LINES: list[tuple[str, dict[str, Any]]] = [
    (f'{{"msg":"hi","level":"ERROR","time":"{DAY}T10:00:00Z"}}', {"message": "hi", "severity": "error", "timestamp": TODAY}),
    # names, in the order in which they are tried
    ('{"msg":"b","message":"a"}', {"message": "a", "attributes": {"msg": "b"}}),
    ('{"event":"c"}', {"message": "c"}),
    (f'{{"ts":"{DAY}T10:00:00Z","msg":"x"}}', {"message": "x", "timestamp": TODAY}),
    ('{"msg":"","a":"b"}', {"message": "", "attributes": {"a": "b"}}),
    ('{"msg":null,"a":"b"}', {"attributes": {"a": "b"}}),
    ('{"msg":{"a":1}}', {"message": '{"a":1}'}),
    # attributes
    ('{"msg":"m","n":1,"f":1.5,"t":true,"o":{"a":[1,{"b":"c"}]},"l":[1,"x"],"z":null}',
     {"message": "m", "attributes": {"n": "1", "f": "1.5", "t": "true", "o": '{"a":[1,{"b":"c"}]}', "l": '[1,"x"]'}}),
    (r'{"msg":"line\nbreak \u00e9 \ud83d\ude00 \"q\" \\","k\u0065y":"\t"}',
     {"message": 'line\nbreak é 😀 "q" \\', "attributes": {"key": "\t"}}),
    ('{"msg":"m","":"empty name"}', {"message": "m", "attributes": {"": "empty name"}}),
    ('{"msg":"m","env":"mine"}', {"message": "m", "attributes": {"env": "mine"}}),
    ("{}", {"message": "{}"}),
    (' {"msg":"spaces"}  ', {"message": "spaces"}),
    # levels
    *((f'{{"msg":"m","level":{json.dumps(word)}}}', {"message": "m", "severity": severity}) for word, severity in [
        ("trace", "debug"), ("Debug", "debug"), ("INFO", "info"), ("notice", "info"), ("Warn", "warning"),
        ("WARNING", "warning"), ("err", "error"), ("error", "error"), ("fatal", "critical"), ("PANIC", "critical"),
        ("crit", "critical"), ("alert", "critical"), ("emerg", "critical"), (10, "debug"), (20, "debug"),
        (30, "info"), (40, "warning"), (50, "error"), (60, "critical"), ("50", "error"),
    ]),
    ('{"msg":"m","level":"odd"}', {"message": "m", "attributes": {"level": "odd"}}),
    ('{"msg":"m","severity":35}', {"message": "m", "attributes": {"severity": "35"}}),
    ('{"msg":"m","level":""}', {"message": "m", "attributes": {"level": ""}}),
    # times
    *((f'{{"msg":"m","time":{json.dumps(text)}}}', {"message": "m", "timestamp": moment}) for text, moment in [
        (f"{DAY}T10:00:00.123456Z", TODAY.replace(microsecond=123456)),
        (f"{DAY}T10:00:00.123456789Z", TODAY.replace(microsecond=123456)),
        (f"{DAY} 10:00:00,250", TODAY.replace(microsecond=250000)),
        (f"{DAY}T12:00:00+02:00", TODAY),
        (f"{DAY}T07:30:00-0230", TODAY),
        (f"{DAY} 10:00:00".replace("-", "/"), TODAY),
        (f"{DAY}", TODAY.replace(hour=0)),
        (S, NOW), (S + 0.5, NOW.replace(microsecond=500000)), (str(S), NOW),
        (S * 10**3 + 123, NOW.replace(microsecond=123000)), (S * 10**6 + 123456, NOW.replace(microsecond=123456)),
        (S * 10**9 + 123456789, NOW.replace(microsecond=123456)),
    ]),
    *((f'{{"msg":"m","time":{json.dumps(text)}}}', {"message": "m", "attributes": {"time": str(text)}, "parse_error": "time"})
      for text in ["10", 10, "", "yesterday", "2026-13-45T99:99:99Z", "17:00", 123456789012, 99999999999999999999,
                   f"{DAY}T", f"{DAY}T10:00:00Z\nx", "Mon Sep 21 10:00:00 2026"]),
    # a day ahead and more: stored at the record's time, the original kept
    (f'{{"msg":"m","time":"{AHEAD}"}}', {"message": "m", "attributes": {"original_timestamp": AHEAD}}),
    ('{"msg":"m","ts":"2299-12-31T23:59:59Z"}', {"message": "m", "attributes": {"original_timestamp": "2299-12-31T23:59:59Z"}}),
    ('{"msg":"m","ts":9999999999999999999}', {"message": "m", "attributes": {"original_timestamp": "9999999999999999999"}}),
    ('{"msg":"m","ts":9999999999}', {"message": "m", "attributes": {"original_timestamp": "9999999999"}}),
    # not JSON objects: kept whole
    *((line, {"parse_error": "json"}) for line in [
        "", "plain text", "[1,2]", '"text"', "12", "null", "true", '{"a":1', '{"a":1}{"b":2}', '{"a":1} x', "{'a':1}",
        '{"a":NaN}', '{"a":01}', '{"a":"\t"}', "{" * 3000, "[" * 3000, '{"a":' * 2000 + "1" + "}" * 2000, "\0\0{}",
        '{"big":1e999}',
    ]),
    ('{"a":"\udcff"}', {"message": '{"a":"\ufffd"}', "parse_error": "json"}),  # a byte that is not UTF-8
    ("{" + ",".join(f'"k{n}":{n}' for n in range(1001)) + "}", {"parse_error": "fields"}),
]  # fmt: skip


def test_json_lines_become_columns(home: Home, owner: Tenant) -> None:
    raw = b"".join(line.encode("utf-8", "surrogateescape") + b"\n" for line, _ in JSON_LINES)
    outcome, events = written(home, owner, raw, format="json", labels={})
    assert (outcome.outcome, outcome.accepted) == ("accepted", len(JSON_LINES))
    assert [event["external_id"] for event in events] == expected_ids(raw)
    usual = {"severity": "info", "timestamp": NOW, "attributes": {}, "parse_error": ""}
    for (line, expected), event in zip(JSON_LINES, events, strict=True):
        wanted = {"message": line, **usual, **expected}
        assert {name: event[name] for name in wanted} == wanted, line


def test_labels_join_the_attributes_and_the_line_goes_before_them(embedded: Home, owner: Tenant) -> None:
    raw = b'{"msg":"m","env":"line","level":"info"}\nno json\n{"a":"b"}\n'
    _, events = written(embedded, owner, raw, format="json", labels={"env": "label", "zone": "z1", "level": "x"})
    assert [event["attributes"] for event in events] == [
        {"env": "line", "zone": "z1"},
        {"env": "label", "zone": "z1", "level": "x"},
        {"a": "b", "env": "label", "zone": "z1", "level": "x"},
    ]


def test_the_record_says_under_which_names_time_level_and_message_stand(embedded: Home, owner: Tenant) -> None:
    fields = wire.Fields(time=("when",), level=(), message=("text", "m"))
    raw = b'{"when":%d,"level":"error","m":"hello","time":"x"}\n' % S
    _, (event,) = written(embedded, owner, raw, format="json", fields=fields)
    assert (event["timestamp"], event["severity"], event["message"]) == (NOW, "info", "hello")
    assert event["attributes"] == {"level": "error", "time": "x"}


def test_events_beyond_the_retention_are_set_aside_one_by_one(home: Home) -> None:
    owner = tenant(f"week-{home.name}", retention_days=7)
    # NOW is yesterday: a day that is kept must be so for the engine's own clock too, or its TTL drops a part of nothing else.
    days = [DAY, str(NOW.date() - timedelta(days=7)), "1970-01-01", str(NOW.date() - timedelta(days=5))]
    raw = "".join(f'{{"ts":"{day}"}}\n' for day in days).encode()
    outcome, events = written(home, owner, raw, format="json")
    offsets = [int(event_id[17:29], 16) for event_id in expected_ids(raw)]
    assert (outcome.outcome, outcome.accepted, outcome.expired) == ("mixed", 2, 2)
    assert outcome.reason == "older_than_retention"
    assert [(gone.offset, gone.outcome) for gone in outcome.exceptions] == [(offsets[1], "expired"), (offsets[2], "expired")]
    assert len(events) == 2
    assert {event["retention_days"] for event in events} == {7}


def test_raw_lines_beyond_the_retention_are_expired_as_a_whole(embedded: Home, owner: Tenant) -> None:
    outcome, events = written(embedded, owner, b"a\nb\n", observed_ns=NOW_NS - 31 * DAY_NS)
    assert outcome == wire.RecordOutcome(outcome.record_id, "expired", expired=2, reason="older_than_retention")
    assert events == []


def test_raw_lines_from_a_clock_far_ahead_are_stored_now(embedded: Home, owner: Tenant) -> None:
    ahead_ns = NOW_NS + 2 * DAY_NS
    outcome, (event,) = written(embedded, owner, b"a\n", observed_ns=ahead_ns)
    assert outcome.accepted == 1
    assert event["timestamp"] == NOW
    assert event["attributes"] == {"original_timestamp": str(ahead_ns)}


def test_a_format_of_a_newer_agent_is_kept_as_it_is(embedded: Home, owner: Tenant) -> None:
    _, (event,) = written(embedded, owner, b"<xml/>\n", format="xml")
    assert (event["message"], event["parse_error"]) == ("<xml/>", "format")


def test_a_line_as_long_as_a_record_is_kept(embedded: Home, owner: Tenant) -> None:
    value = "x" * ((4 << 20) - 20)
    _, (event,) = written(embedded, owner, json.dumps({"msg": value}).encode() + b"\n", format="json")
    assert event["message"] == value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["time", "ts", "level", "message", "msg", "a", ""]) | st.text(max_size=4)
TIMES = st.text("0123456789-/:T .,Z+", max_size=30) | st.datetimes().map(lambda moment: moment.isoformat())
PAIRS = st.lists(st.tuples(NAMES, JSON_VALUES | TIMES), max_size=6)
OBJECTS = PAIRS.map(lambda pairs: "{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs) + "}")
ANY_LINE = (OBJECTS.map(str.encode) | st.binary(max_size=60)).map(lambda line: line.replace(b"\n", b" "))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(ANY_LINE, min_size=1, max_size=40))
def test_no_line_fails_a_commit_and_every_line_is_accounted_for(embedded: Home, lines: list[bytes]) -> None:
    owner = tenant(f"fuzz-{hash(tuple(lines)) & 0xFFFFFFFF:x}")
    raw = b"".join(line + b"\n" for line in lines)
    outcome, events = written(embedded, owner, raw, format="json", labels={"a": "label"})
    assert outcome.rejected == 0
    assert outcome.accepted + outcome.expired == len(lines)
    gone = {gone.offset for gone in outcome.exceptions}
    kept = [event_id for event_id in expected_ids(raw) if int(event_id[17:29], 16) not in gone]
    if outcome.outcome != "expired":
        assert [event["external_id"] for event in events] == kept


def shaped(
    home: Home, owner: Tenant, *events: Event, **changed: Any
) -> tuple[wire.RecordOutcome, list[tuple[str, str, datetime, dict[str, str], str]]]:
    """The outcome of a record of events that transforms have made, and what is stored."""

    async def run() -> tuple[wire.RecordOutcome, list[Any]]:
        async with home.writer() as (writer, store):
            (outcome,) = await submit(writer, owner, shaped_record(*events, **changed))
            return outcome, await rows_of(store, owner, "external_id, message, timestamp, attributes, parse_error")

    return asyncio.run(run())


TRACE = b'Traceback (most recent call last):\n  File "x.py", line 1\n\nValueError: bad\\n'


def test_events_of_several_lines_come_back_whole_with_the_ids_of_the_wire_contract(home: Home, owner: Tenant) -> None:
    events = (
        Event(0, b"one"),
        Event(10, TRACE, {"stream": "stderr"}, f"{DAY}T10:00:00.123456789Z"),
        Event(500, b"", {}, "no time"),
        Event(600, b"\n", {"stream": "stdout", "env": "mine"}),
    )
    outcome, stored = shaped(home, owner, *events, labels={"env": "test"})
    assert (outcome.outcome, outcome.accepted) == ("accepted", 4)
    assert stored == [
        (wire.event_id(FILE_ID, 4096, b"one"), "one", NOW, {"env": "test"}, ""),
        (
            wire.event_id(FILE_ID, 4106, TRACE), TRACE.decode(), TODAY.replace(microsecond=123456),
            {"env": "test", "stream": "stderr"}, "",
        ),
        (wire.event_id(FILE_ID, 4596, b""), "", NOW, {"env": "test"}, ""),
        (wire.event_id(FILE_ID, 4696, b"\n"), "\n", NOW, {"env": "mine", "stream": "stdout"}, ""),
    ]  # fmt: skip


def test_a_runtimes_time_is_bounded_as_any_other(embedded: Home, owner: Tenant) -> None:
    events = (
        Event(0, b"old", {}, "2001-01-01T00:00:00Z"),
        Event(5, b"ahead", {}, AHEAD),
        Event(9, b"now", {}, f"{DAY}T10:00:00Z"),
    )
    outcome, stored = shaped(embedded, owner, *events)
    assert (outcome.accepted, outcome.expired) == (2, 1)
    assert [event.offset for event in outcome.exceptions] == [4096]
    assert [row[1:4] for row in stored] == [("ahead", NOW, {"original_timestamp": AHEAD}), ("now", TODAY, {})]


def test_json_in_a_container_has_its_own_time_else_that_of_the_runtime(embedded: Home, owner: Tenant) -> None:
    later = f"{DAY}T11:00:00Z"
    events = (
        Event(0, b'{"msg": "own", "time": "%sT10:00:00Z", "a": 1}' % DAY.encode(), {"stream": "stdout"}, later),
        Event(100, b'{"msg": "none", "stream": "said"}', {"stream": "stdout"}, later),
        Event(200, b'{"msg": "ahead"}', {}, AHEAD),
        Event(300, b"no json\nat all", {"stream": "stderr"}),
    )
    outcome, stored = shaped(embedded, owner, *events, format="json", labels={"env": "test"})
    assert outcome.accepted == 4
    assert [row[1:] for row in stored] == [
        ("own", TODAY, {"a": "1", "env": "test", "stream": "stdout"}, ""),
        ("none", TODAY.replace(hour=11), {"env": "test", "stream": "said"}, ""),
        ("ahead", NOW, {"env": "test"}, ""),
        ("no json\nat all", NOW, {"env": "test", "stream": "stderr"}, "json"),
    ]


def test_shaped_and_plain_blocks_of_one_commit_do_not_mix(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.writer() as (writer, store):
            bodies = [
                record(b"a\nb\n"),
                shaped_record(Event(0, b"c\nd"), base_offset=5000),
                shaped_record(Event(0, b"e"), base_offset=6000),
                shaped_record(Event(0, b"f"), Event(3, b"g"), base_offset=7000),
            ]
            outcomes = await submit(writer, owner, *bodies)
            assert [outcome.accepted for outcome in outcomes] == [2, 1, 1, 2]
            assert await rows_of(store, owner, "message") == [("a",), ("b",), ("c\nd",), ("e",), ("f",), ("g",)]
            again = await submit(writer, owner, *bodies, replay=True)
            assert [outcome.duplicate for outcome in again] == [2, 1, 1, 2]

    asyncio.run(run())
