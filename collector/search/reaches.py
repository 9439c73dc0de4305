"""How far the answers of searches reached, so that the next one like it looks there at once.

A service that says little, an ID that stands in one event of a month, a tenant whose last event came yesterday: for each of
them a first look at the last quarter of an hour is one statement for nothing. What is remembered decides where a search looks
first, and nothing else: where it was wrong, the search goes on as without it.

- Searches are alike when they have the same tenant, filters, direction, and both or neither have a cursor. Of attributes the
  names count and not the values: of a request ID that is asked for, the next one has about as many events.
- Remembered per process, for the `MOST` searches that were asked last.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from collector.search.query import Search
from collector.search.walking import MARGIN, front_of

MOST = 10_000
LEAST_US = 1_000_000


class Reach(NamedTuple):
    events: int
    """That were found."""
    width_us: int
    """Between the front of the search and the last of them; where there were no more, and the end of the search."""
    last_us: int | None
    """A moment before the last of the newest: as long as none is deleted, so many are not older. None: not known."""


class Reaches:
    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._reaches: OrderedDict[bytes, Reach] = OrderedDict()

    def width_us(self, search: Search, wanted: int) -> int | None:
        """The width of a window that should hold ``wanted`` events. None: nothing is known."""
        reach = self._reaches.get(key := _key(search))
        if reach is None:
            return None
        self._reaches.move_to_end(key)
        width_us = MARGIN * reach.width_us * wanted // max(reach.events, 1)
        since_us = front_of(search) - reach.last_us if reach.last_us is not None and wanted <= reach.events + 1 else -1
        return max(LEAST_US, min(width_us, since_us) if since_us >= 0 else width_us)

    def note(self, search: Search, times_us: list[int], has_more: bool) -> None:
        """Remember an answer: the times of its events in order, and whether more follow."""
        front_us, events = front_of(search), search.offset + len(times_us)
        end_us = search.end_us if search.ascending else search.start_us
        last_us = None
        if has_more and times_us:
            end_us = times_us[-1]
            if not search.ascending and search.after is None and not search.offset:
                last_us = end_us - max(LEAST_US, (times_us[0] - end_us) // 4)
        key = _key(search)
        self._reaches[key] = Reach(events, max(LEAST_US, abs(front_us - end_us)), last_us)
        self._reaches.move_to_end(key)
        if len(self._reaches) > self._most:
            self._reaches.popitem(last=False)


def _key(search: Search) -> bytes:
    filters = search.filters
    alike = msgspec.structs.replace(
        filters, attributes=tuple((name, ()) for name, _ in filters.attributes), event_id="x" if filters.event_id else ""
    )
    text = repr((search.tenant_id, search.ascending, search.after is None, alike))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
