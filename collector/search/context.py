"""GET events/context/{event_id}: what stands before and after an event, in its file, or else in time.

- A line of a file: its neighbours there. IDs of a file sort in the order of its bytes, so they are a range of keys beside the
  event's own, however large the file is.
- Any other event: those of the same service, by time. The answer says which it was (``by``).
- Shown is what a search shows: each event once, within the retention. Before and after are bounded in number and in bytes; a
  cursor goes on where they end, in either direction.
- Lines that begin within a file's first 4096 bytes have another file ID than the others. Across that border the lines are
  found by path, agent and time, and ``exact`` is false: of two files that had one path in the same moment it may be the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from agent import wire
from collector.errors import NotFound, shown
from collector.search import cursors, neighbours, paging, query
from collector.search.event import COLUMNS, event_of
from collector.search.filters import Filters
from collector.search.neighbours import AFTER, BEFORE, Direction, Place, Side, Start
from collector.search.parameters import Parameters
from collector.search.query import Microseconds, Search
from collector.search.reading import Run, json_of, reader_of, running

PARAMETERS = ("before", "after", "cursor")
DEFAULT_LINES = 10
MAX_LINES = 500


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    version: int
    direction: Direction
    time_us: Microseconds
    external_id: str
    """The last event shown in that direction."""
    exact: bool
    check: bytes


class Context(NamedTuple):
    """A checked question."""

    before: int
    after: int
    cursor: Cursor | None


_decode_cursor = msgspec.msgpack.Decoder(Cursor).decode


async def get_context(request: web.Request) -> web.Response:
    """A `ContextAnswer`, or 404 as for the event itself."""
    began = time.monotonic()
    tenant = await reader_of(request, reads_query=True)
    event_id = request.match_info["event_id"]
    asked = context_of(request.query.items(), tenant.tenant_id, event_id)
    async with running(request, tenant, "context") as run:
        answer = await answer_of(
            run, tenant.tenant_id, event_id, asked, retention_days=tenant.limits.retention_days, now_us=time.time_ns() // 1000
        )
    return json_of({**answer, "execution_time_ms": round((time.monotonic() - began) * 1000, 3)})


def context_of(pairs: Iterable[tuple[str, str]], tenant_id: str, event_id: str) -> Context:
    """Raises Invalid."""
    given = Parameters(pairs, known=PARAMETERS)
    before, after = (given.number(name, 0, MAX_LINES, DEFAULT_LINES, "go on by cursor") for name in (BEFORE, AFTER))
    cursor = _cursor(given, _check(tenant_id, event_id))
    if cursor:
        other = AFTER if cursor.direction == BEFORE else BEFORE
        if other in given.values:
            given.fault(other, f"is given beside a cursor of {cursor.direction}_cursor", given.get(other), "leave it out")
        before, after = (before, 0) if cursor.direction == BEFORE else (0, after)
    given.check()
    return Context(before, after, cursor)


async def answer_of(
    run: Run, tenant_id: str, event_id: str, asked: Context, *, retention_days: int, now_us: int
) -> dict[str, Any]:
    """A `ContextAnswer` without its time. Raises NotFound."""
    kept = query.kept(retention_days, now_us)
    by_file = wire.EVENT_ID.fullmatch(event_id) is not None
    near: dict[Direction, Side] = {}
    if by_file and asked.cursor is None:
        event, near = await neighbours.near(run, tenant_id, kept, event_id, {BEFORE: asked.before, AFTER: asked.after})
    else:
        statement = query.event_of_id(tenant_id, event_id, COLUMNS, retention_days=retention_days, now_us=now_us)
        event = next((event_of(row) for row in await run(statement)), None)
    if event is None:
        raise NotFound(f"there is no event {shown(event_id)!r}; it may have been deleted, or be older than what is kept")
    return await _around(run, Place(tenant_id, kept, now_us, event), asked, near, by_file)


async def _around(run: Run, place: Place, asked: Context, near: Mapping[Direction, Side], by_file: bool) -> dict[str, Any]:
    """``near``: sides that are known already."""
    sides: dict[str, Side] = {}
    ends: dict[str, str | None] = {}
    wanted: dict[Direction, int] = {BEFORE: asked.before, AFTER: asked.after}
    for direction, lines in wanted.items():
        cursor, ascending = asked.cursor, direction == AFTER
        side, start = Side(), Start(place.event.time_us, place.event.external_id)
        if cursor is None or cursor.direction == direction:
            start = Start(cursor.time_us, cursor.external_id) if cursor else start
            if by_file:
                side = await neighbours.in_file(run, place, start, lines, ascending=ascending, known=near.get(direction))
            else:
                side = await _in_time(run, place, start, lines, ascending=ascending)
            side = side._replace(exact=side.exact and (cursor is None or cursor.exact))
        sides[direction] = side
        ends[direction] = _cursor_of(direction, side, start, _check(place.tenant_id, place.event.external_id))
    return {
        "by": "file" if by_file else "time",
        "exact": all(side.exact for side in sides.values()),
        "before": [event.shown for event in reversed(sides[BEFORE].events)],
        "event": place.event.shown,
        "after": [event.shown for event in sides[AFTER].events],
        **{f"{direction}_cursor": end for direction, end in ends.items()},
    }


async def _in_time(run: Run, place: Place, start: Start, lines: int, *, ascending: bool) -> Side:
    """Events of the same service."""
    service = place.event.shown["source"]["service"]
    found = await paging.page(
        run,
        Search(
            place.tenant_id,
            *place.kept,
            Filters(columns=(("service", (service,)),)),
            limit=max(lines, 1),
            ascending=ascending,
            after=start,
            asked_us=place.now_us,
        ),
    )
    return Side(found.events[:lines], found.has_more or len(found.events) > lines)


def _check(tenant_id: str, event_id: str) -> bytes:
    """Binds a cursor to the tenant and the event."""
    return cursors.check_of(tenant_id, event_id)


def _cursor_of(direction: Direction, side: Side, start: Start, check: bytes) -> str | None:
    if not side.has_more:
        return None
    last = Start(side.events[-1].time_us, side.events[-1].external_id) if side.events else start
    return cursors.written(Cursor(cursors.VERSION, direction, *last, side.exact, check))


def _cursor(given: Parameters, check: bytes) -> Cursor | None:
    return cursors.given_in(
        given,
        _decode_cursor,
        check,
        mend="use before_cursor or after_cursor of the answer before, whole",
        other="event",
        other_mend="use it with the event whose context it came with",
    )
