"""The demonstration: both programs, started, killed, stopped and started again by one command."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from collector import demo
from tests.support.wait import until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).resolve().parents[2]
READY_S = 90.0


class Running:
    """``collector demo`` in a folder."""

    def __init__(self, var: Path, *arguments: str) -> None:
        self.var = var
        command = [sys.executable, "-m", "collector", "demo", "--var", str(var), *arguments]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = ""

    def hear(self) -> str:
        """All it has said by now."""
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], 0)[0] and (data := os.read(self.process.stdout.fileno(), 65536)):
            self.said += data.decode()
        return self.said

    def ready(self) -> dict[str, Any]:
        """Wait for demo.json; its content."""
        path = self.var / "demo.json"
        until(lambda: path.exists() or self.process.poll() is not None, "it is ready", deadline_s=READY_S, told=self.hear)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        rest, _ = self.process.communicate(timeout=READY_S)
        self.said += rest.decode()
        return self.process.returncode


def found(ready: dict[str, Any], q: str) -> int:
    request = urllib.request.Request(
        f"{ready['url']}/api/v1/ingestion/events/search?limit=1&q={q}", headers={"X-API-Key": ready["api_key"]}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(json.load(answer)["total_count"])
    except OSError:
        return -1


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> dict[str, int]:
    """Which of the two programs runs as which process."""
    result = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                command = (path.parent / "cmdline").read_bytes().split(b"\0")
                result[command[2].decode()] = int(path.parent.name)
        except (OSError, IndexError):
            continue
    return result


def test_the_demo_finds_each_line_once_over_kills_and_restarts(tmp_path: Path, port: int) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()
    log.write_text("".join(f"apple number {n}\n" for n in range(1000)))
    first = Running(tmp_path / "var", "--port", str(port), "--logs", f"{tmp_path}/logs/*.log {tmp_path}/other/*.log")
    ready = first.ready()
    assert stat.S_IMODE((tmp_path / "var" / "demo.json").stat().st_mode) == 0o600
    assert set(ready) == {"url", "api_key", "admin_token", "tenant"}
    until(lambda: found(ready, "apple") == 1000, "the lines are found", told=first.hear)

    for program in ("agent", "collector"):
        os.kill(children(first.process.pid)[program], signal.SIGKILL)
        with log.open("a") as file:
            file.write(f"written while the {program} was away\n")
    until(lambda: found(ready, "written+away") == 2, "what was written meanwhile is found", deadline_s=60, told=first.hear)
    assert first.stop() == 0, first.said
    assert re.search(r"[\d,]+ lines shipped · [\d,]+ searchable · lag [\d,]+ bytes", first.said)
    assert f"curl -s -H 'X-API-Key: {ready['api_key']}' '{ready['url']}" in first.said

    with log.open("a") as file:
        file.write("one more apple\n")
    second = Running(tmp_path / "var", "--port", str(port), "--logs", f"{tmp_path}/logs/*.log", "--duration", "3")
    again = second.ready()
    until(lambda: found(again, "apple") == 1001, "the new line is found, the old ones not twice", told=second.hear)
    assert second.ended() == 0, second.said
    assert "1 new" in second.said
    assert again["api_key"] == ready["api_key"]


def test_a_port_in_use_gives_the_next_free_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.free_port(port) != port
    assert f"port {port} is in use; taking" in capsys.readouterr().out


def test_without_any_log_a_sample_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SYSTEM_LOGS", str(tmp_path / "nothing"))
    include, sample = demo.choose_logs("", tmp_path)
    assert sample is not None
    assert include == [str(sample)]
    assert "no readable text files" in capsys.readouterr().out


def test_without_logs_the_text_files_of_the_system_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "plain.log").write_text("text\n")
    (tmp_path / "binary").write_bytes(b"\0\1\2")
    (tmp_path / "old.log.gz").write_bytes(b"\x1f\x8b")
    monkeypatch.setattr(demo, "SYSTEM_LOGS", str(tmp_path))
    assert demo.choose_logs("", tmp_path) == ([str(tmp_path / "deep" / "plain.log")], None)


def test_two_demos_do_not_share_a_folder(tmp_path: Path, port: int) -> None:
    log = tmp_path / "app.log"
    log.write_text("line\n")
    first = Running(tmp_path / "var", "--port", str(port), "--logs", str(log))
    first.ready()
    second = Running(tmp_path / "var", "--port", str(port), "--logs", str(log))
    assert second.ended() == 1
    assert "another demo runs in" in second.said
    assert first.stop() == 0, first.said
