"""POST events/aggregate: figures over the events that match, by fields and over time.

- Each event is counted once (``FINAL``), by the same conditions as a search; grouped by a list, once in each of its values.
- Figures are exact, percentiles too: interpolated between the two values they lie between. The bounds of every query bound
  them: what would need more memory or time is refused.
- Numbers are taken of numbers, and of texts that are numbers (attributes); how many were none is told.
- No name of a caller becomes SQL: fields by `collector.search.fields`, metrics by their place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

from aiohttp import web

from collector.figures import histogram, intervals, values
from collector.figures.aggregate_types import MAX_METRICS, AggregateAnswer, AggregateBody, AggregateRow, Function, Metric, Value
from collector.figures.intervals import Buckets
from collector.ingest import small_bodies
from collector.ingest.moments import show_moment
from collector.search import fields, filters, query
from collector.search.fields import LIST, NUMBER, TEXT, TIME, Field
from collector.search.members import faults_within, pairs_of, text_of
from collector.search.parameters import Parameters
from collector.search.query import Search, Statement, narrowed_by, where_of
from collector.search.reading import json_of, reader_of, running

SHOWN_CHARS = 1000
"""Of a group's value."""
TIME_NAME = "time"
_FILTERS = (*query.WINDOW_PARAMETERS, *filters.PARAMETERS)
_OWN = ("interval", "time_zone")
_AGGREGATES = {
    "sum": "sumKahanOrNull({})",
    "avg": "avgOrNull({})",
    "min": "minOrNull({})",
    "max": "maxOrNull({})",
}
_LEVELS = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
_FUNCTIONS: dict[str, tuple[str, ...]] = {
    LIST: ("count", "count_distinct"),
    TIME: ("count", "count_distinct", "min", "max"),
    NUMBER: get_args(Function),
    TEXT: get_args(Function),
}
_MENDS = {"function": f"one of {', '.join(get_args(Function))}", "op": "one of >, >=, <, <=, =, !="}
_WHOLE = 1 << 53


class Output(NamedTuple):
    """One figure of each group."""

    name: str
    function: str
    field: Field | None
    level: float = 0.0


class Aggregate(NamedTuple):
    """A checked question."""

    search: Search
    group_by: list[Field]
    buckets: Buckets | None
    zone: str
    outputs: list[Output]
    having: list[tuple[int, str, float]]
    """Place of the output, operator, value."""
    order: list[tuple[str, bool]]
    """Column of the statement, and whether it falls."""
    limit: int


