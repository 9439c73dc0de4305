"""Damage to what the state folder holds: nothing is lost, nothing gets a second ID, nobody has to help."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import pytest

from agent import wire
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.damage import data_records, once, overwrite, read_in_portions
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, lines_of, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import Written, abandon, open_spool, segments
from tests.support.wait import until

FLIPS, FLIPPED_RUNS = 10, 5


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "last"])
def test_zeros_in_the_middle_of_a_segment(folder: Path, logs: Path, which: int) -> None:
    app = read_in_portions(folder, logs)
    path = segments(folder)[which]
    record = data_records(path)[0]
    overwrite(path, record.start, bytes(record.end - record.start))
    assert len(spooled(folder)) < len(app.lines)
    with Reading(folder, logs) as reading:
        until(lambda: not reading.reader.unread_bytes() and reading.counts("read_events"), "the gap is read again")
    once(spooled(folder), app.lines)


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "last"])
@pytest.mark.parametrize("lost", ["zeros", "empty"])
def test_a_segment_without_one_good_byte_costs_nothing_but_reading_again(
    folder: Path, logs: Path, which: int, lost: str
) -> None:
    app = read_in_portions(folder, logs)
    path = segments(folder)[which]
    path.write_bytes(bytes(path.stat().st_size) if lost == "zeros" else b"")
    with Reading(folder, logs) as reading:
        until(lambda: not reading.reader.unread_bytes() and reading.counts("read_events"), "it is read again")
    once(spooled(folder), app.lines)


def test_the_gap_is_still_known_when_the_damaged_segment_is_trimmed_before_it_is_closed(folder: Path, logs: Path) -> None:
    """The heads behind the damage know of records that are gone; the one that the start writes has the last word."""
    app = read_in_portions(folder, logs)
    path = segments(folder)[1]
    record = data_records(path)[0]
    overwrite(path, record.start, bytes(record.end - record.start))
    spool = open_spool(folder)
    Written(spool)
    found = lines_of(shipped(spool))
    abandon(spool)
    for trimmed in segments(folder)[:3]:
        trimmed.unlink()
    with Reading(folder, logs) as reading:
        until(lambda: not reading.reader.unread_bytes() and reading.counts("read_events"), "the gap is read again")
    for line, ids in spooled(folder).items():
        found.setdefault(line, set()).update(ids)
    once(found, app.lines)


def test_what_is_read_again_after_damage_says_that_it_may_have_been_received(folder: Path, logs: Path) -> None:
    app = read_in_portions(folder, logs)
    path = segments(folder)[0]
    overwrite(path, 0, bytes(path.stat().st_size))
    before = {record.header.record_id for segment in segments(folder) for record in data_records(segment)}
    with Reading(folder, logs) as reading:
        until(lambda: not reading.reader.unread_bytes() and reading.counts("read_events"), "it is read again")
    spool = open_spool(folder)
    again = [record.header for record in shipped(spool) if record.header.record_id not in before]
    abandon(spool)
    assert sum(header.events for header in again) == len(app.lines)
    assert all(header.flags & wire.REPLAY for header in again)


def test_what_a_power_cut_took_from_the_spool_is_read_again_as_a_possible_repeat(folder: Path, logs: Path) -> None:
    """It may have been shipped before the cut; so may a file of which no record is left."""
    app, new, disk = App(logs / "app.log"), App(logs / "new.log", "new"), FakeDisk()
    with Reading(folder, logs, disk, segment_bytes=1 << 20) as reading:
        app.write(200)
        reading.has_read(200)
        reading.spool.sync()
        app.write(20)
        new.write(20)
        reading.has_read(240)
    (path,) = segments(folder)
    os.truncate(path, disk.synced[path.stat().st_ino])
    with Reading(folder, logs) as reading:
        reading.has_read(40)
        app.write(20)
        reading.has_read(60)
    spool = open_spool(folder)
    headers = [record.header for record in shipped(spool)]
    abandon(spool)
    after = [header for header in headers if header.record_id[:8] == headers[-1].record_id[:8]]
    flagged = {name: [bool(h.flags & wire.REPLAY) for h in after if h.path == str(name)] for name in (app.path, new.path)}
    assert flagged == {app.path: [True, False], new.path: [True]}


def test_state_folder_with_any_byte_flipped(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    chance = random.Random(20260101)
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log*"]}], spool={"segment_bytes": 1 << 16})
    apps = [App(logs / f"{name}.log", name) for name in "abc"]
    for run in range(FLIPPED_RUNS):
        for app in apps:
            app.write(150)
        apps[run % 3].rename(logs / f"{apps[run % 3].name}.log.{run}")
        agent.start()
        arrived(sink, [line for app in apps for line in app.write(10)], told=agent)
        agent.kill() if run % 2 else agent.stop()
        for _ in range(FLIPS // FLIPPED_RUNS):
            files = sorted(path for path in agent.state.rglob("*") if path.is_file() and path.stat().st_size)
            path = chance.choice(files)
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
    agent.start()
    lines = [line for app in apps for line in [*app.lines, *app.write(1)]]
    arrived(sink, lines, told=agent)
    agent.settle()
    exactly_once(sink.seen(), [line for app in apps for line in app.lines])
    assert agent.stop() == 0


def test_older_agent_on_a_newer_spool(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(10), told=agent)
    assert agent.stop() == 0
    prefix = b"PSR\x02" + (3).to_bytes(4, "little") + bytes(4)
    path = segments(agent.state / "spool")[-1]
    path.write_bytes(path.read_bytes() + prefix + zlib.crc32(prefix + b"new").to_bytes(4, "little") + b"new")
    before = {path.name: path.read_bytes() for path in segments(agent.state / "spool")}
    agent.launch()
    assert agent.wait() == 1
    assert "a newer agent wrote it: start that one, or give this one another state_dir" in agent.log()
    assert "Traceback" not in agent.log()
    assert {path.name: path.read_bytes() for path in segments(agent.state / "spool")} == before
