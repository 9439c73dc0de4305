"""A last line without its newline: when it counts, and when it waits. And files that leave before their first line ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from agent.codec import decompress
from agent.files import discover
from agent.reading import walk
from tests.support.agent import App
from tests.support.reading import Reading, shipped
from tests.support.spooled import abandon, open_spool
from tests.support.wait import until

pytestmark = pytest.mark.usefixtures("_impatient")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated and deleted files are looked at for their end at once."""
    monkeypatch.setattr(walk, "ROTATED_IDLE_S", 0.0)
    monkeypatch.setattr(walk, "DELETED_IDLE_S", 0.0)


def payloads(folder: Path) -> list[bytes]:
    spool = open_spool(folder)
    try:
        return [decompress(record.payload, record.header.raw_bytes) for record in shipped(spool)]
    finally:
        abandon(spool)


def some_walks(reading: Reading, logs: Path, *, name: str = "clock") -> None:
    """Until new files have been found four times."""
    for number in range(4):
        before = reading.counts("read_events")
        (logs / f"{name}{number}.log").write_text(f"{name} {number}\n")
        reading.has_read(before + 1)


def test_a_rotated_file_that_still_matches_the_globs_ends_with_its_last_line(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*.log*"]) as reading:
        app.write(3)
        app.append("without its end")
        reading.has_read(3)
        app.rename(logs / "app.log.1")
        reading.has_read(4)
        app.write(2)
        reading.has_read(6)
    assert b"without its end" in payloads(tmp_path / "spool")


def test_a_rotated_file_that_matches_ends_with_its_last_line_after_a_restart_too(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*.log*"]) as reading:
        app.write(3)
        app.append("without its end")
        reading.has_read(3)
    app.rename(logs / "app.log.1")
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*.log*"]) as reading:
        reading.has_read(1)
    assert b"without its end" in payloads(tmp_path / "spool")


def test_half_a_line_in_a_live_file_waits_however_long_nothing_comes(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs) as reading:
        app.write(3)
        app.append("half ")
        reading.has_read(3)
        some_walks(reading, logs)
        app.append("of a line\n")
        reading.has_read(8)
    assert b"half of a line\n" in payloads(tmp_path / "spool")


@pytest.mark.parametrize("why", ["the folder cannot be looked into", "the folder is away"])
def test_half_a_line_in_a_file_that_cannot_be_found_for_a_while_waits(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    away = logs / "volume"
    app, stat, siblings = App(away / "app.log"), os.stat, discover.siblings

    def forbidden(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(away)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *arguments, **options)

    with Reading(tmp_path / "spool", logs, include=[f"{logs}/**/*.log"]) as reading:
        app.write(3)
        app.append("half ")
        reading.has_read(3)
        with monkeypatch.context() as patched:
            if why == "the folder is away":
                away.rename(tmp_path / "elsewhere")
            else:
                patched.setattr(os, "stat", forbidden)
            until(lambda: any(not tail.listed for tail in reading.reader.catalog.tails.values()), "it is missed")
            some_walks(reading, logs)
        if why == "the folder is away":
            (tmp_path / "elsewhere").rename(away)
        app.append("of a line\n")
        reading.has_read(8)
    assert b"half of a line\n" in payloads(tmp_path / "spool")
    assert siblings is discover.siblings


def test_half_a_line_in_a_file_that_went_elsewhere_counts_once_another_has_its_name(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs) as reading:
        app.write(3)
        app.append("without its end")
        reading.has_read(3)
        app.path.rename(tmp_path / "unrelated")
        app.write(1)
        reading.has_read(5)
    assert b"without its end" in payloads(tmp_path / "spool")


@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_a_file_that_goes_before_its_first_line_ends_is_read_all_the_same(tmp_path: Path, logs: Path, how: str) -> None:
    path = logs / "app.log"
    with Reading(tmp_path / "spool", logs) as reading:
        path.write_text("its only line, without an end")
        until(lambda: any(tail.size for tail in list(reading.reader.catalog.tails.values())), "it is seen")
        until(lambda: any(tail.is_open for tail in list(reading.reader.catalog.tails.values())), "it is looked into")
        path.rename(logs / "app.log.1") if how == "renamed" else path.unlink()
        reading.has_read(1)
        until(lambda: not reading.reader.catalog.tails, "it is let go")
    assert payloads(tmp_path / "spool") == [b"its only line, without an end"]
