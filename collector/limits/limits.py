"""Budgets on credit: how much a tenant may send now. Pure: the clock is an argument, in monotonic seconds.

An account has two levels, of events and of bytes. Each rises at ``per_s`` up to ``burst``, and falls by what is taken.
- What comes as one piece (an agent's records) is admitted whole while the level is not negative, and charged at once:
  the level may fall far below zero. So what is larger than the burst still gets through, and what follows waits until
  the debt is paid. The rate holds on average, whatever the sizes.
- What comes as single events is admitted up to the level and never drives it below zero.
- What turns out not to count (duplicates, refused events, failed inserts) is given back, up to the burst.
- A clock that stands still or goes back refills nothing, and what was there stays there.

`decide` is the whole rule; the script for Redis in `collector.limits.buckets` says the same in Lua, and a test compares them.
"""

from __future__ import annotations

import enum
import math
from functools import lru_cache

import msgspec

from collector.config import Limits


class Rate(msgspec.Struct, frozen=True):
    per_s: float
    burst: float
    """Highest level."""


class Rates(msgspec.Struct, frozen=True):
    events: Rate
    size: Rate
    """Of bytes."""


class Levels(msgspec.Struct, frozen=True):
    events: float
    size: float


class Mode(enum.Enum):
    WHOLE = "whole"
    """All on credit, or nothing."""
    UP_TO = "up_to"
    """As many events as the level has."""
    REFUSE = "refuse"
    """All if the level has them, or is full, else nothing."""


class Account:
    """One tenant's levels. The rates come with every call: they change when the tenant's limits do."""

    __slots__ = ("_at_s", "_events", "_size")

    def __init__(self, levels: Levels, now_s: float) -> None:
        self._events, self._size = levels.events, levels.size
        self._at_s = now_s

    def levels(self, rates: Rates, now_s: float) -> Levels:
        """The levels at ``now_s``."""
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._events = min(rates.events.burst, self._events + passed_s * rates.events.per_s)
        self._size = min(rates.size.burst, self._size + passed_s * rates.size.per_s)
        return Levels(self._events, self._size)

    def take(self, mode: Mode, rates: Rates, events: int, size: int, now_s: float) -> int:
        """How many of ``events`` are admitted; they are charged, and their part of ``size`` with them."""
        granted = decide(mode, self.levels(rates, now_s), rates, events)
        self._events -= granted
        self._size -= part_of(size, granted, events)
        return granted

    def give(self, rates: Rates, events: int, size: int, now_s: float) -> None:
        """Refund; what goes beyond the burst is cut off at the next look."""
        self.levels(rates, now_s)
        self._events += events
        self._size += size


def decide(mode: Mode, levels: Levels, rates: Rates, events: int) -> int:
    """How many of ``events`` are admitted at these levels. Bytes are on credit in every mode."""
    if levels.size < 0:
        return 0
    if mode is Mode.WHOLE:
        return events if levels.events >= 0 else 0
    if mode is Mode.REFUSE:
        return events if levels.events >= min(events, rates.events.burst) else 0
    return min(events, max(0, math.floor(levels.events)))


def part_of(size: int, granted: int, events: int) -> int:
    """The bytes that the granted ones of ``events`` are charged with."""
    return size if granted == events else size * granted // events


def wait_s(mode: Mode, levels: Levels, rates: Rates, events: int) -> float:
    """Seconds until ``events`` that were not admitted would be, if nothing else came."""
    wanted = 0.0 if mode is Mode.WHOLE else min(float(events), rates.events.burst)
    return max(0.0, (wanted - levels.events) / rates.events.per_s, -levels.size / rates.size.per_s)


def full_in_s(levels: Levels, rates: Rates) -> float:
    """Seconds until the budget of events is full again."""
    return max(0.0, (rates.events.burst - levels.events) / rates.events.per_s)


@lru_cache(maxsize=1024)
def rates_of(limits: Limits, share: float = 1.0) -> Rates:
    """A tenant's rates, or the ``share`` of them that one of several collectors allows."""

    def rate(per_minute: int, burst: int) -> Rate:
        return Rate(per_minute * share / 60, max(1.0, (burst or per_minute) * share))

    return Rates(
        events=rate(limits.events_per_minute, limits.events_burst), size=rate(limits.bytes_per_minute, limits.bytes_burst)
    )
