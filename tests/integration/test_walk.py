"""A whole result in small pages: whatever the times, the ties, the gaps and the copies, each event once and in order."""

from __future__ import annotations

import asyncio
import importlib.util
from random import Random
from typing import Any

import pytest

from collector.errors import QueryTooExpensive
from collector.search.query import Search, Statement
from collector.store.store import Store
from collector.streams.walk import LEAST_US, Walk
from tests.integration.conftest import Home
from tests.support.records import NOW_NS

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

NOW_US = NOW_NS // 1000
DAY_US = 86_400_000_000
COLUMNS = {"timestamp": "toUnixTimestamp64Micro(timestamp)", "external_id": "external_id"}
STORED = ("tenant_id", "external_id", "timestamp", "event_type", "severity", "retention_days", "version", "is_deleted")


async def filled(store: Store, tenant_id: str, random: Random) -> list[tuple[int, str]]:
    """Store events: some of one time, some far apart, some twice, some deleted. Returns those that are there, in order."""
    times = [NOW_US - random.choice((0, 1, 2, 5_000, DAY_US, 3 * DAY_US)) - random.randrange(3) for _ in range(40)]
    events = sorted((time_us, f"e-{n:02}") for n, time_us in enumerate(times))
    gone = set(random.sample(events, 6))
    rows = [(tenant_id, name, time_us, "log", "info", 30, version, 0) for time_us, name in events for version in (7, 6)]
    rows += [(tenant_id, name, time_us, "log", "info", 30, 9, 1) for time_us, name in gone]
    await store.insert("events", STORED, rows)
    return [one for one in events if one not in gone]


async def walked(store: Store, search: Search, random: Random, too_dear_us: int = 0) -> list[Any]:
    found: list[Any] = []

    async def ask(statement: Statement) -> list[tuple[Any, ...]]:
        if too_dear_us and statement.params["end"] - statement.params["start"] > too_dear_us:
            raise QueryTooExpensive("too dear")
        return await store.query(statement.sql, statement.params)

    walk = Walk(search, COLUMNS, lambda: 0, rows=random.choice((2, 5, 10)), first_us=random.choice((1, 1000, DAY_US)))
    async for page in walk.pages(ask):
        assert page
        found += page
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("ascending", [True, False])
def test_small_pages_add_up_to_the_whole(embedded: Home, seed: int, ascending: bool) -> None:
    async def run() -> None:
        random, tenant_id = Random(seed), f"walk-{seed}-{ascending}"
        async with embedded.store() as store:
            there = await filled(store, tenant_id, random)
            if not ascending:
                there.reverse()
            search = Search(tenant_id, NOW_US - 10 * DAY_US, NOW_US + DAY_US, ascending=ascending)
            assert await walked(store, search, random) == there
            middle = random.randrange(len(there))
            after = Search(tenant_id, NOW_US - 10 * DAY_US, NOW_US + DAY_US, ascending=ascending, after=there[middle])
            assert await walked(store, after, random) == there[middle + 1 :]

    asyncio.run(run())


def test_a_window_that_is_too_dear_is_made_smaller(embedded: Home) -> None:
    async def run() -> None:
        random = Random(5)
        async with embedded.store() as store:
            there = await filled(store, "walk-dear", random)
            search = Search("walk-dear", NOW_US - 4 * DAY_US, NOW_US, ascending=True)
            assert await walked(store, search, random, too_dear_us=DAY_US // 2) == there
            with pytest.raises(QueryTooExpensive):
                await walked(store, search, random, too_dear_us=LEAST_US // 2)

    asyncio.run(run())


def test_what_expires_meanwhile_is_not_shown(embedded: Home) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            rows = [("walk-old", f"e-{n}", NOW_US - DAY_US + n, "log", "info", 30, 7, 0) for n in range(9)]
            await store.insert("events", STORED, rows)
            oldest = iter(range(NOW_US - DAY_US, NOW_US, 3))
            walk = Walk(Search("walk-old", 0, NOW_US, ascending=True), COLUMNS, lambda: next(oldest), rows=2, first_us=10)
            pages = [page async for page in walk.pages(lambda s: store.query(s.sql, s.params))]
            assert [row[1] for page in pages for row in page] == ["e-0", "e-1", "e-3", "e-4", "e-6", "e-7"]

    asyncio.run(run())
