"""Group commit: parcels of many requests go into the store together, and every request waits for its own.

Promises:
- `Writer.submit` answers only what the store has confirmed. An event is in the counts of exactly one outcome.
- One commit at a time. The next one begins when the last is done and ``commit_interval_s`` have passed since it began
  (longer where commits are slow, see `REST`), or at once when ``commit_bytes`` wait; when nothing was going on it begins
  at once.
- What waits is bounded, and one tenant's part of it. A commit is filled from the tenants in turn, record by record, so
  one tenant's backlog delays another's record by one commit at most.
- Records that may be there already (`Parcel.lookup`) have their IDs looked up inside the commit, without FINAL, so that
  earlier commits and deleted events are seen. Two records with overlapping ranges never share a commit.
- A caller that goes away changes nothing: what it submitted is committed.
- A statement that the engine refuses for its content costs only the event that is to blame: see `collector.commit`.

States of a request: waiting (its records are in the queue) → answered (every record has an outcome) or failed (the
store was away in one of its commits: its waiting records are dropped, and the caller sends all again).

Known limit: copies that reach two collectors in the same instant are both called accepted; they are one event still.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from agent import wire
from collector.blocks import Parcel, offsets_of
from collector.commit import Commit, Item
from collector.config import WriterConfig
from collector.errors import QueueFull, StoreAway
from collector.metrics import Metrics
from collector.store import Store

log = logging.getLogger(__name__)

MAX_COMMIT_EVENTS = 100_000
"""Beyond this an insert only needs more memory. A record with more of them goes alone, in pieces."""
MAX_LOOKUPS = 64
"""Ranges looked up in one commit; each costs some milliseconds."""
PARCEL_COST_BYTES = 4096
"""What a waiting record weighs beside its lines."""
REST = 4.0
"""From the start of one commit to that of the next, in times of what it took: a commit of five lines costs 20 to 50 ms
of CPU, and while little waits these should not add up to a core. Not beyond `MAX_REST_S`."""
MAX_REST_S = 0.5
SAME_FAULT_S = 60.0
"""A lasting fault of the store is logged this often."""


class Request:
    """The records of one `Writer.submit`, and who waits for them."""

    def __init__(self, tenant_id: str, parcels: list[Parcel]) -> None:
        self.tenant_id = tenant_id
        self.outcomes: list[wire.RecordOutcome | None] = [None] * len(parcels)
        self.answer: asyncio.Future[list[wire.RecordOutcome]] = asyncio.get_running_loop().create_future()
        self.failed = False
        self._open = len(parcels)

    def settle(self, index: int, outcome: wire.RecordOutcome) -> None:
        self.outcomes[index] = outcome
        self._open -= 1
        if not self._open and not self.answer.done():
            self.answer.set_result([outcome for outcome in self.outcomes if outcome is not None])

    def fail(self, error: BaseException) -> None:
        self.failed = True
        if not self.answer.done():
            self.answer.set_exception(error)


class Writer:
    def __init__(
        self, store: Store, config: WriterConfig, metrics: Metrics, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        self._clock_ns = clock_ns
        self._queue = Queue(config, metrics)
        self._changed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._fault_said_at = -SAME_FAULT_S

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="writer")

    async def stop(self) -> None:
        """Take nothing more, commit what waits, end."""
        self._stopping = True
        self._changed.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def submit(self, parcels: list[Parcel]) -> list[wire.RecordOutcome]:
        """Have parcels of one tenant written.

        Returns:
            One outcome per parcel, in order, when all of them are decided and on disk.

        Raises:
            QueueFull: too much waits; nothing was taken.
            StoreAway: the store cannot take them now, or stopped taking them; what was written before is found as
                duplicates when they are sent again.
        """
        if not parcels:
            return []
        if self._stopping:
            raise StoreAway(message="the collector is stopping", retry_after_s=self._config.retry_after_s)
        if not self._store.ready:
            raise StoreAway(message="the schema is not applied yet", retry_after_s=self._config.retry_after_s)
        request = Request(parcels[0].tenant_id, parcels)
        self._queue.put(request, parcels)
        self._changed.set()
        return await request.answer

    async def _run(self) -> None:
        try:
            await self._commits()
        except Exception:
            log.critical("the writer ended by a fault of its own; restart the collector", exc_info=True)
            raise
        finally:
            self._stopping = True
            self._queue.fail(StoreAway(message="the writer has ended"))

    async def _commits(self) -> None:
        began, pause_s = float("-inf"), 0.0
        while True:
            while not self._queue and not self._stopping:
                self._changed.clear()
                await self._changed.wait()
            if not self._queue:
                return
            await self._pause(began + max(self._config.commit_interval_s, pause_s))
            began = time.monotonic()
            await self._commit(self._queue.take())
            pause_s = min(REST * (time.monotonic() - began), MAX_REST_S)

    async def _pause(self, until: float) -> None:
        """Until that time, or until a whole commit waits."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                while self._queue.waiting_bytes < self._config.commit_bytes and not self._stopping:
                    self._changed.clear()
                    await self._changed.wait()

    async def _commit(self, items: list[Item]) -> None:
        began = time.monotonic()
        commit = Commit(self._store, self._metrics, now_ns=self._clock_ns())
        try:
            await commit.write(items)
        except Exception as error:
            self._failed(items, error)
        self._metrics.commit_seconds.observe(time.monotonic() - began)
        self._metrics.commit_bytes.observe(sum(len(item.parcel.lines) for item in items))
        for item in items:
            self._queue.done(item)
            if item.error is not None:
                self._queue.drop(item.request)
                item.request.fail(item.error)
            else:
                item.request.settle(item.index, item.tally.outcome())

    def _failed(self, items: list[Item], error: Exception) -> None:
        """The whole commit came to nothing, or it is not known what it came to."""
        is_away = isinstance(error, StoreAway)
        self._metrics.commits.labels("away" if is_away else "failed").inc()
        now = time.monotonic()
        if now - self._fault_said_at >= SAME_FAULT_S:
            self._fault_said_at = now
            log.warning("a commit failed, its callers send again: %s", error, exc_info=None if is_away else error)
        for item in items:
            item.error = error


