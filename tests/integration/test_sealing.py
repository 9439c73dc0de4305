"""The index of words, built in the background where it is missing and pays, on the real engine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collector.metrics import Metrics
from collector.search import query
from collector.store import schema, sealing
from collector.store.sealing import CLOSED_ROWS, OPEN_ROWS, Partition, Sealer, wants
from collector.store.store import Store
from tests.integration.conftest import Home
from tests.integration.test_store import other_database

pytestmark = pytest.mark.engine

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
OVER = (MONDAY + timedelta(days=8)).timestamp()
ROWS = 2000


@pytest.mark.parametrize(
    ("rows", "bare", "days", "wanted"),
    [
        (CLOSED_ROWS, CLOSED_ROWS, 8, True),
        (CLOSED_ROWS, CLOSED_ROWS - 1, 8, False),
        (100 * CLOSED_ROWS, CLOSED_ROWS, 8, True),
        (CLOSED_ROWS, CLOSED_ROWS, 7.9, False),
        (OPEN_ROWS, OPEN_ROWS, 1, True),
        (OPEN_ROWS, OPEN_ROWS - 1, 1, False),
        (2 * OPEN_ROWS + 2, OPEN_ROWS, 1, False),
    ],
)
def test_a_closed_week_gets_the_index_and_an_open_one_when_half_of_it_has_none(
    rows: int, bare: int, days: float, wanted: bool
) -> None:
    assert wants(Partition("30-20261102", "20261102", rows, bare), MONDAY + timedelta(days=days)) is wanted


async def stored(store: Store, first: int, *, day: int = 0) -> None:
    """Events of one week, each with a word of its own; in a part of their own."""
    time_us = int((MONDAY + timedelta(days=day)).timestamp() * 1_000_000)
    columns = ("tenant_id", "external_id", "timestamp", "message", "retention_days")
    rows = [("t", f"id-{n}", time_us + n, f"word{n} and more", 365) for n in range(first, first + ROWS)]
    await store.insert("events", columns, rows)


async def read_for(store: Store, word: str) -> int:
    """How many rows the engine reads to find a word."""
    search = query.parse([("q", word)], tenant_id="t", retention_days=365, now_us=int(OVER * 1_000_000))
    where, params = query.where_of(search)
    plan = f"EXPLAIN ESTIMATE SELECT count() FROM {store.database}.events FINAL WHERE {where}"
    assert await store.query(f"SELECT count() FROM {store.database}.events FINAL WHERE {where}", params) == [(1,)]
    return sum(row[3] for row in await store.query(plan, params))


async def built(store: Store) -> None:
    async with asyncio.timeout(60):
        while await store.query("SELECT 1 FROM system.mutations WHERE NOT is_done AND database = 'sealed'"):
            pass


def test_a_week_that_is_over_is_indexed_once_and_again_when_a_late_event_took_the_index_away(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "CLOSED_ROWS", ROWS)

    async def run() -> None:
        async with other_database(home, "sealed") as store:
            await schema.apply(store)
            metrics = Metrics()
            sealer = Sealer(store, metrics, clock_s=lambda: OVER)
            for first in (0, ROWS):
                await stored(store, first)
            before = await read_for(store, "word7")
            assert before >= 2 * ROWS

            assert await sealer.look()
            await built(store)
            assert 0 < await read_for(store, "word7") < before
            assert not await sealer.look()
            assert _gauge(metrics) == 0

            await stored(store, 2 * ROWS, day=6)  # late; the merge with the others leaves the index out
            await store.command("OPTIMIZE TABLE sealed.events FINAL")
            assert await read_for(store, "word7") >= 3 * ROWS
            assert await sealer.look()
            await built(store)
            assert await read_for(store, f"word{2 * ROWS + 7}") < 3 * ROWS
            assert not await sealer.look()

    asyncio.run(run())


def test_a_week_that_is_still_written_to_and_small_is_left_alone(home: Home) -> None:
    async def run() -> None:
        async with other_database(home, "sealed") as store:
            await schema.apply(store)
            await stored(store, 0)
            assert not await Sealer(store, Metrics(), clock_s=lambda: MONDAY.timestamp() + 60).look()

    asyncio.run(run())


def _gauge(metrics: Metrics) -> Any:
    lines = metrics.text().decode().splitlines()
    (line,) = [line for line in lines if line.startswith("collector_store_rows_without_word_index ")]
    return float(line.split()[-1])
