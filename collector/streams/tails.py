"""The tails of this collector, and the one poll that serves them all.

- What is committed is asked for once for all tails that are at the same place, whoever wrote it: tails of one tenant at one
  place are a `Group`, and their different filters are one statement. A tail that begins somewhere else is a group of its own,
  until it has caught up.
- Every tail has a buffer, bounded in bytes, and nobody waits for another's reader: a tail whose buffer is full leaves its
  group, and for one that catches up only so much is read as its reader takes. One that is so slow that it has not caught up
  after ``grace_s`` is told how many events it missed, and from where on (``gap``), and goes on with what is new.
- A group whose statement the engine gives up is parted until the filter that is to blame is alone; that one is told, and ends.
- The live poll and the one for those that catch up go on side by side: the live one takes one of the store's readers at a time,
  the other one more, by way of the turnstile.

Shown once: an ID that was passed on lately is not passed on again (`MEMORY`), nor one that an earlier insert has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from agent import wire
from collector.config import Limits
from collector.errors import CollectorError, QueryTooExpensive, StoreAway, StoreError, TooManyQueries
from collector.metrics import Metrics
from collector.search import query
from collector.search.bounds import NO_LIMITS
from collector.search.event import COLUMNS, event_of
from collector.search.query import Search, Statement
from collector.streams import commits
from collector.streams.commits import Position, cursor_of

log = logging.getLogger(__name__)

POLL_S = 0.2
CATCH_UP_S = 0.05
MAX_POLL_S = 2.0
AWAY_S = 1.0
FIRST_STEP = 64
MAX_STEP = 1 << 20
LESS = 8
"""Of inserts that were too much for one statement, so many times fewer are tried."""
MEMORY = 100_000
"""IDs passed on lately, of all tenants."""
_ID_AT = 1 + list(COLUMNS).index("external_id")
"""In a row of `commits.page_after`."""
_encode = msgspec.json.Encoder().encode
Rows = list[tuple[Any, ...]]


class Asks(Protocol):
    """Asks the store, within the limits of a tenant. ``tenant_id`` empty: for all."""

    def __call__(self, statement: Statement, tenant_id: str = "", limits: Limits = NO_LIMITS) -> Awaitable[Rows]: ...


class Tail:
    """One reader: what it is sent, and how it is."""

    def __init__(self, search: Search, limits: Limits, max_bytes: int) -> None:
        self.search = search
        self.limits = limits
        """The tenant's, as they were lately."""
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self.position = Position(0)
        """Behind all that was put here, or missed."""
        self.weight = commits.weight_of(search)
        self.changed = asyncio.Event()
        self.fault: CollectorError | None = None
        """Why it ends."""

    @property
    def is_full(self) -> bool:
        """Whether what waits is enough for now."""
        return self._bytes > self._max_bytes // 2

    def has_room(self, chunk: bytes) -> bool:
        return not self._waiting or self._bytes + len(chunk) <= self._max_bytes

    def put(self, chunk: bytes, place: Position) -> None:
        self.position = place
        self._waiting.append(chunk)
        self._bytes += len(chunk)
        self.changed.set()

    def pass_over(self, missed: int, exact: bool, place: Position) -> None:
        """Tell its reader that it missed some events, up to there."""
        gap = _encode({"missed": missed, "at_least": not exact, "cursor": cursor_of(self.position)})
        self.put(b"event: gap\n" + id_line(place) + b"data: " + gap + b"\n\n", place)

    def end(self, fault: CollectorError) -> None:
        self.fault = fault
        self.changed.set()

    def take(self, most: int) -> bytes:
        """What is to be sent next, about ``most`` bytes; empty: nothing."""
        taken, size = [], 0
        while self._waiting and size < most:
            taken.append(self._waiting.popleft())
            size += len(taken[-1])
        self._bytes -= size
        if not self._waiting and self.fault is None:
            self.changed.clear()
        return b"".join(taken)


class Group:
    """Tails of one tenant that are at the same place."""

    def __init__(self, tenant_id: str, tails: Iterable[Tail], position: Position, *, live: bool) -> None:
        self.tenant_id = tenant_id
        self.tails = list(tails)
        self.position = position
        self.live = live
        """They have caught up."""
        self.alone = False
        """Parted from others, for good."""
        self.fell_s: float | None = None
        """Since when its tail, which had caught up, is behind; by the monotonic clock."""
        self.step = FIRST_STEP
        """Inserts that are looked at together."""

    def by_filter(self) -> list[list[Tail]]:
        found: dict[bytes, list[Tail]] = {}
        for tail in self.tails:
            found.setdefault(tail.search.check, []).append(tail)
        return list(found.values())

    def may_join(self, other: Group) -> bool:
        """Whether both can be one."""
        if not (self.live and other.live) or self.alone or other.alone:
            return False
        if (self.tenant_id, self.position) != (other.tenant_id, other.position):
            return False
        together = Group(self.tenant_id, [*self.tails, *other.tails], self.position, live=True).by_filter()
        weight = sum(tails[0].weight for tails in together)
        return len(together) <= commits.MAX_TOGETHER and weight <= commits.MAX_TOGETHER_BYTES

    @property
    def is_full(self) -> bool:
        return any(tail.is_full for tail in self.tails)


