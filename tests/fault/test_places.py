"""Where files are: replaced, linked, mounted twice, moved out and back, in folders that come later, rotated under a writer."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until

WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_a_file_that_mv_replaces_is_read_to_its_end_where_it_can_be_and_its_successor_whole(
    agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path, alive: bool
) -> None:
    app, successor = App(logs / "app.log"), App(tmp_path / "made elsewhere", "successor")
    app.write(300)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    agent.freeze() if alive else agent.kill()
    successor.write(400)
    if alive:
        app.write(100)  # still behind the agent's handle
    successor.path.rename(app.path)
    agent.thaw() if alive else agent.start()
    wanted = [*app.lines, *successor.lines]
    exactly_once(arrived(sink, wanted, told=agent), wanted)
    assert sink.seen().losses == []


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_files_behind_a_data_link_that_is_exchanged(
    agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path, alive: bool
) -> None:
    """As Kubernetes exchanges what it mounts: app.log -> ..data/app.log, ..data -> ..2026_11_23, exchanged in one step."""
    first, second = App(logs / "..2026_11_23" / "app.log", "first"), App(logs / "..2026_11_24" / "app.log", "second")
    first.write(100)
    (logs / "..data").symlink_to(first.path.parent.name)
    (logs / "app.log").symlink_to("..data/app.log")
    agent.start()
    arrived(sink, first.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    first.write(50)
    second.write(100)
    (logs / "..data_tmp").symlink_to(second.path.parent.name)
    (logs / "..data_tmp").rename(logs / "..data")
    agent.thaw() if alive else agent.start()
    wanted = [*first.lines, *second.lines]
    exactly_once(arrived(sink, wanted, told=agent), wanted)
    exactly_once(arrived(sink, second.write(10), told=agent), [*first.lines, *second.lines])


@pytest.fixture
def mounted(tmp_path: Path, logs: Path) -> Iterator[Path]:
    """The folder of logs, mounted a second time."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    made = subprocess.run(["mount", "--bind", logs, folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_folder_that_is_mounted_twice_holds_each_file_once(
    agent: AgentProcess, sink: SinkProcess, logs: Path, mounted: Path
) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log", f"{mounted}/*.log"]}])
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    through = App(mounted / "app.log", "through the mount")
    through.write(100)
    app.rename(logs / "app.log.1")
    wanted = [*app.lines, *through.lines, *App(mounted / "app.log", "after").write(10)]
    exactly_once(arrived(sink, wanted, told=agent), wanted)
    assert len(agent.status()["files"]) <= 2


@pytest.mark.parametrize("lines", [10, 300], ids=["below 4096 bytes", "beyond"])
def test_a_file_that_is_moved_out_of_the_patterns_and_back_goes_on(
    agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path, lines: int
) -> None:
    app, clock = App(logs / "app.log"), App(logs / "clock.log", "clock")
    app.write(lines)
    agent.start()
    arrived(sink, [*app.lines, *clock.write(1)], told=agent)
    agent.settle()
    away = tmp_path / "away.log"
    app.path.rename(away)
    arrived(sink, tick := App(logs / "tick.log", "tick").write(1), told=agent)  # the walk that found this one has missed it
    with away.open("a") as file:
        file.write("written while it was away\n")
    away.rename(app.path)
    wanted = [*app.lines, "written while it was away", *app.write(5), *clock.write(1), *clock.lines, *tick]
    exactly_once(arrived(sink, wanted, told=agent), set(wanted))
    assert sink.seen().losses == []


def test_folders_that_come_later_are_read_at_whatever_depth(agent: AgentProcess, sink: SinkProcess, tmp_path: Path) -> None:
    later = tmp_path / "later"
    agent.configure(
        sources=[{"name": "app", "include": [f"{later}/a/*/app.log", f"{later}/deep/**/*.log"]}], rescan_interval_s=3600
    )
    agent.start()
    apps = []
    for path in ("a/one/app.log", "a/two/app.log", "deep/x/y/z.log", "deep/w.log"):
        apps.append(App(later / path, path))
        apps[-1].write(50)
        arrived(sink, apps[-1].lines, told=agent)
    wanted = [line for app in apps for line in (*app.lines, *app.write(5))]
    exactly_once(arrived(sink, wanted, told=agent), wanted)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_right_that_is_lost_and_given_back_costs_nothing(
    agent: AgentProcess, sink: SinkProcess, tmp_path: Path, what: str
) -> None:
    """Also with bytes that are known and unread: as long as nobody can look, nothing says that they are lost."""
    app = App(tmp_path / "apps" / "one" / "app.log")
    agent.configure(sources=[{"name": "app", "include": [f"{app.path.parent}/*.log"]}], shutdown_partial=False)
    closed = app.path if what == "file" else app.path.parent
    app.write(20)
    agent.start(*WITHOUT_ROOTS_RIGHTS)
    arrived(sink, app.lines, told=agent)
    app.append("half a line, ")
    until(lambda: agent.status()["unread_bytes"] == 13, "the unread bytes are known")
    assert agent.stop() == 0
    app.append("and its rest\n")
    app.write(20)
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        agent.start(*WITHOUT_ROOTS_RIGHTS)
        until(lambda: "cannot be told: " in agent.log() or sink.seen().losses, "it has looked", told=agent.log)
        assert "Permission denied" in agent.log()
        assert sink.seen().ids == 20
    finally:
        closed.chmod(mode)
    wanted = [*app.lines, "half a line, and its rest"]
    exactly_once(arrived(sink, wanted, told=agent), wanted)
    assert sink.seen().losses == []


