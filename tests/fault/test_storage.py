"""What happens to the spool and to the disk under it: nothing is lost, nothing gets a second ID, nobody has to help."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import reader, service, wire
from agent import spool as spools
from agent.codec import decompress
from agent.config import Collector, Config, Source, SpoolConfig
from agent.errors import StorageFailed, StorageFull
from agent.segment import scan
from tests.support.agent import SCOPE, AgentProcess, App, arrived, exactly_once
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, lines_of, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import Written, abandon, open_spool, segments
from tests.support.wait import until

FLIPS, FLIPPED_RUNS, KILLS = 10, 5, 10
FILES, HANDLES = 150, 64
ROTATED_AT_BYTES = 30_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a spool."""
    return tmp_path / "spool"


def once(found: dict[str, set[str]], lines: list[str]) -> None:
    assert sorted(found) == sorted(lines)
    assert {line: ids for line, ids in found.items() if len(ids) != 1} == {}


def read_in_portions(folder: Path, logs: Path, *, portions: int = 12) -> App:
    """A file in a spool of several segments, a record each few lines."""
    app = App(logs / "app.log")
    with Reading(folder, logs) as reading:
        for _ in range(portions):
            app.write(20)
            reading.has_read(len(app.lines))
    return app


def data_records(path: Path) -> list[wire.Record]:
    found = scan(path.read_bytes(), last=False)
    return [item for item in found if isinstance(item, wire.Record) and item.header.kind == wire.DATA]


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


# Damage ---------------------------------------------------------------------------------------------------------------


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
    prefix = b"PSR" + bytes([wire.VERSIONS[-1] + 1]) + (3).to_bytes(4, "little") + bytes(4)
    path = segments(agent.state / "spool")[-1]
    path.write_bytes(path.read_bytes() + prefix + zlib.crc32(prefix + b"new").to_bytes(4, "little") + b"new")
    before = {path.name: path.read_bytes() for path in segments(agent.state / "spool")}
    agent.launch()
    assert agent.wait() == 1
    assert "a newer agent wrote it: start that one, or give this one another state_dir" in agent.log()
    assert "Traceback" not in agent.log()
    assert {path.name: path.read_bytes() for path in segments(agent.state / "spool")} == before


# A disk that fails ----------------------------------------------------------------------------------------------------


def test_fsync_fails_once_then_succeeds(folder: Path, logs: Path) -> None:
    """The pages it failed on are gone, although the next one reports success: the spool goes back to what it has proven."""
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(folder, logs, disk) as reading:
        app.write(20)
        reading.has_read(20)
        reading.spool.sync()
        app.write(20)
        reading.has_read(40)
        disk.failing_syncs = 1
        with pytest.raises(StorageFailed, match="sync: Input/output error"):
            reading.spool.sync()
    once(spooled(folder), app.lines[:20])
    with Reading(folder, logs) as reading:
        reading.has_read(20)
    once(spooled(folder), app.lines)


def test_a_failing_fsync_keeps_a_segment_from_being_sealed(folder: Path) -> None:
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=1))
    written.append("a")
    disk.failing_syncs = 1
    with pytest.raises(StorageFailed, match="sync"):
        written.append("a")
    assert len(segments(folder)) == 2
    abandon(written.spool)
    assert Written(open_spool(folder, disk)).offset("a") == 0


def in_this_process(config: Config, condition: Callable[[], object], what: str) -> int:
    """Run an agent until a condition holds, then SIGTERM it. Returns its exit code."""
    over = threading.Event()

    def end() -> None:
        try:
            until(lambda: over.is_set() or condition(), what)
        finally:
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=end)
    watching.start()
    try:
        return asyncio.run(service.run(config))
    finally:
        over.set()
        watching.join()


def config_of(tmp_path: Path, logs: Path, sink: SinkProcess) -> Config:
    return Config(
        sources=(Source("app", (f"{logs}/*.log",)),),
        collector=Collector(url=sink.url, api_key="a-key"),
        spool=SpoolConfig(fsync_interval_s=0.02),
        state_dir=str(tmp_path / "state"),
        scope=SCOPE,
        flush_interval_s=0.02,
        rescan_interval_s=0.2,
    )


