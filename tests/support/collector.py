"""A real collector for a test: a process to start, to stop, to kill as a crash would, and to start again.

- It listens on a port that the system chose; after the first start it keeps that port, so that a client finds it again.
- What it wrote to stderr is kept in a file, for tests that look for what must not be there.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from agent import codec, wire

REPOSITORY = Path(__file__).resolve().parents[2]
ADMIN_TOKEN = "an-admin-token-for-tests"

# A start on a cold disk loads a library of some hundred MB; beyond this the process is taken for dead.
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0
_JSON = re.compile(r"[/+]json\b")
REQUEST_TIMEOUT_S = 30.0


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: Any
    """Decoded JSON, else bytes; of a stream that goes on what comes first."""


class Collector:
    """``python -m collector serve`` in ``folder``, on an embedded store unless ``store`` names another; ``bounds`` are more
    settings of the store, like ``, readers: 2``."""

    def __init__(
        self,
        folder: Path,
        *,
        store: str = "",
        bounds: str = "",
        admin_token: str = ADMIN_TOKEN,
        more: str = "",
        log_level: str = "debug",
    ) -> None:
        self.folder = folder
        self.store = store or f"chdb://{folder}/store"
        self.config = folder / "collector.yaml"
        self.stderr = folder / "collector.log"
        self.port = 0
        self.ready_line = ""
        self.tls: ssl.SSLContext | None = None
        """With what it is asked where it speaks TLS."""
        self.program = ["-m", "collector"]
        """What Python runs: another version of it, for instance."""
        self._log_level = log_level
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(f"admin_token: {json.dumps(admin_token)}\nstore: {{url: '{self.store}'{bounds}}}\n{more}\n")

    def start(self) -> None:
        """Start it and wait for its ready line. Raises RuntimeError with what it said instead."""
        with self.stderr.open("ab") as stderr:
            arguments = ["serve", "--config", str(self.config), "--port", str(self.port), "--log-level", self._log_level]
            self._process = subprocess.Popen(
                [sys.executable, *self.program, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=stderr
            )
        self.ready_line = self._line()
        found = re.search(r"https?://127\.0\.0\.1:(\d+)", self.ready_line)
        if not found:
            self.kill()
            raise RuntimeError(f"no ready line but {self.ready_line!r}; {self.stderr.read_text()[-4000:]}")
        self.port = int(found[1])

    def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_DEADLINE_S)
        return self._process.stdout.readline().decode() if readable else ""

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:
            os.kill(process.pid, number)
            try:
                return process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another run of the command line, to its end."""
        return command(*arguments)

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str = "",
        query: Mapping[str, object] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = self.connection()
        sent = {**({"X-API-Key": key} if key else {}), **(headers or {})}
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, body=body, headers=sent)
            answer = connection.getresponse()
            goes_on = (answer.getheader("Content-Type") or "").startswith("text/event-stream")
            data = b"".join(iter(answer.readline, b"\n")) if goes_on else answer.read()
        finally:
            connection.close()
        decoded = json.loads(data) if _JSON.search(answer.getheader("Content-Type") or "") else data
        return Answer(answer.status, answer.headers, decoded)

    def connection(self) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT_S, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT_S)

    def new_tenant(self, name: str, **more: Any) -> str:
        """A tenant's key, made over HTTP."""
        return str(self.register(name, **more)["api_key"])

    def register(self, name: str, **more: Any) -> Any:
        """A tenant, made over HTTP: the whole answer."""
        body = json.dumps({"name": name, **more}).encode()
        headers = {"X-Admin-Token": ADMIN_TOKEN}
        answer = self.request("POST", "/api/v1/auth/register/tenant", body=body, headers=headers)
        assert answer.status == 201, answer
        return answer.body

    def post(self, key: str, run: bytes, **headers: str) -> Answer:
        """Send a run of records."""
        sent = {"Content-Type": wire.RUN_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.request("POST", wire.BLOCKS_PATH, key=key, body=run, headers=sent)

    def search(self, key: str, **query: object) -> Any:
        """The body of a search that must succeed."""
        answer = self.request("GET", "/api/v1/ingestion/events/search", key=key, query=query)
        assert answer.status == 200, answer
        return answer.body


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m collector …`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "collector", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
        check=False,
    )


def record(lines: bytes, **values: Any) -> bytes:
    """One data record that holds ``lines``."""
    defaults: dict[str, Any] = {
        "kind": wire.DATA,
        "record_id": f"r-{time.monotonic_ns()}",
        "file_id": "00c0ffee00c0ffee",
        "service": "shop",
        "source": "shop-log",
        "path": "/var/log/shop.log",
        "raw_bytes": len(lines),
        "events": lines.count(b"\n") + (not lines.endswith(b"\n")),
        "observed_ns": time.time_ns(),
    }
    return wire.encode_record(wire.Header(**{**defaults, **values}), codec.compress(lines))


def until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Wait for a condition; fails when it does not come true."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        select.select([], [], [], 0.05)
