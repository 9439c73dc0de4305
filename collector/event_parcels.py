"""Events of the JSON API on their way to the store: what a commit takes at once, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from agent import wire
from collector import ages, formats
from collector.event_checks import ROW_COLUMNS, Checked, Row

MAX_EVENTS = 500
MAX_BYTES = 1 << 20
"""A batch is written in parcels of at most so much, so that other tenants' parcels come in between."""
EVENT_COST_BYTES = 256
"""What a waiting event weighs beside its bytes."""


class EventParcel(msgspec.Struct, frozen=True):
    """Checked events of one request."""

    tenant_id: str
    columns: Sequence[Sequence[Any]]
    """Their values by column, in the order of `event_checks.ROW_COLUMNS`: the IDs come first. None: not said."""
    asked: Sequence[str]
    """IDs that may be in the store already."""
    size_bytes: int
    oldest_us: int = 0
    """What is before this lies beyond the tenant's retention: no read shows it."""
    old: frozenset[ages.Partition] = ages.FRESH
    """The partitions they fall into, if they are old."""

    @property
    def ids(self) -> Sequence[str]:
        return self.columns[0]

    def __len__(self) -> int:
        return len(self.columns[0])


class Verdict(msgspec.Struct, frozen=True):
    """What became of one event."""

    outcome: str
    reason: str = ""
    deleted: bool = False
    """It was stored once and has been deleted since."""


ACCEPTED = Verdict(wire.ACCEPTED)
DUPLICATE = Verdict(wire.DUPLICATE)
DELETED = Verdict(wire.DUPLICATE, deleted=True)
EXPIRED = Verdict(wire.EXPIRED, formats.OLDER_THAN_RETENTION)


class Verdicts:
    """Of the events of one parcel, in their order."""

    def __init__(self, events: int) -> None:
        self._verdicts: list[Verdict | None] = [None] * events

    def say(self, place: int, verdict: Verdict) -> None:
        self._verdicts[place] = verdict

    def say_of_all(self, verdict: Verdict) -> None:
        self._verdicts = [verdict] * len(self._verdicts)

    def of(self, place: int) -> Verdict | None:
        return self._verdicts[place]

    def outcome(self) -> list[Verdict]:
        """All of them, when each is said."""
        return [verdict for verdict in self._verdicts if verdict is not None]


def parcels_of(
    tenant_id: str, events: Sequence[Checked], *, oldest_us: int = 0, old_before_us: int | None = None
) -> list[EventParcel]:
    """The events in parcels, in order: each of fresh ones, or of old ones that fall into few partitions.

    Args:
        oldest_us: see `EventParcel`.
        old_before_us: from when on an event is fresh; None: all are.
    """
    parcels: list[EventParcel] = []
    first = size = 0
    old = ages.FRESH
    for place, event in enumerate(events):
        partition = None if old_before_us is None else ages.old_partition(event.row, old_before_us)
        if place > first and (
            place - first == MAX_EVENTS
            or size + event.size > MAX_BYTES
            or (partition is None) != (not old)
            or (partition is not None and len(old | {partition}) > ages.MAX_PARTITIONS)
        ):
            parcels.append(_parcel(tenant_id, events[first:place], size, oldest_us, old))
            first, size, old = place, 0, ages.FRESH
        size += event.size
        if partition is not None and partition not in old:
            old |= {partition}
    if events:
        parcels.append(_parcel(tenant_id, events[first:], size, oldest_us, old))
    return parcels


def _parcel(
    tenant_id: str, events: Sequence[Checked], size: int, oldest_us: int, old: frozenset[ages.Partition]
) -> EventParcel:
    return EventParcel(
        tenant_id,
        columns=columns_of([event.row for event in events]),
        asked=[event.event_id for event in events if not event.minted],
        size_bytes=size,
        oldest_us=oldest_us,
        old=old,
    )


def table_of(parts: Sequence[tuple[str, Sequence[Sequence[Any]]]], version: int) -> tuple[list[str], list[Sequence[Any]]]:
    """Names and columns for one insert.

    Args:
        parts: tenants, and values by column as in `EventParcel.columns`.

    Columns in which nothing is said are left out, and the engine fills in their defaults: of some forty columns an event
    mostly uses a dozen.
    """
    lengths = [len(columns[0]) for _, columns in parts]
    names = ["tenant_id", "version"]
    table: list[Sequence[Any]] = [
        list(chain.from_iterable([tenant_id] * length for (tenant_id, _), length in zip(parts, lengths, strict=True))),
        [version] * sum(lengths),
    ]
    for place, name in enumerate(ROW_COLUMNS):
        pieces = [columns[place] for _, columns in parts]
        if not any(map(any, pieces)):
            continue
        names.append(name)
        column = pieces[0] if len(pieces) == 1 else list(chain.from_iterable(pieces))
        if None in column:
            empty = _EMPTY.get(name, "")
            column = [empty if value is None else value for value in column]
        table.append(column)
    return names, table


def columns_of(rows: Iterable[Row]) -> list[Sequence[Any]]:
    """Rows by column."""
    return list(zip(*rows, strict=True))


_EMPTY: dict[str, Any] = {
    "tags": [],
    "zero_metrics": [],
    "status_code": 0,
    "response_time_ms": 0.0,
    "request_size_bytes": 0,
    "response_size_bytes": 0,
}
"""What is stored of a column where an event says nothing; of all others an empty text."""
