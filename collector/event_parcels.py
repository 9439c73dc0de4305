"""Events of the JSON API on their way to the store: what a commit takes at once, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent import wire
from collector import ages
from collector.event_checks import ROW_COLUMNS, Checked, Row

MAX_EVENTS = 500
MAX_BYTES = 1 << 20
"""A batch is written in parcels of at most so much, so that other tenants' parcels come in between."""
EVENT_COST_BYTES = 256
"""What a waiting event weighs beside its bytes."""


class EventParcel(msgspec.Struct, frozen=True):
    """Checked events of one request."""

    tenant_id: str
    rows: Sequence[Row]
    """In the order of `event_checks.ROW_COLUMNS`: the ID comes first."""
    asked: Sequence[str]
    """IDs that may be in the store already."""
    size_bytes: int
    old: frozenset[ages.Partition] = ages.FRESH
    """The partitions they fall into, if they are old."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of one event."""

    outcome: str
    reason: str = ""
    deleted: bool = False
    """It was stored once and has been deleted since."""


ACCEPTED = Verdict(wire.ACCEPTED)
DUPLICATE = Verdict(wire.DUPLICATE)
DELETED = Verdict(wire.DUPLICATE, deleted=True)


class Verdicts:
    """Of the events of one parcel, in their order."""

    def __init__(self, events: int) -> None:
        self._verdicts: list[Verdict | None] = [None] * events

    def say(self, place: int, verdict: Verdict) -> None:
        self._verdicts[place] = verdict

    def of(self, place: int) -> Verdict | None:
        return self._verdicts[place]

    def outcome(self) -> list[Verdict]:
        """All of them, when each is said."""
        return [verdict for verdict in self._verdicts if verdict is not None]


def parcels_of(tenant_id: str, events: Sequence[Checked], *, old_before_us: int = 0) -> list[EventParcel]:
    """The events in parcels, in order: each of fresh ones, or of old ones that fall into few partitions."""
    parcels: list[EventParcel] = []
    first = size = 0
    old = ages.FRESH
    for place, event in enumerate(events):
        partition = ages.old_partition(event.row, old_before_us)
        if place > first and (
            place - first == MAX_EVENTS
            or size + event.size > MAX_BYTES
            or (partition is None) != (not old)
            or (partition is not None and len(old | {partition}) > ages.MAX_PARTITIONS)
        ):
            parcels.append(_parcel(tenant_id, events[first:place], size, old))
            first, size, old = place, 0, ages.FRESH
        size += event.size
        if partition is not None and partition not in old:
            old |= {partition}
    if events:
        parcels.append(_parcel(tenant_id, events[first:], size, old))
    return parcels


def _parcel(tenant_id: str, events: Sequence[Checked], size: int, old: frozenset[ages.Partition]) -> EventParcel:
    return EventParcel(
        tenant_id,
        rows=[event.row for event in events],
        asked=[event.event_id for event in events if not event.minted],
        size_bytes=size,
        old=old,
    )


def table_of(entries: Sequence[tuple[str, Row]], version: int) -> tuple[list[str], list[Row]]:
    """Names and rows for one insert, of tenants and their rows.

    Columns in which nothing is said are left out, and the engine fills in their defaults: of some forty columns an event
    mostly uses a dozen.
    """
    columns = list(zip(*(row for _, row in entries), strict=True))
    used = [(name, column) for name, column in zip(ROW_COLUMNS, columns, strict=True) if any(column)]
    names = ["tenant_id", "version", *(name for name, _ in used)]
    tenants = [tenant for tenant, _ in entries]
    values = [tenants, [version] * len(entries), *(column for _, column in used)]
    return names, list(zip(*values, strict=True))
