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
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from aiohttp import web

from agent import wire
from collector.errors import NotFound, shown
from collector.search import cursors, paging, query
from collector.search.event import COLUMNS, Event, event_of, offset_of
from collector.search.filters import Filters
from collector.search.parameters import Parameters
from collector.search.query import Microseconds, Search, Statement
from collector.search.reading import Run, json_of, reader_of, running

PARAMETERS = ("before", "after", "cursor")
DEFAULT_LINES = 10
MAX_LINES = 500
SIDE_BYTES = 8 << 20
"""Of the events on one side; beyond it the side ends early, and its cursor goes on."""
FIRST_CANDIDATES = 64
WIDENING = 16
HEAD_BYTES = 4096
"""A line that begins below is named after the file's first line, any other after so many bytes."""

Direction: TypeAlias = Literal["before", "after"]
BEFORE: Final = "before"
AFTER: Final = "after"
_FILE_ID_CHARS = 16
_IS_LINE = "match(external_id, '^[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}$')"
_OFFSET = f"substring(external_id, {_FILE_ID_CHARS + 2}, {wire.OFFSET_DIGITS})"
_KEPT = (
    "timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
    "AND timestamp <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
)
_BORDER = f"{HEAD_BYTES:0{wire.OFFSET_DIGITS}x}"


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


class Side(NamedTuple):
    """What lies in one direction, the nearest first."""

    events: list[Event] = []
    has_more: bool = False
    exact: bool = True


class Start(NamedTuple):
    """From where on it is looked for: an event's time and ID."""

    time_us: int
    external_id: str


class Place(NamedTuple):
    """Where the neighbours of an event are looked for."""

    tenant_id: str
    kept: tuple[int, int]
    now_us: int
    event: Event


_decode_cursor = msgspec.msgpack.Decoder(Cursor).decode


async def get_context(request: web.Request) -> web.Response:
    """A `ContextAnswer`, or 404 as for the event itself."""
    began = time.monotonic()
    tenant = await reader_of(request, reads_query=True)
    event_id = request.match_info["event_id"]
    asked = context_of(request.query.items(), tenant.tenant_id, event_id)
    now_us, days = time.time_ns() // 1000, tenant.limits.retention_days
    async with running(request, tenant, "context") as run:
        found = await run(query.event_of_id(tenant.tenant_id, event_id, COLUMNS, retention_days=days, now_us=now_us))
        if not found:
            raise NotFound(f"there is no event {shown(event_id)!r}; it may have been deleted, or be older than what is kept")
        place = Place(tenant.tenant_id, query.kept(days, now_us), now_us, event_of(found[0]))
        answer = await around(run, place, asked)
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


