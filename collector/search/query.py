"""Parameters of a search → SQL with bound parameters. Pure: no clock, no IO.

Promises:
- Every statement names the tenant, which comes from the credential, and a time window; both are bound parameters, as is
  everything a caller sent. No text of a caller ever becomes SQL.
- No read shows what is older than the tenant's retention is now, to the microsecond (`kept`): the engine drops events in
  whole weeks, and the retention may have been shortened since. It holds for a page by a cursor from before as well.
- What is shown is read with ``FINAL``: each event once. It still prunes by time, by the settings that the store sends
  with every query (`collector.store.schema.READ_SETTINGS`).
- The order is total: time, then ``external_id``. A cursor names the last event shown, so pages neither repeat nor skip
  while nothing changes. It carries the window and the clock of its first page (``-15m`` would move) and a check over tenant and
  parameters, so it cannot be used with another query. It opens nothing: the tenant is always the credential's.
- An offset counts events from the front, each time anew: what arrives meanwhile shifts it. A cursor does not move.

FINAL over all that a tenant keeps is slow, and over a narrow window is not. So `whole_of` reads a window in which there is
little to read; else `span_of` asks without FINAL where the nearest candidates lie, and `page_of` reads that span with FINAL.
Windows grow (`collector.search.walking`). `count_of` counts.
A row that FINAL shows is among the rows it does not hide, so a span that found fewer than it may is a hard bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from collector.ingest.moments import MAX_US
from collector.search import cursors, filters
from collector.search.filters import Filters, filters_of
from collector.search.parameters import Parameters

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_LINES_LIMIT = 10_000
"""As NDJSON, which is read line by line."""
MAX_OFFSET = 10_000
"""Every page by offset reads what lies before it; a cursor does not."""
PAGE_BYTES = 16 << 20
"""A page ends early beyond this: a thousand lines of a megabyte must not fill the collector's memory."""
MAX_SPAN_IDS = 1000
COUNT_TIMEOUT_S = 5.0
"""Beyond this a lower bound is told instead."""
COUNT_ROWS = 2_000_000
"""The same: so many rows are counted in about the time that a page takes. The engine says at once that there are more."""
WHOLE_ROWS = 300_000
"""Read with FINAL in less time than it takes to look for candidates first, and then at their rows."""
WHOLE_TEXT_ROWS = 1_000_000
"""The same where texts have to be looked through, which takes most of the time: not twice."""
WHOLE_TIMEOUT_S = 5.0
COUNT_BOUNDED, COUNT_EXACT, COUNT_NONE = COUNTS = ("bounded", "exact", "none")
AHEAD_US = 25 * 3600 * 1_000_000
"""Events lie at most a day ahead of the collector that stored them; an hour is for clocks that differ."""
DAY_US = 86_400_000_000

WINDOW_PARAMETERS = ("start_time", "end_time")
PARAMETERS = (*WINDOW_PARAMETERS, *filters.PARAMETERS, "limit", "offset", "cursor", "order", "format", "count")
JSON, LINES = "json", "ndjson"
_UNBOUND = ("cursor", "limit", "offset", "format", "count")
"""Parameters that do not decide which events come in which order."""
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_US)]


class Search(msgspec.Struct, frozen=True):
    """A checked search."""

    tenant_id: str
    start_us: int
    end_us: int
    """The window, both ends included."""
    filters: Filters = Filters()
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    ascending: bool = False
    after: tuple[int, str] | None = None
    """Time (µs) and ID of the last event of the page before."""
    check: bytes = b""
    lines: bool = False
    """The answer is wanted as NDJSON."""
    count: str = COUNT_BOUNDED
    """How much counting all that match may cost: one of `COUNTS`."""
    asked_us: int = 0
    """When the first page was; 0: not known."""


class Statement(NamedTuple):
    sql: str
    params: dict[str, Any]
    timeout_s: float | None = None
    """Less than the store's own, where waiting so long is not worth it."""
    max_rows: int | None = None
    """To read, likewise."""
    max_bytes: int | None = None
    """Of the answer."""


