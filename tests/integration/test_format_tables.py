"""A table per format: lines as programs write them, odd ones too, and every column that comes of them. One insert a format.

What a case does not name: info, the record's time, no attributes, no error, empty columns, and the line as its message.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent import wire
from agent.config import Fields, Source
from agent.text.eventtime import event_time_ns
from collector.store.columns import REQUEST_COLUMNS
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home, rows_of, submit
from tests.support.records import NOW_NS, SECOND_NS, Event, expected_ids, record, shaped_record, tenant

pytestmark = pytest.mark.engine

NOW = datetime.fromtimestamp(NOW_NS // SECOND_NS, UTC).replace(tzinfo=None)
DAY, TEN = f"{NOW:%Y-%m-%d}", NOW.replace(hour=10, minute=0, second=0)
CLF, MONTH_DAY, KLOG = f"{NOW:%d/%b/%Y}", f"{NOW:%b} {NOW.day:2}", f"{NOW:%m%d}"
FIRST = [
    name
    for name in REQUEST_COLUMNS
    if name not in ("tenant_id", "observed_timestamp", "retention_days", "version", "event_type")
]
TEXTS = ("message", "endpoint", "user_id", "ip_address", "user_agent")
USUAL: dict[str, Any] = {
    "severity": "info", "timestamp": NOW, "attributes": {}, "parse_error": "", "trace_id": "", "span_id": "", "endpoint": "",
    "method": "", "user_id": "", "ip_address": "", "user_agent": "", "status_code": 0, "response_time_ms": 0.0,
    "response_size_bytes": 0, "zero_metrics": [],
}  # fmt: skip
LONG = "x" * 65_536
USUAL_FIELDS = wire.Fields()

Case = tuple[str, dict[str, Any]]


def stored(home: Home, owner: Tenant, *bodies: bytes, now_ns: int = NOW_NS) -> list[dict[str, Any]]:
    """The events that come of records, by column."""

    async def run() -> list[dict[str, Any]]:
        async with home.writer(now_ns=now_ns) as (writer, store):
            outcomes = await submit(writer, owner, *bodies)
            assert {outcome.outcome for outcome in outcomes} == {"accepted"}, outcomes
            columns = ", ".join(f"toValidUTF8({name})" if name in TEXTS else name for name in FIRST)
            return [dict(zip(FIRST, row, strict=True)) for row in await rows_of(store, owner, columns)]

    return asyncio.run(run())


def check(home: Home, owner: Tenant, cases: list[Case], format: str, **changed: Any) -> None:
    lines = [line.encode("utf-8", "surrogateescape") for line, _ in cases]
    raw = b"".join(line + b"\n" for line in lines)
    events = stored(home, owner, record(raw, format=format, **changed))
    assert [event["external_id"] for event in events] == expected_ids(raw)
    for (line, expected), event in zip(cases, events, strict=True):
        shown = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        wanted = {**USUAL, "message": shown, **expected}
        assert {name: event[name] for name in wanted} == wanted, line
        assert told_by_the_agent(format, line, **changed) == event["timestamp"], line


def told_by_the_agent(
    format: str, line: str, *, fields: wire.Fields = USUAL_FIELDS, observed_ns: int = NOW_NS, **others: Any
) -> datetime:
    """When the agent takes an event to be, for deciding whether the collector would keep it."""
    source = Source(
        "app", ("*",), format=format, fields=Fields(time=fields.time), pattern=fields.pattern, time_format=fields.time_format,
        time_zone=fields.time_zone,
    )  # type: ignore[arg-type]  # fmt: skip
    found = event_time_ns(source, line.encode("utf-8", "surrogateescape"), seen_ns=observed_ns)
    return datetime.fromtimestamp((observed_ns if found is None else found) / SECOND_NS, UTC).replace(tzinfo=None)


REQUEST = {
    "ip_address": "203.0.113.7", "user_id": "frank", "timestamp": TEN + timedelta(hours=2), "method": "GET",
    "endpoint": "/a.gif",
    "status_code": 200, "response_size_bytes": 2326,
}  # fmt: skip
PLAIN = {"protocol": "HTTP/1.0"}
NGINX = f'203.0.113.7 - - [{CLF}:10:00:00 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.8.0"'
CURL = {
    "ip_address": "203.0.113.7", "timestamp": TEN, "method": "GET", "endpoint": "/", "status_code": 200,
    "response_size_bytes": 612,
    "user_agent": "curl/8.8.0", "attributes": {"protocol": "HTTP/1.1"},
}  # fmt: skip
ACCESS: list[Case] = [
    (f'203.0.113.7 - frank [{CLF}:10:00:00 -0200] "GET /a.gif HTTP/1.0" 200 2326', {**REQUEST, "attributes": PLAIN}),
    (f'203.0.113.7 identd frank [{CLF}:10:00:00 -0200] "GET /a.gif HTTP/1.0" 200 2326 "http://x.example/?a=b" "Mozilla/4.08"',
     {**REQUEST, "attributes": {**PLAIN, "ident": "identd", "referer": "http://x.example/?a=b"},
     "user_agent": "Mozilla/4.08"}),
    (NGINX, CURL),
    (f"shop.example:443 {NGINX}", {**CURL, "attributes": {"protocol": "HTTP/1.1", "vhost": "shop.example:443"}}),
    (f"{NGINX} 0.042", {**CURL, "response_time_ms": 42.0, "attributes": {"protocol": "HTTP/1.1", "rest": "0.042"}}),
    (f'{NGINX} "10.0.0.1, 10.0.0.2" rt=1.5 uct="-"', {**CURL, "response_time_ms": 1500.0,
     "attributes": {"protocol": "HTTP/1.1", "rest": '"10.0.0.1, 10.0.0.2" rt=1.5 uct="-"'}}),
    (f"{NGINX} 4211", {**CURL, "attributes": {"protocol": "HTTP/1.1", "rest": "4211"}}),  # us or s: not told
    (NGINX.replace("203.0.113.7", "2001:db8::7"), {**CURL, "ip_address": "2001:db8::7"}),
    (NGINX.replace("GET /", "POST /api/v1/items?q=a%20b&c=%27"), {**CURL, "method": "POST", "endpoint": "/api/v1/items",
     "attributes": {"protocol": "HTTP/1.1", "query": "q=a%20b&c=%27"}}),
    (NGINX.replace("GET /", "GET /a b"), {**CURL, "endpoint": "/a b"}),
    (NGINX.replace(" 200 612", " 502 0"), {**CURL, "severity": "error", "status_code": 502, "response_size_bytes": 0,
     "zero_metrics": ["response_size_bytes"]}),
    (NGINX.replace(" 200 612", " 500 1"), {**CURL, "severity": "error", "status_code": 500, "response_size_bytes": 1}),
    (NGINX.replace(" 200 612", " 404 -"), {**CURL, "severity": "warning", "status_code": 404, "response_size_bytes": 0}),
    (NGINX.replace("curl/8.8.0", r"a \"b\" \x22c\x22 \\d"), {**CURL, "user_agent": r'a "b" "c" \d'}),
    (NGINX.replace("curl/8.8.0", 'a "b" c'), {**CURL, "user_agent": 'a "b" c'}),
    (NGINX.replace("GET /", 'GET /?q="x"'), {**CURL, "attributes": {"protocol": "HTTP/1.1", "query": 'q="x"'}}),
    (NGINX.replace('"GET / HTTP/1.1" 200', '"-" 400'), {**CURL, "severity": "warning", "status_code": 400, "method": "",
     "endpoint": "", "attributes": {}}),
    (NGINX.replace("GET / HTTP/1.1", r"\x16\x03\x01"), {**CURL, "method": "", "endpoint": "",
     "attributes": {"request": r"\x16\x03\x01"}}),
    (NGINX.replace("- - [", "- frank o'hara ["), {**CURL, "user_id": "frank o'hara"}),
    (NGINX.replace(f"{CLF}:10:00:00 +0000", f"{DAY}T10:00:00+00:00"), CURL),
    (NGINX.replace(" +0000", ""), CURL),
    (NGINX.replace(":10:00:00", ":25:00:00"), {**CURL, "timestamp": NOW, "parse_error": "time"}),
    (NGINX.replace("curl", "c\udcffrl"), {**CURL, "user_agent": "c\ufffdrl/8.8.0"}),
    (NGINX.replace("GET /", f"GET /{LONG}"), {**CURL, "endpoint": f"/{LONG}"}),
    ("", {"parse_error": "access_log"}),
    ("2026/11/24 10:00:00 [error] 7#7: *1 connect() failed", {"parse_error": "access_log"}),
    ("::1 - - [", {"parse_error": "access_log"}),
]  # fmt: skip


@pytest.mark.parametrize("format", ["clf", "combined"])
def test_access_logs_become_requests(embedded: Home, owner: Tenant, format: str) -> None:
    check(embedded, owner, ACCESS, format)


T = "4bf92f3577b34da6a3ce929d0e0e4736"
LOGFMT: list[Case] = [
    (f'time={DAY}T10:00:00Z level=warn msg="slow query" took=1.5s', {"message": "slow query", "severity": "warning",
     "timestamp": TEN, "attributes": {"took": "1.5s"}}),
    (r'msg="say \"hi\" \\ to\n\u00e9" a=b', {"message": 'say "hi" \\ to\né', "attributes": {"a": "b"}}),
    (r'msg="a tab	and \"q\""', {"message": r'a tab	and \"q\"'}),  # no JSON text: as it stands
    ("a=1 b= c=3", {"attributes": {"a": "1", "b": "", "c": "3"}}),
    ("a=1 flag b=2", {"attributes": {"a": "1", "flag": "true", "b": "2"}}),
    ('a="" b=""', {"attributes": {"a": "", "b": ""}}),
    ("a=x=y url=http://h/?q=1&r=2", {"attributes": {"a": "x=y", "url": "http://h/?q=1&r=2"}}),
    ('a="never closed b=2', {"attributes": {"a": '"never', "closed": "true", "b": "2"}}),
    ("  \tlvl=ERROR   msg=x  ", {"message": "x", "severity": "error"}),
    ("msg=m k.dotted/name-x=1", {"message": "m", "attributes": {"k.dotted/name-x": "1"}}),
    ("level=odd msg=m", {"message": "m", "attributes": {"level": "odd"}}),
    (f"msg=m trace_id={T} span_id=00f067aa0ba902b7", {"message": "m", "trace_id": T, "span_id": "00f067aa0ba902b7",
     "attributes": {"trace_id": T, "span_id": "00f067aa0ba902b7"}}),
    ("msg=m ts=yesterday", {"message": "m", "parse_error": "time", "attributes": {"ts": "yesterday"}}),
    (f"msg=m ts={NOW_NS // SECOND_NS}.25", {"message": "m", "timestamp": NOW.replace(microsecond=250_000)}),
    (f"msg={LONG} a=b", {"message": LONG, "attributes": {"a": "b"}}),
    ("msg=bro\udcffken a=\udcfe", {"message": "msg=bro\ufffdken a=\ufffd", "attributes": {"a": "\ufffd"}}),
    (" ".join(f"k{n}={n}" for n in range(1001)), {"parse_error": "fields"}),
    (" ".join(f"k{n}={n}" for n in range(1000)), {"attributes": {f"k{n}": str(n) for n in range(1000)}}),
    ("", {"parse_error": "logfmt"}),
    ("plain words with a=b", {"parse_error": "logfmt"}),
    ("=x", {"parse_error": "logfmt"}),
    ('INFO[0001] starting a="b"', {"parse_error": "logfmt"}),
]  # fmt: skip


def test_logfmt_lines_become_columns(embedded: Home, owner: Tenant) -> None:
    check(embedded, owner, LOGFMT, "logfmt")


def test_of_a_name_that_is_there_twice_both_values_are_kept(embedded: Home, owner: Tenant) -> None:
    async def run() -> list[Any]:
        async with embedded.writer() as (writer, store):
            await submit(writer, owner, record(b"msg=m a=1 a=2\n", format="logfmt"))
            await submit(writer, owner, record(b'{"msg":"m","a":1,"a":2}\n', format="json", base_offset=9000))
            return await rows_of(store, owner, "items")

    assert asyncio.run(run()) == [(["a=1", "a=2"],), (["a=1", "a=2"],)]


SU = {"message": "'su root' failed on /dev/pts/8", "severity": "critical", "timestamp": TEN,
      "attributes": {"host": "mymachine", "app": "su", "facility": "auth"}}  # fmt: skip
NEW = {"severity": "info", "timestamp": TEN.replace(microsecond=3000), "message": "",
       "attributes": {"host": "h", "app": "evntslog", "msgid": "ID47", "facility": "local4"}}  # fmt: skip
SYSLOG: list[Case] = [
    (f"<34>{MONTH_DAY} 10:00:00 mymachine su: 'su root' failed on /dev/pts/8", SU),
    (f"{MONTH_DAY} 10:00:00 web-1 sshd[4123]: Accepted publickey for root", {"message": "Accepted publickey for root",
     "timestamp": TEN, "attributes": {"host": "web-1", "app": "sshd", "pid": "4123"}}),
    (f"<13>{MONTH_DAY} 10:00:00 sshd[4123]: no host", {"message": "no host", "timestamp": TEN,
     "attributes": {"app": "sshd", "pid": "4123", "facility": "user"}}),
    (f"{MONTH_DAY} 10:00:00 kernel: [ 12.5] oom", {"message": "[ 12.5] oom", "timestamp": TEN,
     "attributes": {"app": "kernel"}}),
    (f"{MONTH_DAY} 10:00:00 fe80::1 postfix/smtpd[9]: x", {"message": "x", "timestamp": TEN,
     "attributes": {"host": "fe80::1", "app": "postfix/smtpd", "pid": "9"}}),
    (f"{MONTH_DAY} 10:00:00 web-1 last message repeated 3 times", {"message": "last message repeated 3 times", "timestamp": TEN,
     "attributes": {"host": "web-1"}}),
    (f"<191>{MONTH_DAY} {NOW.year} 10:00:00.5 h a: with a year", {"message": "with a year", "severity": "debug",
     "timestamp": TEN.replace(microsecond=500_000), "attributes": {"host": "h", "app": "a", "facility": "local7"}}),
    (f"{DAY}T12:00:00.123456+02:00 web-1 cron[1]: rsyslog", {"message": "rsyslog",
     "timestamp": TEN.replace(microsecond=123_456), "attributes": {"host": "web-1", "app": "cron", "pid": "1"}}),
    (f"<11>{MONTH_DAY} 10:00:00 h a: bro\udcffken", {"message": "bro\ufffdken", "severity": "error", "timestamp": TEN,
     "attributes": {"host": "h", "app": "a", "facility": "user"}}),
    (f"<12>{MONTH_DAY} 10:00:00 h a: {LONG}", {"message": LONG, "severity": "warning", "timestamp": TEN,
     "attributes": {"host": "h", "app": "a", "facility": "user"}}),
    (f"<165>1 {DAY}T10:00:00.003Z h evntslog - ID47 -", NEW),
    (f"<165>1 {DAY}T10:00:00.003Z h evntslog - ID47 - \ufeffżółw", {**NEW, "message": "żółw"}),
    (rf'<165>1 {DAY}T10:00:00.003Z h evntslog - ID47 [ex@32473 iut="3" src="a \"b\" \] \\ c"][x@1 y=""] An event',
     {**NEW, "message": "An event", "attributes": {**NEW["attributes"], "ex@32473.iut": "3", "ex@32473.src": 'a "b" ] \\ c'}}),
    (f"<165>1 {DAY}T12:00:00.003+02:00 h evntslog - ID47 [only@1]", NEW),
    ("<0>1 - - - - - - nil", {"message": "nil", "severity": "critical", "attributes": {"facility": "kern"}}),
    ("<999>1 - - a - - - no such priority", {"message": "no such priority", "attributes": {"app": "a"}}),
    (f"<192>{MONTH_DAY} 10:00:00 h a: no such priority", {"message": "no such priority", "timestamp": TEN,
     "attributes": {"host": "h", "app": "a"}}),
    (f"<14>10 {DAY}T10:00:00Z h a - - - of version 10", {"message": "of version 10", "timestamp": TEN,
     "attributes": {"host": "h", "app": "a", "facility": "user"}}),
    (f"{DAY}T07:00:00-03:00 h a: west", {"message": "west", "timestamp": TEN, "attributes": {"host": "h", "app": "a"}}),
    ("<14>1 soon h a - - - x", {"message": "x", "parse_error": "time", "attributes": {"host": "h", "app": "a",
     "facility": "user"}}),
    ("", {"parse_error": "syslog"}),
    ("<34>", {"parse_error": "syslog"}),
    ("Nov 31x", {"parse_error": "syslog"}),
    ("\tat a.b.C(D.java:5)", {"parse_error": "syslog"}),
    (f"{NOW:%b} 41 10:00:00 h a: x", {"parse_error": "syslog"}),
]  # fmt: skip


def test_both_kinds_of_syslog_become_columns(embedded: Home, owner: Tenant) -> None:
    check(embedded, owner, SYSLOG, "syslog")


WEST = TEN + timedelta(hours=3)
ZONED: dict[str, list[Case]] = {
    "syslog": [
        (f"{MONTH_DAY} 10:00:00 h a: x", {"timestamp": WEST}),
        (f"<14>1 {DAY}T10:00:00Z h a - - - x", {"timestamp": TEN}),
        (f"<14>1 {DAY}T10:00:00 h a - - - x", {"timestamp": WEST}),
    ],
    "combined": [
        (NGINX, {"timestamp": TEN}),
        (NGINX.replace(" +0000", ""), {"timestamp": WEST}),
        (NGINX.replace(f"{CLF}:10:00:00 +0000", f"{DAY}T10:00:00+00:00"), {"timestamp": TEN}),
        (NGINX.replace(f"{CLF}:10:00:00 +0000", f"{DAY}T10:00:00"), {"timestamp": WEST}),
    ],
    "klog": [(f"I{KLOG} 10:00:00.5 1 x.go:1] a", {"timestamp": WEST.replace(microsecond=500_000)})],
}


@pytest.mark.parametrize("format", list(ZONED))
def test_the_zone_of_a_source_is_that_of_the_times_that_tell_none(embedded: Home, owner: Tenant, format: str) -> None:
    raw = "".join(f"{line}\n" for line, _ in ZONED[format]).encode()
    events = stored(embedded, owner, record(raw, format=format, fields=wire.Fields(time_zone="-03:00")))
    assert [event["timestamp"] for event in events] == [expected["timestamp"] for _, expected in ZONED[format]]


KLOG_TEN = {"timestamp": TEN.replace(microsecond=525_108), "attributes": {"thread": "1", "caller": "controller_utils.go:116"}}
HEAD = f"{KLOG} 10:00:00.525108       1 controller_utils.go:116]"
KLOGS: list[Case] = [
    (f"I{HEAD} Starting", {**KLOG_TEN, "message": "Starting"}),
    (f"W{HEAD} a", {**KLOG_TEN, "message": "a", "severity": "warning"}),
    (f"E{HEAD} a", {**KLOG_TEN, "message": "a", "severity": "error"}),
    (f"F{HEAD} a", {**KLOG_TEN, "message": "a", "severity": "critical"}),
    (rf'I{HEAD} "Pod \"x\" ready" pod="kube-system/dns" n=3', {"timestamp": KLOG_TEN["timestamp"], "message": 'Pod "x" ready',
     "attributes": {**KLOG_TEN["attributes"], "pod": "kube-system/dns", "n": "3"}}),  # type: ignore[dict-item]
    (f'I{HEAD} "quoted" and more', {**KLOG_TEN, "message": '"quoted" and more'}),
    (f'I{HEAD} "alone"', {**KLOG_TEN, "message": "alone"}),
    (f"I{HEAD} ", {**KLOG_TEN, "message": ""}),
    (f"I{HEAD} bro\udcffken", {**KLOG_TEN, "message": "bro\ufffdken"}),
    (f"I{HEAD} {LONG}", {**KLOG_TEN, "message": LONG}),
    (f"I{KLOG} 10:00:00.5 4213 x.go:1] a", {"message": "a", "timestamp": TEN.replace(microsecond=500_000),
     "attributes": {"thread": "4213", "caller": "x.go:1"}}),
    ("I0230 10:00:00.5 1 x.go:1] a", {"message": "a", "parse_error": "time",
     "attributes": {"thread": "1", "caller": "x.go:1"}}),
    ("goroutine 1 [running]:", {"parse_error": "klog"}),
    ("", {"parse_error": "klog"}),
    (f"I{KLOG} 10:00:00 1 x.go:1] no fraction", {"parse_error": "klog"}),
    (f"D{HEAD} a", {"parse_error": "klog"}),
]  # fmt: skip


def test_klog_lines_become_columns(embedded: Home, owner: Tenant) -> None:
    check(embedded, owner, KLOGS, "klog")


PATTERN = r"^(?P<time>\S+ \S+) (?<level>[A-Z]+) +\[(?P<thread>[^\]]*)\] (\S+) - (?P<message>.*)$"
REGEX: list[Case] = [
    (f"{DAY} 10:00:00,250 ERROR [main] c.x.App - it's \\ bad", {"timestamp": TEN.replace(microsecond=250_000),
     "severity": "error",
     "message": "it's \\ bad", "attributes": {"thread": "main"}}),
    (f"{DAY} 10:00:00 WARN  [] c.x.App - ", {"timestamp": TEN, "severity": "warning"}),
    ("not now WARN [t] x - y", {"severity": "warning", "message": "y", "parse_error": "time",
     "attributes": {"time": "not now", "thread": "t"}}),
    (f"{DAY} 10:00:00 INFO [t] x - bro\udcffken", {"timestamp": TEN, "attributes": {"thread": "t"}}),
    (f"{DAY} 10:00:00 INFO [t] x - {LONG}", {"timestamp": TEN, "message": LONG, "attributes": {"thread": "t"}}),
    ("\tat a.b.C(D.java:5)", {"parse_error": "regex"}),
    ("", {"parse_error": "regex"}),
]  # fmt: skip


def test_lines_are_taken_apart_by_a_pattern_of_the_source(embedded: Home, owner: Tenant) -> None:
    check(embedded, owner, REGEX, "regex", fields=wire.Fields(pattern=PATTERN))


def test_patterns_of_one_commit_do_not_mix_and_a_bad_one_costs_only_its_own_lines(embedded: Home, owner: Tenant) -> None:
    quote = r"(?P<message>it's [\\'\"]+)"
    said = {
        5000: ("regex", wire.Fields(pattern="(?P<a>.)b")),
        6000: ("regex", wire.Fields(pattern="b(?P<c>.)")),
        7000: ("regex", wire.Fields(pattern="(?P<a>(x)")),
        8000: ("regex", wire.Fields(pattern="nothing named")),
        8500: ("regex", wire.Fields(pattern=quote)),
        9000: ("logfmt", wire.Fields(time_format="soon")),
        9500: ("logfmt", wire.Fields(time_zone="Mars/Base")),
    }
    line = b"abc it's \\'\"\n"
    bodies = [record(line, format=name, fields=fields, base_offset=at) for at, (name, fields) in said.items()]
    events = stored(embedded, owner, *bodies)
    got = [(event["message"], event["attributes"], event["parse_error"]) for event in events]
    whole = line.decode().rstrip("\n")
    assert got == [
        (whole, {"a": "a"}, ""), (whole, {"c": "c"}, ""), (whole, {}, "pattern"), (whole, {}, "pattern"),
        ("it's \\'\"", {}, ""), (whole, {}, "time_format"), (whole, {}, "zone"),
    ]  # fmt: skip


def test_an_engine_that_would_lose_lines_with_a_pattern_keeps_them_without(served: Home, owner: Tenant) -> None:
    """What stands for a server here does not give a view the rows of its insert: lines that need them would be gone."""
    timed = wire.Fields(time_format="%d.%m.%Y %H:%M")
    bodies = [
        record(b"abc\n", format="regex", fields=wire.Fields(pattern="(?P<a>.)b")),
        record(b"msg=m\n", format="logfmt", fields=timed, base_offset=5000),
        record(b"msg=m a=b\n", format="logfmt", base_offset=6000),
    ]
    assert [(event["message"], event["parse_error"]) for event in stored(served, owner, *bodies)] == [
        ("abc", "pattern"), ("msg=m", "pattern"), ("m", ""),
    ]  # fmt: skip


def test_a_pattern_that_only_the_engine_refuses_costs_only_its_own_lines(
    embedded: Home, owner: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.patterns.groups_of", lambda _: ("a",))
    fields = [wire.Fields(pattern=r"(?P<a>b)\1"), wire.Fields(pattern="(?P<a>b)(?=c)"), wire.Fields(pattern="(?P<a>c)")]
    bodies = [record(b"abc\n", format="regex", fields=one, base_offset=5000 + n) for n, one in enumerate(fields)]
    assert [(event["parse_error"], event["attributes"]) for event in stored(embedded, owner, *bodies)] == [
        ("pattern", {}), ("pattern", {}), ("", {"a": "c"}),
    ]  # fmt: skip


TRACES: list[Case] = [
    *((f'{{"msg":"m","{name}":"{T}"}}', {"message": "m", "trace_id": T, "attributes": {name: T}})
      for name in ("trace_id", "traceId", "trace.id", "dd.trace_id", "otelTraceID", "traceid")),
    *((f'{{"msg":"m","{name}":"abc"}}', {"message": "m", "span_id": "abc", "attributes": {name: "abc"}})
      for name in ("span_id", "spanId", "span.id", "dd.span_id", "otelSpanID")),
    (f'{{"msg":"m","traceparent":"00-{T}-00f067aa0ba902b7-01"}}', {"message": "m", "trace_id": T, "span_id": "00f067aa0ba902b7",
     "attributes": {"traceparent": f"00-{T}-00f067aa0ba902b7-01"}}),
    (f'{{"msg":"m","trace_id":"{LONG}"}}', {"message": "m", "attributes": {"trace_id": LONG}}),
    ('{"msg":"m","trace":{"id":"in a nest"}}', {"message": "m", "attributes": {"trace": '{"id":"in a nest"}'}}),
]  # fmt: skip


@pytest.mark.parametrize("fields", [wire.Fields(), wire.Fields(time_zone="Europe/Paris")], ids=["plain", "timed"])
def test_traces_are_found_under_the_names_of_tracers(embedded: Home, owner: Tenant, fields: wire.Fields) -> None:
    check(embedded, owner, TRACES, "json", fields=fields)


def test_events_of_containers_and_of_several_lines_are_taken_apart_too(embedded: Home, owner: Tenant) -> None:
    fields = {"regex": wire.Fields(pattern="(?s)^(?P<level>[A-Z]+) (?P<message>.*)")}
    texts = {
        "logfmt": b'level=error msg="a" stream=own', "klog": f"E{HEAD} a\n\tb".encode(),
        "syslog": b"<11>1 - - - - - - a\nb", "regex": b"ERROR a\n\nb", "combined": NGINX.encode(), "auto": b'{"msg":"a"}',
    }  # fmt: skip
    runtime = {"stream": "stderr", "n": "1"}
    bodies = [
        shaped_record(Event(0, text, runtime, f"{DAY}T11:00:00Z"), format=name, fields=fields.get(name, wire.Fields()),
                      base_offset=5000 + n * 1000)
        for n, (name, text) in enumerate(texts.items())
    ]  # fmt: skip
    events = stored(embedded, owner, *bodies)
    ten, eleven = TEN.replace(microsecond=525_108), TEN.replace(hour=11)
    assert [(event["message"], event["severity"], event["timestamp"], event["parse_error"]) for event in events] == [
        ("a", "error", eleven, ""), ("a\n\tb", "error", ten, ""), ("a\nb", "error", eleven, ""), ("a\n\nb", "error", eleven,
         ""),
        (NGINX, "info", TEN, ""), ("a", "info", eleven, ""),
    ]  # fmt: skip
    assert [event["attributes"].get("stream") for event in events] == ["own", *["stderr"] * 5]
    assert {event["attributes"]["n"] for event in events} == {"1"}


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ("json", b'{"msg":"a","k":"b"}'), ("logfmt", b"level=info msg=a k=b"), ("combined", NGINX.encode()),
        ("syslog", SYSLOG[1][0].encode()), ("klog", KLOGS[0][0].encode()), ("raw", b"2026-11-24 10:00:00 plain text"),
    ],
)  # fmt: skip
def test_auto_gives_the_rows_that_the_format_would_give(embedded: Home, owner: Tenant, format: str, line: bytes) -> None:
    raw = (line + b"\n") * 3 + b"\n\tat something\n"
    told, found = (
        stored(embedded, Tenant(f"{owner.tenant_id}-{name}", "", "", limits=owner.limits), record(raw, format=name))
        for name in (format, "auto")
    )
    assert found == told


Y = NOW.year
JULY = f"{Y - (NOW.month < 8)}-07-05"
TIMES: list[tuple[str, str, str, datetime | None]] = [
    ("iso8601", "", f"{DAY}T10:00:00.25Z", TEN.replace(microsecond=250_000)),
    ("iso8601", "", f"{DAY} 10:00", TEN),
    ("iso8601", "", f"{DAY}", TEN.replace(hour=0)),
    ("iso8601", "", f"{DAY} 10:00:00,5 +0200", TEN.replace(hour=8, microsecond=500_000)),
    ("iso8601", "", f"{DAY}T24:00:00Z", None),
    ("iso8601", "", str(NOW_NS // SECOND_NS), None),
    ("epoch_s", "", str(NOW_NS // SECOND_NS), NOW),
    ("epoch_s", "Asia/Tokyo", f"{NOW_NS // SECOND_NS}.5", NOW.replace(microsecond=500_000)),
    ("epoch_s", "", DAY, None),
    ("epoch_ms", "", f"{NOW_NS // 10**6 + 7}", NOW.replace(microsecond=7000)),
    ("epoch_ms", "", f"{NOW_NS // 10**6}.25", NOW.replace(microsecond=250)),
    ("epoch_us", "", f"{NOW_NS // 1000 + 7}", NOW.replace(microsecond=7)),
    ("epoch_ns", "", f"{NOW_NS + 7999}", NOW.replace(microsecond=7)),
    ("access_log", "", f"{CLF}:10:00:00 +0200", TEN.replace(hour=8)),
    ("syslog", "", f"{MONTH_DAY} 10:00:00", TEN),
    ("syslog", "+02:00", f"{MONTH_DAY} 10:00:00", TEN.replace(hour=8)),
    ("%d.%m.%Y %H:%M:%S", "", f"{NOW:%d.%m.%Y} 10:00:00", TEN),
    ("%d.%m.%Y %H:%M:%S", "-0330", f"{NOW:%d.%m.%Y} 10:00:00", TEN.replace(hour=13, minute=30)),
    ("%m/%d/%y %I:%M:%S %p", "", f"{NOW:%m/%d/%y} 12:00:00 am", TEN.replace(hour=0)),
    ("%A, %d %B %Y %T.%f %z", "", f"{NOW:%A, %d %B %Y} 10:00:00.123456789 +01:00", TEN.replace(hour=9, microsecond=123_456)),
    ("%a %b %e %H:%M:%S %Y", "", f"{NOW:%a} {MONTH_DAY} 10:00:00 {Y}", TEN),
    ("[%F %R] 100%%", "", f"[{DAY} 10:00] 100%", TEN),
    ("%d.%m. %H:%M", "", f"{NOW:%d.%m.} 10:00", TEN),
    ("%d.%m.%Y %H:%M", "", f"31.02.{Y} 10:00", None),
    ("%d.%m.%Y %H:%M", "", "x", None),
    ("auto", "Asia/Kolkata", f"{DAY} 10:00:00", TEN.replace(hour=4, minute=30)),
    ("auto", "Asia/Kolkata", f"{DAY}T10:00:00Z", TEN),
    ("auto", "Asia/Kolkata", str(NOW_NS // SECOND_NS), NOW),
]  # fmt: skip


@pytest.mark.parametrize("format", ["json", "logfmt", "regex"])
def test_times_are_read_as_the_source_says(embedded: Home, owner: Tenant, format: str) -> None:
    times = TIMES if format == "json" else [TIMES[0], TIMES[16], TIMES[-3]]  # an insert for each form: json's are cheapest
    forms = {"json": '{{"msg":"m","ts":"{}"}}', "logfmt": 'msg=m ts="{}"', "regex": "{}"}
    bodies = []
    for n, (time_format, zone, text, _) in enumerate(times):
        fields = wire.Fields(pattern="^(?P<ts>.*)$" * (format == "regex"), time_format=time_format, time_zone=zone)
        bodies.append(
            record(forms[format].format(text).encode() + b"\n", format=format, fields=fields, base_offset=5000 + 500 * n)
        )
    events = stored(embedded, owner, *bodies)
    for (time_format, zone, text, moment), event in zip(times, events, strict=True):
        wanted = (moment, "", {}) if moment else (NOW, "time", {"ts": text})
        assert (event["timestamp"], event["parse_error"], event["attributes"]) == wanted, (time_format, zone, text)
        fields = wire.Fields(pattern="^(?P<ts>.*)$" * (format == "regex"), time_format=time_format, time_zone=zone)
        assert told_by_the_agent(format, forms[format].format(text), fields=fields) == event["timestamp"], text


def test_a_zone_is_that_of_the_season_and_a_time_that_comes_twice_is_the_first(embedded: Home) -> None:
    owner = tenant("of-zones", retention_days=3650)
    cases = {
        "2025-01-05 10:00:00": "2025-01-05 09:00:00", "2025-07-05 10:00:00": "2025-07-05 08:00:00",
        "2025-03-30 01:59:59": "2025-03-30 00:59:59", "2025-03-30 02:30:00": "2025-03-30 01:30:00",  # in the gap
        "2025-03-30 03:00:00": "2025-03-30 01:00:00", "2025-10-26 02:30:00": "2025-10-26 00:30:00",  # comes twice
        "2025-10-26 03:00:00": "2025-10-26 02:00:00",
    }  # fmt: skip
    raw = "".join(f'ts="{text}"\n' for text in cases).encode()
    events = stored(embedded, owner, record(raw, format="logfmt", fields=wire.Fields(time_zone="Europe/Paris")))
    assert [str(event["timestamp"]) for event in events] == list(cases.values())
    paris = wire.Fields(time_zone="Europe/Paris")
    assert [str(told_by_the_agent("logfmt", f'ts="{text}"', fields=paris)) for text in cases] == list(cases.values())


def test_a_year_that_is_not_told_is_the_latest_that_is_not_more_than_a_day_ahead(embedded: Home) -> None:
    owner = tenant("of-years", retention_days=3650)
    lines = [
        "Dec 31 23:59:59 h a: x",
        "Jan  1 00:30:00 h a: x",
        "Jan  2 00:30:00 h a: x",
        "Nov 20 10:00:00 h a: x",
        "Feb 29 01:00:00 h a: x",
    ]
    raw = "".join(f"{line}\n" for line in lines).encode()

    def years(moment: datetime, zone: str = "") -> list[int]:
        seen_ns = int(moment.replace(tzinfo=UTC).timestamp()) * SECOND_NS
        body = record(
            raw, format="syslog", observed_ns=seen_ns, fields=wire.Fields(time_zone=zone), base_offset=seen_ns // 10**9
        )
        found = [event["timestamp"] for event in stored(embedded, owner, body)][-5:]
        fields = wire.Fields(time_zone=zone)
        assert [told_by_the_agent("syslog", line, fields=fields, observed_ns=seen_ns) for line in lines] == found
        return [moment.year for moment in found]

    assert years(datetime(2024, 12, 31, 23, 0)) == [2024, 2025, 2024, 2024, 2024]
    assert years(datetime(2025, 1, 1, 1, 0))[:4] == [2024, 2025, 2025, 2024]
    assert years(datetime(2025, 1, 3, 1, 0), "+14:00")[:3] == [2024, 2024, 2025]