class Tails:
    """All tails of this process.

    Args:
        live: asks for what all wait for.
        catching_up: asks for one tenant; may raise TooManyQueries.
        grace_s: how long a reader may be behind before it is told of a gap.
    """

    def __init__(self, database: str, live: Asks, catching_up: Asks, metrics: Metrics, *, grace_s: float) -> None:
        self._database = database
        self._asks = {True: live, False: catching_up}
        self._metrics = metrics
        self._grace_s = grace_s
        self._groups: list[Group] = []
        self._known: dict[tuple[str, str], int] = {}
        """Numbers of the inserts of IDs that were passed on."""
        self._come = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(live), name=f"tails-{live}") for live in (True, False)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def add(self, tail: Tail, position: Position | None) -> Position:
        """From now on the tail gets what is committed behind ``position``; None: from now on. Raises StoreError."""
        end = await self._end(True)
        # Beyond the end nothing is there: a store that begins to count anew must not be waited for.
        tail.position = Position(end) if position is None else min(position, Position(end))
        self._groups.append(Group(tail.search.tenant_id, [tail], tail.position, live=position is None))
        self._come.set()
        return tail.position

    def remove(self, tail: Tail) -> None:
        for group in self._groups:
            if tail in group.tails:
                group.tails.remove(tail)
        self._groups = [group for group in self._groups if group.tails]
        if not self._groups:
            self._come.clear()
            self._known.clear()

    async def _run(self, live: bool) -> None:
        while True:
            await self._come.wait()
            began = time.monotonic()
            pause_s = POLL_S if live else CATCH_UP_S
            try:
                if live or any(not group.live for group in self._groups):
                    await self._poll(live)
            except (StoreError, TooManyQueries) as error:
                log.debug("tails: not asked now: %s", error)
                pause_s = AWAY_S
            except Exception:
                log.exception("tails: a poll failed in an unexpected way")
                pause_s = AWAY_S
            took_s = time.monotonic() - began
            if live:
                self._metrics.tail_poll_seconds.observe(took_s)
            await asyncio.sleep(min(max(pause_s - took_s, took_s / 2), MAX_POLL_S))

    async def _poll(self, live: bool) -> None:
        """Pass on all that is new for the groups of this kind; what a full buffer keeps waiting is left for the next time."""
        end = await self._end(live)
        if live:
            self._join()
        groups = [group for group in self._groups if group.live is live]
        await self._bring_back([group for group in groups if group.position > Position(end)], live)
        behind = await self._behind(live, [group for group in groups if group.position < Position(end)], end)
        while behind:
            behind = [group for group in behind if await self._advance(group, end)]
        for group in groups:
            if group.live:
                continue
            if group.fell_s is not None and time.monotonic() - group.fell_s > self._grace_s:
                await self._pass_over(group, end)
            if group.position >= Position(end) and (group.fell_s is None or not group.is_full):
                group.live, group.fell_s = True, None

    async def _bring_back(self, ahead: list[Group], live: bool) -> None:
        """Groups that are beyond the end: the other poll was there meanwhile, or the store counts anew."""
        if ahead:
            end = await self._end(live)
            for group in ahead:
                group.position = min(group.position, Position(end))

    async def _behind(self, live: bool, groups: list[Group], end: int) -> list[Group]:
        """Those for which there may be something; the others have passed it."""
        if len({group.tenant_id for group in groups}) < 2:
            return groups
        begin = min(group.position.block for group in groups)
        tenants = {group.tenant_id for group in groups}
        found = {tenant_id for (tenant_id,) in await self._asks[live](commits.touched(sorted(tenants), begin, end))}
        for group in groups:
            if group.tenant_id not in found:
                self._moved(group, Position(end))
        return [group for group in groups if group.tenant_id in found]

    async def _advance(self, group: Group, end: int) -> bool:
        """One page for a group; whether there is more for it now."""
        if not group.tails or (not group.live and group.is_full):
            return False
        upto = min(end, group.position.block + group.step)
        most = commits.LIVE if group.live else commits.CATCHING_UP
        sets = group.by_filter()
        asked = (group.position, upto, [self._as_of_now(tails[0]) for tails in sets], most)
        ask = partial(self._asks[group.live], tenant_id=group.tenant_id, limits=group.tails[0].limits)
        try:
            rows = await ask(commits.page_after(*asked))
            lines = any(wire.EVENT_ID.fullmatch(row[_ID_AT]) for row in rows)
            firsts: dict[str, int] = dict(await ask(commits.first_inserts(*asked)) if lines else [])
        except (StoreAway, TooManyQueries):
            if group.live:
                raise
            return False
        except (QueryTooExpensive, StoreError) as error:
            if isinstance(error, QueryTooExpensive) and upto - group.position.block > 1:
                group.step = max(1, (upto - group.position.block) // LESS)  # it may have been too much at once
                return True
            self._part(group, sets, error)
            return False
        for row in rows:
            if firsts.get(row[_ID_AT], row[0]) >= row[0]:
                self._pass_on(group, sets, row)
        whole = not rows or len(rows) == rows[0][-1] < most.rows
        group.step = min(MAX_STEP, group.step * 2) if whole else max(1, group.step // 2)
        self._moved(group, Position(upto) if whole else Position(rows[-1][0], rows[-1][_ID_AT]))
        return group.position < Position(end)

    def _pass_on(self, group: Group, sets: Sequence[Sequence[Tail]], row: tuple[Any, ...]) -> None:
        block, *values, hits, _ = row
        event_id = row[_ID_AT]
        if group.live and not self._is_new(group.tenant_id, event_id, block):
            return
        place = Position(block, event_id)
        chunk = id_line(place) + b"data: " + _encode(event_of(tuple(values)).shown) + b"\n\n"
        for tails, hit in zip(sets, hits, strict=True):
            for tail in tails if hit else ():
                if group.live and tail in group.tails and not tail.has_room(chunk):
                    self._fall(group, tail)
                if tail in group.tails:
                    tail.put(chunk, place)
                    self._metrics.tail_events.inc()

    def _fall(self, group: Group, tail: Tail) -> None:
        """Its reader cannot follow: it goes on alone from where it is."""
        group.tails.remove(tail)
        alone = Group(group.tenant_id, [tail], tail.position, live=False)
        alone.fell_s = time.monotonic()
        self._groups.append(alone)

    async def _pass_over(self, group: Group, end: int) -> None:
        """All that is left up to ``end`` is missed."""
        for tail in list(group.tails):
            asked = (group.position, end, [self._as_of_now(tail)])
            missed, exact = 0, False
            try:
                counted = await self._asks[True](commits.count_after(*asked), group.tenant_id, tail.limits)
                missed, exact = int(counted[0][0]), True
            except StoreAway:
                return
            except (QueryTooExpensive, StoreError) as error:
                log.debug("tails: what a slow reader missed cannot be counted: %s", error)
            if missed or not exact:
                tail.pass_over(missed, exact, Position(end))
                self._metrics.tail_missed.inc(missed)
        self._moved(group, Position(end))
        group.live, group.fell_s = True, None

    def _is_new(self, tenant_id: str, event_id: str, block: int) -> bool:
        """Whether no other insert has brought it lately. (Several groups may look at the same one.)"""
        name = (tenant_id, event_id)
        first = self._known.get(name)
        if first is None and len(self._known) >= MEMORY:
            del self._known[next(iter(self._known))]
        self._known[name] = block if first is None else min(first, block)
        return first is None or first >= block

    def _moved(self, group: Group, position: Position) -> None:
        group.position = position
        for tail in group.tails:
            tail.position = max(tail.position, position)

    def _part(self, group: Group, sets: list[list[Tail]], error: CollectorError) -> None:
        """Its statement was refused, or given up."""
        if len(sets) > 1:
            half = len(sets) // 2
            group.tails = [tail for tails in sets[:half] for tail in tails]
            rest = Group(group.tenant_id, [t for tails in sets[half:] for t in tails], group.position, live=group.live)
            group.alone = rest.alone = True
            self._groups.append(rest)
            return
        log.info("a tail ended, for its query cannot be answered: %s", error)
        fault = error if isinstance(error, QueryTooExpensive) else QueryTooExpensive("the store refuses this query")
        for tail in list(group.tails):
            tail.end(fault)
            self.remove(tail)

    def _join(self) -> None:
        """Put live groups of one tenant at one place together, as far as a statement has room for their filters."""
        joined: list[Group] = []
        for group in self._groups:
            other = next((one for one in joined if one.may_join(group)), None)
            if other is None:
                joined.append(group)
            else:
                other.tails += group.tails
                other.step = min(other.step, group.step)
        self._groups = joined

    def _as_of_now(self, tail: Tail) -> Search:
        start_us, end_us = query.kept(tail.limits.retention_days, time.time_ns() // 1000)
        return msgspec.structs.replace(tail.search, start_us=start_us, end_us=end_us)

    async def _end(self, live: bool) -> int:
        """The number of the insert that comes next, or a later one will have."""
        return int((await self._asks[live](commits.newest(self._database)))[0][0]) + 1


def id_line(position: Position) -> bytes:
    """What makes a reader's next attempt begin behind ``position``."""
    return b"id: " + cursor_of(position).encode() + b"\n"
