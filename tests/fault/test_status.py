"""The command ``status``: of a running agent, of one that ended, and while it comes and goes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

from agent.status import status
from tests.support.agent import REPOSITORY, AgentProcess, App, arrived
from tests.support.sink import SinkProcess
from tests.support.wait import DEADLINE_S, until


class Watch:
    """``status --watch`` as a process; what it has printed so far is ``text``."""

    def __init__(self, agent: AgentProcess, *arguments: str, terminal: bool = False) -> None:
        command = [sys.executable, "-m", "agent", "status", "--watch", "--interval", "0.1", "--config", str(agent.config)]
        self._from, to = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen([*command, *arguments], cwd=REPOSITORY, stdout=to)
        os.close(to)
        self.text = ""

    def shows(self, wanted: str) -> None:
        """Wait until ``wanted`` is printed; what was printed until then is forgotten."""
        until(lambda: self._read() and wanted in self.text, f"it shows {wanted!r}", told=lambda: self.text)
        self.text = self.text.partition(wanted)[2]

    def _read(self) -> bool:
        ready, _, _ = select.select([self._from], [], [], 0.05)
        if ready:
            self.text += os.read(self._from, 65536).decode()
        return True

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            os.close(self._from)


def test_status_is_watched_over_a_restart_of_the_agent(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.start()
    watch = Watch(agent)
    watch.shows(f"pid {agent.status()['pid']}, sending: ")
    agent.kill()
    watch.shows("no agent runs\n")
    agent.start()
    arrived(sink, app.write(7), told=agent)
    watch.shows("acknowledged 7\n")
    assert watch.end() == 0


def test_on_a_terminal_status_stays_in_place(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    with agent:
        watch = Watch(agent, terminal=True)
        watch.shows("\x1b[2J\x1b[Hagent pid ")
        arrived(sink, app.write(3), told=agent)
        watch.shows(f"\x1b[Hagent pid {agent.status()['pid']}")
        watch.shows("acked_events 3")
        assert watch.end() == 0


def test_status_of_an_agent_that_does_not_run_shows_what_its_state_holds(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(shutdown_timeout_s=0.5)
    sink.stop()
    App(logs / "app.log").write(4)
    assert "no agent runs" in agent.command("status").stdout, "before the first start"
    with agent:
        until(lambda: agent.status()["counts"].get("read_events") == 4, "it is read")
    said = agent.command("status")
    assert said.returncode == 1
    assert f"no agent runs on {agent.state}" in said.stdout
    assert "4 events in the spool are not acknowledged" in said.stdout
    assert str(logs / "app.log") in said.stdout
    told = json.loads(agent.command("status", "--json").stdout)
    assert (told["running"], told["unsent_events"], told["files"][0]["read_offset"]) == (False, 4, 4 * 61)


def test_status_names_what_was_lost_by_file_and_reason(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(3), told=agent)
    app.append("half of a line")
    until(lambda: agent.status()["unread_bytes"] == 14, "half a line is seen")
    app.path.write_text("")
    until(lambda: agent.status()["lost_bytes"], "it is lost", told=agent.log)
    assert agent.status()["losses"] == [{"path": str(app.path), "reason": "cut_before_read", "bytes": 14, "times": 1}]
    assert f"! lost: 14 bytes of {app.path} (cut_before_read, 1 times)" in agent.command("status").stdout


def test_a_state_folder_that_is_not_there_yet_has_no_agent_however_long_its_name(tmp_path: Path) -> None:
    assert status.ask(tmp_path / ("a-long-name-" * 15) / "state") is None