class Span(NamedTuple):
    """Where the candidates nearest to the front of the order lie."""

    first_us: int
    last_us: int
    rows: int
    ids: Sequence[str] = ()
    """The candidates, if they are all there are and few: reading them by their IDs saves a second scan."""

    def known_whole(self, whole: bool) -> Span:
        """Without the IDs unless they are of all candidates. (Of equal times any may have been taken.)"""
        return self if whole and len(self.ids) == self.rows else self._replace(ids=())


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    version: int
    start_us: Microseconds
    end_us: Microseconds
    time_us: Microseconds
    external_id: str
    check: bytes
    asked_us: Microseconds = 0
    """0 in cursors of before it was carried."""


_decode_cursor = msgspec.msgpack.Decoder(Cursor).decode


def kept(retention_days: int, now_us: int) -> tuple[int, int]:
    """The first and the last moment (µs) that an event may have to be shown, both included."""
    return max(0, now_us - retention_days * DAY_US), now_us + AHEAD_US


def parse(
    pairs: Iterable[tuple[str, str]],
    *,
    tenant_id: str,
    retention_days: int,
    now_us: int,
    known: Sequence[str] = PARAMETERS,
    accept: str = JSON,
) -> Search:
    """The search that a query string asks for.

    Args:
        pairs: its parameters, decoded, in order.
        now_us: the clock, for relative times and the default window.
        known: the parameters there are here.
        accept: the format if ``format`` does not say.

    Raises:
        Invalid: names every parameter that is unknown or has a bad value.
    """
    given = Parameters(pairs, known=known, several=filters.SEVERAL)
    check = _check(tenant_id, given.values)
    cursor = _cursor(given, check)
    asked_us = cursor.asked_us if cursor and cursor.asked_us else now_us
    narrowed = narrowed_by(given, tenant_id=tenant_id, retention_days=retention_days, now_us=asked_us)
    lines = (given.choice("format", (JSON, LINES)) if "format" in given.values else accept) == LINES
    most = MAX_LINES_LIMIT if lines else MAX_LIMIT
    search = msgspec.structs.replace(
        narrowed,
        start_us=max(cursor.start_us, kept(retention_days, now_us)[0]) if cursor else narrowed.start_us,
        end_us=cursor.end_us if cursor else narrowed.end_us,
        limit=given.number("limit", 1, most, DEFAULT_LIMIT, "page by cursor"),
        offset=given.number("offset", 0, MAX_OFFSET, 0, "page by cursor"),
        ascending=given.choice("order", ("desc", "asc")) == "asc",
        after=(cursor.time_us, cursor.external_id) if cursor else None,
        check=check,
        lines=lines,
        count=given.choice("count", COUNTS),
        asked_us=asked_us,
    )
    if cursor and "offset" in given.values:
        given.fault("offset", "is given beside a cursor", given.get("offset"), "give one of the two")
    given.check()
    return search


def narrowed_by(given: Parameters, *, tenant_id: str, retention_days: int, now_us: int) -> Search:
    """What window and filters leave, for whoever has parameters of its own besides. Faults are kept in ``given``."""
    oldest_us, newest_us = kept(retention_days, now_us)
    start_us, end_us = given.window(now_us, oldest_us, newest_us)
    return Search(tenant_id, max(start_us, oldest_us), end_us, filters_of(given, now_us))


def whole_of(search: Search, columns: Mapping[str, str]) -> Statement:
    """As `page_of`, in one step, and without its last value: given up where there is much to read, or a page of many bytes."""
    where, params = where_of(search)
    direction = "ASC" if search.ascending else "DESC"
    return Statement(
        f"SELECT {', '.join(columns.values())} FROM events FINAL WHERE {where} "
        f"ORDER BY timestamp {direction}, external_id {direction} LIMIT {{rows:UInt32}} OFFSET {{offset:UInt32}}",
        {**params, "rows": search.limit + 1, "offset": search.offset},
        WHOLE_TIMEOUT_S,
        WHOLE_TEXT_ROWS if search.filters.query is not None else WHOLE_ROWS,
        PAGE_BYTES,
    )


def span_of(search: Search, most: int) -> Statement:
    """The values of a `Span` over the first ``most`` candidates (one row)."""
    where, params = where_of(search)
    direction = "ASC" if search.ascending else "DESC"
    return Statement(
        "SELECT toUnixTimestamp64Micro(min(time)), toUnixTimestamp64Micro(max(time)), count(), "
        f"groupArray({MAX_SPAN_IDS})(id) FROM (SELECT timestamp AS time, external_id AS id FROM events "
        f"WHERE {where} ORDER BY timestamp {direction} LIMIT {{most:UInt32}})",
        {**params, "most": most},
    )


