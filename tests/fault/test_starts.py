"""`start`: where reading begins in files that are there at first, and that this is decided once."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.errors import StorageFull
from agent.scope import Scope
from agent.status.status import snapshot
from collector.limits import allowance
from tests.support.agent import SCOPE, AgentProcess, App, arrived, exactly_once
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, spooled
from tests.support.sink import MONTH_LIMIT, SinkProcess
from tests.support.spooled import segments
from tests.support.wait import until

DAY_S = 86400


def aged(path: Path, days: float) -> None:
    written_s = time.time() - days * DAY_S
    os.utime(path, (written_s, written_s))


def start(agent: AgentProcess, logs: Path, start: str, *names: str) -> None:
    """Sources that begin so, of files that begin with their names."""
    sources = [{"name": name, "include": [f"{logs}/{name}*.log"], "start": start} for name in names or ("app",)]
    agent.configure(sources=sources)


@pytest.mark.parametrize("lines", [10, 500], ids=["below 4096 bytes", "beyond"])
def test_end_skips_what_is_there_and_nothing_that_comes_later(
    agent: AgentProcess, sink: SinkProcess, logs: Path, lines: int
) -> None:
    start(agent, logs, "end")
    app, later = App(logs / "app.log"), App(logs / "app-later.log", "later")
    app.write(lines)
    skipped = app.path.stat().st_size
    app.append("begun before the start")
    agent.start()
    agent.logged(f"first start of app: {skipped} bytes of 1 files that were there are skipped")
    app.append(", ended after it\n")
    wanted = ["begun before the start, ended after it", *app.write(5), *later.write(5)]
    arrived(sink, wanted, told=agent)
    agent.settle()
    assert {file["path"]: file["skipped_bytes"] for file in agent.status()["files"]} == {
        str(app.path): skipped,
        str(later.path): 0,
    }
    assert agent.status()["counts"]["start_skipped_bytes"] == skipped
    agent.kill()
    wanted += [*app.write(5), *later.write(5), *App(logs / "app-third.log", "third").write(5)]
    agent.start()
    arrived(sink, wanted, told=agent)
    assert agent.stop() == 0
    app.rename(logs / "app.log.1")
    wanted += app.write(5)
    agent.start()
    exactly_once(arrived(sink, wanted, told=agent), wanted)
    assert sink.seen().losses == []


def test_since_reads_files_that_were_written_to_within_that_time(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    start(agent, logs, "since 24h")
    old, fresh = App(logs / "app-old.log", "old"), App(logs / "app-fresh.log", "fresh")
    old.write(100)
    fresh.write(100)
    aged(old.path, 1.1)
    aged(fresh.path, 0.9)
    agent.start()
    wanted = [*fresh.lines, *old.write(1)]
    exactly_once(arrived(sink, wanted, told=agent), wanted)


@pytest.mark.parametrize("point", ["append.before", "append.half", "start.recorded", "start.synced"])
def test_death_while_it_is_recorded_makes_nothing_skipped_of_what_is_read_and_reads_nothing_skipped(
    agent: AgentProcess, sink: SinkProcess, logs: Path, point: str
) -> None:
    start(agent, logs, "end")
    app = App(logs / "app.log")
    app.write(100)
    old = len(app.lines)
    agent.launch("env", f"PULSESTREAM_CRASH={point}")
    agent.wait()
    between = app.write(10)
    agent.start()
    agent.settle()
    recorded = point.startswith("start.")
    wanted = [*(between if recorded else ()), *app.write(10)]
    assert len(app.lines) == old + 20
    exactly_once(arrived(sink, wanted, told=agent), wanted)


def test_a_source_that_comes_to_an_old_state_begins_as_it_says(tmp_path: Path, logs: Path) -> None:
    """Also where the state that says so lies in a segment that is not the first one."""
    app, other = App(logs / "app.log"), App(logs / "other.txt", "other")
    with Reading(tmp_path / "spool", logs) as reading:
        for number in range(1, 6):
            app.write(50)
            reading.has_read(50 * number)
    skipped = other.write(50)
    include = {"include": [f"{logs}/*.log", f"{logs}/*.txt"]}
    # One source that is known by its states goes on as before, whatever `start` says by now.
    with Reading(tmp_path / "spool", logs, start="end", **include) as reading:
        reading.has_read(50)
    assert set(spooled(tmp_path / "spool")) == {*app.lines, *skipped}
    other.path.unlink()
    third = App(logs / "third.txt", "third")
    gone = third.write(300)
    with Reading(tmp_path / "spool", logs, source={"name": "b"}, start="end", include=[f"{logs}/third.txt"]) as reading:
        until(lambda: reading.counts("start_skipped_bytes"), "it is skipped")
    for _ in range(3):
        with Reading(tmp_path / "spool", logs, source={"name": "b"}, start="end", include=[f"{logs}/third.txt"]) as reading:
            for number in range(1, 5):
                third.write(20)
                reading.has_read(20 * number)
                reading.spool.note_files()
    found = spooled(tmp_path / "spool")
    assert not set(gone) & set(found)
    assert {line: len(found.get(line, ())) for line in third.lines[300:]} == dict.fromkeys(third.lines[300:], 1)
    for acked in segments(tmp_path / "spool")[:-1]:
        acked.unlink()
    fourth = App(logs / "third-2.txt", "fourth").write(3)
    with Reading(tmp_path / "spool", logs, source={"name": "b"}, start="end", include=[f"{logs}/third*.txt"]) as reading:
        reading.has_read(3)
    assert set(fourth) <= set(spooled(tmp_path / "spool"))


class FullAfterItsHead(FakeDisk):
    """Full as soon as the first segment is there."""

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.room_bytes = 0


def test_while_it_cannot_be_recorded_nothing_is_read(tmp_path: Path, logs: Path) -> None:
    app, disk = App(logs / "app.log"), FullAfterItsHead()
    skipped = app.write(100)
    with Reading(tmp_path / "spool", logs, disk, start="end") as reading:
        until(lambda: disk.refused > 1, "it was tried more than once")
        assert isinstance(reading.error, StorageFull | None)
        assert not reading.counts("read_events")
        disk.room_bytes = None
        until(lambda: reading.counts("start_skipped_bytes"), "it is recorded", told=reading.ledger.counts)
        reading.has_read(len(app.write(10)))
    assert not set(skipped) & set(spooled(tmp_path / "spool"))
    assert set(app.lines[-10:]) == set(spooled(tmp_path / "spool"))


def test_many_files_are_skipped_in_one_step(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their states take several records: dying between them is as if none was written."""
    monkeypatch.setattr("agent.spool.segment.STATES_PER_RECORD", 2)
    apps = [App(logs / f"{number}.log", f"file {number}") for number in range(7)]
    for app in apps:
        app.write(100)

    class Dies(Exception):
        pass

    def die(*_: Any) -> None:
        raise Dies

    reading = Reading(tmp_path / "spool", logs, start="end")
    append, left = reading.spool.append, [2]

    def some(record: bytes) -> None:
        left[0] -= 1
        die() if left[0] < 0 else append(record)

    reading.spool.append = some  # type: ignore[method-assign]
    with reading:
        until(lambda: reading.error, "it dies between the records")
    lines = [line for app in apps for line in app.write(1)]
    with Reading(tmp_path / "spool", logs, start="end") as reading:
        until(lambda: reading.counts("start_skipped_bytes"), "the others are skipped, too")
        lines += [line for app in apps for line in app.write(1)]
        until(lambda: set(lines[7:]) <= set(spooled(tmp_path / "spool")), "what comes later is read")
    assert set(spooled(tmp_path / "spool")) <= set(lines)


