"""GET events/tail: every event that matches, as it is committed, as Server-Sent Events.

- In commit order (`collector.streams.commits`), by whichever collector it was written. Each event has its ``id``: who comes
  back with the last one, as ``Last-Event-ID`` (browsers do) or as ``cursor``, misses nothing and gets nothing twice.
- ``open`` comes first, and says where the tail begins. ``gap`` says how many events a slow reader missed, and with which cursor
  they can be had. ``error`` comes before an end that coming back does not mend. Between events there is a comment at intervals,
  with an ``id``: a tail of what is rare does not begin far back.
- A tail lasts, so it takes a seat of its own (``streams.max_tails``) and no place among its tenant's requests; it ends when its
  key does, and when the collector stops.

Known limits: what was deleted before a reader came back is not shown to it; an event that is deleted at once may be.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec
from aiohttp import hdrs, web

from collector.errors import Body, CollectorError, Envelope, Invalid, Stopped, StoreError, answer_of
from collector.parts import CONFIG, METRICS, REQUEST_ID, STORE, TAIL_SEATS, TAILS
from collector.search import filters, query
from collector.search.parameters import Parameters
from collector.search.query import Search
from collector.search.reading import reader_of, tell_refused_pattern
from collector.streams.commits import Position, cursor_of, position_of
from collector.streams.sending import cut_off, send, still_reader, streaming
from collector.streams.tails import Tail, id_line
from collector.tenants import caller

PATH = "/api/v1/ingestion/events/tail"
CONTENT_TYPE = "text/event-stream"
LAST_ID_HEADER = "Last-Event-ID"
PARAMETERS = (*filters.PARAMETERS, "cursor")
RETRY_MS = 1000
"""After which a browser comes back."""
MOST_AT_ONCE = 64 << 10

_encode = msgspec.json.Encoder().encode


async def get_tail(request: web.Request) -> web.StreamResponse:
    """Events until somebody goes."""
    tenant = await reader_of(request, reads_query=True)
    search, position = parse(
        list(request.query.items()),
        request.headers.get(LAST_ID_HEADER, ""),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    # Found by the engine only, and perhaps not before something comes that it is tried on.
    await tell_refused_pattern(request.app[STORE], query.where_of(search)[1], request.query.get("q", ""))
    caller.leave_place(request)
    streams, tails = request.app[CONFIG].streams, request.app[TAILS]
    with request.app[TAIL_SEATS].taking(tenant.tenant_id), streaming(request):
        tail = Tail(search, tenant.limits, streams.tail_buffer_bytes)
        begin = await tails.add(tail, position)
        request.app[METRICS].tails.inc()
        try:
            return await _sent(request, tail, begin, streams.heartbeat_s)
        finally:
            request.app[METRICS].tails.dec()
            tails.remove(tail)


def parse(
    pairs: list[tuple[str, str]], last_id: str, *, tenant_id: str, retention_days: int, now_us: int
) -> tuple[Search, Position | None]:
    """What is meant, and behind what it begins; None: with what is committed next. Raises Invalid.

    Args:
        last_id: of the header; it is newer than a cursor in the URL of one who comes back.
    """
    given = Parameters([pair for pair in pairs if pair[0] == "cursor"], known=("cursor",))
    text, where = (last_id, LAST_ID_HEADER) if last_id else (given.text("cursor"), "cursor")
    position = position_of(text) if text else None
    if text and position is None:
        given.fault(where, "is not a cursor of a tail", text, "use the id of the last event that arrived")
    rest = [pair for pair in pairs if pair[0] != "cursor"]
    try:
        search = query.parse(rest, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us, known=PARAMETERS)
    except Invalid as error:
        given.faults += error.errors
        search = Search(tenant_id, 0, 0)
    given.check()
    return search, position


async def _sent(request: web.Request, tail: Tail, begin: Position, heartbeat_s: float) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store", "X-Accel-Buffering": "no"}
    )
    try:
        await response.prepare(request)
        opened = _encode({"cursor": cursor_of(begin)})
        await send(response, b"retry: %d\nevent: open\n%sdata: %s\n\n" % (RETRY_MS, id_line(begin), opened))
        await _go_on(request, response, tail, heartbeat_s)
    except ConnectionError:
        cut_off(request)
    except Stopped:
        pass  # coming back is what mends it
    except CollectorError as error:
        body = _encode(_told(error, request[REQUEST_ID]))
        with suppress(ConnectionError):
            await send(response, b"event: error\ndata: " + body + b"\n\n")
    return response


async def _go_on(request: web.Request, response: web.StreamResponse, tail: Tail, heartbeat_s: float) -> None:
    looked = time.monotonic()
    while True:
        chunk = tail.take(MOST_AT_ONCE)
        if chunk:
            await send(response, chunk)
        elif tail.fault is not None:
            raise tail.fault
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(heartbeat_s):
                    await tail.changed.wait()
                    continue
            await send(response, b": still here\n" + id_line(tail.position) + b"\n")
        if time.monotonic() - looked >= heartbeat_s or not chunk:
            looked = time.monotonic()
            with suppress(StoreError):  # away: it is known who it was
                tail.limits = (await still_reader(request)).limits


def _told(error: CollectorError, request_id: str) -> Envelope:
    body: Body = answer_of(error, request_id).body
    return Envelope(body)
