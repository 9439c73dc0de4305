"""Open files: what is only reachable through its handle stays open, also when the reader has to begin again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.errors import StorageFailed
from agent.files.holding import Held
from agent.files.tail import Tail
from tests.support.agent import App
from tests.support.damage import losses_in
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, spooled
from tests.support.wait import until


def fails(reading: Reading, other: Path) -> None:
    """Let the disk fail under the spool; the reader ends by that."""
    reading.disk.failing_syncs = 1000
    number = 0
    while reading.error is None:
        number += 1
        App(other, f"noise {number}").write(200)
        until(lambda wanted=number: reading.error or reading.counts("read_events") >= 200 * wanted, "it is read, or it fails")
    assert isinstance(reading.error, StorageFailed)


@pytest.mark.parametrize("how", ["deleted", "renamed"])
@pytest.mark.parametrize("synced", [True, False], ids=["synced", "never synced"])
def test_a_file_that_has_no_name_any_more_outlives_a_disk_that_fails(
    tmp_path: Path, logs: Path, how: str, synced: bool
) -> None:
    app, held = App(logs / "app.log"), Held()
    with Reading(tmp_path / "spool", logs, held=held, segment_bytes=20_000) as reading:
        app.write(100)
        reading.has_read(100)
        if synced:
            reading.spool.sync()
        app.write(100)
        reading.has_read(200)
        app.path.unlink() if how == "deleted" else app.path.rename(tmp_path / "where nobody looks")
        fails(reading, logs / "other.log")
    with Reading(tmp_path / "spool", logs, held=held) as reading:
        until(
            lambda: set(app.lines) <= set(spooled_of(reading, tmp_path)),
            "every line is in the spool",
            told=reading.ledger.counts,
        )
        assert reading.counts("lost_bytes") == 0
    held.close()
    found = spooled(tmp_path / "spool")
    assert {line: len(found[line]) for line in app.lines} == dict.fromkeys(app.lines, 1)


def spooled_of(reading: Reading, tmp_path: Path) -> dict[str, set[str]]:
    assert reading.error is None, reading.error
    return spooled(tmp_path / "spool")


def test_losses_that_a_failing_disk_kept_out_of_the_spool_are_told_by_the_next_reader(tmp_path: Path, logs: Path) -> None:
    app, held = App(logs / "app.log"), Held()
    with Reading(tmp_path / "spool", logs, held=held) as reading:
        app.write(5)
        app.append("never finished")
        reading.has_read(5)
        until(lambda: reading.reader.unread_bytes() == 14, "the half line is seen")
        reading.disk.failing_syncs = 1000
        app.path.write_text("")
        until(lambda: reading.error, "the loss cannot be synced")
    assert [loss.lost_bytes for loss in held.losses] == [14]
    with Reading(tmp_path / "spool", logs, held=held) as reading:
        until(lambda: losses_in(tmp_path / "spool"), "it is told")
    assert {loss.lost_bytes for loss in losses_in(tmp_path / "spool")} == {14}
    held.close()


def test_what_has_lost_its_name_unnoticed_is_not_closed_for_others(tmp_path: Path, logs: Path) -> None:
    """InactiveCloseReopenWithSlowOutputLosesData: room for handles is made when nobody has looked at the file for long."""
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(tmp_path / "spool", logs, disk, max_open_files=8, rescan_interval_s=3600, polling=True) as reading:
        app.write(10)
        reading.has_read(10)
        tail = next(iter(reading.reader.catalog.tails.values()))
        handles = tail._handles
        app.write(10)
        app.path.unlink()
        handles._limit = 1
        handles.make_room()
        assert tail.is_open
        handles._limit = 8
        reading.has_read(20)
    assert set(spooled(tmp_path / "spool")) == set(app.lines)


def test_trouble_with_a_file_is_not_told_any_more_when_it_is_over(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, broken, look = App(logs / "app.log"), [False], Tail.look

    def looked(tail: Tail) -> int:
        if broken[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return look(tail)

    monkeypatch.setattr(Tail, "look", looked)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(len(app.write(3)))
        (tail,) = reading.reader.catalog.tails.values()
        broken[0] = True
        app.write(1)
        until(lambda: tail.error, "the trouble is told")
        broken[0] = False
        reading.has_read(len(app.lines))
        until(lambda: not tail.error, "it is over")
