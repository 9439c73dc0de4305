"""Upgrades that nobody notices: collectors in turn on one store under load, and agents and collectors of different versions."""

from __future__ import annotations

import importlib.util
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent import codec, wire
from tests.support.agent import AgentProcess, App
from tests.support.collector import Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]
GOLDEN = Path(__file__).parents[1] / "golden"
TURNS = 2
OLDER_COLLECTOR = """
import sys
from agent import wire
wire.VERSIONS = (wire.VERSION,)
from collector.__main__ import main
sys.exit(main())
"""
"""One that knows records of version 1 only."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector"), store=engine.url) as running:
        yield running


class Writer(threading.Thread):
    """Writes lines until it is told that enough has happened."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(0.04):
            self._app.write(5)


def texts(collector: Collector, key: str) -> list[str]:
    found: list[str] = []
    query: dict[str, object] = {"limit": 1000}
    while True:
        page = collector.search(key, **query)
        found += [event["message"] for event in page["events"]]
        if not page["has_more"]:
            return found
        query["cursor"] = page["next_cursor"]


def stored(collector: Collector, key: str) -> int:
    return int(collector.search(key, count="exact", limit=1)["total_count"])


def accepted(collector: Collector) -> float:
    text = collector.request("GET", "/metrics").body.decode()
    name = 'collector_events_total{outcome="accepted"}'
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_collectors_are_replaced_in_turn_under_load_and_every_line_is_there_once(
    tmp_path: Path, engine: ClickHouseFront
) -> None:
    """B starts, A gets SIGTERM, A' starts, B gets SIGTERM, and so on: one of them is always there."""
    pair = [Collector(tmp_path / name, store=engine.url) for name in ("a", "b")]
    pair[0].start()
    pair[1].start()
    key = pair[0].new_tenant("Rolling")
    app = App(tmp_path / "logs" / "app.log")
    app.write(20)
    agent = AgentProcess(tmp_path / "agent", url=pair[0].url, include=[app.path])
    agent.configure(collector={"api_key": key, "urls": [pair[1].url]})
    writer = Writer(app)
    try:
        with agent:
            writer.start()
            agent.logged("first contact")
            for turn in range(TURNS):
                stopped, other = pair[turn % 2], pair[1 - turn % 2]
                assert stopped.stop() == 0
                before = accepted(other)
                until(lambda c=other, n=before: accepted(c) > n, "the other one takes over", told=agent.log)  # type: ignore[misc]
                stopped.start()
            writer.enough.set()
            writer.join()
            until(lambda: stored(pair[0], key) >= len(app.lines), "all is there", told=agent.log)
            counts = agent.status()["counts"]
        found = Counter(texts(pair[0], key))
        assert set(found) == set(app.lines)
        assert {text: count for text, count in found.items() if count != 1} == {}
        assert [counts.get(name, 0) for name in ("quarantined_events", "rejected_events", "internal_errors")] == [0, 0, 0]
        assert stored(pair[0], key) == len(app.lines)
    finally:
        writer.enough.set()
        for one in pair:
            one.kill()


def test_an_agent_that_is_newer_than_its_collector_holds_what_that_cannot_read_until_it_can(
    tmp_path: Path, engine: ClickHouseFront
) -> None:
    collector = Collector(tmp_path / "c", store=engine.url)
    collector.program = ["-c", OLDER_COLLECTOR]
    with collector:
        key = collector.new_tenant("Newer agent")
        app = App(tmp_path / "logs" / "app.log")
        events = [f"app fails {n}\n  at its second line" for n in range(20)]
        app.append("".join(f"{event}\n" for event in events))
        agent = AgentProcess(tmp_path / "agent", url=collector.url, include=[])
        agent.configure(
            collector={"api_key": key},
            sources=[{"name": "app", "include": [str(app.path)], "multiline": {"start": "^app", "timeout_s": 0.1}}],
        )
        with agent:
            agent.logged("version 2; this program knows versions up to 1")
            assert texts(collector, key) == []
            assert agent.status()["counts"].get("quarantined_events", 0) == 0
            assert collector.stop() == 0
            collector.program = ["-m", "collector"]
            collector.start()
            # It was told to come again in a minute; another start of the agent's comes sooner.
            agent.stop()
            agent.start()
            until(lambda: sorted(texts(collector, key)) == sorted(events), "all is there, once", told=agent.log)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("record-*.bin")))
def test_kept_records_of_every_version_are_taken(collector: Collector, name: str) -> None:
    """What an agent that is older than its collector sends."""
    key = collector.new_tenant(name, limits={"retention_days": 3650})
    kept = (GOLDEN / name).read_bytes()
    header = wire.decode_record(kept).header
    answer = collector.post(key, kept)
    assert answer.status == 200, answer.body
    (outcome,) = answer.body["records"]
    assert (outcome["record_id"], outcome["outcome"]) == (header.record_id, "accepted")
    if header.kind == wire.DATA:
        assert collector.search(key, start_time="2020-01-01T00:00:00Z")["total_count"] == header.events


def test_a_header_with_fields_of_a_newer_agent_is_taken_for_what_is_known_of_it(collector: Collector) -> None:
    key = collector.new_tenant("Fields to come")
    known = wire.decode_record(record(b"one\ntwo\n"))
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(known.header)), "a field to come", {"and": "another"}]
    answer = collector.post(key, sealed(wire.VERSION, msgspec.msgpack.encode(longer), bytes(known.payload)))
    assert (answer.status, answer.body["records"][0]["outcome"]) == (200, "accepted")
    assert sorted(texts(collector, key)) == ["one", "two"]


def test_a_version_to_come_is_answered_hold_it_and_nothing_of_its_run_is_stored(collector: Collector) -> None:
    key = collector.new_tenant("Versions to come")
    newer = sealed(wire.VERSIONS[-1] + 1, b"a layout that nobody knows yet", codec.compress(b"x"))
    answer = collector.post(key, record(b"one\n") + newer)
    assert (answer.status, answer.body["error"]["code"]) == (503, wire.CODE_UNKNOWN_VERSION)
    assert int(answer.headers["Retry-After"]) >= 1
    assert texts(collector, key) == []


def sealed(version: int, head: bytes, payload: bytes) -> bytes:
    """A record as any version lays it out."""
    prefix = struct.pack("<3sBII", wire.MAGIC, version, len(head), len(payload))
    check = zlib.crc32(payload, zlib.crc32(head, zlib.crc32(prefix)))
    return prefix + check.to_bytes(4, "little") + head + payload
