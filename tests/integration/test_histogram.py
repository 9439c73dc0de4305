"""Numbers over time are those that counting the events of a search by hand gives. Real engine, real collector."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from collector.figures import histogram, intervals
from collector.figures.answers import HistogramAnswer
from collector.ingest.moments import show_moment
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import FILTERS, NOW, Asking, Shown, Values, fill, tally, values_of

pytestmark = pytest.mark.engine

SHAPES: tuple[Values, ...] = (
    {},
    {"interval": "1d"},
    {"interval": "P1D", "time_zone": "Europe/Berlin", "by": "severity"},
    {"interval": "7h", "by": "service", "top": "2"},
    {"interval": "1w", "by": "attr.region", "top": "50"},
    {"interval": "12h", "by": "status_code", "time_zone": "+05:30", "top": "1"},
    {"interval": "12h", "by": "context.tags", "top": "2"},
)


async def asked(asking: Asking, values: Values) -> HistogramAnswer:
    question = histogram.histogram_of(values.items(), **asking.context)
    rows = await asking.run(histogram.counts_of(question)) if question.buckets.starts else []
    return histogram.shown(question, rows, 0.0)


def place_of(answer: HistogramAnswer, shown: Shown) -> int:
    (place,) = (n for n, bucket in enumerate(answer.buckets) if bucket.start <= shown["timestamp"] < bucket.end)
    return place


def agrees(answer: HistogramAnswer, events: list[Shown], by: str, top: int) -> None:
    """With a count by hand."""
    places = {shown["id"]: place_of(answer, shown) for shown in events}
    counts = Counter(places.values())
    assert [bucket.count for bucket in answer.buckets] == [counts[n] for n in range(len(answer.buckets))]
    assert answer.total_count == len(events)
    if not by:
        assert answer.series is None
        return
    by_hand = tally(events, by)
    missing = by_hand.pop(None, 0)
    largest = sorted(by_hand.items(), key=lambda item: (-item[1], (item[0] or "").encode()))[:top]
    assert answer.series is not None
    assert answer.other is not None
    assert answer.missing is not None
    assert [(series.value, series.count) for series in answer.series] == largest
    assert (answer.missing.count, answer.other.count) == (missing, sum(by_hand.values()) - sum(number for _, number in largest))
    listed = {value for value, _ in largest}
    rest: Counter[int] = Counter()
    for shown in events:
        rest[places[shown["id"]]] += sum(value not in listed for value in values_of(shown, by))
    assert answer.other.counts == [rest[n] for n in range(len(answer.buckets))]
    for series in answer.series:
        having = Counter(places[shown["id"]] for shown in events if series.value in values_of(shown, by))
        assert series.counts == [having[n] for n in range(len(answer.buckets))]
    nothing = Counter(places[shown["id"]] for shown in events if not values_of(shown, by))
    assert answer.missing.counts == [nothing[n] for n in range(len(answer.buckets))]


def test_every_histogram_is_what_counting_a_search_by_hand_gives(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            assert 200 < len(await asking.events({})) < 240
            for values in FILTERS:
                events = await asking.events(values)
                for shape in SHAPES:
                    answer = await asked(asking, {**values, **shape})
                    agrees(answer, events, shape.get("by", ""), int(shape.get("top", 10)))

    asyncio.run(run())


def test_what_lies_ahead_of_now_is_one_last_bucket_unless_an_end_is_given(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            asking = Asking(store, owner.tenant_id)
            columns = ("tenant_id", "external_id", "timestamp", "severity", "retention_days")
            times = {"now": NOW, "soon": NOW + 3600 * 1_000_000}
            await store.insert("events", columns, [(owner.tenant_id, name, us, "info", 30) for name, us in times.items()])
            open_end = await asked(asking, {"start_time": "-30m", "interval": "10m", "by": "severity"})
            assert [bucket.count for bucket in open_end.buckets] == [0, 0, 0, 1, 1]
            assert open_end.buckets[-1].start == open_end.buckets[-2].end
            assert (open_end.buckets[-1].end > open_end.end_time, open_end.buckets[-1].partial) == (True, True)
            assert [series.counts for series in open_end.series or ()] == [[0, 0, 0, 1, 1]]
            ended = await asked(
                asking, {"start_time": "-30m", "interval": "1h", "end_time": show_moment(NOW + 2 * 3600 * 1_000_000)}
            )
            assert [(bucket.count, bucket.partial) for bucket in ended.buckets] == [(0, True), (1, True), (1, True), (0, True)]
            nothing = await asked(asking, {"start_time": "-30m", "end_time": "-20m", "interval": "10m"})
            assert [(bucket.count, bucket.partial) for bucket in nothing.buckets] == [(0, True), (0, True)]
            far = await asked(asking, {"start_time": "1970-01-01", "end_time": "2299-01-01"})
            assert (far.total_count, far.buckets[-1].count, len(far.buckets) <= 121) == (2, 2, True)

    asyncio.run(run())


def test_as_many_buckets_as_there_may_be_can_be_asked_for(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            asking = Asking(store, owner.tenant_id)
            columns = ("tenant_id", "external_id", "timestamp", "severity", "retention_days")
            await store.insert("events", columns, [(owner.tenant_id, "last", NOW, "info", 30)])
            answer = await asked(asking, {"start_time": "-1499m", "interval": "1m", "end_time": "now"})
            assert (len(answer.buckets), answer.buckets[-1].count) == (intervals.MAX_BUCKETS, 1)

    asyncio.run(run())
