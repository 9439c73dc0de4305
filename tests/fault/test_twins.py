"""Files that look alike: a copy is not sent again, a second file is not taken for the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.files import identity
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

BODY_AT = 4096
"""Events that start below this byte are named by the file's first line, later ones by its first 4096 bytes."""
TRIES_FOR_AN_INODE = 200


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


@pytest.mark.parametrize("lines", [20, 200], ids=["shorter than what was read", "longer"])
def test_inode_reused(agent: AgentProcess, sink: SinkProcess, logs: Path, lines: int) -> None:
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
    app.write(lines)
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
