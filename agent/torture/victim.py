"""The agent of an ordeal: killed, stopped, frozen, on a wrong clock and a full disk, dying at its named points."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from agent import crash
from agent.status import status
from agent.torture.rigged import Controls
from agent.torture.room import Room

DOWN_S = (0.0, 1.5)
FULL_S = (0.5, 3.0)
CLOCK_STEPS_S = (-43_200.0, -3600.0, -61.0, 0.0, 61.0, 3600.0, 43_200.0)
"""How wrong the clock may be: within what a collector takes as it is."""
ANSWER_S = 30.0
STOP_S = 40.0
LOOK_S = 0.05


class OrdealFailed(Exception):
    """It came to no verdict; the message says why."""


class Victim:
    """``counts``: what was done to it how often."""

    def __init__(self, folder: Path, random: Random, settings: dict[str, Any]) -> None:
        """``folder`` is there. ``settings``: the configuration but for what is decided here."""
        self.counts: Counter[str] = Counter()
        self.state = folder / "state"
        self.log = folder / "agent.log"
        self._config = folder / "agent.yaml"
        self._controls = Controls(folder / "controls")
        self._room = Room(self.state, self._controls)
        self._random = random
        self._process: asyncio.subprocess.Process | None = None
        self._point = ""
        self._settings = {**settings, "state_dir": str(self.state)}
        self._config.touch(0o600)
        self._configure()

    def _configure(self) -> None:
        self._config.write_text(json.dumps(self._settings, indent=1))  # JSON is YAML

    @property
    def disk(self) -> str:
        """How its disk is made full."""
        return self._room.kind

    async def open(self) -> None:
        """Raises OrdealFailed."""
        await asyncio.to_thread(self._room.open)
        await self.start()

    async def close(self) -> None:
        await self.end(signal.SIGKILL)
        await asyncio.to_thread(self._room.close)

    async def start(self, point: str = "") -> None:
        """Start it and wait until it answers; ``point``: where it is to die. Raises OrdealFailed."""
        command = [sys.executable, "-m", "agent.torture.rigged", str(self._controls.path), "run", "--config", str(self._config)]
        env = {**os.environ, crash.ENV: point} if point else None
        self._point = point
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=env)
        end_s = asyncio.get_running_loop().time() + ANSWER_S
        while not await self.status():
            if await self.revive():
                return
            if asyncio.get_running_loop().time() > end_s:
                raise OrdealFailed(f"the agent does not answer; {self.tail()}")
            await asyncio.sleep(LOOK_S)

    async def revive(self) -> bool:
        """Start it again when it has died where it was to die. Raises OrdealFailed when it has ended by itself otherwise."""
        process, point = self._process, self._point
        if process is None or process.returncode is None:
            return False
        if not point or process.returncode != -signal.SIGKILL:
            raise OrdealFailed(f"the agent ended by itself; {self.tail()}")
        self.counts["crash_point"] += 1
        await self.start()
        return True

    async def end(self, number: int) -> None:
        """Raises OrdealFailed when it does not end."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise OrdealFailed(f"the agent did not end within {STOP_S:g} s; {self.tail()}") from None

    async def status(self) -> dict[str, Any]:
        """What it says of itself; empty while it does not answer."""
        with contextlib.suppress(OSError, msgspec.DecodeError):  # it may have died in the middle of its answer
            return await asyncio.to_thread(status.ask, self.state) or {}
        return {}

    def tail(self) -> str:
        """Where its log is, and how it ends."""
        last = self.log.read_text("utf-8", "replace").splitlines()[-5:]
        return "\n".join((f"its log {self.log} ends with:", *last))

    async def kill(self) -> None:
        await self._again("sigkill", signal.SIGKILL)

    async def stop(self) -> None:
        await self._again("sigterm", signal.SIGTERM)

    async def doom(self) -> None:
        """From now on it is to die at one of its named points, the first or a later time it comes there."""
        point = f"{self._random.choice(crash.POINTS)}:{self._random.choice((1, 1, 2, 5, 20))}"
        await self.end(signal.SIGTERM if point.startswith("stop.") else signal.SIGKILL)
        await self.start(point)

    async def calm(self, *, request_timeout_s: float) -> None:
        """From now on nothing is to happen to it: its clock is right, its disk has room, it dies nowhere, it has time."""
        self._controls.clock_s = 0.0
        await asyncio.to_thread(self._room.free)
        self._settings["collector"] = {**self._settings["collector"], "request_timeout_s": request_timeout_s}
        self._configure()
        await self.end(signal.SIGKILL)
        await self.start()

    async def freeze(self) -> None:
        """What happens meanwhile happens between two looks of the agent."""
        assert self._process is not None
        self.counts["sigstop"] += 1
        pid = self._process.pid
        with contextlib.suppress(ProcessLookupError):  # it may have died at its point just now
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(self._random.uniform(*DOWN_S))
            os.kill(pid, signal.SIGCONT)

    async def reload(self) -> None:
        """Another configuration, while it runs: one that matters, and for a moment one that is refused."""
        self.counts["reload"] += 1
        for interval_s in ("soon", self._random.choice((0.05, 0.2, 1.0))):
            self._settings["flush_interval_s"] = interval_s
            self._configure()
            with contextlib.suppress(ProcessLookupError):  # it may have died at its point just now
                if self._process is not None:
                    self._process.send_signal(signal.SIGHUP)
            await asyncio.sleep(self._random.uniform(0.0, 0.3))

    async def fill_disk(self) -> None:
        """For a while; once in a while it is killed meanwhile."""
        self.counts["disk_full"] += 1
        await asyncio.to_thread(self._room.fill)
        await asyncio.sleep(self._random.uniform(*FULL_S))
        if self._random.random() < 0.3:
            await self.kill()
        await asyncio.to_thread(self._room.free)

    async def step_clock(self) -> None:
        self.counts["clock_step"] += 1
        self._controls.clock_s = self._random.choice(CLOCK_STEPS_S)
        self._controls.write()

    async def _again(self, name: str, number: signal.Signals) -> None:
        self.counts[name] += 1
        await self.end(number)
        await asyncio.sleep(self._random.uniform(*DOWN_S))
        await self.start()
