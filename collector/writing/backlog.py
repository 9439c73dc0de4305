"""What waits for a commit: per tenant in order, bounded in bytes, taken in turn.

- All records of a request are let in, or none. What is held (waiting, and in the commits under way) stays below
  ``queue_bytes``, and one tenant's part below its share. A tenant of which nothing is held is let in with any request
  that the whole has room for, and a request that would be alone always.
- There are two lanes, whose commits go on side by side. A tenant of which little waits (`EXPRESS_BYTES`) is served in
  the express lane, so that those of which much waits delay each other and nobody else. A tenant is in one commit at a
  time, in whichever lane: its events find what the commit before has written.
- Data older than a day (`collector.writing.ages`: an insert of it may touch many partitions) never shares a commit with fresh
  data; it goes in the lane for bulk. While both wait there, commits of the two alternate: old data delays fresh data by
  one commit at most, which touches few partitions, and is not starved by it.
- A commit takes one record of each tenant in turn while they fit, so one tenant's backlog delays another's record by
  one commit at most. Within a tenant and an age the order is kept.
- Two records whose ranges of one file overlap never share a commit: the second waits for the next, and is looked up.

A parcel is an agent's record or some events of the JSON API; both wait in the same lines.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeAlias

from collector.config import WriterConfig
from collector.errors import QueueFull
from collector.ingest.outcomes import Tally
from collector.metrics import Metrics
from collector.writing import ages
from collector.writing.event_parcels import EVENT_COST_BYTES, EventParcel, Verdicts
from collector.writing.parcels import Parcel, offsets_of

MAX_COMMIT_EVENTS = 100_000
"""Beyond this an insert only needs more memory. A record with more of them goes alone, in pieces."""
MAX_LOOKUPS = 64
"""Ranges looked up in one commit; each costs some milliseconds."""
MAX_ASKED_IDS = 5_000
"""IDs of single events looked up in one commit; each costs up to 0.1 ms in a large store, for all who wait."""
PARCEL_COST_BYTES = 4096
"""What a waiting record weighs beside its lines."""
EXPRESS_BYTES = 512 << 10
"""A tenant of which at most so much fresh data waits is served in the express lane: a usual batch, or some hundred events."""

AnyParcel: TypeAlias = Parcel | EventParcel


class Request:
    """The records of one `Writer.submit`, and who waits for them."""

    def __init__(self, tenant_id: str, parcels: int) -> None:
        self.tenant_id = tenant_id
        self.outcomes: list[Any] = [None] * parcels
        self.answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        """Per parcel, in order: a `wire.RecordOutcome`, or a verdict for each of its events."""
        self._open = parcels

    def settle(self, index: int, outcome: Any) -> None:
        self.outcomes[index] = outcome
        self._open -= 1
        if not self._open and not self.answer.done():
            self.answer.set_result(self.outcomes)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class RecordItem:
    """An agent's record on its way."""

    def __init__(self, request: Request, index: int, parcel: Parcel, now_us: int) -> None:
        self.request = request
        self.index = index
        self.parcel = parcel
        self.old = ages.old_partitions(parcel, now_us)
        """The partitions it touches, if it is old."""
        self.lookup = parcel.lookup
        self.tally = Tally(parcel.header.record_id)
        self.error: BaseException | None = None


class EventItem:
    """Events of the JSON API on their way."""

    def __init__(self, request: Request, index: int, parcel: EventParcel) -> None:
        self.request = request
        self.index = index
        self.parcel = parcel
        self.old = parcel.old
        self.tally = Verdicts(len(parcel))
        self.error: BaseException | None = None


Item: TypeAlias = RecordItem | EventItem


class Lane(Enum):
    EXPRESS = "express"
    BULK = "bulk"


