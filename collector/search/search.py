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
from collector.parts import REACHES
from collector.search import query
from collector.search.paging import Page, page
from collector.search.query import Search
from collector.search.reading import Run, json_of, reader_of, running

LINES_TYPE = "application/x-ndjson"
LINES_TYPES = (LINES_TYPE, "application/ndjson", "application/jsonl")
CURSOR_HEADER = "X-Next-Cursor"
HAS_MORE_HEADER = "X-Has-More"
PARTIAL_HEADER = "X-Partial"

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
        found = await page(run, search, request.app[REACHES])
        total, is_exact = await total_of(run, search, found)
    last = found.events[-1] if found.has_more and found.events else None
    cursor = query.cursor_after(search, last.time_us, last.external_id) if last else None
    if search.lines:
        return _lines(found, cursor)
    return json_of(
        {
            "events": [event.shown for event in found.events],
            "total_count": total,
            "total_is_exact": is_exact,
            "filtered_count": len(found.events),
            "has_more": found.has_more,
            "next_cursor": cursor,
            "partial": bool(found.given_up),
            **({"partial_reason": found.given_up} if found.given_up else {}),
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


async def total_of(run: Run, search: Search, found: Page) -> tuple[int, bool]:
    """How many events match on all pages, and whether that is exact or the least there are."""
    shown = len(found.events)
    if not (found.has_more or search.after or search.offset):
        return shown, True
    least = search.offset + shown + found.has_more + (search.after is not None)
    if search.lines or search.count == query.COUNT_NONE or found.given_up:
        return least, False
    try:
        return (await run(query.count_of(search, found.span)))[0][0], True
    except QueryTooExpensive:
        if search.count == query.COUNT_EXACT:
            raise
        return least, False


def _lines(found: Page, cursor: str | None) -> web.Response:
    headers = {HAS_MORE_HEADER: "true" if found.has_more else "false"}
    if cursor:
        headers[CURSOR_HEADER] = cursor
    if found.given_up:
        headers[PARTIAL_HEADER] = "true"
    return web.Response(body=_encode_lines([event.shown for event in found.events]), content_type=LINES_TYPE, headers=headers)
