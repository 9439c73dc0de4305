"""A collector process under whatever a client may send: never a 5xx, always a reason, bounded memory, and it goes on.

One collector takes all of it; in the end a fresh event is accepted and found.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import importlib.util
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import wire
from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.events import body, event, full, named
from tests.support.mutations import JSON_BOMBS, SCALE, examples, mutated, sealed
from tests.support.records import header, record
from tests.support.wait import until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
MORE_MEMORY_BYTES = 600 << 20
"""What all of this may take beyond what the process had before: bodies, batches, the engine's own caches."""
ENGINE = re.compile(rb"DB::|Code: \d+|clickhouse|chdb|Traceback|site-packages", re.IGNORECASE)
PATHS = (
    EVENTS,
    f"{EVENTS}/batch",
    f"{EVENTS}/search",
    f"{EVENTS}/types",
    f"{EVENTS}/x",
    wire.BLOCKS_PATH,
    "/api/v1/ingestion/stats",
    "/api/v1/ingestion/outcomes",
    "/api/v1/ingestion/agents",
    "/api/v1/ingestion/health",
    "/api/v1/tenants",
    "/api/v1/tenants/fuzz",
    "/api/v1/tenants/fuzz/keys",
    "/api/v1/auth/register/tenant",
    "/api/v1/openapi.json",
    "/healthz",
    "/",
    "/nothing",
)
BATCH = body({"events": [event(), full()]})
LINES = b"a line\nanother\n"


