"""Where to look first: windows of time that grow away from the front of a search's order. Pure.

What is asked for most, the newest events that match, lies in a window of minutes as a rule; finding it there costs the same
however much the tenant keeps. Where a window holds too few, the next one is as much wider as what it holds lets expect, so
that a search which has to see everything pays little for the windows before.
"""

from __future__ import annotations

import msgspec

from collector.search.query import Search

MINUTE_US = 60_000_000
FIRST_US = 15 * MINUTE_US
EMPTY_TIMES = 400
"""How many times as wide the window after one is that holds nothing: a quarter of an hour, four days, everything."""
LEAST_TIMES = 4
MARGIN = 2
"""Events do not come evenly."""
WHOLE_SHARE = 3
"""A window wider than this part of the whole is the whole."""


class Walk:
    """The search over ever wider windows, each with all of the one before; the last is the search itself.

    A newest-first search begins at the moment it is asked, or at its cursor: what lies beyond (events from clocks that are
    ahead) belongs to the first window, too.

    Args:
        width_us: of the first window, if it is known; then it is taken as it is.
    """

    def __init__(self, search: Search, width_us: int | None = None) -> None:
        self._search = search
        self._front_us = front_of(search)
        self._width_us = FIRST_US if width_us is None else width_us
        self.window = self._of_width(WHOLE_SHARE if width_us is None else 1)

    @property
    def is_whole(self) -> bool:
        return self.window is self._search

    def widen(self, found: int, wanted: int) -> None:
        """Go on to the next window.

        Args:
            found: candidates in this one.
            wanted: how many there have to be.
        """
        times = max(LEAST_TIMES, MARGIN * wanted // found) if found else EMPTY_TIMES
        self._width_us *= min(times, EMPTY_TIMES)
        self.window = self._of_width()

    def _of_width(self, share: int = WHOLE_SHARE) -> Search:
        search, front_us = self._search, self._front_us
        left_us = search.end_us - front_us if search.ascending else front_us - search.start_us
        if self._width_us * share >= left_us:
            return search
        if search.ascending:
            return msgspec.structs.replace(search, end_us=front_us + self._width_us)
        return msgspec.structs.replace(search, start_us=front_us - self._width_us)


def front_of(search: Search) -> int:
    """Where a search's order begins (µs)."""
    if search.after is not None:
        return search.after[0]
    if search.ascending:
        return search.start_us
    return min(search.end_us, search.asked_us or search.end_us)
