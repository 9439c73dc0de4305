"""Whatever copies a store has of an event, every way to read shows it once, or not at all if it was deleted: held against a
model in plain Python. Where copies differ in time, which the collector prevents, what is asked for the whole is still right.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import Any

import pyarrow.ipc as ipc
import pyarrow.parquet as parquet
import pytest

from collector.config import Limits
from collector.figures import aggregate, facets, histogram, names
from collector.figures.aggregate_types import AggregateBody, Metric
from collector.ingest.moments import show_moment
from collector.metrics import Metrics
from collector.search import context, ids, paging, query, summary
from collector.search.event import COLUMNS, event_of
from collector.search.query import DAY_US, Search
from collector.streams import commits, export, shapes
from collector.streams.commits import Position, position_of
from collector.streams.tails import Tail, Tails
from collector.streams.walk import Walk
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import DAYS, NOW, Asking
from tests.support.copies import FILES, FIRST_US, Copies, Copy

pytestmark = pytest.mark.engine

WEEK_US = 7 * DAY_US
FILTERS: tuple[dict[str, str], ...] = ({}, {"severity": "error"}, {"q": "word", "attr.region": "eu"})
Window = tuple[int, int]


def meant(copies: list[Copy], values: dict[str, str]) -> list[Copy]:
    """Those that the filters leave."""
    found = [copy for copy in copies if values.get("severity", copy.severity) == copy.severity]
    found = [copy for copy in found if "q" not in values or "word" in copy.message.split()]
    return [copy for copy in found if values.get("attr.region", copy.region) == copy.region]


def windows(there: Copies, random: Random) -> Iterator[Window]:
    """All, narrow ones whose ends are moments of events, and one of nothing."""
    yield 0, NOW + DAY_US
    times = [copy.time_us for copies in there.stored.values() for copy in copies]
    for _ in range(2):
        first, last = sorted(random.sample(times, 2))
        yield first, last
    moment = random.choice(times)
    yield moment, moment
    yield NOW - DAY_US // 2, NOW - DAY_US // 2


def pairs_of(window: Window, values: dict[str, str]) -> dict[str, str]:
    # Moments of sixteen digits are µs.
    return {**values, "start_time": f"{max(window[0], FIRST_US - DAY_US):016}", "end_time": f"{window[1]:016}"}


async def paged(asking: Asking, asked: dict[str, str], random: Random, order: str) -> list[str]:
    """IDs by cursor, in pages of any size."""
    found: list[str] = []
    cursor: list[tuple[str, str]] = []
    while True:
        pairs = [*asked.items(), ("order", order), ("limit", str(random.randrange(1, 40))), *cursor]
        parsed = query.parse(pairs, **asking.context)
        page = await paging.page(asking.run, parsed)
        found += [event.external_id for event in page.events]
        if not page.has_more:
            return found
        cursor = [("cursor", query.cursor_after(parsed, page.events[-1].time_us, page.events[-1].external_id))]


async def check_pages(asking: Asking, asked: dict[str, str], expected: list[Copy], random: Random) -> None:
    in_order = [copy.external_id for copy in expected]
    assert await paged(asking, asked, random, "asc") == in_order
    assert await paged(asking, asked, random, "desc") == in_order[::-1]
    begin, size = random.randrange(len(expected) + 2), random.randrange(1, 20)
    pairs = [*asked.items(), ("order", "asc"), ("offset", str(begin)), ("limit", str(size))]
    page = await paging.page(asking.run, query.parse(pairs, **asking.context))
    assert [event.external_id for event in page.events] == in_order[begin : begin + size]


async def check_figures(asking: Asking, asked: dict[str, str], expected: list[Copy]) -> None:
    """All that counts."""
    for how in ("bounded", "exact"):
        parsed = query.parse([*asked.items(), ("count", how)], **asking.context)
        assert await asking.run(query.count_of(parsed)) == [(len(expected),)]
    hours = histogram.histogram_of([*asked.items(), ("interval", "1h"), ("by", "severity")], **asking.context)
    shown = histogram.shown(hours, await asking.run(histogram.counts_of(hours)), 0) if hours.buckets.starts else None
    by_hour = Counter(show_moment(copy.time_us - copy.time_us % 3_600_000_000) for copy in expected)
    ends = {show_moment(start): show_moment(start - start % 3_600_000_000) for start, _ in hours.buckets.bounds()}
    counted = {ends.get(bucket.start, bucket.start): bucket.count for bucket in shown.buckets if bucket.count} if shown else {}
    assert sum(counted.values()) == len(expected)
    assert {start: counted.get(start) for start in by_hour if start < show_moment(NOW)} == {
        start: number for start, number in by_hour.items() if start < show_moment(NOW)
    }
    series = {one.value: one.count for one in (shown.series or [])} if shown else {}
    assert series == Counter(copy.severity for copy in expected)
    listed = facets.facets_of([*asked.items(), ("fields", "service,attr.region")], **asking.context)
    services, regions = facets.shown(listed, await asking.run(facets.counts_of(listed)), 0).facets
    assert {value.value: value.count for value in services.values} == Counter(copy.service for copy in expected)
    assert {value.value: value.count for value in regions.values} == Counter(copy.region for copy in expected if copy.region)
    looked = await names.looked_at(asking.run, names.search_of(asked.items(), **asking.context))
    assert looked.sampled_events == len(expected)
    assert {field.name: field.count for field in looked.fields}.get("attr.region", 0) == sum(bool(c.region) for c in expected)
    metrics = [Metric("count"), Metric("count_distinct", "event_id"), Metric("max", "timestamp")]
    body = AggregateBody(dict(asked), group_by=["service"], metrics=metrics)
    grouped = aggregate.aggregate_of(body, **asking.context)
    rows = aggregate.shown(grouped, await asking.run(aggregate.figures_of(grouped)), 0).rows
    by_service = {name: list(found) for name, found in groupby(sorted(expected, key=_service), key=_service)}
    assert {row.group["service"]: tuple(row.metrics.values()) for row in rows} == {
        name: (len(found), len(found), show_moment(max(copy.time_us for copy in found))) for name, found in by_service.items()
    }
    stats = query.parse(asked.items(), **asking.context)
    sums = summary.event_sums(await asking.run(summary.events_of(stats)))
    assert (sums.count, sums.by_severity) == (len(expected), Counter(copy.severity for copy in expected))
    times = [copy.time_us for copy in expected]
    assert (sums.oldest, sums.newest) == ((show_moment(min(times)), show_moment(max(times))) if times else (None, None))


def _service(copy: Copy) -> str:
    return copy.service


async def check_exports(asking: Asking, asked: dict[str, str], expected: list[Copy], random: Random) -> None:
    for form in shapes.FORMATS:
        wanted = export.parse([*asked.items(), ("format", form)], **asking.context)
        shape = shapes.shape_of(form, wanted.columns)
        walk = Walk(wanted.search, shape.selected, lambda: FIRST_US, rows=random.choice((3, 10, 4000)))
        parts = [shape.begin(), *[shape.page(page) async for page in walk.pages(asking.run)], shape.end()]
        assert _ids_in(form, b"".join(parts)) == [copy.external_id for copy in expected], form


def _ids_in(form: str, data: bytes) -> list[str]:
    if form == shapes.NDJSON:
        return [json.loads(line)["event_id"] for line in data.splitlines()]
    if form == shapes.CSV:
        return [row["event_id"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]
    table = parquet.read_table(io.BytesIO(data)) if form == shapes.PARQUET else ipc.open_stream(data).read_all()
    found: list[str] = table.column("event_id").to_pylist()
    return found


async def check_each(asking: Asking, there: Copies, random: Random) -> None:
    """By ID, by ranges of IDs, their sums, and the analysts' view: what does not ask for a time."""
    seen = {copy.external_id: copy for copy in there.seen()}
    days, now_us = {"retention_days": DAYS}, NOW
    for name in random.sample(sorted(there.stored), 20):
        rows = await asking.run(query.event_of_id(asking.tenant_id, name, COLUMNS, now_us=now_us, **days))
        assert [event_of(row).time_us for row in rows] == ([seen[name].time_us] if name in seen else []), name
    kept = query.kept(DAYS, NOW)
    told: tuple[list[str], list[str], list[str]] = ([], [], [])
    asked = ids.Range("", "~", 7)
    while True:
        answer = ids.page(asked, await asking.run(ids.ids_of(asking.tenant_id, asked, kept)), DAYS)
        for found, part in zip(told, (answer.ids, answer.deleted, answer.expired), strict=True):
            found += [answer.prefix + name for name in part]
        if not answer.has_more:
            break
        asked = asked._replace(after=answer.next_cursor or "")
    assert told == (sorted(seen), sorted(there.deleted), sorted(there.kept.keys() - seen.keys()))
    for file_id in FILES:
        lines = [copy.external_id for copy in seen.values() if copy.external_id.startswith(f"{file_id}-")]
        rows = await asking.run(ids.sums(asking.tenant_id, ids.Sums(file_id, 0, 1 << 20, 4096), kept))
        assert {step: number for step, number, _ in rows} == Counter(int(name[17:29], 16) // 4096 for name in lines)
        places = [(int(name[17:29], 16), int(name[30:], 16)) for name in lines]
        assert sum(total for _, _, total in rows) % (1 << 64) == sum(c * (2 * at + 1) for at, c in places) % (1 << 64)
    viewed = "SELECT external_id, toUnixTimestamp64Micro(timestamp) FROM {} WHERE tenant_id = {{tenant:String}}"
    for view in ("search", "events_live"):
        rows = await asking.store.query(viewed.format(view), {"tenant": asking.tenant_id})
        assert sorted(rows) == sorted((copy.external_id, copy.time_us) for copy in there.kept.values()), view


async def check_context(asking: Asking, there: Copies, random: Random) -> None:
    seen = there.seen()
    for copy in random.sample(seen, 8):
        lines = random.choice((3, 500))
        around = await context.answer_of(
            asking.run, asking.tenant_id, copy.external_id, context.Context(lines, lines, None), retention_days=DAYS, now_us=NOW
        )
        if copy.is_line:
            order = sorted(one.external_id for one in seen if one.external_id[:17] == copy.external_id[:17])
        else:
            order = [one.external_id for one in seen if one.service == copy.service]
        told = [[event["id"] for event in around[side]] for side in ("before", "after")]
        at = order.index(copy.external_id)
        assert told == [order[:at][-lines:], order[at + 1 :][:lines]], copy


class Tailing:
    """A tail of this process from a place on, until nothing is left."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def _ask(
        self, statement: query.Statement, tenant_id: str = "", limits: Limits | None = None
    ) -> list[tuple[Any, ...]]:
        return await self._asking.run(statement)

    async def told(self, position: Position) -> list[tuple[str, Position]]:
        """IDs and places."""
        tails = Tails(self._asking.store.database, self._ask, self._ask, Metrics(), grace_s=1000)
        tail = Tail(Search(self._asking.tenant_id, 0, 0), Limits(retention_days=29), 1 << 30)
        tails.start()
        try:
            await tails.add(tail, position)
            end = (await self._asking.run(commits.newest(self._asking.store.database)))[0][0]
            async with asyncio.timeout(60):
                while tail.position.block <= end:  # noqa: ASYNC110 - it moves on without a word
                    await asyncio.sleep(0.02)
            found: list[tuple[str, Position]] = []
            for told in tail.take(1 << 30).decode().split("\n\n")[:-1]:
                lines = dict(line.split(": ", 1) for line in told.split("\n"))
                found.append((json.loads(lines["data"])["event_id"], position_of(lines["id"]) or Position(0)))
            return found
        finally:
            tails.remove(tail)
            await tails.stop()


async def check_tail(asking: Asking, there: Copies, random: Random) -> None:
    """Every line once, and again once for a reader that goes away in the middle and comes back."""
    found = await Tailing(asking).told(Position(0))
    at = random.randrange(len(found))
    resumed = [*found[: at + 1], *await Tailing(asking).told(found[at][1])]
    for told in (found, resumed):
        lines = [name for name, _ in told if name.count("-") == 2]
        assert len(set(lines)) == len(lines)
        assert there.kept.keys() <= {name for name, _ in told} <= there.stored.keys()


def test_every_way_to_read_shows_each_event_once_whatever_copies_there_are(home: Home, owner: Tenant) -> None:
    random = Random(home.name)

    async def run() -> None:
        async with home.store() as store:
            asking, there = Asking(store, owner.tenant_id), Copies(store, owner.tenant_id, random)
            await there.fill()
            for n, window in enumerate(windows(there, random)):
                for values in FILTERS if not n else (random.choice(FILTERS),):
                    asked, expected = pairs_of(window, values), meant(there.seen(*window), values)
                    await check_pages(asking, asked, expected, random)
                    await check_figures(asking, asked, expected)
                if n < 2:
                    await check_exports(asking, pairs_of(window, {}), there.seen(*window), random)
            await check_each(asking, there, random)
            await check_context(asking, there, random)
            await check_tail(asking, there, random)

    asyncio.run(run())


def retimed(random: Random, time_us: int) -> int:
    moved_us = time_us + random.choice((0, -1, 1)) * random.choice((1, DAY_US // 4, WEEK_US))
    return min(max(moved_us, FIRST_US), NOW)


def test_copies_of_other_times_are_one_event_to_all_that_asks_for_the_whole(home: Home, owner: Tenant) -> None:
    """A narrow window may show a copy that does not count, until it is merged: reading all of an event's copies for every
    window would cost more than all else. So the collector writes no such copies (`tests/integration/test_one_time.py`)."""
    random = Random(home.name)

    async def run() -> None:
        async with home.store() as store:
            asking, there = Asking(store, owner.tenant_id), Copies(store, owner.tenant_id, random, retimed)
            await there.fill()
            await check_figures(asking, {}, there.seen())
            await check_each(asking, there, random)
            for first, last in windows(there, random):
                shown = await paged(asking, pairs_of((first, last), {}), random, "desc")
                stored = {name for name, copies in there.stored.items() if any(first <= c.time_us <= last for c in copies)}
                assert {copy.external_id for copy in there.seen(first, last)} <= set(shown) <= stored

    asyncio.run(run())
