"""Group commit against the real engine: every event once, every record its outcome, no tenant in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from agent import wire
from collector.errors import QueueFull, StoreAway, StoreError
from collector.ingest.blocks import open_run
from collector.store.columns import BLOCK_COLUMNS
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from collector.writing.writer import Writer
from tests.integration.conftest import Home, rows_of, submit
from tests.support.native import rows_of as blocks_rows
from tests.support.records import DAY_NS, FILE_ID, NOW_NS, expected_ids, loss, loss_record, record, tenant

pytestmark = pytest.mark.engine

RAW = b"one\ntwo\nthree\nfour\n"
MANY = b"".join(b'{"msg":"%d"}\n' % n for n in range(50))


class Between:
    """A store with something in front of its inserts: they can be held, counted, and made to fail."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.inserts: list[list[dict[str, Any]]] = []
        self.held: asyncio.Event | None = None
        self.holds: Callable[[list[dict[str, Any]]], bool] = lambda rows: True
        self.entered = asyncio.Event()
        self.fault: Callable[[list[dict[str, Any]]], Exception | None] = lambda rows: None
        self.unreadable = "nothing"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def query(self, sql: str, *more: Any, **named: Any) -> list[tuple[Any, ...]]:
        self._look(sql)
        return await self._store.query(sql, *more, **named)

    async def query_plain(self, sql: str) -> list[list[Any]]:
        self._look(sql)
        return await self._store.query_plain(sql)

    def _look(self, sql: str) -> None:
        if f"FROM {self.unreadable} " in sql:
            raise StoreError(159, "too slow")

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], **more: Any) -> None:
        await self._enter([dict(zip(columns, row, strict=True)) for row in rows])
        await self._store.insert(table, columns, rows, **more)

    async def insert_blocks(self, table: str, names: Sequence[str], blocks: Sequence[bytes]) -> None:
        await self._enter(blocks_rows(blocks))
        await self._store.insert_blocks(table, names, blocks)

    async def _enter(self, named: list[dict[str, Any]]) -> None:
        self.inserts.append(named)
        self.entered.set()
        if self.held is not None and self.holds(named):
            await self.held.wait()
        if error := self.fault(named):
            raise error


def running(home: Home, body: Callable[[Writer, Between], Awaitable[None]], *, now_ns: int = NOW_NS, **changed: Any) -> None:
    async def run() -> None:
        async with home.store() as store:
            between = Between(store)
            async with home.writer(store=between, now_ns=now_ns, **changed) as (writer, _):  # type: ignore[arg-type]
                await body(writer, between)

    asyncio.run(run())


def poison(word: bytes, code: int = 469) -> Callable[[list[dict[str, Any]]], Exception | None]:
    """Inserts that hold the word are refused, as by a constraint."""
    return lambda rows: StoreError(code, "secret text") if any(word in row.get("data", b"") for row in rows) else None


def counts(outcome: wire.RecordOutcome) -> Mapping[str, int]:
    names = (wire.ACCEPTED, wire.DUPLICATE, wire.EXPIRED, wire.REJECTED)
    return {name: count for name in names if (count := getattr(outcome, name))}


