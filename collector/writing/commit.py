"""The part of a commit that writes agent records: look up, write, read back what the engine set aside.

Order: IDs that may be there are looked up → events beyond the retention are set aside → one insert per format and pattern →
for formats that the engine parses, what it set aside is read back. An item (a record) has its outcome in its ``tally``,
or the error that kept it from having one in ``error``.

Of what is looked up, that which reads show or which was deleted is a duplicate; what is stored beyond the retention is
expired, and not written again (`collector.writing.event_commit` says why).

An insert that the engine refuses because of what is in it is made again per request, then by halves of its records,
then by halves of the lines, down to the event: that event is `rejected`, with the engine's code as reason. What the
engine said goes to the log only. An error that no content can cause (`NOT_CONTENT`) rejects nothing: the callers get
`StoreAway`, and an operator has to act.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import groupby
from secrets import randbits
from typing import Any

from msgspec.structs import replace

from agent import wire
from collector.errors import StoreAway, StoreError
from collector.metrics import Metrics
from collector.store import formats
from collector.store.refusals import MAX_INSERT_EVENTS, NOT_CONTENT, STORE_ERROR
from collector.store.store import Store
from collector.writing import readings, rows, trials
from collector.writing.backlog import RecordItem
from collector.writing.parcels import Parcel, cut, ids_of, offsets_of, picked, range_of, starts_of

log = logging.getLogger(__name__)


class Piece:
    """Some events of an item, for one insert."""

    __slots__ = ("item", "parcel")

    def __init__(self, item: RecordItem, parcel: Parcel) -> None:
        self.item = item
        self.parcel = parcel


class Commit:
    def __init__(self, store: Store, metrics: Metrics, *, now_ns: int) -> None:
        self._store = store
        self._metrics = metrics
        self._now_ns = now_ns
        self._split = False

    async def write(self, items: list[RecordItem]) -> None:
        """Decide every item: its ``tally`` is complete, or its ``error`` is set.

        Raises:
            StoreAway, StoreError: nothing is known about any item.
        """
        pieces = await self._new([item for item in items if item.parcel.lines or item.parcel.events])
        losses = [piece for piece in pieces if piece.parcel.losses]
        await self._try_patterns(pieces)
        lines = [piece for piece in self._in_time(pieces) if not piece.parcel.losses]
        lines.sort(key=_place)
        for group in sorted({readings.group_of(piece.parcel) for piece in lines}):
            for batch in _batches([piece for piece in lines if readings.group_of(piece.parcel) == group]):
                await self._insert_or_split(group.table, batch)
        if losses:
            await self._insert_losses(losses)
        self._metrics.commits.labels("split" if self._split else "ok").inc()

    async def _new(self, items: list[RecordItem]) -> list[Piece]:
        """What of the items is not in the store, as far as they were to be looked up."""
        asked = [item for item in items if item.lookup]
        if asked:
            self._metrics.lookups.inc(len(asked))
        known, beyond = await self._known([item.parcel for item in asked if not item.parcel.losses])
        known_losses = await self._known_losses([item.parcel for item in asked if item.parcel.losses])
        pieces = []
        for item in items:
            parcel = item.parcel
            if item.lookup:
                there = (known_losses if parcel.losses else known).get(parcel.tenant_id, [])
                missing = _missing(parcel, there)
                if missing is not None:
                    gone = _missing(parcel, beyond.get(parcel.tenant_id, []))
                    expired = [] if gone is None else sorted(set(range(parcel.events)).difference(gone))
                    if expired:
                        _refuse(Piece(item, picked(parcel, expired)), wire.EXPIRED, formats.OLDER_THAN_RETENTION)
                    item.tally.duplicate(parcel.events - len(missing) - len(expired))
                    if not missing:
                        continue
                    parcel = picked(parcel, missing)
            pieces.append(Piece(item, parcel))
        return pieces

    async def _known(self, parcels: list[Parcel]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Per tenant, the IDs in the store within the parcels' ranges, in order: all, deleted events too; and those of
        them that lie beyond the retention."""
        if not parcels:
            return {}, {}
        params: dict[str, Any] = {}
        for n, parcel in enumerate(parcels):
            params[f"t{n}"] = parcel.tenant_id
            params[f"a{n}"], params[f"b{n}"] = range_of(parcel)
        where = " OR ".join(
            f"(tenant_id = {{t{n}:String}} AND external_id >= {{a{n}:String}} AND external_id <= {{b{n}:String}})"
            for n in range(len(parcels))
        )
        found = await self._asked(
            "SELECT tenant_id, external_id, max(is_deleted) ? NULL : toUnixTimestamp64Micro(argMax(timestamp, version)) "
            f"FROM events WHERE {where} GROUP BY tenant_id, external_id",
            params,
        )
        oldest_us = {parcel.tenant_id: rows.oldest_ns(parcel, self._now_ns) // 1000 for parcel in parcels}
        beyond = [row for row in found if row[2] is not None and row[2] < oldest_us[row[0]]]
        return _by_tenant(found), _by_tenant(beyond)

    async def _known_losses(self, parcels: list[Parcel]) -> dict[str, list[str]]:
        known: dict[str, list[str]] = {}
        for parcel in parcels:
            found = await self._asked(
                "SELECT DISTINCT tenant_id, loss_id FROM losses "
                "WHERE tenant_id = {tenant:String} AND loss_id IN {ids:Array(String)}",
                {"tenant": parcel.tenant_id, "ids": [loss.loss_id for loss in parcel.losses]},
            )
            known.setdefault(parcel.tenant_id, []).extend(loss_id for _, loss_id in found)
        return {tenant: sorted(ids) for tenant, ids in known.items()}

    async def _asked(self, sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        """A read that no caller has to answer for: it fails as a store that is away."""
        try:
            return await self._store.query(sql, params)
        except StoreError as error:
            raise StoreAway(error.code, error.message) from error

    async def _try_patterns(self, pieces: list[Piece]) -> None:
        """Lines whose patterns the engine does not take are kept as they are."""
        for piece in pieces:
            try:
                if not await trials.takes(self._store, readings.group_of(piece.parcel)):
                    piece.parcel = replace(piece.parcel, fault=readings.PATTERN)
            except StoreError as error:
                raise StoreAway(error.code, error.message) from error

    def _in_time(self, pieces: list[Piece]) -> list[Piece]:
        """Without those whose events are known to be beyond the retention."""
        kept = []
        for piece in pieces:
            if not piece.parcel.losses and rows.expired(piece.parcel, self._now_ns):
                _refuse(piece, wire.EXPIRED, formats.OLDER_THAN_RETENTION)
                continue
            reading = readings.reading_of(piece.parcel)
            if reading.table == formats.RAW and rows.ahead(piece.parcel, self._now_ns):
                self._metrics.clock_ahead.inc(piece.parcel.events)
            kept.append(piece)
        return kept

    async def _insert_or_split(self, name: str, pieces: list[Piece]) -> None:
        try:
            await self._insert(name, pieces)
        except StoreAway as error:
            _fail(pieces, error)
        except StoreError as error:
            await self._split_up(name, pieces, error)

    async def _split_up(self, name: str, pieces: list[Piece], error: StoreError) -> None:
        if error.code in NOT_CONTENT or not error.code:
            log.error("the store refused a commit, and not for its content; nothing was rejected: %s", error)
            _fail(pieces, StoreAway(error.code, error.message))
            return
        if not self._split:
            log.warning("the store refused a commit of %d records, looking for the cause: %s", len(pieces), error)
            self._split = True
        smaller = _smaller(pieces)
        if not smaller:
            log.error("an event was rejected: the store refuses it, alone: %s", error)
            _refuse(pieces[0], wire.REJECTED, STORE_ERROR.format(code=error.code))
        for part in smaller:
            await self._insert_or_split(name, part)

    async def _insert(self, name: str, pieces: list[Piece]) -> None:
        commit_id = randbits(63)
        table = [
            rows.block_row(piece.parcel, commit_id=commit_id, record=n, now_ns=self._now_ns) for n, piece in enumerate(pieces)
        ]
        await self._store.insert(formats.table_of(name), tuple(formats.columns_of(name)), table)
        expired = await self._set_aside(commit_id, pieces) if name in formats.PARSED else {}
        for n, piece in enumerate(pieces):
            gone = expired.get(n, [])
            piece.item.tally.refuse(wire.EXPIRED, formats.OLDER_THAN_RETENTION, gone)
            piece.item.tally.accept(piece.parcel.events - len(gone))

    async def _set_aside(self, commit_id: int, pieces: list[Piece]) -> dict[int, list[int]]:
        """Offsets of the events that the engine did not store, per piece; counts what it noted besides."""
        # The rows are in: whatever goes wrong here is no reason to look for an event to blame.
        found = await self._asked(
            "SELECT record, reason, note, parse_error, events, offsets FROM ingest_exceptions WHERE commit_id = {id:UInt64}",
            {"id": commit_id},
        )
        gone: dict[int, list[int]] = {}
        for record, reason, note, parse_error, events, offsets in found:
            if reason:
                gone.setdefault(record, []).extend(offsets)
                continue
            if note == formats.CLOCK_AHEAD:
                self._metrics.clock_ahead.inc(events)
            if parse_error:
                self._metrics.parse_errors.labels(parse_error).inc(events)
        return gone

    async def _insert_losses(self, pieces: list[Piece]) -> None:
        # Of rows under one ID the last one written counts: what takes a loss back goes behind it.
        table = [
            row
            for back in (False, True)
            for piece in pieces
            for row in rows.loss_rows(
                piece.parcel, [loss for loss in piece.parcel.losses if loss.takes_back is back], self._now_ns
            )
        ]
        try:
            await self._store.insert("losses", rows.LOSS_COLUMNS, table)
        except StoreError as error:
            if not isinstance(error, StoreAway):
                log.error("the store refused %d losses: %s", len(table), error)
            _fail(pieces, StoreAway(error.code, error.message))
            return
        for piece in pieces:
            piece.item.tally.accept(piece.parcel.events)


def _missing(parcel: Parcel, known: list[str]) -> list[int] | None:
    """Positions of the events that are not in ``known``, which is in order; None: not one of them is there."""
    if parcel.losses:
        there = set(known)
        missing = [n for n, loss in enumerate(parcel.losses) if loss.takes_back or loss.loss_id not in there]
        return None if len(missing) == parcel.events else missing
    first, last = range_of(parcel)
    near = set(known[bisect_left(known, first) : bisect_right(known, last)])
    if not near:
        return None
    missing = [n for n, event_id in enumerate(ids_of(parcel)) if event_id not in near]
    return None if len(missing) == parcel.events else missing


def _by_tenant(found: Iterable[tuple[Any, ...]]) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    for tenant, event_id, *_ in found:
        known.setdefault(tenant, []).append(event_id)
    for ids in known.values():
        ids.sort()
    return known


def _place(piece: Piece) -> tuple[str, str, int]:
    """Rows in the order of the table's key need no sorting in the engine."""
    return piece.parcel.tenant_id, piece.parcel.header.file_id, offsets_of(piece.parcel)[0]


def _batches(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces of at most `MAX_INSERT_EVENTS` events, and of as many together."""
    batches: list[list[Piece]] = [[]]
    events = 0
    for piece in pieces:
        for parcel in cut(piece.parcel, MAX_INSERT_EVENTS):
            if events and events + parcel.events > MAX_INSERT_EVENTS:
                batches.append([])
                events = 0
            batches[-1].append(Piece(piece.item, parcel))
            events += parcel.events
    return batches


def _smaller(pieces: list[Piece]) -> list[list[Piece]]:
    """The next smaller inserts: per request, then halves of the pieces, then halves of the lines; empty: it is one."""
    by_request = sorted(pieces, key=lambda piece: id(piece.item.request))
    requests = [list(group) for _, group in groupby(by_request, key=lambda piece: id(piece.item.request))]
    if len(requests) > 1:
        return requests
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return [pieces[:middle], pieces[middle:]]
    piece = pieces[0]
    if piece.parcel.events == 1:
        return []
    return [[Piece(piece.item, parcel)] for parcel in cut(piece.parcel, -(-piece.parcel.events // 2))]


def _refuse(piece: Piece, outcome: str, reason: str) -> None:
    parcel = piece.parcel
    piece.item.tally.refuse(outcome, reason, (parcel.base_offset + start for start in starts_of(parcel).tolist()))


def _fail(pieces: list[Piece], error: StoreError) -> None:
    for piece in pieces:
        piece.item.error = error
