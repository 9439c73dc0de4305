"""What a tenant may still send: admission before the work, settlement after it.

Use, for what comes as one piece:
    charge = await quota.admit(tenant, events=…, size_bytes=…)        # or raises RateLimited / MonthlyQuota (429)
    … work …
    await charge.settle(accepted_events, accepted_bytes)              # always, with 0, 0 when it came to nothing
For single events:
    granted, charge = await quota.admit_up_to(tenant, events=…, size_bytes=…)
    the first ``granted`` are worked on; the rest are `rate_limited`, and ``charge.limited`` says why and until when.

- Only what was stored is paid for: duplicates, refused and expired events and failed inserts are given back.
- A batch sent again begins with what is stored already. Its tail gets through when the duplicates' refund is used for
  it: settle, then `admit_up_to` for the rest, while the round before gave something back.
- A tenant with ``on_limit: refuse`` gets all of a batch or nothing; nothing is granted then, and ``limited`` is set.
- Events per month are counted in the store before they are answered (`collector.limits.usage`); what other collectors took is
  seen seconds later.
"""

from __future__ import annotations

import math

import msgspec

from collector.errors import MonthlyQuota, RateLimited
from collector.limits import limits
from collector.limits.buckets import Buckets
from collector.limits.limits import Levels, Mode, Rates
from collector.limits.usage import Usage
from collector.metrics import Metrics
from collector.tenants.tenants import Tenant

MONTH_RETRY_AFTER_S = 3600.0
"""A month that is used up: asked again at least so often, for the quota may have been raised."""


class Budget(msgspec.Struct, frozen=True):
    """For the headers of every answer."""

    limit: int
    """Events per minute."""
    remaining: int
    """Events that would be admitted now."""
    reset_s: int
    """Whole seconds until nothing of the budget is used any more."""


class Charge:
    """What was taken from a tenant's budget. `settle` it once; more often does nothing."""

    def __init__(self, quota: Quota, tenant: Tenant, events: int, size_bytes: int, limited: RateLimited | None) -> None:
        self.events = events
        self.size_bytes = size_bytes
        self.limited = limited
        """Why not all was granted; carries ``retry_after_s``, and can be raised as it is."""
        self._quota = quota
        self._tenant = tenant
        self._open = True

    async def settle(self, accepted_events: int, accepted_bytes: int) -> None:
        """Give back all but what was accepted, and count that into the month."""
        if self._open:
            self._open = False
            await self._quota._settle(self._tenant, self, accepted_events, accepted_bytes)


class Quota:
    def __init__(self, buckets: Buckets, usage: Usage, metrics: Metrics) -> None:
        self._buckets = buckets
        self._usage = usage
        self._metrics = metrics

    @property
    def state(self) -> str:
        """Where budgets are counted, in words for /health."""
        return self._buckets.state

    async def admit(self, tenant: Tenant, *, events: int, size_bytes: int) -> Charge:
        """All of it, on credit. A single event needs no credit: it is admitted while the budget has one left.

        Raises:
            RateLimited, MonthlyQuota: nothing was taken; with ``retry_after_s``.
            StoreAway: the month's usage is not known yet.
        """
        mode = Mode.UP_TO if events == 1 else Mode.WHOLE
        _, charge = await self._admit(tenant, events, size_bytes, mode)
        if charge.limited is not None:
            raise charge.limited
        return charge

    async def admit_up_to(self, tenant: Tenant, *, events: int, size_bytes: int) -> tuple[int, Charge]:
        """As many of ``events`` as the budget has, first come first. Raises StoreAway."""
        mode = Mode.REFUSE if tenant.limits.on_limit == "refuse" else Mode.UP_TO
        return await self._admit(tenant, events, size_bytes, mode)

    async def levels(self, tenant: Tenant) -> Levels:
        """Of the accounts, as they are; negative: a debt."""
        return await self._buckets.levels(tenant)

    async def budget(self, tenant: Tenant) -> Budget:
        """What is left now."""
        rates = self._buckets.rates_of(tenant.limits)
        levels = await self._buckets.levels(tenant)
        remaining = max(0, math.floor(levels.events))
        if levels.size < 0:
            remaining = 0
        reset_s = limits.full_in_s(levels, rates)
        left = self._usage.left(tenant)
        if left is not None and left < remaining:
            remaining, reset_s = left, self._usage.month_ends_in_s()
        return Budget(tenant.limits.events_per_minute, remaining, math.ceil(reset_s))

    async def _admit(self, tenant: Tenant, events: int, size: int, mode: Mode) -> tuple[int, Charge]:
        if not events:
            return 0, Charge(self, tenant, 0, 0, None)
        allowed = await self._usage.reserve(tenant, events, mode)
        if not allowed:
            return 0, Charge(self, tenant, 0, 0, self._month_used_up(tenant))
        try:
            granted, levels = await self._buckets.take(tenant, mode, allowed, limits.part_of(size, allowed, events))
        except BaseException:
            self._usage.release(tenant, allowed)
            raise
        self._usage.release(tenant, allowed - granted)
        limited: RateLimited | None = None
        if granted < allowed:
            limited = self._rate_used_up(tenant, mode, levels, events - granted)
        elif granted < events:
            limited = self._month_used_up(tenant)
        return granted, Charge(self, tenant, granted, limits.part_of(size, granted, events), limited)

    async def _settle(self, tenant: Tenant, charge: Charge, events: int, size: int) -> None:
        self._usage.release(tenant, charge.events)
        self._usage.note(tenant, events, size)
        if events:
            await self._usage.kept(tenant)
        unused, unused_size = max(0, charge.events - events), max(0, charge.size_bytes - size)
        if unused or unused_size:
            await self._buckets.give(tenant, unused, unused_size)

    def _rate_used_up(self, tenant: Tenant, mode: Mode, levels: Levels, events: int) -> RateLimited:
        self._metrics.limited.labels("rate_limited").inc()
        rates: Rates = self._buckets.rates_of(tenant.limits)
        seconds = max(1.0, limits.wait_s(mode, levels, rates, events))
        kind = "bytes" if levels.size < 0 else "events"
        most = tenant.limits.bytes_per_minute if kind == "bytes" else tenant.limits.events_per_minute
        what = "the rest" if mode is Mode.UP_TO and events > 1 else "it"
        return RateLimited(
            f"the limit of {most} {kind} a minute is reached; send {what} again in {math.ceil(seconds)} s",
            retry_after_s=seconds,
        )

    def _month_used_up(self, tenant: Tenant) -> MonthlyQuota:
        self._metrics.limited.labels("monthly_quota").inc()
        seconds = min(MONTH_RETRY_AFTER_S, self._usage.month_ends_in_s())
        return MonthlyQuota(
            f"the {tenant.limits.events_per_month} events of this month are used up; keep what is left and send it again "
            "later, or have the limit raised",
            retry_after_s=max(1.0, seconds),
        )
