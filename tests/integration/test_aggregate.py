"""Figures are those that reckoning over the events of a search by hand gives. Real engine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import msgspec
import pytest

from collector.errors import Invalid
from collector.figures import aggregate
from collector.figures.aggregate_types import AggregateAnswer, AggregateBody, AggregateRow
from collector.search import fields
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import FILTERS, Asking, Shown, fill, values_of

pytestmark = pytest.mark.engine

NOBODY: dict[str, Any] = {"tenant_id": "t", "retention_days": 30, "now_us": 1_795_000_000_000_000}
METRICS: list[dict[str, Any]] = [
    {"function": "count"},
    {"function": "count", "field": "status_code"},
    {"function": "count_distinct", "field": "attr.region"},
    {"function": "count_distinct", "field": "tags"},
    {"function": "sum", "field": "response_time_ms"},
    {"function": "avg", "field": "attr.took"},
    {"function": "min", "field": "status_code"},
    {"function": "max", "field": "attr.took"},
    {"function": "min", "field": "timestamp", "name": "first"},
    {"function": "p95", "field": "response_time_ms"},
    {"function": "percentiles", "field": "attr.took", "percentiles": [0, 50, 99.9]},
]
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"group_by": ["service", "severity"]},
    {"group_by": ["attr.region", "status_code"]},
    {"group_by": ["tags"]},
)


async def asked(asking: Asking, body: dict[str, Any]) -> AggregateAnswer:
    question = aggregate.aggregate_of(msgspec.convert(body, AggregateBody), **asking.context)
    return aggregate.shown(question, await asking.run(aggregate.figures_of(question)), 0.0)


def number(text: str) -> float | None:
    """A text as a number, if it is a finite one."""
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def percentile(numbers: list[float], level: float) -> float:
    numbers, place = sorted(numbers), (len(numbers) - 1) * level / 100
    low = math.floor(place)
    high = min(low + 1, len(numbers) - 1)
    return numbers[low] + (numbers[high] - numbers[low]) * (place - low)


def figure(function: str, field: str | None, events: list[Shown]) -> Any:
    """By hand."""
    said = [text for shown in events for text in (values_of(shown, field) if field else [""])]
    if function == "count":
        return sum(bool(values_of(shown, field)) for shown in events) if field else len(events)
    if function == "count_distinct":
        return len(set(said))
    if field == "timestamp":
        return min(said)
    numbers = [value for text in said if (value := number(text)) is not None]
    if not numbers:
        return None
    if function.startswith("p"):
        return pytest.approx(percentile(numbers, float(function[1:])))
    if function == "avg":
        return pytest.approx(sum(numbers) / len(numbers))
    reckoned: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "min": min, "max": max}
    return pytest.approx(reckoned[function](numbers))


def expected(events: list[Shown]) -> dict[str, Any]:
    found = {}
    for metric in METRICS:
        function, field = metric["function"], metric.get("field")
        for name in [f"p{level:g}" for level in metric["percentiles"]] if function == "percentiles" else [function]:
            found[metric.get("name") or name + (f"_{field}" if field else "")] = figure(name, field, events)
    return found


def passes(row: AggregateRow) -> bool:
    count, median = row.metrics["count"], row.metrics["p50_response_time_ms"]
    return isinstance(count, int) and count >= 4 and isinstance(median, int | float) and median < 200


def groups_of(shown: Shown, names: list[str]) -> list[tuple[Any, ...]]:
    """A number as a number; an event without a value is in a group of its own."""

    def typed(name: str, text: str | None) -> Any:
        field = fields.field_of(name)
        assert field is not None
        return int(text) if text is not None and field.kind == fields.NUMBER else text

    return list(product(*([typed(name, text) for text in values_of(shown, name) or [None]] for name in names)))


def test_every_figure_is_what_reckoning_over_a_search_by_hand_gives(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            for values in FILTERS[::2]:
                events = await asking.events(values)
                for shape in SHAPES:
                    by_hand: dict[tuple[Any, ...], list[Shown]] = {} if shape else {(): []}
                    for shown in events:
                        for group in groups_of(shown, shape.get("group_by", [])):
                            by_hand.setdefault(group, []).append(shown)
                    answer = await asked(asking, {"filter": values, "metrics": METRICS, "limit": 1000, **shape})
                    if not events and not shape:
                        by_hand, answer = {}, msgspec.structs.replace(answer, rows=[], group_count=0)
                    found = {tuple(row.group.values()): row.metrics for row in answer.rows}
                    assert found == {group: expected(theirs) for group, theirs in by_hand.items()}, (values, shape)
                    assert (answer.group_count, answer.has_more) == (len(by_hand), False)
                    if "tags" not in shape.get("group_by", ()):
                        texts = [text for shown in events for text in values_of(shown, "attr.took")]
                        assert answer.not_numbers["avg_attr.took"] == sum(number(text) is None for text in texts)

    asyncio.run(run())


def test_groups_over_time_order_having_and_limit(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            events = await asking.events({})
            over_time = {"interval": "1d", "time_zone": "Europe/Berlin", "group_by": ["severity"], "limit": 1000}
            timed = await asked(asking, over_time)
            assert sum(row.metrics["count"] for row in timed.rows) == len(events)  # type: ignore[misc]
            assert all(row.time and row.time.endswith(("T22:00:00.000000Z", "T23:00:00.000000Z")) for row in timed.rows)
            order = [(row.time, -int(row.metrics["count"] or 0), row.group["severity"]) for row in timed.rows]
            assert order == sorted(order)  # type: ignore[type-var]
            having = [{"metric": "count", "op": ">=", "value": 4}, {"metric": "p50_response_time_ms", "op": "<", "value": 200}]
            metrics = [{"function": "count"}, {"function": "p50", "field": "response_time_ms"}]
            body = {"group_by": ["service", "severity"], "metrics": metrics, "order_by": ["-service", "count"], "limit": 1000}
            every, some = await asked(asking, body), await asked(asking, {**body, "having": having})
            left = [row for row in every.rows if passes(row)]
            assert some.rows == left
            assert 0 < len(left) < len(every.rows) == every.group_count == some.group_count
            few = await asked(asking, {**body, "having": having, "limit": 2})
            assert (few.rows, few.has_more) == (left[:2], True)
            services = [str(row.group["service"] or "").encode() for row in every.rows]
            assert services == sorted(services, reverse=True)  # those without one last
            none = await asked(asking, {**body, "having": [{"metric": "count", "op": ">", "value": 1e9}]})
            assert (none.rows, none.has_more, none.group_count) == ([], False, every.group_count)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filter": {"severity": "loud"}}, "filter.severity"),
        ({"filter": {"limit": 5}}, "filter.limit"),
        ({"filter": {"interval": "1h"}}, "filter.interval"),
        ({"q": "-"}, "q"),
        ({"start_time": "now", "end_time": "-1h"}, "end_time"),
        ({"group_by": ["sevrity"]}, "group_by"),
        ({"group_by": ["timestamp"]}, "group_by"),
        ({"interval": "1s"}, "interval"),
        ({"time_zone": "UTC"}, "time_zone"),
        ({"interval": "1d", "time_zone": "Mars"}, "time_zone"),
        ({"metrics": [{"function": "sum"}]}, "metrics[0].field"),
        ({"metrics": [{"function": "sum", "field": "x"}]}, "metrics[0].field"),
        ({"metrics": [{"function": "sum", "field": "timestamp"}]}, "metrics[0].field"),
        ({"metrics": [{"function": "avg", "field": "tags"}]}, "metrics[0].field"),
        ({"metrics": [{"function": "percentiles", "field": "status_code"}]}, "metrics[0].percentiles"),
        ({"metrics": [{"function": "count", "percentiles": [5]}]}, "metrics[0].percentiles"),
        ({"metrics": [{"function": "count"}, {"function": "count"}]}, "metrics"),
        ({"metrics": [{"function": "count", "name": "severity"}], "group_by": ["severity"]}, "metrics"),
        ({"having": [{"metric": "avg", "op": ">", "value": 1}]}, "having[0].metric"),
        ({"order_by": ["time"]}, "order_by[0]"),
    ],
)
def test_what_makes_no_sense_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        aggregate.aggregate_of(
            msgspec.convert(body, AggregateBody), tenant_id="t", retention_days=30, now_us=1_795_000_000_000_000
        )
    assert [fault.field for fault in refused.value.errors] == [field]


def test_no_text_of_a_caller_becomes_sql() -> None:
    evil = "x'] OR 1=1 --"
    body = {
        "filter": {"service": evil, f"attr.{evil}": evil}, "group_by": [f"attr.{evil}"], "order_by": ["-count"],
        "metrics": [{"function": "count"}, {"function": "sum", "field": f"attr.{evil}", "name": evil}],
        "having": [{"metric": evil, "op": ">", "value": 5}],
    }  # fmt: skip
    question = aggregate.aggregate_of(
        msgspec.convert(body, AggregateBody), tenant_id="t", retention_days=30, now_us=1_795_000_000_000_000
    )
    assert "1=1" not in aggregate.figures_of(question).sql
