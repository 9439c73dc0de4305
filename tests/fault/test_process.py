"""The agent as a process among others: how it starts, what it does without room or rights, how it ends."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until

MIB = 1 << 20
WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def test_sigterm_reads_to_the_end_and_waits_for_the_acks(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(1), told=agent)
    agent.freeze()
    app.write(20_000)
    agent.thaw()
    assert agent.stop() == 0
    exactly_once(sink.seen(), app.lines)
    assert "everything that was read is acknowledged" in agent.log()


def test_what_cannot_be_sent_before_the_end_is_said_and_sent_by_the_next_start(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(shutdown_timeout_s=0.5)
    sink.stop()
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    assert agent.stop() == 0
    assert "stopped with events that are not acknowledged yet" in agent.log()
    app.path.unlink()
    sink.start()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_a_stopped_agent_ships_nothing_twice(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    assert agent.stop() == 0
    agent.start()
    arrived(sink, app.write(10), told=agent)
    agent.settle()
    assert set(sink.seen().deliveries.values()) == {1}


def test_two_agents_on_one_state_folder(agent: AgentProcess, sink: SinkProcess, tmp_path: Path, logs: Path) -> None:
    agent.start()
    first = agent.status()["pid"]
    second = AgentProcess(tmp_path / "second", url=sink.url, include=[logs / "*.log"], state_dir=str(agent.state))
    second.launch()
    assert second.wait() == 1
    assert f"another agent (pid {first} on " in second.log()
    assert "give this one its own state_dir" in second.log()
    app = App(logs / "app.log")
    exactly_once(arrived(sink, app.write(3), told=agent), app.lines)


def test_a_killed_agent_leaves_no_lock_behind(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.start()
    agent.kill()
    agent.start()
    arrived(sink, App(logs / "app.log").write(3), told=agent)


def test_an_unreadable_file_is_named_and_read_once_it_can_be(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    closed, app = App(logs / "closed.log", "closed"), App(logs / "app.log")
    closed.write(5)
    closed.path.chmod(0)
    agent.start(*WITHOUT_ROOTS_RIGHTS)
    agent.logged(f"{closed.path}: cannot be read: Permission denied")
    arrived(sink, app.write(5), told=agent)
    file = next(file for file in agent.status()["files"] if file["path"] == str(closed.path))
    assert (file["state"], file["error"]) == ("undecided", "Permission denied")
    closed.path.chmod(0o600)
    exactly_once(arrived(sink, closed.lines, told=agent), [*app.lines, *closed.lines])


def test_a_folder_that_appears_later_is_found(agent: AgentProcess, sink: SinkProcess, tmp_path: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{tmp_path}/later/*/app.log"]}], rescan_interval_s=3600)
    agent.start()
    app = App(tmp_path / "later" / "service" / "app.log")
    exactly_once(arrived(sink, app.write(5), told=agent), app.lines)


def test_polling_finds_what_no_notice_tells(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(polling=True, rescan_interval_s=3600)
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(5), told=agent)
    app.write(5)
    app.rename(logs / "app.log.1")
    exactly_once(arrived(sink, [*app.lines, *app.write(5)], told=agent), app.lines)


def test_many_files_are_read_with_few_handles(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(max_open_files=8)
    apps = [App(logs / f"{number}.log", f"file {number}") for number in range(40)]
    wanted = [line for app in apps for line in app.write(5)]
    agent.start()
    exactly_once(arrived(sink, wanted, told=agent), wanted)


def test_a_full_spool_blocks_the_reading_and_loses_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    max_bytes = 20 * MIB
    agent.configure(spool={"segment_bytes": 2 * MIB, "max_bytes": max_bytes})
    sink.stop()
    app = App(logs / "app.log")
    app.lines = [base64.b64encode(os.urandom(100_000)).decode() for _ in range(240)]
    app.append("".join(f"{line}\n" for line in app.lines))
    agent.start()
    until(lambda: agent.status()["reading"] == "waiting for room in the spool", "the spool is full", told=agent.log)
    held = sum(path.stat().st_size for path in (agent.state / "spool").iterdir())
    assert held <= max_bytes
    assert "the spool is full" in agent.log()
    app.rename(logs / "app.log.1")
    app.write(10)
    sink.start()
    agent.settle()
    exactly_once(arrived(sink, app.lines[-10:], told=agent), app.lines)
    agent.settle()
    assert sum(path.stat().st_size for path in (agent.state / "spool").iterdir()) < held
    assert agent.status()["reading"] == "ok"
