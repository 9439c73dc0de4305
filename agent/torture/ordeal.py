"""One ordeal from beginning to end: start everything, do harm for a time, let everything through, count.

`Verdict.passed` says that every line is stored, each once. The ledger may tell of more than was lost, never of less: what
copytruncate cut away unread is told at once, also where its copy brings it later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from agent import status
from agent.torture.targets import Strike, Target
from agent.torture.weather import Weather
from agent.torture.writers import STYLES, Writer

BYTES_PER_S = 200_000.0
"""Of each app."""
KILL_EVERY_S = (0.5, 6.0)
WEATHER_EVERY_S = (1.0, 5.0)
DOWN_S = (0.0, 1.5)
SETTLE_S = 180.0
ANSWER_S = 30.0
STOP_S = 40.0
LOOK_S = 0.2
READ_AFTER_S = 2.0
"""A rotated file is taken for read when the agent had nothing unread so long after its last change."""


class Plan(NamedTuple):
    folder: Path
    """Empty, or one of an earlier ordeal, which is emptied."""
    seed: int
    duration_s: float


class Verdict(NamedTuple):
    seed: int
    duration_s: float
    written: int
    stored: int
    lost: int
    duplicated: int
    ledger_bytes: int
    kills: dict[str, int]
    rotations: int
    answers: dict[str, int]
    missing: list[str]
    """Some of the lost lines."""
    surplus: list[str]
    """Some of those that are stored twice, or that nobody wrote."""

    @property
    def passed(self) -> bool:
        return not (self.lost or self.duplicated) and self.written > 0

    def __str__(self) -> str:
        kills = " ".join(f"{name}_kills={count}" for name, count in sorted(self.kills.items()))
        answers = " ".join(f"{name}={count}" for name, count in sorted(self.answers.items()))
        return (
            f"seed={self.seed} duration_s={self.duration_s:g} written={self.written} stored={self.stored} lost={self.lost} "
            f"duplicated={self.duplicated} ledger={self.ledger_bytes} {kills} rotations={self.rotations} answers: {answers}"
        )


class OrdealFailed(Exception):
    """It came to no verdict; the message says why."""


class Ordeal:
    def __init__(self, plan: Plan, target: Target, *, say: Callable[[str], None] = print) -> None:
        self._plan = plan
        self._target = target
        self._say = say
        self._random = Random(plan.seed)
        self._weather: Weather | None = None
        self._kills: Counter[str] = Counter()
        self._state = plan.folder / "state"
        self._log = plan.folder / "agent.log"
        self._config = plan.folder / "agent.yaml"
        self._agent: asyncio.subprocess.Process | None = None
        self._nothing_unread_since: float | None = None

    async def run(self) -> Verdict:
        """Raises OrdealFailed."""
        plan = self._plan
        shutil.rmtree(plan.folder, ignore_errors=True)
        (plan.folder / "logs").mkdir(parents=True)
        await self._target.start()
        self._weather = weather = Weather(self._target.url, self._random.getrandbits(32))
        writers: list[Writer] = []
        try:
            await weather.start()
            self._configure(weather.url)
            await self._start_agent()
            writers = [self._writer(number, style) for number, style in enumerate(STYLES)]
            for writer in writers:
                writer.start()
            await self._harm(writers)
            weather.chance = 0.0
            await self._stop_writers(writers)
            await self._settle()
            return await self._count(writers)
        finally:
            await self._stop_writers(writers)
            await self._end_agent(signal.SIGKILL)
            await weather.stop()
            await self._target.stop()

    def _writer(self, number: int, style: str) -> Writer:
        path = self._plan.folder / "logs" / f"{style}.log"
        name = f"{self._plan.seed:x}-{style}"
        return Writer(path, name, style, self._random.getrandbits(32), bytes_per_s=BYTES_PER_S, is_read=self._is_read)

    def _configure(self, url: str) -> None:
        settings = {
            "sources": [{"name": "torture", "include": [str(self._plan.folder / "logs" / "*.log*")]}],
            "state_dir": str(self._state),
            "scope": f"torture-{self._plan.seed}",
            "collector": {"url": url, "api_key": self._target.api_key, "request_timeout_s": 10},
            "shutdown_timeout_s": 5,
        }
        self._config.write_text(json.dumps(settings, indent=1))  # JSON is YAML
        self._config.chmod(0o600)

    async def _harm(self, writers: list[Writer]) -> None:
        end_s = time.monotonic() + self._plan.duration_s
        strikes: list[Strike] = [self._kill_agent, self._kill_agent, self._stop_agent, self._freeze_agent]
        strikes += [self._of(name, strike) for name, strike in self._target.victims.items()]
        assert self._weather is not None
        next_weather = next_kill = 0.0
        while (now := time.monotonic()) < end_s:
            if now >= next_weather:
                self._weather.change()
                next_weather = now + self._random.uniform(*WEATHER_EVERY_S)
            if now >= next_kill:
                await self._random.choice(strikes)()
                next_kill = time.monotonic() + self._random.uniform(*KILL_EVERY_S)
            await self._look()
            await asyncio.sleep(LOOK_S)
            if any(not writer.is_alive() for writer in writers):
                raise OrdealFailed("an app of ours ended by itself; see above")

    def _of(self, name: str, strike: Strike) -> Strike:
        async def struck() -> None:
            self._kills[name] += 1
            await strike()

        return struck

    # The agent.

    async def _start_agent(self) -> None:
        command = [sys.executable, "-m", "agent", "run", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._agent = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        end_s = time.monotonic() + ANSWER_S
        while not await self._status():
            if self._agent.returncode is not None or time.monotonic() > end_s:
                raise OrdealFailed(f"the agent does not start; its log {self._log} ends with:\n{self._tail()}")
            await asyncio.sleep(LOOK_S / 4)

    async def _end_agent(self, number: int) -> None:
        agent, self._agent = self._agent, None
        self._nothing_unread_since = None
        if agent is None or agent.returncode is not None:
            return
        agent.send_signal(number)
        try:
            await asyncio.wait_for(agent.wait(), STOP_S)
        except TimeoutError:
            agent.kill()
            await agent.wait()
            raise OrdealFailed(f"the agent did not end within {STOP_S:g} s; see {self._log}") from None

    async def _kill_agent(self) -> None:
        await self._restart(signal.SIGKILL)

    async def _stop_agent(self) -> None:
        await self._restart(signal.SIGTERM)

    async def _restart(self, number: signal.Signals) -> None:
        self._kills[f"agent_{number.name.lower()}"] += 1
        await self._end_agent(number)
        await asyncio.sleep(self._random.uniform(*DOWN_S))
        await self._start_agent()

    async def _freeze_agent(self) -> None:
        """What happens meanwhile happens between two looks of the agent."""
        assert self._agent is not None
        self._kills["agent_sigstop"] += 1
        os.kill(self._agent.pid, signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(*DOWN_S))
        os.kill(self._agent.pid, signal.SIGCONT)

    async def _status(self) -> dict[str, object]:
        with contextlib.suppress(OSError):
            return await asyncio.to_thread(status.ask, self._state) or {}
        return {}

    def _tail(self) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-5:])

    # What it has read.

    async def _look(self) -> None:
        now = await self._status()
        if not now or now["unread_bytes"]:
            self._nothing_unread_since = None
        elif self._nothing_unread_since is None:
            self._nothing_unread_since = time.time()

    def _is_read(self, path: Path) -> bool:
        """Asked by the apps, from their threads. A rename changes the time that is looked at."""
        since = self._nothing_unread_since
        return since is not None and time.time() - since > READ_AFTER_S and since - path.stat().st_ctime > READ_AFTER_S

    async def _stop_writers(self, writers: list[Writer]) -> None:
        for writer in writers:
            writer.stop()
        for writer in writers:
            await asyncio.to_thread(writer.join)

    async def _settle(self) -> None:
        end_s = time.monotonic() + SETTLE_S
        settled = 0
        while settled < 5:  # looks in a row: a file that was just renamed is found by the next walk
            now = await self._status()
            settled = settled + 1 if now and now["drained"] and not now["unread_bytes"] else 0
            if time.monotonic() > end_s:
                raise OrdealFailed(f"not everything got through within {SETTLE_S:g} s: {now}")
            if self._agent is None or self._agent.returncode is not None:
                raise OrdealFailed(f"the agent ended by itself; its log {self._log} ends with:\n{self._tail()}")
            await asyncio.sleep(1.0)

    async def _count(self, writers: list[Writer]) -> Verdict:
        stored = await self._target.stored()
        wanted = {writer.line(number) for writer in writers for number in range(writer.written)}
        missing = sorted(wanted - stored.keys())
        surplus = [text for text, count in stored.items() if count > 1 or text not in wanted]
        assert self._weather is not None
        return Verdict(
            seed=self._plan.seed,
            duration_s=self._plan.duration_s,
            written=len(wanted),
            stored=stored.total(),
            lost=len(missing),
            duplicated=sum(count - 1 for count in stored.values()) + len(stored.keys() - wanted),
            ledger_bytes=await self._target.lost_bytes(),
            kills=dict(self._kills),
            rotations=sum(writer.rotations for writer in writers),
            answers=dict(self._weather.counts),
            missing=missing[:5],
            surplus=surplus[:5],
        )
