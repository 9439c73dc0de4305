"""GET events/facets: the values of fields with the most events, for the current filter, with exact numbers.

- Counted over the events themselves, each once: nothing that was summed up before is used, since it would count copies.
- All fields are counted in one pass over the events (GROUPING SETS), whatever their number.
- What is listed, ``other_count`` and ``missing_count`` add up to the number of events; of a list, whose events count in each
  of its values, to no less.
- ``prefix`` and ``contains`` choose which values are listed, in any case; the numbers stay those of the whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from collector.figures import values
from collector.figures.answers import Facet, FacetsAnswer, FacetValue
from collector.ingest.moments import show_moment
from collector.search import filters, query
from collector.search.fields import Field
from collector.search.parameters import Parameters
from collector.search.query import Search, Statement, narrowed_by, where_of
from collector.search.reading import json_of, reader_of, running

OWN_PARAMETERS = ("fields", "limit", "prefix", "contains")
PARAMETERS = (*query.WINDOW_PARAMETERS, *filters.PARAMETERS, *OWN_PARAMETERS)
DEFAULT_FIELDS = ("severity", "event_type", "service", "source", "environment", "agent")
MAX_FIELDS = 20
DEFAULT_LIMIT = 10
MAX_LIMIT = 1000
SHOWN_CHARS = 1000
"""Of a value; what is longer is cut, and says so."""


class Facets(NamedTuple):
    """A checked question."""

    search: Search
    fields: list[Field]
    limit: int
    prefix: str
    contains: str


async def get_facets(request: web.Request) -> web.Response:
    """A `FacetsAnswer`."""
    began = time.monotonic()
    tenant = await reader_of(request, reads_query=True)
    asked = facets_of(
        request.query.items(),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    async with running(request, tenant, "facets") as run:
        found = await run(counts_of(asked))
    return json_of(shown(asked, found, (time.monotonic() - began) * 1000))


def facets_of(pairs: Iterable[tuple[str, str]], *, tenant_id: str, retention_days: int, now_us: int) -> Facets:
    """The question that a query string asks. Raises Invalid."""
    given = Parameters(pairs, known=PARAMETERS, several=(*filters.SEVERAL, "fields"))
    search = narrowed_by(given, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us)
    names = given.list_of("fields") if "fields" in given.values else DEFAULT_FIELDS
    if len(names) > MAX_FIELDS:
        given.fault("fields", f"expected 1 to {MAX_FIELDS} fields", str(len(names)), "ask several times")
    asked = values.countable(given, "fields", names)
    limit = given.number("limit", 1, MAX_LIMIT, DEFAULT_LIMIT)
    prefix, contains = given.text("prefix"), given.text("contains")
    given.check()
    return Facets(search, asked, limit, prefix, contains)


def counts_of(asked: Facets) -> Statement:
    """A row per field: its place, events, values over all events, events without one, distinct values, and of the listed
    values number, text and whole length."""
    where, params = where_of(asked.search)
    keys = [values.key(field, params, f"facet_field{n}") for n, field in enumerate(asked.fields)]
    names = [f"key{n}" for n in range(len(keys))]
    selected = ", ".join(f"{key} AS {name}" for key, name in zip(keys, names, strict=True))
    sets = ", ".join(f"({name})" for name in names)
    counted = (
        f"SELECT {', '.join(names)}, grouping({', '.join(names)}) AS mask, count() AS number "
        f"FROM (SELECT {selected} FROM events FINAL WHERE {where}) GROUP BY GROUPING SETS ({sets})"
    )
    # In the mask a 0 is the field that a row is grouped by, the first field the highest bit.
    every = (1 << len(keys)) - 1
    place = " ".join(f"WHEN {every ^ 1 << len(keys) - 1 - n} THEN {n}" for n in range(len(keys)))
    texts = " ".join(
        f"WHEN {every ^ 1 << len(keys) - 1 - n} THEN {values.texts(field, name)}"
        for n, (field, name) in enumerate(zip(asked.fields, names, strict=True))
    )
    spread = (
        f"SELECT CASE mask {place} ELSE 0 END AS place, arrayJoin({values.spread('texts')}) AS item, sum(number) AS part "
        f"FROM (SELECT mask, number, CASE mask {texts} ELSE [NULL] END AS texts FROM ({counted})) GROUP BY place, item"
    )
    listed = f"item.1 = {values.VALUE} AND isNotNull(item.2){_chosen(asked, params)}"
    return Statement(
        f"SELECT place, sumIf(part, item.1 = {values.EVERY}), sumIf(part, item.1 = {values.VALUES}), "
        f"sumIf(part, item.1 = {values.VALUE} AND isNull(item.2)), countIf(item.1 = {values.VALUE} AND isNotNull(item.2)), "
        f"arrayMap(one -> (-one.1, substringUTF8(one.2, 1, {SHOWN_CHARS}), lengthUTF8(one.2)), "
        f"groupArraySortedIf({asked.limit})((-toInt64(part), ifNull(item.2, '')), {listed})) "
        f"FROM ({spread}) GROUP BY place ORDER BY place",
        params,
    )


def _chosen(asked: Facets, params: dict[str, Any]) -> str:
    parts = ""
    if asked.prefix:
        params["facet_prefix"] = asked.prefix
        parts += " AND startsWith(lowerUTF8(ifNull(item.2, '')), lowerUTF8({facet_prefix:String}))"
    if asked.contains:
        params["facet_contains"] = asked.contains
        parts += " AND position(lowerUTF8(ifNull(item.2, '')), lowerUTF8({facet_contains:String})) > 0"
    return parts


def shown(asked: Facets, rows: Sequence[Sequence[Any]], took_ms: float) -> FacetsAnswer:
    """The answer, from the rows of `counts_of`."""
    found = {place: rest for place, *rest in rows}
    facets = []
    for n, field in enumerate(asked.fields):
        _, valued, missing, distinct, listed = found.get(n, (0, 0, 0, 0, ()))
        facets.append(
            Facet(
                field=field.name,
                values=[FacetValue(text, number, length > SHOWN_CHARS) for number, text, length in listed],
                distinct_count=distinct,
                other_count=valued - sum(number for number, _, _ in listed),
                missing_count=missing,
            )
        )
    return FacetsAnswer(
        start_time=show_moment(asked.search.start_us),
        end_time=show_moment(asked.search.end_us),
        total_count=max((row[1] for row in rows), default=0),
        facets=facets,
        execution_time_ms=round(took_ms, 3),
    )
