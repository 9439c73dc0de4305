"""The JSON API: events in batches and one by one, as many clients send them, and what a flood does to a quiet tenant.

- The collector is a process; the engine is another one (a served store), unless a benchmark's name says ``embedded``. So
  ``events_per_cpu_s`` is what one core of collector takes. Client, collector and engine share the machine: where it has
  few cores, wall times are those of all three together.
- Bodies are made beforehand, each event with an ID of its own. A request counts from its first byte to its answer's last,
  and an answer comes when the events are on disk.
- ``api.paced`` sends at fixed times whatever has been answered: a slow answer makes no pause in the load.
- ``api.flood``: a quiet tenant's single events at a fixed pace, first alone, then while another tenant sends batches over
  many connections as fast as they are answered.
- At the end a search must count every event.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.bench import measure
from tests.bench.load import Load
from tests.bench.measure import MB
from tests.support.collector import Collector
from tests.support.engine import ClickHouseFront

CONNECTIONS = 64
BATCH_EVENTS = 500
FLOOD_CONNECTIONS = 16
EVENTS_PATH = "/api/v1/ingestion/events"
SEED = 1
_NO_LIMITS = {"events_per_minute": 1_000_000_000, "bytes_per_minute": 1 << 50, "concurrent_requests": 10_000}


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    with _collector(folder) as collector:
        yield batches(collector, load, "api.batch")
        yield single(collector, load)
        yield paced(collector, load)
        yield flood(collector, load)
    with _collector(folder, embedded=True) as collector:
        yield batches(collector, load, "api.batch_embedded")


@contextmanager
def _collector(folder: Path, *, embedded: bool = False) -> Iterator[Collector]:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        store = "" if embedded else stack.enter_context(ClickHouseFront(work / "engine")).url
        yield stack.enter_context(Collector(work / "collector", store=store, log_level="info"))


def batches(collector: Collector, load: Load, name: str) -> dict[str, Any]:
    """Batches over many connections, each with the next one when its last is answered."""
    random = Random(SEED)
    count = -(-load.api_events // BATCH_EVENTS)
    bodies = [json.dumps({"events": [_event(random) for _ in range(BATCH_EVENTS)]}).encode() for _ in range(count)]
    return _closed_loop(collector, name, f"{EVENTS_PATH}/batch", bodies, BATCH_EVENTS)


def single(collector: Collector, load: Load) -> dict[str, Any]:
    """Single events over many connections, each with the next one when its last is answered."""
    return _closed_loop(collector, "api.single", EVENTS_PATH, _single_bodies(load.api_single_events), 1)


def _closed_loop(collector: Collector, name: str, path: str, bodies: list[bytes], each: int) -> dict[str, Any]:
    key = collector.new_tenant(name, limits=_NO_LIMITS)
    requests = [_request(path, key, body) for body in bodies]
    before_s = measure.cpu_s(collector.pid)
    began_s = time.monotonic()
    took_s, held_back = asyncio.run(_send_all(collector.port, requests, CONNECTIONS))
    wall_s = time.monotonic() - began_s
    cpu_s = measure.cpu_s(collector.pid) - before_s
    events = len(bodies) * each
    _count(collector, key, events)
    return {
        "benchmark": name,
        "input_mb": round(sum(map(len, bodies)) / MB, 1),
        "events": events,
        "requests": len(bodies),
        "connections": CONNECTIONS,
        "held_back": held_back,
        "events_per_s": round(events / wall_s),
        "mb_per_s": round(sum(map(len, bodies)) / MB / wall_s, 1),
        "wall_s": round(wall_s, 3),
        **measure.percentiles_ms(took_s),
        "cpu_s": round(cpu_s, 3),
        "cpu_us_per_event": round(cpu_s / events * 1e6, 2),
        "events_per_cpu_s": round(events / cpu_s),
        "times_json_loads": round(cpu_s / _json_loads_s(bodies), 2),
        "peak_memory_mb": round(measure.peak_memory_mb(collector.pid), 1),
    }


def paced(collector: Collector, load: Load) -> dict[str, Any]:
    """Single events at a fixed rate."""
    key = collector.new_tenant("Paced", limits=_NO_LIMITS)
    events = round(load.api_rate * load.api_s)
    requests = [_request(EVENTS_PATH, key, body) for body in _single_bodies(events)]
    before_s = measure.cpu_s(collector.pid)
    took_s = asyncio.run(_send_paced(collector.port, requests, load.api_rate))
    cpu_s = measure.cpu_s(collector.pid) - before_s
    _count(collector, key, events)
    return {
        "benchmark": "api.paced",
        "events": events,
        "requests_per_s": load.api_rate,
        **measure.percentiles_ms(took_s),
        "cpu_s": round(cpu_s, 3),
        "cpu_percent": round(100 * cpu_s / load.api_s, 1),
        "peak_memory_mb": round(measure.peak_memory_mb(collector.pid), 1),
    }


def flood(collector: Collector, load: Load) -> dict[str, Any]:
    """A quiet tenant alone, and beside one that floods."""
    quiet = collector.new_tenant("Quiet", limits=_NO_LIMITS)
    loud = collector.new_tenant("Loud", limits=_NO_LIMITS)
    events = round(load.api_quiet_rate * load.api_s)
    alone_s, _ = asyncio.run(_beside(collector.port, _quiet_requests(quiet, events), load, []))
    random = Random(SEED)
    bodies = [json.dumps({"events": [_event(random) for _ in range(BATCH_EVENTS)]}).encode() for _ in range(load.api_flood)]
    flooding = [_request(f"{EVENTS_PATH}/batch", loud, body) for body in bodies]
    beside_s, sent = asyncio.run(_beside(collector.port, _quiet_requests(quiet, events), load, flooding))
    _count(collector, quiet, 2 * events)
    alone, beside = measure.percentiles_ms(alone_s), measure.percentiles_ms(beside_s)
    return {
        "benchmark": "api.flood",
        "quiet_requests_per_s": load.api_quiet_rate,
        "flood_events_per_s": round(sent * BATCH_EVENTS / load.api_s),
        "alone_p50_ms": alone["p50_ms"],
        "alone_p99_ms": alone["p99_ms"],
        "beside_p50_ms": beside["p50_ms"],
        "beside_p99_ms": beside["p99_ms"],
        "p99_ratio": round(beside["p99_ms"] / alone["p99_ms"], 2),
        "peak_memory_mb": round(measure.peak_memory_mb(collector.pid), 1),
    }


def _json_loads_s(bodies: list[bytes]) -> float:
    """CPU seconds of Python's own JSON parser for the same: what the figures of a busy or slow machine are compared with."""
    before_s = time.process_time()
    for body in bodies:
        json.loads(body)
    return time.process_time() - before_s


