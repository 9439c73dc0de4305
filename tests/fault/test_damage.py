"""Damage to what the state folder holds: nothing is lost, nothing gets a second ID, nobody has to help."""

from __future__ import annotations

import errno
import json
import os
import random
import zlib
from pathlib import Path

import pytest

from agent import wire
from agent.errors import StateAway
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.damage import data_records, losses_in, once, overwrite, read_in_portions
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, lines_of, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import Written, abandon, open_spool, segments
from tests.support.wait import until

FLIPS, FLIPPED_RUNS = 3, 5


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


def restarted_without_a_gap(folder: Path, logs: Path, app: App) -> None:
    """One more life of a reader; then every line is in the spool once."""
    with Reading(folder, logs) as reading:
        app.write(5)
        size = app.path.stat().st_size
        until(lambda: {s.offset for s in list(reading.reader.catalog.states.values())} == {size}, "all is read")
        assert reading.error is None
    once(spooled(folder), app.lines)


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "last"])
def test_a_damaged_record_whose_source_is_gone_is_a_loss_of_its_bytes_and_no_more(folder: Path, logs: Path, which: int) -> None:
    app = read_in_portions(folder, logs)
    path = [path for path in segments(folder) if len(data_records(path)) > 1][which]  # what is behind it says how far it went
    record = data_records(path)[0]
    overwrite(path, record.start, bytes(record.end - record.start))
    app.path.unlink()
    for _ in range(2):
        with Reading(folder, logs) as reading:
            until(lambda reading=reading: reading.reader.walk.next_s, "it has looked")
            assert reading.error is None
    losses = {loss.loss_id: loss for loss in losses_in(folder)}
    (loss,) = losses.values()
    header = record.header
    assert (loss.reason, loss.offset, loss.at_least) == ("spool_record_damaged", header.source_from, False)
    assert loss.lost_bytes == header.source_to - header.source_from
    assert len(spooled(folder)) == len(app.lines) - header.events


def test_a_damaged_record_whose_source_is_there_is_no_loss(folder: Path, logs: Path) -> None:
    app = read_in_portions(folder, logs)
    path = segments(folder)[1]
    record = data_records(path)[0]
    overwrite(path, record.start, bytes(record.end - record.start))
    restarted_without_a_gap(folder, logs, app)
    app.path.unlink()
    with Reading(folder, logs) as reading:
        until(lambda: reading.reader.walk.next_s, "it has looked")
    assert losses_in(folder) == []


def test_what_is_intact_behind_a_bad_byte_of_the_last_segment_is_kept(folder: Path, logs: Path) -> None:
    """Its source may be gone: all that is lost is what the bad record held."""
    app = App(logs / "app.log")
    with Reading(folder, logs, segment_bytes=1 << 20) as reading:
        for _ in range(5):
            app.write(20)
            reading.has_read(len(app.lines))
    (path,) = segments(folder)
    record = data_records(path)[1]
    overwrite(path, record.end - 1, b"\0")
    assert len(spooled(folder)) == len(app.lines) - record.header.events
    restarted_without_a_gap(folder, logs, app)
    assert len(segments(folder)) > 1, "what is appended goes behind a new head, which has the last word"


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "last"])
def test_a_segment_that_cannot_be_read_is_gone_round(folder: Path, logs: Path, which: int) -> None:
    """A bad sector, or somebody's folder of that name: named, left where it is, its lines are read again."""
    app = read_in_portions(folder, logs)
    path = segments(folder)[which]
    path.unlink()
    path.mkdir()
    restarted_without_a_gap(folder, logs, app)
    assert path.is_dir()
    restarted_without_a_gap(folder, logs, app)


@pytest.mark.parametrize(
    "stray", ["1.seg", "x.seg", "000000001.seg", "٠٠٠٠٠٠٠١.seg", "00000001.seg.bak", "99999999999999999999.seg"]
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_segment_by_its_name_is_left_alone(folder: Path, logs: Path, stray: str, kind: str) -> None:
    app = read_in_portions(folder, logs, portions=2)
    if kind == "file":
        (folder / stray).write_bytes(b"somebody's")
    else:
        (folder / stray).mkdir()
    restarted_without_a_gap(folder, logs, app)
    assert (folder / stray).exists()


def test_no_handles_left_at_the_start_is_no_damage(folder: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All would be read again for something that is over in a moment."""
    read_in_portions(folder, logs, portions=2)

    def fails(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(StateAway, match="Too many open files"):
        open_spool(folder)


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


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_state_folder_with_any_byte_flipped(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """Several bytes of every kind of file that is there: segments, quarantine, dead letters, the lock. It starts by itself, and
    costs at most that lines are read again."""
    chance = random.Random(20260101)
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log*"]}], spool={"segment_bytes": 1 << 16})
    refusal = {"type": "application/json", "body": json.dumps({"error": {"code": "bad_record", "message": "no"}})}
    sink.rules({"contains": "poison", "status": 400, **refusal}, {"contains": "refused", "refuse": "no"})
    apps = [App(logs / f"{name}.log", name) for name in "abc"]
    agent.start()
    for name in ("poison", "refused"):  # alone in their runs: what is flipped in them is about them only
        App(logs / f"{name}.log", name).write(20)
        agent.settle()
    flipped: set[str] = set()
    for run in range(FLIPPED_RUNS):
        for app in apps:
            app.write(150)
        apps[run % 3].rename(logs / f"{apps[run % 3].name}.log.{run}")
        if run:
            agent.start()
        arrived(sink, [line for app in apps for line in app.write(10)], told=agent)
        agent.kill() if run % 2 else agent.stop()
        for path in sorted(path for path in agent.state.rglob("*") if path.is_file() and path.stat().st_size):
            flipped.add(path.suffix or path.name)
            for _ in range(FLIPS):
                flip(path, chance.randrange(path.stat().st_size), chance.randrange(8))
    assert flipped == {".seg", ".rec", ".ndjson", "lock", "reserve"}
    agent.start()
    lines = [line for app in apps for line in [*app.lines, *app.write(1)]]
    arrived(sink, lines, told=agent)
    agent.settle()
    seen = sink.seen()
    assert seen.losses == [], "every source is there"
    apart = {text for text in seen.texts if text.startswith(("poison", "refused"))}
    wanted = [line for app in apps for line in app.lines]
    exactly_once(seen._replace(texts={text: names for text, names in seen.texts.items() if text not in apart}), wanted)
    assert agent.stop() == 0


def test_older_agent_on_a_newer_spool(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(10), told=agent)
    assert agent.stop() == 0
    prefix = b"PSR" + bytes([wire.VERSIONS[-1] + 1]) + (3).to_bytes(4, "little") + bytes(4)
    path = segments(agent.state / "spool")[-1]
    path.write_bytes(path.read_bytes() + prefix + zlib.crc32(prefix + b"new").to_bytes(4, "little") + b"new")
    before = {path.name: path.read_bytes() for path in segments(agent.state / "spool")}
    agent.launch()
    assert agent.wait() == 1
    assert "a newer agent wrote it: start that one, or give this one another state_dir" in agent.log()
    assert "Traceback" not in agent.log()
    assert {path.name: path.read_bytes() for path in segments(agent.state / "spool")} == before
