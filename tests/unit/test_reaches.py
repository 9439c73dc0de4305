"""What is remembered of answers decides where a search looks first, and never what it finds."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from collector.errors import QueryTooExpensive
from collector.search import event
from collector.search.filters import Filters
from collector.search.language.parsing import parse
from collector.search.paging import page
from collector.search.query import Search, Statement
from collector.search.reaches import LEAST_US, Reaches
from collector.search.walking import FIRST_US

DAY_US = 86_400_000_000
NOW = 30 * DAY_US


def row(time_us: int) -> tuple[Any, ...]:
    said = {"timestamp": time_us, "observed_timestamp": time_us, "external_id": str(time_us)}
    return tuple(said.get(name, "") for name in event._NAMES)


class Store:
    """Events by time, each once; a window of more than ``most`` is not read at once."""

    def __init__(self, times: list[int], most: int = 10**9) -> None:
        self.times = times
        self.most = most
        self.starts: list[int] = []
        """Of the windows that were looked at."""

    async def run(self, statement: Statement) -> list[tuple[Any, ...]]:
        params = statement.params
        within = sorted((time for time in self.times if params["start"] <= time <= params["end"]), reverse=True)
        if "after" in params:
            within = [time for time in within if time < params["after"]]
        self.starts.append(params["start"])
        if statement.max_bytes is not None and len(within) > self.most:
            raise QueryTooExpensive("too much to read")
        if "most" in params:
            within = within[: params["most"]]
            return [(min(within, default=0), max(within, default=0), len(within), ["x"] * len(within))]
        rows = [row(time) for time in within]
        rows = rows[: params["rows"]]
        return rows if statement.max_bytes is not None else [(*row, len(rows)) for row in rows]


def asked(store: Store, reaches: Reaches, search: Search) -> tuple[list[int], int]:
    """The times of a page, and how many windows were looked at for it."""
    before = len(store.starts)
    found = asyncio.run(page(store.run, search, reaches))
    return [event.time_us for event in found.events], len(store.starts) - before


def search(limit: int = 10, now_us: int = NOW, **more: Any) -> Search:
    return Search("t", 0, now_us, limit=limit, asked_us=now_us, **more)


def test_what_is_rare_is_looked_for_everywhere_at_once_the_next_time() -> None:
    store, reaches = Store([5, 6, 7]), Reaches()
    assert asked(store, reaches, search()) == ([7, 6, 5], 2)
    assert asked(store, reaches, search()) == ([7, 6, 5], 1)


def test_of_attributes_the_names_count_and_not_the_values() -> None:
    store, reaches = Store([5]), Reaches()
    one, other = (search(filters=Filters(attributes=(("request_id", (value,)),))) for value in ("a", "b"))
    assert asked(store, reaches, one)[1] == 2
    assert asked(store, reaches, other)[1] == 1


def asking(q: str, **more: Any) -> Search:
    return search(filters=Filters(query=parse(q, NOW)), **more)


def test_a_query_that_was_not_asked_before_begins_where_one_that_is_built_like_it_found_a_page() -> None:
    reaches = Reaches()
    reaches.note(asking('"lost one" /x/'), [NOW - n * DAY_US for n in range(10)], True)
    width_us = reaches.width_us(asking('"lost other" /yy/'), 11)
    assert width_us is not None
    assert width_us >= 9 * DAY_US
    for other in ("lost other /yy/", '"lost other" OR /yy/', '"lost other" NOT /yy/', 'title:"lost other" /yy/'):
        assert reaches.width_us(asking(other), 11) is None, other
    assert reaches.width_us(search(), 11) is None


def test_of_a_query_that_found_no_page_those_built_like_it_learn_nothing() -> None:
    reaches = Reaches()
    reaches.note(asking("zebrafish"), [5], False)
    assert reaches.width_us(asking("zebrafish"), 11) is not None
    assert reaches.width_us(asking("get"), 11) is None


@pytest.mark.parametrize(
    "other",
    [
        Search("u", 0, NOW, limit=10),
        search(filters=Filters(columns=(("service", ("a",)),))),
        search(ascending=True),
        search(after=(NOW, "x")),
    ],
)
def test_searches_that_are_not_alike_know_nothing_of_each_other(other: Search) -> None:
    reaches = Reaches()
    reaches.note(search(), [7, 6], False)
    assert reaches.width_us(other, 11) is None


def test_of_a_tenant_whose_last_events_are_old_just_those_are_read() -> None:
    times = list(range(9 * DAY_US, 9 * DAY_US + 500_000_000, 1_000_000))
    store, reaches = Store(times, most=50), Reaches()
    assert asked(store, reaches, search())[1] > 2
    assert asked(store, reaches, search(now_us=NOW + DAY_US)) == (times[:-11:-1], 1)
    assert store.starts[-1] > times[-20]


def test_of_a_tenant_with_many_events_fewer_are_read_than_a_first_look_would() -> None:
    times = list(range(NOW - 3_600_000_000, NOW, 100_000))
    store, reaches = Store(times, most=100), Reaches()
    asked(store, reaches, search())
    assert asked(store, reaches, search()) == (times[:-11:-1], 1)
    assert NOW - store.starts[-1] < 4_000_000 < FIRST_US
    more = list(range(NOW, NOW + 60_000_000, 100_000))
    store.times = times + more
    assert asked(store, reaches, search(now_us=NOW + 60_000_000)) == (more[:-11:-1], 1)


def test_what_is_remembered_wrongly_costs_a_look_and_changes_nothing() -> None:
    store, reaches = Store([5], most=10), Reaches()
    asked(store, reaches, search())
    store.times = list(range(0, NOW, FIRST_US // 11))
    assert asked(store, reaches, search()) == (sorted(store.times)[:-11:-1], 2 + 2)


def test_the_memory_is_bounded_and_forgets_what_was_not_asked_longest() -> None:
    reaches = Reaches(2)
    one, two, three = (Search(tenant, 0, NOW) for tenant in "abc")
    reaches.note(one, [5], False)
    reaches.note(two, [5], False)
    assert reaches.width_us(one, 2)
    reaches.note(three, [5], False)
    assert (reaches.width_us(two, 2), bool(reaches.width_us(one, 2)), bool(reaches.width_us(three, 2))) == (None, True, True)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_remembered_pages_are_those_of_a_search_that_remembers_nothing(seed: int) -> None:
    """Events come, some of them late, and go; pages and cursors of all kinds are asked for meanwhile."""
    some = Random(seed)
    store, reaches, now_us = Store([], most=some.choice((0, 5, 40, 10**9))), Reaches(some.choice((1, 3, 100))), NOW
    for _ in range(60):
        now_us += some.choice((1, LEAST_US, FIRST_US, DAY_US))
        late_us = some.choice((1, FIRST_US, 20 * DAY_US))
        store.times = list({*store.times, *(now_us - some.randrange(late_us) for _ in range(some.choice((0, 1, 30))))})
        if some.random() < 0.1:
            store.times = [time for time in store.times if some.random() < 0.5]
        limit, end_us = some.choice((1, 3, 20)), now_us + some.choice((0, -DAY_US, DAY_US))
        after = (some.choice(store.times), "x") if store.times and some.random() < 0.4 else None
        start_us = some.choice((0, max(0, end_us - FIRST_US)))
        wanted = sorted(
            (time for time in store.times if start_us <= time <= end_us and (after is None or time < after[0])), reverse=True
        )
        filters = Filters(query=parse(some.choice(("one", "other", '"a phrase"')), 0) if some.random() < 0.7 else None)
        question = Search("t", start_us, end_us, filters, limit=limit, asked_us=now_us, after=after)
        found = asyncio.run(page(store.run, question, reaches))
        assert [event.time_us for event in found.events] == wanted[:limit]
        assert found.has_more is (len(wanted) > limit)
