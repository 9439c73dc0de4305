"""Where a tenant's events end: every way to read them stops at the same microsecond, that of the limits as they are now."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from collector.figures import aggregate, facets, histogram, names
from collector.figures.aggregate_types import AggregateBody
from collector.search import context, paging, query, search, summary
from collector.search.event import COLUMNS, event_of
from collector.search.query import DAY_US, Search, Statement
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.events import body, named
from tests.support.records import NOW_NS

pytestmark = pytest.mark.engine

EVENTS_PATH = "/api/v1/ingestion/events"
NOW = NOW_NS // 1000
DAYS = 20
"""Of the rows' class of 30 days: the engine keeps them, so that it is the reads that have to hide them."""
OLDEST = NOW - DAYS * DAY_US
EVENTS = {"after": OLDEST + 1, "on": OLDEST, "before": OLDEST - 1, "long before": OLDEST - 6 * DAY_US, "new": NOW}


class Reader:
    """The ways to read, at a moment of a test's own."""

    def __init__(self, store: Store, tenant_id: str, now_us: int, **values: str) -> None:
        self.store = store
        self.tenant_id = tenant_id
        self.now_us = now_us
        self.values = values

    async def run(self, statement: Statement) -> list[tuple[Any, ...]]:
        return await self.store.query(statement.sql, statement.params)

    def parsed(self, **more: str) -> Search:
        pairs = {**self.values, **more}.items()
        return query.parse(pairs, tenant_id=self.tenant_id, retention_days=DAYS, now_us=self.now_us)

    async def searched(self, **more: str) -> set[str]:
        found = await paging.page(self.run, self.parsed(**more))
        return {event.external_id for event in found.events}

    async def paged(self, order: str) -> set[str]:
        """By cursors, an event a page; all pages after the first as of now, the first a day ago."""
        first = Reader(self.store, self.tenant_id, self.now_us - DAY_US, order=order, limit="1", **self.values).parsed()
        cursor = query.cursor_after(first, 0 if order == "asc" else self.now_us + DAY_US, "")
        found: set[str] = set()
        while True:
            asked = self.parsed(order=order, limit="1", cursor=cursor)
            page = await paging.page(self.run, asked)
            found |= {event.external_id for event in page.events}
            if not page.has_more:
                return found
            cursor = query.cursor_after(asked, page.events[-1].time_us, page.events[-1].external_id)

    async def counted(self) -> int:
        return (await search.total_of(self.run, self.parsed(), paging.Page([], has_more=True)))[0]

    async def summed(self) -> int:
        return summary.event_sums(await self.run(summary.events_of(self.parsed()))).count

    @property
    def context(self) -> dict[str, Any]:
        return {"tenant_id": self.tenant_id, "retention_days": DAYS, "now_us": self.now_us}

    async def counted_otherwise(self) -> set[int]:
        """How many events the histogram, facets, fields and aggregates are made of."""
        by_time = histogram.histogram_of([*self.values.items(), ("by", "severity")], **self.context)
        by_value = facets.facets_of(self.values.items(), **self.context)
        figures = aggregate.aggregate_of(AggregateBody(filter=self.values), **self.context)
        fields = await names.looked_at(self.run, names.search_of(self.values.items(), **self.context))
        return {
            histogram.shown(by_time, await self.run(histogram.counts_of(by_time)), 0).total_count,
            facets.shown(by_value, await self.run(facets.counts_of(by_value)), 0).total_count,
            (await self.run(aggregate.figures_of(figures)))[0][3],
            fields.sampled_events,
        }

    async def around(self, name: str) -> set[str]:
        """An event and all its neighbours."""
        asked = context.Context(100, 100, None)
        found = await context.answer_of(self.run, self.tenant_id, name, asked, retention_days=DAYS, now_us=self.now_us)
        return {event["id"] for event in (*found["before"], found["event"], *found["after"])}

    async def named(self) -> set[str]:
        found = set()
        for name in EVENTS:
            asked = query.event_of_id(self.tenant_id, name, COLUMNS, retention_days=DAYS, now_us=self.now_us)
            found |= {event_of(row).external_id for row in await self.run(asked)}
        return found


@pytest.mark.parametrize(
    ("later_us", "shown"),
    [
        (-1, {"before", "on", "after", "new"}),
        (0, {"on", "after", "new"}),
        (1, {"after", "new"}),
        (2, {"new"}),
    ],
)
@pytest.mark.parametrize(
    "values", [{}, {"start_time": "1970-01-01"}, {"start_time": "0", "end_time": "2299-01-01"}, {"q": "word"}]
)
def test_every_way_to_read_ends_at_the_same_microsecond(
    embedded: Home, owner: Tenant, later_us: int, shown: set[str], values: dict[str, str]
) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            columns = ("tenant_id", "external_id", "timestamp", "message", "severity", "retention_days")
            rows = [(owner.tenant_id, name, time_us, "a word", "info", 30) for name, time_us in EVENTS.items()]
            await store.insert("events", columns, rows)
            reader = Reader(store, owner.tenant_id, NOW + later_us, **values)
            assert await reader.searched() == shown
            assert await reader.searched(format="ndjson", limit="10000") == shown
            assert await reader.searched(order="asc") == shown
            assert await reader.paged("desc") == shown
            assert await reader.paged("asc") == shown
            assert await reader.counted() == len(shown)
            assert await reader.summed() == len(shown)
            assert await reader.counted_otherwise() == {len(shown)}
            assert await reader.around("new") == shown
            assert await reader.named() == shown

    asyncio.run(run())


