"""Files that are first seen while the spool takes no data, and are rotated out of the pattern before the agent is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import crash
from agent.files.identity import FileState
from agent.reading import notes
from agent.spool import reserve, spool
from agent.spool.spool import Spool
from agent.status.status import SPOOL
from tests.support.agent import AgentProcess, App, Noise, arrived, exactly_once
from tests.support.damage import losses_in
from tests.support.lives import Lives, clock_of_the_agent, death
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

MIB = 1 << 20
SMALL = {"max_bytes": 4 * MIB, "segment_bytes": MIB}
BLOCK_LINES = 1500
"""A block's worth, for which there is less room than for a few lines."""


def noted(folder: Path) -> dict[str, FileState]:
    """What a start would know of files now, by their paths."""
    found = Spool(folder, segment_bytes=MIB, max_bytes=MIB, read_only=True)
    found.journal.close()
    return {state.path: state for state in found.recovery.states.values()}


def is_noted(folder: Path, app: App) -> None:
    size = app.path.stat().st_size
    until(lambda: size in {state.size for state in noted(folder).values()}, f"it is noted with its {size} bytes")


def killed(reading: Reading) -> None:
    """What is told at a stop is not told at the end of this block."""
    reading.spool.note_files = lambda: None  # type: ignore[method-assign]


@pytest.fixture
def full(agent: AgentProcess, sink: SinkProcess, logs: Path) -> Noise:
    """What an agent read, whose spool is full of it, of a pattern that matches no rotated file; nobody takes it."""
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log"]}], spool=SMALL)
    sink.stop()
    app = Noise(logs / "app.log", "first")
    app.write(10_000)
    return app


def is_full(agent: AgentProcess) -> None:
    until(lambda: "the spool is full" in agent.log(), "the spool is full", told=agent.log)


def test_what_was_rotated_away_while_the_spool_was_full_is_read_after_a_kill(
    agent: AgentProcess, sink: SinkProcess, logs: Path, full: Noise
) -> None:
    agent.start()
    is_full(agent)
    apps = [full]
    for number in range(2):
        apps[-1].path.rename(logs / f"app.log.{number + 1}")
        apps.append(Noise(logs / "app.log", f"later {number}"))
        apps[-1].write(BLOCK_LINES + number)  # no two of a size
        is_noted(agent.state / SPOOL, apps[-1])
    assert agent.status()["counts"]["read_events"] < 10_000
    apps[-1].path.rename(logs / "app.log.3")
    agent.kill()
    sink.start()
    agent.start()
    exactly_once(
        arrived(sink, [line for app in apps for line in app.lines], told=agent), [x for app in apps for x in app.lines]
    )
    agent.settle()
    assert sink.seen().losses == []
    assert agent.status()["spool_bytes"] < 4 * MIB


def test_killed_behind_the_note_of_a_file_that_is_deleted_then_tells_its_loss(
    agent: AgentProcess, sink: SinkProcess, logs: Path, full: Noise
) -> None:
    agent.start()
    is_full(agent)
    agent.kill()
    full.path.rename(logs / "app.log.1")
    gone = Noise(logs / "app.log", "gone")
    gone.write(BLOCK_LINES)
    size = gone.path.stat().st_size
    agent.launch("env", f"{crash.ENV}=full.noted")
    assert agent.wait() == -9, agent.log()
    gone.path.unlink()
    sink.start()
    agent.start()
    exactly_once(arrived(sink, full.lines, told=agent), full.lines)
    (loss,) = until(lambda: sink.seen().losses, "the loss is told", told=agent.log)
    assert (loss["reason"], loss["lost_bytes"], loss["at_least"]) == ("deleted_before_read", size, True)


ROOMS: dict[str, Callable[[Reading], None]] = {
    "the spool is full": lambda reading: setattr(reading.spool, "_max_bytes", 0),
    "the disk is at its floor": lambda reading: setattr(reading.disk, "free_bytes", 1000),
    "the disk is full": lambda reading: setattr(reading.disk, "room_bytes", 0),
}


