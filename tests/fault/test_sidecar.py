"""The agent beside an app in one pod: it ends after the app's last words, in time, and writes nothing but its state."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import crash
from agent.ending import last_look_s
from tests.support.agent import REPOSITORY, AgentProcess, App, arrived, exactly_once
from tests.support.processes import children
from tests.support.sink import SinkProcess
from tests.support.wait import until

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_what_an_app_writes_while_it_is_dying_arrives(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(shutdown_quiet_s=1.5, sources=[{"name": "app", "include": [f"{logs}/*.log*"]}])
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(3), told=agent)
    agent.signal(signal.SIGTERM)
    agent.logged("stopping: reading to the end")
    for number in range(3):
        arrived(sink, app.write(2), told=agent)
        app.rename(logs / f"app.log.{number}")
    arrived(sink, app.write(2), told=agent)
    late = App(logs / "late.log", "late")
    late.write(2)
    assert agent.wait() == 0
    exactly_once(sink.seen(), [*app.lines, *late.lines])
    assert "everything that was read is acknowledged" in agent.log()


@pytest.mark.parametrize("how", ["it goes on", "it ends so", "it is gone", "it dies on the way", "it is killed, too"])
def test_a_last_line_without_its_end_leaves_and_is_one_event_whatever_becomes_of_it(
    agent: AgentProcess, sink: SinkProcess, logs: Path, how: str
) -> None:
    app = App(logs / "app.log")
    dies = how == "it dies on the way"
    agent.start(*(("env", f"{crash.ENV}=stop.read") if dies else ()))
    arrived(sink, app.write(2), told=agent)
    app.append("the app's last")
    assert agent.stop() == (-signal.SIGKILL if dies else 0)
    if not dies:
        assert "14 bytes of last lines without their ends were sent as they stand" in agent.log()
        exactly_once(sink.seen(), [*app.lines, "the app's last"])
    if how == "it is gone":
        app.path.unlink()
    elif how == "it ends so":
        app.append("\n")
        app.lines.append("the app's last")
    else:
        app.append(" words\n")
        app.lines.append("the app's last words")
    agent.start()
    if how == "it is killed, too":
        agent.kill()
        agent.start()
    other = App(logs / "other.log", "other")
    arrived(sink, other.write(1), told=agent)
    agent.settle()
    seen = sink.seen()
    exactly_once(seen, [*app.lines, *other.lines] + ["the app's last"] * (how == "it is gone"))
    assert seen.losses == []


def test_a_half_that_never_arrived_is_not_deleted_before_it_does(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """Records of the half and of the whole wait in one spool: the later one must not come first."""
    app = App(logs / "app.log")
    agent.configure(shutdown_timeout_s=0.5)
    agent.start()
    arrived(sink, app.write(1), told=agent)
    app.append("half ")
    sink.rules({"partial": True, "status": 503})
    agent.stop()
    app.append("of it, ")
    agent.start()
    agent.stop()
    app.append("and all of it\n")
    app.lines.append("half of it, and all of it")
    agent.start()
    until(lambda: agent.status()["counts"].get("read_events") == 1, "the whole is read", told=agent.log)
    arrived(sink, app.write(1), told=agent)
    sink.rules()
    agent.settle()
    exactly_once(sink.seen(), app.lines)


def test_the_last_event_of_several_lines_leaves_too_and_goes_on(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log"], "multiline": {"start": "^E", "timeout_s": 60}}])
    app = App(logs / "app.log")
    agent.start()
    app.append("E one\n  more\nE two\n  more\n  and mo")
    arrived(sink, ["E one\n  more"], told=agent)
    assert agent.stop() == 0
    exactly_once(sink.seen(), ["E one\n  more", "E two\n  more\n  and mo"])
    app.append("re\nE three\n")
    agent.start()
    arrived(sink, ["E two\n  more\n  and more"], told=agent)
    agent.stop()
    exactly_once(sink.seen(), ["E one\n  more", "E two\n  more\n  and more", "E three"])


def test_an_app_that_never_stops_writing_does_not_hold_up_the_end(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The collector hangs, too: all the time that there is is used, and no more."""
    agent.configure(shutdown_timeout_s=2, shutdown_quiet_s=60)
    app = App(logs / "app.log")
    agent.start()
    sink.rules({"contains": "", "hang": True})
    agent.signal(signal.SIGTERM)
    while agent.is_running():
        app.write(1)
    assert agent.wait() == 0
    assert "stopped with events that are not acknowledged yet" in agent.log() or "takes longer than it may" in agent.log()
    sink.rules()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_a_second_signal_ends_the_waiting(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(shutdown_timeout_s=3600, shutdown_quiet_s=1800)
    sink.stop()
    App(logs / "app.log").write(3)
    agent.start()
    until(lambda: agent.status()["counts"].get("read_events") == 3, "it is read")
    agent.signal(signal.SIGTERM)
    agent.logged("stopping: reading to the end")
    assert agent.stop() == 0


WAITS = ("--wait-to-start",)
FIRST = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def test_what_stands_in_the_way_of_a_start_can_be_waited_for(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """One thing after the other; without the option each is an end."""
    app = App(logs / "app.log")
    app.write(3)
    key = logs / "key"
    agent.configure(collector={"api_key": "", "api_key_file": str(key)}, flush_interval_s=0)
    agent.launch()
    assert agent.wait() == 2
    agent.launch(after=WAITS)
    agent.logged("the start fails: ")
    agent.configure(flush_interval_s=0.05)
    agent.logged(f"{key} cannot be read")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        agent.configure(metrics={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        key.write_text("a-key")
        agent.logged("name an address that is free here")
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert agent.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process a namespace of its own")
def test_the_first_process_of_a_container_can_be_ended_while_it_waits(agent: AgentProcess, logs: Path) -> None:
    """After a start that failed late, when it had handlers for signals, and lost them again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        agent.configure(metrics={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        agent.launch(*FIRST, after=WAITS)
        agent.logged("name an address that is free here")
        (first,) = children(agent.pid)
        os.kill(first, signal.SIGTERM)
        assert agent.wait() == 128 + signal.SIGTERM


HANGS = """
import asyncio, sys, threading
from agent import config, logs, service
from agent.reading.reader import Reader
from agent.reload import Settings
logs.start("info", "text")
Reader.run = lambda self: threading.Event().wait()
async def main():
    await service.run(Settings(config.load(sys.argv[1])))
asyncio.run(main())
"""


def test_whatever_hangs_the_process_ends_in_time(agent: AgentProcess) -> None:
    agent.configure(shutdown_timeout_s=0.5)
    with agent.config.with_name("log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", HANGS, str(agent.config)], cwd=REPOSITORY, stderr=log)
    until(agent.status, "it answers", told=agent.config.with_name("log").read_text)
    process.terminate()
    try:
        assert process.wait(40) == 0
    finally:
        process.kill()
    assert "the end takes longer than it may" in agent.config.with_name("log").read_text()


@pytest.mark.parametrize(("timeout_s", "reading_s"), [(20.0, 15.0), (60.0, 55.0), (4.0, 2.0)])
def test_acks_get_what_they_need_of_the_time_for_an_end(timeout_s: float, reading_s: float) -> None:
    assert last_look_s(timeout_s) == reading_s


@pytest.fixture
def pod() -> Iterator[Path]:
    """A folder that every user can reach, with ``state`` of nobody and ``logs`` of root. Skips where there is no such user."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount, and become somebody else")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        command = [*NOBODY, sys.executable, "-c", "import agent"]
        tried = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"another user cannot start this Python, or read this folder: {tried.stderr.strip()[-200:]}")
        (folder / "logs").mkdir()
        (folder / "state").mkdir()
        os.chown(folder / "state", 65534, 65534)
        yield folder
    finally:
        shutil.rmtree(folder)


def read_only_root(pod: Path, *, state: str) -> tuple[str, ...]:
    """In front of a command: every file system is read-only but for the state folder, which is as ``state`` says."""
    script = (
        f"mount --make-rprivate / && mount --bind {pod}/state {pod}/state && "
        "for at in / /tmp /var/tmp /dev/shm /run; do ! mountpoint -q $at || mount -o remount,bind,ro $at || exit 99; done && "
        f'mount -o remount,bind,{state} {pod}/state && exec "$@"'
    )
    return ("unshare", "--mount", "sh", "-c", script, "sh", *NOBODY)


def test_as_another_user_on_a_read_only_root_it_needs_nothing_but_its_state(
    pod: Path, sink: SinkProcess, request: pytest.FixtureRequest
) -> None:
    app = App(pod / "logs" / "app.log")
    agent = AgentProcess(pod / "config", url=sink.url, include=[app.path], state_dir=str(pod / "state"))
    agent.config.chmod(0o644)
    agent.state = pod / "state"
    app.write(3)
    request.addfinalizer(agent.kill)
    _launched(agent, *read_only_root(pod, state="rw"))
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert agent.stop() == 0
    assert [line for line in agent.log().splitlines() if " INFO " not in line] == []


@pytest.mark.parametrize(("state", "reason"), [("ro", "Read-only file system"), ("rw", "Permission denied")])
def test_a_state_folder_that_cannot_be_written_is_named(pod: Path, sink: SinkProcess, state: str, reason: str) -> None:
    os.chown(pod / "state", 0, 0)
    agent = AgentProcess(pod / "config", url=sink.url, include=[pod / "logs" / "*.log"], state_dir=str(pod / "state"))
    agent.config.chmod(0o644)
    if state == "ro":
        os.chown(pod / "state", 65534, 65534)
    agent.launch(*read_only_root(pod, state=state))
    assert agent.wait() == 1, agent.log()
    assert f"{pod / 'state'}: {reason}; state_dir must be a folder that the agent can write to" in agent.log()


def _launched(agent: AgentProcess, *before: str) -> None:
    agent.launch(*before)
    until(lambda: agent.status() or not agent.is_running(), "it answers", told=agent.log)
    if "cannot" in agent.log() and "remount" in agent.log():
        pytest.skip(f"nothing can be mounted here: {agent.log()}")