def test_a_record_is_stored_once_and_answered_accepted(home: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        first, second = await submit(writer, owner, record(RAW, record_id="a"), record(RAW, record_id="b", file_id="a" * 16))
        assert first == wire.RecordOutcome("a", "accepted", accepted=4)
        assert second.record_id == "b"
        ids = expected_ids(RAW) + expected_ids(RAW, file_id="a" * 16)
        assert await rows_of(store._store, owner, "external_id", final=False) == [(i,) for i in sorted(ids)]

    running(home, body)


def test_a_record_of_filtered_lines_only_is_accepted_with_nothing(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        (outcome,) = await submit(writer, owner, record(b"", record_id="a"))
        assert outcome == wire.RecordOutcome("a", "accepted")
        assert await writer.submit([]) == []
        assert store.inserts == []

    running(embedded, body)


@pytest.mark.parametrize("how", ["run", "flag", "start of file"])
def test_what_was_sent_before_is_found_and_not_stored_again(home: Home, owner: Tenant, how: str) -> None:
    changed: dict[str, Any] = {"base_offset": 0} if how == "start of file" else {"flags": wire.REPLAY} if how == "flag" else {}

    async def body(writer: Writer, store: Between) -> None:
        for expected in ({"accepted": 4}, {"duplicate": 4}):
            (outcome,) = await submit(writer, owner, record(RAW, **changed), replay=how == "run")
            assert counts(outcome) == expected
        assert len(await rows_of(store._store, owner, "1", final=False)) == 4

    running(home, body)


def test_an_unflagged_copy_is_one_event_all_the_same(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        for _ in range(2):
            (outcome,) = await submit(writer, owner, record(RAW))
            assert counts(outcome) == {"accepted": 4}
        assert len(await rows_of(store._store, owner, "1")) == 4

    running(embedded, body)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_only_what_is_missing_of_a_replay_is_stored(home: Home, owner: Tenant, end: bytes) -> None:
    lines = [b"line %d" % n + end for n in range(10)]

    async def body(writer: Writer, store: Between) -> None:
        await submit(writer, owner, record(b"".join(lines[:4])))
        (outcome,) = await submit(writer, owner, record(b"".join(lines)), replay=True)
        assert outcome.outcome == "mixed"
        assert (counts(outcome), outcome.exceptions) == ({"duplicate": 4, "accepted": 6}, ())
        found = await rows_of(store._store, owner, "external_id", final=False)
        assert found == [(i,) for i in expected_ids(b"".join(lines))]

    running(home, body)


def test_another_content_at_the_same_place_is_another_event(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        await submit(writer, owner, record(b"aaa\nbbb\n"))
        (outcome,) = await submit(writer, owner, record(b"aaa\nBBB\n"), replay=True)
        assert counts(outcome) == {"accepted": 1, "duplicate": 1}
        assert sorted(await rows_of(store._store, owner, "message")) == [("BBB",), ("aaa",), ("bbb",)]

    running(embedded, body)


def test_another_tenants_events_are_no_duplicates(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        await submit(writer, owner, record(RAW))
        (outcome,) = await submit(writer, tenant(f"{owner.tenant_id}-other"), record(RAW), replay=True)
        assert counts(outcome) == {"accepted": 4}

    running(embedded, body)


def test_a_deleted_event_stays_deleted_when_it_is_sent_again(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        await submit(writer, owner, record(b"one\n"))
        await store.command(
            "INSERT INTO events SELECT * REPLACE(1 AS is_deleted, 18446744073709551615 AS version) FROM events "
            f"WHERE tenant_id = '{owner.tenant_id}'"
        )
        for replay in (True, False):
            await submit(writer, owner, record(b"one\n"), replay=replay)
            assert await rows_of(store._store, owner, "1") == []

    running(embedded, body)


def test_overlapping_records_never_share_a_commit(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        longer = RAW + b"five\n"
        first, second = await submit(writer, owner, record(RAW), record(longer))
        assert (counts(first), counts(second)) == ({"accepted": 4}, {"duplicate": 4, "accepted": 1})
        assert len(store.inserts) == 2
        assert len(await rows_of(store._store, owner, "1", final=False)) == 5

    running(embedded, body)


def test_neighbours_share_a_commit(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        await submit(writer, owner, record(RAW, base_offset=5000), record(RAW, base_offset=5000 + len(RAW)))
        assert len(store.inserts) == 1

    running(embedded, body)


def test_what_arrives_during_a_commit_goes_together_into_the_next(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        others = [tenant(f"{owner.tenant_id}-{n}") for n in range(5)]
        store.held = asyncio.Event()
        first = asyncio.create_task(submit(writer, owner, record(RAW)))
        await store.entered.wait()
        rest = [asyncio.create_task(submit(writer, other, record(RAW))) for other in others]
        await _settled()
        store.held.set()
        assert [counts(o) for (o,) in await asyncio.gather(first, *rest)] == [{"accepted": 4}] * 6
        assert [len(rows) for rows in store.inserts] == [1, 5]

    running(embedded, body)


def test_what_comes_when_nothing_goes_on_is_committed_at_once_and_what_follows_waits_to_go_together(
    embedded: Home, owner: Tenant
) -> None:
    async def body(writer: Writer, store: Between) -> None:
        (first,) = await submit(writer, owner, record(RAW, base_offset=4096))
        rest = [asyncio.create_task(submit(writer, owner, record(RAW, base_offset=4096 + n * 100))) for n in range(1, 4)]
        await _settled()
        assert [len(rows) for rows in store.inserts] == [1]
        await writer.stop()  # a minute would be long
        assert [counts(o) for (o,) in ((first,), *await asyncio.gather(*rest))] == [{"accepted": 4}] * 4
        assert [len(rows) for rows in store.inserts] == [1, 3]

    running(embedded, body, commit_interval_s=60.0)


def test_tenants_take_turns_so_a_backlog_is_in_nobodys_way(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        small = tenant(f"{owner.tenant_id}-small")
        line = b"x" * 40_000 + b"\n"
        store.held = asyncio.Event()
        start = asyncio.create_task(submit(writer, owner, record(b"start\n")))
        await store.entered.wait()
        backlog = [record(line, base_offset=4096 + n * 50_000) for n in range(8)]
        big = asyncio.create_task(submit(writer, owner, *backlog))
        await _settled()
        little = asyncio.create_task(submit(writer, small, *backlog[:2]))
        await _settled()
        store.held.set()
        await asyncio.gather(start, big, little)
        second = [row["tenant_id"] for row in store.inserts[1]]
        assert second == [owner.tenant_id] * 2 + [small.tenant_id] * 2

    running(embedded, body, commit_bytes=200_000, queue_bytes=4_000_000)


def test_a_commit_is_bounded_in_bytes(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        line = b"x" * 20_000 + b"\n"
        await submit(writer, owner, *(record(line, base_offset=4096 + n * 30_000) for n in range(10)))
        assert all(sum(len(row["data"]) for row in rows) <= 100_000 for rows in store.inserts)
        assert len(store.inserts) == 3

    running(embedded, body, commit_bytes=100_000)


def test_what_waits_is_bounded_and_so_is_each_tenants_share(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        big = record(b"x" * 40_000 + b"\n")
        store.held = asyncio.Event()
        tasks = [asyncio.create_task(submit(writer, owner, big))]
        await store.entered.wait()
        with pytest.raises(QueueFull) as refused:
            await submit(writer, owner, big)
        assert refused.value.retry_after_s == 1.0
        for n in range(2):
            tasks.append(asyncio.create_task(submit(writer, tenant(f"{owner.tenant_id}-{n}"), big)))
        await _settled()
        with pytest.raises(QueueFull):
            await submit(writer, tenant(f"{owner.tenant_id}-last"), big)
        store.held.set()
        await asyncio.gather(*tasks)
        await submit(writer, owner, big, replay=True)  # there is room again

    running(embedded, body, commit_bytes=50_000, queue_bytes=150_000, tenant_share=0.3)


def test_a_caller_that_goes_away_changes_nothing(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        store.held = asyncio.Event()
        first = asyncio.create_task(submit(writer, other, record(b"start\n")))
        await store.entered.wait()
        gone = asyncio.create_task(submit(writer, owner, record(RAW)))
        stays = asyncio.create_task(submit(writer, other, record(RAW)))
        await _settled()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        store.held.set()
        await first
        (outcome,) = await stays
        assert counts(outcome) == {"accepted": 4}
        assert len(await rows_of(store._store, owner, "1")) == 4

    running(embedded, body)


def test_a_caller_that_goes_away_during_its_own_commit_changes_nothing(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        gone = asyncio.create_task(submit(writer, owner, record(RAW)))
        await store.entered.wait()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        store.held.set()
        (outcome,) = await submit(writer, owner, record(RAW), replay=True)
        assert counts(outcome) == {"duplicate": 4}

    running(embedded, body)


def test_stopping_commits_what_waits_and_takes_no_more(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        waiting = [asyncio.create_task(submit(writer, owner, record(RAW, base_offset=4096 + n * 100))) for n in range(3)]
        await _settled()
        await writer.stop()
        assert [counts(o) for (o,) in await asyncio.gather(*waiting)] == [{"accepted": 4}] * 3
        with pytest.raises(StoreAway, match="stopping"):
            await submit(writer, owner, record(RAW))

    running(embedded, body, commit_interval_s=60.0)


def test_a_store_that_is_away_fails_all_who_wait_for_that_commit_and_nobody_later(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.fault = lambda rows: StoreAway(210, "connection refused by 10.0.0.9")
        with pytest.raises(StoreAway):
            await submit(writer, owner, record(RAW), record(MANY, format="json", file_id="b" * 16))
        store.fault = lambda rows: None
        outcomes = await submit(writer, owner, record(RAW), record(MANY, format="json", file_id="b" * 16), replay=True)
        assert [counts(outcome) for outcome in outcomes] == [{"accepted": 4}, {"accepted": 50}]

    running(embedded, body)


def test_a_store_whose_schema_is_not_applied_takes_nothing(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store._store.ready = False
        try:
            with pytest.raises(StoreAway, match="schema"):
                await submit(writer, owner, record(RAW))
        finally:
            store._store.ready = True

    running(embedded, body)


def test_a_poisonous_event_costs_itself_only(home: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        store.held = asyncio.Event()
        start = asyncio.create_task(submit(writer, other, record(b"start\n")))
        await store.entered.wait()
        raw = b"".join(b'{"msg":"%d"}\r\n' % n for n in range(20)).replace(b"13", b"poison")
        bad = asyncio.create_task(
            submit(writer, owner, record(raw, format="json"), record(MANY, format="json", file_id="c" * 16))
        )
        good = asyncio.create_task(submit(writer, other, record(RAW)))
        await _settled()
        store.fault = poison(b"poison")
        store.held.set()
        await asyncio.gather(start, bad, good)
        first, second = bad.result()
        offset = 4096 + raw.index(b'{"msg":"poison"')
        assert counts(first) == {"accepted": 19, "rejected": 1}
        assert first.exceptions == (wire.EventOutcome(offset, "rejected", "store_error_469"),)
        assert (counts(second), counts(good.result()[0])) == ({"accepted": 50}, {"accepted": 4})
        assert len(await rows_of(store._store, owner, "1")) == 69

    running(home, body)


def test_a_single_poisonous_record_is_rejected_with_the_code_and_not_the_text(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.fault = poison(b"poison")
        (outcome,) = await submit(writer, owner, record(b"poison\n", record_id="a"))
        assert outcome == wire.RecordOutcome("a", "rejected", rejected=1, reason="store_error_469")

    running(embedded, body)


@pytest.mark.parametrize("code", [60, 516, 0])
def test_what_no_content_can_cause_rejects_nothing(embedded: Home, owner: Tenant, code: int) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.fault = lambda rows: StoreError(code, "unknown table, or no rights")
        with pytest.raises(StoreAway):
            await submit(writer, owner, record(RAW))

    running(embedded, body)


@pytest.mark.parametrize("table", ["events", "ingest_exceptions"])
def test_a_lookup_that_fails_rejects_nothing(embedded: Home, owner: Tenant, table: str) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.unreadable = table
        with pytest.raises(StoreAway):
            await submit(writer, owner, record(MANY, format="json"), replay=True)
        store.unreadable = "nothing"
        (outcome,) = await submit(writer, owner, record(MANY, format="json"), replay=True)
        assert sum(counts(outcome).values()) == 50
        assert len(await rows_of(store._store, owner, "1", final=False)) == 50

    running(embedded, body)


def test_a_fault_of_the_writers_own_fails_the_commit_and_the_next_one_works(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.fault = lambda rows: ZeroDivisionError("a mistake")
        with pytest.raises(ZeroDivisionError):
            await submit(writer, owner, record(RAW))
        store.fault = lambda rows: None
        assert counts((await submit(writer, owner, record(RAW)))[0]) == {"accepted": 4}

    running(embedded, body)


def test_expired_lines_of_a_replay_are_expired_again(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        raw = b'{"ts":"1990-01-01"}\n{"msg":"new"}\n'
        for expected in ({"accepted": 1, "expired": 1}, {"duplicate": 1, "expired": 1}):
            (outcome,) = await submit(writer, owner, record(raw, format="json"), replay=True)
            assert counts(outcome) == expected
            assert outcome.exceptions == (wire.EventOutcome(4096, "expired", "older_than_retention"),)

    running(embedded, body)


def test_a_record_of_very_many_lines_is_written_in_pieces(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        raw = b"\n" * 250_000
        (outcome,) = await submit(writer, owner, record(raw))
        assert counts(outcome) == {"accepted": 250_000}
        assert len(store.inserts) == 3
        sql = "SELECT count(), max(external_id) FROM events FINAL WHERE tenant_id = {tenant:String}"
        assert await store.query(sql, {"tenant": owner.tenant_id}) == [(250_000, f"{FILE_ID}-{4096 + 249_999:012x}-00000000")]

    running(embedded, body)


def test_losses_are_kept_and_found_again(home: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        body = loss_record(loss("l1"), loss("l2", at_least=False, time_ns=NOW_NS + DAY_NS), record_id="a")
        assert await submit(writer, owner, body) == [wire.RecordOutcome("a", "accepted", accepted=2)]
        more = loss_record(loss("l2"), loss("l3"), record_id="b")
        (outcome,) = await submit(writer, owner, more, replay=True)
        assert counts(outcome) == {"accepted": 1, "duplicate": 1}
        columns = "loss_id, agent, reason, lost_bytes, events, at_least, offset, toUnixTimestamp64Micro(time)"
        sql = f"SELECT {columns} FROM losses FINAL WHERE tenant_id = {{tenant:String}} ORDER BY loss_id"
        now_us = NOW_NS // 1000
        assert await store.query(sql, {"tenant": owner.tenant_id}) == [
            ("l1", "agent-1", "cut_before_read", 1000, 3, 1, 77, now_us),
            ("l2", "agent-1", "cut_before_read", 1000, 3, 0, 77, now_us),
            ("l3", "agent-1", "cut_before_read", 1000, 3, 1, 77, now_us),
        ]

    running(home, body)


def test_rows_reach_the_engine_in_the_order_of_its_key(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        places = [("b" * 16, 9000), ("a" * 16, 7000), ("b" * 16, 5000), ("a" * 16, 6000)]
        await submit(writer, owner, *(record(RAW, file_id=file_id, base_offset=offset) for file_id, offset in places))
        (rows,) = store.inserts
        assert set(rows[0]) == set(BLOCK_COLUMNS)
        assert [(row["file_id"], row["base_offset"]) for row in rows] == sorted(places)

    running(embedded, body)


def test_many_callers_at_once_each_get_their_own_counts(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        async def one(n: int) -> None:
            raw = b"".join(b"%d-%d\n" % (n, k) for k in range(n + 1))
            parcels = open_run(record(raw, base_offset=4096 + n * 10_000), tenant=owner, now_ns=NOW_NS, replay=n % 3 == 0)
            (outcome,) = await writer.submit(parcels)
            assert counts(outcome) == {"accepted": n + 1}

        await asyncio.gather(*(one(n) for n in range(100)))
        assert len(await rows_of(store._store, owner, "1")) == 5050

    running(embedded, body)


async def _settled() -> None:
    """Let tasks that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)
