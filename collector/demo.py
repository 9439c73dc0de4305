"""The whole of PulseStream on this machine with one command: a collector on the embedded engine, a tenant, an agent on real
log files, and a line a second of what happens.

- Everything lies in one folder (``var``): stop and start again, and it goes on where it ended.
- Both programs run as they would elsewhere, from configuration files that stay there to be read. One that dies is started
  again: killing things is part of the demonstration.
- ``demo.json`` in the folder says where and with which key, as soon as both are ready (mode 0600).
- The exit code is 0 only if nothing was lost and everything that was acknowledged can be found.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import secrets
import shlex
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from agent.status import status
from collector.errors import CollectorError
from collector.serving.children import Child, ending

HOST = "127.0.0.1"
PORTS_TRIED = 100
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
RESTART_PAUSE_S = 0.5
PROBE_BYTES = 4096
SYSTEM_LOGS = "/var/log"
SAMPLE_PERIOD_S = 0.1


class DemoFailed(CollectorError):
    """It cannot go on; the message says why and what mends it."""


class Program:
    """One of the two programs: its output goes into a file, and it is started again if it dies."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self._log = log
        self._child = Child(arguments)

    async def start(self) -> None:
        with self._log.open("ab") as log:
            await self._child.start(stdout=log, stderr=log)

    async def keep(self) -> None:
        """Start it again whenever it ends, until cancelled."""
        while True:
            code = await self._child.wait()
            say(f"{self.name} ended ({ending(code)}); starting it again")
            await asyncio.sleep(RESTART_PAUSE_S)
            await self.start()

    async def stop(self) -> None:
        await self._child.stop(STOP_TIMEOUT_S)

    def died(self) -> str:
        """Why it is not running, from the end of its log; empty while it runs."""
        code = self._child.exit_code
        if code is None:
            return ""
        tail = self._log.read_text("utf-8", "replace").strip().splitlines()[-3:]
        return f"the {self.name} ended ({ending(code)}); its log {self._log} ends with:\n" + "\n".join(tail)


def say(text: str) -> None:
    print(text, flush=True)


