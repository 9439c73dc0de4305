"""What each tenant stored this month: counted here, kept in the store, added up over all collectors.

- A process has one row per tenant and month in `usage`, with a running total, written again when it grew. Writing it
  twice changes nothing, and the sum over all rows is the usage, across restarts and collectors.
- Of a tenant with a limit of events per month, what was accepted is written before it is answered (`kept`): a crash forgets
  nothing that anybody was told. All answers that wait share one insert. Of other tenants it is written every `WRITE_S` and
  at the end; a crash forgets what was accepted since.
- What others wrote is read every `READ_S`. So several collectors may together pass the month's limit by what they take in
  these seconds.
- What is under way counts as used until it is settled.
- Months are calendar months, UTC. What is accepted counts into the month in which it is.

Known limits: what a crash catches between its commit and its answer is stored, not counted, and a duplicate when it is sent
again. A store that takes the events but not the count in `KEPT_S` makes the answer wait no longer; the count is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Protocol

from collector.errors import StoreError
from collector.limits.limits import Mode
from collector.tenants.tenants import Tenant

log = logging.getLogger(__name__)

WRITE_S = 2.0
READ_S = 5.0
KEPT_S = 10.0
"""An answer waits at most so long for its count to be written. On an overloaded machine an insert takes seconds; what is
answered without its count, a crash forgets."""
_COLUMNS = ("tenant_id", "month", "writer", "events", "bytes", "version")


class Tables(Protocol):
    """The part of the store that is used."""

    @property
    def ready(self) -> bool: ...

    async def query(self, sql: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]: ...

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...


class Usage:
    """Usage of the running month.

    Args:
        wall_s: seconds since 1970, for the month.
    """

    def __init__(self, store: Tables, *, wall_s: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall_s = wall_s
        self._writer = token_hex(8)
        self._own: dict[tuple[str, int], list[int]] = {}
        """(tenant, month) → events, bytes accepted by this process."""
        self._unwritten: set[tuple[str, int]] = set()
        self._others: dict[str, tuple[int, int]] = {}
        self._others_month = 0
        self._under_way: Counter[str] = Counter()
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._refused_until_s = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is known if the store is there, and keep it from then on."""
        if self._store.ready:
            with suppress(StoreError):
                await self.read()
        self._task = asyncio.create_task(self._keep(), name="usage")

    async def stop(self) -> None:
        """End, and write what is not written yet."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        try:
            await self.write()
        except StoreError as error:
            log.error("usage of the month: the last %d counts could not be written: %s", len(self._unwritten), error)

    async def reserve(self, tenant: Tenant, events: int, mode: Mode) -> int:
        """How many of ``events`` the month has room for; they count as used until `release`. Raises StoreError."""
        await self.known(tenant)
        left = self.left(tenant)
        if left is None:
            granted = events
        elif mode is Mode.UP_TO:
            granted = min(events, left)
        else:
            granted = events if left >= (1 if mode is Mode.WHOLE else events) else 0
        self._under_way[tenant.tenant_id] += granted
        return granted

    def release(self, tenant: Tenant, events: int) -> None:
        self._under_way[tenant.tenant_id] -= events
        if not self._under_way[tenant.tenant_id]:
            del self._under_way[tenant.tenant_id]

    def note(self, tenant: Tenant, events: int, size: int) -> None:
        """So much was accepted."""
        if not events:
            return
        name = (tenant.tenant_id, self.month)
        counts = self._own.setdefault(name, [0, 0])
        counts[0] += events
        counts[1] += size
        self._unwritten.add(name)

    async def kept(self, tenant: Tenant) -> None:
        """Wait until what was noted for a tenant whose month is limited is in the store."""
        name = (tenant.tenant_id, self.month)
        if not tenant.limits.events_per_month or time.monotonic() < self._refused_until_s:
            return
        try:
            async with asyncio.timeout(KEPT_S), self._writing:
                if name in self._unwritten:  # nobody wrote it while this one waited for its turn
                    await self._write()
        except (StoreError, TimeoutError) as error:
            self._refused_until_s = time.monotonic() + WRITE_S
            log.warning(
                "usage of the month is not written now, and may be forgotten by a crash until it is: %s",
                str(error) or "too slow",
            )

    async def known(self, tenant: Tenant) -> None:
        """Read what is used where a tenant's month is limited and that was not possible at the start. Raises StoreError."""
        if tenant.limits.events_per_month:
            await self._ensure_read()

    def left(self, tenant: Tenant) -> int | None:
        """Events that the month has room for; None without a limit."""
        most = tenant.limits.events_per_month
        if not most:
            return None
        return max(0, most - self.used(tenant.tenant_id)[0] - self._under_way[tenant.tenant_id])

    def used(self, tenant_id: str) -> tuple[int, int]:
        """Events and bytes accepted this month, as far as it is known here."""
        events, size = self._own.get((tenant_id, self.month), (0, 0))
        more_events, more_size = self._others.get(tenant_id, (0, 0)) if self._others_month == self.month else (0, 0)
        return events + more_events, size + more_size

    @property
    def month(self) -> int:
        """Like 202608."""
        now = datetime.fromtimestamp(self._wall_s(), UTC)
        return now.year * 100 + now.month

    def month_ends_in_s(self) -> float:
        now_s = self._wall_s()
        now = datetime.fromtimestamp(now_s, UTC)
        following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        return following.timestamp() - now_s

    async def write(self) -> None:
        """Write the totals that grew. Raises StoreError; they are written the next time then."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        names = list(self._unwritten)
        if not names:
            return
        version = time.time_ns()
        rows = [(tenant_id, month, self._writer, *self._own[tenant_id, month], version) for tenant_id, month in names]
        self._unwritten.difference_update(names)
        try:
            await self._store.insert("usage", _COLUMNS, rows)
        except BaseException:
            self._unwritten.update(names)
            raise
        now = self.month
        for name in [name for name in self._own if name[1] != now and name not in self._unwritten]:
            del self._own[name]

    async def read(self) -> None:
        """Learn what others accepted, and this process in its earlier lives. Raises StoreError."""
        month = self.month
        rows = await self._store.query(
            "SELECT tenant_id, sum(events), sum(bytes) FROM usage FINAL "
            "WHERE month = {month:UInt32} AND writer != {writer:String} GROUP BY tenant_id",
            {"month": month, "writer": self._writer},
        )
        self._others = {tenant_id: (int(events), int(size)) for tenant_id, events, size in rows}
        self._others_month = month

    async def _ensure_read(self) -> None:
        if self._others_month != self.month:
            async with self._reading:
                if self._others_month != self.month:
                    await self.read()

    async def _keep(self) -> None:
        """Write and read again and again; a store that is away is asked again the next time."""
        read_at = float("-inf")
        while True:
            await asyncio.sleep(WRITE_S)
            if not self._store.ready:
                continue
            try:
                await self.write()
                if time.monotonic() - read_at >= READ_S:
                    await self.read()
                    read_at = time.monotonic()
            except StoreError as error:
                log.debug("usage of the month: %s", error)
            except Exception:
                log.exception("keeping the month's usage failed in an unexpected way")
