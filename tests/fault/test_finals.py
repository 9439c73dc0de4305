"""Files that go: read to their end, with a last line that has none, and only then let go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent import wire
from agent.codec import decompress
from agent.reading import walk
from agent.spool import reserve
from tests.support.agent import App
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, shipped, spooled
from tests.support.spooled import abandon, open_spool
from tests.support.wait import until


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated and deleted files count as final at once."""
    monkeypatch.setattr(walk, "ROTATED_IDLE_S", 0.0)
    monkeypatch.setattr(walk, "DELETED_IDLE_S", 0.0)


def finished(reading: Reading) -> Callable[[], bool]:
    return lambda: any(state.finished for state in list(reading.reader.catalog.states.values()))


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_a_file_that_goes_is_read_to_its_end_with_a_last_line_that_has_none(tmp_path: Path, logs: Path, how: str) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs, segment_bytes=1 << 20) as reading:
        app.write(10)
        reading.has_read(10)
        app.write(2000, width=1000)
        app.append("without its end")
        app.path.rename(logs / "app.log.1") if how == "renamed" else app.path.unlink()
        until(finished(reading), "it is let go", told=lambda: reading.error)
        assert not reading.reader.catalog.tails
    records = all_records(tmp_path / "spool")
    raw = b"".join(decompress(record.payload, record.header.raw_bytes) for record in records)
    assert raw == "".join(f"{line}\n" for line in app.lines).encode() + b"without its end"
    assert [bool(record.header.flags & wire.PARTIAL) for record in records] == [False] * (len(records) - 1) + [True]


@pytest.mark.usefixtures("_impatient")
def test_a_file_that_goes_while_the_disk_is_full_is_not_let_go_before_it_is_read(tmp_path: Path, logs: Path) -> None:
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(tmp_path / "spool", logs, disk) as reading:
        app.write(10)
        reading.has_read(10)
        disk.room_bytes = 0
        app.write(10)
        until(lambda: reading.reader.blocked, "reading waits")
        app.path.unlink()
        other = App(logs / "other.log", "other")
        other.write(1)
        until(lambda: len(reading.reader.catalog.tails) == 2, "it walks")
        assert not finished(reading)()
        disk.room_bytes = None
        until(finished(reading), "it is let go")
        reading.has_read(21)
        assert reading.counts("lost_bytes") == 0
    assert set(spooled(tmp_path / "spool")) == {*app.lines, *other.lines}


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("include", "killed"), [("app.log", False), ("app.log*", True)], ids=["alive", "killed"])
def test_a_rotated_file_with_unread_bytes_is_finished_however_long_that_takes(
    tmp_path: Path, logs: Path, include: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated three times while nothing can be read, looked at again and again beyond every time for which a rotated file is
    watched; also by an agent that was started meanwhile, where the patterns match what that has never seen."""
    monkeypatch.setattr(reserve, "RESERVE_BYTES", 0)  # what a note does not need of it is room for a few lines
    app, disk = App(logs / "app.log"), FakeDisk()

    def goes_on(reading: Reading) -> None:
        app.write(100)
        walks_on(reading)
        reading.disk.room_bytes = None
        reading.has_read(400 if killed else 500)
        assert reading.counts("lost_bytes") == 0

    with Reading(tmp_path / "spool", logs, include=[f"{logs}/{include}"]) as reading:
        app.write(100)
        reading.has_read(100)
        reading.disk.room_bytes = 0
        for _ in range(3):
            app.write(100)
            walks_on(reading)
            rotated(app)
        walks_on(reading)
        if not killed:
            goes_on(reading)
    if killed:
        disk.room_bytes = 0
        with Reading(tmp_path / "spool", logs, disk, include=[f"{logs}/{include}"]) as reading:
            goes_on(reading)
    assert {line: len(ids) for line, ids in spooled(tmp_path / "spool").items()} == dict.fromkeys(app.lines, 1)


def rotated(app: App) -> None:
    """As logrotate does: .1 becomes .2 and so on."""
    for number in (2, 1):
        if (path := app.path.with_name(f"app.log.{number}")).exists():
            path.rename(app.path.with_name(f"app.log.{number + 1}"))
    app.rename(app.path.with_name("app.log.1"))


def walks_on(reading: Reading) -> None:
    before = reading.reader.catalog._contents.walks
    until(lambda: reading.error or reading.reader.catalog._contents.walks > before + 10, "it walks again and again")


@pytest.mark.usefixtures("_impatient")
def test_more_rotated_files_than_may_be_open_are_all_finished(tmp_path: Path, logs: Path) -> None:
    apps = [App(logs / f"{number}.log", f"file {number}") for number in range(30)]
    with Reading(tmp_path / "spool", logs, max_open_files=8, segment_bytes=1 << 20) as reading:
        for app in apps:
            app.write(5)
        reading.has_read(5 * len(apps))
        reading.disk.room_bytes = 0
        for app in apps:
            app.write(100)
            app.rename(app.path.with_suffix(".log.1"))
            app.write(5)
        walks_on(reading)
        reading.disk.room_bytes = None
        reading.has_read(110 * len(apps))
        assert reading.counts("lost_bytes") == 0
    wanted = [line for app in apps for line in app.lines]
    assert {line: len(ids) for line, ids in spooled(tmp_path / "spool").items()} == dict.fromkeys(wanted, 1)


@pytest.mark.usefixtures("_impatient")
def test_a_last_line_without_its_end_waits_for_room_like_any_other(
    tmp_path: Path, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(tmp_path / "spool", logs, disk) as reading:
        app.write(10)
        reading.has_read(10)
        disk.room_bytes = 0
        app.append("without its end")
        until(lambda: reading.reader.unread_bytes() == 15, "it is seen")
        app.path.unlink()
        until(lambda: "reading waits, the sources hold the data" in caplog.text, "it has tried")
        assert not finished(reading)()
        disk.room_bytes = None
        until(finished(reading), "it is let go")
    records = all_records(tmp_path / "spool")
    assert decompress(records[-1].payload, records[-1].header.raw_bytes) == b"without its end"


def all_records(folder: Path) -> list[wire.Record]:
    spool = open_spool(folder)
    found = list(shipped(spool))
    abandon(spool)
    return found
