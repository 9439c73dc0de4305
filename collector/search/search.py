"""GET events/search: one page of the events that match.

- The tenant is the credential's; `collector.search.query` puts it into every statement.
- The store bounds every query (time, memory, rows read, threads); and a tenant has few under way at once.
- ``total_count`` is exact, unless counting takes too long: the page is answered then with what is known, and says so.
- Whatever the engine says stays in the log. A query it gave up at a bound is answered as that, with the mend.
- NDJSON is for taking much: larger pages, an event a line, no total; where the next page begins is in the headers.
"""

from __future__ import annotations

import time
from secrets import token_hex

import msgspec
from aiohttp import web

from collector.errors import QueryTooExpensive
from collector.search import query
from collector.search.event import COLUMNS, Event, event_of
from collector.search.query import Search, Span
from collector.search.reading import Run, json_of, reader_of, running

LINES_TYPE = "application/x-ndjson"
LINES_TYPES = (LINES_TYPE, "application/ndjson", "application/jsonl")
CURSOR_HEADER = "X-Next-Cursor"
HAS_MORE_HEADER = "X-Has-More"

FIRST_CANDIDATES = 220
"""Copies and deleted events among the candidates make a page short; a little more than twice a page is mostly enough."""
WIDENING = 16
_encode_lines = msgspec.json.Encoder().encode_lines


async def get_events(request: web.Request) -> web.Response:
    """One page, newest first if not asked otherwise."""
    began = time.monotonic()
    tenant = await reader_of(request, reads_query=True)
    search = query.parse(
        request.query.items(),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
        accept=query.LINES if wants_lines(request.headers.get("Accept", "")) else query.JSON,
    )
    async with running(request, tenant, "search") as run:
        events, has_more, span = await page(run, search)
        total, is_exact = (0, True) if search.lines else await total_of(run, search, len(events), has_more, span)
    last = events[-1] if has_more and events else None
    cursor = query.cursor_after(search, last.time_us, last.external_id) if last else None
    if search.lines:
        return _lines(events, has_more, cursor)
    return json_of(
        {
            "events": [event.shown for event in events],
            "total_count": total,
            "total_is_exact": is_exact,
            "filtered_count": len(events),
            "has_more": has_more,
            "next_cursor": cursor,
            "search_id": token_hex(8),
            "execution_time_ms": round((time.monotonic() - began) * 1000, 3),
        }
    )


def wants_lines(accept: str) -> bool:
    """Whether an Accept header names NDJSON, and no JSON before it."""
    for item in accept.split(","):
        media = item.partition(";")[0].strip().lower()
        if media in LINES_TYPES:
            return True
        if media in ("application/json", "*/*"):
            return False
    return False


async def total_of(run: Run, search: Search, shown: int, has_more: bool, span: Span | None) -> tuple[int, bool]:
    """How many events match on all pages, and whether that is exact or the least there are."""
    if not (has_more or search.after or search.offset):
        return shown, True
    try:
        return (await run(query.count_of(search, span)))[0][0], True
    except QueryTooExpensive:
        return search.offset + shown + has_more + (search.after is not None), False


def _lines(events: list[Event], has_more: bool, cursor: str | None) -> web.Response:
    headers = {HAS_MORE_HEADER: "true" if has_more else "false"}
    if cursor:
        headers[CURSOR_HEADER] = cursor
    return web.Response(body=_encode_lines([event.shown for event in events]), content_type=LINES_TYPE, headers=headers)


async def page(run: Run, search: Search) -> tuple[list[Event], bool, Span | None]:
    """The events of one page, whether more follow, and the span that all that follow lie in, if it is known."""
    most = max(FIRST_CANDIDATES, FIRST_CANDIDATES * (search.offset + search.limit) // 100)
    while True:
        span = Span(*(await run(query.span_of(search, most)))[0])
        if not span.rows:
            return [], False, span
        whole = span.rows < most
        span = span.known_whole(whole)
        found = await run(query.page_of(search, COLUMNS, span))
        there = found[0][-1] if found else 0
        events = [event_of(row[:-1]) for row in found[: search.limit]]
        has_more = there > len(events)
        if whole:
            return events, has_more, span
        if there > search.limit:
            return events, True, None
        most *= WIDENING
