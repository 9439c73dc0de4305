"""The collector as a process with the embedded engine: taking records as an agent sends them, and the way of one line.

- The client posts runs prepared beforehand, as many at once as an agent does, and obeys 429 and 503. Time runs from the first
  byte sent until the last event is acknowledged, that is, on disk.
- CPU is that of the whole process, engine and merges included: up to the last ack, and again when the merges that the load
  left behind are done (``…_merged``).
- At the end a search must count every event, or the figures are worth nothing.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import clickhouse_connect

from agent import wire
from agent.codec import compress
from agent.config import Config, runs_in_flight
from agent.shipping.ship import MAX_RUN_RAW_BYTES
from agent.text.blocks import BLOCK_BYTES, cut_block
from tests.bench import agent, measure, steady
from tests.bench.accesslog import access_lines, json_lines
from tests.bench.load import Load
from tests.bench.measure import MB
from tests.support.collector import Collector
from tests.support.engine import ClickHouseFront

DEADLINE_S = 60.0
LOOK_S = 0.005
MERGE_LOOK_S = 1.0
MERGED_CPU_SHARE = 0.05
"""Below this part of one core the engine is taken to have done its merges."""
SEARCH = "/api/v1/ingestion/events/search"


class Run(NamedTuple):
    """One request: its body, and how many bytes and lines of a log it stands for."""

    body: bytes
    raw_bytes: int
    events: int


class Sent(NamedTuple):
    wall_s: float
    latencies_s: list[float]
    held_back: int
    """Answers 429 or 503."""


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    size_bytes = int(load.size_mb * MB)
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    for name, lines in (("raw", access_lines(size_bytes)), ("json", json_lines(size_bytes // 2, day=yesterday))):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            yield ingesting(Path(work), name, list(runs_of(lines, name)), load)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        yield single_lines(Path(work), load)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        yield from steady.run(Path(work), load)


def ingesting(folder: Path, name: str, runs: list[Run], load: Load) -> dict[str, Any]:
    """All runs into an empty store."""
    events = sum(run.events for run in runs)
    raw_mb = sum(run.raw_bytes for run in runs) / MB
    collector = Collector(folder)
    with collector:
        key = collector.new_tenant("Benchmark")
        before_s, start_mb = measure.cpu_s(collector.pid), measure.peak_memory_mb(collector.pid)
        sent = asyncio.run(_send(collector.url, key, runs))
        acked_s, peak_mb = measure.cpu_s(collector.pid) - before_s, measure.peak_memory_mb(collector.pid)
        merged_s = _merged_s(collector.pid, load) - before_s
        found = collector.search(key, limit=1, count="exact")["total_count"]
        assert found == events, f"{found} of {events} events are found"
        collector.stop()
    bytes_on_disk, parts = _stored(folder / "store")
    return {
        "benchmark": f"collector.{name}",
        "input_mb": round(raw_mb, 1),
        "events": events,
        "requests": len(runs),
        "held_back": sent.held_back,
        "events_per_s": round(events / sent.wall_s),
        "mb_per_s": round(raw_mb / sent.wall_s, 1),
        "wall_s": round(sent.wall_s, 3),
        **measure.percentiles_ms(sent.latencies_s),
        "cpu_s": round(acked_s, 3),
        "cpu_us_per_event": round(acked_s / events * 1e6, 3),
        "cpu_us_per_event_merged": round(merged_s / events * 1e6, 3),
        "peak_memory_mb": round(peak_mb, 1),
        "start_memory_mb": round(start_mb, 1),
        "disk_bytes_per_event": round(bytes_on_disk / events, 2),
        "parts": parts,
    }


def runs_of(chunks: Iterable[bytes], format: str) -> Iterator[Run]:
    """Blocks, records and runs as an agent makes them of one file."""
    records: list[bytes] = []
    raw_bytes = events = offset = 0
    for block, count in _blocks(chunks):
        if records and raw_bytes + len(block) > MAX_RUN_RAW_BYTES:
            yield Run(b"".join(records), raw_bytes, events)
            records, raw_bytes, events = [], 0, 0
        records.append(_record(block, count, offset, format))
        offset += len(block)
        raw_bytes += len(block)
        events += count
    yield Run(b"".join(records), raw_bytes, events)


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    rest, offset = b"", 0
    for chunk in chunks:
        buffer, at = rest + chunk, 0
        while len(buffer) - at >= BLOCK_BYTES and (cut := cut_block(buffer, at, at + BLOCK_BYTES, offset)):
            yield buffer[at : at + cut.length], cut.events
            at += cut.length
            offset += cut.length
        rest = buffer[at:]
    while rest and (cut := cut_block(rest, 0, min(len(rest), BLOCK_BYTES), offset)):
        yield rest[: cut.length], cut.events
        rest, offset = rest[cut.length :], offset + cut.length


def _record(block: bytes, events: int, offset: int, format: str) -> bytes:
    header = wire.Header(
        wire.DATA,
        f"benchmark-{offset:x}",
        agent="bench-host",
        scope="bench-host",
        source="shop",
        service="shop",
        path=f"/var/log/shop/{format}.log",
        file_id="0123456789abcdef" if offset else "fedcba9876543210",
        origin="0123456789abcdef",
        base_offset=offset,
        source_from=offset,
        source_to=offset + len(block),
        raw_bytes=len(block),
        events=events,
        format=format,
        observed_ns=time.time_ns(),
        flags=wire.REPRODUCIBLE,
    )
    return wire.encode_record(header, compress(block))


async def _send(url: str, key: str, runs: list[Run]) -> Sent:
    waiting = deque(runs)
    latencies_s: list[float] = []
    held_back = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal held_back
        while waiting:
            run = waiting.popleft()
            while True:
                began_s = time.monotonic()
                async with session.post(url + wire.BLOCKS_PATH, data=run.body) as response:
                    answer = await response.read()
                    if response.status not in (429, 503):
                        break
                    pause_s = float(response.headers["Retry-After"])
                held_back += 1
                await asyncio.sleep(pause_s)
            latencies_s.append(time.monotonic() - began_s)
            accepted = sum(record["accepted"] for record in json.loads(answer)["records"]) if response.status == 200 else 0
            assert accepted == run.events, f"{accepted} of {run.events} events were accepted: {answer[:2000]!r}"

    workers = runs_in_flight(Config(()))
    headers = {"X-API-Key": key, "Content-Type": wire.RUN_TYPE}
    async with aiohttp.ClientSession(headers=headers) as session:
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work(session))
        return Sent(time.monotonic() - began_s, latencies_s, held_back)


def _merged_s(pid: int, load: Load) -> float:
    """CPU seconds so far when the engine has come to rest."""
    end_s = time.monotonic() + load.merge_s
    look_s = min(MERGE_LOOK_S, load.merge_s)
    used_s = measure.cpu_s(pid)
    while time.monotonic() < end_s:
        measure.pause(look_s)
        before_s, used_s = used_s, measure.cpu_s(pid)
        if used_s - before_s < look_s * MERGED_CPU_SHARE:
            break
    return used_s


def _stored(store: Path) -> tuple[int, int]:
    """Bytes on disk and parts of the events table, without parts that a merge has replaced."""
    with ClickHouseFront(store) as front, clickhouse_connect.get_client(host=front.host, port=front.port) as client:
        sql = "SELECT sum(bytes_on_disk), count() FROM system.parts WHERE active AND table = 'events'"
        size, parts = client.query(sql).result_rows[0]
    return int(size), int(parts)


def single_lines(folder: Path, load: Load) -> dict[str, Any]:
    """From the write of one line to a quiet file, over agent and collector, until a search finds it."""
    took_s = []
    log = folder / "logs" / "quiet.log"
    log.parent.mkdir(parents=True)
    with Collector(folder / "collector") as collector:
        key = collector.new_tenant("Benchmark")
        with agent.agent(folder / "agent", collector.url, log, key=key) as process, log.open("ab", buffering=0) as file:
            for number in range(load.lines):
                measure.pause(load.quiet_s + number % 7 * 0.013)  # in step with nobody's interval
                began_s = time.monotonic()
                file.write(b"line word%d of a quiet file, written on its own\n" % number)
                _find(collector, key, f"word{number}", process.log)
                took_s.append(time.monotonic() - began_s)
            agent_mb = measure.peak_memory_mb(process.status()["pid"])
        peak_mb = measure.peak_memory_mb(collector.pid)
    return {
        "benchmark": "collector.line",
        "events": load.lines,
        **measure.percentiles_ms(took_s),
        "peak_memory_mb": round(peak_mb, 1),
        "agent_peak_memory_mb": round(agent_mb, 1),
    }


def _find(collector: Collector, key: str, word: str, told: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=DEADLINE_S)
    end_s = time.monotonic() + DEADLINE_S
    try:
        while True:
            connection.request("GET", f"{SEARCH}?q={word}", headers={"X-API-Key": key})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            if json.loads(body)["total_count"]:
                return
            assert time.monotonic() < end_s, f"{word} is not found; {told()}"
            measure.pause(LOOK_S)
    finally:
        connection.close()
