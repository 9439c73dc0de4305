"""Numbers by value are those that counting the events of a search by hand gives. Real engine."""

from __future__ import annotations

import asyncio

import pytest

from collector.figures import facets, histogram
from collector.figures.answers import FacetsAnswer
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import FILTERS, Asking, Shown, Values, fill, tally

pytestmark = pytest.mark.engine

SHAPES: tuple[Values, ...] = (
    {},
    {"fields": "service,tags,attr.region,status_code,attr.took,user_id,response_time_ms,attr.nothing", "limit": "3"},
    {"fields": "tags", "limit": "1"},
    {"fields": "service,attr.region", "contains": "ö"},
    {"fields": "service,severity", "prefix": "s", "limit": "1"},
)


async def asked(asking: Asking, values: Values) -> FacetsAnswer:
    question = facets.facets_of(values.items(), **asking.context)
    return facets.shown(question, await asking.run(facets.counts_of(question)), 0.0)


def agrees(answer: FacetsAnswer, events: list[Shown], shape: Values) -> None:
    """With a count by hand."""
    assert answer.total_count == len(events)
    assert [facet.field for facet in answer.facets] == shape.get("fields", ",".join(facets.DEFAULT_FIELDS)).split(",")
    for facet in answer.facets:
        by_hand = tally(events, facet.field)
        missing = by_hand.pop(None, 0)
        numbers = {value: number for value, number in by_hand.items() if value is not None}
        chosen = [
            (value, number) for value, number in sorted(numbers.items(), key=lambda item: (-item[1], item[0].encode()))
            if value.lower().startswith(shape.get("prefix", "")) and shape.get("contains", "") in value.lower()
        ][: int(shape.get("limit", 10))]  # fmt: skip
        assert [(value.value, value.count) for value in facet.values] == chosen, facet.field
        assert (facet.missing_count, facet.distinct_count) == (missing, len(numbers))
        assert facet.other_count == sum(numbers.values()) - sum(number for _, number in chosen)


def test_every_facet_is_what_counting_a_search_by_hand_gives(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            for values in FILTERS:
                events = await asking.events(values)
                for shape in SHAPES:
                    agrees(await asked(asking, {**values, **shape}), events, shape)

    asyncio.run(run())


def test_a_long_value_is_cut_and_says_so(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            asking = Asking(store, owner.tenant_id)
            now_us = asking.context["now_us"]
            columns = ("tenant_id", "external_id", "timestamp", "message", "retention_days")
            texts = ("ö" * facets.SHOWN_CHARS, "ö" * (facets.SHOWN_CHARS + 1))
            await store.insert(
                "events", columns, [(owner.tenant_id, text[-1] + str(len(text)), now_us, text, 30) for text in texts]
            )
            (facet,) = (await asked(asking, {"fields": "message"})).facets
            assert [(len(value.value), value.truncated) for value in facet.values] == [(1000, False), (1000, True)]
            by_message = histogram.histogram_of([("by", "message")], **asking.context)
            answer = histogram.shown(by_message, await asking.run(histogram.counts_of(by_message)), 0.0)
            assert [(len(series.value), series.count) for series in answer.series or ()] == [(1000, 1), (1000, 1)]

    asyncio.run(run())