def test_check_says_what_would_be_shipped_and_how_long_the_quota_lasts(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    assert wire.RATE_LIMIT_PATH == allowance.PATH
    start(agent, logs, "since 7d", "app", "other")
    for name, days in (("app", 1.0), ("app-old", 30.0), ("other", 30.0)):
        App(logs / f"{name}.log", name).write(30_000)
        aged(logs / f"{name}.log", days)
    size = (logs / "app.log").stat().st_size
    said = json.loads(agent.command("check", "--json", "--collector").stdout)
    assert (said["ships_files"], said["ships_bytes"], said["ships_events"]) == (1, size, 30_000)
    assert (said["quota_events_per_month"], said["quota_months"]) == (MONTH_LIMIT, 3.0)
    with agent:
        until(lambda: sink.seen().events == 30_000, "it is shipped", told=agent.log)
        agent.settle()
    App(logs / "other.log", "other").write(200)
    text = agent.command("check", "--collector").stdout
    assert f"{size:,} bytes  {logs}/app.log  (source app, read before: 0 to ship)" in text
    assert "To ship: 1 files, 12,200 bytes, about 200 events." in text
    assert "The tenant may send 10,000 events a month: that is 0.02 months of it." in text


def test_nothing_is_called_drained_before_the_files_were_looked_for(tmp_path: Path, logs: Path) -> None:
    """An empty spool and no known files: what `status` would take for the end of all work."""
    App(logs / "app.log").write(10)
    reading = Reading(tmp_path / "spool", logs)
    said = partial(snapshot, reading.reader, reading.spool, reading.ledger, Scope(SCOPE, "the test"), pid=1)
    assert (said()["drained"], said()["unread_bytes"]) == (False, 0)
    with reading:
        reading.has_read(10)
        until(lambda: reading.reader.has_looked, "the reader has looked")
        assert not said()["drained"]
    with Reading(tmp_path / "other", tmp_path / "nothing") as reading:
        said = partial(snapshot, reading.reader, reading.spool, reading.ledger, Scope(SCOPE, "the test"), pid=1)
        until(lambda: said()["drained"], "nothing is there to read")
