"""The lines of a file beside one of them: a range of keys, for IDs of a file sort in the order of its bytes.

- Where candidates lie is asked without FINAL, in the order of the keys: some rows, however large the file is. Their times are
  what lets the engine leave out, with FINAL, all parts but those that hold them: a range of keys alone touches every part.
- `near` reads an event and both sides of it in these two steps; a side that copies, deleted events or many bytes make short is
  read by itself (`in_file`), from more candidates.
- Lines that begin within a file's first 4096 bytes have another file ID than the others. Across that border the lines are
  found by path, agent and time, and are not ``exact``: of two files that had one path in the same moment it may be the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from agent import wire
from collector.errors import QueryTooExpensive
from collector.search.event import COLUMNS, Event, event_of, offset_of
from collector.search.query import Statement
from collector.search.reading import Run

Direction: TypeAlias = Literal["before", "after"]
BEFORE: Final = "before"
AFTER: Final = "after"
SIDE_BYTES = 8 << 20
"""Of the events on one side; beyond it the side ends early, and its cursor goes on."""
FIRST_CANDIDATES = 64
WIDENING = 16
HEAD_BYTES = 4096
"""A line that begins below is named after the file's first line, any other after so many bytes."""

_FILE_ID_CHARS = 16
_IS_LINE = "match(external_id, '^[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}$')"
_OFFSET = f"substring(external_id, {_FILE_ID_CHARS + 2}, {wire.OFFSET_DIGITS})"
_KEPT = (
    "timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
    "AND timestamp <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
)
_BORDER = f"{HEAD_BYTES:0{wire.OFFSET_DIGITS}x}"


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


class Span(NamedTuple):
    """What candidates lie in: IDs, and times (µs)."""

    first: str
    last: str
    first_us: int
    last_us: int


class Reach(NamedTuple):
    """How far candidates on one side lie, and within which times (µs)."""

    furthest: str
    first_us: int
    last_us: int


async def near(
    run: Run, tenant_id: str, kept: tuple[int, int], event_id: str, lines: Mapping[Direction, int]
) -> tuple[Event | None, dict[Direction, Side]]:
    """A line of a file, and its neighbours within the file ID.

    Args:
        kept: from when to when the tenant's events are (µs).
        lines: how many, by direction.

    Returns:
        The event, None if it is not there; and the sides that are known with that.
    """
    most: dict[Direction, int] = {direction: number + 2 + number // 4 for direction, number in lines.items()}
    ((*span, before, after),) = await run(_candidates_of(tenant_id, event_id, most[BEFORE], most[AFTER]))
    if not before:
        return None, {}
    try:
        rows = await run(_between(tenant_id, kept, Span(*span), before + after))
    except QueryTooExpensive:  # many bytes
        rows = await run(_between(tenant_id, kept, Span(event_id, event_id, *span[2:]), 1))
        return next(map(event_of, rows), None), {}
    events = [event_of(row) for row in rows]
    found: dict[Direction, list[Event]] = {
        BEFORE: [event for event in reversed(events) if event.external_id < event_id],
        AFTER: [event for event in events if event.external_id > event_id],
    }
    counts: dict[Direction, int] = {BEFORE: before, AFTER: after}
    sides = {
        direction: Side(found[direction][: lines[direction]], len(found[direction]) > lines[direction])
        for direction, candidates in counts.items()
        if len(found[direction]) > lines[direction] or candidates < most[direction]
    }
    return next((event for event in events if event.external_id == event_id), None), sides


def _candidates_of(tenant_id: str, event_id: str, before: int, after: int) -> Statement:
    """The values of a `Span` over the rows nearest to an ID, its own among them, and their numbers on both sides."""
    rows = "SELECT external_id, timestamp FROM events WHERE tenant_id = {tenant:String} AND"
    below = "external_id <= {id:String} AND external_id > {file:String} ORDER BY tenant_id DESC, external_id DESC"
    above = "external_id > {id:String} AND external_id < {end:String} ORDER BY tenant_id, external_id"
    file_id = event_id[:_FILE_ID_CHARS]
    return Statement(
        "SELECT min(external_id), max(external_id), toUnixTimestamp64Micro(min(timestamp)), "
        "toUnixTimestamp64Micro(max(timestamp)), countIf(external_id <= {id:String}), countIf(external_id > {id:String}) "
        f"FROM ({rows} {below} LIMIT {{before:UInt32}} UNION ALL {rows} {above} LIMIT {{after:UInt32}})",
        {
            "tenant": tenant_id,
            "id": event_id,
            "file": f"{file_id}-",
            "end": f"{file_id}-g",
            "before": before,
            "after": after,
        },
    )


def _between(tenant_id: str, kept: tuple[int, int], span: Span, most: int) -> Statement:
    """The events of a span, in the order of their IDs."""
    return Statement(
        f"SELECT {', '.join(COLUMNS.values())} FROM events FINAL WHERE tenant_id = {{tenant:String}} "
        f"AND external_id >= {{first:String}} AND external_id <= {{last:String}} AND {_IS_LINE} AND {_KEPT} "
        "ORDER BY external_id LIMIT {rows:UInt32}",
        {
            "tenant": tenant_id,
            "first": span.first,
            "last": span.last,
            "start": max(kept[0], span.first_us),
            "until": min(kept[1], span.last_us),
            "rows": most,
        },
        max_bytes=SIDE_BYTES,
    )


async def in_file(run: Run, place: Place, start: Start, lines: int, *, ascending: bool, known: Side | None = None) -> Side:
    """Lines of the same file, and across the border where that has no more.

    Args:
        known: those of the event's own file ID, from `near`.
    """
    side = known or await _of_file(run, place, start.external_id, lines, ascending)
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
        ((*reach, rows),) = await run(_reach_of(place, external_id, most, ascending))
        if not rows:
            return Side()
        found = await run(_lines_of(place, external_id, Reach(*reach), lines, ascending))
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
    """The values of a `Reach` of so many candidates, and how many there are: read in the order of keys, without FINAL."""
    direction, furthest = ("ASC", "max") if ascending else ("DESC", "min")
    return Statement(
        f"SELECT {furthest}(external_id), toUnixTimestamp64Micro(min(timestamp)), "
        "toUnixTimestamp64Micro(max(timestamp)), count() FROM (SELECT external_id, timestamp FROM events "
        f"WHERE tenant_id = {{tenant:String}} AND {_range(external_id, ascending)} "
        f"ORDER BY tenant_id {direction}, external_id {direction} LIMIT {{most:UInt32}})",
        {**_range_params(place, external_id, ascending), "most": most},
    )


def _lines_of(place: Place, external_id: str, reach: Reach, lines: int, ascending: bool) -> Statement:
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
            "start": max(place.kept[0], reach.first_us),
            "until": min(place.kept[1], reach.last_us),
            "reach": reach.furthest,
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
