"""A page is the same whether its window is read at once or its candidates are looked for first. Real engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from collector.errors import QueryTooExpensive
from collector.search.query import Statement
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import FILTERS, Asking, fill

pytestmark = pytest.mark.engine


class ByCandidates(Asking):
    """As if there were much to read everywhere."""

    async def run(self, statement: Statement) -> list[tuple[Any, ...]]:
        if statement.max_bytes is not None:
            raise QueryTooExpensive("too much to read")
        return await super().run(statement)


def test_both_ways_show_the_same_pages(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            await fill(store, owner.tenant_id)
            at_once, by_candidates = Asking(store, owner.tenant_id), ByCandidates(store, owner.tenant_id)
            for values in (*FILTERS[::3], {"order": "asc", "service": "shop"}, {"q": '/a w.rd/ "a word"'}):
                shown = await at_once.events(values)
                assert shown == await by_candidates.events(values), values
                assert len({event["id"] for event in shown}) == len(shown)

    asyncio.run(run())