class Lines:
    """Some of what waits: by tenant, in order; who stands first comes first."""

    def __init__(self) -> None:
        self.tenants: dict[str, deque[Item]] = {}
        self.bytes = 0
        self.bytes_of: Counter[str] = Counter()
        """The same by tenant."""
        self.callers = 0
        """Parcels of the JSON API, whose callers wait for their answers."""

    def __bool__(self) -> bool:
        return bool(self.tenants)

    def add(self, item: Item) -> None:
        self.tenants.setdefault(item.request.tenant_id, deque()).append(item)
        self._count(item, 1)

    def pop(self, tenant: str) -> Item:
        """The tenant's first."""
        line = self.tenants[tenant]
        item = line.popleft()
        if not line:
            del self.tenants[tenant]
        self._count(item, -1)
        return item

    def pop_all(self, tenant: str) -> list[Item]:
        items = list(self.tenants.pop(tenant, ()))
        for item in items:
            self._count(item, -1)
        return items

    def stand_back(self, tenant: str) -> None:
        """The tenant comes last from now on."""
        if tenant in self.tenants:
            self.tenants[tenant] = self.tenants.pop(tenant)

    def _count(self, item: Item, sign: int) -> None:
        size = sign * weight(item.parcel)
        self.bytes += size
        self.bytes_of[item.request.tenant_id] += size
        if item.request.tenant_id not in self.tenants:
            del self.bytes_of[item.request.tenant_id]
        self.callers += sign * isinstance(item, EventItem)