class Queue:
    """What waits: per tenant in order, bounded in bytes, taken in turn."""

    def __init__(self, config: WriterConfig, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._tenants: dict[str, deque[Item]] = {}
        self._bytes: dict[str, int] = {}
        self.held_bytes = 0
        """Of all records that are not decided: waiting and in the commit under way."""
        self.waiting_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def put(self, request: Request, parcels: list[Parcel]) -> None:
        """Take the records of a request, all or none. A tenant that has nothing here is let in with any one request
        that fits the whole. Raises QueueFull."""
        size = sum(map(weight, parcels))
        tenant = request.tenant_id
        held = self._bytes.get(tenant, 0)
        share = self._config.queue_bytes * self._config.tenant_share
        for scope, full in (
            ("tenant", held and held + size > share),
            ("all", self.held_bytes and self.held_bytes + size > self._config.queue_bytes),
        ):
            if full:
                self._metrics.queue_full.labels(scope).inc()
                raise QueueFull(self._config.retry_after_s)
        self._bytes[tenant] = held + size
        self.held_bytes += size
        self.waiting_bytes += size
        self._metrics.queue_bytes.set(self.held_bytes)
        line = self._tenants.setdefault(tenant, deque())
        line.extend(Item(request, n, parcel) for n, parcel in enumerate(parcels))

    def take(self) -> list[Item]:
        """The next commit: one record of each tenant in turn while they fit. At least one record."""
        items: list[Item] = []
        taken = Taken()
        turn = deque(self._tenants)
        while turn:
            tenant = turn.popleft()
            line = self._tenants[tenant]
            if not taken.fits(line[0], self._config.commit_bytes):
                continue
            item = line.popleft()
            taken.add(item)
            items.append(item)
            self.waiting_bytes -= weight(item.parcel)
            if line:
                turn.append(tenant)
            else:
                del self._tenants[tenant]
        # Who stands first in the next commit: those who got least in this one.
        for tenant in dict.fromkeys(item.request.tenant_id for item in items):
            if tenant in self._tenants:
                self._tenants[tenant] = self._tenants.pop(tenant)
        return items

    def done(self, item: Item) -> None:
        """The item, which was taken, is decided."""
        size = weight(item.parcel)
        tenant = item.request.tenant_id
        self.held_bytes -= size
        self._bytes[tenant] -= size
        if not self._bytes[tenant]:
            del self._bytes[tenant]
        self._metrics.queue_bytes.set(self.held_bytes)

    def fail(self, error: Exception) -> None:
        """Give everybody who waits an error."""
        for request in {item.request for line in self._tenants.values() for item in line}:
            request.fail(error)
        self._tenants.clear()

    def drop(self, request: Request) -> None:
        """Forget what waits of a request that failed."""
        line = self._tenants.get(request.tenant_id)
        if line is None:
            return
        for item in [item for item in line if item.request is request]:
            line.remove(item)
            self.waiting_bytes -= weight(item.parcel)
            self.done(item)
        if not line:
            del self._tenants[request.tenant_id]


class Taken:
    """What a commit holds so far."""

    def __init__(self) -> None:
        self._bytes = 0
        self._events = 0
        self._lookups = 0
        self._ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def fits(self, item: Item, commit_bytes: int) -> bool:
        parcel = item.parcel
        if self._overlaps(parcel):
            item.lookup = True  # it goes into the next commit, where this one's events can be found
            return False
        return not self._events or (
            self._bytes + weight(parcel) <= commit_bytes
            and self._events + parcel.events <= MAX_COMMIT_EVENTS
            and self._lookups + item.lookup <= MAX_LOOKUPS
        )

    def add(self, item: Item) -> None:
        parcel = item.parcel
        self._bytes += weight(parcel)
        self._events += max(parcel.events, 1)
        self._lookups += item.lookup
        if parcel.events and not parcel.losses:
            self._ranges.setdefault(_content(parcel), []).append(offsets_of(parcel))

    def _overlaps(self, parcel: Parcel) -> bool:
        if not parcel.events or parcel.losses:
            return False
        first, last = offsets_of(parcel)
        return any(first <= end and begin <= last for begin, end in self._ranges.get(_content(parcel), ()))


def weight(parcel: Parcel) -> int:
    """Bytes a waiting record is counted with."""
    return len(parcel.lines) + PARCEL_COST_BYTES


def _content(parcel: Parcel) -> tuple[str, str]:
    return parcel.tenant_id, parcel.header.file_id
