"""One ordeal from beginning to end: start everything, do harm for a time, let everything through, count.

`Verdict.passed` says that every line is stored, each once. The ledger may tell of more than was lost, never of less: what
copytruncate cut away unread is told at once, also where its copy brings it later.

The same seed makes the same choices in the same order, each kind of choice from a source of its own; when they are made, and
how many, is up to the machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from agent.torture import room
from agent.torture.targets import Strike, Target
from agent.torture.victim import OrdealFailed, Victim
from agent.torture.weather import Weather
from agent.torture.writers import STYLES, Writer

__all__ = ["Ordeal", "OrdealFailed", "Plan", "Verdict"]

BYTES_PER_S = 200_000.0
STRIKE_EVERY_S = (0.2, 2.5)
WEATHER_EVERY_S = (1.0, 5.0)
TOLD_EVERY_S = 10.0
SETTLE_S = 180.0
HARMED_TIMEOUT_S = 4.0
CALM_TIMEOUT_S = 60.0
"""Of a request, as configured: while harm is done, so that timeouts happen; afterwards, so that a slow machine gets through."""
LOOK_S = 0.2
READ_AFTER_S = 2.0
"""A rotated file is taken for read when the agent had nothing unread so long after its last change."""


class Plan(NamedTuple):
    folder: Path
    """Empty, or one of an earlier ordeal, which is emptied."""
    seed: int
    duration_s: float
    bytes_per_s: float = BYTES_PER_S
    """What each app writes."""


class Verdict(NamedTuple):
    seed: int
    duration_s: float
    written: int
    stored: int
    lost: int
    duplicated: int
    ledger_bytes: int
    harm: dict[str, int]
    """What was done to whom, and how often."""
    rotations: int
    answers: dict[str, int]
    disk: str
    """How it was made full."""
    missing: list[str]
    """Some of the lost lines."""
    surplus: list[str]
    """Some of those that are stored twice, or that nobody wrote."""

    @property
    def passed(self) -> bool:
        return not (self.lost or self.duplicated) and self.written > 0

    def __str__(self) -> str:
        harm = " ".join(f"{name}={count}" for name, count in sorted(self.harm.items()))
        answers = " ".join(f"{name}={count}" for name, count in sorted(self.answers.items()))
        return (
            f"seed={self.seed} duration_s={self.duration_s:g} written={self.written} stored={self.stored} lost={self.lost} "
            f"duplicated={self.duplicated} ledger={self.ledger_bytes} rotations={self.rotations} harm: {harm} "
            f"(disk: {self.disk}) answers: {answers}"
        )


class Ordeal:
    def __init__(self, plan: Plan, target: Target, *, say: Callable[[str], None] = print) -> None:
        """``say``: is told now and then how it goes."""
        self._plan = plan
        self._target = target
        self._say = say
        self._run = f"torture-{os.urandom(4).hex()}"
        """Tells this run's lines from those of every other in the same store."""
        self._weather: Weather | None = None
        self._harm: dict[str, int] = {}
        self._nothing_unread_since: float | None = None

    async def run(self) -> Verdict:
        """Raises OrdealFailed."""
        plan = self._plan
        room.leave(plan.folder / "state")
        shutil.rmtree(plan.folder, ignore_errors=True)
        (plan.folder / "logs").mkdir(parents=True)
        await self._target.start()
        self._weather = weather = Weather(self._target.url, self._chance("answers").getrandbits(32))
        writers: list[Writer] = []
        victim: Victim | None = None
        try:
            await weather.start()
            victim = Victim(plan.folder, self._chance("agent"), self._settings(weather.url))
            await victim.open()
            writers = [self._writer(style) for style in STYLES]
            for writer in writers:
                writer.start()
            await self._do_harm(victim, writers)
            weather.chance = 0.0
            await victim.calm(request_timeout_s=CALM_TIMEOUT_S)
            await self._stop_writers(writers)
            await self._settle(victim)
            return await self._count(victim, writers)
        finally:
            await self._stop_writers(writers)
            if victim is not None:
                await victim.close()
            await weather.stop()
            await self._target.stop()

    def _chance(self, what: str) -> Random:
        """The source of one kind of choice."""
        return Random(f"{self._plan.seed} {what}")

    def _writer(self, style: str) -> Writer:
        path = self._plan.folder / "logs" / f"{style}.log"
        seed = self._chance(style).getrandbits(32)
        return Writer(path, f"{self._run}-{style}", style, seed, bytes_per_s=self._plan.bytes_per_s, is_read=self._is_read)

    def _settings(self, url: str) -> dict[str, object]:
        return {
            "sources": [{"name": self._run, "include": [str(self._plan.folder / "logs" / "*.log*")]}],
            "scope": self._run,
            "collector": {"url": url, "api_key": self._target.api_key, "request_timeout_s": HARMED_TIMEOUT_S},
            "shutdown_timeout_s": 5,
            "shutdown_quiet_s": 0.5,
            "spool": self._chance("spool").choice(({}, {"segment_bytes": 1 << 20, "max_bytes": 8 << 20})),
        }

    async def _do_harm(self, victim: Victim, writers: list[Writer]) -> None:
        end_s = time.monotonic() + self._plan.duration_s
        chance, weather_chance = self._chance("harm"), self._chance("weather")
        strikes: list[Strike] = [victim.kill, victim.kill, victim.doom, victim.doom, victim.stop, victim.freeze]
        strikes += [victim.fill_disk, victim.step_clock, victim.reload]
        strikes += [self._of(name, strike) for name, strike in self._target.victims.items()]
        assert self._weather is not None
        bag: list[Strike] = []
        next_weather = next_strike = 0.0
        next_told = time.monotonic() + TOLD_EVERY_S
        while (now := time.monotonic()) < end_s:
            if now >= next_weather:
                self._weather.change(weather_chance)
                next_weather = now + weather_chance.uniform(*WEATHER_EVERY_S)
            if now >= next_strike:
                bag = bag or chance.sample(strikes, len(strikes))  # each of them once, then again
                await bag.pop()()
                next_strike = time.monotonic() + chance.uniform(*STRIKE_EVERY_S)
            await victim.revive()
            await self._look(victim)
            await asyncio.sleep(LOOK_S)
            if any(not writer.is_alive() for writer in writers):
                raise OrdealFailed("an app of ours ended by itself; see above")
            if now >= next_told:
                next_told = now + TOLD_EVERY_S
                done = {**{f"agent_{name}": count for name, count in victim.counts.items()}, **self._harm}
                self._say(f"{end_s - now:.0f} s left; {sum(writer.written for writer in writers)} lines written; {done}")

    def _of(self, name: str, strike: Strike) -> Strike:
        async def struck() -> None:
            self._harm[f"{name}_sigkill"] = self._harm.get(f"{name}_sigkill", 0) + 1
            await strike()

        return struck

    # What it has read.

    async def _look(self, victim: Victim) -> None:
        now = await victim.status()
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

    async def _settle(self, victim: Victim) -> None:
        end_s = time.monotonic() + SETTLE_S
        before: tuple[object, ...] = ()
        settled = 0
        while settled < 5:  # looks in a row: a file that was just renamed is found by the next walk
            now = await victim.status()
            settled = settled + 1 if now and now["drained"] and not now["unread_bytes"] else 0
            await victim.revive()
            left = (now.get("spool_bytes"), now.get("unread_bytes"), now.get("counts", {}).get("acked_events"))
            if left != before:
                end_s, before = time.monotonic() + SETTLE_S, left
            if time.monotonic() > end_s:
                raise OrdealFailed(f"nothing gets through for {SETTLE_S:g} s: {now.get('sending')}; {victim.tail()}")
            await asyncio.sleep(1.0)

    async def _count(self, victim: Victim, writers: list[Writer]) -> Verdict:
        stored = await self._target.stored(self._run)
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
            harm={**{f"agent_{name}": count for name, count in victim.counts.items()}, **self._harm},
            rotations=sum(writer.rotations for writer in writers),
            answers=dict(self._weather.counts),
            disk=victim.disk,
            missing=missing[:5],
            surplus=surplus[:5],
        )
