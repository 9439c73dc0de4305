"""Thousands of files, and kernels and file systems that give no notices."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from agent.files import discover, mounts
from tests.support.agent import AgentProcess, arrived
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

FILES = 1500


def test_a_line_to_any_of_many_files_arrives_by_a_notice_and_few_files_are_open(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(max_open_files=32, rescan_interval_s=3600)
    for number in range(FILES):
        (logs / f"{number}.log").write_text(f"first line of file {number}\n")
    agent.start()
    until(lambda: agent.status()["counts"].get("acked_events") == FILES, "all first lines arrive", told=agent.log)
    wanted = []
    for number in range(0, FILES, 50):
        with (logs / f"{number}.log").open("a") as file:
            file.write(f"second line of file {number}\n")
        wanted.append(f"second line of file {number}")
    arrived(sink, wanted, told=agent)
    links = [os.readlink(link) for link in Path(f"/proc/{agent.status()['pid']}/fd").iterdir()]
    assert sum(link.startswith(str(logs)) for link in links) <= 32
    assert len(links) < 32 + 40


class NoNotices:
    """A kernel that has reached its limits."""

    left = 2

    def __init__(self, *settings: object) -> None:
        NoNotices.left -= 1
        if NoNotices.left >= 0:
            raise OSError("No space left on device (os error 28)")
        self._real = REAL(*settings)

    def watch(self, *settings: object) -> object:
        return self._real.watch(*settings)

    def close(self) -> None:
        self._real.close()


REAL = discover.RustNotify


def test_where_the_kernel_gives_no_notices_files_are_looked_at_and_it_is_asked_again(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(discover, "RustNotify", NoNotices)
    monkeypatch.setattr(discover, "RETRY_S", 0.0)
    with Reading(tmp_path / "spool", logs, rescan_interval_s=3600) as reading:
        (logs / "app.log").write_text("a line\n")
        reading.has_read(1)
        until(lambda: not reading.reader.walk.watcher.blind, "notices come again")
        with (logs / "app.log").open("a") as file:
            file.write("another line\n")
        reading.has_read(2)
    assert set(spooled(tmp_path / "spool")) == {"a line", "another line"}
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "no notices of file changes (No space left on device (os error 28)): looking at every file instead; "
        "raise fs.inotify limits"
    ]


def test_what_other_machines_write_is_found_by_looking(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = os.stat(logs).st_dev
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,noatime shared:1 - nfs4 server:/export rw\n")
    monkeypatch.setattr(mounts, "TABLE", table)
    monkeypatch.setattr(discover.Watcher, "wait", lambda self, timeout_s, stop: stop.wait(timeout_s) or set())
    with Reading(tmp_path / "spool", logs, rescan_interval_s=3600) as reading:
        (logs / "app.log").write_text("a line\n")
        reading.has_read(1)
        for number in range(2, 5):
            (logs / f"app{number}.log").write_text(f"line {number}\n")
            reading.has_read(number)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        f"no notices come of what other machines write to {logs} (nfs4): looking at every file instead"
    ]


def test_the_table_of_mounts_is_read_as_the_kernel_writes_it() -> None:
    assert mounts._types(
        "nonsense\n36 35 98:0 / /a\\040b rw - fuse.sshfs host:/ rw\n37 x 7:1 / /c rw shared:1 - ext4 /d rw\n"
    ) == {
        (98, 0): "fuse.sshfs",
        (7, 1): "ext4",
    }
    assert mounts.remote(["/", "/nowhere"]) == {}
