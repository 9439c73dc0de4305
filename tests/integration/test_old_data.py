"""Data older than a day, against the real engine: stored like any other, in commits of its own that hold nobody up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from collector.errors import StoreError
from collector.ingest.event_checks import Checked, Rules, check
from collector.tenants.tenants import Tenant
from collector.writing import ages, backlog
from collector.writing.event_parcels import ACCEPTED, Verdict, parcels_of
from collector.writing.writer import Writer
from tests.integration.conftest import Home, rows_of, submit
from tests.integration.test_writer import Between, _settled, running
from tests.support.events import named
from tests.support.records import DAY_NS, NOW_NS, record, tenant

pytestmark = pytest.mark.engine

NOW_US, DAY_US = NOW_NS // 1000, DAY_NS // 1000
RULES = Rules(now_us=NOW_US, retention_days=365, retention_class=365, max_event_bytes=1 << 20)


def checked(days: float) -> Checked:
    found = check(json.dumps(named(timestamp=(NOW_US - int(days * DAY_US)) // 1000)).encode(), RULES, lambda index: ("", True))
    assert isinstance(found, Checked), found
    return found


async def write(writer: Writer, owner: Tenant, *days: float) -> list[Verdict]:
    """Events so many days old, in the parcels of one request."""
    events, old_before_us = [checked(ago) for ago in days], ages.old_before(NOW_US)
    order = ages.fresh_first(events, old_before_us) or range(len(events))
    return await writer.submit_events(
        parcels_of(owner.tenant_id, [events[place] for place in order], old_before_us=old_before_us)
    )


def time_of(row: dict[str, Any]) -> int:
    """µs, of an event or of a record."""
    return int(row["timestamp"] if "timestamp" in row else row["observed_us"])


def one_age_and_few_weeks(rows: list[dict[str, Any]]) -> bool:
    old = {time_of(row) < ages.old_before(NOW_US) for row in rows}
    return len(old) == 1 and len({ages.week_of(time_of(row)) for row in rows}) <= ages.MAX_PARTITIONS


@pytest.fixture
def _one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh data waits in the lane for bulk, however little it is: commits of both ages come one after the other there.
    Between two lanes it would be chance whose insert is seen first."""
    monkeypatch.setattr(backlog, "EXPRESS_BYTES", 0)


@pytest.mark.usefixtures("_one_lane")
def test_hundred_and_fifty_days_in_one_batch_neither_fail_nor_delay_anybody(embedded: Home, owner: Tenant) -> None:
    archivist = tenant(f"{owner.tenant_id}-old", retention_days=365)

    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        # An engine that refuses what spans many weeks, with everything that is in it.
        store.fault = lambda rows: None if one_age_and_few_weeks(rows) else StoreError(252, "too many partitions")
        before = asyncio.create_task(write(writer, owner, 0))
        await store.entered.wait()
        records = [record(b"line\n", file_id=f"{n:016x}", observed_ns=NOW_NS - n * DAY_NS) for n in range(2, 150)]
        batch = asyncio.create_task(write(writer, archivist, *range(150)))
        archive = asyncio.create_task(submit(writer, archivist, *records))
        await _settled()
        fresh = asyncio.create_task(write(writer, owner, 0))
        await _settled()
        store.held.set()
        assert await before == [ACCEPTED]
        assert await fresh == [ACCEPTED]
        # One commit of old data went first: events of sixteen weeks, and records; then what is fresh of everybody.
        ages_written = [time_of(rows[0]) < ages.old_before(NOW_US) for rows in store.inserts]
        assert ages_written[0] is False
        assert ages_written.index(False, 1) in (2, 3)
        assert await batch == [ACCEPTED] * 150
        assert [outcome.accepted for outcome in await archive] == [1] * 148
        assert all(one_age_and_few_weeks(rows) for rows in store.inserts)
        assert len(await rows_of(store._store, archivist, "1")) == 298
        assert len(await rows_of(store._store, owner, "1")) == 2

    running(embedded, body)


def test_little_that_is_fresh_waits_for_no_commit_of_old_data_at_all(embedded: Home, owner: Tenant) -> None:
    """It has the other lane."""
    archivist = tenant(f"{owner.tenant_id}-old", retention_days=365)

    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        store.holds = lambda rows: time_of(rows[0]) < ages.old_before(NOW_US)
        old = asyncio.create_task(write(writer, archivist, 40))
        await store.entered.wait()
        assert await write(writer, owner, 0) == [ACCEPTED]
        assert not old.done()
        store.held.set()
        assert await old == [ACCEPTED]

    running(embedded, body)


@pytest.mark.usefixtures("_one_lane")
def test_old_data_is_not_starved_by_fresh_data_that_never_ends(embedded: Home, owner: Tenant) -> None:
    archivist = tenant(f"{owner.tenant_id}-old", retention_days=365)

    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        tasks = [asyncio.create_task(write(writer, owner, 0))]
        await store.entered.wait()
        old = asyncio.create_task(write(writer, archivist, 40))
        for _ in range(3):
            tasks.append(asyncio.create_task(write(writer, owner, 0)))
        await _settled()
        store.held.set()
        assert await old == [ACCEPTED]
        assert [len(rows) for rows in store.inserts][:2] == [1, 1]
        assert time_of(store.inserts[1][0]) < ages.old_before(NOW_US)
        await asyncio.gather(*tasks)

    running(embedded, body)


def test_json_lines_of_an_archive_go_apart_by_what_their_first_line_tells(embedded: Home, owner: Tenant) -> None:
    archivist = tenant(f"{owner.tenant_id}-old", retention_days=365)

    async def body(writer: Writer, store: Between) -> None:
        store.held = asyncio.Event()
        before = asyncio.create_task(write(writer, owner, 0))
        await store.entered.wait()
        raw = b"".join(json.dumps({"time": (NOW_US - days * DAY_US) // 1000}).encode() + b"\n" for days in (60, 50, 40))
        old = asyncio.create_task(submit(writer, archivist, record(raw, format="json", file_id="a" * 16)))
        fresh = asyncio.create_task(submit(writer, owner, record(b'{"a": 1}\n', format="json", file_id="b" * 16)))
        await _settled()
        store.held.set()
        await asyncio.gather(before, old, fresh)
        assert [len(rows) for rows in store.inserts] == [1, 1, 1]
        assert len(await rows_of(store._store, archivist, "1")) == 3

    running(embedded, body)
