"""What deleted files take that only the agent still holds is bounded, and a disk is left its last free space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import bounds
from agent.spool import spool
from agent.spool.disk import Disk
from tests.support.agent import AgentProcess, App, Noise, arrived, exactly_once
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

MIB = 1 << 20


def lost(sink: SinkProcess, reason: str) -> int:
    losses = sink.seen().losses
    assert {loss["reason"] for loss in losses} <= {reason}
    assert not any(loss["at_least"] for loss in losses)
    return sum(loss["lost_bytes"] for loss in losses)


def rotated_away(agent: AgentProcess, path: Path, generations: int, *, lines: int, name: str = "app") -> list[Noise]:
    """Files that are deleted as soon as the agent has opened them, each behind the next one."""
    apps = []
    for number in range(generations):
        apps.append(Noise(path, f"{name} {number}"))
        apps[-1].write(lines)
        until(lambda: open_files(agent, path), "it is open", told=agent.log)
        path.unlink()
        until(lambda: not open_files(agent, path), "it is seen to be gone")
    return apps


def open_files(agent: AgentProcess, path: Path) -> list[str]:
    """Descriptors of the agent that lead to what is at the path now."""
    found = []
    for link in Path(f"/proc/{agent.status()['pid']}/fd").iterdir():
        try:
            found += [str(link)] if os.readlink(link) == str(path) else []
        except OSError:
            continue
    return found


def adds_up(sink: SinkProcess, agent: AgentProcess, apps: list[Noise], reason: str) -> int:
    """What arrived and what is told lost is all there was; returns the latter."""
    written = sum(len(line) + 1 for app in apps for line in app.lines)

    def all_told() -> bool:
        return sum(len(text) + 1 for text in sink.seen().texts) + lost(sink, reason) == written

    agent.settle()  # cheaper to ask than the sink is
    until(all_told, f"{written} bytes are accounted for", told=lambda: f"{sink.seen().losses} {agent.log()}")
    lines = {line for app in apps for line in app.lines}
    exactly_once(sink.seen(), lines & sink.seen().texts.keys())
    return lost(sink, reason)


def test_deleted_files_are_held_up_to_held_bytes_and_then_the_oldest_is_told_lost(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(spool={"max_bytes": 4 * MIB, "segment_bytes": MIB}, held_bytes=5 * MIB)
    sink.stop()
    agent.start()
    apps = rotated_away(agent, logs / "app.log", 4, lines=3000)
    until(lambda: agent.status()["lost_bytes"], "something is given up", told=agent.log)
    until(lambda: agent.status()["held_bytes"] <= 5 * MIB, "what is held is within its bound")
    assert agent.status()["held_bytes"] > 2 * MIB
    sink.start()
    given_up = adds_up(sink, agent, apps, "held_bytes")
    assert MIB < given_up < 9 * MIB  # how far it had read before is a matter of time
    assert set(apps[-1].lines) <= sink.seen().texts.keys(), "the oldest goes first"
    assert agent.status()["losses"][0]["reason"] == "held_bytes"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a file system of its own cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_on_a_small_disk_the_app_comes_first(tmp_path: Path, sink: SinkProcess, small_disk: Path) -> None:
    logs = small_disk / "logs"
    logs.mkdir()
    agent = AgentProcess(small_disk / "agent", url=sink.url, include=[logs / "*.log"])
    agent.configure(spool={"max_bytes": 4 * MIB, "segment_bytes": MIB})
    sink.stop()
    try:
        agent.start()
        apps, disk = [], Disk()
        for number in range(9):
            apps += rotated_away(agent, logs / "app.log", 1, lines=2000, name=f"app {number}")
            while (free := disk.free(small_disk)[0]) < 5 * MIB:
                (small_disk / "others").write_bytes(bytes(max(0, free - MIB // 2)))
                until(lambda: disk.missing_to_floor(small_disk, 64 * MIB) <= 0, "the floor is free again", told=agent.log)
                (small_disk / "others").unlink()
        sink.start()
        assert adds_up(sink, agent, apps, "free_space") > 0
        arrived(sink, App(logs / "app.log", "after").write(10), told=agent)
    finally:
        agent.kill()


def test_at_the_floor_the_spool_grows_no_more_and_goes_on_above_it(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "WAITING_BYTES", 20_000)
    app = Noise(logs / "app.log")
    app.write(10)
    with Reading(tmp_path / "spool", logs, min_free_bytes=MIB) as reading:
        reading.has_read(10)
        reading.disk.free_bytes = 1000
        app.write(500)
        until(lambda: reading.reader.blocked, "it waits")
        assert reading.spool.size_bytes < 40_000
        assert reading.spool.full().endswith("less than min_free_bytes, 1048576 bytes, are free on its disk")
        reading.disk.free_bytes = 10 * MIB
        reading.has_read(510)
    assert set(spooled(tmp_path / "spool")) == set(app.lines)


def test_at_the_floor_what_is_acked_lets_more_through(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk full of logs is the time at which logs are wanted."""
    monkeypatch.setattr(spool, "WAITING_BYTES", 200_000)
    app = Noise(logs / "app.log")
    with Reading(tmp_path / "spool", logs, min_free_bytes=MIB, segment_bytes=100_000) as reading:
        reading.disk.free_bytes = 1000
        for number in range(1, 11):
            app.write(100)
            reading.has_read(100 * number)
            reading.spool.sync()
            while run := reading.spool.next_run(max_bytes=MIB, max_raw_bytes=MIB):
                reading.spool.ack(run.entries)
        assert reading.spool.size_bytes < 400_000


def test_at_the_floor_a_deleted_file_is_let_go_of(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "WAITING_BYTES", 0)
    monkeypatch.setattr(bounds, "LOOK_S", 0.0)
    app, other = App(logs / "app.log"), App(logs / "other.log", "other")
    with Reading(tmp_path / "spool", logs, min_free_bytes=MIB) as reading:
        app.write(10)
        other.write(10)
        reading.has_read(20)
        reading.disk.free_bytes = MIB - 1
        app.write(100)
        other.write(100)
        until(lambda: reading.reader.unread_bytes() == 200 * 61, "they are seen")
        app.path.unlink()
        until(lambda: reading.counts("lost_bytes.free_space") == 100 * 61, "it is told", told=reading.ledger.counts)
        assert reading.reader.unread_bytes() == 100 * 61, "a file that has a name is nobody's burden"
        reading.disk.free_bytes = 10 * MIB
        reading.has_read(120)
        other.write(1)
        reading.has_read(121)
        assert reading.counts("lost_bytes") == 100 * 61
    with Reading(tmp_path / "spool", logs) as reading:
        other.write(1)
        reading.has_read(1)
        assert not reading.counts("lost_bytes"), "what is told is told once"
