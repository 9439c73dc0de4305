"""A whole result in pages: how an export goes through time without ever asking for more than a page.

- Each step looks at a window that begins where the last page ended. The window grows while little is in it, so that a gap of
  months costs a few queries, and shrinks to what a page covers, so that no query reads much more than it shows.
- In a window the two steps of a search are made: where the nearest candidates lie (without FINAL), and what is there (with).
  So every event is there once, in a total order, and the next step begins behind the last event, or behind the window.
- A window that is too dear for the engine (a rare word in much data) is tried again as a narrower one.

What is committed while the walk goes on is found if it lies ahead of it. Pure but for the queries, which are handed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from collector.errors import QueryTooExpensive
from collector.search import query
from collector.search.query import Search, Span, Statement

PAGE_ROWS = 4_000
CANDIDATES = PAGE_ROWS + PAGE_ROWS // 10
"""Copies and deleted events among them make a page short."""
PAGE_BYTES = 4 << 20
"""A page ends early beyond this; as rows of Python it is some five times as large."""
FIRST_US = 600_000_000
LEAST_US = 1_000_000
GROWTH = 8

Rows = list[tuple[Any, ...]]
Ask = Callable[[Statement], Awaitable[Rows]]


class Walk:
    """Goes through the result of ``search`` in its order, from behind ``search.after`` on.

    Args:
        columns: what to select, the names ``timestamp`` (µs) and ``external_id`` among them.
        oldest_us: until when events are kept, asked before each step.
    """

    def __init__(
        self,
        search: Search,
        columns: Mapping[str, str],
        oldest_us: Callable[[], int],
        *,
        rows: int = PAGE_ROWS,
        first_us: int = FIRST_US,
    ) -> None:
        self._search = search
        self._columns = columns
        self._names = list(columns)
        self._oldest_us = oldest_us
        self._rows = rows
        self._candidates = rows + rows // 10
        self._after = search.after
        self._low, self._high = search.start_us, search.end_us
        """What is left, both ends included."""
        self._width = first_us
        if self._after:
            self._pass_to(self._after[0])

    async def pages(self, ask: Ask) -> AsyncIterator[Rows]:
        """Pages of rows of the columns, none of them empty. Raises what ``ask`` raises."""
        while True:
            self._low = max(self._low, self._oldest_us())
            if self._low > self._high:
                return
            try:
                rows = await self._step(ask)
            except QueryTooExpensive:
                if self._width <= LEAST_US:
                    raise
                self._width = max(LEAST_US, self._width // GROWTH)
                continue
            if rows:
                yield rows

    async def _step(self, ask: Ask) -> Rows:
        window = self._window()
        span = Span(*(await ask(query.span_of(window, self._candidates)))[0])
        if not span.rows:
            self._pass(window.start_us, window.end_us)
            self._width *= GROWTH
            return []
        whole = span.rows < self._candidates
        found = await ask(query.page_of(window, self._columns, span.known_whole(whole), PAGE_BYTES))
        rows = [row[:-1] for row in found[: self._rows]]
        began_us = window.start_us if window.ascending else window.end_us
        if rows and found[0][-1] > len(rows):
            last = dict(zip(self._names, rows[-1], strict=True))
            self._after = (last["timestamp"], last["external_id"])
            self._pass_to(last["timestamp"])
            self._width = max(LEAST_US, 2 * abs(last["timestamp"] - began_us))
        elif whole:
            self._pass(window.start_us, window.end_us)
            self._width *= 2 if span.rows < self._candidates // 2 else 1
        else:
            self._pass(span.first_us, span.last_us)
            self._width = max(LEAST_US, 2 * (span.last_us - span.first_us))
        return rows

    def _window(self) -> Search:
        low, high = self._low, self._high
        if self._search.ascending:
            high = min(high, low + self._width)
        else:
            low = max(low, high - self._width)
        return msgspec.structs.replace(self._search, start_us=low, end_us=high, after=self._after, limit=self._rows, offset=0)

    def _pass(self, first_us: int, last_us: int) -> None:
        """All between these is done, both included."""
        self._after = None
        self._pass_to(last_us + 1 if self._search.ascending else first_us - 1)

    def _pass_to(self, time_us: int) -> None:
        if self._search.ascending:
            self._low = max(self._low, time_us)
        else:
            self._high = min(self._high, time_us)
