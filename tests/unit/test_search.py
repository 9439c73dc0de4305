import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from collector.errors import QueryTooExpensive, TooManyQueries
from collector.search import event
from collector.search.event import Event
from collector.search.paging import FIRST_CANDIDATES, Page, page
from collector.search.query import (
    COUNT_ROWS,
    COUNT_TIMEOUT_S,
    MAX_SPAN_IDS,
    PAGE_BYTES,
    WHOLE_ROWS,
    Search,
    Statement,
)
from collector.search.search import total_of, wants_lines
from collector.search.turnstile import Turnstile

FILE_ID = "0123456789abcdef-0000000000ff-89abcdef"


def row(time_us: int, external_id: str, **values: Any) -> tuple[Any, ...]:
    return tuple(
        {"timestamp": time_us, "observed_timestamp": time_us, "external_id": external_id, **values}.get(name, "")
        for name in event._NAMES
    )


class Store:
    """Stored copies of events: ``times`` with FINAL, each ``copies`` times without.

    ``few``: a window with so many copies is read at once.
    """

    def __init__(self, times: list[int], copies: int = 1, *, ascending: bool = False, few: int = -1) -> None:
        self.times = sorted(times, reverse=not ascending)
        self.copies = copies
        self.ascending = ascending
        self.few = few
        self.shown = 10**6
        self.statements: list[Statement] = []
        self.refused: list[Statement] = []

    async def run(self, statement: Statement) -> list[tuple[Any, ...]]:
        params = statement.params
        within = [time for time in self.times if params["start"] <= time <= params["end"] and self._follows(time, params)]
        if at_once := statement.max_bytes is not None:
            in_all = [time for time in self.times if params["start"] <= time <= params["end"]]
            if len(in_all) * self.copies > self.few:
                self.refused.append(statement)
                raise QueryTooExpensive("too many rows")
        self.statements.append(statement)
        if at_once:
            return [row(time, f"id-{time}") for time in within[params["offset"] :][: params["rows"]]]
        if "FINAL" in statement.sql:
            there = within[params["offset"] :][: params["rows"]]
            return [(*row(time, f"id-{time}"), len(there)) for time in there[: self.shown]]
        copies = [time for time in within for _ in range(self.copies)][: params["most"]]
        ids = [f"id-{time}" for time in copies][:MAX_SPAN_IDS]
        return [(min(copies, default=0), max(copies, default=0), len(copies), ids)]

    def _follows(self, time: int, params: dict[str, Any]) -> bool:
        if "after" not in params:
            return True
        return bool(time > params["after"] if self.ascending else time < params["after"])


def shown_at(times: Iterable[int]) -> list[Event]:
    return [event.event_of(row(time, f"id-{time}")) for time in times]


def found(store: Store, limit: int = 10, offset: int = 0, end_us: int = 10**8, **more: Any) -> tuple[list[int], bool]:
    """``end_us``: within the first window that is looked at, if nothing else is said."""
    page_ = asyncio.run(page(store.run, Search("t", 0, end_us, limit=limit, offset=offset, **more)))
    return [found.time_us for found in page_.events], page_.has_more


def test_nothing_stored_is_one_question() -> None:
    store = Store([])
    assert found(store) == ([], False)
    assert len(store.statements) == 1


@pytest.mark.parametrize("number", [1, 9, 10])
def test_fewer_than_a_page_are_all_of_them(number: int) -> None:
    assert found(Store(list(range(1, number + 1)))) == (list(range(number, 0, -1)), False)


def test_a_full_page_says_that_more_follow() -> None:
    assert found(Store(list(range(1, 12)))) == (list(range(11, 1, -1)), True)


def test_final_reads_the_span_of_the_nearest_candidates_only() -> None:
    store = Store(list(range(1, 5001)))
    assert found(store)[1]
    assert len(store.statements) == 2
    assert store.statements[1].params["start"] == 5001 - FIRST_CANDIDATES


def test_few_candidates_are_read_by_their_ids() -> None:
    store = Store([5, 6, 7])
    assert found(store) == ([7, 6, 5], False)
    assert store.statements[1].params["ids"] == ["id-7", "id-6", "id-5"]


@pytest.mark.parametrize("number", [FIRST_CANDIDATES, MAX_SPAN_IDS + 1])
def test_candidates_that_may_not_be_all_are_not_read_by_their_ids(number: int) -> None:
    store = Store(list(range(number)))
    found(store)
    assert "ids" not in store.statements[-1].params


def test_many_copies_widen_the_span_until_the_page_is_full() -> None:
    store = Store(list(range(1, 101)), copies=100)
    assert found(store) == (list(range(100, 90, -1)), True)
    assert len(store.statements) == 4


def test_many_copies_of_few_events_end_when_all_were_seen() -> None:
    assert found(Store([5, 6, 7], copies=1000)) == ([7, 6, 5], False)