def _quiet_requests(key: str, events: int) -> list[bytes]:
    return [_request(EVENTS_PATH, key, body) for body in _single_bodies(events)]


def _single_bodies(events: int) -> list[bytes]:
    random = Random(SEED)
    return [json.dumps(_event(random)).encode() for _ in range(events)]


def _event(random: Random) -> dict[str, Any]:
    """One request of a made-up shop, about 540 bytes of JSON, with the time of now."""
    now_s = time.time()
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": "api_call",
        "title": "order placed",
        "message": f"order {random.randrange(1 << 30)} was placed by user {random.randrange(10_000)}",
        "severity": random.choice(("info", "info", "info", "warning", "error")),
        "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_s))}.{int(now_s * 1000) % 1000:03}Z",
        "source": {
            "service": random.choice(("orders", "payments", "catalogue")),
            "endpoint": f"/orders/{random.randrange(1000)}",
            "method": random.choice(("GET", "POST")),
            "version": "1.2.3",
            "environment": "prod",
        },
        "context": {
            "user_id": f"u-{random.randrange(10_000)}",
            "request_id": f"{random.getrandbits(48):012x}",
            "ip_address": f"10.0.{random.randrange(256)}.{random.randrange(256)}",
        },
        "metrics": {"response_time_ms": round(random.expovariate(0.05), 2), "status_code": random.choice((200, 201, 404, 500))},
        "attributes": {"region": random.choice(("eu", "us")), "retries": random.randrange(3)},
    }


