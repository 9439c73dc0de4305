"""A disk that is full or fails under the spool: reading waits, and nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import service
from agent.config import Collector, Config, Source, SpoolConfig
from agent.errors import StateRefused, StorageFailed, StorageFull
from agent.reading import notes, recorder
from agent.reload import Settings
from agent.spool import reserve
from agent.spool import spool as spools
from agent.status import status
from tests.support.agent import SCOPE, AgentProcess, App, arrived, exactly_once
from tests.support.damage import once, overwrite
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import Written, abandon, open_spool, segments
from tests.support.wait import until

WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


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


def test_after_a_failed_fsync_nothing_is_appended_and_no_sync_succeeds(folder: Path) -> None:
    """Whoever syncs next, another thread perhaps, must not take its success for the bytes that are gone."""
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=1 << 20))
    written.append("a")
    written.spool.sync()
    size = segments(folder)[0].stat().st_size
    written.append("a")
    disk.failing_syncs = 1
    for attempt in (written.spool.sync, written.spool.sync, lambda: written.append("a")):
        with pytest.raises(StorageFailed, match="sync: Input/output error") as raised:
            attempt()
        assert not isinstance(raised.value, StorageFull), "waiting does not mend it"
    assert segments(folder)[0].stat().st_size == written.spool.size_bytes == size
    abandon(written.spool)
    assert open_spool(folder).recovery.states["a"].offset == 10


def test_a_failing_fsync_keeps_a_segment_from_being_sealed(folder: Path) -> None:
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=0))
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
        return asyncio.run(service.run(Settings(config)))
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


FAILURES = ("sync", "room", "EROFS", "EACCES", "EMFILE", "EIO", "EDQUOT")


@pytest.mark.parametrize("failure", FAILURES)
def test_an_agent_whose_disk_fails_for_a_while_goes_on_by_itself(
    tmp_path: Path,
    logs: Path,
    sink: SinkProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: str,
) -> None:
    disk = FakeDisk()
    monkeypatch.setattr(spools, "Disk", lambda: disk)
    app = App(logs / "app.log")
    wanted = set(app.write(100))
    looks = 0

    def all_there() -> bool:
        nonlocal looks
        if not looks and wanted <= sink.seen().texts.keys():
            if failure == "sync":
                disk.failing_syncs = 3
            elif failure == "room":
                disk.room_bytes = 0
            else:
                disk.refuses = getattr(errno, failure)
            wanted.update(app.write(100))
        looks += disk.refused > 2 or failure == "sync"
        if looks > 20:
            disk.room_bytes, disk.refuses = None, 0
        return looks > 20 and wanted <= sink.seen().texts.keys()

    monkeypatch.setattr(recorder, "STORAGE_RETRY_S", 0.05)
    monkeypatch.setattr(reserve, "RESERVE_BYTES", 0)
    assert in_this_process(config_of(tmp_path, logs, sink), all_there, "every line has arrived") == 0
    assert disk.failing_syncs == 0
    exactly_once(sink.seen(), app.lines)
    assert sink.seen().losses == []
    said = [record for record in caplog.records if record.levelno >= logging.WARNING and "fails" in record.getMessage()]
    assert len({record.getMessage().partition(" fails")[0] for record in said}) == len(said), "each fault is said once"


def test_a_state_folder_that_is_made_unreadable_ends_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(spool={"segment_bytes": 1024})
    app = App(logs / "app.log")
    agent.start(*WITHOUT_ROOTS_RIGHTS)
    arrived(sink, app.write(20), told=agent)
    folder = agent.state / "spool"
    folder.chmod(0)
    until(lambda: app.write(20) and "new segment: Permission denied" in agent.log(), "a segment is full", told=agent.log)
    app.write(20)
    folder.chmod(0o700)
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert agent.log().count("Permission denied") == 1
    assert agent.stop() == 0


@pytest.mark.parametrize("trouble", ["EROFS", "ENOSPC", "EACCES"])
def test_status_that_cannot_be_answered_now_is_answered_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """The socket is a file, too: a full or read-only disk must not end the agent."""
    failures, listen = [getattr(errno, trouble)] * 2, asyncio.start_unix_server

    async def may_fail(*arguments: Any) -> Any:
        if failures:
            raise OSError(failures.pop(), "no")
        return await listen(*arguments)

    async def served() -> None:
        async with status.served(tmp_path, lambda: {"pid": 7}):
            await asyncio.to_thread(until, lambda: status.ask(tmp_path) == {"pid": 7}, "it answers")

    monkeypatch.setattr(status.asyncio, "start_unix_server", may_fail)
    monkeypatch.setattr(status, "RETRY_S", 0.0)
    asyncio.run(served())
    assert failures == []


def test_the_lock_is_held_although_the_disk_has_no_room_for_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with service.locked(tmp_path), pytest.raises(StateRefused, match="another agent"), service.locked(tmp_path):
        pass


def test_a_full_disk_costs_neither_cpu_nor_log(
    folder: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked again at intervals, with one record, however many files have something to say; and with a note of them."""
    monkeypatch.setattr(recorder, "STORAGE_RETRY_S", 3600.0)
    monkeypatch.setattr(notes, "LOOK_S", 3600.0)
    monkeypatch.setattr(reserve, "RESERVE_BYTES", 0)
    apps, disk, rounds = [App(logs / f"{number}.log", f"file {number}") for number in range(20)], FakeDisk(), []
    with Reading(folder, logs, disk) as reading:
        note_acks = reading.reader._note_acks
        monkeypatch.setattr(reading.reader, "_note_acks", lambda: (rounds.append(1), note_acks()))
        disk.room_bytes = 0
        for app in apps:
            app.write(20)
        for asked in (2, 3, 4):
            until(lambda: disk.refused and reading.reader.blocked, "reading waits")
            del rounds[:]
            until(lambda: len(rounds) > 3, "it looks again")
            assert disk.refused == asked
            reading.reader.recorder.storage_retry_s = 0.0
            until(lambda asked=asked: disk.refused > asked, "it asks again")
        monkeypatch.setattr(recorder, "STORAGE_RETRY_S", 0.0)
        disk.room_bytes = None
        reading.reader.recorder.storage_retry_s = 0.0
        reading.has_read(400)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1, told
    assert "append: No space left on device; reading waits, the sources hold the data" in told[0]
    once(spooled(folder), [line for app in apps for line in app.lines])


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
    written = Written(open_spool(folder, disk, segment_bytes=0))
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
    written = Written(open_spool(folder, disk, segment_bytes=0))
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
    written = Written(open_spool(folder, disk, segment_bytes=0))
    assert disk.done == ["create 00000001.seg", "sync", "sync_folder", "create reserve"]
    written.append("a")
    written.append("a")
    assert disk.done[4:] == ["create 00000002.seg", "sync", "sync_folder", "sync", "create 00000003.seg", "sync", "sync_folder"]
    abandon(written.spool)


def test_a_segment_whose_folder_cannot_be_synced_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk()
    written = Written(open_spool(folder, disk, segment_bytes=0))

    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "sync_folder", fails)
    with pytest.raises(StorageFailed, match="new segment: Input/output error"):
        written.append("a")
    assert len(segments(folder)) == 1
    abandon(written.spool)
