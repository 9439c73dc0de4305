"""How far the answers of searches reached, so that the next one like it looks there at once.

A service that says little, an ID that stands in one event of a month, a tenant whose last event came yesterday: for each of
them a first look at the last quarter of an hour is one statement for nothing. What is remembered decides where a search looks
first, and nothing else: where it was wrong, the search goes on as without it.

- Searches are alike when they have the same tenant, filters, direction, and both or neither have a cursor. Of attributes the
  names count and not the values: of a request ID that is asked for, the next one has about as many events.
- Of a query that was not asked before, one that is built like it will do, if that found a page: a phrase or a pattern has to be
  looked for in every text of a window, and a window that is too narrow costs a second look.
- Remembered per process, for the `MOST` searches that were asked last.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

import msgspec

from collector.search.language.tree import And, Node, Not, Or
from collector.search.query import Search
from collector.search.walking import front_of

MOST = 10_000
LEAST_US = 1_000_000
MARGIN = 1.5
"""Events do not come evenly; a page of them more so than a few."""


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
        reach = self._recalled(_key(search))
        if reach is None and search.filters.query is not None:
            reach = self._recalled(_key(search, _built(search.filters.query)))
        if reach is None:
            return None
        width_us = int(MARGIN * reach.width_us * wanted / max(reach.events, 1))
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
        reach = Reach(events, max(LEAST_US, abs(front_us - end_us)), last_us)
        if has_more and search.filters.query is not None:
            self._remember(_key(search, _built(search.filters.query)), reach._replace(last_us=None))
        self._remember(_key(search), reach)

    def _recalled(self, key: bytes) -> Reach | None:
        if key in self._reaches:
            self._reaches.move_to_end(key)
        return self._reaches.get(key)

    def _remember(self, key: bytes, reach: Reach) -> None:
        self._reaches[key] = reach
        self._reaches.move_to_end(key)
        if len(self._reaches) > self._most:
            self._reaches.popitem(last=False)


def _built(node: Node) -> tuple[Any, ...]:
    """What a query asks, without the texts and numbers in it."""
    match node:
        case And(nodes) | Or(nodes):
            return (type(node).__name__, *map(_built, nodes))
        case Not(inner):
            return ("Not", _built(inner))
        case _:
            return (type(node).__name__, getattr(node, "field", None))


def _key(search: Search, built: tuple[Any, ...] = ()) -> bytes:
    """``built``: in the place of the query."""
    filters = search.filters
    if built:
        filters = msgspec.structs.replace(filters, query=None)
    alike = msgspec.structs.replace(
        filters, attributes=tuple((name, ()) for name, _ in filters.attributes), event_id="x" if filters.event_id else ""
    )
    text = repr((search.tenant_id, search.ascending, search.after is None, alike, built))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
