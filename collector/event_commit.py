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
`collector.commit`.

Known limit: copies that reach two collectors in the same instant are both called accepted. They are one event; where
they carry no timestamp, both times of arrival lead to it until the engine has merged them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from agent import wire
from collector import rows
from collector.backlog import EventItem
from collector.errors import StoreAway, StoreError
from collector.event_checks import Row
from collector.event_parcels import ACCEPTED, DELETED, DUPLICATE, EXPIRED, Verdict, columns_of, table_of
from collector.metrics import Metrics
from collector.refusals import MAX_INSERT_EVENTS, NOT_CONTENT, STORE_ERROR

log = logging.getLogger(__name__)

MAX_ASKED = 5_000
"""IDs in one look-up."""


class Tables(Protocol):
    """The part of the store that is used."""

    async def query_plain(self, sql: str) -> list[list[Any]]: ...

    async def insert_columns(self, table: str, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> None: ...


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
    def __init__(self, store: Tables, metrics: Metrics, *, now_ns: int) -> None:
        self._store = store
        self._metrics = metrics
        self._version = rows.version_of(now_ns)
        self._split = False

    async def write(self, items: list[EventItem]) -> None:
        """Decide every item: each event has its verdict, or its ``error`` is set.

        Raises:
            StoreAway, StoreError: nothing is known about any item.
        """
        asked = {(item.parcel.tenant_id, event_id) for item in items for event_id in item.parcel.asked}
        self._metrics.lookups.inc(len(asked))
        oldest = {item.parcel.tenant_id: item.parcel.oldest_us for item in items}
        known = await known_ids(self._store, asked, oldest)
        if known or _copies(items) or sum(len(item.parcel) for item in items) > MAX_INSERT_EVENTS:
            await self._one_by_one(items, known)
        else:
            await self._whole(items)
        self._metrics.commits.labels("split" if self._split else "ok").inc()

    async def _whole(self, items: list[EventItem]) -> None:
        """All events in one insert, without a look at any of them: the common case."""
        names, table = table_of([(item.parcel.tenant_id, item.parcel.columns) for item in items], self._version)
        try:
            await self._store.insert_columns("events", names, table)
        except StoreAway:
            raise
        except StoreError as error:
            await self._split_up(list(_entries(items)), error)
        else:
            for item in items:
                item.tally.say_of_all(ACCEPTED)

    async def _one_by_one(self, items: list[EventItem], known: Mapping[tuple[str, str], Verdict]) -> None:
        new: list[Entry] = []
        for entry in _entries(items):
            verdict = known.get(entry.name)
            if verdict is None:
                new.append(entry)
            else:
                entry.say(verdict)
        while new:
            new = await self._round(new)

    async def _round(self, new: list[Entry]) -> list[Entry]:
        """Write the first event of each ID. Returns those that are left without a verdict."""
        firsts: dict[tuple[str, str], Entry] = {}
        others = [entry for entry in new if firsts.setdefault(entry.name, entry) is not entry]
        order = sorted(firsts.values(), key=attrgetter("name"))
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

    async def _insert_or_split(self, entries: list[Entry]) -> None:
        tenants = groupby(entries, key=lambda entry: entry.name[0])
        parts = [(tenant_id, columns_of([entry.row for entry in own])) for tenant_id, own in tenants]
        names, table = table_of(parts, self._version)
        try:
            await self._store.insert_columns("events", names, table)
        except StoreAway as error:
            _fail(entries, error)
        except StoreError as error:
            await self._split_up(entries, error)
        else:
            for entry in entries:
                entry.say(ACCEPTED)

    async def _split_up(self, entries: list[Entry], error: StoreError) -> None:
        if error.code in NOT_CONTENT or not error.code:
            log.error("the store refused a commit, and not for its content; nothing was rejected: %s", error)
            _fail(entries, StoreAway(error.code, error.message))
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


async def known_ids(
    store: Tables, asked: Collection[tuple[str, str]], oldest_us: Mapping[str, int]
) -> dict[tuple[str, str], Verdict]:
    """Which of these events (tenant, ID) the store has had: `DUPLICATE`, `DELETED` or `EXPIRED`.

    Args:
        oldest_us: per tenant, where its retention ends.

    Raises:
        StoreAway: it cannot be told.
    """
    known: dict[tuple[str, str], Verdict] = {}
    # In the order of the table's key: each of several look-ups reads one part of it.
    order = list(asked) if len(asked) <= MAX_ASKED else sorted(asked)
    for begin in range(0, len(order), MAX_ASKED):
        portion = order[begin : begin + MAX_ASKED]
        tenants = {tenant_id for tenant_id, _ in portion}
        try:
            found = await store.query_plain(
                "SELECT tenant_id, external_id, max(is_deleted), toUnixTimestamp64Micro(argMax(timestamp, version)) "
                f"FROM events PREWHERE tenant_id IN {_listed(tenants)} "
                f"AND external_id IN {_listed([event_id for _, event_id in portion])} GROUP BY tenant_id, external_id"
            )
        except StoreError as error:
            raise StoreAway(error.code, error.message) from error
        for tenant_id, event_id, deleted, time_us in found:
            shown = EXPIRED if int(time_us) < oldest_us[tenant_id] else DUPLICATE
            known[tenant_id, event_id] = DELETED if deleted else shown
    return known


_PLAIN = re.compile(r"[A-Za-z0-9_.,:-]*").fullmatch
"""Nothing in it means anything to the engine but the comma that parts two of them."""


def _listed(texts: Collection[str]) -> str:
    """Texts for IN, so that nothing of theirs can be SQL: as they are where they are plain, else as hex digits.
    Thousands cost much less so than as bound values, which besides would travel in a URL. (Hex digits in a subquery: as an
    expression they would be read again for every row.)"""
    plain = ",".join(texts)
    if _PLAIN(plain) and plain.count(",") == len(texts) - 1:
        return f"splitByChar(',', '{plain}')"
    digits = ",".join([text.encode().hex() for text in texts])
    return f"(SELECT arrayJoin(arrayMap(digits -> unhex(digits), splitByChar(',', '{digits}'))))"


def _copies(items: list[EventItem]) -> bool:
    """Whether two events have one ID."""
    ids: dict[str, set[str]] = {}
    events = 0
    for item in items:
        ids.setdefault(item.parcel.tenant_id, set()).update(item.parcel.ids)
        events += len(item.parcel)
    return sum(map(len, ids.values())) != events


def _entries(items: list[EventItem]) -> Iterator[Entry]:
    for item in items:
        tenant_id = item.parcel.tenant_id
        for place, row in enumerate(zip(*item.parcel.columns, strict=True)):
            yield Entry(item, place, (tenant_id, row[0]), row)


def _smaller(entries: list[Entry]) -> list[list[Entry]]:
    """The next smaller inserts: per request, then halves; empty: it is one event."""
    by_request = sorted(entries, key=lambda entry: id(entry.item.request))
    requests = [list(group) for _, group in groupby(by_request, key=lambda entry: id(entry.item.request))]
    if len(requests) > 1:
        return requests
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]] if middle else []


def _fail(entries: list[Entry], error: StoreError) -> None:
    for entry in entries:
        entry.item.error = error
