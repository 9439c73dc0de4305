"""The whole path, with real processes and a real engine: files → agent → collector → served engine → search.

Numbered lines go to three files that rotate by rename, while SIGKILL hits the agent, the collector and the engine at random
moments. Then every number is there exactly once: in the search endpoint, and in a deduplicated read of the engine.
``PULSESTREAM_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest

from tests.support.agent import AgentProcess
from tests.support.collector import Collector
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

LINES = 60_000
FILES = 3
BATCH = 100
WRITING_S = 9.0
AGENT_KILLS = COLLECTOR_KILLS = 3
ENGINE_KILLS = 1
ROTATIONS = 4
SETTLED_S = 120.0


class Writer(threading.Thread):
    """Appends the numbers ``first, first + step, …`` to a file, in batches over `WRITING_S`, some cut in mid-line."""

    def __init__(self, path: Path, first: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.path = path
        self._numbers = range(first, LINES, FILES)
        self._random = random.Random(seed)
        self._pace = threading.Event()
        path.touch()
        self._lock = threading.Lock()
        self._rotated = 0

    def run(self) -> None:
        batches = len(self._numbers) / BATCH
        for start in range(0, len(self._numbers), BATCH):
            lines = b"".join(line(number) for number in self._numbers[start : start + BATCH])
            cut = self._random.randrange(len(lines))
            with self._lock, self.path.open("ab", buffering=0) as file:
                file.write(lines[:cut])
                self._pace.wait(WRITING_S / batches)
                file.write(lines[cut:])

    def rotate(self) -> None:
        """Rename, as logrotate does: .1 becomes .2 and so on, and a new file begins."""
        with self._lock:
            for number in range(self._rotated, 0, -1):
                self.path.with_name(f"{self.path.name}.{number}").rename(self.path.with_name(f"{self.path.name}.{number + 1}"))
            self.path.rename(self.path.with_name(f"{self.path.name}.1"))
            self.path.touch()
            self._rotated += 1


def line(number: int) -> bytes:
    return b"number-%d of the test, user=%d path=/orders/%d\n" % (number, number % 97, number % 1009)


ALL_BYTES = sum(len(line(number)) for number in range(LINES))


@pytest.fixture
def seed() -> int:
    value = int(os.environ.get("PULSESTREAM_SEED") or random.SystemRandom().randrange(2**32))
    print(f"PULSESTREAM_SEED={value}")
    return value


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ClickHouseFront]:
    front = ClickHouseFront(tmp_path / "engine")
    front.start()
    yield front
    front.stop()


@pytest.fixture
def collector(tmp_path: Path, engine: ClickHouseFront) -> Iterator[Collector]:
    collector = Collector(tmp_path / "collector", store=engine.url)
    collector.start()
    until(lambda: collector.request("GET", "/readyz").status == 200, "the collector is ready")
    yield collector
    collector.stop()


@pytest.fixture
def agent(tmp_path: Path, collector: Collector) -> Iterator[AgentProcess]:
    key = collector.new_tenant("End to End")
    (tmp_path / "logs").mkdir()
    include = [tmp_path / "logs" / "*.log*"]
    agent = AgentProcess(tmp_path / "agent", url=collector.url, include=include)
    agent.configure(collector={"api_key": key}, flush_interval_s=0.2, rescan_interval_s=10)  # as by default
    agent.start()
    yield agent
    agent.stop()


def test_every_line_is_found_once_whatever_is_killed(
    seed: int, tmp_path: Path, engine: ClickHouseFront, collector: Collector, agent: AgentProcess
) -> None:
    chance = random.Random(seed)
    writers = [Writer(tmp_path / "logs" / f"app-{n}.log", n, seed + n) for n in range(FILES)]
    for writer in writers:
        writer.start()

    strike(chance, writers, engine, collector, agent)
    for writer in writers:
        writer.join()

    until(lambda: settled(agent), "every line is acknowledged", deadline_s=SETTLED_S, told=agent.log)
    assert_each_number_once(engine, collector, agent)

    agent.stop()
    shutil.rmtree(agent.state)
    agent.start()
    until(lambda: settled(agent), "every line is acknowledged", deadline_s=SETTLED_S, told=agent.log)
    assert agent.status()["counts"]["duplicate_events"] == LINES
    assert stored(engine) == (LINES, LINES)
    assert collector.search(agent.settings["collector"]["api_key"], limit=1)["total_count"] == LINES


def strike(
    chance: random.Random, writers: list[Writer], engine: ClickHouseFront, collector: Collector, agent: AgentProcess
) -> None:
    """Kill and rotate at random moments while the writers write; what was killed is started again at once."""
    victims = [*[agent] * AGENT_KILLS, *[collector] * COLLECTOR_KILLS, *[engine] * ENGINE_KILLS]
    events = [(chance.uniform(0.5, WRITING_S), n, victim) for n, victim in enumerate([*victims, *writers * ROTATIONS])]
    begun, clock = time.monotonic(), threading.Event()
    for moment, _, victim in sorted(events, key=lambda event: event[:2]):
        clock.wait(max(0.0, begun + moment - time.monotonic()))
        if isinstance(victim, Writer):
            victim.rotate()
        else:
            victim.kill()
            clock.wait(chance.uniform(0.0, 0.5))
            victim.start()


def settled(agent: AgentProcess) -> bool:
    """Everything that lies in the files is acknowledged."""
    status = agent.status()
    files = status["files"] if status else []
    return bool(status) and status["drained"] and sum(file["read_offset"] for file in files) == ALL_BYTES


def stored(engine: ClickHouseFront) -> tuple[int, int]:
    """How many events a deduplicated read of the engine gives, and how many different messages."""
    with clickhouse_connect.get_client(host=engine.host, port=engine.port, database="pulsestream") as client:
        rows = client.query("SELECT count(), uniqExact(message) FROM events FINAL").result_rows
    return rows[0][0], rows[0][1]


def assert_each_number_once(engine: ClickHouseFront, collector: Collector, agent: AgentProcess) -> None:
    key = agent.settings["collector"]["api_key"]
    assert stored(engine) == (LINES, LINES)
    found: Counter[str] = Counter()
    cursor: dict[str, str] = {}
    while True:
        page = collector.search(key, limit=1000, **cursor)
        assert page["total_count"] == LINES
        found.update(event["message"] for event in page["events"])
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    wanted = {line(number).decode().rstrip("\n") for number in range(LINES)}
    assert {text for text, count in found.items() if count > 1} == set()
    assert found.keys() == wanted
