"""logrotate itself, Debian's, on files that an app goes on writing to, under a running agent and over its death.

Every line that the app wrote arrives once. With copytruncate that holds for every line that logrotate has left: what is
written between its copy and its truncation is in no file, and whether the agent was quicker is chance. The same goes for
what the app adds to a renamed file that is compressed at once, while no agent holds that open. Nothing is told to be lost but
of such lines.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, arrived
from tests.support.sink import SinkProcess
from tests.support.wait import until

LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
ROTATIONS = 3
LINES_BEFORE_REOPENING = 20
LINE_BYTES = 80
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
                line = f"line {len(self.lines):06d} ".ljust(LINE_BYTES, ".")
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
    "olddir": "create\n olddir old",
    "olddir with compress": "create\n compress\n olddir old",
    "olddir with copytruncate": "copytruncate\n olddir old",
}


@pytest.fixture
def _a_folder_for_old_ones(logs: Path) -> None:
    (logs / "old").mkdir(mode=0o755)


@pytest.mark.usefixtures("_own_folder", "_a_folder_for_old_ones")
@pytest.mark.parametrize("directives", PLAIN.values(), ids=PLAIN)
def test_logrotate_under_a_running_agent(
    directives: str, agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path
) -> None:
    """Patterns that rotated names match, as in the example, where they stay as they are; else they are known by content."""
    follow(agent, "app.log" if "compress" in directives else "app.log*", logs, directives)
    agent.start()
    with Writer(logs / "app.log") as app:
        for _ in range(ROTATIONS):
            seen_so_far(agent, sink, app)
            rotate(tmp_path, app.path, directives)
            if "dateext" in directives:
                wait_for_another_second()
        seen_so_far(agent, sink, app)
    check(app, sink, agent, logs, wanted=left_in(logs) if "copytruncate" in directives else app.lines)
    assert "copytruncate" in directives or sink.seen().losses == []


WHILE_DEAD = [
    ("create", "app.log*"),
    ("create", "app.log"),
    ("copytruncate", "app.log*"),
    ("copytruncate", "app.log"),
    ("compress", "app.log*"),
    ("compress", "app.log"),
    ("delaycompress", "app.log"),
    ("olddir", "app.log"),
    ("olddir with compress", "app.log"),
    ("olddir with copytruncate", "app.log"),
]


@pytest.mark.usefixtures("_own_folder", "_a_folder_for_old_ones")
@pytest.mark.parametrize(("name", "pattern"), WHILE_DEAD)
def test_logrotate_while_the_agent_is_dead(
    name: str, pattern: str, agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path
) -> None:
    follow(agent, pattern, logs, PLAIN[name])
    agent.start()
    with Writer(logs / "app.log") as app:
        for _ in range(ROTATIONS):
            seen_so_far(agent, sink, app)
            agent.kill()
            written = len(app.lines)
            until(lambda written=written: len(app.lines) > written + 100, "the app goes on")
            rotate(tmp_path, app.path, PLAIN[name])
            agent.start()
        seen_so_far(agent, sink, app)
    whole = "copytruncate" not in name and not name.endswith("with compress") and name != "compress"
    check(app, sink, agent, logs, wanted=app.lines if whole else left_in(logs))
    assert "copytruncate" in name or sink.seen().losses == []


def follow(agent: AgentProcess, pattern: str, logs: Path, directives: str) -> None:
    olddir = {"olddir": "old"} if "olddir" in directives else {}
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/{pattern}"], **olddir}])


def seen_so_far(agent: AgentProcess, sink: SinkProcess, app: Writer) -> None:
    """The agent has come to what is being written now."""
    written = len(app.lines)
    until(lambda: len(app.lines) > written + 60, "the app goes on")
    until(lambda: set(app.lines[written:]) & sink.seen().texts.keys(), "what is written now has arrived", told=agent.log)


def left_in(logs: Path) -> list[str]:
    """The lines in all files that logrotate has left."""
    found = []
    for path in filter(Path.is_file, logs.rglob("*")):
        data = path.read_bytes()
        found += (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return found


def check(app: Writer, sink: SinkProcess, agent: AgentProcess, logs: Path, *, wanted: Iterable[str]) -> None:
    """Each of these lines has arrived, and no line of the app has more than one ID."""
    assert set(wanted) <= set(app.lines)
    arrived(sink, wanted, told=agent)
    agent.settle()
    seen = sink.seen()
    assert seen.texts.keys() <= set(app.lines)
    assert {line: names for line, names in seen.texts.items() if len(names) != 1} == {}
    assert sorted(path.name for path in logs.rglob("app.log?*")), "or logrotate has done nothing"
    nowhere = set(app.lines) - seen.texts.keys()
    assert sum(loss["lost_bytes"] for loss in seen.losses) <= len(nowhere) * (LINE_BYTES + 1), (
        "what is told lost did not arrive"
    )
