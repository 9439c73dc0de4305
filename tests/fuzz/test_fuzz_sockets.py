"""What comes over a socket without being a request: refused with a reason or closed, and nothing of it stays.

The collector of these tests closes what has no whole request for a second.
"""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.events import body, event, named
from tests.support.mutations import examples, mutated
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = b"/api/v1/ingestion/events"
DEADLINE_S = 30.0
EVENT = body(event())


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("sockets"), more="server: {header_timeout_s: 1}") as process:
        yield process
        said = process.stderr.read_text(errors="replace")
        assert "Traceback" not in said, said[-4000:]


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    return collector.new_tenant("sockets")


def talk(collector: Collector, data: bytes) -> bytes:
    """Everything that is said until the collector closes. Fails when it does not."""
    return _heard(_sent(collector, data))


def _sent(collector: Collector, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", collector.port), DEADLINE_S)
    with suppress(ConnectionError):  # refused before it was through
        connection.sendall(data)
    return connection


def _heard(connection: socket.socket) -> bytes:
    found = b""
    with connection, suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def answers(found: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer, which has to be whole."""
    result = []
    while found:
        head, _, found = found.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            continue
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        result.append((status, found[:length]))
        assert status < 500, (status, found[:300])
        if status >= 400 and length:
            assert json.loads(found[:length])["error"]["message"]
        found = found[length:]
    return result


def post(key: str, path: bytes = EVENTS, data: bytes = EVENT, *more: bytes) -> bytes:
    said = (b"Host: h", b"X-API-Key: " + key.encode(), b"Content-Type: application/json", *more)
    length = () if any(b"ength" in line or b"ncoding" in line for line in more) else (b"Content-Length: %d" % len(data),)
    return b"POST " + path + b" HTTP/1.1\r\n" + b"\r\n".join((*said, *length)) + b"\r\n\r\n" + data


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


NAMES = "K" * 54
VALID = (
    post(NAMES),
    post(NAMES, EVENTS, chunked(EVENT[:9], EVENT[9:]) + b"0\r\n\r\n", b"Transfer-Encoding: chunked"),
    b"GET /healthz HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n" * 3,
    b"GET /api/v1/ingestion/events/search?limit=1 HTTP/1.0\r\nX-Request-Id: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\nCONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nrest",
)
BOMBS = (
    b"\r\n\r\n",
    b"\0",
    b"\xff",
    b"A" * 9000,
    b"A: b\r\n" * 200,
    b"\r\n ",
    b"Content-Length: 1\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"ffffffffffffffffff\r\n",
    b"HTTP/9.9",
    b"\x16\x03\x01",
)


KNOWN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /api/v1/ingestion/events/\xff HTTP/1.1\r\nHost: h\r\nX-API-Key: " + NAMES.encode() + b"\r\n\r\n",
    b"GET /api/v1/ingestion/events/search?q=\xff HTTP/1.1\r\nHost: h\r\nX-API-Key: " + NAMES.encode() + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 100_000,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
    b"GET / HTTP/1.1\r\nHost: h\r\nExpect: \xff\r\n\r\n",
]


@pytest.mark.parametrize("data", KNOWN)
def test_what_was_hard_to_read_once_is_answered_with_a_reason(collector: Collector, key: str, data: bytes) -> None:
    assert answers(talk(collector, data.replace(NAMES.encode(), key.encode())))


@given(st.one_of(mutated(*VALID, bombs=BOMBS), st.binary(max_size=60)))
@examples(120)
def test_whatever_comes_over_a_socket_is_answered_with_a_reason_or_closed(collector: Collector, key: str, data: bytes) -> None:
    connection = _sent(collector, data.replace(NAMES.encode(), key.encode()))
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)  # or a body that never comes would be waited for
    answers(_heard(connection))


@pytest.mark.parametrize(
    "data",
    [
        b"not http at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ],
)
def test_what_is_no_http_gets_the_envelope_and_its_bytes_are_not_logged(collector: Collector, data: bytes) -> None:
    found = answers(talk(collector, data.replace(b"Host: h", b"Host: h\r\nX-API-Key: ps_a_secret", 1)))
    assert [status for status, _ in found] == [400]
    assert b"cannot be read as HTTP" in found[0][1]
    assert "ps_a_secret" not in collector.stderr.read_text()


@pytest.mark.parametrize("expected", [b"a miracle", b"\xff"])
@pytest.mark.parametrize("path", [b"/healthz", b"/nothing"])
def test_an_expectation_that_nobody_can_meet_is_refused_in_words(collector: Collector, path: bytes, expected: bytes) -> None:
    found = answers(talk(collector, b"GET " + path + b" HTTP/1.1\r\nHost: h\r\nExpect: " + expected + b"\r\n\r\n"))
    assert [status for status, _ in found] == [417]
    assert b"without this header" in found[0][1]


@pytest.mark.parametrize(
    "data", [b"", b"G", b"GET / HTTP/1.1\r\nHost: h\r\n", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHo"]
)
def test_half_a_request_is_closed_when_its_time_is_over(collector: Collector, data: bytes) -> None:
    whole = data.count(b"\r\n\r\n")
    assert len(answers(talk(collector, data))) == whole


def test_headers_that_drip_do_not_hold_a_connection_open(collector: Collector) -> None:
    with socket.create_connection(("127.0.0.1", collector.port), DEADLINE_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.1)

        def closed() -> bool:
            try:
                connection.sendall(b"A: b\r\n")
                return connection.recv(100) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(closed, "the collector closes")


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (EVENT[:5], b"Content-Length: %d" % len(EVENT)),
        (b"5\r\n" + EVENT[:3], b"Transfer-Encoding: chunked"),
        (b"zz\r\nxx\r\n", b"Transfer-Encoding: chunked"),
        (chunked(EVENT) + b"-1\r\n\r\n", b"Transfer-Encoding: chunked"),
        (b"ffffffffffffffff\r\nxx", b"Transfer-Encoding: chunked"),
    ],
)
@pytest.mark.parametrize("path", [EVENTS, b"/api/v1/auth/register/tenant"])
def test_a_body_that_is_cut_or_badly_chunked_is_refused_and_nothing_is_stored(
    collector: Collector, key: str, path: bytes, body: bytes, header: bytes
) -> None:
    connection = _sent(collector, post(key, path, body, header, b"X-Admin-Token: " + ADMIN_TOKEN.encode()))
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    found = answers(_heard(connection))
    assert all(400 <= status < 500 for status, _ in found), found


def test_pipelined_requests_are_answered_in_order(collector: Collector, key: str) -> None:
    events = [named() for _ in range(10)]
    found = answers(talk(collector, b"".join(post(key, data=body(one)) for one in events)))
    assert [json.loads(data)["event_id"] for _, data in found] == [one["event_id"] for one in events]


def test_a_flood_of_pipelined_requests_takes_no_memory(collector: Collector, key: str) -> None:
    """The collector stops reading while answers wait: what it has not read waits in the sender."""
    status = Path(f"/proc/{collector.pid}/status")
    before = _peak_bytes(status)
    request = b"GET /api/v1/ingestion/events/search?limit=1 HTTP/1.1\r\nHost: h\r\nX-API-Key: " + key.encode() + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", collector.port), DEADLINE_S) as connection:
        connection.setblocking(False)
        sent, stuck = 0, 0
        while sent < 64 << 20 and stuck < 20:
            try:
                sent += connection.send(request * 500)
                stuck = 0
            except BlockingIOError:
                stuck += 1
                _ = collector.request("GET", "/healthz").status
            except ConnectionError:
                break
    assert _peak_bytes(status) - before < 100 << 20
    assert (
        collector.request("POST", EVENTS.decode(), key=key, body=EVENT, headers={"Content-Type": "application/json"}).status
        == 200
    )


def _peak_bytes(status: Path) -> int:
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
