"""Events of the JSON API in the group commit, against the real engine: each once, each its verdict, nobody in the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from collector.errors import NotFound, QueueFull, StoreAway, StoreError
from collector.ingest.event_checks import Checked, Rules, check
from collector.ingest.event_portions import MAX_EVENTS
from collector.search import event_by_id
from collector.tenants.tenants import Tenant
from collector.writing import event_lookup
from collector.writing.backlog import MAX_ASKED_IDS
from collector.writing.event_parcels import ACCEPTED, DELETED, DUPLICATE, EVENT_COST_BYTES, Verdict, parcels_of
from collector.writing.writer import Writer
from tests.integration.conftest import Home, rows_of, submit
from tests.integration.test_writer import Between, _settled, counts, running
from tests.support.events import event, named
from tests.support.records import DAY_NS, NOW_NS, record, tenant

pytestmark = pytest.mark.engine

RULES = Rules(now_us=NOW_NS // 1000, retention_days=30, retention_class=30, max_event_bytes=1 << 20)


def checked(value: dict[str, Any]) -> Checked:
    found = check(json.dumps(value).encode(), RULES, lambda index: (f"minted-{index}", True))
    assert isinstance(found, Checked), found
    return found


async def write(writer: Writer, owner: Tenant, *events: dict[str, Any]) -> list[Verdict]:
    return await writer.submit_events(parcels_of(owner.tenant_id, [checked(value) for value in events]))


def poison(word: str, code: int = 469) -> Callable[[list[dict[str, Any]]], Exception | None]:
    """Inserts in which a title is the word are refused, as by a constraint."""
    return lambda rows: StoreError(code, "secret text") if any(row.get("title") == word for row in rows) else None


def test_events_are_stored_once_and_found_when_they_come_again(home: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        events = [named() for _ in range(3)]
        assert await write(writer, owner, *events) == [ACCEPTED] * 3
        assert await write(writer, owner, *events, named()) == [DUPLICATE] * 3 + [ACCEPTED]
        assert len(await rows_of(store._store, owner, "1", final=False)) == 4

    running(home, body)


def test_a_repeat_changes_nothing_of_the_stored_event(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        said = named(title="first", payload={"a": 1})
        await write(writer, owner, said)
        assert await write(writer, owner, {**said, "title": "second", "payload": {}}) == [DUPLICATE]
        assert await rows_of(store._store, owner, "title, payload", final=False) == [("first", '{"a": 1}')]

    running(embedded, body)


def test_requests_of_one_commit_share_one_insert_and_one_look_up(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        first = asyncio.create_task(write(writer, owner, named()))
        await store.entered.wait()
        others = [asyncio.create_task(write(writer, tenant(f"{owner.tenant_id}-{n}"), named())) for n in range(5)]
        lines = asyncio.create_task(submit(writer, owner, record(b"one\ntwo\n")))
        await _settled()
        store.held.set()
        assert await asyncio.gather(first, *others) == [[ACCEPTED]] * 6
        assert counts((await lines)[0]) == {"accepted": 2}
        assert [len(rows) for rows in store.inserts if "data" not in rows[0]] == [1, 5]

    running(embedded, body)


def test_copies_in_one_commit_are_one_event_and_one_is_accepted(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        said = named()
        store.held = asyncio.Event()
        start = asyncio.create_task(write(writer, owner, named()))
        await store.entered.wait()
        same = [asyncio.create_task(write(writer, owner, said)) for _ in range(10)]
        theirs = asyncio.create_task(write(writer, other, said))
        await _settled()
        store.held.set()
        verdicts = [verdict for (verdict,) in await asyncio.gather(*same)]
        assert verdicts == [ACCEPTED] + [DUPLICATE] * 9
        assert (await start, await theirs) == ([ACCEPTED], [ACCEPTED])
        assert len(await rows_of(store._store, owner, "1", final=False)) == 2

    running(embedded, body)


def test_a_value_that_the_engine_refuses_costs_its_event_only(home: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        store.held = asyncio.Event()
        start = asyncio.create_task(write(writer, other, named()))
        await store.entered.wait()
        events = [named(title="poison" if n == 13 else f"n {n}") for n in range(20)]
        bad = asyncio.create_task(write(writer, owner, *events))
        fine = [named() for _ in range(20)]
        good = asyncio.create_task(write(writer, other, *fine))
        lines = asyncio.create_task(submit(writer, other, record(b"one\n")))
        await _settled()
        store.fault = poison("poison")
        store.held.set()
        verdicts, theirs, (line,), _ = await asyncio.gather(bad, good, lines, start)
        assert verdicts[13] == Verdict("rejected", "store_error_469")
        assert verdicts[:13] + verdicts[14:] == [ACCEPTED] * 19
        assert (theirs, counts(line)) == ([ACCEPTED] * 20, {"accepted": 1})
        assert len(await rows_of(store._store, owner, "1")) == 19

    running(home, body)


def test_where_the_first_of_two_copies_is_refused_the_second_is_written(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        start = asyncio.create_task(write(writer, owner, named()))
        await store.entered.wait()
        said = named(title="poison")
        same = [asyncio.create_task(write(writer, owner, {**said, "title": title})) for title in ("poison", "good", "late")]
        await _settled()
        store.fault = poison("poison")
        store.held.set()
        assert await asyncio.gather(*same) == [[Verdict("rejected", "store_error_469")], [ACCEPTED], [DUPLICATE]]
        await start
        assert ("good",) in await rows_of(store._store, owner, "title")

    running(embedded, body)


@pytest.mark.parametrize("error", [StoreError(60, "unknown table"), StoreError(0, "?"), StoreAway(210, "connection refused")])
def test_what_no_event_can_cause_rejects_none(embedded: Home, owner: Tenant, error: StoreError) -> None:
    async def body(writer: Writer, store: Between) -> None:
        said = named()
        store.fault = lambda rows: error
        with pytest.raises(StoreAway):
            await write(writer, owner, said, said)
        store.fault = lambda rows: None
        assert await write(writer, owner, said) == [ACCEPTED]

    running(embedded, body)


def test_a_look_up_that_fails_stores_and_rejects_nothing(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.unreadable = "events"
        with pytest.raises(StoreAway):
            await write(writer, owner, named())
        assert await write(writer, owner, event()) == [ACCEPTED]  # an ID made here needs no look-up
        assert len(store.inserts) == 1

    running(embedded, body)


def test_events_that_fail_fail_no_lines_of_the_same_commit(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        start = asyncio.create_task(submit(writer, owner, record(b"start\n", file_id="a" * 16)))
        await store.entered.wait()
        events = asyncio.create_task(write(writer, owner, named()))
        lines = asyncio.create_task(submit(writer, owner, record(b"one\n")))
        await _settled()
        store.unreadable = "events"
        store.held.set()
        with pytest.raises(StoreAway):
            await events
        assert counts((await lines)[0]) == {"accepted": 1}
        await start

    running(embedded, body)


def test_a_large_batch_is_written_in_parcels_and_others_come_in_between(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        store.held = asyncio.Event()
        start = asyncio.create_task(write(writer, owner, named()))
        await store.entered.wait()
        many = [named() for _ in range(MAX_ASKED_IDS + MAX_EVENTS)]
        big = asyncio.create_task(write(writer, owner, *many))
        await _settled()
        small = asyncio.create_task(write(writer, other, named()))
        await _settled()
        store.held.set()
        assert await big == [ACCEPTED] * len(many)
        assert await asyncio.gather(start, small) == [[ACCEPTED], [ACCEPTED]]
        assert other.tenant_id in {row["tenant_id"] for rows in store.inserts[1:3] for row in rows}
        assert all(len(rows) <= MAX_ASKED_IDS for rows in store.inserts)

    running(embedded, body)


def test_a_tenant_of_which_much_waits_is_in_nobodys_way(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        store.held = asyncio.Event()
        store.holds = lambda rows: any(row["tenant_id"] == owner.tenant_id for row in rows)
        many = [named(message="x" * 2000) for _ in range(500)]
        big = asyncio.create_task(write(writer, owner, *many))
        await store.entered.wait()
        assert await write(writer, other, named()) == [ACCEPTED]
        assert await write(writer, other, named()) == [ACCEPTED]
        again = asyncio.create_task(write(writer, owner, many[0]))
        await _settled()
        assert not big.done()
        store.held.set()
        assert await big == [ACCEPTED] * len(many)
        assert await again == [DUPLICATE]

    running(embedded, body, queue_bytes=64 << 20)


def test_waiting_events_are_bounded_in_bytes(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        start = asyncio.create_task(write(writer, owner, named()))
        await store.entered.wait()
        with pytest.raises(QueueFull):
            await write(writer, owner, *[named(message="x" * 1000) for _ in range(40)])
        store.held.set()
        await start
        assert await write(writer, owner, named()) == [ACCEPTED]

    running(embedded, body, commit_bytes=50_000, queue_bytes=40 * (1000 + EVENT_COST_BYTES), tenant_share=1.0)


def test_thousands_of_ids_of_any_kind_are_looked_up(home: Home, owner: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_lookup, "MAX_ASKED", 300)

    async def body(writer: Writer, store: Between) -> None:
        events = [event(event_id=f"{n} 'ü\\,") for n in range(1000)]
        assert await write(writer, owner, *events) == [ACCEPTED] * 1000
        assert await write(writer, owner, *events) == [DUPLICATE] * 1000

    running(home, body)


def test_deleted_with_a_copy_in_another_partition(home: Home, owner: Tenant) -> None:
    weeks = [NOW_NS // 1000 - days * DAY_NS // 1000 for days in (0, 14)]

    async def find(store: Any, time_us: int, word: str = "") -> list[tuple[Any, ...]]:
        return list(
            await store.query(
                "SELECT external_id FROM events FINAL WHERE tenant_id = {tenant:String} AND "
                "timestamp = fromUnixTimestamp64Micro({time:Int64}, 'UTC') AND hasAllTokens(lower(message), [{word:String}])",
                {"tenant": owner.tenant_id, "time": time_us, "word": word},
            )
        )

    async def body(writer: Writer, store: Between) -> None:
        columns = ("tenant_id", "external_id", "timestamp", "message", "retention_days", "version")
        copies: Sequence[Sequence[Any]] = [(owner.tenant_id, "twice", time_us, "a needle", 30, 5) for time_us in weeks]
        for copy in copies:
            await store._store.insert("events", columns, [copy])
        assert [len(await find(store, time_us, "needle")) for time_us in weeks] != [0, 0]
        assert await event_by_id.delete(store._store, owner.tenant_id, "twice") is True
        assert await event_by_id.delete(store._store, owner.tenant_id, "twice") is False
        for time_us in weeks:
            assert await find(store, time_us, "needle") == []
        assert await write(writer, owner, event(event_id="twice", message="a needle")) == [DELETED]
        await store._store.insert("events", columns, copies)  # as a collector that did not see the delete would
        assert [await find(store, time_us, "needle") for time_us in weeks] == [[], []]

    running(home, body)


def test_only_the_tenants_own_event_is_deleted(embedded: Home, owner: Tenant) -> None:
    async def body(writer: Writer, store: Between) -> None:
        other = tenant(f"{owner.tenant_id}-other")
        said = named()
        await write(writer, owner, said)
        with pytest.raises(NotFound):
            await event_by_id.delete(store._store, other.tenant_id, said["event_id"])
        assert len(await rows_of(store._store, owner, "1")) == 1

    running(embedded, body)