class Backlog:
    """What waits, and what is under way."""

    def __init__(self, config: WriterConfig, metrics: Metrics, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._config = config
        self._metrics = metrics
        self._clock_ns = clock_ns
        self._express = Lines()
        self._bulk = Lines()
        self._old = Lines()
        self._took_fresh = False
        """The last time, in the lane for bulk."""
        self._bytes: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        """Of tenants, what is taken and not decided."""
        self.held_bytes = 0
        """Of all records that are not decided: waiting and in the commits under way."""

    def __bool__(self) -> bool:
        return bool(self._express or self._bulk or self._old)

    @property
    def waiting_bytes(self) -> int:
        return self._express.bytes + self._bulk.bytes + self._old.bytes

    def waiting_in(self, lane: Lane) -> int:
        """Bytes."""
        return self._express.bytes if lane is Lane.EXPRESS else self._bulk.bytes + self._old.bytes

    def callers_in(self, lane: Lane) -> int:
        """Parcels of the JSON API."""
        return self._express.callers if lane is Lane.EXPRESS else self._bulk.callers + self._old.callers

    @property
    def delayed_by_old(self) -> bool:
        """Fresh data waits in the lane for bulk, and its last commit was one of old data."""
        return bool(self._bulk) and not self._took_fresh

    def ready(self, lane: Lane) -> bool:
        """Whether something can be taken."""
        if lane is Lane.EXPRESS:
            return self._is_ready(self._express)
        return self._is_ready(self._bulk) or self._is_ready(self._old)

    def put(self, request: Request, parcels: Sequence[AnyParcel]) -> None:
        """Take the records of a request, all or none. A tenant that has nothing here is let in with any one request
        that fits the whole. Raises QueueFull."""
        size = sum(map(weight, parcels))
        tenant = request.tenant_id
        held = self._bytes[tenant]
        share = self._config.queue_bytes * self._config.tenant_share
        for scope, full in (
            ("tenant", held and held + size > share),
            ("all", self.held_bytes and self.held_bytes + size > self._config.queue_bytes),
        ):
            if full:
                self._metrics.queue_full.labels(scope).inc()
                raise QueueFull(self._config.retry_after_s)
        self._bytes[tenant] += size
        self.held_bytes += size
        self._metrics.queue_bytes.set(self.held_bytes)
        now_us = self._clock_ns() // 1000
        items = [_item(request, n, parcel, now_us) for n, parcel in enumerate(parcels)]
        fresh = [item for item in items if not item.old]
        for item in items:
            if item.old:
                self._old.add(item)
        lines = self._express
        waiting = lines.bytes_of[tenant] + sum(weight(item.parcel) for item in fresh)
        if tenant in self._bulk.tenants or waiting > EXPRESS_BYTES:
            lines = self._bulk
            fresh = self._express.pop_all(tenant) + fresh
        for item in fresh:
            lines.add(item)

    def take(self, lane: Lane) -> list[Item]:
        """The next commit of a lane that is `ready`: one record of each tenant in turn while they fit, all old or all fresh.
        At least one record."""
        lines = self._express if lane is Lane.EXPRESS else self._bulk_or_old()
        items: list[Item] = []
        taken = Taken()
        turn = deque(tenant for tenant in lines.tenants if not self._under_way[tenant])
        while turn:
            tenant = turn.popleft()
            if not taken.fits(lines.tenants[tenant][0], self._config.commit_bytes):
                continue
            item = lines.pop(tenant)
            taken.add(item)
            items.append(item)
            if tenant in lines.tenants:
                turn.append(tenant)
        self._under_way.update(item.request.tenant_id for item in items)
        # Who stands first in the next commit: those who got least in this one.
        for tenant in dict.fromkeys(item.request.tenant_id for item in items):
            lines.stand_back(tenant)
        return items

    def done(self, item: Item) -> None:
        """The item, which was taken, is decided."""
        tenant = item.request.tenant_id
        self._under_way[tenant] -= 1
        if not self._under_way[tenant]:
            del self._under_way[tenant]
        self._let_go(item)

    def fail(self, error: Exception) -> None:
        """Give everybody who waits an error."""
        for lines in (self._express, self._bulk, self._old):
            for tenant in list(lines.tenants):
                for item in lines.pop_all(tenant):
                    item.request.fail(error)

    def drop(self, request: Request) -> None:
        """Forget what waits of a request that failed."""
        for lines in (self._express, self._bulk, self._old):
            for item in lines.pop_all(request.tenant_id):
                if item.request is request:
                    self._let_go(item)
                else:
                    lines.add(item)

    def _bulk_or_old(self) -> Lines:
        fresh, old = self._is_ready(self._bulk), self._is_ready(self._old)
        self._took_fresh = fresh and not (old and self._took_fresh)
        return self._bulk if self._took_fresh else self._old

    def _is_ready(self, lines: Lines) -> bool:
        return any(tenant not in self._under_way for tenant in lines.tenants)

    def _let_go(self, item: Item) -> None:
        size = weight(item.parcel)
        tenant = item.request.tenant_id
        self.held_bytes -= size
        self._bytes[tenant] -= size
        if not self._bytes[tenant]:
            del self._bytes[tenant]
        self._metrics.queue_bytes.set(self.held_bytes)


class Taken:
    """What a commit holds so far."""

    def __init__(self) -> None:
        self._bytes = 0
        self._events = 0
        self._lookups = 0
        self._asked = 0
        self._partitions: frozenset[ages.Partition] = ages.FRESH
        self._ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def fits(self, item: Item, commit_bytes: int) -> bool:
        parcel = item.parcel
        if isinstance(item, RecordItem) and self._overlaps(item.parcel):
            item.lookup = True  # it goes into the next commit, where this one's events can be found
            return False
        return not self._events or (
            self._bytes + weight(parcel) <= commit_bytes
            and self._events + events_of(parcel) <= MAX_COMMIT_EVENTS
            and self._lookups + _looked_up(item) <= MAX_LOOKUPS
            and self._asked + _asked_of(parcel) <= MAX_ASKED_IDS
            and (not item.old or len(self._partitions | item.old) <= ages.MAX_PARTITIONS)
        )

    def add(self, item: Item) -> None:
        parcel = item.parcel
        self._bytes += weight(parcel)
        self._events += max(events_of(parcel), 1)
        self._lookups += _looked_up(item)
        self._asked += _asked_of(parcel)
        self._partitions |= item.old
        if isinstance(parcel, Parcel) and parcel.events and not parcel.losses:
            self._ranges.setdefault(_content(parcel), []).append(offsets_of(parcel))

    def _overlaps(self, parcel: Parcel) -> bool:
        if not parcel.events or parcel.losses:
            return False
        first, last = offsets_of(parcel)
        return any(first <= end and begin <= last for begin, end in self._ranges.get(_content(parcel), ()))


def weight(parcel: AnyParcel) -> int:
    """Bytes a waiting parcel is counted with."""
    if isinstance(parcel, EventParcel):
        return parcel.size_bytes + EVENT_COST_BYTES * len(parcel)
    return len(parcel.lines) + PARCEL_COST_BYTES


def events_of(parcel: AnyParcel) -> int:
    return len(parcel) if isinstance(parcel, EventParcel) else parcel.events


def raw_bytes_of(parcel: AnyParcel) -> int:
    return parcel.size_bytes if isinstance(parcel, EventParcel) else len(parcel.lines)


def _item(request: Request, index: int, parcel: AnyParcel, now_us: int) -> Item:
    if isinstance(parcel, EventParcel):
        return EventItem(request, index, parcel)
    return RecordItem(request, index, parcel, now_us)


def _looked_up(item: Item) -> int:
    """Ranges of IDs that are looked up for it."""
    return int(isinstance(item, RecordItem) and item.lookup)


def _asked_of(parcel: AnyParcel) -> int:
    return len(parcel.asked) if isinstance(parcel, EventParcel) else 0


def _content(parcel: Parcel) -> tuple[str, str]:
    return parcel.tenant_id, parcel.header.file_id
