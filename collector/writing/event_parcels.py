"""Events of the JSON API on their way to the store: what a commit takes at once, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from agent import wire
from collector.ingest.event_checks import Checked, Row
from collector.ingest.event_portions import MAX_BYTES, MAX_EVENTS, Portion
from collector.store import formats
from collector.store.native import Block
from collector.writing import ages

EVENT_COST_BYTES = 256
"""What a waiting event weighs beside its bytes."""


class EventParcel(msgspec.Struct, frozen=True):
    """Checked events of one request."""

    tenant_id: str
    ids: Sequence[str]
    asked: Sequence[str]
    """IDs that may be in the store already."""
    size_bytes: int
    rows: Callable[[], Sequence[Row]]
    """Asked for where they are not written just as they are."""
    block: Block | None = None
    """The rows as they are written, if that has been made."""
    oldest_us: int = 0
    """What is before this lies beyond the tenant's retention: no read shows it."""
    old: frozenset[ages.Partition] = ages.FRESH
    """The partitions they fall into, if they are old."""

    def __len__(self) -> int:
        return len(self.ids)


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


def portion_parcel(tenant_id: str, portion: Portion, *, oldest_us: int) -> EventParcel:
    """Events that were checked together and are fresh."""
    return EventParcel(
        tenant_id,
        ids=portion.ids,
        asked=portion.asked,
        size_bytes=portion.size_bytes,
        rows=lambda: [event.row for event in portion.events()],
        block=portion.block,
        oldest_us=oldest_us,
    )


def _parcel(
    tenant_id: str, events: Sequence[Checked], size: int, oldest_us: int, old: frozenset[ages.Partition]
) -> EventParcel:
    rows = [event.row for event in events]
    return EventParcel(
        tenant_id,
        ids=[event.event_id for event in events],
        asked=[event.event_id for event in events if not event.minted],
        size_bytes=size,
        rows=lambda: rows,
        oldest_us=oldest_us,
        old=old,
    )