class Fuzzed:
    """A collector, a tenant with every scope, and what must hold of every answer."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.key = collector.new_tenant("fuzz")
        self.other = collector.new_tenant("other")
        self._connection: http.client.HTTPConnection | None = None
        self.memory_bytes = self.peak_bytes()

    def peak_bytes(self) -> int:
        with open(f"/proc/{self.collector.pid}/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    def ask(
        self,
        method: str,
        target: str,
        data: bytes | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        *,
        key: bool = True,
    ) -> tuple[int, bytes]:
        """Send it and check the answer. ``target`` is sent as it is."""
        said: dict[str, Any] = {**({"X-API-Key": self.key} if key else {}), **(headers or {})}
        kept = self._connection is not None
        try:
            status, kind, found = self._sent(method, target, data, said)
        except ConnectionError:
            # Idle for `header_timeout_s`, a connection is closed by right; a new one must get an answer.
            if not kept:
                raise
            status, kind, found = self._sent(method, target, data, said)
        self.check(method, status, kind, found)
        return status, found

    def _sent(self, method: str, target: str, data: bytes | None, said: Mapping[str, Any]) -> tuple[int, str, bytes]:
        connection = self._connection = self._connection or http.client.HTTPConnection(
            "127.0.0.1", self.collector.port, timeout=60
        )
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in said.items():
                connection.putheader(name, value)
            if data is not None and "Content-Length" not in said:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            found = answer.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            self._connection = None
            raise
        if answer.will_close:
            connection.close()
            self._connection = None
        return answer.status, answer.getheader("Content-Type") or "", found

    def check(self, method: str, status: int, kind: str, found: bytes) -> None:
        assert status < 500, (status, found[:500])
        if status >= 400 and method != "HEAD":
            assert kind.startswith("application/json"), (status, kind, found[:300])
            error = json.loads(found)["error"]
            assert error["code"]
            assert error["message"]
            assert not ENGINE.search(found), found[:500]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def still_works(self) -> None:
        fresh = named(title="after all of it")
        status, _ = self.ask("POST", EVENTS, body(fresh), {"Content-Type": "application/json"})
        assert status == 200
        status, found = self.ask("GET", f"{EVENTS}/{fresh['event_id']}")
        assert status == 200
        assert json.loads(found)["event_id"] == fresh["event_id"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    more = "server: {header_timeout_s: 1}\ndefault_limits: {max_request_bytes: 4194304, max_event_bytes: 1048576}"
    with Collector(tmp_path_factory.mktemp("fuzzed"), more=more) as collector:
        fuzz = Fuzzed(collector)
        yield fuzz
        fuzz.still_works()
        fuzz.close()
        said = collector.stderr.read_text(errors="replace")
        assert "Traceback" not in said, said[-5000:]
        assert "Logging error" not in said
        grown = fuzz.peak_bytes() - fuzz.memory_bytes
        assert grown < MORE_MEMORY_BYTES * (1 if SCALE == 1 else 2), f"{grown >> 20} MiB more at the peak"


def printable(text: str) -> str:
    """A request target as a client may write it: no blanks or control characters, anything else as it is."""
    return "".join(char for char in text if "!" <= char <= "~" and char not in '"<>\\^`{|}')


JSON_BODY = st.one_of(
    mutated(body(event()), body(full()), BATCH, BATCH + b"\n", body(event()) + b"\n" + body(full()), bombs=JSON_BOMBS),
    mutated(gzip.compress(BATCH), zstd.compress(BATCH), gzip.compress(b"\0" * (8 << 20)), zstd.compress(b"\0" * (8 << 20))),
)
HEADER_BYTES = st.binary(max_size=40).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127).strip())
KIND = st.one_of(
    st.sampled_from(
        (b"application/json", b"application/x-ndjson", b"text/plain", wire.RUN_TYPE.encode(), b"", b";;", b"a/b; charset=\xff")
    ),
    HEADER_BYTES,
)
ENCODING = st.one_of(st.sampled_from((b"identity", b"gzip", b"zstd", b"deflate", b"br", b"gzip, zstd")), HEADER_BYTES)


@given(
    JSON_BODY,
    st.sampled_from((EVENTS, f"{EVENTS}/batch", f"{EVENTS}/batch?dry_run=true", f"{EVENTS}/batch?results=failures")),
    KIND,
    ENCODING,
    HEADER_BYTES,
)
@examples(150)
@example(body(event()), EVENTS, b"\xff", b"identity", b"k")
@example(body(event()), EVENTS, b"application/json", b"\xff", b"k")
@example(body(event()), EVENTS, b"application/json", b"identity", b"\xff")
def test_any_body_of_events_has_an_answer(
    fuzzed: Fuzzed, data: bytes, path: str, kind: bytes, encoding: bytes, key: bytes
) -> None:
    fuzzed.ask("POST", path, data, {"Content-Type": kind, "Content-Encoding": encoding, "Idempotency-Key": key})


HEADERS = msgspec.msgpack.encode(header(LINES, labels={"a": "b"}))
RUN = st.one_of(
    mutated(record(LINES), record(LINES) + record(b"x\n" * 10)),
    mutated(HEADERS).map(lambda head: sealed(head, zstd.compress(LINES))),
    st.dictionaries(
        st.sampled_from(("path", "service", "format", "agent", "scope", "source", "record_id")),
        st.text(max_size=30),
        max_size=3,
    ).map(lambda changed: record(LINES, **changed)),
    st.dictionaries(
        st.sampled_from(("base_offset", "observed_ns", "source_from", "source_to", "flags")),
        st.integers(0, (1 << 64) - 1),
        max_size=3,
    ).map(lambda changed: record(LINES, **changed)),
)


@given(RUN, st.sampled_from(("", "0", "1", "x")), HEADER_BYTES)
@examples(120)
@example(sealed(b"\x92\x01\xa1\xff", b""), "", b"")
@example(record(LINES, observed_ns=(1 << 64) - 1), "1", b"")
def test_any_run_of_an_agent_has_an_answer(fuzzed: Fuzzed, run: bytes, replay: str, owner: bytes) -> None:
    headers: dict[str, str | bytes] = {"Content-Type": wire.RUN_TYPE, wire.REPLAY_HEADER: replay}
    if owner:
        headers[wire.TENANT_HEADER] = owner
    status, found = fuzzed.ask("POST", wire.BLOCKS_PATH, run, headers) if run[3:4] != b"\x02" else (0, b"")
    if status == 200:
        assert json.loads(found)["records"]


SEARCH_NAMES = (
    "start_time",
    "end_time",
    "event_type",
    "severity",
    "min_severity",
    "service",
    "source",
    "endpoint",
    "user_id",
    "method",
    "status_code",
    "host",
    "tags",
    "attr.region",
    "q",
    "event_id",
    "limit",
    "offset",
    "cursor",
    "order",
    "format",
)
VALUE = st.one_of(
    st.text(max_size=12),
    st.binary(max_size=12),
    st.sampled_from(
        (
            "",
            ",",
            "-15m",
            "now",
            "0001-01-01",
            "9999-12-31T23:59:59Z",
            "9" * 19,
            "5xx",
            "100-599",
            "asc",
            "ndjson",
            "10000",
            "'",
            "\\",
            "\\'",
            "\\N",
            "\0",
            "\t",
            "\n",
            "a\\0b",
            "{x:String}",
            "%s",
            "é" * 9,
            "x" * 3000,
            "[]",
            "']",
            "NULL",
        )
    ),
)
QUERY = st.lists(st.tuples(st.one_of(st.sampled_from(SEARCH_NAMES), st.text(max_size=8)), VALUE), max_size=4)


@given(
    st.sampled_from(
        (
            f"{EVENTS}/search",
            f"{EVENTS}/search",
            "/api/v1/ingestion/stats",
            "/api/v1/ingestion/outcomes",
            "/api/v1/ingestion/agents",
            "/api/v1/ingestion/health",
            EVENTS,
        )
    ),
    QUERY,
)
@examples(200)
@example(f"{EVENTS}/search", [("q", b"\xff")])
@example(f"{EVENTS}/search", [("event_id", "a\0'\\")])
@example("/api/v1/ingestion/outcomes", [("start_time", "2299-12-31"), ("end_time", "9999-12-31")])
def test_any_query_string_has_an_answer(fuzzed: Fuzzed, path: str, pairs: list[tuple[str, str | bytes]]) -> None:
    fuzzed.ask("GET", f"{path}?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs))


@given(st.integers(0, 1 << 62), st.one_of(st.text(max_size=20), st.sampled_from(("'", "\\", "\0", "\n"))), st.booleans())
@examples(40)
def test_a_cursor_that_a_caller_made_up_shows_its_own_events_at_most(
    fuzzed: Fuzzed, time_us: int, event_id: str, own: bool
) -> None:
    """The check in a cursor is no secret: what it names is looked for among the caller's own events."""
    _, found = fuzzed.ask("GET", f"{EVENTS}/search?limit=1", headers={} if own else {"X-API-Key": fuzzed.other})
    cursor = json.loads(found)["next_cursor"]
    if cursor is None:
        return
    fields = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=="))
    fields[3:5] = [time_us, event_id]
    made = base64.urlsafe_b64encode(msgspec.msgpack.encode(fields)).decode().rstrip("=")
    status, _ = fuzzed.ask("GET", f"{EVENTS}/search?limit=1&cursor={made}")
    assert status in (200, 422)


