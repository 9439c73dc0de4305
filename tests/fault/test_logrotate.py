"""logrotate itself, Debian's, on files that an app goes on writing to, under a running agent and over its death.

Every line that the app wrote arrives once. With copytruncate that holds for every line that logrotate has left: what is
written between its copy and its truncation is in no file, and whether the agent was quicker is chance.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, arrived
from tests.support.sink import SinkProcess
from tests.support.wait import until

LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
ROTATIONS = 3
LINES_BEFORE_REOPENING = 20
"""An app goes on for a while with the file that was renamed."""

pytestmark = pytest.mark.skipif(
    LOGROTATE is None, reason="logrotate is not installed (Debian, Ubuntu: apt-get install logrotate)"
)


class Writer:
    """An app that never stops. Its log is opened anew some lines after the name leads elsewhere.

    Between logrotate's rename and its `create` the name leads nowhere: the app goes on with the file that it has. One
    that made the file itself then would be moved out of logrotate's way, under a name with `.backup`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        path.touch()

    def _run(self) -> None:
        fd = self._open()
        while not self._stop.is_set():
            for _ in range(LINES_BEFORE_REOPENING):
                line = f"line {len(self.lines):06d} ".ljust(80, ".")
                os.write(fd, f"{line}\n".encode())
                self.lines.append(line)
            self._stop.wait(0.01)
            with contextlib.suppress(FileNotFoundError):
                elsewhere = self._open()
                os.close(fd)
                fd = elsewhere
        os.close(fd)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def _own_folder(logs: Path) -> None:
    """logrotate refuses a folder that others may write to."""
    logs.chmod(0o755)


def rotate(folder: Path, log: Path, directives: str) -> None:
    """Once, whatever logrotate thinks of the time."""
    assert LOGROTATE is not None
    settings = folder / "logrotate.conf"
    settings.write_text(f"{log} {{\n rotate 50\n missingok\n {directives}\n}}\n")
    settings.chmod(0o644)
    done = subprocess.run(
        [LOGROTATE, "--force", "--state", str(folder / "logrotate.state"), str(settings)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def wait_for_another_second() -> None:
    now_s = int(time.time())
    until(lambda: int(time.time()) != now_s, "a date of its own for each file")


PLAIN = {
    "create": "create",
    "copytruncate": "copytruncate",
    "dateext": "create\n dateext\n dateformat -%Y%m%d-%s",
    "dateext with copytruncate": "copytruncate\n dateext\n dateformat -%s",
    "compress": "create\n compress",
    "delaycompress": "create\n compress\n delaycompress",
}


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.parametrize("directives", PLAIN.values(), ids=PLAIN)
def test_logrotate_under_a_running_agent(
    directives: str, agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path
) -> None:
    """Patterns that rotated names match, as in the example, where they stay as they are; else they are known by content."""
    patterns = [logs / "app.log"] if "compress" in directives else [logs / "app.log*"]
    agent.configure(sources=[{"name": "app", "include": list(map(str, patterns))}])
    agent.start()
    with Writer(logs / "app.log") as app:
        for _ in range(ROTATIONS):
            seen_so_far(agent, sink, app)
            rotate(tmp_path, app.path, directives)
            if "dateext" in directives:
                wait_for_another_second()
        seen_so_far(agent, sink, app)
    check(app, sink, agent, logs, truncated="copytruncate" in directives)


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.parametrize("directives", ["create", "copytruncate"])
@pytest.mark.parametrize("pattern", ["app.log*", "app.log"])
def test_logrotate_while_the_agent_is_dead(
    directives: str, pattern: str, agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path
) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/{pattern}"]}])
    agent.start()
    with Writer(logs / "app.log") as app:
        for _ in range(ROTATIONS):
            seen_so_far(agent, sink, app)
            agent.kill()
            written = len(app.lines)
            until(lambda written=written: len(app.lines) > written + 100, "the app goes on")
            rotate(tmp_path, app.path, directives)
            agent.start()
        seen_so_far(agent, sink, app)
    check(app, sink, agent, logs, truncated=directives == "copytruncate")


def seen_so_far(agent: AgentProcess, sink: SinkProcess, app: Writer) -> None:
    """The agent has come to what is being written now."""
    written = len(app.lines)
    until(lambda: len(app.lines) > written + 60, "the app goes on")
    until(lambda: set(app.lines[written:]) & sink.seen().texts.keys(), "what is written now has arrived", told=agent.log)


def check(app: Writer, sink: SinkProcess, agent: AgentProcess, logs: Path, *, truncated: bool) -> None:
    """Every line once."""
    wanted = set(app.lines)
    if truncated:
        wanted = {line for path in logs.iterdir() if path.is_file() for line in path.read_text().splitlines()}
        assert wanted <= set(app.lines)
    seen = arrived(sink, wanted, told=agent)
    agent.settle()
    seen = sink.seen()
    assert seen.texts.keys() <= set(app.lines)
    assert {line: names for line, names in seen.texts.items() if len(names) != 1} == {}
    assert truncated or seen.losses == []