@pytest.mark.parametrize("no_room", ROOMS.values(), ids=ROOMS)
def test_there_is_room_for_what_tells_contents_apart(
    folder: Path, logs: Path, no_room: Callable[[Reading], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "WAITING_BYTES", 0)
    first, new = App(logs / "app.log", "first"), App(logs / "app.log", "new")
    first.write(10)
    with Reading(folder, logs, include=[f"{logs}/app.log"], min_free_bytes=MIB, segment_bytes=MIB) as reading:
        reading.has_read(10)
        no_room(reading)
        first.path.rename(logs / "app.log.1")
        new.write(20)
        until(lambda: reading.reader.blocked, "it waits")
        is_noted(folder, new)
        killed(reading)
        assert reading.counts("read_events") == 10
        new.path.rename(logs / "app.log.2")
    with Reading(folder, logs, include=[f"{logs}/app.log"]) as reading:
        reading.has_read(20)
    assert set(spooled(folder)) == {*first.lines, *new.lines}
    assert losses_in(folder) == []


def test_what_doubles_is_noted_and_its_loss_is_told_at_least_by_half(
    folder: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "SIZES_S", 0.0)
    app = App(logs / "app.log")
    app.write(10)
    with Reading(folder, logs, segment_bytes=MIB) as reading:
        reading.has_read(10)
        reading.spool._max_bytes = 0
        before = reading.spool.size_bytes
        for count in (1, 1, 2, 3):
            app.write(count)
            until(lambda: reading.reader.unread_bytes() == 61 * (len(app.lines) - 10), "it is seen")
            until(lambda: 2 * (noted(folder)[str(app.path)].size - 610) > reading.reader.unread_bytes(), "it is noted")
        assert noted(folder)[str(app.path)].size == 14 * 61, "it has not doubled"
        assert reading.spool.size_bytes - before < 4000
        killed(reading)
    app.path.unlink()
    with Reading(folder, logs) as reading:
        reading.has_told()
    (loss,) = losses_in(folder)
    assert (loss.reason, loss.lost_bytes, loss.at_least, loss.offset) == ("deleted_before_read", 4 * 61, True, 610)


def test_what_was_cut_away_is_told_before_its_file_is_noted(tmp_path: Path, logs: Path) -> None:
    """The state of what stayed knows nothing of it."""
    app = App(logs / "app.log")
    lives = Lives(tmp_path / "spool", (str(app.path),), segment_bytes=MIB, max_open_files=50)
    with clock_of_the_agent(lives.clock):
        app.write(200)
        lives.start()
        lives.turns()
        lives.spool._max_bytes = 0
        app.write(10)
        lives.notices.paths.add(str(app.path))
        for _ in range(2):
            lives.turn()
        assert lives.reader is not None
        assert lives.reader.unread_bytes() == 610
        os.truncate(app.path, 100 * 61)
        lives.notices.paths.add(str(app.path))
        with death(1, "full.noted") as died:
            for _ in range(4):
                lives.turn()
        assert died
        lives.end()
        lives.start()
        lives.finish(6.0, 6.0)
    assert lives.store.lost_bytes == 610


def test_the_reserve_is_there_again_once_there_is_room(folder: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(1)
    with Reading(folder, logs) as reading:
        reading.has_read(1)
        kept = folder / reserve.NAME
        assert kept.stat().st_size == reserve.RESERVE_BYTES
        reading.disk.room_bytes = 0
        other = App(logs / "other.log", "other")
        other.write(1)
        until(lambda: str(other.path) in noted(folder), "it is noted")
        assert 0 < reserve.RESERVE_BYTES - kept.stat().st_size <= 8192, "no more of it is given up than a note takes"
        reading.disk.room_bytes = None
        app.write(300)
        reading.has_read(302)
        app.write(100)
        reading.has_read(402)
        assert kept.stat().st_size == reserve.RESERVE_BYTES
