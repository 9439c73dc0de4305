"""Budgets in a real Redis: the script does what the pure account does, and a Redis that is away costs nobody time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.config import Limits, QuotaConfig
from collector.errors import ConfigError
from collector.limits import limits
from collector.limits.buckets import AWAY_S, Shared
from collector.limits.limits import Account, Levels, Mode
from collector.metrics import Metrics
from collector.tenants.tenants import Tenant
from tests.support.redis import BINARY, Redis

pytestmark = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")

_numbers = count(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


def tenant(**changed: int) -> Tenant:
    """A tenant that nobody had before."""
    return Tenant(f"t{next(_numbers)}-{time.monotonic_ns()}", "shop", "Shop", limits=Limits(**changed))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(redis: Redis, work: Callable[[Shared, Clock], Awaitable[None]], **changed: object) -> Metrics:
    metrics = Metrics()

    async def started() -> None:
        clock = Clock()
        config = QuotaConfig(redis_url=redis.url, **changed)  # type: ignore[arg-type]
        shared = Shared(config, metrics, clock=clock)
        try:
            await work(shared, clock)
        finally:
            await shared.close()

    asyncio.run(started())
    return metrics


STEPS = st.lists(
    st.tuples(st.sampled_from([*Mode, "give"]), st.integers(1, 500), st.integers(0, 5000)), min_size=1, max_size=25
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(burst=st.integers(1, 300), size_burst=st.integers(1, 3000), steps=STEPS)
def test_the_script_does_what_the_account_does(
    redis: Redis, burst: int, size_burst: int, steps: list[tuple[Mode | str, int, int]]
) -> None:
    # One unit a minute: over a run of milliseconds nothing whole is refilled, so the clocks do not matter.
    owner = tenant(events_per_minute=1, events_burst=burst, bytes_per_minute=1, bytes_burst=size_burst)
    rates = limits.rates_of(owner.limits)
    account = Account(Levels(float(burst), float(size_burst)), 0.0)

    async def work(shared: Shared, clock: Clock) -> None:
        for what, events, size in steps:
            if isinstance(what, Mode):
                granted, levels = await shared.take(owner, what, events, size)
                assert granted == account.take(what, rates, events, size, 0.0)
                assert (levels.events, levels.size) == pytest.approx(
                    (account.levels(rates, 0.0).events, account.levels(rates, 0.0).size), abs=0.5
                )
            else:
                await shared.give(owner, events, size)
                account.give(rates, events, size, 0.0)

    run(redis, work, redis_timeout_s=5.0)


def test_two_collectors_share_one_budget(redis: Redis) -> None:
    owner = tenant(events_per_minute=100)

    async def work(one: Shared, clock: Clock) -> None:
        async def other_work(other: Shared, clock: Clock) -> None:
            granted = await asyncio.gather(*(of.take(owner, Mode.UP_TO, 7, 0) for of in (one, other) * 10))
            assert sum(events for events, _ in granted) == 100

        other = Shared(QuotaConfig(redis_url=redis.url, redis_timeout_s=5.0), Metrics())
        try:
            await other_work(other, clock)
        finally:
            await other.close()

    run(redis, work, redis_timeout_s=5.0)


def test_a_budget_that_is_full_again_is_forgotten(redis: Redis) -> None:
    owner = tenant(events_per_minute=60)

    async def work(shared: Shared, clock: Clock) -> None:
        await shared.take(owner, Mode.WHOLE, 600, 0)
        key = f"pulsestream:{{{owner.tenant_id}}}:budget"
        assert 600 < await shared._client.ttl(key) <= 662

    run(redis, work)


def test_while_redis_is_away_each_collector_allows_its_part_and_says_so(tmp_path: Path) -> None:
    owner, fresh = tenant(events_per_minute=100), tenant(events_per_minute=100)

    with Redis(tmp_path / "redis") as redis:

        async def work(shared: Shared, clock: Clock) -> None:
            assert (await shared.take(owner, Mode.UP_TO, 60, 0))[0] == 60
            assert shared.state == "redis"
            redis.pause()
            began = time.monotonic()
            granted, _ = await shared.take(owner, Mode.UP_TO, 100, 0)
            assert granted == 10  # a quarter of the 40 that were left
            assert (await shared.take(fresh, Mode.UP_TO, 100, 0))[0] == 25
            assert time.monotonic() - began < 2  # asked once, then left alone
            assert shared.state == "redis does not answer: each collector allows 1/4 of every rate"
            redis.resume()
            clock.now += AWAY_S + 0.1
            assert (await shared.take(fresh, Mode.UP_TO, 100, 0))[0] == 100
            assert shared.state == "redis"

        text = run(redis, work, replicas=4).text()
        assert b"collector_limits_fallbacks_total 1.0" in text
        assert b"collector_limits_shared 1.0" in text


def test_a_redis_that_lost_everything_is_used_as_it_is(tmp_path: Path) -> None:
    owner = tenant(events_per_minute=100)
    with Redis(tmp_path / "redis") as redis:

        async def work(shared: Shared, clock: Clock) -> None:
            await shared.take(owner, Mode.UP_TO, 100, 0)
            await asyncio.to_thread(redis.kill)
            await asyncio.to_thread(redis.start)
            clock.now += AWAY_S + 0.1
            assert (await shared.take(owner, Mode.UP_TO, 1, 0))[0] == 1

        run(redis, work)


def test_the_client_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=r"pip install 'pulsestream\[redis\]'"):
        Shared(QuotaConfig(redis_url="redis://127.0.0.1/0"), Metrics())
