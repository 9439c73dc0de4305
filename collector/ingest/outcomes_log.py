"""What became of every tenant's events, hour by hour: counted here, kept in the store, added up over all collectors.

- A process has one row per tenant, hour, outcome and reason in `outcomes`, with a running total, written again when it
  grew. Writing it twice changes nothing, and the sum over the rows of all processes is the figure.
- What this process counted is read from its memory, so a tenant's own figures are there at once; those of other
  collectors are as old as their last write (see `collector.writing.flusher`). A crash forgets what was counted since then.
- Answers are counted, not events: an event that was refused and sent again is counted once for each answer.
- Reasons are codes from small fixed sets, never a text that came in a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from secrets import token_hex
from typing import Any, NamedTuple, Protocol

from agent import wire
from collector.search.query import Statement

HOUR_S = 3600
RATE_LIMITED = "rate_limited"
"""The outcome of events that a tenant's budget had no room for."""
_COLUMNS = ("tenant_id", "hour", "outcome", "reason", "writer", "events", "bytes", "version")


class Tables(Protocol):
    """The part of the store that is used."""

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...


class Name(NamedTuple):
    """What is counted together."""

    tenant_id: str
    hour_s: int
    outcome: str
    reason: str


class Count(NamedTuple):
    """A figure as it is shown."""

    hour_s: int
    outcome: str
    reason: str
    events: int
    size: int


class OutcomesLog:
    """Counts of this process.

    Args:
        wall_s: seconds since 1970, for the hour.
    """

    def __init__(self, store: Tables, *, wall_s: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall_s = wall_s
        self._writer = token_hex(8)
        self._counts: dict[Name, list[int]] = {}
        self._unwritten: set[Name] = set()
        self._writing = asyncio.Lock()

    def note(self, tenant_id: str, outcome: str, events: int, *, reason: str = "", size: int = 0) -> None:
        """So many events got this outcome. ``size``: their bytes, where they are known."""
        if events <= 0:
            return
        name = Name(tenant_id, int(self._wall_s()) // HOUR_S * HOUR_S, outcome, reason)
        counts = self._counts.setdefault(name, [0, 0])
        counts[0] += events
        counts[1] += size
        self._unwritten.add(name)

    def note_records(self, tenant_id: str, records: Iterable[tuple[wire.RecordOutcome, int]]) -> None:
        """Agent records and their bytes."""
        for record, size in records:
            events = record.accepted + record.duplicate + record.expired + record.rejected
            for outcome in (wire.ACCEPTED, wire.DUPLICATE):
                count = getattr(record, outcome)
                self.note(tenant_id, outcome, count, size=size * count // events if events else 0)
            if record.exceptions:
                for exception in record.exceptions:
                    self.note(tenant_id, exception.outcome, 1, reason=exception.reason)
                continue
            for outcome in (wire.EXPIRED, wire.REJECTED):
                self.note(tenant_id, outcome, getattr(record, outcome), reason=record.reason)

    async def write(self) -> None:
        """Write the totals that grew. Raises StoreError; they are written the next time then."""
        async with self._writing:
            names = list(self._unwritten)
            if not names:
                return
            version = time.time_ns()
            rows = [
                (name.tenant_id, name.hour_s, name.outcome, name.reason, self._writer, *self._counts[name], version)
                for name in names
            ]
            self._unwritten.difference_update(names)
            try:
                await self._store.insert("outcomes", _COLUMNS, rows)
            except BaseException:
                self._unwritten.update(names)
                raise
            now = int(self._wall_s()) // HOUR_S * HOUR_S
            for name in [name for name in self._counts if name.hour_s < now and name not in self._unwritten]:
                del self._counts[name]

    def statement(self, tenant_id: str, start_s: int, end_s: int) -> Statement:
        """What is kept of the hours from ``start_s`` to ``end_s`` (that one too): rows for `shown`."""
        return Statement(
            "SELECT toUnixTimestamp(hour), outcome, reason, writer, events, bytes FROM outcomes FINAL "
            "WHERE tenant_id = {tenant:String} AND hour >= toDateTime({start:Int64}, 'UTC') "
            "AND hour <= toDateTime({end:Int64}, 'UTC')",
            {"tenant": tenant_id, "start": start_s, "end": end_s},
        )

    def shown(self, tenant_id: str, start_s: int, end_s: int, rows: Iterable[Sequence[Any]]) -> list[Count]:
        """The figures of a tenant by hour, outcome and reason: those of the store, and this process's own as they are now."""
        own = {name: counts for name, counts in self._counts.items() if name.tenant_id == tenant_id}
        sums: dict[tuple[int, str, str], list[int]] = {}
        for hour_s, outcome, reason, writer, events, size in rows:
            if writer == self._writer and Name(tenant_id, hour_s, outcome, reason) in own:
                continue
            _add(sums, (hour_s, outcome, reason), events, size)
        for name, (events, size) in own.items():
            if start_s <= name.hour_s <= end_s:
                _add(sums, name[1:], events, size)
        return [Count(*name, *counts) for name, counts in sorted(sums.items())]


def _add(sums: dict[tuple[int, str, str], list[int]], name: tuple[int, str, str], events: int, size: int) -> None:
    counts = sums.setdefault(name, [0, 0])
    counts[0] += events
    counts[1] += size
