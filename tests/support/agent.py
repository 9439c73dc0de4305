"""A real agent for a test: a process to start, to stop, to freeze, and to kill as a crash would; and the app beside it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.status import status
from tests.support.sink import Seen, SinkProcess
from tests.support.wait import until

REPOSITORY = Path(__file__).resolve().parents[2]
SCOPE = "scope-of-the-test"
_END_DEADLINE_S = 40.0
SEED = int(os.environ.get("PULSESTREAM_SEED", "7"))


class AgentProcess:
    """``python -m agent run`` with a state folder and a configuration in ``folder``; intervals are short."""

    def __init__(self, folder: Path, *, url: str, include: Iterable[str | Path], **settings: Any) -> None:
        """``settings`` go over the configuration's top level, those of ``collector``, ``spool`` and ``log`` key by key."""
        folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.config = folder / "agent.yaml"
        self._stderr = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.settings: dict[str, Any] = {
            "sources": [{"name": "app", "include": [str(path) for path in include]}],
            "state_dir": str(self.state),
            "scope": SCOPE,
            "flush_interval_s": 0.05,
            "rescan_interval_s": 0.2,
            "shutdown_timeout_s": 10,
            "shutdown_quiet_s": 0,
        }
        self.configure(collector={"url": url, "api_key": "a-key"}, spool={"fsync_interval_s": 0.1}, **settings)

    def configure(self, **settings: Any) -> None:
        """Change settings from the next start on."""
        for name, value in settings.items():
            old = self.settings.get(name)
            self.settings[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
        self.config.write_text(json.dumps(self.settings, indent=1))  # JSON is YAML

    def start(self, *before: str) -> None:
        """Start it and wait until it answers. ``before``: a command in front, such as ``setpriv``."""
        self.launch(*before)
        until(lambda: self.status() or self._gone(), "the agent answers", told=self.log)
        assert not self._gone(), self.log()

    def launch(self, *before: str, after: Iterable[str] = ()) -> None:
        """Start it and do not wait. ``after``: more of the command line."""
        assert self._process is None, "it runs already"
        command = [*before, sys.executable, "-m", "agent", "run", "--config", str(self.config), *after]
        with self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(command, cwd=REPOSITORY, stderr=stderr)

    def _gone(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        return self._end(None)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: as a crash would. Fine when it does not run."""
        self._end(signal.SIGKILL)

    def _end(self, number: int | None) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:
            if number is not None and process.poll() is None:
                process.send_signal(number)
            try:
                return process.wait(_END_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"it does not end; {self.log()}") from None

    def freeze(self) -> None:
        """Stop its threads where they are: what happens until `thaw` happens between two looks."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    @property
    def pid(self) -> int:
        """Of what was launched: the command in front, if there is one."""
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return not self._gone()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def reload(self, **settings: Any) -> dict[str, Any]:
        """Change settings of the running agent, and wait until it has dealt with them. Returns what it says of that."""
        before = self.status()["config"]["asked"]
        self.configure(**settings)
        self.signal(signal.SIGHUP)
        until(lambda: self._asked() > before, "it has read its configuration again", told=self.log)
        return dict(self.status()["config"])

    def _asked(self) -> int:
        return int(self.status().get("config", {}).get("asked", 0))

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """All it has logged, over all its starts."""
        return self._stderr.read_text() if self._stderr.exists() else ""

    def logged(self, text: str) -> None:
        """Wait until it has logged ``text``."""
        until(lambda: text in self.log(), f"it logs {text!r}", told=self.log)

    def status(self) -> dict[str, Any]:
        """What it says of itself; empty while it does not answer."""
        try:
            return status.ask(self.state) or {}
        except ConnectionError:
            return {}

    def command(self, name: str, *arguments: str, deadline_s: float = _END_DEADLINE_S) -> subprocess.CompletedProcess[str]:
        """Another command of the agent on the same configuration, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "agent", name, *arguments, "--config", str(self.config)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )

    def settle(self) -> None:
        """Wait until it has read all there is, and all of that is acknowledged."""
        until(self._settled, "everything is read and acknowledged", told=lambda: f"{self.status()} {self.log()}")

    def _settled(self) -> bool:
        now = self.status()
        return bool(now) and now["drained"] and not now["unread_bytes"]

    def __enter__(self) -> AgentProcess:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()


def arrived(sink: SinkProcess, wanted: Iterable[str], *, told: AgentProcess | None = None) -> Seen:
    """Wait until every one of these lines has arrived."""
    missing = set(wanted)

    def all_there() -> Seen | None:
        nonlocal missing
        seen = sink.seen()
        missing -= seen.texts.keys()
        return None if missing else seen

    def what() -> str:
        return f"{len(missing)} lines are missing, such as {sorted(missing)[:3]}; {told.log() if told else ''}"

    return until(all_there, "every line has arrived", told=what)


def exactly_once(seen: Seen, lines: Iterable[str]) -> None:
    """These lines and no others were received, each under one ID, whatever the number of times it was sent."""
    wanted = list(lines)
    assert len(set(wanted)) == len(wanted), "the test's own lines must differ"
    assert sorted(seen.texts.keys() - set(wanted)) == []
    assert sorted(set(wanted) - seen.texts.keys()) == []
    assert {text: names for text, names in seen.texts.items() if len(names) != 1} == {}


class App:
    """An app that logs to one file; remembers what it wrote."""

    def __init__(self, path: Path, name: str = "app") -> None:
        self.path = path
        self.name = name
        self.lines: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, count: int, *, width: int = 60) -> list[str]:
        """Append ``count`` lines, all different, of at least ``width`` bytes. Returns them."""
        first = len(self.lines)
        new = [f"{self.name} line {number:06d} ".ljust(width, ".") for number in range(first, first + count)]
        self.append("".join(f"{line}\n" for line in new))
        self.lines += new
        return new

    def append(self, text: str) -> None:
        """As a logger does: to the end of what is at the path now."""
        with self.path.open("a", newline="") as file:
            file.write(text)

    def rename(self, to: Path) -> None:
        """Rotation by rename-and-create."""
        self.path.rename(to)
        self.path.touch()

    def copytruncate(self, to: Path) -> None:
        """Rotation by copy-and-truncate."""
        to.write_bytes(self.path.read_bytes())
        os.truncate(self.path, 0)


class Noise(App):
    """An app whose lines do not compress well."""

    def write(self, count: int, *, width: int = 1000) -> list[str]:
        randomness = random.Random(f"{SEED} {self.name} {len(self.lines)}")
        new = [f"{self.name} {number} {randomness.randbytes(width // 2).hex()}" for number in range(count)]
        self.append("".join(f"{line}\n" for line in new))
        self.lines += new
        return new
