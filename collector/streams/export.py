"""GET events/export: every event that matches, once, as NDJSON, CSV, Parquet or Arrow, in constant memory.

- The result is read a page at a time (`collector.streams.walk`), the next one when the caller has taken the one before: a
  slow caller holds neither a query nor a place at the turnstile, and the collector keeps one page of it.
- What goes wrong before the first page is answered as any error. Afterwards a full turnstile or a store that is away is waited
  for, at most `PATIENCE_S`; what remains wrong cuts the connection off: an answer that ends in order is whole.
- It goes on where it stopped with ``after``, the ID of the last event that arrived (also of one that was deleted since), or
  with ``cursor``, which is a column for who asks for it. Both need the parameters of before.
- Each page is for a key that is still good, and shows nothing beyond the retention of that moment.

What is committed or deleted meanwhile is there, or is not, as the export had passed its time or not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import msgspec
from aiohttp import hdrs, web

from collector.errors import Invalid, StoreAway, TooManyQueries, invalid
from collector.parts import EXPORTS, METRICS, REQUEST_ID
from collector.search import filters, query
from collector.search.parameters import Parameters
from collector.search.query import Search, Statement
from collector.search.reading import reader_of, running
from collector.streams import columns, shapes
from collector.streams.columns import Column
from collector.streams.sending import cut_off, send, still_reader, streaming
from collector.streams.shapes import Shape
from collector.streams.walk import Ask, Rows, Walk

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
PAUSE_S = 0.25
MAX_COLUMNS = 200
PATH = "/api/v1/ingestion/events/export"
OWN = ("format", "columns", "csv_guard", "after")
PARAMETERS = (*query.WINDOW_PARAMETERS, *filters.PARAMETERS, "cursor", "order", *OWN)


class Export(msgspec.Struct, frozen=True):
    """A checked export."""

    search: Search
    form: str
    columns: tuple[Column, ...]
    guard: bool
    after_id: str


async def get_export(request: web.Request) -> web.StreamResponse:
    """The whole result; the oldest first, if not asked otherwise."""
    tenant = await reader_of(request, reads_query=True)
    asked = parse(
        list(request.query.items()),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    with request.app[EXPORTS].taking(tenant.tenant_id), streaming(request):
        reading = _Reading(request, tenant.limits.retention_days)
        search = await _begun(reading.ask, asked)
        shape = await asyncio.to_thread(shapes.shape_of, asked.form, asked.columns, guard=asked.guard)
        pages = Walk(search, shape.selected, reading.oldest_us).pages(reading.ask)
        first = await anext(pages, None)
        reading.patient = True
        return await _sent(request, asked.form, shape, first, pages)


def parse(pairs: list[tuple[str, str]], *, tenant_id: str, retention_days: int, now_us: int) -> Export:
    """Raises Invalid."""
    given = Parameters([pair for pair in pairs if pair[0] in OWN], known=OWN, several=("columns",))
    form = given.choice("format", shapes.FORMATS)
    names = tuple(dict.fromkeys(name.strip() for part in given.values.get("columns", ()) for name in part.split(",")))
    guard, after_id = given.flag("csv_guard"), given.text("after")
    if after_id and any(name == "cursor" for name, _ in pairs):
        given.fault("after", "is given beside a cursor", after_id, "give one of the two")
    rest = [pair for pair in pairs if pair[0] not in OWN]
    if not any(name == "order" for name, _ in rest):
        rest.append(("order", "asc"))
    try:
        search = query.parse(rest, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us, known=PARAMETERS)
    except Invalid as error:
        given.faults += error.errors
        search = Search(tenant_id, 0, 0)
    if len(names) > MAX_COLUMNS:
        given.fault("columns", f"more than {MAX_COLUMNS} are named", None)
    found = [(name, columns.column_of(name, search)) for name in names[:MAX_COLUMNS]]
    for name, column in found:
        if column is None:
            there = ", ".join((*columns.NAMES, columns.CURSOR, f"{filters.ATTRIBUTE}NAME"))
            given.fault("columns", "there is no such column", name, f"there are: {there}")
    given.check()
    chosen = [column for _, column in found if column is not None]
    if not chosen and form != shapes.NDJSON:
        chosen = [column for name in columns.NAMES if (column := columns.column_of(name, search))]
    return Export(search, form, tuple(chosen), guard, after_id)


def time_of_id(tenant_id: str, event_id: str) -> Statement:
    """The time (µs) of an event that is or was stored: no row, or one."""
    return Statement(
        "SELECT toUnixTimestamp64Micro(argMax(timestamp, version)) FROM events "
        "WHERE tenant_id = {tenant:String} AND external_id = {id:String} HAVING count() > 0",
        {"tenant": tenant_id, "id": event_id},
    )


async def _begun(ask: Ask, asked: Export) -> Search:
    """The search from where it is to begin. Raises Invalid."""
    if not asked.after_id:
        return asked.search
    found = await ask(time_of_id(asked.search.tenant_id, asked.after_id))
    if not found:
        mend = "give the ID of an event that an export of this tenant brought, or begin anew"
        raise invalid("after", "there is no such event (any more)", asked.after_id, mend)
    return msgspec.structs.replace(asked.search, after=(found[0][0], asked.after_id))


class _Reading:
    """Asks the store for one request, each time as what its key is then."""

    def __init__(self, request: web.Request, retention_days: int) -> None:
        self._request = request
        self._retention_days = retention_days
        self.patient = False
        """Wait for a place, and for a store that is away, rather than give up."""

    def oldest_us(self) -> int:
        return query.kept(self._retention_days, time.time_ns() // 1000)[0]

    async def ask(self, statement: Statement) -> Rows:
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                tenant = await still_reader(self._request)
                self._retention_days = tenant.limits.retention_days
                async with running(self._request, tenant, "export") as run:
                    return await run(statement)
            except (TooManyQueries, StoreAway):
                if not self.patient or time.monotonic() > end_s:
                    raise
            await asyncio.sleep(PAUSE_S)


async def _sent(
    request: web.Request, form: str, shape: Shape, first: Rows | None, pages: AsyncIterator[Rows]
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: shape.content_type,
            hdrs.CONTENT_DISPOSITION: f'attachment; filename="events.{form}"',
            hdrs.CACHE_CONTROL: "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    if not shape.packed and accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        response.enable_compression(web.ContentCoding.gzip)
    metrics = request.app[METRICS]
    result = "cut"
    try:
        await response.prepare(request)
        await send(response, shape.begin())
        rows = first
        while rows is not None:
            await send(response, await asyncio.to_thread(shape.page, rows))
            metrics.exported.labels(form).inc(len(rows))
            rows = await anext(pages, None)
        await send(response, await asyncio.to_thread(shape.end))
        await response.write_eof()
        result = "whole"
    except ConnectionError:
        result = "left"
        cut_off(request)
    except Exception as error:
        log.warning("an export was cut off (request %s): %s", request[REQUEST_ID], error)
        cut_off(request)
    except asyncio.CancelledError:
        cut_off(request)
        raise
    finally:
        metrics.exports.labels(form, result).inc()
    return response


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header names gzip and does not refuse it."""
    for item in header.lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";")
        if coding in ("gzip", "x-gzip"):
            return weight not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
