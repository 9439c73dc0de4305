"""Where to look first: windows of time that grow away from the front of a search's order. Pure.

What is asked for most, the newest events that match, lies in a window of minutes as a rule; finding it there costs the same
however much the tenant keeps. Where a window holds too few, the next one is many times as wide, so that a search which has
to see everything pays little for the windows before.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from collector.search.query import Search

MINUTE_US = 60_000_000
STEPS_US = (15 * MINUTE_US, 6 * 60 * MINUTE_US, 4 * 24 * 60 * MINUTE_US)
"""Widths of the windows before the whole: each is read in about the time that the one before and a round trip take."""


def windows(search: Search) -> Iterator[Search]:
    """The search over ever wider windows, each with all of the one before; the last is the search itself.

    A newest-first search begins at the moment it is asked, or at its cursor: what lies beyond (events from clocks that are
    ahead) belongs to the first window, too.
    """
    front_us = _front(search)
    for step_us in STEPS_US:
        start_us, end_us = search.start_us, search.end_us
        if search.ascending:
            end_us = min(end_us, front_us + step_us)
        else:
            start_us = max(start_us, front_us - step_us)
        if (start_us, end_us) == (search.start_us, search.end_us):
            break
        yield msgspec.structs.replace(search, start_us=start_us, end_us=end_us)
    yield search


def _front(search: Search) -> int:
    if search.after is not None:
        return search.after[0]
    if search.ascending:
        return search.start_us
    return min(search.end_us, search.asked_us or search.end_us)