async def run(var: Path, *, port: int, logs: str, duration_s: float | None) -> int:
    """Run the demonstration until a signal, or for a time. Returns the exit code. Raises DemoFailed."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    var = var.absolute()
    var.mkdir(parents=True, exist_ok=True)
    with _only_one(var):
        (var / "demo.json").unlink(missing_ok=True)
        kept = _kept(var)
        url = f"http://{HOST}:{free_port(port)}"
        include, sample = choose_logs(logs, var)
        collector = Program(
            "collector", ["collector", "serve", "--config", str(_collector_config(var, url))], var / "collector.log"
        )
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session, _stopped(collector):
            await collector.start()
            demo = Demo(session, url, kept, var)
            await demo.ready(collector)
            await demo.sign_in()
            config = _agent_config(var, url, kept, include)
            final = var / "agent-final.json"
            final.unlink(missing_ok=True)
            agent = Program("agent", ["agent", "run", "--config", str(config), "--final-status", str(final)], var / "agent.log")
            before = await demo.stored()
            async with _stopped(agent):
                await agent.start()
                await demo.agent_ready(agent)
                _write_private(var / "demo.json", {"url": url, **{name: kept[name] for name in SHOWN}})
                _introduce(url, kept, include, var)
                await _watch(demo, [collector, agent], sample, stop, duration_s)
            return await demo.verdict(final, before)


SHOWN = ("api_key", "admin_token", "tenant")


class Demo:
    """Talks to the collector and the agent."""

    def __init__(self, session: aiohttp.ClientSession, url: str, kept: dict[str, Any], var: Path) -> None:
        self._session = session
        self._url = url
        self._kept = kept
        self._var = var
        self.lost_bytes = 0

    async def ready(self, collector: Program) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if why := collector.died():
                raise DemoFailed(why)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.get(f"{self._url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
        raise DemoFailed(f"the collector was not ready within {READY_TIMEOUT_S:g} s; see {self._var / 'collector.log'}")

    async def sign_in(self) -> None:
        """Use the key of the last time, or make a tenant."""
        if self._kept.get("api_key") and await self.stored() is not None:
            return
        slug = f"demo-{secrets.token_hex(3)}"
        headers = {"X-Admin-Token": self._kept["admin_token"]}
        async with self._session.post(
            f"{self._url}/api/v1/auth/register/tenant", json={"name": "Demo", "slug": slug}, headers=headers
        ) as response:
            if response.status != 201:
                raise DemoFailed(f"making the tenant failed: {await response.text()}")
            made = await response.json()
        self._kept.update(api_key=made["api_key"], tenant=made["tenant"])
        _write_private(self._var / KEPT, self._kept)

    async def agent_ready(self, agent: Program) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if why := agent.died():
                raise DemoFailed(why)
            if self.agent_says() is not None:
                return
            await asyncio.sleep(0.05)
        raise DemoFailed(f"the agent was not ready within {READY_TIMEOUT_S:g} s; see {self._var / 'agent.log'}")

    def agent_says(self) -> dict[str, Any] | None:
        """The agent's status; None while it does not run."""
        try:
            return status.ask(agent_state(self._var, self._kept))
        except (OSError, msgspec.DecodeError):
            return None

    async def stored(self) -> int | None:
        """How many events can be found; None without an answer."""
        try:
            async with self._session.get(
                f"{self._url}/api/v1/ingestion/stats", headers={"X-API-Key": self._kept["api_key"]}
            ) as response:
                return int((await response.json())["events"]["count"]) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def progress(self) -> str:
        """One line: shipped, searchable, lag."""
        agent, stored = self.agent_says(), await self.stored()
        searchable = "collector away" if stored is None else f"{stored:,} searchable"
        if agent is None:
            return f"agent away · {searchable}"
        self.lost_bytes = max(self.lost_bytes, agent["lost_bytes"])
        counts = agent["counts"]
        lag = agent["unread_bytes"] + max(0, counts.get("read_bytes", 0) - counts.get("acked_bytes", 0))
        trouble = "" if agent["sending"] in ("ok", "starting") else f" · {agent['sending']}"
        lost = f" · {self.lost_bytes:,} bytes LOST" if self.lost_bytes else ""
        return f"{counts.get('acked_events', 0):,} lines shipped · {searchable} · lag {lag:,} bytes{lost}{trouble}"

    async def verdict(self, final: Path, before: int | None) -> int:
        """After the agent has stopped: was anything lost? Says so; returns the exit code."""
        if not final.exists():
            say(f"the agent did not end by itself, the next start goes on where it was; see {self._var / 'agent.log'}")
            return 1 if self.lost_bytes else 0
        agent = json.loads(final.read_bytes())
        counts, stored = agent["counts"], await self.stored()
        lost = max(self.lost_bytes, agent["lost_bytes"])
        accepted = counts.get("accepted_events", 0)
        say(
            f"shipped {counts.get('acked_events', 0):,} lines in this run: {accepted:,} new, "
            f"{counts.get('duplicate_events', 0):,} known already, {counts.get('rejected_events', 0):,} refused; "
            f"{stored if stored is None else format(stored, ',')} searchable in all; {lost:,} bytes lost"
        )
        if agent["unread_bytes"] or not agent["drained"]:
            say(f"not everything was shipped in time, the next start goes on there (sending: {agent['sending']})")
        problems = []
        if lost:
            problems.append(f"{lost:,} bytes were lost; the reasons are in {self._var / 'agent.log'}")
        if counts.get("rejected_events"):
            problems.append(f"events were refused; they are in {agent_state(self._var, self._kept)}")
        if stored is None:
            problems.append(f"the collector does not answer; see {self._var / 'collector.log'}")
        elif before is not None and stored - before < accepted:
            problems.append(f"{before:,} events before, {accepted:,} new, but only {stored:,} are found")
        for problem in problems:
            say(f"FAILED: {problem}")
        return 1 if problems else 0


async def _watch(
    demo: Demo, programs: list[Program], sample: Path | None, stop: asyncio.Event, duration_s: float | None
) -> None:
    """A line a second until the end."""
    tasks = [asyncio.create_task(program.keep()) for program in programs]
    if sample is not None:
        tasks.append(asyncio.create_task(_write_sample(sample)))
    end_s = time.monotonic() + (float("inf") if duration_s is None else duration_s)
    try:
        while not stop.is_set() and time.monotonic() < end_s:
            say(await demo.progress())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(1.0, max(0.0, end_s - time.monotonic())))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    say("stopping: the agent reads to the end and waits for its acks, then the collector closes the store")


async def _write_sample(path: Path) -> None:
    """A growing log, for a machine that has none."""
    pages = ("/", "/login", "/orders", "/orders/17", "/search?q=shoes")
    while True:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with path.open("a") as file:
            file.write(
                f"{now} INFO GET {secrets.choice(pages)} {secrets.choice((200, 200, 200, 404))} {secrets.randbelow(90)} ms\n"
            )
        await asyncio.sleep(SAMPLE_PERIOD_S)


