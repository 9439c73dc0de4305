"""Agents by their heartbeats: the last one counts, from memory and from the store alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent import wire
from collector.errors import StoreAway
from collector.metrics import Metrics
from collector.search import agents
from collector.search.agents import Agents

START_US = 1_795_428_000_000_000
SECOND_US = 1_000_000


class Table:
    """`agents`: the newest row of each name."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.is_away = False

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self.is_away:
            raise StoreAway
        self.kept.update({tuple(row[:3]): tuple(row) for row in rows})

    def rows(self) -> list[tuple[Any, ...]]:
        return [row[1:] for row in self.kept.values() if row[0] == "t"]


class Clock:
    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def kept(table: Table, metrics: Metrics, clock: Clock) -> Agents:
    return Agents(table, metrics, wall_us=clock)


def take(kept: Agents, agent: str, tenant_id: str = "t", **said: Any) -> None:
    header = wire.Header(wire.HEARTBEAT, "h", agent=agent, scope="here")
    kept.take(tenant_id, header, wire.Heartbeat(**{"version": "1", **said}))


def test_an_agent_is_shown_before_and_after_it_is_written(kept: Agents, table: Table, clock: Clock) -> None:
    take(kept, "a", lag_bytes=5, uptime_s=60.0)
    before = kept.shown("t", table.rows())
    asyncio.run(kept.write())
    assert kept.shown("t", table.rows()) == before
    assert (before[0].agent, before[0].lag_bytes, before[0].started) == ("a", 5, "2026-11-23T09:59:00.000000Z")


def test_the_newer_of_memory_and_store_counts(kept: Agents, table: Table, clock: Clock) -> None:
    take(kept, "a", lag_bytes=5)
    asyncio.run(kept.write())
    clock.us += SECOND_US
    take(kept, "a", lag_bytes=7)
    assert [agent.lag_bytes for agent in kept.shown("t", table.rows())] == [7]


def test_another_tenants_agents_are_not_shown(kept: Agents, table: Table) -> None:
    take(kept, "a", tenant_id="other")
    assert kept.shown("t", table.rows()) == []


def test_silence_is_counted_by_the_collectors_clock(kept: Agents, table: Table, clock: Clock) -> None:
    take(kept, "a")
    clock.us += 90 * SECOND_US
    assert kept.shown("t", table.rows())[0].silent_seconds == 90.0


def test_who_is_furthest_behind_comes_first(kept: Agents, table: Table) -> None:
    take(kept, "a", lag_bytes=1)
    take(kept, "b", lag_bytes=9)
    assert [agent.agent for agent in kept.shown("t", table.rows())] == ["b", "a"]


def test_while_the_store_is_away_the_newest_are_kept_and_not_more_than_so_many(
    kept: Agents, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "MAX_WAITING", 3)
    table.is_away = True
    for n in range(5):
        take(kept, f"a{n}")
    with pytest.raises(StoreAway):
        asyncio.run(kept.write())
    table.is_away = False
    asyncio.run(kept.write())
    assert sorted(name[1] for name in table.kept) == ["a2", "a3", "a4"]


def test_a_heartbeat_of_a_later_version_is_shown_as_far_as_it_is_understood(kept: Agents) -> None:
    rows = [
        ("a", "here", START_US, '["2",1.5,false,"ok","ok",0,0,0,77,0.0,0,0,0,{},0,[],5,"something new"]'),
        ("b", "", 5, "{}"),
    ]
    assert {agent.agent: (agent.version, agent.lag_bytes) for agent in kept.shown("t", rows)} == {
        "a": ("2", 77),
        "b": ("unknown", 0),
    }


def test_the_metrics_are_of_agents_heard_lately_that_did_not_say_goodbye(kept: Agents, metrics: Metrics, clock: Clock) -> None:
    take(kept, "silent", lag_bytes=1)
    clock.us += 200 * SECOND_US
    take(kept, "a", lag_bytes=5, lag_s=3.0)
    take(kept, "b", lag_bytes=6, lag_s=9.0)
    take(kept, "gone", lag_bytes=100, stopping=True)
    asyncio.run(kept.write())
    text = metrics.text().decode()
    for line in ("collector_agents 2.0", "collector_agents_lag_bytes 11.0", "collector_agents_lag_seconds 9.0"):
        assert line in text


def test_heartbeats_that_wait_are_bounded_in_bytes_and_one_tenant_takes_its_share_only(
    table: Table, clock: Clock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "MAX_WAITING_BYTES", 4000)
    kept = Agents(table, metrics, wall_us=clock)
    beat = wire.Heartbeat("1")
    kept.take("quiet", wire.Header(wire.HEARTBEAT, "r", agent="q", raw_bytes=100), beat)
    for number in range(100):
        kept.take("t", wire.Header(wire.HEARTBEAT, "r", agent=f"a{number}", raw_bytes=100), beat)
    assert len(kept.shown("quiet", [])) == 1
    assert {one.agent for one in kept.shown("t", [])} == {f"a{number}" for number in range(90, 100)}
