"""What cannot be kept is told: once, with its reason, also over kills and on a full disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import wire
from agent.errors import StorageFailed
from agent.reading import walk
from agent.spool.segment import scan
from tests.support.agent import App
from tests.support.damage import losses_in
from tests.support.disk import FakeDisk
from tests.support.reading import Reading
from tests.support.spooled import segments
from tests.support.wait import until


def test_source_deleted_between_append_and_fsync(folder: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted file is let go of only when all that was read of it is synced."""
    monkeypatch.setattr(walk, "DELETED_IDLE_S", 0.0)
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
        reading.has_told()
    (loss,) = losses_in(folder)
    assert (loss.reason, loss.lost_bytes, loss.at_least) == ("deleted_before_read", 14, True)


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
            reading.has_told()
    losses = losses_in(folder)
    assert len(losses) == 2
    assert len({loss.loss_id for loss in losses}) == 1


def test_a_segment_that_begins_before_a_loss_is_told_does_not_call_its_file_done(folder: Path, logs: Path) -> None:
    """The loss itself may need a new segment: killed between its head and the loss, the next start has to tell it."""
    lose_14_bytes(folder, logs)
    disk = FakeDisk()
    with Reading(folder, logs, disk, segment_bytes=1) as reading:
        until(lambda: losses_in(folder), "the loss is told")
    last = segments(folder)[-1]
    (loss,) = [item for item in scan(last.read_bytes()) if isinstance(item, wire.Record) and item.header.kind == wire.LOSS]
    os.truncate(last, loss.start)
    with Reading(folder, logs) as reading:
        until(lambda: reading.reader.walk.next_s, "it has looked")
    assert [found.lost_bytes for found in losses_in(folder)] == [14]


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


@pytest.mark.parametrize("walks", ["cheap", "dear"])
def test_a_loss_on_a_full_disk_is_told_when_there_is_room(
    folder: Path, logs: Path, walks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where walks are so dear that the next one, of idle files, would be due in days."""
    if walks == "dear":
        monkeypatch.setattr(walk, "DEAR_WALK_S", 0.0)
        monkeypatch.setattr(walk, "IDLE_COST_FACTOR", 1e9)
    lose_14_bytes(folder, logs)
    disk = FakeDisk()
    disk.room_bytes = 0
    with Reading(folder, logs, disk) as reading:
        until(lambda: reading.error or reading.counts("lost_bytes"), "the loss is found")
        assert reading.error is None
        refused = disk.refused
        until(lambda: disk.refused > refused + 3, "telling is tried again and again")
        disk.room_bytes = None
        until(lambda: losses_in(folder), "the loss is told")
        assert reading.error is None
        assert reading.counts("lost_bytes") == 14
    assert len(losses_in(folder)) == 1
