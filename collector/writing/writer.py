"""Group commit: what many requests bring goes into the store together, and every request waits for its own.

What they bring are parcels: agent records, and events of the JSON API.

Promises:
- `Writer.submit` answers only what the store has confirmed. An event is in the counts of exactly one outcome.
- One commit at a time in each of two lanes: one for tenants of which little waits, one for the others. The next one
  begins when the last is done and ``commit_interval_s`` have passed since it began (longer where commits are slow, see
  `REST`), or at once when ``commit_bytes`` wait; when nothing was going on it begins at once.
- Data older than a day is committed apart from fresh data, which waits for one such commit at most.
- What waits is bounded, and filled into commits by tenants in turn: see `collector.writing.backlog`.
- Records that may be there already (`Parcel.lookup`), and events whose senders named them, have their IDs looked up
  inside the commit, without FINAL, so that earlier commits and deleted events are seen.
- A caller that goes away changes nothing: what it submitted is committed.
- A statement that the engine refuses for its content costs only the event that is to blame: see `collector.writing.commit` and
  `collector.writing.event_commit`.

States of a request: waiting (its records are in the queue) → answered (every record has an outcome) or failed (the
store was away in one of its commits: its waiting records are dropped, and the caller sends all again).

Known limit: copies that reach two collectors in the same instant are both called accepted; they are one event still.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from agent import wire
from collector.config import WriterConfig
from collector.errors import StoreAway
from collector.metrics import Metrics
from collector.store.store import Store
from collector.writing.backlog import AnyParcel, Backlog, EventItem, Item, Lane, RecordItem, Request, raw_bytes_of
from collector.writing.commit import Commit
from collector.writing.event_commit import EventCommit
from collector.writing.event_parcels import EventParcel, Verdict
from collector.writing.parcels import Parcel

log = logging.getLogger(__name__)

REST = 4.0
CALLERS_REST = 1.5
"""From the start of one commit to that of the next, in times of what it took, while less than `REST_BYTES` wait: a
commit of five lines costs 20 to 50 ms of CPU, and these should not add up to a core. The second where callers of the API
wait for their answers; an agent has others under way meanwhile. Not beyond `MAX_REST_S`."""
REST_BYTES = 256 << 10
MAX_REST_S = 0.5
GIVE_WAY_S = 0.25
"""So long a commit of the lane for bulk lets one of the express lane go first."""
SAME_FAULT_S = 60.0
"""A lasting fault of the store is logged this often."""


class Writer:
    def __init__(
        self, store: Store, config: WriterConfig, metrics: Metrics, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        self._clock_ns = clock_ns
        self._backlog = Backlog(config, metrics, clock_ns=clock_ns)
        self._changed = {lane: asyncio.Event() for lane in Lane}
        self._busy: set[Lane] = set()
        """Lanes with a commit under way."""
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._fault_said_at = -SAME_FAULT_S

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="writer")

    async def stop(self) -> None:
        """Take nothing more, commit what waits, end."""
        self._stopping = True
        self._say_change()
        if self._task is not None:
            await self._task
            self._task = None

    @property
    def takes(self) -> bool:
        """Whether records are taken: not while stopping, and no more after a fault of the writer's own."""
        return not self._stopping

    async def submit(self, parcels: Sequence[Parcel]) -> list[wire.RecordOutcome]:
        """Have records of one tenant written.

        Returns:
            One outcome per record, in order, when all of them are decided and on disk.

        Raises:
            QueueFull: too much waits; nothing was taken.
            StoreAway: the store cannot take them now, or stopped taking them; what was written before is found as
                duplicates when they are sent again.
        """
        return await self._submit(parcels)

    async def submit_events(self, parcels: Sequence[EventParcel]) -> list[Verdict]:
        """Have events of one tenant written. Raises as `submit`.

        Returns:
            One verdict per event, in order, when all of them are decided and on disk.
        """
        return [verdict for verdicts in await self._submit(parcels) for verdict in verdicts]

    async def _submit(self, parcels: Sequence[AnyParcel]) -> list[Any]:
        if not parcels:
            return []
        if self._stopping:
            raise StoreAway(message="the collector is stopping", retry_after_s=self._config.retry_after_s)
        if not self._store.ready:
            raise StoreAway(message="the schema is not applied yet", retry_after_s=self._config.retry_after_s)
        request = Request(parcels[0].tenant_id, len(parcels))
        self._backlog.put(request, parcels)
        self._say_change()
        return await request.answer

    async def _run(self) -> None:
        lanes = [asyncio.create_task(self._commits(lane), name=f"writer-{lane.value}") for lane in Lane]
        try:
            await asyncio.gather(*lanes)
        except Exception:
            log.critical("the writer ended by a fault of its own; restart the collector", exc_info=True)
            raise
        finally:
            for task in lanes:
                task.cancel()
            self._stopping = True
            self._backlog.fail(StoreAway(message="the writer has ended"))

    async def _commits(self, lane: Lane) -> None:
        began, took = float("-inf"), 0.0
        backlog, config = self._backlog, self._config
        while True:
            while not backlog.ready(lane):
                if self._stopping and not backlog:
                    return
                await self._change(lane)
            await self._pause(lane, began + config.commit_interval_s, config.commit_bytes)
            await self._pause(lane, began + min(CALLERS_REST * took, MAX_REST_S), REST_BYTES)
            await self._pause(lane, began + min(REST * took, MAX_REST_S), REST_BYTES, unless_callers=True)
            if lane is Lane.BULK:
                await self._give_way()
            if not backlog.ready(lane):  # a tenant that grew has changed lanes
                continue
            began = time.monotonic()
            self._busy.add(lane)
            await self._commit(backlog.take(lane))
            self._busy.discard(lane)
            self._say_change()
            took = time.monotonic() - began

    async def _give_way(self) -> None:
        """While a commit of the other lane is under way: the machine is its."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_WAY_S):
                while Lane.EXPRESS in self._busy and not self._stopping:
                    await self._change(Lane.BULK)

    async def _pause(self, lane: Lane, until: float, enough_bytes: int, *, unless_callers: bool = False) -> None:
        """Until that time, or until so much waits, or fresh data after a commit of old data (it does not pay for that), or,
        where that is said, a caller of the API."""
        backlog = self._backlog
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                while backlog.waiting_in(lane) < enough_bytes and not self._stopping:
                    if (unless_callers and backlog.callers_in(lane)) or (lane is Lane.BULK and backlog.delayed_by_old):
                        return
                    await self._change(lane)

    async def _change(self, lane: Lane) -> None:
        """Until something came, or a commit of the other lane is done."""
        self._changed[lane].clear()
        await self._changed[lane].wait()

    def _say_change(self) -> None:
        for changed in self._changed.values():
            changed.set()

    async def _commit(self, items: list[Item]) -> None:
        began = time.monotonic()
        records = [item for item in items if isinstance(item, RecordItem)]
        events = [item for item in items if isinstance(item, EventItem)]
        now_ns = self._clock_ns()
        self._metrics.commits_old.inc(bool(items[0].old))
        if records:
            await self._part(records, Commit(self._store, self._metrics, now_ns=now_ns).write(records))
        if events:
            await self._part(events, EventCommit(self._store, self._metrics, now_ns=now_ns).write(events))
        self._metrics.commit_seconds.observe(time.monotonic() - began)
        self._metrics.commit_bytes.observe(sum(raw_bytes_of(item.parcel) for item in items))
        for item in items:
            self._backlog.done(item)
            if item.error is not None:
                self._backlog.drop(item.request)
                item.request.fail(item.error)
            else:
                item.request.settle(item.index, item.tally.outcome())

    async def _part(self, items: Sequence[Item], writing: Awaitable[None]) -> None:
        """Records or events: what becomes of the ones says nothing of the others."""
        try:
            await writing
        except Exception as error:
            self._failed(items, error)

    def _failed(self, items: Sequence[Item], error: Exception) -> None:
        """The whole part came to nothing, or it is not known what it came to."""
        is_away = isinstance(error, StoreAway)
        self._metrics.commits.labels("away" if is_away else "failed").inc()
        now = time.monotonic()
        if now - self._fault_said_at >= SAME_FAULT_S:
            self._fault_said_at = now
            log.warning("a commit failed, its callers send again: %s", error, exc_info=None if is_away else error)
        for item in items:
            item.error = error