# The client: sockets and bytes, so that it takes little of the machine that it measures.


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.held_back = 0
        """Answers 503: too much waits."""

    async def send(self, request: bytes) -> float:
        """Seconds until the answer was there. Obeys 503. Raises AssertionError if the answer is not 200."""
        began_s = time.monotonic()
        while (took_s := await self._sent(request, began_s)) is None:
            self.held_back += 1
        return took_s

    async def _sent(self, request: bytes, began_s: float) -> float | None:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        took_s = time.monotonic() - began_s
        if head.startswith(b"HTTP/1.1 503 "):
            await asyncio.sleep(int(head.partition(b"Retry-After: ")[2].partition(b"\r\n")[0]))
            return None
        assert head.startswith(b"HTTP/1.1 200 "), head + body[:2000]
        assert b'"failed_count":' not in body or b'"failed_count":0,' in body, body[:2000]
        return took_s

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def _request(path: str, key: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connections:
    """Some connections, and more when they are asked for; all are closed at the end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.all: list[_Connection] = []

    async def new(self) -> _Connection:
        connection = _Connection(*await asyncio.open_connection("127.0.0.1", self._port))
        self.all.append(connection)
        return connection

    async def some(self, count: int) -> list[_Connection]:
        return [await self.new() for _ in range(count)]

    async def __aenter__(self) -> _Connections:
        return self

    async def __aexit__(self, *raised: object) -> None:
        for connection in self.all:
            await connection.close()


async def _send_all(port: int, requests: list[bytes], count: int) -> tuple[list[float], int]:
    """Latencies, and how often the collector asked to wait."""
    waiting = deque(requests)
    took_s: list[float] = []

    async def work(connection: _Connection) -> None:
        while waiting:
            took_s.append(await connection.send(waiting.popleft()))

    async with _Connections(port) as connections:
        async with asyncio.TaskGroup() as group:
            for connection in await connections.some(count):
                group.create_task(work(connection))
        return took_s, sum(connection.held_back for connection in connections.all)


async def _send_paced(port: int, requests: list[bytes], rate: float) -> list[float]:
    """Each at its time, over a connection that is free, or a new one."""
    took_s: list[float] = []

    async def one(connections: _Connections, free: list[_Connection], request: bytes, due_s: float) -> None:
        connection = free.pop() if free else await connections.new()
        await connection.send(request)
        took_s.append(time.monotonic() - due_s)
        free.append(connection)

    async with _Connections(port) as connections:
        free = await connections.some(CONNECTIONS)
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                due_s = began_s + number / rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                group.create_task(one(connections, free, request, due_s))
    return took_s


async def _beside(port: int, quiet: list[bytes], load: Load, flooding: list[bytes]) -> tuple[list[float], int]:
    """Latencies of the quiet requests, and how many of the flood were answered meanwhile."""
    waiting = deque(flooding)
    sent = 0

    async def work(connection: _Connection) -> None:
        nonlocal sent
        while waiting:
            await connection.send(waiting.popleft())
            sent += 1

    async with _Connections(port) as connections:
        flood = await connections.some(FLOOD_CONNECTIONS if flooding else 0)
        workers = [asyncio.create_task(work(connection)) for connection in flood]
        took_s = await _send_paced(port, quiet, load.api_quiet_rate)
        assert waiting or not flooding, "the flood ended before the quiet requests; give it more (api_flood)"
        waiting.clear()
        done = sent
        await asyncio.gather(*workers)
    return took_s, done


def _count(collector: Collector, key: str, events: int) -> None:
    found = collector.search(key, limit=1, count="exact")["total_count"]
    assert found == events, f"{found} of {events} events are found"