@pytest.mark.parametrize("failure", ["sync", "room"])
def test_an_agent_whose_disk_fails_for_a_while_starts_again_by_itself(
    tmp_path: Path, logs: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    disk = FakeDisk()
    monkeypatch.setattr(spools, "Disk", lambda: disk)
    if failure == "sync":
        disk.failing_syncs = 3
    else:
        disk.room_bytes = 0
    app = App(logs / "app.log")
    app.write(100)
    looks = []

    def all_there() -> bool:
        looks.append(disk.room_bytes)
        if len(looks) > 20:
            disk.room_bytes = None
        return set(app.lines) <= sink.seen().texts.keys()

    assert in_this_process(config_of(tmp_path, logs, sink), all_there, "every line has arrived") == 0
    assert disk.failing_syncs == 0
    exactly_once(sink.seen(), app.lines)


def test_full_disk(folder: Path, logs: Path) -> None:
    """Reading waits, and goes on where it was when there is room."""
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(folder, logs, disk) as reading:
        app.write(20)
        reading.has_read(20)
        disk.room_bytes = 100
        app.write(20)
        until(lambda: reading.reader.blocked, "reading waits")
        assert reading.counts("read_events") == 20
        assert reading.error is None
        app.rename(logs / "app.log.1")
        app.write(20)
        disk.room_bytes = None
        reading.has_read(60)
        until(lambda: not reading.reader.blocked, "it says so")
    once(spooled(folder), app.lines)


def test_a_half_written_record_leaves_no_trace(folder: Path) -> None:
    disk = FakeDisk()
    written = Written(open_spool(folder, disk))
    written.append("a")
    before, size = segments(folder)[0].read_bytes(), written.spool.size_bytes
    disk.room_bytes = 50
    with pytest.raises(StorageFull, match="append: No space left on device"):
        written.append("a", payload=b"x" * 500)
    assert segments(folder)[0].read_bytes() == before
    assert written.spool.size_bytes == size
    disk.room_bytes = None
    name = written.append("a")
    assert [record.header.record_id for record in shipped(written.spool)][-1] == name
    abandon(written.spool)


@pytest.mark.parametrize("room_bytes", [0, 50])
def test_no_room_for_a_new_segment_leaves_the_old_one_in_use(folder: Path, room_bytes: int) -> None:
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=1))
    written.append("a")
    before = segments(folder)
    disk.room_bytes = room_bytes
    with pytest.raises(StorageFull, match="new segment: No space left on device"):
        written.append("a")
    assert segments(folder) == before
    disk.room_bytes = None
    written.append("a")
    assert len(list(shipped(written.spool))) == 2
    abandon(written.spool)


def fill(folder: Path, disk: FakeDisk, records: int = 5) -> Written:
    written = Written(open_spool(folder, disk, segment_bytes=1))
    for _ in range(records):
        written.append("a")
    return written


def test_full_disk_while_trimming(folder: Path) -> None:
    """Freeing a segment writes nothing, so a full disk frees itself as acks come in."""
    disk = FakeDisk()
    written = fill(folder, disk)
    disk.room_bytes = 0
    with pytest.raises(StorageFull):
        written.append("a")
    disk.done.clear()
    for _ in range(3):
        run = written.spool.next_run(max_bytes=1, max_raw_bytes=1)
        assert run is not None
        written.spool.ack(run.entries)
    assert disk.done == [f"remove 0000000{number}.seg" for number in (1, 2, 3)]
    written.append("a")
    abandon(written.spool)


@pytest.mark.parametrize("damage", ["empty", "torn", "flipped"])
def test_a_start_on_a_full_disk_ships_what_is_there_which_makes_room(folder: Path, damage: str) -> None:
    disk = FakeDisk()
    abandon(fill(folder, disk).spool)
    last = segments(folder)[-1]
    whole = last.read_bytes()
    flipped = segments(folder)[-2]
    if damage == "flipped":
        overwrite(flipped, flipped.stat().st_size - 1, b"\0")
    else:
        last.write_bytes(b"" if damage == "empty" else whole[:-1])
    disk.room_bytes = 0
    written = Written(open_spool(folder, disk))
    read_before = written.offset("a")
    with pytest.raises(StorageFull):
        written.append("a")
    while run := written.spool.next_run(max_bytes=1, max_raw_bytes=1):
        written.spool.ack(run.entries)
    assert damage != "flipped" or flipped.exists(), "until a new head says so, only the damage tells what is missing"
    written.append("a")
    assert len(segments(folder)) <= 3
    abandon(written.spool)
    assert open_spool(folder).recovery.states["a"].offset == read_before + 10


def test_new_segment_without_folder_sync(folder: Path) -> None:
    """A segment counts only when a power cut can no longer take it: its bytes first, then its name."""
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=1))
    assert disk.done == ["create 00000001.seg", "sync", "sync_folder"]
    written.append("a")
    written.append("a")
    assert disk.done[3:] == ["create 00000002.seg", "sync", "sync_folder", "sync", "create 00000003.seg", "sync", "sync_folder"]
    abandon(written.spool)


def test_a_segment_whose_folder_cannot_be_synced_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=1))

    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "sync_folder", fails)
    with pytest.raises(StorageFailed, match="new segment: Input/output error"):
        written.append("a")
    assert len(segments(folder)) == 1
    abandon(written.spool)


# Sources that go, losses ----------------------------------------------------------------------------------------------


