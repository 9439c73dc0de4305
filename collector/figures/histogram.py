"""GET events/histogram: how many of the events that match lie in each part of the window, whole or by the values of a field.

- Each event is counted once (``FINAL``), by the same conditions as a search; so the buckets add up to its ``total_count``.
- Buckets without events are answered as 0. Without an end the window reaches a day ahead, for clocks that differ: that day is
  one last bucket, there only if there are events in it.
- One statement: events are grouped by bucket and value, the groups then by value; what is not among the largest is `other`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from collector.figures import intervals, values
from collector.figures.answers import Bucket, HistogramAnswer, Rest, Series
from collector.figures.intervals import Buckets
from collector.ingest.moments import show_moment
from collector.search import filters, query
from collector.search.fields import Field
from collector.search.parameters import Parameters
from collector.search.query import Search, Statement, narrowed_by, where_of
from collector.search.reading import json_of, reader_of, running

OWN_PARAMETERS = ("interval", "by", "top", "time_zone")
PARAMETERS = (*query.WINDOW_PARAMETERS, *filters.PARAMETERS, *OWN_PARAMETERS)
AUTO = "auto"
DEFAULT_TOP = 10
MAX_TOP = 50
SHOWN_CHARS = 1000
"""Of a value; of longer ones the beginning is shown."""


class Histogram(NamedTuple):
    """A checked question."""

    search: Search
    buckets: Buckets
    zone: str
    by: Field | None
    top: int
    now_us: int


async def get_histogram(request: web.Request) -> web.Response:
    """A `HistogramAnswer`."""
    began = time.monotonic()
    tenant = await reader_of(request, reads_query=True)
    asked = histogram_of(
        request.query.items(),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    async with running(request, tenant, "histogram") as run:
        found = await run(counts_of(asked)) if asked.buckets.starts else []
    return json_of(shown(asked, found, (time.monotonic() - began) * 1000))


def histogram_of(pairs: Iterable[tuple[str, str]], *, tenant_id: str, retention_days: int, now_us: int) -> Histogram:
    """The question that a query string asks. Raises Invalid."""
    given = Parameters(pairs, known=PARAMETERS, several=filters.SEVERAL)
    search = narrowed_by(given, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us)
    zone = zone_of(given)
    buckets = buckets_of(given, search, zone, now_us, open_end="end_time" not in given.values)
    by = given.text("by")
    named = values.countable(given, "by", [by]) if by else []
    top = given.number("top", 1, MAX_TOP, DEFAULT_TOP)
    if "top" in given.values and "by" not in given.values:
        given.fault("top", "is how many values, and there is no field", given.get("top"), "give by=FIELD beside it")
    given.check()
    return Histogram(search, buckets, given.get("time_zone") or "UTC", named[0] if named else None, top, now_us)


def zone_of(given: Parameters) -> tzinfo:
    """The zone whose clock counts; a fault is kept in ``given``."""
    text = given.get("time_zone")
    zone = UTC if text is None else intervals.zone_of(text)
    if zone is None:
        given.fault("time_zone", "is no time zone", text, "like UTC, Europe/Berlin or +05:30")
        return UTC
    return zone


def buckets_of(given: Parameters, search: Search, zone: tzinfo, now_us: int, *, open_end: bool) -> Buckets:
    """The parts of the window, by ``interval`` or of a length that suits it; a fault is kept in ``given``.

    Args:
        open_end: no end of the window was given.
    """
    text = given.get("interval") or AUTO
    newest_us = min(search.end_us, now_us + query.AHEAD_US)  # behind it no event can lie, whatever end was given
    ahead = (open_end or newest_us < search.end_us) and search.start_us <= now_us < newest_us
    end_us = now_us if ahead else newest_us
    fitting_us = intervals.chosen_length(search.start_us, end_us)
    length_us = fitting_us if text == AUTO else intervals.parse_length(text)
    if length_us is None:
        given.fault("interval", "is no length of time", text, f"{intervals.FORMS}; or {AUTO}")
        length_us = fitting_us
    try:
        buckets = intervals.cut(search.start_us, end_us, length_us, zone)
        if ahead and buckets.end_us <= newest_us:
            return Buckets(length_us, (*buckets.starts, buckets.end_us), newest_us + 1, ahead=True)
        return buckets
    except intervals.TooMany:
        longer = intervals.show_length(intervals.chosen_length(search.start_us, end_us, intervals.MAX_BUCKETS))
        most = f"makes more than {intervals.MAX_BUCKETS} buckets of this window"
        given.fault("interval", most, text, f"{longer} or more, or a shorter window (start_time, end_time)")
        return Buckets(length_us, (), search.start_us)


def counts_of(asked: Histogram) -> Statement:
    """Rows of start (µs) and number; by a field rows of kind (see `values.spread`), value, and (start, number) pairs."""
    where, params = where_of(asked.search)
    params["bucket_starts"] = list(asked.buckets.starts)
    bucket = "roundDown(toUnixTimestamp64Micro(timestamp), {bucket_starts:Array(Int64)})"
    if asked.by is None:
        return Statement(f"SELECT {bucket} AS start, count() FROM events FINAL WHERE {where} GROUP BY start", params)
    key = values.key(asked.by, params, "by_field")
    counted = f"SELECT {bucket} AS start, {key} AS key, count() AS number FROM events FINAL WHERE {where} GROUP BY start, key"
    spread = (
        f"SELECT start, arrayJoin({values.spread(values.texts(asked.by, 'key'))}) AS item, sum(number) AS part "
        f"FROM ({counted}) GROUP BY start, item"
    )
    return Statement(
        f"SELECT item.1, substringUTF8(item.2, 1, {SHOWN_CHARS}), groupArray((start, part)) FROM ({spread}) "
        # All events, all values, those without one, and then the largest.
        "GROUP BY item.1, item.2 ORDER BY item.1 DESC, isNull(item.2) DESC, sum(part) DESC, item.2 LIMIT {rows:UInt32}",
        {**params, "rows": asked.top + 3},
    )


def shown(asked: Histogram, rows: Sequence[Sequence[Any]], took_ms: float) -> HistogramAnswer:
    """The answer, from the rows of `counts_of`."""
    bounds = asked.buckets.bounds()
    by = asked.by
    if by is None:
        every = {start_us: number for start_us, number in rows}  # noqa: C416
        named: list[tuple[int, str | None, dict[int, int]]] = []
    else:
        named = [(kind, value, dict(pairs)) for kind, value, pairs in rows]
        every = next((counts for kind, _, counts in named if kind == values.EVERY), {})
    if asked.buckets.ahead and not every.get(bounds[-1][0]):
        bounds.pop()
    starts = [start_us for start_us, _ in bounds]
    over_us = min(asked.search.end_us, asked.now_us)
    answer = HistogramAnswer(
        interval=intervals.show_length(asked.buckets.length_us),
        interval_seconds=asked.buckets.length_us // intervals.SECOND_US,
        time_zone=asked.zone,
        start_time=show_moment(asked.search.start_us),
        end_time=show_moment(asked.search.end_us),
        total_count=sum(every.values()),
        buckets=[
            Bucket(
                show_moment(start_us),
                show_moment(end_us),
                every.get(start_us, 0),
                start_us < asked.search.start_us or end_us - 1 > over_us,
            )
            for start_us, end_us in bounds
        ],
        execution_time_ms=round(took_ms, 3),
    )
    return answer if by is None else _with_series(answer, by, asked.top, named, starts)


def _with_series(
    answer: HistogramAnswer, by: Field, top: int, named: Sequence[tuple[int, str | None, dict[int, int]]], starts: Sequence[int]
) -> HistogramAnswer:
    def counts(found: dict[int, int]) -> list[int]:
        return [found.get(start_us, 0) for start_us in starts]

    def rest(numbers: list[int]) -> Rest:
        return Rest(sum(numbers), numbers)

    listed = [(value, counts(found)) for kind, value, found in named if kind == values.VALUE and value is not None][:top]
    missing = next((found for kind, value, found in named if kind == values.VALUE and value is None), {})
    valued = counts(next((found for kind, _, found in named if kind == values.VALUES), {}))
    other = [number - sum(numbers) for number, *numbers in zip(valued, *(found for _, found in listed), strict=True)]
    return msgspec.structs.replace(
        answer,
        by=by.name,
        series=[Series(value, sum(numbers), numbers) for value, numbers in listed],
        other=rest(other),
        missing=rest(counts(missing)),
    )