def test_a_retention_that_was_shortened_hides_what_is_beyond_it_everywhere_at_once(tmp_path: Path) -> None:
    day_s = 86_400
    with Collector(tmp_path) as collector:
        key = collector.new_tenant("shortened", slug="shortened", limits={"retention_days": 30})
        events = [named(timestamp=time.time() - age * day_s, title=f"{age} days old") for age in (1, 6.5, 7.5, 13, 25)]
        sent = {"Content-Type": "application/json"}
        answer = collector.request(
            "POST", "/api/v1/ingestion/events/batch", key=key, body=body({"events": events}), headers=sent
        )
        assert answer.body["successful_count"] == 5, answer
        first = collector.search(key, limit=1)
        assert first["total_count"] == 5
        change = body({"limits": {"retention_days": 7}})
        headers = {"X-Admin-Token": ADMIN_TOKEN}
        assert collector.request("PATCH", "/api/v1/tenants/shortened", body=change, headers=headers).status == 200
        kept = {said["event_id"] for said in events[:2]}
        assert {found["id"] for found in collector.search(key)["events"]} == kept
        assert {found["id"] for found in collector.search(key, start_time="-30d")["events"]} == kept
        assert [collector.search(key, limit=1, **page)["total_count"] for page in ({}, {"offset": 1})] == [2, 2]
        rest = collector.search(key, limit=1, cursor=first["next_cursor"])
        assert ({found["id"] for found in rest["events"]}, rest["total_count"], rest["has_more"]) == (
            {events[1]["event_id"]}, 2, False,
        )  # fmt: skip
        lines = collector.request("GET", "/api/v1/ingestion/events/search", key=key, query={"format": "ndjson"}).body
        assert {json.loads(line)["id"] for line in lines.splitlines()} == kept
        assert collector.request("GET", "/api/v1/ingestion/stats", key=key).body["events"]["count"] == 2
        statuses = [collector.request("GET", f"/api/v1/ingestion/events/{e['event_id']}", key=key).status for e in events]
        assert statuses == [200, 200, 404, 404, 404]


def test_what_is_stored_beyond_the_retention_is_expired_and_no_duplicate(tmp_path: Path) -> None:
    """However it comes again: with its time, with another, or with none. Nothing is twice, nothing taken is hidden."""
    sent = {"Content-Type": "application/json"}
    old = time.time() - 10 * 86_400
    with Collector(tmp_path) as collector:
        key = collector.new_tenant("shortened", slug="shortened", limits={"retention_days": 30})

        def keep(days: int) -> None:
            change = body({"limits": {"retention_days": days}})
            headers = {"X-Admin-Token": ADMIN_TOKEN}
            assert collector.request("PATCH", "/api/v1/tenants/shortened", body=change, headers=headers).status == 200

        def post(event: Any, **query: str) -> tuple[Any, ...]:
            answer = collector.request("POST", EVENTS_PATH, key=key, body=body(event), headers=sent, query=query)
            error = answer.body.get("error", {})
            return answer.status, answer.body.get("outcome", error.get("code")), answer.body.get("deleted", False)

        def lines(**more: Any) -> tuple[int, ...]:
            run = record(b"line 1\nline 2\n", **{"observed_ns": int(old * 1e9), **more})
            answer = collector.post(key, run, X_PulseStream_Replay="1").body["records"][0]
            return tuple(answer[name] for name in ("accepted", "duplicate", "expired", "rejected"))

        first, gone, new = named(timestamp=old, title="old"), named(timestamp=old, title="deleted"), named(title="new")
        assert [post(event)[:2] for event in (first, gone, new)] == [(200, "accepted")] * 3
        assert collector.request("DELETE", f"{EVENTS_PATH}/{gone['event_id']}", key=key).status == 200
        assert lines() == (2, 0, 0, 0)
        assert (post(first), post(gone), lines()) == ((200, "duplicate", False), (200, "duplicate", True), (0, 2, 0, 0))
        keep(7)
        assert lines() == lines(observed_ns=time.time_ns()) == (0, 0, 2, 0)
        for again in ({}, {"timestamp": ...}, {"timestamp": time.time()}):
            event = {name: value for name, value in {**first, **again}.items() if value is not ...}
            assert post(event) == post(event, dry_run="true") == (422, "expired", False)
            answer = collector.request(
                "POST", f"{EVENTS_PATH}/batch", key=key, body=body({"events": [event, new]}), headers=sent
            )
            assert answer.body["outcomes"] == {"expired": 1, "duplicate": 1}
            assert (answer.body["results"][0]["success"], len(answer.body["results"][0]["errors"])) == (False, 1)
        assert post({**gone, "timestamp": time.time()}) == (200, "duplicate", True)
        assert {found["title"] for found in collector.search(key)["events"]} == {"new"}
        keep(30)
        assert sorted(found["title"] for found in collector.search(key)["events"]) == ["", "", "new", "old"]
