"""Outcomes by the hour: counted once whatever is written twice, in which process, or not at all for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent import wire
from collector.errors import StoreAway
from collector.ingest.outcomes_log import HOUR_S, Count, OutcomesLog

HOUR = 1_795_428_000 // HOUR_S * HOUR_S


class Table:
    """`outcomes` as a ReplacingMergeTree shows it: the row of the highest version of each name."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.inserts = 0
        self.is_away = False
        self.loses_the_answer = False

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self.is_away:
            raise StoreAway
        self.inserts += 1
        for row in rows:
            name, version = tuple(row[:5]), row[7]
            if name not in self.kept or self.kept[name][7] < version:
                self.kept[name] = tuple(row)
        if self.loses_the_answer:
            raise StoreAway

    def rows(self, tenant_id: str) -> list[tuple[Any, ...]]:
        return [row[1:7] for row in self.kept.values() if row[0] == tenant_id]


def counts(log: OutcomesLog, table: Table, tenant_id: str = "t", start_s: int = 0, end_s: int = 1 << 40) -> list[Count]:
    return log.shown(tenant_id, start_s, end_s, table.rows(tenant_id))


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def log(table: Table) -> OutcomesLog:
    return OutcomesLog(table, wall_s=lambda: float(HOUR + 5))


def test_what_was_counted_is_shown_before_it_is_written(log: OutcomesLog, table: Table) -> None:
    log.note("t", wire.ACCEPTED, 3, size=30)
    log.note("t", wire.ACCEPTED, 2)
    log.note("other", wire.ACCEPTED, 7)
    assert counts(log, table) == [Count(HOUR, "accepted", "", 5, 30)]


def test_what_was_written_is_not_counted_again(log: OutcomesLog, table: Table) -> None:
    for _ in range(3):
        log.note("t", wire.REJECTED, 1, reason="invalid")
        asyncio.run(log.write())
    assert counts(log, table) == [Count(HOUR, "rejected", "invalid", 3, 0)]
    assert len(table.kept) == 1


def test_a_write_whose_answer_was_lost_changes_nothing_when_it_is_repeated(log: OutcomesLog, table: Table) -> None:
    log.note("t", wire.ACCEPTED, 5)
    table.loses_the_answer = True
    with pytest.raises(StoreAway):
        asyncio.run(log.write())
    table.loses_the_answer = False
    asyncio.run(log.write())
    assert counts(OutcomesLog(table), table) == [Count(HOUR, "accepted", "", 5, 0)]


def test_what_could_not_be_written_is_kept_and_written_later(log: OutcomesLog, table: Table) -> None:
    table.is_away = True
    log.note("t", wire.ACCEPTED, 5)
    with pytest.raises(StoreAway):
        asyncio.run(log.write())
    table.is_away = False
    asyncio.run(log.write())
    assert counts(OutcomesLog(table), table) == [Count(HOUR, "accepted", "", 5, 0)]


def test_nothing_new_is_no_insert(log: OutcomesLog, table: Table) -> None:
    log.note("t", wire.ACCEPTED, 5)
    log.note("t", wire.DUPLICATE, 0)
    asyncio.run(log.write())
    asyncio.run(log.write())
    assert table.inserts == 1


def test_processes_are_added_up(log: OutcomesLog, table: Table) -> None:
    other = OutcomesLog(table, wall_s=lambda: float(HOUR + 9))
    for each in (log, other):
        each.note("t", wire.ACCEPTED, 5)
        asyncio.run(each.write())
    log.note("t", wire.ACCEPTED, 1)
    assert [count.events for count in counts(log, table)] == [11]
    assert [count.events for count in counts(other, table)] == [10]


def test_hours_that_are_over_and_written_are_forgotten_here_and_still_shown(table: Table) -> None:
    now = [float(HOUR)]
    log = OutcomesLog(table, wall_s=lambda: now[0])
    log.note("t", wire.ACCEPTED, 5)
    asyncio.run(log.write())
    now[0] += HOUR_S
    log.note("t", wire.ACCEPTED, 2)
    asyncio.run(log.write())
    assert [(count.hour_s, count.events) for count in counts(log, table)] == [(HOUR, 5), (HOUR + HOUR_S, 2)]
    assert len(log._counts) == 1


def test_only_hours_of_the_window_are_shown(log: OutcomesLog, table: Table) -> None:
    log.note("t", wire.ACCEPTED, 5)
    assert counts(log, table, start_s=HOUR + HOUR_S) == []


def test_records_are_counted_by_what_became_of_each_event(log: OutcomesLog, table: Table) -> None:
    plain = wire.RecordOutcome("a", wire.EXPIRED, expired=4, reason="older_than_retention")
    mixed = wire.RecordOutcome(
        "b", wire.MIXED, accepted=2, duplicate=1, rejected=1, exceptions=(wire.EventOutcome(7, wire.REJECTED, "store_error_6"),)
    )
    log.note_records("t", [(plain, 400), (mixed, 80)])
    assert counts(log, table) == [
        Count(HOUR, "accepted", "", 2, 40),
        Count(HOUR, "duplicate", "", 1, 20),
        Count(HOUR, "expired", "older_than_retention", 4, 0),
        Count(HOUR, "rejected", "store_error_6", 1, 0),
    ]