def test_source_deleted_between_append_and_fsync(folder: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted file is let go of only when all that was read of it is synced."""
    monkeypatch.setattr(reader, "DELETED_IDLE_S", 0.0)
    app, disk = App(logs / "app.log"), FakeDisk()
    let_go: list[bool] = []
    with Reading(folder, logs, disk, segment_bytes=1 << 20) as reading:
        finish = reading.reader.catalog.finish

        def watched(*arguments: object) -> None:
            segment = segments(folder)[-1].stat()
            let_go.append(disk.synced[segment.st_ino] == segment.st_size)
            finish(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(reading.reader.catalog, "finish", watched)
        app.write(20)
        reading.has_read(20)
        app.path.unlink()
        until(lambda: let_go, "it is let go")
    assert let_go == [True]


def test_a_source_deleted_before_an_fsync_that_fails_is_a_loss_and_not_silent(folder: Path, logs: Path) -> None:
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(folder, logs, disk) as reading:
        app.write(20)
        reading.has_read(20)
        app.append("never finished")
        until(lambda: reading.reader.unread_bytes() == 14, "the size is known")
        reading.spool.note_files()
        reading.spool.sync()
        app.append("\n")
        reading.has_read(21)
        disk.failing_syncs = 1
        with pytest.raises(StorageFailed):
            reading.spool.sync()
        app.path.unlink()
    with Reading(folder, logs) as reading:
        until(lambda: reading.counts("lost_bytes"), "the loss is told")
    (loss,) = losses_in(folder)
    assert (loss.reason, loss.lost_bytes, loss.at_least) == ("deleted_before_read", 14, True)


def losses_in(folder: Path) -> list[wire.Loss]:
    """The losses that the spool in this folder tells."""
    spool = open_spool(folder)
    told = [record for record in shipped(spool) if record.header.kind == wire.LOSS]
    abandon(spool)
    return [loss for record in told for loss in wire.decode_losses(decompress(record.payload, record.header.raw_bytes))]


def lose_14_bytes(folder: Path, logs: Path) -> App:
    """A file that is gone with 14 bytes unread, which the spool knows and has not told."""
    app = App(logs / "app.log")
    with Reading(folder, logs) as reading:
        app.write(20)
        reading.has_read(20)
        app.append("never finished")
        until(lambda: reading.reader.unread_bytes() == 14, "the size is known")
        reading.spool.note_files()
    app.path.unlink()
    return app


def test_kill_between_loss_and_offset(folder: Path, logs: Path) -> None:
    """A loss may be told again after a kill, under the same ID: it is counted once."""
    lose_14_bytes(folder, logs)
    for _ in range(2):
        with Reading(folder, logs) as reading:
            until(lambda reading=reading: reading.counts("lost_bytes"), "the loss is told")
    losses = losses_in(folder)
    assert len(losses) == 2
    assert len({loss.loss_id for loss in losses}) == 1


def test_a_loss_that_the_next_head_knows_of_is_not_told_again(folder: Path, logs: Path) -> None:
    lose_14_bytes(folder, logs)
    with Reading(folder, logs) as reading:
        until(lambda: losses_in(folder), "the loss is told")
        reading.spool.note_files()
    app = App(logs / "other.log")
    with Reading(folder, logs) as reading:
        app.write(1)
        reading.has_read(1)
    assert len(losses_in(folder)) == 1


def test_a_loss_on_a_full_disk_is_told_when_there_is_room(folder: Path, logs: Path) -> None:
    lose_14_bytes(folder, logs)
    disk = FakeDisk()
    disk.room_bytes = 0
    with Reading(folder, logs, disk) as reading:
        until(lambda: reading.error or reading.counts("lost_bytes"), "the loss is found")
        assert reading.error is None
        disk.room_bytes = None
        until(lambda: losses_in(folder), "the loss is told")
        assert reading.error is None
        assert reading.counts("lost_bytes") == 14
    assert len(losses_in(folder)) == 1


# Handles and kills ----------------------------------------------------------------------------------------------------


def test_emfile(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """Far more files than handles: all are read, in turns."""
    apps = [App(logs / f"{number}.log", f"file {number}") for number in range(FILES)]
    for app in apps:
        app.write(5)
    agent.start("prlimit", f"--nofile={HANDLES}:{HANDLES}")
    arrived(sink, [line for app in apps for line in app.lines], told=agent)
    lines = [line for app in apps for line in app.write(2)]
    arrived(sink, lines, told=agent)
    assert agent.stop() == 0
    exactly_once(sink.seen(), [line for app in apps for line in app.lines])
    assert sink.seen().losses == []


def test_killed_in_a_loop_while_the_app_writes_and_rotates(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    chance = random.Random(20260102)
    app = App(logs / "app.log")
    stop, pause = threading.Event(), 0.01

    def write() -> None:
        rotations = 0
        while not stop.wait(pause):
            app.write(chance.randrange(1, 20))
            if app.path.stat().st_size > ROTATED_AT_BYTES:
                rotations += 1
                app.rename(logs / f"app.log.{rotations}")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(KILLS):
            agent.launch()
            enough = sink.seen().runs + chance.randrange(1, 6)
            until(lambda enough=enough: sink.seen().runs >= enough, "runs arrive", told=agent.log)
            agent.kill()
    finally:
        stop.set()
        writing.join()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert sink.seen().losses == []