async def around(run: Run, place: Place, asked: Context) -> dict[str, Any]:
    """A `ContextAnswer` without its time."""
    by_file = wire.EVENT_ID.fullmatch(place.event.external_id) is not None
    sides: dict[str, Side] = {}
    cursors: dict[str, str | None] = {}
    wanted: tuple[tuple[Direction, int], ...] = ((BEFORE, asked.before), (AFTER, asked.after))
    for direction, lines in wanted:
        cursor = asked.cursor
        side, start = Side(), Start(place.event.time_us, place.event.external_id)
        if cursor is None or cursor.direction == direction:
            start = Start(cursor.time_us, cursor.external_id) if cursor else start
            side = await (_in_file if by_file else _in_time)(run, place, start, lines, ascending=direction == AFTER)
            side = side._replace(exact=side.exact and (cursor is None or cursor.exact))
        sides[direction], cursors[direction] = (
            side,
            _cursor_of(direction, side, start, _check(place.tenant_id, place.event.external_id)),
        )
    return {
        "by": "file" if by_file else "time",
        "exact": all(side.exact for side in sides.values()),
        "before": [event.shown for event in reversed(sides[BEFORE].events)],
        "event": place.event.shown,
        "after": [event.shown for event in sides[AFTER].events],
        **{f"{direction}_cursor": cursor for direction, cursor in cursors.items()},
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


async def _in_file(run: Run, place: Place, start: Start, lines: int, *, ascending: bool) -> Side:
    """Lines of the same file, and across the border where that has no more."""
    side = await _of_file(run, place, start.external_id, lines, ascending)
    in_head = (offset_of(start.external_id) or 0) < HEAD_BYTES
    if side.has_more or in_head != ascending:
        return side
    last = Start(side.events[-1].time_us, side.events[-1].external_id) if side.events else start
    beyond = await (_tail_of(run, place, last) if ascending else _head_of(run, place, last))
    if beyond is None:
        return side
    rest = await _of_file(run, place, beyond, lines - len(side.events), ascending)
    if not (rest.events or rest.has_more):
        return side
    return Side([*side.events, *rest.events], rest.has_more, exact=False)


async def _of_file(run: Run, place: Place, external_id: str, lines: int, ascending: bool) -> Side:
    """The lines of this ID's file beside the place that the ID names, which need not be one of an event."""
    most = max(FIRST_CANDIDATES, 2 * lines)
    while True:
        ((reach, rows),) = await run(_reach_of(place, external_id, most, ascending))
        if not rows:
            return Side()
        found = await run(_lines_of(place, external_id, reach, lines, ascending))
        there = found[0][-1] if found else 0
        if there > lines or rows < most:
            events = [event_of(row[:-1]) for row in found[:lines]]
            return Side(events, there > len(events))
        most *= WIDENING


def _range(external_id: str, ascending: bool) -> str:
    """Of keys on one side of an ID, of its file."""
    return (
        "external_id > {from:String} AND external_id < {end:String}"
        if ascending
        else ("external_id < {from:String} AND external_id > {end:String}")
    )


def _range_params(place: Place, external_id: str, ascending: bool) -> dict[str, Any]:
    file_id = external_id[:_FILE_ID_CHARS]
    return {"tenant": place.tenant_id, "from": external_id, "end": f"{file_id}-g" if ascending else f"{file_id}-"}


def _reach_of(place: Place, external_id: str, most: int, ascending: bool) -> Statement:
    """How far so many candidates reach, and how many there are: read in the order of keys, without FINAL."""
    direction, furthest = ("ASC", "max") if ascending else ("DESC", "min")
    return Statement(
        f"SELECT {furthest}(external_id), count() FROM (SELECT external_id FROM events "
        f"WHERE tenant_id = {{tenant:String}} AND {_range(external_id, ascending)} "
        f"ORDER BY tenant_id {direction}, external_id {direction} LIMIT {{most:UInt32}})",
        {**_range_params(place, external_id, ascending), "most": most},
    )


def _lines_of(place: Place, external_id: str, reach: str, lines: int, ascending: bool) -> Statement:
    """Rows of events, the nearest first, one more than are shown; the last value is how many there would have been without
    the bound on bytes."""
    order = f"external_id {'ASC' if ascending else 'DESC'}"
    names = ", ".join(COLUMNS)
    within = "external_id <= {reach:String}" if ascending else "external_id >= {reach:String}"
    return Statement(
        f"SELECT {', '.join(COLUMNS.values())}, there FROM (SELECT {names}, count() OVER () AS there, "
        f"sum(byteSize({names})) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS size_before "
        f"FROM (SELECT {names} FROM events FINAL WHERE tenant_id = {{tenant:String}} AND {_range(external_id, ascending)} "
        f"AND {within} AND {_IS_LINE} AND {_KEPT} ORDER BY {order} LIMIT {{rows:UInt32}})) "
        f"WHERE size_before < {{bytes:UInt64}} ORDER BY {order}",
        {
            **_range_params(place, external_id, ascending),
            **_kept_params(place),
            "reach": reach,
            "rows": lines + 1,
            "bytes": SIDE_BYTES,
        },
    )


async def _head_of(run: Run, place: Place, first: Start) -> str | None:
    """A place behind the last line of the first 4096 bytes of the file whose first line beyond them this is."""
    found = await run(_beside(place, first.time_us, "<", ascending=False))
    return f"{found[0][0][:_FILE_ID_CHARS]}-{_BORDER}" if found else None


async def _tail_of(run: Run, place: Place, last: Start) -> str | None:
    """A place before the first line beyond the first 4096 bytes of the file whose last line within them this is."""
    found = await run(_beside(place, last.time_us, ">=", ascending=True))
    if not found:
        return None
    tail, tail_us = found[0]
    head = await _head_of(run, place, Start(tail_us, tail))
    if head is None or head[:_FILE_ID_CHARS] != last.external_id[:_FILE_ID_CHARS]:
        return None  # another file began meanwhile at this path: it is the rest of that one
    return f"{tail[:_FILE_ID_CHARS]}-{_BORDER}"


def _beside(place: Place, time_us: int, side: str, *, ascending: bool) -> Statement:
    """ID and time of the nearest line on the other side of the border, by time, of the same path of the same agent."""
    direction = "ASC" if ascending else "DESC"
    told = place.event.shown
    return Statement(
        "SELECT external_id, toUnixTimestamp64Micro(timestamp) FROM events WHERE tenant_id = {tenant:String} "
        f"AND path = {{path:String}} AND agent = {{agent:String}} AND source = {{source:String}} AND {_KEPT} "
        f"AND timestamp {'>=' if ascending else '<='} fromUnixTimestamp64Micro({{time:Int64}}, 'UTC') "
        f"AND {_IS_LINE} AND {_OFFSET} {side} {{border:String}} "
        f"ORDER BY timestamp {direction}, external_id {direction} LIMIT 1",
        {
            "tenant": place.tenant_id,
            **_kept_params(place),
            "path": told["path"],
            "agent": told["agent"],
            "source": told["source"]["name"],
            "time": time_us,
            "border": _BORDER,
        },
    )


def _kept_params(place: Place) -> dict[str, Any]:
    return {"start": place.kept[0], "until": place.kept[1]}


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