@given(
    st.sampled_from(("GET", "DELETE", "PATCH", "POST", "HEAD", "PUT", "OPTIONS", "TRACE")),
    st.sampled_from(
        (
            "/api/v1/ingestion/events/{}",
            "/api/v1/tenants/{}",
            "/api/v1/tenants/fuzz/keys/{}",
            "/api/v1/tenants/fuzz/keys/{}/rotate",
            "/{}",
        )
    ),
    st.one_of(
        st.text(max_size=20).map(lambda text: quote(text, safe="")),
        st.binary(max_size=9).map(lambda raw: quote(raw, safe="")),
        st.text(alphabet="%./;?#*~+$&'(),:=@!aF0", max_size=20).map(printable),
    ),
    st.booleans(),
)
@examples(200)
@example("GET", "/api/v1/ingestion/events/{}", "%ff", False)
@example("GET", "/api/v1/ingestion/events/{}", "%ed%a0%80", False)
@example("DELETE", "/api/v1/ingestion/events/{}", "%00%27%5c", False)
@example("GET", "/{}", "%ff%00", False)
@example("GET", "/api/v1/tenants/{}", "%ff", True)
@example("DELETE", "/api/v1/tenants/fuzz/keys/{}", "%ff", True)
def test_any_id_in_a_path_has_an_answer(fuzzed: Fuzzed, method: str, path: str, name: str, admin: bool) -> None:
    if method == "DELETE" and name in ("fuzz", "other"):
        return
    fuzzed.ask(method, path.format(name), None, {"X-Admin-Token": ADMIN_TOKEN} if admin else {}, key=not admin)


