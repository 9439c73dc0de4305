"""Copies of events as a store may come to have them, written past the collector, and what ought to be seen of them.

Lines of three files and events of the JSON API, over weeks and classes of retention; copies in parts of their own, some parts
merged and some not; deleted events, and deleted ones that were sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, NamedTuple

from agent import wire
from collector.search import event_by_id
from collector.search.query import AHEAD_US, DAY_US
from collector.store.store import Store
from tests.support.asked import DAYS, NOW

FILES = ("00c0ffee00c0ffee", "00c0ffee00c0ffef", "ff00000000000000")
COLUMNS = (
    "tenant_id", "external_id", "timestamp", "observed_timestamp", "event_type", "severity", "service", "message", "attributes",
    "path", "source", "agent", "retention_days", "version", "is_deleted",
)  # fmt: skip
FIRST_US = NOW - DAYS * DAY_US
"""Where the tenant's retention ends. What lies before is stored, and not to be seen."""


class Copy(NamedTuple):
    external_id: str
    time_us: int
    severity: str
    service: str
    message: str
    region: str
    retention_days: int
    version: int

    @property
    def is_line(self) -> bool:
        return wire.EVENT_ID.fullmatch(self.external_id) is not None

    def row(self, tenant_id: str) -> list[Any]:
        path = f"/{self.external_id[:16]}.log" if self.is_line else ""
        attributes = {"region": self.region} if self.region else {}
        return [
            tenant_id, self.external_id, self.time_us, NOW - self.version, "log" if self.is_line else "api_call", self.severity,
            self.service, self.message, attributes, path, "app", "web-1", self.retention_days, self.version, 0,
        ]  # fmt: skip


class Copies:
    """What one tenant has.

    Args:
        retimed: how the time of a further copy differs from that of the first; the collector sees to it that it does not.
    """

    def __init__(
        self, store: Store, tenant_id: str, random: Random, retimed: Callable[[Random, int], int] | None = None
    ) -> None:
        self.store = store
        self.tenant_id = tenant_id
        self.stored: dict[str, list[Copy]] = {}
        self.deleted: set[str] = set()
        self._random = random
        self._retimed = retimed or (lambda random, time_us: time_us)
        self._version = 1_000_000

    async def fill(self, parts: int = 5, events: int = 13) -> None:
        """Some parts, one after the other, with new events and copies of older ones; then some of it is merged."""
        for part in range(parts):
            copies = [self._new(part * events + n) for n in range(events)]
            known = [copy for found in self.stored.values() for copy in found[:1]]
            copies += [self._again(copy) for copy in self._random.sample(known, len(known) // 3)]
            await self._put(copies)
            if part % 2:
                await self._delete(self._random.sample(sorted(self.stored), 3))
            if part == parts // 2:
                await self._merge()
        # Sent again, past the look-up that would have told of it.
        again = self._random.sample(sorted(self.deleted), len(self.deleted) // 2)
        await self._put([self._again(self.stored[name][0]) for name in again])

    @property
    def kept(self) -> dict[str, Copy]:
        """Of each event that is there the copy that counts, whatever the retention."""
        return {
            name: max(copies, key=lambda copy: copy.version) for name, copies in self.stored.items() if name not in self.deleted
        }

    def seen(self, start_us: int = 0, end_us: int = NOW + AHEAD_US) -> list[Copy]:
        """What a window shows, in order."""
        within = range(max(start_us, FIRST_US), end_us + 1)
        return ordered(copy for copy in self.kept.values() if copy.time_us in within)

    def _new(self, n: int) -> Copy:
        random = self._random
        severity, service = random.choice(("info", "info", "error")), random.choice(("shop", "größe", "stock"))
        message = random.choice(("a word", "other words", "a word and more"))
        # Some events share a moment, some lie beyond the retention or ahead.
        time_us = random.choice((NOW - random.randrange(DAYS * DAY_US), NOW - 3 * DAY_US + n % 3, NOW - 3 * DAY_US))
        time_us = {3: FIRST_US - 1 - n, 5: NOW + n, 7: FIRST_US}.get(n % 23, time_us)
        name = f"event-{n}" if n % 3 == 0 else wire.event_id(FILES[n % 2 + n % 5 % 2], 4096 + 100 * n, message.encode())
        return self._versioned(Copy(name, time_us, severity, service, message, random.choice(("", "eu", "us")), 30, 0))

    def _again(self, copy: Copy) -> Copy:
        """Another copy. The tenant's retention may have been changed since."""
        kept = self._random.choice((30, 30, 90))
        return self._versioned(
            copy._replace(time_us=self._retimed(self._random, copy.time_us), retention_days=kept), first_counts=copy.is_line
        )

    def _versioned(self, copy: Copy, *, first_counts: bool = True) -> Copy:
        """As the collector does it: of several copies the first counts. Of events of the API here any may."""
        self._version -= 1
        return copy._replace(version=self._version if first_counts else self._random.randrange(1 << 40))

    async def _put(self, copies: list[Copy]) -> None:
        self._random.shuffle(copies)
        await self.store.insert("events", COLUMNS, [copy.row(self.tenant_id) for copy in copies])
        for copy in copies:
            self.stored.setdefault(copy.external_id, []).append(copy)

    async def _delete(self, names: list[str]) -> None:
        for name in names:
            await event_by_id.delete(self.store, self.tenant_id, name)
            self.deleted.add(name)

    async def _merge(self) -> None:
        """The partitions with the most parts."""
        found = await self.store.query(
            "SELECT partition_id FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active "
            "GROUP BY partition_id ORDER BY count() DESC LIMIT 2"
        )
        for (partition,) in found:
            await self.store.command(f"OPTIMIZE TABLE events PARTITION ID '{partition}' FINAL")


def ordered(copies: Iterable[Copy]) -> list[Copy]:
    return sorted(copies, key=lambda copy: (copy.time_us, copy.external_id))