def test_several_rotations_between_two_looks(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze()
    for _ in range(4):
        app.write(100)
        for number in range(4, 0, -1):
            if (logs / f"app.log.{number}").exists():
                (logs / f"app.log.{number}").rename(logs / f"app.log.{number + 1}")
        app.rename(logs / "app.log.1")
    app.write(10)
    agent.thaw()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert sink.seen().losses == []


def test_logrotate_meets_a_hard_link(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """With a second link logrotate returns 0 and does not rotate: the agent makes none, whatever it holds."""
    agent.configure(spool={"max_bytes": 4 << 20, "segment_bytes": 1 << 20})
    app = App(logs / "app.log")
    app.write(10)
    sink.stop()
    with agent:
        until(lambda: agent.status()["counts"].get("read_events") == 10, "it is read")
        app.rename(logs / "app.log.1")
        app.write(10)
        until(lambda: agent.status()["counts"].get("read_events") == 20, "the next one is, too")
        paths = [path for folder in (logs, agent.state) for path in folder.rglob("*") if path.is_file()]
        assert {path.name: path.stat().st_nlink for path in paths} == {path.name: 1 for path in paths}
        assert len({path.stat().st_ino for path in paths}) == len(paths)


def test_copytruncate_under_a_writer_that_never_stops(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """What was written between the copy and the cut is in neither file: the tool loses it, unless the agent was quicker."""
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    path, over, count = logs / "app.log", threading.Event(), [0]

    def write() -> None:
        with path.open("a", buffering=1) as file:
            while not over.is_set():
                file.write(f"line {count[0]:07d} of a writer that never stops\n")
                count[0] += 1
                over.wait(0.0005)

    path.touch()
    agent.start()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in (1, 2, 3):
            enough = 300 * number
            until(lambda enough=enough: count[0] > enough, "something is written")
            (logs / f"app.log.{number}").write_bytes(path.read_bytes())
            os.truncate(path, 0)
    finally:
        over.set()
        writer.join()
    kept = {line for file in logs.iterdir() for line in file.read_text().split("\n")[:-1]}
    seen = arrived(sink, kept, told=agent)
    assert {text for text, ids in seen.texts.items() if len(ids) != 1} == set()
    assert seen.texts.keys() <= {f"line {number:07d} of a writer that never stops" for number in range(count[0])}


GIB = 1 << 30


def test_fifty_gigabytes_of_live_logs_at_restart(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """A checksum over all that was read would read it again: marks are enough, and the first new line comes at once."""
    apps = [App(logs / f"{number}.log", f"app {number}") for number in range(5)]
    for app in apps:
        app.write(100)
        os.truncate(app.path, 10 * GIB)
        if app.path.stat().st_blocks * 512 > GIB:
            pytest.skip("this file system has no sparse files")
        app.append("the hole ends here\n")
        app.write(100)
    agent.configure(start="end")
    read = []
    agent.start()
    until(lambda: "are skipped" in agent.log(), "it has begun at the ends", told=agent.log)
    for _ in range(2):
        wanted = [line for app in apps for line in app.write(1)]
        arrived(sink, wanted, told=agent)
        agent.settle()
        io = Path(f"/proc/{agent.status()['pid']}/io").read_text()
        read.append(int(io.split("rchar: ")[1].split()[0]))
        agent.kill()
        wanted += [line for app in apps for line in app.write(1)]
        agent.start()
        arrived(sink, wanted, told=agent)
    assert max(read) < 60 << 20, "imports and a few marks"
    assert sink.seen().events < 100
