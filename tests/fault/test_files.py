"""What happens to log files, on real files with a real agent: every line arrives, under one ID.

Lines of a test differ from each other, so that a line with two IDs is a line stored twice, and a line without one is lost.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.codec import decompress
from agent.files import identity
from agent.reading import walk
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import abandon, open_spool
from tests.support.wait import until

BODY_AT = 4096
"""Events that start below this byte are named by the file's first line, later ones by its first 4096 bytes."""
TRIES_FOR_AN_INODE = 200


def forget_everything(agent: AgentProcess) -> None:
    """As when the state's volume is lost."""
    agent.state.rename(agent.state.with_name("state-that-was-lost"))


def test_lines_written_before_and_after_the_start_arrive_once(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    app.write(500)
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_half_a_line_then_the_rest(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app, other = App(logs / "app.log"), App(logs / "other.log", "other")
    app.write(3)
    app.append("half ")
    agent.start()
    half_size = app.path.stat().st_size
    until(lambda: any(file["size_bytes"] == half_size for file in agent.status()["files"]), "the half line is seen")
    arrived(sink, other.write(3), told=agent)
    assert "half " not in sink.seen().texts
    app.append("of a line\n")
    exactly_once(arrived(sink, ["half of a line"], told=agent), [*app.lines, *other.lines, "half of a line"])


def test_power_cut_leaves_source_shorter(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(2000)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    os.truncate(app.path, app.path.stat().st_size - 30_007)
    app.append(" <- this line was cut\n")
    after = App(app.path, "after")
    after.write(100)
    agent.start()
    seen = arrived(sink, after.lines, told=agent)
    cut = [text for text in seen.texts if text.endswith("this line was cut")]
    assert len(cut) == 1
    exactly_once(seen, [*app.lines, *cut, *after.lines])


def test_a_file_cut_back_while_the_agent_looks_away_keeps_its_ids(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(1000)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    agent.freeze()
    os.truncate(app.path, 61 * 500)
    kept, app.lines = app.lines, app.lines[:500]
    again = App(app.path, "again")
    again.write(100)
    agent.thaw()
    exactly_once(arrived(sink, again.lines, told=agent), [*kept, *again.lines])


def test_copytruncate_copy_is_shorter_than_the_offset(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    app = App(logs / "app.log")
    app.write(1995)
    agent.start()
    arrived(sink, app.lines, told=agent)
    (logs / "app.log.1").write_bytes(app.path.read_bytes())
    arrived(sink, app.write(5), told=agent)
    os.truncate(app.path, 0)
    arrived(sink, app.write(50), told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)


@pytest.mark.parametrize("include", ["*.log", "*.log*"])
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_rename_rotation_loses_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path, alive: bool, include: str) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/{include}"]}])
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    app.write(100)
    app.rename(logs / "app.log.1")
    app.write(100)
    agent.thaw() if alive else agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_rotated_out_of_the_glob_while_down(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    app.write(500)
    app.path.rename(logs / "app.log-20260101")
    App(logs / "app.log", "next").write(3)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    assert sink.seen().losses == []


def test_several_rotations_while_down_lose_nothing_that_is_still_there(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    for number in range(3, 0, -1):
        app.write(100)
        app.rename(logs / f"app.log.{number}")
    app.write(1)
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_copytruncate_rotation_loses_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path, alive: bool) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    app.write(100)
    app.copytruncate(logs / "app.log.1")
    app.write(100)
    agent.thaw() if alive else agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_regrown_past_the_offset(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    agent.freeze()
    os.truncate(app.path, 0)
    app.write(200)
    agent.thaw()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_what_is_cut_away_unread_is_a_loss_record(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    sink.stop()
    agent.settle()
    app.append("never finished")
    unread = app.path.stat().st_size
    until(lambda: agent.status()["unread_bytes"] == len("never finished"), "the unread bytes are known")
    app.path.write_text("")
    App(app.path, "after").write(1)
    sink.start()
    agent.logged("cut_before_read")
    losses = until(lambda: sink.seen().losses, "the loss is told", told=agent.log)
    assert [(loss["reason"], loss["lost_bytes"], loss["at_least"]) for loss in losses] == [("cut_before_read", 14, True)]
    assert losses[0]["offset"] == unread - 14
    assert agent.status()["lost_bytes"] == 14


def test_a_file_deleted_while_it_is_open_is_read_to_its_end(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze()
    app.write(1000)
    app.path.unlink()
    agent.thaw()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_a_file_deleted_unread_while_the_agent_was_down_is_a_loss_record(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(shutdown_partial=False)
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    app.append("never finished")
    until(lambda: agent.status()["unread_bytes"] == 14, "the unread bytes are known")
    assert agent.stop() == 0
    app.path.unlink()
    agent.start()
    losses = until(lambda: sink.seen().losses, "the loss is told", told=agent.log)
    assert [(loss["reason"], loss["at_least"]) for loss in losses] == [("deleted_before_read", True)]


def test_lines_keep_their_ids_when_the_state_is_deleted(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app, other = App(logs / "app.log"), App(logs / "other.log", "other")
    app.write(500)
    other.write(20)
    agent.start()
    arrived(sink, [*app.lines, *other.lines], told=agent)
    before = sink.seen().events
    assert agent.stop() == 0
    forget_everything(agent)
    agent.start()
    until(lambda: sink.seen().events == 2 * before, "all is sent again", told=agent.log)
    exactly_once(sink.seen(), [*app.lines, *other.lines])


def test_rotated_files_keep_their_ids_when_the_state_is_deleted(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    app = App(logs / "app.log")
    for number in (2, 1):
        app.write(200)
        app.rename(logs / f"app.log.{number}")
    app.write(200)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    forget_everything(agent)
    (logs / "app.log.2").rename(logs / "app.log.3")
    agent.start()
    until(lambda: sink.seen().events == 2 * len(app.lines), "all is sent again", told=agent.log)
    exactly_once(sink.seen(), app.lines)


def test_equal_headers_side_by_side(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    apps = [App(logs / f"{name}.log", name) for name in ("a", "b")]
    for app in apps:
        app.append("# the same header in every file\n")
        app.write(500)
    agent.start()
    wanted = [line for app in apps for line in app.lines]
    arrived(sink, wanted, told=agent)
    agent.settle()
    agent.kill()
    forget_everything(agent)
    apps[0].path.rename(logs / "z.log")
    agent.start()
    until(lambda: sink.seen().events == 2 * (len(wanted) + 2), "all is sent again", told=agent.log)
    twice = {text for text, ids in sink.seen().texts.items() if len(ids) > 1}
    known_limit = {line for app in apps for line in app.lines[: BODY_AT // len(app.lines[0])]}
    assert twice <= known_limit | {"# the same header in every file"}


def test_fixed_header_nine_rotations(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    apps = [App(logs / f"app.log.{number}", f"rotation {number}") for number in range(9, 0, -1)] + [App(logs / "app.log")]
    for app in apps:
        app.append("# the same header in every file\n")
        app.write(200)
    agent.start()
    wanted = [line for app in apps for line in app.lines]
    arrived(sink, wanted, told=agent)
    agent.kill()
    forget_everything(agent)
    apps[0].path.unlink()
    for app in apps[1:]:
        app.path.rename(app.path.with_name(f"app.log.{int(app.path.suffix[1:].replace('log', '0')) + 1}"))
    before = sink.seen().events
    agent.start()
    until(lambda: sink.seen().events >= before + 9 * 201, "all is sent again", told=agent.log)
    twice = {text for text, ids in sink.seen().texts.items() if len(ids) > 1}
    known_limit = {line for app in apps for line in app.lines[: BODY_AT // len(app.lines[0])]}
    assert twice <= known_limit | {"# the same header in every file"}


def test_equal_job_logs(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The same few lines every day, without a time in them: each day's count."""
    job = logs / "job.log"
    job.write_text("begin\nwork\nend\n")
    agent.start()
    arrived(sink, ["begin", "work", "end"], told=agent)
    for days in (2, 3):
        (logs / "job.tmp").write_text("begin\nwork\nend\n")
        (logs / "job.tmp").rename(job)
        until(lambda days=days: sink.seen().events == 3 * days, f"day {days} arrives", told=agent.log)
    assert {text: len(ids) for text, ids in sink.seen().texts.items()} == {"begin": 3, "work": 3, "end": 3}


def test_an_equal_job_log_written_while_the_agent_is_down_counts(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    job = logs / "job.log"
    job.write_text("begin\nwork\nend\n")
    agent.start()
    arrived(sink, ["begin", "work", "end"], told=agent)
    agent.settle()
    agent.kill()
    (logs / "job.tmp").write_text("begin\nwork\nend\n")
    (logs / "job.tmp").rename(job)
    agent.start()
    until(lambda: sink.seen().ids >= 6, "the second day arrives", told=agent.log)  # the first one may be sent again
    assert {text: len(ids) for text, ids in sink.seen().texts.items()} == {"begin": 2, "work": 2, "end": 2}


def test_inode_reused(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    agent.kill()
    inode = app.path.stat().st_ino
    app.path.unlink()
    for number in range(TRIES_FOR_AN_INODE):
        again = logs / f"try-{number}"
        again.touch()
        if again.stat().st_ino == inode:
            break
    else:
        pytest.skip("this file system does not give an inode number again soon")
    again.rename(app.path)
    app.write(200)
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_a_copy_beside_a_large_file_is_not_sent(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    (logs / "copy.log").write_bytes(app.path.read_bytes())
    until(lambda: len(agent.status()["files"]) == 2, "the copy is seen")
    app.write(500)
    agent_saw = App(logs / "other.log", "other").write(1)
    arrived(sink, [*app.lines, *agent_saw], told=agent)
    exactly_once(sink.seen(), [*app.lines, *agent_saw])
    assert sink.seen().events == 1001


def test_killed_again_and_again_while_the_app_writes(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    rotations = 0
    for number in range(8):
        app.write(300)
        agent.start()
        before = sink.seen().events
        app.write(300)
        if number % 3 == 2:
            rotations += 1
            app.rename(logs / f"app.log.{rotations}")
        until(lambda before=before: sink.seen().events > before, "something new arrives", told=agent.log)
        app.write(300)
        agent.kill()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


# With a reader in this process ----------------------------------------------------------------------------------------


def test_look_alikes_that_differ_beyond_their_header_are_told_apart_in_one_walk(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SETTLE_S", 3600.0)
    apps = [App(logs / f"{number:02}.log", f"file {number}") for number in range(30)]
    for app in apps:
        app.append("# the same header in every file\n")
        app.write(100)
    assert all(app.path.stat().st_size > BODY_AT for app in apps)
    with Reading(tmp_path / "spool", logs, rescan_interval_s=3600) as reading:
        reading.has_read(30 * 101)
    found = spooled(tmp_path / "spool")
    assert len(found.pop("# the same header in every file")) == 30
    assert {line: len(ids) for line, ids in found.items()} == {line: 1 for app in apps for line in app.lines}


def test_two_short_files_with_equal_lines_are_two_after_a_while(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but time tells a copy below 4 KiB from a second file; then it is shipped: a copy can be recognised later."""
    monkeypatch.setattr(identity, "SETTLE_S", 3600.0)
    for name in "ab":
        (logs / f"{name}.log").write_text("started\n")
    with Reading(tmp_path / "spool", logs) as reading:
        App(logs / "other.log").write(1)
        reading.has_read(2)
        assert reading.counts("read_events") == 2
        monkeypatch.setattr(identity, "SETTLE_S", 0.0)
        reading.has_read(3)
    assert len(spooled(tmp_path / "spool")["started"]) == 2


def test_a_file_whose_first_line_never_ends_holds_up_no_look_alike(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SETTLE_S", 3600.0)
    (logs / "a.log").write_text("x" * 2000)
    (logs / "b.log").write_text("x" * 1500 + "\nsecond line\n")
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(2)
        (logs / "c.log").write_text("x" * 2000 + "\n")
        monkeypatch.setattr(identity, "SETTLE_S", 0.0)
        reading.has_read(3)
    assert set(spooled(tmp_path / "spool")) == {"x" * 1500, "second line", "x" * 2000}


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


def test_a_file_that_stopped_growing_beyond_4096_is_known_in_its_copy(
    logs: Path, sink: SinkProcess, agent: AgentProcess
) -> None:
    app = App(logs / "app.log")
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log*"]}])
    agent.start()
    app.write(10, width=99)
    arrived(sink, app.lines, told=agent)
    app.write(31, width=99)
    arrived(sink, app.lines, told=agent)
    agent.settle()
    app.copytruncate(logs / "app.log.1")
    agent.logged("holds other content now")
    app.write(1)
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


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
