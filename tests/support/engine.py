"""A real ClickHouse engine for a test: a process to start, to kill as a crash would, and to start again.

- The port stays the same over kill() and start(), so a client that retries finds the engine again.
- The process ends with the test run even if that is killed: it watches its standard input.
- The engine's library is loaded only there, never into the process of the tests.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]

# A start on a cold disk loads a library of some hundred MB; beyond this the process is taken for dead.
START_DEADLINE_S = 60.0
# SIGTERM to exit; beyond this the process gets SIGKILL.
STOP_DEADLINE_S = 15.0


class ClickHouseFront:
    """``tests.support.clickhouse_front`` as a real process on the folder ``data``."""

    def __init__(self, data: Path, port: int = 0, *, backups: Path | None = None) -> None:
        """``backups``: a folder that BACKUP and RESTORE may use."""
        self.data = data
        self._backups = backups
        self.host = "127.0.0.1"
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self.stderr = ""
        self.exit_status: int | None = None
        """Of the process that ended last, as ``stderr`` is."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until /ping answers.

        Raises:
            RuntimeError: it ended or stayed silent; the message holds what it wrote to stderr.
        """
        assert self._process is None, "already started"
        arguments = ["--data", str(self.data), "--host", self.host, "--port", str(self.port), "--until-stdin-closes"]
        if self._backups:
            arguments += ["--backups", str(self._backups)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - _reap() closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.clickhouse_front", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C in the test run reaches only the test run
        )
        try:
            self.port = int(json.loads(self._first_line())["port"])
            self._ping()
        except Exception as error:
            self.kill()
            raise RuntimeError(f"{self.data}: the ClickHouse front did not start: {error}\n{self.stderr}") from error

    def _first_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_DEADLINE_S
        stdout = self._process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no sign of life within {START_DEADLINE_S} s")
            piece = os.read(stdout, 4096)
            if not piece:
                raise ChildProcessError(f"it ended with status {self._process.wait()}")
            line += piece
        return line

    def _ping(self) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=START_DEADLINE_S)
        try:
            connection.request("GET", "/ping")
            answer = connection.getresponse().read()
        finally:
            connection.close()
        if answer != b"Ok.\n":
            raise ConnectionError(f"/ping answered {answer!r}")

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when the process is gone. A stopped one stays stopped."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it in time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def _reap(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert self._stderr is not None
        self.exit_status = process.wait()
        self._stderr.seek(0)
        self.stderr = self._stderr.read().decode(errors="replace")
        self._stderr.close()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> ClickHouseFront:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
