"""Runs that failed and may themselves be the reason: set aside for a while, so that what comes behind them goes on. Pure.

- A run is known by the places of its records in the spool, where it stays: any number of them takes next to no memory.
- A run of several records that keeps failing is taken apart. A record alone is convicted when it has failed often enough and
  something else passed meanwhile. While nothing passes, the fault lies elsewhere and nothing is convicted.
- A worker never waits for a suspect: it takes the next run, as a probe. So no number of poisonous records, one after the
  other or as many as requests in flight, stops the rest.
"""

from __future__ import annotations

import heapq
import itertools
from typing import NamedTuple

import msgspec

from agent.shipping.retry import ATTEMPTS_BEFORE_SPLIT
from agent.spool.segment import Position

QUICK_PROBES = 32
"""Failures in a row that may each be another suspect's: only beyond them the pauses grow as if everything were broken."""


class Parcel(msgspec.Struct):
    """Records that are sent in one request, and how that went so far."""

    places: tuple[Position, ...]
    replay: bool = False
    """The bytes may have been received before."""
    tries: int = 0
    failures: int = 0
    """Those of which the parcel itself may be the reason."""
    passes: int = 0
    """How many others had passed when it was first tried."""


class Wait(NamedTuple):
    """Try it again later."""


class Apart(NamedTuple):
    """Send its records one by one: each of these."""

    parcels: tuple[Parcel, ...]


class Convicted(NamedTuple):
    """It is this record."""


Verdict = Wait | Apart | Convicted


def judge(parcel: Parcel, passes: int) -> Verdict:
    """What to do with a parcel that has failed once more; ``passes``: how many others have passed by now."""
    if parcel.failures < ATTEMPTS_BEFORE_SPLIT:
        return Wait()
    if len(parcel.places) == 1 and passes == parcel.passes:
        return Wait()
    return refused(parcel, passes)


def refused(parcel: Parcel, passes: int) -> Verdict:
    """What to do with a parcel that the collector refuses for good."""
    if len(parcel.places) == 1:
        return Convicted()
    return Apart(tuple(Parcel((place,), replay=True, passes=passes) for place in parcel.places))


def attempt(parcel: Parcel, passes: int, failures: int, in_flight: int) -> int:
    """As how many failures in a row one more of a parcel counts, for the pause that follows: as all of its own while nothing
    else passes, as one where it fails alone. ``failures``: of all parcels since something passed."""
    alone = parcel.failures if passes == parcel.passes else 1
    return max(alone, (failures - QUICK_PROBES) // in_flight)


class Suspects:
    """Those that wait, by the time they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Parcel]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, parcel: Parcel, due_s: float) -> None:
        heapq.heappush(self._heap, (due_s, next(self._numbers), parcel))

    def take(self, now_s: float) -> Parcel | None:
        """The one that has been due for longest, if one is."""
        return heapq.heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now_s else None

    @property
    def due_s(self) -> float | None:
        """When the next one is."""
        return self._heap[0][0] if self._heap else None

    def hasten(self, now_s: float) -> None:
        """All are due: what was wrong with everything is over."""
        self._heap = [(min(due_s, now_s), number, parcel) for due_s, number, parcel in self._heap]
        heapq.heapify(self._heap)