def test_an_offset_passes_over_events_and_not_over_copies() -> None:
    store = Store(list(range(1, 101)), copies=100)
    assert found(store, offset=85) == (list(range(15, 5, -1)), True)
    assert found(store, offset=95) == ([5, 4, 3, 2, 1], False)
    assert found(store, offset=100) == ([], False)


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        ("application/x-ndjson", True),
        ("Application/NDJSON; q=0.9, */*", True),
        ("application/json, application/x-ndjson", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_ndjson_is_answered_to_who_asks_for_it_first(accept: str, lines: bool) -> None:
    assert wants_lines(accept) is lines


def test_a_count_that_takes_too_long_becomes_a_lower_bound() -> None:
    async def run(statement: Statement) -> list[tuple[Any, ...]]:
        assert (statement.timeout_s, statement.max_rows) == (COUNT_TIMEOUT_S, COUNT_ROWS)
        raise QueryTooExpensive("given up")

    shown = Page(shown_at(range(10)), has_more=True)
    assert asyncio.run(total_of(run, Search("t", 0, 1, offset=20), shown)) == (31, False)


def test_a_count_that_was_asked_to_be_exact_is_exact_or_a_refusal() -> None:
    async def run(statement: Statement) -> list[tuple[Any, ...]]:
        assert (statement.timeout_s, statement.max_rows) == (None, None)
        raise QueryTooExpensive("given up")

    with pytest.raises(QueryTooExpensive):
        asyncio.run(total_of(run, Search("t", 0, 1, count="exact"), Page(shown_at([1]), has_more=True)))


def test_no_count_is_made_for_who_wants_none() -> None:
    asked = Search("t", 0, 1, count="none")
    assert asyncio.run(total_of(Store([]).run, asked, Page(shown_at([1, 2]), has_more=True))) == (3, False)


DAY_US = 86_400_000_000


def test_the_newest_events_are_found_without_a_look_at_the_rest() -> None:
    """Of a month in which an event comes every minute, the newest ten lie in the last quarter of an hour."""
    minutes = list(range(0, 30 * DAY_US, 60_000_000))
    store = Store(minutes)
    assert found(store, end_us=30 * DAY_US) == (minutes[:-11:-1], True)
    assert [statement.params["start"] for statement in store.statements] == [30 * DAY_US - 15 * 60_000_000, minutes[-15]]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("every_us", [60_000_000, 3_600_000_000, 5 * DAY_US])
@pytest.mark.parametrize("few", [-1, 50, 10**9])
def test_windows_change_nothing_about_what_is_found(every_us: int, copies: int, ascending: bool, few: int) -> None:
    times = list(range(0, 30 * DAY_US, every_us))
    store = Store(times, copies, ascending=ascending, few=few)
    wanted = times if ascending else times[::-1]
    for limit in (1, 5, 6, 7, 24, 200):
        assert found(store, limit, end_us=30 * DAY_US, ascending=ascending) == (wanted[:limit], len(times) > limit)
    after = wanted[len(wanted) // 2]
    rest = wanted[len(wanted) // 2 + 1 :]
    assert found(store, 3, end_us=30 * DAY_US, ascending=ascending, after=(after, "")) == (rest[:3], len(rest) > 3)


def test_the_front_of_what_is_asked_for_is_now_and_not_the_end_of_tomorrow() -> None:
    store = Store(list(range(0, DAY_US, 10**7)))
    assert found(store, end_us=3 * DAY_US, asked_us=DAY_US)[1]
    assert store.statements[0].params["start"] == DAY_US - 900_000_000
    assert len(store.statements) == 2


def test_a_window_that_holds_too_few_is_followed_by_one_that_should_hold_enough() -> None:
    hours = list(range(0, 30 * DAY_US, DAY_US // 24))
    store = Store(hours)
    assert found(store, limit=2, end_us=30 * DAY_US) == (hours[:-3:-1], True)
    assert [30 * DAY_US - statement.params["start"] for statement in store.statements[:2]] == [900_000_000, 400 * 900_000_000]
    assert len(store.statements) == 3  # with the page itself
    quarters = list(range(0, 30 * DAY_US, DAY_US // 96))
    store = Store(quarters)
    assert found(store, limit=100, end_us=30 * DAY_US)[1]
    assert [statement.params["most"] for statement in store.statements[:2]] == [FIRST_CANDIDATES] * 2
    assert len(store.statements) == 3


def test_a_page_is_one_statement_where_there_is_little_to_read() -> None:
    store = Store(list(range(0, 30 * DAY_US, 60_000_000)), few=20)
    assert found(store, limit=10, end_us=30 * DAY_US)[1]
    (statement,) = store.statements
    assert statement.params["start"] == 30 * DAY_US - 15 * 60_000_000
    assert (statement.max_rows, statement.max_bytes) == (WHOLE_ROWS, PAGE_BYTES)


def test_a_window_that_holds_nothing_is_followed_by_everything_where_that_is_little_to_read() -> None:
    store = Store([5, 6, 7], few=3)
    assert found(store, end_us=30 * DAY_US) == ([7, 6, 5], False)
    assert [statement.params["start"] for statement in store.statements] == [30 * DAY_US - 900_000_000, 0]


def test_where_there_is_much_to_read_its_candidates_are_looked_for_from_that_window_on() -> None:
    store = Store(list(range(0, 30 * DAY_US, DAY_US)), few=1)
    assert found(store, limit=2, end_us=30 * DAY_US) == ([29 * DAY_US, 28 * DAY_US], True)
    assert [statement.params["start"] for statement in store.refused] == [0]
    looked, widened, page_ = (statement.params["start"] for statement in store.statements)
    assert (looked, widened) == (30 * DAY_US - 900_000_000, 30 * DAY_US - 400 * 900_000_000)
    assert page_ >= widened


def test_with_an_offset_nothing_is_read_at_once() -> None:
    store = Store(list(range(100)), few=100)
    assert found(store, offset=20) == (list(range(79, 69, -1)), True)
    assert [statement.max_bytes for statement in (*store.statements, *store.refused)] == [None, None]


def test_the_page_after_a_cursor_is_looked_for_from_there_on() -> None:
    store = Store(list(range(0, 30 * DAY_US, 60_000_000)))
    assert found(store, end_us=30 * DAY_US, after=(10 * DAY_US, ""))[1]
    assert store.statements[0].params["start"] == 10 * DAY_US - 900_000_000


@pytest.mark.parametrize("few", [-1, 5])
def test_what_is_known_to_come_first_is_shown_when_the_rest_is_too_dear(few: int) -> None:
    store = Store([30 * DAY_US - 1, 30 * DAY_US - 2, 5])

    async def run(statement: Statement) -> list[tuple[Any, ...]]:
        if statement.params["start"] < 20 * DAY_US:
            raise QueryTooExpensive("given up at a bound")
        return await store.run(statement)

    store.few = few
    got = asyncio.run(page(run, Search("t", 0, 30 * DAY_US)))
    assert ([event.time_us for event in got.events], got.has_more) == ([30 * DAY_US - 1, 30 * DAY_US - 2], True)
    assert got.given_up == "given up at a bound"


def test_what_is_too_dear_before_anything_is_known_is_refused() -> None:
    async def run(statement: Statement) -> list[tuple[Any, ...]]:
        if statement.params["start"] == 0:
            raise QueryTooExpensive("given up")
        return await Store([]).run(statement)

    with pytest.raises(QueryTooExpensive):
        asyncio.run(page(run, Search("t", 0, 30 * DAY_US)))


def test_an_event_shows_the_offset_in_its_id() -> None:
    shown = event.event_of(row(0, FILE_ID, attributes={}, tags=[])).shown
    assert (shown["id"], shown["event_id"], shown["external_id"]) == (FILE_ID, FILE_ID, FILE_ID)
    assert shown["offset"] == 255
    assert shown["timestamp"] == "1970-01-01T00:00:00.000000Z"


def test_an_id_of_an_api_client_has_no_offset() -> None:
    assert event.offset_of("order-0000000000ff-1") is None


def test_what_an_event_did_not_say_is_left_out() -> None:
    shown = event.event_of(
        row(
            0,
            "x",
            user_id="u",
            status_code=0,
            request_size_bytes=0,
            zero_metrics=["request_size_bytes"],
            tags=[],
            payload='{"a":1}',
            metadata="{x",
        )
    ).shown
    assert shown["context"] == {"user_id": "u"}
    assert shown["metrics"] == {"request_size_bytes": 0}
    assert msgspec.json.decode(msgspec.json.encode([shown["payload"], shown["metadata"]])) == [{"a": 1}, "{x"]


def test_every_column_that_is_read_exists_in_the_table() -> None:
    from collector.store.schema import EVENT_COLUMNS

    assert set(event._NAMES) <= set(EVENT_COLUMNS)


def test_a_page_that_was_ended_early_says_that_more_follow() -> None:
    store = Store([1, 2, 3])
    store.shown = 2
    assert found(store) == ([3, 2], True)


def test_a_tenant_has_as_many_queries_as_it_may_and_others_do_not_notice() -> None:
    async def run() -> None:
        gate = Turnstile(5, 10.0)
        async with gate.passing("a", 1):
            with pytest.raises(TooManyQueries, match="1 queries of this tenant are under way"):
                async with gate.passing("a", 1):
                    pass
            async with gate.passing("b", 1):
                pass
        async with gate.passing("a", 1):
            pass

    asyncio.run(run())


def test_who_finds_no_place_waits_for_one_and_not_for_ever() -> None:
    async def run() -> None:
        gate = Turnstile(1, 0.01)
        async with gate.passing("a", 1):
            with pytest.raises(TooManyQueries, match="the queries of others took all places"):
                async with gate.passing("b", 1):
                    pass
        async with gate.passing("b", 1):
            pass

    asyncio.run(run())
