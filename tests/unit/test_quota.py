"""Admission and settlement over both kinds of buckets, and the month that is kept in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from collector.config import Limits
from collector.errors import MonthlyQuota, RateLimited, StoreAway, answer_of
from collector.limits.buckets import Memory
from collector.limits.quota import Quota
from collector.limits.usage import Usage
from collector.metrics import Metrics
from collector.tenants.tenants import Tenant

AUGUST = datetime(2026, 8, 31, 23, 59, 0, tzinfo=UTC).timestamp()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Table:
    """`usage` in memory, as the engine would show it with FINAL."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, str], tuple[int, int]] = {}
        self.away = False
        self.ready = True
        self.inserts = 0

    async def query(self, sql: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        if self.away:
            raise StoreAway()
        assert params is not None
        sums: dict[str, list[int]] = {}
        for (tenant_id, month, writer), (events, size) in self.rows.items():
            if month == params["month"] and writer != params["writer"]:
                sums.setdefault(tenant_id, [0, 0])[0] += events
                sums[tenant_id][1] += size
        return [(tenant_id, *counts) for tenant_id, counts in sums.items()]

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.inserts += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway()
        for tenant_id, month, writer, events, size, _ in rows:
            self.rows[tenant_id, month, writer] = (events, size)


class Bench:
    """A quota with clocks in hand."""

    def __init__(self, table: Table | None = None) -> None:
        self.clock, self.wall = Clock(), Clock()
        self.wall.now = AUGUST
        self.table = table or Table()
        self.usage = Usage(self.table, wall_s=self.wall)
        self.metrics = Metrics()
        self.quota = Quota(Memory(clock=self.clock), self.usage, self.metrics)


def tenant(**changed: Any) -> Tenant:
    return Tenant("t1", "shop", "Shop", limits=Limits(**changed))


def run(work: Callable[[Bench], Awaitable[None]], table: Table | None = None) -> Bench:
    bench: Bench

    async def started() -> None:
        nonlocal bench
        bench = Bench(table)
        await work(bench)

    asyncio.run(started())
    return bench


def test_record_larger_than_the_burst() -> None:
    owner = tenant(events_per_minute=5000)

    async def work(bench: Bench) -> None:
        charge = await bench.quota.admit(owner, events=8000, size_bytes=1000)
        await charge.settle(8000, 1000)
        with pytest.raises(RateLimited) as caught:
            await bench.quota.admit(owner, events=10, size_bytes=10)
        assert caught.value.retry_after_s == pytest.approx(36)
        bench.clock.now += 36.1
        await bench.quota.admit(owner, events=10, size_bytes=10)

    run(work)


def test_prefix_admitted_then_retried() -> None:
    owner = tenant(events_per_minute=5000)

    async def work(bench: Bench) -> None:
        granted, charge = await bench.quota.admit_up_to(owner, events=8000, size_bytes=8000)
        assert (granted, charge.limited is not None) == (5000, True)
        await charge.settle(5000, 5000)
        bench.clock.now += 60
        # All 8,000 come again: the first 5,000 turn out to be stored, and their refund lets the rest through.
        granted, charge = await bench.quota.admit_up_to(owner, events=8000, size_bytes=8000)
        assert granted == 5000
        await charge.settle(0, 0)
        granted, charge = await bench.quota.admit_up_to(owner, events=3000, size_bytes=3000)
        assert granted == 3000
        await charge.settle(3000, 3000)
        assert bench.usage.used("t1") == (8000, 8000)

    run(work)


def test_what_is_settled_of_a_limited_month_is_in_the_store_by_one_insert_for_all_that_wait() -> None:
    owner = tenant(events_per_month=1000)

    async def work(bench: Bench) -> None:
        charges = [await bench.quota.admit(owner, events=1, size_bytes=1) for _ in range(20)]
        await asyncio.gather(*(charge.settle(1, 1) for charge in charges))
        assert list(bench.table.rows.values()) == [(20, 20)]
        assert bench.table.inserts <= 2
        charge = await bench.quota.admit(owner, events=5, size_bytes=5)
        await charge.settle(0, 0)
        assert bench.table.inserts <= 2

    run(work)


def test_a_month_without_a_limit_costs_no_insert_at_every_answer() -> None:
    async def work(bench: Bench) -> None:
        charge = await bench.quota.admit(tenant(), events=1, size_bytes=1)
        await charge.settle(1, 1)
        assert bench.table.inserts == 0

    run(work)


def test_a_store_that_does_not_take_the_count_keeps_no_answer_back() -> None:
    owner = tenant(events_per_month=1000)

    async def work(bench: Bench) -> None:
        charges = [await bench.quota.admit(owner, events=1, size_bytes=1) for _ in range(3)]
        bench.table.away = True
        for charge in charges:
            await charge.settle(1, 1)
        assert bench.table.inserts == 1  # then it is left alone for a while
        bench.table.away = False
        await bench.usage.write()
        assert list(bench.table.rows.values()) == [(3, 3)]

    run(work)


def test_collector_restarts_in_the_middle_of_the_month() -> None:
    owner, table = tenant(events_per_month=100), Table()

    async def first_life(bench: Bench) -> None:
        charge = await bench.quota.admit(owner, events=90, size_bytes=90)
        await charge.settle(90, 90)
        await bench.usage.stop()

    async def second_life(bench: Bench) -> None:
        granted, charge = await bench.quota.admit_up_to(owner, events=50, size_bytes=50)
        assert granted == 10
        assert isinstance(charge.limited, MonthlyQuota)
        await charge.settle(10, 10)
        with pytest.raises(MonthlyQuota):
            await bench.quota.admit(owner, events=1, size_bytes=1)
        bench.wall.now += 61  # September
        assert (await bench.quota.admit(owner, events=1, size_bytes=1)).events == 1

    run(first_life, table)
    run(second_life, table)


def test_what_is_settled_as_nothing_costs_nothing() -> None:
    owner = tenant(events_per_minute=100, events_per_month=100)

    async def work(bench: Bench) -> None:
        for _ in range(5):
            charge = await bench.quota.admit(owner, events=100, size_bytes=100)
            await charge.settle(0, 0)
            await charge.settle(0, 0)
        assert (await bench.quota.budget(owner)).remaining == 100
        assert bench.usage.used("t1") == (0, 0)

    run(work)


def test_what_is_under_way_counts_for_the_month_until_it_is_settled() -> None:
    owner = tenant(events_per_month=100)

    async def work(bench: Bench) -> None:
        _, charge = await bench.quota.admit_up_to(owner, events=80, size_bytes=80)
        granted, _ = await bench.quota.admit_up_to(owner, events=80, size_bytes=80)
        assert granted == 20
        await charge.settle(30, 30)
        assert (await bench.quota.admit_up_to(owner, events=80, size_bytes=80))[0] == 50

    run(work)


def test_a_tenant_that_wants_all_or_nothing_gets_nothing_of_a_batch_that_does_not_fit() -> None:
    owner = tenant(events_per_minute=100, on_limit="refuse")

    async def work(bench: Bench) -> None:
        assert (await bench.quota.admit_up_to(owner, events=60, size_bytes=1))[0] == 60
        granted, charge = await bench.quota.admit_up_to(owner, events=60, size_bytes=1)
        assert granted == 0
        assert charge.limited is not None
        assert charge.limited.retry_after_s == pytest.approx(12)
        assert (await bench.quota.budget(owner)).remaining == 40

    run(work)


def test_the_budget_says_limit_remaining_and_whole_seconds_until_it_is_full() -> None:
    owner = tenant(events_per_minute=100)

    async def work(bench: Bench) -> None:
        assert msgspec.structs.astuple(await bench.quota.budget(owner)) == (100, 100, 0)
        await bench.quota.admit_up_to(owner, events=50, size_bytes=1)
        assert msgspec.structs.astuple(await bench.quota.budget(owner)) == (100, 50, 30)
        bench.clock.now += 0.5
        assert msgspec.structs.astuple(await bench.quota.budget(owner)) == (100, 50, 30)

    run(work)


def test_a_month_that_is_used_up_is_told_with_its_end_and_asked_again_within_the_hour() -> None:
    owner = tenant(events_per_month=10)

    async def work(bench: Bench) -> None:
        bench.wall.now -= 86400
        charge = await bench.quota.admit(owner, events=10, size_bytes=1)
        await charge.settle(10, 1)
        budget = await bench.quota.budget(owner)
        assert (budget.remaining, budget.reset_s) == (0, 86400 + 60)
        with pytest.raises(MonthlyQuota) as caught:
            await bench.quota.admit(owner, events=1, size_bytes=1)
        assert caught.value.retry_after_s == 3600
        reply = answer_of(caught.value)
        assert (reply.status, reply.body.code) == (429, "monthly_quota")

    run(work)


def test_a_month_that_cannot_be_read_is_no_verdict_and_a_tenant_without_one_goes_on() -> None:
    async def work(bench: Bench) -> None:
        bench.table.away = True
        with pytest.raises(StoreAway):
            await bench.quota.admit(tenant(events_per_month=10), events=1, size_bytes=1)
        assert (await bench.quota.admit(tenant(), events=1, size_bytes=1)).events == 1

    run(work)


def test_a_month_that_could_not_be_read_at_the_start_is_read_before_anything_is_said_of_it() -> None:
    table = Table()
    table.rows["t1", 202608, "an earlier life"] = (7, 70)

    async def work(bench: Bench) -> None:
        table.away = True
        await bench.usage.start()
        with pytest.raises(StoreAway):
            await bench.usage.known(tenant(events_per_month=10))
        await bench.usage.known(tenant())
        table.away = False
        await bench.usage.known(tenant(events_per_month=10))
        assert bench.usage.left(tenant(events_per_month=10)) == 3
        await bench.usage.stop()

    run(work, table)


def test_counts_that_could_not_be_written_are_written_the_next_time() -> None:
    async def work(bench: Bench) -> None:
        charge = await bench.quota.admit(tenant(), events=5, size_bytes=50)
        await charge.settle(5, 50)
        bench.table.away = True
        with pytest.raises(StoreAway):
            await bench.usage.write()
        bench.table.away = False
        await bench.usage.write()
        assert list(bench.table.rows.values()) == [(5, 50)]

    run(work)


def test_two_collectors_add_their_months_up() -> None:
    owner, table = tenant(events_per_month=100), Table()

    async def work(bench: Bench) -> None:
        other = Bench(table)
        for one in (bench, other):
            charge = await one.quota.admit(owner, events=40, size_bytes=4)
            await charge.settle(40, 4)
            await one.usage.write()
        for one in (bench, other):
            await one.usage.read()
            assert one.usage.used("t1") == (80, 8)

    run(work, table)


def test_refusals_are_counted_by_code() -> None:
    async def work(bench: Bench) -> None:
        owner = tenant(events_per_minute=1)
        await bench.quota.admit_up_to(owner, events=2, size_bytes=1)

    assert b'collector_limited_total{reason="rate_limited"} 1.0' in run(work).metrics.text()