async def post_aggregate(request: web.Request) -> web.Response:
    """An `AggregateAnswer`."""
    began = time.monotonic()
    tenant = await reader_of(request)
    body = small_bodies.read(await small_bodies.whole(request), AggregateBody, _MENDS)
    asked = aggregate_of(
        body,
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    q = text_of(body.filter, "q") if body.q is None else body.q
    with faults_within("filter", body.filter):
        async with running(request, tenant, "aggregate", q=q) as run:
            found = [] if asked.buckets is not None and not asked.buckets.starts else await run(figures_of(asked))
    return json_of(shown(asked, found, (time.monotonic() - began) * 1000))


def aggregate_of(body: AggregateBody, *, tenant_id: str, retention_days: int, now_us: int) -> Aggregate:
    """The question that a body asks. Raises Invalid, which names every member that is wrong."""
    beside = {name: getattr(body, name) for name in ("q", *query.WINDOW_PARAMETERS)}
    pairs = [*pairs_of(body.filter, "filter"), *pairs_of(beside, "body")]
    with faults_within("filter", body.filter):
        given = Parameters(pairs, known=_FILTERS, several=filters.SEVERAL)
        search = narrowed_by(given, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us)
        given.check()
    own = Parameters([(name, text) for name in _OWN if (text := getattr(body, name)) is not None], known=_OWN)
    zone = histogram.zone_of(own)
    open_end = "end_time" not in given.values
    buckets = None if body.interval is None else histogram.buckets_of(own, search, zone, now_us, open_end=open_end)
    if body.interval is None and body.time_zone is not None:
        own.fault("time_zone", "is given without an interval", body.time_zone, 'give "interval" beside it, or leave it out')
    group_by = values.countable(own, "group_by", body.group_by)
    outputs = list(_outputs(own, body.metrics or [Metric("count")]))
    _check_names(own, outputs, group_by)
    having = list(_having(own, body, outputs))
    order = list(_order(own, body.order_by, group_by, outputs, timed=buckets is not None))
    own.check()
    return Aggregate(search, group_by, buckets, body.time_zone or "UTC", outputs, having, order, body.limit)


def _outputs(given: Parameters, metrics: Sequence[Metric]) -> Iterator[Output]:
    for n, metric in enumerate(metrics):
        field = _field(given, f"metrics[{n}]", metric)
        levels = metric.percentiles if metric.function == "percentiles" else ()
        if metric.function == "percentiles" and not metric.percentiles:
            given.fault(f"metrics[{n}].percentiles", "is missing", None, "like [50, 99.9]")
        if metric.percentiles and metric.function != "percentiles":
            given.fault(f"metrics[{n}].percentiles", "is given with another function", metric.function, 'use "percentiles"')
        of = f"_{field.name}" if field else ""
        for level in levels:
            yield Output(f"{metric.name}_p{level:g}" if metric.name else f"p{level:g}{of}", "percentile", field, level)
        if metric.function in _LEVELS:
            yield Output(metric.name or f"{metric.function}{of}", "percentile", field, _LEVELS[metric.function])
        elif metric.function != "percentiles":
            yield Output(metric.name or f"{metric.function}{of}", metric.function, field)


def _field(given: Parameters, where: str, metric: Metric) -> Field | None:
    if metric.field is None:
        if metric.function != "count":
            given.fault(f"{where}.field", "is missing", None, f"what to take {metric.function} of, like response_time_ms")
        return None
    field = fields.field_of(metric.field)
    if field is None:
        given.fault(f"{where}.field", "there is no such field", metric.field, fields.suggestion(metric.field))
    elif metric.function not in _FUNCTIONS[field.kind]:
        there = f"there is {', '.join(_FUNCTIONS[field.kind])}"
        given.fault(f"{where}.field", f"is a {field.kind}, of which there is no {metric.function}", metric.field, there)
    return field


def _check_names(given: Parameters, outputs: Sequence[Output], group_by: Sequence[Field]) -> None:
    taken = {TIME_NAME, *(field.name for field in group_by)}
    for output in outputs:
        if output.name in taken:
            given.fault("metrics", "two parts of the answer have one name", output.name, 'give the metric another "name"')
        taken.add(output.name)
    if len(outputs) > MAX_METRICS:
        given.fault("metrics", f"expected at most {MAX_METRICS}, each percentile counted", str(len(outputs)))


def _having(given: Parameters, body: AggregateBody, outputs: Sequence[Output]) -> Iterator[tuple[int, str, float]]:
    names = [output.name for output in outputs]
    for n, condition in enumerate(body.having):
        if condition.metric not in names:
            given.fault(
                f"having[{n}].metric", "is no metric of this question", condition.metric, f"there are {', '.join(names)}"
            )
        elif _is_time(outputs[names.index(condition.metric)]):
            given.fault(f"having[{n}].metric", "is a time", condition.metric, "use start_time and end_time")
        else:
            yield names.index(condition.metric), condition.op, condition.value


def _order(
    given: Parameters, wanted: Sequence[str], group_by: Sequence[Field], outputs: Sequence[Output], *, timed: bool
) -> Iterator[tuple[str, bool]]:
    columns = {output.name: f"metric{n}" for n, output in enumerate(outputs)}
    columns |= {field.name: f"key{n}" for n, field in enumerate(group_by)}
    columns |= {TIME_NAME: "bucket"} if timed else {}
    for n, text in enumerate(wanted):
        falls, name = text.startswith("-") and text not in columns, text
        name = text.removeprefix("-") if falls else text
        meant = fields.field_of(name)
        if (column := columns.get(name) or columns.get(meant.name if meant else "")) is None:
            given.fault(f"order_by[{n}]", "is no part of the answer", text, f"there are {', '.join(columns)}")
        else:
            yield column, falls
    if not wanted:
        yield from [("bucket", False)] if timed else []
        yield "metric0", True
    # What is equal then has an order, too: the same question has the same answer.
    yield from (("bucket", False),) if timed else ()
    yield from ((f"key{n}", False) for n in range(len(group_by)))


def figures_of(asked: Aggregate) -> Statement:
    """Rows of: whether ``having`` leaves it, number of groups, bucket (µs), keys, metrics, and by metric how many values of
    all groups are no numbers. There is a row as long as there is a group."""
    where, params = where_of(asked.search)
    columns: list[str] = []
    groups = [f"key{n}" for n in range(len(asked.group_by))]
    if asked.buckets is not None:
        params["bucket_starts"] = list(asked.buckets.starts)
        columns.append("roundDown(toUnixTimestamp64Micro(timestamp), {bucket_starts:Array(Int64)}) AS bucket")
        groups.insert(0, "bucket")
    columns += [f"{_key(field, params, n)} AS key{n}" for n, field in enumerate(asked.group_by)]
    figures: list[str] = []
    faults: list[str] = []
    for n, output in enumerate(asked.outputs):
        inputs, figure, fault = _figure(output, params, n)
        columns += inputs
        figures.append(f"{figure} AS metric{n}")
        faults.append(f"{fault} AS fault{n}")
    inner = f"SELECT {', '.join([*columns, '1 AS one'])} FROM events FINAL WHERE {where}"
    grouped = f" GROUP BY {', '.join(groups)}" if groups else ""
    figured = f"SELECT {', '.join([*groups, *figures, *faults])} FROM ({inner}){grouped}"
    conditions = []
    for n, (place, op, value) in enumerate(asked.having):
        params[f"having{n}"] = value
        conditions.append(f"ifNull(toFloat64(metric{place}) {op} {{having{n}:Float64}}, 0)")
    keys = [
        f"substringUTF8(key{n}, 1, {SHOWN_CHARS})" if field.kind != NUMBER else f"key{n}"
        for n, field in enumerate(asked.group_by)
    ]
    shown = [
        f"({' AND '.join(conditions) or '1'}) AS passes",
        "count() OVER () AS groups",
        "bucket" if asked.buckets is not None else "0",
        *keys,
        *(f"metric{n}" for n in range(len(figures))),
        *(f"sum(fault{n}) OVER ()" for n in range(len(figures))),
    ]
    order = ", ".join(["passes DESC", *(f"{column} {'DESC' if falls else 'ASC'} NULLS LAST" for column, falls in asked.order)])
    return Statement(
        f"SELECT {', '.join(shown)} FROM ({figured}) ORDER BY {order} LIMIT {{rows:UInt32}}",
        {**params, "rows": asked.limit + 1},
    )


def _key(field: Field, params: dict[str, Any], n: int) -> str:
    """What a group has in a field; NULL where its events have nothing."""
    key = values.key(field, params, f"key_field{n}")
    if field.kind == LIST:
        return f"arrayJoin({values.texts(field, key)})"
    return key if field.kind == NUMBER or field.attribute else f"nullIf(toString({key}), '')"


def _figure(output: Output, params: dict[str, Any], n: int) -> tuple[list[str], str, str]:
    """Columns that a figure is taken of, the figure, and how many of its values are no numbers."""
    field, name = output.field, f"figure_field{n}"
    if field is None:
        return [], "count()", "toUInt64(0)"
    said = f"{fields.said(field, params, name)} AS said{n}"
    if output.function == "count":
        return [said], f"countIf(said{n})", "toUInt64(0)"
    if output.function == "count_distinct":
        value = f"{fields.shown(field, params, name)} AS value{n}"
        figure = f"uniqExactArray(value{n})" if field.kind == LIST else f"uniqExactIf(value{n}, said{n})"
        return [said, value], figure, "toUInt64(0)"
    number = f"toUnixTimestamp64Micro({field.column})" if field.kind == TIME else fields.number(field, params, name)
    if output.function == "percentile":
        figure = f"quantileExactInclusiveOrNull({output.level / 100!r})(value{n})"
    else:
        figure = _AGGREGATES[output.function].format(f"value{n}")
    return [said, f"{number} AS value{n}"], figure, f"countIf(said{n} AND isNull(value{n}))"


def shown(asked: Aggregate, rows: Sequence[Sequence[Any]], took_ms: float) -> AggregateAnswer:
    """The answer, from the rows of `figures_of`."""
    keys, metrics = len(asked.group_by), len(asked.outputs)
    left = [row[2:] for row in rows if row[0]]
    faults = rows[0][3 + keys + metrics :] if rows else [0] * metrics
    return AggregateAnswer(
        start_time=show_moment(asked.search.start_us),
        end_time=show_moment(asked.search.end_us),
        interval=intervals.show_length(asked.buckets.length_us) if asked.buckets is not None else None,
        time_zone=asked.zone,
        rows=[
            AggregateRow(
                group={field.name: _plain(value) for field, value in zip(asked.group_by, row[1:], strict=False)},
                time=show_moment(row[0]) if asked.buckets is not None else None,
                metrics={
                    output.name: show_moment(value) if _is_time(output) and value is not None else _plain(value)
                    for output, value in zip(asked.outputs, row[1 + keys :], strict=False)
                },
            )
            for row in left[: asked.limit]
        ],
        group_count=rows[0][1] if rows else 0,
        has_more=len(left) > asked.limit,
        not_numbers={
            output.name: number
            for output, number in zip(asked.outputs, faults, strict=True)
            if output.field is not None and output.field.kind == TEXT and output.function not in ("count", "count_distinct")
        },
        execution_time_ms=round(took_ms, 3),
    )


def _is_time(output: Output) -> bool:
    return output.field is not None and output.field.kind == TIME and output.function in ("min", "max")


def _plain(value: Any) -> Value:
    """A number without a fraction is shown without one."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return int(value)
    found: Value = value
    return found
