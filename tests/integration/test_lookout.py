"""What only the store knows, for the metrics, on the real engine."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Any

import pytest

from agent import wire
from collector.errors import StoreError
from collector.metrics import Metrics
from collector.search.agents import Agents
from collector.store import schema
from collector.store.lookout import REMEMBERED_S, SILENT_AFTER_S, Lookout
from collector.store.store import Row, Store
from tests.integration.conftest import Home
from tests.integration.test_store import other_database

pytestmark = pytest.mark.engine

DATABASE = "lookout"
NOW_S = 1_795_428_000.0
AGES_S = {"speaks": SILENT_AFTER_S - 1, "silent": SILENT_AFTER_S + 1, "long silent": REMEMBERED_S - 1, "gone": REMEMBERED_S + 1}


def value(metrics: Metrics, name: str) -> float:
    found = metrics.registry.get_sample_value(name)
    assert found is not None
    return found


async def heard(store: Store, agent: str, ago_s: float, **said: Any) -> None:
    """By a collector of its own: any of them may hear an agent."""
    agents = Agents(store, Metrics(), wall_us=lambda: int((NOW_S - ago_s) * 1e6))
    agents.take("t", wire.Header(wire.HEARTBEAT, "h", agent=agent, scope="here"), wire.Heartbeat(version="1", **said))
    await agents.write()


def test_agents_that_went_silent_are_counted_over_all_collectors(home: Home) -> None:
    async def counted() -> tuple[float, float]:
        async with other_database(home, DATABASE) as store:
            await schema.apply(store)
            metrics = Metrics()
            lookout = Lookout(store, metrics, clock_s=lambda: NOW_S)
            for agent, ago_s in AGES_S.items():
                await heard(store, agent, ago_s)
            await heard(store, "said goodbye", SILENT_AFTER_S + 1, stopping=True)
            await lookout.look()
            first = value(metrics, "collector_agents_silent")
            await heard(store, "silent", 1.0)
            await lookout.look()
            return first, value(metrics, "collector_agents_silent")

    assert asyncio.run(counted()) == (2, 1)


def test_how_full_the_disk_is_is_not_known_before_the_first_look(home: Home) -> None:
    async def measured() -> tuple[float, float]:
        async with home.store() as store:
            metrics = Metrics()
            before = value(metrics, "collector_store_free_disk_ratio")
            await Lookout(store, metrics).look()
            return before, value(metrics, "collector_store_free_disk_ratio")

    before, after = asyncio.run(measured())
    assert math.isnan(before)
    assert 0 < after < 1


def test_a_user_who_may_not_see_disks_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Narrow:
        ready = True
        database = DATABASE

        async def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
            if "system.disks" in sql:
                raise StoreError(497, "Not enough privileges")
            return [(3,)]

    async def look_twice() -> float:
        metrics = Metrics()
        lookout = Lookout(Narrow(), metrics)  # type: ignore[arg-type]
        await lookout.look()
        await lookout.look()
        return value(metrics, "collector_agents_silent")

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(look_twice()) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "store: its disks cannot be seen, so collector_store_free_disk_ratio says nothing: Not enough privileges"
    ]
