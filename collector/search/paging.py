"""How the page of a search is found: in one statement, where there is little to read; else by its candidates. No HTTP.

- A window of time (`collector.search.walking`; the first one may be remembered, `collector.search.reaches`) is read with FINAL
  at once, as long as the engine would read few rows for that, which it knows before it begins. A window that holds a page is
  the end of it: what comes first lies there. One that holds nothing is followed by all that was asked for.
- Where there is more to read, `_by_candidates` goes on: FINAL over all that a tenant keeps is slow, over a narrow span not.
- Whatever way a page is found, it is the same page.
"""

from __future__ import annotations

from typing import NamedTuple

from collector.errors import QueryTooExpensive
from collector.search import query
from collector.search.event import COLUMNS, Event, event_of
from collector.search.query import Search, Span
from collector.search.reaches import Reaches
from collector.search.reading import Run
from collector.search.walking import Walk

FIRST_CANDIDATES = 220
"""Copies and deleted events among the candidates make a page short; a little more than twice a page is mostly enough."""
WIDENING = 16
LEAST_WANTED = 50
"""Few events found say little about how many more a wider window holds."""


class Page(NamedTuple):
    events: list[Event]
    has_more: bool
    span: Span | None = None
    """What all events lie in that were not shown before, if it is known."""
    given_up: str = ""
    """Why more was not looked for. These events do come first; how many follow is not known."""


async def page(run: Run, search: Search, reaches: Reaches | None = None) -> Page:
    """The next events in the search's order.

    Args:
        reaches: remembers where answers were found.

    Raises:
        QueryTooExpensive: a bound was met before any event was known to come first. If some were, they are the page.
    """
    found = await _page(run, search, reaches)
    if reaches is not None and not found.given_up:
        reaches.note(search, [event.time_us for event in found.events], found.has_more)
    return found


async def _page(run: Run, search: Search, reaches: Reaches | None) -> Page:
    most = max(FIRST_CANDIDATES, FIRST_CANDIDATES * (search.offset + search.limit) // 100)
    least = search.offset + search.limit + 1
    remembered_us = reaches.width_us(search, least) if reaches is not None else None
    walk = Walk(search, remembered_us)
    window, nearest = walk.window, Page([], False)
    while not search.offset:  # how many lie before it would not be known
        found = await _at_once(run, window)
        if found is None and remembered_us is None:
            break
        if found is None:
            walk = Walk(search)
            window = walk.window
        elif found.has_more or window is search:
            return found
        else:
            nearest = found
            walk.widen(len(found.events), max(least, LEAST_WANTED))
            window = walk.window if found.events else search
        remembered_us = None
    return await _by_candidates(run, search, walk, most, nearest)


async def _at_once(run: Run, search: Search) -> Page | None:
    """What one window has of a page; None: there is too much to read."""
    try:
        rows = await run(query.whole_of(search, COLUMNS))
    except QueryTooExpensive:
        return None
    return Page([event_of(row) for row in rows[: search.limit]], len(rows) > search.limit)


async def _by_candidates(run: Run, search: Search, walk: Walk, most: int, nearest: Page) -> Page:
    """From a window on. ``nearest``: what is known to come first."""
    least = search.offset + search.limit + 1
    seen: Search | None = None
    try:
        while not walk.is_whole:
            found, candidates = await _page_in(run, walk.window, most, at_least=least)
            if found.has_more:
                return found._replace(span=None)
            seen = walk.window if candidates else seen
            walk.widen(candidates, most)
        return (await _page_in(run, search, most))[0]
    except QueryTooExpensive as error:
        nearest = (await _page_in(run, seen, most))[0] if seen else nearest
        if not nearest.events:
            raise
        return nearest._replace(has_more=True, span=None, given_up=error.message)


async def _page_in(run: Run, search: Search, most: int, at_least: int = 0) -> tuple[Page, int]:
    """What one window has of a page, from ``most`` candidates on, and from more where they turn out to be copies.

    Events are not read where there are fewer candidates than ``at_least``.

    Returns:
        The page, and how many candidates there were, ``most`` at most.
    """
    while True:
        span = Span(*(await run(query.span_of(search, most)))[0])
        whole = span.rows < most
        span = span.known_whole(whole)
        if not span.rows or span.rows < at_least:
            return Page([], False, span), span.rows
        rows = await run(query.page_of(search, COLUMNS, span))
        there = rows[0][-1] if rows else 0
        events = [event_of(row[:-1]) for row in rows[: search.limit]]
        has_more = there > len(events)
        if whole or there > search.limit:
            return Page(events, has_more, span if whole else None), span.rows
        most *= WIDENING