ADMIN = (
    (
        "POST",
        "/api/v1/auth/register/tenant",
        body({"name": "N", "slug": "n", "contact_email": "a@b", "limits": {"retention_days": 3}}),
    ),
    ("PATCH", "/api/v1/tenants/other", body({"name": "N", "contact_email": "a@b", "limits": {"events_per_minute": 30}})),
    ("POST", "/api/v1/tenants/other/keys", body({"name": "agents", "scopes": ["ingest"], "expires": "2031-01-31T00:00:00Z"})),
)


@given(
    st.sampled_from(ADMIN).flatmap(lambda one: st.tuples(st.just(one[0]), st.just(one[1]), mutated(one[2], bombs=JSON_BOMBS)))
)
@examples(80)
@example(("POST", "/api/v1/auth/register/tenant", b'{"name":"\xff"}'))
@example(("POST", "/api/v1/auth/register/tenant", b'{"name":"N","contact_email":"a\\u0000\\\'@b"}'))
@example(("PATCH", "/api/v1/tenants/other", b'{"limits":' + b"[" * 5000))
def test_any_body_of_an_administrator_has_an_answer(fuzzed: Fuzzed, sent: tuple[str, str, bytes]) -> None:
    method, path, data = sent
    fuzzed.ask(method, path, data, {"X-Admin-Token": ADMIN_TOKEN, "Content-Type": "application/json"}, key=False)


HEADER_NAMES = (
    "X-API-Key",
    "Authorization",
    "X-Admin-Token",
    "X-Request-Id",
    "Accept",
    "Expect",
    "Content-Type",
    "Content-Encoding",
    "Cookie",
    "Range",
    "If-None-Match",
    "Connection",
    "Upgrade",
    "Host",
    "Forwarded",
    wire.TENANT_HEADER,
    wire.REPLAY_HEADER,
    "X-Forwarded-For",
)


@given(
    st.sampled_from(("GET", "POST", "DELETE")),
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(HEADER_NAMES), HEADER_BYTES, max_size=3),
)
@examples(150)
@example("GET", f"{EVENTS}/search", {"Expect": b"a miracle"})
@example("GET", "/nothing", {"Expect": b"a miracle"})
@example("GET", f"{EVENTS}/search", {"Authorization": b"Bearer \xff"})
def test_any_headers_have_an_answer(fuzzed: Fuzzed, method: str, path: str, headers: dict[str, bytes]) -> None:
    data = BATCH if method == "POST" else None
    try:
        fuzzed.ask(method, path, data, headers)
    except http.client.RemoteDisconnected:  # it upgraded to nothing
        assert "Upgrade" in headers or "Connection" in headers


@pytest.mark.parametrize("count", [5])
def test_large_heartbeats_under_many_names_do_not_pile_up(fuzzed: Fuzzed, count: int) -> None:
    raw = wire.encode_heartbeat(wire.Heartbeat("v", sending="x" * (wire.MAX_HEARTBEAT_BYTES - 200)))
    packed = zstd.compress(raw)
    for _ in range(count):
        run = b"".join(
            wire.encode_record(header(raw, kind=wire.HEARTBEAT, events=0, file_id="", agent=str(uuid.uuid4())), packed)
            for _ in range(200)
        )
        fuzzed.ask("POST", wire.BLOCKS_PATH, run, {"Content-Type": wire.RUN_TYPE})
    status, found = fuzzed.ask("GET", "/api/v1/ingestion/agents")
    assert status == 200
    assert json.loads(found)["agents"]


def test_after_all_of_it_a_fresh_event_is_found(fuzzed: Fuzzed) -> None:
    fuzzed.still_works()
    until(lambda: fuzzed.collector.search(fuzzed.key, q="after all of it")["events"], "the event is found by its words")
