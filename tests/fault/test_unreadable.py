"""Files that cannot be read for a while are neither lost nor new."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.files import identity
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until


def opens_fail(monkeypatch: pytest.MonkeyPatch, under: Path, number: int) -> tuple[threading.Event, list[str]]:
    """Let opening files whose path begins so fail while the event is set; what has failed is in the list."""
    opens, failing = os.open, threading.Event()
    failed: list[str] = []

    def sometimes(path: Any, *arguments: Any, **options: Any) -> int:
        if failing.is_set() and str(path).startswith(str(under)):
            failed.append(str(path))
            raise OSError(number, os.strerror(number))
        return opens(path, *arguments, **options)

    monkeypatch.setattr(os, "open", sometimes)
    return failing, failed


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_for_a_while_is_no_loss_and_keeps_its_ids(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """After a start nothing is open, and for a while nothing can be opened: files are neither lost nor new."""
    monkeypatch.setattr(identity, "SETTLE_S", 0.1)
    small, large = App(logs / "small.log", "small"), App(logs / "large.log", "large")
    apps = (small, large)
    with Reading(tmp_path / "spool", logs) as reading:
        for app in apps:
            app.write(5 if app is small else 200)
            app.append("without its end")
        reading.has_read(205)
        reading.spool.note_files()
    for app in apps:
        app.append(" which came later\n")
        app.rename(logs / f"{app.name}.log.1")
    failing, failed = opens_fail(monkeypatch, logs, number)
    failing.set()
    with Reading(tmp_path / "spool", logs) as reading:
        until(lambda: len(failed) > 20, "it has tried to open them for several walks")
        assert reading.error is None
        failing.clear()
        reading.has_read(2)
        assert reading.counts("lost_bytes") == 0
    found = spooled(tmp_path / "spool")
    last = "without its end which came later"
    assert len(found.pop(last)) == 2
    assert {line: len(ids) for line, ids in found.items()} == {line: 1 for app in apps for line in app.lines}


def test_a_short_look_alike_of_a_file_that_cannot_be_read_now_is_not_taken_for_it(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SETTLE_S", 0.1)
    app = App(logs / "app.log")
    app.write(5)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(5)
    failing, failed = opens_fail(monkeypatch, app.path, errno.EIO)
    failing.set()
    with Reading(tmp_path / "spool", logs) as reading:
        until(lambda: failed, "it has tried")
        (logs / "twin.log").write_bytes(app.path.read_bytes())
        reading.has_read(5)
    assert [len(ids) for ids in spooled(tmp_path / "spool").values()] == [2] * 5


def test_a_folder_that_was_away_comes_back_with_the_same_files(logs: Path, sink: SinkProcess, agent: AgentProcess) -> None:
    app = App(logs / "app.log")
    app.write(5)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.stop()
    logs.rename(logs.with_name("away"))
    agent.start()
    agent.settle()
    logs.with_name("away").rename(logs)
    app.write(1)
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