@contextlib.asynccontextmanager
async def _stopped(program: Program) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await program.stop()


@contextlib.contextmanager
def _only_one(var: Path) -> Any:
    import fcntl

    with (var / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoFailed(f"another demo runs in {var}; stop it, or choose another folder with VAR=dir") from None
        yield


def free_port(wanted: int) -> int:
    """``wanted``, or the next free port after it. Raises DemoFailed."""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            if port != wanted:
                say(f"port {wanted} is in use; taking {port}")
            return port
    raise DemoFailed(f"no free port from {wanted} on; choose another with PORT=n")


def choose_logs(wanted: str, var: Path) -> tuple[list[str], Path | None]:
    """The patterns to tail, and the sample to write if there is nothing else. Raises DemoFailed."""
    if wanted:
        patterns = [os.path.abspath(pattern) for pattern in shlex.split(wanted)]
        if not any(glob.iglob(pattern, recursive=True) for pattern in patterns):
            say(f"nothing matches {wanted} yet; files that appear are picked up")
        return patterns, None
    if found := [path for path in sorted(glob.glob(f"{SYSTEM_LOGS}/**/*", recursive=True)) if _is_text(path)]:
        say(f"no LOGS given: taking the {len(found)} readable text files under {SYSTEM_LOGS}")
        return [glob.escape(path) for path in found], None
    say(f"no LOGS given and no readable text files under {SYSTEM_LOGS}: writing a growing sample")
    sample = var / "sample" / "app.log"
    sample.parent.mkdir(exist_ok=True)
    return [str(sample)], sample


def _is_text(path: str) -> bool:
    from agent.files.expand import PACKED, UNREADABLE

    if path.endswith((*PACKED, *UNREADABLE)) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            front = file.read(PROBE_BYTES)
    except OSError:
        return False
    return bool(front) and b"\0" not in front


KEPT = "demo.key"


def _kept(var: Path) -> dict[str, Any]:
    """What has to be the same the next time: admin token, scope, key."""
    path = var / KEPT
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_bytes())
        return kept
    kept = {"admin_token": secrets.token_urlsafe(32), "scope": secrets.token_hex(8)}
    _write_private(path, kept)
    return kept


def agent_state(var: Path, kept: dict[str, Any]) -> Path:
    """The agent's state belongs to one tenant."""
    return var / f"agent-{kept['tenant']['tenant_id']}"


def _collector_config(var: Path, url: str) -> Path:
    token = var / "admin-token"
    _write_private_text(token, str(_kept(var)["admin_token"]) + "\n")
    config = {
        "server": {"host": HOST, "port": int(url.rpartition(":")[2])},
        "store": {"url": f"chdb://{var / 'store'}"},
        "admin_token_file": str(token),
    }
    return _write_yaml(var / "collector.yaml", config)


def _agent_config(var: Path, url: str, kept: dict[str, Any], include: list[str]) -> Path:
    key = var / "api-key"
    _write_private_text(key, kept["api_key"] + "\n")
    own = [f"{glob.escape(str(var))}/*.log"]  # its own log would feed itself
    config = {
        "collector": {"url": url, "api_key_file": str(key)},
        "state_dir": str(agent_state(var, kept)),
        "scope": kept["scope"],
        "sources": [{"name": "demo", "include": include, "exclude": own}],
    }
    return _write_yaml(var / "agent.yaml", config)


def _write_yaml(path: Path, value: object) -> Path:
    path.write_text("# Made by `make demo`, anew at each start.\n" + yaml.safe_dump(value, sort_keys=False))
    return path


def _write_private(path: Path, value: object) -> None:
    _write_private_text(path, json.dumps(value, indent=2) + "\n")


def _write_private_text(path: Path, text: str) -> None:
    """Whole or not at all, and for nobody else's eyes."""
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.rename(path)


def _introduce(url: str, kept: dict[str, Any], include: list[str], var: Path) -> None:
    shown = ", ".join(include[:3]) + (f" and {len(include) - 3} more" if len(include) > 3 else "")
    say(
        f"""
PulseStream runs. Collector: {url}
  tailing  {shown}
  API key  {kept["api_key"]}
Search it:
  curl -s -H 'X-API-Key: {kept["api_key"]}' '{url}/api/v1/ingestion/events/search?q=error&limit=5'
More: parameters q, start_time=-15m, end_time, service, severity, limit, cursor; {url}/ lists the rest.
Logs, configuration and data are in {var}; Ctrl-C stops, the same command goes on.
"""
    )