def page_of(search: Search, columns: Mapping[str, str], span: Span, most_bytes: int = PAGE_BYTES) -> Statement:
    """One page, at most ``most_bytes`` and one row long, with one row more to know whether another follows.

    Args:
        columns: their names, and what to select for each. The last value of a row is how many rows there would have
            been without the bound on bytes.
    """
    where, params = where_of(search, span)
    direction = "ASC" if search.ascending else "DESC"
    order = f"timestamp {direction}, external_id {direction}"
    names = ", ".join(columns)
    return Statement(
        f"SELECT {', '.join(columns.values())}, there FROM (SELECT {names}, count() OVER () AS there, "
        f"sum(byteSize({names})) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before "
        f"FROM (SELECT {names} FROM events FINAL WHERE {where} ORDER BY {order} "
        "LIMIT {rows:UInt32} OFFSET {offset:UInt32})) "
        f"WHERE before < {{bytes:UInt64}} ORDER BY {order}",
        {**params, "rows": search.limit + 1, "offset": search.offset, "bytes": most_bytes},
    )


def count_of(search: Search, span: Span | None = None) -> Statement:
    """How many events match on all pages together, each once.

    Args:
        span: where the events from the cursor on lie, if known; it serves for the first page only.
    """
    where, params = where_of(msgspec.structs.replace(search, after=None), None if search.after else span)
    bounds = (None, None) if search.count == COUNT_EXACT else (COUNT_TIMEOUT_S, COUNT_ROWS)
    return Statement(f"SELECT count() FROM events FINAL WHERE {where}", params, *bounds)


def event_of_id(tenant_id: str, event_id: str, columns: Mapping[str, str], *, retention_days: int, now_us: int) -> Statement:
    """The event with this ID, by the same conditions as in a search."""
    start_us, end_us = kept(retention_days, now_us)
    where, params = where_of(Search(tenant_id, start_us, end_us, Filters(event_id=event_id)))
    return Statement(f"SELECT {', '.join(columns.values())} FROM events FINAL WHERE {where}", params)


def cursor_after(search: Search, time_us: int, external_id: str) -> str:
    """The cursor of the page that follows an event."""
    place = (time_us, external_id)
    return cursors.written(Cursor(cursors.VERSION, search.start_us, search.end_us, *place, search.check, search.asked_us))


def where_of(search: Search, span: Span | None = None) -> tuple[str, dict[str, Any]]:
    """Conditions and their values. ``span`` narrows the window; it never widens it."""
    start_us = max(search.start_us, span.first_us) if span else search.start_us
    end_us = min(search.end_us, span.last_us) if span else search.end_us
    params: dict[str, Any] = {"tenant": search.tenant_id, "start": start_us, "end": end_us}
    parts = [
        "tenant_id = {tenant:String}",
        "timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')",
        "timestamp <= fromUnixTimestamp64Micro({end:Int64}, 'UTC')",
    ]
    parts.extend(filters.conditions(search.filters, params))
    if span and span.ids:
        parts.append("external_id IN {ids:Array(String)}")
        params["ids"] = list(span.ids)
    if search.after:
        # The first half is for the index on time, which a tuple comparison would not use.
        sign = ">" if search.ascending else "<"
        after = "fromUnixTimestamp64Micro({after:Int64}, 'UTC')"
        parts.append(f"timestamp {sign}= {after} AND (timestamp {sign} {after} OR external_id {sign} {{after_id:String}})")
        params["after"], params["after_id"] = search.after
    return " AND ".join(parts), params


def _check(tenant_id: str, values: Mapping[str, Sequence[str]]) -> bytes:
    """Binds a cursor to the tenant and to everything that decides which events come in which order."""
    bound = sorted((name, list(given)) for name, given in values.items() if name not in _UNBOUND)
    return cursors.check_of(tenant_id, bound)


def _cursor(given: Parameters, check: bytes) -> Cursor | None:
    return cursors.given_in(
        given,
        _decode_cursor,
        check,
        mend="use next_cursor of the page before, whole",
        other="query",
        other_mend="repeat all parameters of the first page beside the cursor, or start without it",
    )
