"""The part of a commit that writes events of the JSON API.

Order: IDs are looked up, without FINAL so that deleted events are seen → what is there is a duplicate, or expired → of several
events with one ID in this commit the first is written → one insert → the others are duplicates of it, or, where it was
refused, the next one is written in its place.

A tenant's commits in a collector run one after the other, so an ID that was accepted is found by every later one. The
stored event is never touched by a repeat: it is not written at all.

`duplicate` is said of what reads show, and of what was deleted. An event that is stored beyond the tenant's retention
(until the engine drops its week, or since the retention was shortened) is `expired`, also where its repeat carries
another time or none: all copies of an ID have one time, the first. Were the repeat written beside it, the first would win
and hide what had just been acknowledged; were the repeat to win, a longer retention would show the event twice. Once the
engine has dropped it, nothing is known of it and the ID is free.

An insert that the engine refuses for its content is made again per request, then by halves, down to the event, as in
`collector.writing.commit`.

Known limit: copies that reach two collectors in the same instant are both called accepted. They are one event; where
they carry no timestamp, both times of arrival lead to it until the engine has merged them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

from agent import wire
from collector.errors import StoreAway, StoreError
from collector.ingest.event_checks import Row
from collector.metrics import Metrics
from collector.store.refusals import MAX_INSERT_EVENTS, NOT_CONTENT, STORE_ERROR
from collector.writing import rows
from collector.writing.backlog import EventItem
from collector.writing.event_lookup import Tables, known_ids
from collector.writing.event_parcels import ACCEPTED, DUPLICATE, Verdict
from collector.writing.event_rows import INSERTED, rows_block, sent

log = logging.getLogger(__name__)


class Store(Tables, Protocol):
    """The part of the store that is used."""

    async def insert_blocks(self, table: str, names: Sequence[str], blocks: Sequence[bytes]) -> None: ...


class Entry(NamedTuple):
    """One event of an item."""

    item: EventItem
    place: int
    name: tuple[str, str]
    """Tenant and ID."""
    row: Row

    def say(self, verdict: Verdict) -> None:
        self.item.tally.say(self.place, verdict)


class EventCommit:
    def __init__(self, store: Store, metrics: Metrics, *, now_ns: int) -> None:
        self._store = store
        self._metrics = metrics
        self._version = rows.version_of(now_ns)
        self._split = False
        self._is_plain = False
        """All items are written without a look at their events."""

    async def write(self, items: list[EventItem]) -> None:
        """Decide every item: each event has its verdict, or its ``error`` is set.

        Raises:
            StoreAway, StoreError: nothing is known about any item.
        """
        asked: dict[str, list[str]] = {}
        for item in items:
            asked.setdefault(item.parcel.tenant_id, []).extend(item.parcel.asked)
        self._metrics.lookups.inc(sum(map(len, asked.values())))
        oldest = {item.parcel.tenant_id: item.parcel.oldest_us for item in items}
        known = await known_ids(self._store, asked, oldest)
        whole, others = _apart(items, known)
        self._is_plain = not others
        new = [entry for item in others for entry in _told(item, known)]
        while new or whole:
            new = await self._round(new, whole)
            whole = []
        self._metrics.commits.labels("split" if self._split else "ok").inc()

    async def _round(self, new: list[Entry], whole: list[EventItem]) -> list[Entry]:
        """Write the first event of each ID, and items whose events have IDs of their own. Returns those that are left
        without a verdict."""
        firsts: dict[tuple[str, str], Entry] = {}
        others = [entry for entry in new if firsts.setdefault(entry.name, entry) is not entry]
        order = sorted(firsts.values(), key=attrgetter("name"))
        if sum(len(item.parcel) for item in whole) + len(order) <= MAX_INSERT_EVENTS:
            await self._insert_or_split(order, whole)
        else:
            for item in whole:
                await self._insert_or_split([], [item])
            for begin in range(0, len(order), MAX_INSERT_EVENTS):
                await self._insert_or_split(order[begin : begin + MAX_INSERT_EVENTS])
        left = []
        for entry in others:
            first = firsts[entry.name]
            if first.item.error is not None:
                entry.item.error = entry.item.error or first.item.error
            elif first.item.tally.of(first.place) == ACCEPTED:
                entry.say(DUPLICATE)
            else:
                left.append(entry)
        return left

    async def _insert_or_split(self, entries: list[Entry], whole: Sequence[EventItem] = ()) -> None:
        """One insert, of items without a look at their events: the common case, and of events one by one."""
        try:
            await self._store.insert_blocks("events", INSERTED, self._blocks(entries, whole))
        except StoreAway as error:
            if self._is_plain and not self._split:
                raise
            _fail(entries, whole, error)
        except StoreError as error:
            await self._split_up([*entries, *(entry for item in whole for entry in _told(item, {}))], error)
        else:
            for entry in entries:
                entry.say(ACCEPTED)
            for item in whole:
                item.tally.say_of_all(ACCEPTED)

    def _blocks(self, entries: list[Entry], whole: Sequence[EventItem]) -> list[bytes]:
        made = [item.parcel for item in whole if item.parcel.block is not None]
        blocks = [sent(parcel.block, parcel.tenant_id, self._version) for parcel in made if parcel.block is not None]
        tenants = [entry.name[0] for entry in entries]
        loose = [entry.row for entry in entries]
        for item in whole:
            if item.parcel.block is None:
                tenants += [item.parcel.tenant_id] * len(item.parcel)
                loose += item.parcel.rows()
        return [*blocks, sent(rows_block(loose), tenants, self._version)] if loose else blocks

    async def _split_up(self, entries: list[Entry], error: StoreError) -> None:
        if error.code in NOT_CONTENT or not error.code:
            log.error("the store refused a commit, and not for its content; nothing was rejected: %s", error)
            _fail(entries, (), StoreAway(error.code, error.message))
            return
        if not self._split:
            log.warning("the store refused a commit of %d events, looking for the cause: %s", len(entries), error)
            self._split = True
        smaller = _smaller(entries)
        if not smaller:
            log.error("an event was rejected: the store refuses it, alone: %s", error)
            (only,) = entries
            only.say(Verdict(wire.REJECTED, STORE_ERROR.format(code=error.code)))
        for part in smaller:
            await self._insert_or_split(part)


def _apart(items: list[EventItem], known: Mapping[tuple[str, str], Verdict]) -> tuple[list[EventItem], list[EventItem]]:
    """Items of which every event is new and the only one with its ID, and the others."""
    ids: dict[str, set[str]] = {}
    for item in items:
        ids.setdefault(item.parcel.tenant_id, set()).update(item.parcel.ids)
    if not known and sum(map(len, ids.values())) == sum(len(item.parcel) for item in items):
        return items, []
    counts = Counter((item.parcel.tenant_id, event_id) for item in items for event_id in item.parcel.ids)
    counts.update(dict.fromkeys(known, 1))
    whole: list[EventItem] = []
    others: list[EventItem] = []
    for item in items:
        tenant_id = item.parcel.tenant_id
        is_whole = all(counts[tenant_id, event_id] == 1 for event_id in item.parcel.ids)
        (whole if is_whole else others).append(item)
    return whole, others


def _told(item: EventItem, known: Mapping[tuple[str, str], Verdict]) -> Iterator[Entry]:
    """Say of the events of an item what is known; those of which nothing is."""
    tenant_id = item.parcel.tenant_id
    new = []
    for place, event_id in enumerate(item.parcel.ids):
        verdict = known.get((tenant_id, event_id))
        if verdict is None:
            new.append(place)
        else:
            item.tally.say(place, verdict)
    rows = item.parcel.rows() if new else ()
    for place in new:
        yield Entry(item, place, (tenant_id, item.parcel.ids[place]), rows[place])


def _smaller(entries: list[Entry]) -> list[list[Entry]]:
    """The next smaller inserts: per request, then halves; empty: it is one event."""
    by_request = sorted(entries, key=lambda entry: id(entry.item.request))
    requests = [list(group) for _, group in groupby(by_request, key=lambda entry: id(entry.item.request))]
    if len(requests) > 1:
        return requests
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]] if middle else []


def _fail(entries: list[Entry], whole: Sequence[EventItem], error: StoreError) -> None:
    for item in (*whole, *(entry.item for entry in entries)):
        item.error = error
