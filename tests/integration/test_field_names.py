"""The fields that events have are those that reading the events of a search by hand finds. Real engine."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from collector.figures import names
from collector.figures.answers import FieldsAnswer
from collector.search import fields
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import FILTERS, Asking, Shown, Values, fill, values_of

pytestmark = pytest.mark.engine


async def asked(asking: Asking, values: Values, most: int = names.SAMPLE) -> FieldsAnswer:
    return await names.looked_at(asking.run, names.search_of(values.items(), **asking.context), most)


def by_hand(events: list[Shown]) -> dict[str, int]:
    attributes = {f"attr.{name}" for shown in events for name in shown["attributes"]}
    return Counter(name for name in (*fields.FIELDS, *attributes) for shown in events if values_of(shown, name))


def test_the_fields_of_few_events_are_exact(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            for values in FILTERS:
                events = await asking.events(values)
                answer = await asked(asking, values)
                assert (answer.sampled, answer.sampled_events) == (False, len(events))
                assert {field.name: field.count for field in answer.fields} == by_hand(events)
                for field in answer.fields:
                    there = {text[:100] for shown in events for text in values_of(shown, field.name)}
                    assert field.examples or field.type == "list"
                    assert field.type == "time" or set(field.examples) <= there, field
            types = {field.name: field.type for field in (await asked(asking, {"attr.took": "2.5"})).fields}
            assert (types["attr.took"], types["status_code"], types["tags"]) == ("number", "number", "list")
            assert {field.name: field.type for field in (await asked(asking, {})).fields}["attr.took"] == "text"

    asyncio.run(run())


def test_of_many_events_the_newest_are_looked_at_and_the_answer_says_so(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            newest = await asking.events({})
            answer = await asked(asking, {}, most=50)
            assert answer.sampled
            assert 10 < answer.sampled_events <= 50
            assert {field.name: field.count for field in answer.fields} == by_hand(newest[: answer.sampled_events])

    asyncio.run(run())
