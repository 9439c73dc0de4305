"""GET events/fields: which fields the events that match have: their names, types, how often, and examples of values.

- Looked at are the newest `SAMPLE` events that match, each once. If there are no more, the numbers are exact and
  ``sampled`` is false; else they are of the sample, whose size is ``sampled_events``.
- The type of an attribute is read off its values: number or time where all of them are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from collector.figures.answers import FieldsAnswer, FieldShown
from collector.ingest.moments import show_moment
from collector.search import fields, filters, query
from collector.search.fields import LIST, NUMBER, TEXT, TIME, Field
from collector.search.parameters import Parameters
from collector.search.query import Search, Span, Statement, narrowed_by, span_of, where_of
from collector.search.reading import Run, json_of, reader_of, running
from collector.store.columns import EVENT_COLUMNS

PARAMETERS = (*query.WINDOW_PARAMETERS, *filters.PARAMETERS)
SAMPLE = 10_000
MAX_ATTRIBUTES = 1000
"""Names shown, those of the most events."""
EXAMPLES = 3
EXAMPLE_CHARS = 100
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"


async def get_fields(request: web.Request) -> web.Response:
    """A `FieldsAnswer`."""
    began = time.monotonic()
    tenant = await reader_of(request, reads_query=True)
    search = search_of(
        request.query.items(),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    async with running(request, tenant, "fields") as run:
        answer = await looked_at(run, search)
    return json_of(msgspec.structs.replace(answer, execution_time_ms=round((time.monotonic() - began) * 1000, 3)))


def search_of(pairs: Iterable[tuple[str, str]], *, tenant_id: str, retention_days: int, now_us: int) -> Search:
    """What a query string leaves. Raises Invalid."""
    given = Parameters(pairs, known=PARAMETERS, several=filters.SEVERAL)
    search = narrowed_by(given, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us)
    given.check()
    return search


async def looked_at(run: Run, search: Search, most: int = SAMPLE) -> FieldsAnswer:
    """The answer; how long it took is not known yet."""
    span = Span(*(await run(span_of(search, most)))[0]) if search.start_us <= search.end_us else Span(0, 0, 0)
    whole = span.rows < most
    sample = (search, span.known_whole(whole), most)
    found: list[FieldShown] = []
    events, more = 0, False
    if span.rows:
        ((events, *counts),) = await run(columns_of(*sample))
        named = await run(attributes_of(*sample))
        found = [*_columns(counts), *_attributes(named[:MAX_ATTRIBUTES])]
        more = len(named) > MAX_ATTRIBUTES
    return FieldsAnswer(
        start_time=show_moment(search.start_us),
        end_time=show_moment(search.end_us),
        sampled=not whole,
        sampled_events=events,
        fields=found,
        more_attributes=more,
        execution_time_ms=0.0,
    )


def columns_of(search: Search, span: Span, most: int) -> Statement:
    """One row: number of events, and of each field that is a column number and examples."""
    parts = ["count()"]
    for field in fields.FIELDS.values():
        said, value = fields.said(field, {}, ""), fields.shown(field, {}, "")
        if field.kind == TIME:
            examples = f"[toString(min({value})), toString(max({value}))]"
        elif field.kind == LIST:
            examples = f"topKArrayIf({EXAMPLES})({value}, {said})"
        elif field.kind == NUMBER:
            examples = f"arrayMap(one -> toString(one), topKIf({EXAMPLES})({value}, {said}))"
        else:
            examples = f"topKIf({EXAMPLES})(substringUTF8({value}, 1, {EXAMPLE_CHARS}), {said})"
        parts += [f"countIf({said})", examples]
    return _of_sample(", ".join(parts), search, span, most)


def attributes_of(search: Search, span: Span, most: int) -> Statement:
    """Rows of name, number, numbers and times among the values, examples."""
    pairs = "arrayJoin(arrayMap((k, v) -> (toValidUTF8(k), toValidUTF8(v)), mapKeys(attributes), mapValues(attributes)))"
    inner = _of_sample(f"{pairs} AS pair", search, span, most)
    return Statement(
        "SELECT pair.1 AS name, count(), countIf(isNotNull(toFloat64OrNull(pair.2))), "
        f"countIf(match(pair.2, '{_MOMENT}')), topK({EXAMPLES})(substringUTF8(pair.2, 1, {EXAMPLE_CHARS})) "
        f"FROM ({inner.sql}) GROUP BY name ORDER BY count() DESC, name LIMIT {MAX_ATTRIBUTES + 1}",
        inner.params,
    )


def _of_sample(selected: str, search: Search, span: Span, most: int) -> Statement:
    """The newest events: those in the span of so many candidates, of equal times any."""
    where, params = where_of(search, span)
    columns = ", ".join(name for name in EVENT_COLUMNS if name != "tenant_id")
    return Statement(
        f"SELECT {selected} FROM (SELECT {columns} FROM events FINAL WHERE {where} LIMIT {{most:UInt32}})",
        {**params, "most": most},
    )


def _columns(counts: Sequence[Any]) -> list[FieldShown]:
    found = zip(fields.FIELDS.values(), counts[::2], counts[1::2], strict=True)
    return [_shown(field, number, examples) for field, number, examples in found if number]


def _shown(field: Field, number: int, examples: Sequence[str]) -> FieldShown:
    if field.kind == TIME:
        examples = sorted({f"{text.replace(' ', 'T')}Z" for text in examples})
    return FieldShown(field.name, field.place, field.kind, number, list(examples))


def _attributes(rows: Iterable[Sequence[Any]]) -> list[FieldShown]:
    def kind(number: int, numbers: int, times: int) -> str:
        return NUMBER if numbers == number else TIME if times == number else TEXT

    return [
        FieldShown(f"{fields.ATTRIBUTE}{name}", f"attributes.{name}", kind(number, numbers, times), number, list(examples))
        for name, number, numbers, times, examples in rows
    ]
