"""The reading side of the HTTP API: search and stats.

- The tenant is the credential's; `collector.query` puts it into every statement.
- The store bounds every query (time, memory, rows read, threads); and a tenant has few under way at once.
- Whatever the engine says stays in the log. A query it gave up at a bound is answered as that, with the mend.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_hex
from typing import Any

import msgspec
from aiohttp import web

from collector import query, tenants
from collector.config import StoreConfig
from collector.errors import QueryTooExpensive, StoreError
from collector.event import COLUMNS, Event, event_of
from collector.moments import show_moment
from collector.parts import CONFIG, KEYRING, METRICS, STORE, TENANT_ID, TURNSTILE
from collector.query import Search, Span, Statement
from collector.store import Store
from collector.tenants import Tenant

FIRST_CANDIDATES = 220
"""Copies and deleted events among the candidates make a page short; a little more than twice a page is mostly enough."""
WIDENING = 16
GIVEN_UP_CODES = frozenset((158, 159, 160, 241, 307, 396))
"""The engine's codes for a query that met one of its bounds: rows, time, slowness, memory, bytes, result."""

Run = Callable[[Statement], Awaitable[list[tuple[Any, ...]]]]
_encode = msgspec.json.Encoder().encode


async def get_events(request: web.Request) -> web.Response:
    """One page of the events that match, newest first if not asked otherwise."""
    began = time.monotonic()
    tenant = await _tenant(request)
    search = query.parse(
        request.query.items(),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    async with _running(request, tenant, "search") as run:
        events, has_more, span = await page(run, search)
        total = len(events)
        if has_more or search.after:
            total = (await run(query.count_of(search, span)))[0][0]
    last = events[-1] if has_more else None
    return _json(
        {
            "events": [event.shown for event in events],
            "total_count": total,
            "filtered_count": len(events),
            "has_more": has_more,
            "next_cursor": query.cursor_after(search, last.time_us, last.external_id) if last else None,
            "search_id": token_hex(8),
            "execution_time_ms": round((time.monotonic() - began) * 1000, 3),
        }
    )


async def get_stats(request: web.Request) -> web.Response:
    """How much the tenant has here, and what its agents reported as lost."""
    tenant = await _tenant(request)
    search = query.parse(
        [], tenant_id=tenant.tenant_id, retention_days=tenant.limits.retention_days, now_us=time.time_ns() // 1000
    )
    async with _running(request, tenant, "stats") as run:
        events, oldest_us, newest_us = (await run(query.stats_of(search)))[0]
        losses = await run(query.losses_of(tenant.tenant_id))
    return _json(
        {
            "tenant_id": tenant.tenant_id,
            "retention_days": tenant.limits.retention_days,
            "events": {
                "count": events,
                "oldest": show_moment(oldest_us) if events else None,
                "newest": show_moment(newest_us) if events else None,
            },
            "losses": {
                "count": sum(count for _, count, *_ in losses),
                "bytes": sum(lost for _, _, lost, *_ in losses),
                "at_least": any(at_least for *_, at_least in losses),
                "by_reason": {
                    reason: {"count": count, "bytes": lost, "events": lines, "at_least": bool(at_least)}
                    for reason, count, lost, lines, at_least in losses
                },
            },
        }
    )


async def page(run: Run, search: Search) -> tuple[list[Event], bool, Span | None]:
    """The events of one page, whether more follow, and the span that all that follow lie in, if it is known."""
    most = max(FIRST_CANDIDATES, FIRST_CANDIDATES * search.limit // 100)
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


async def _tenant(request: web.Request) -> Tenant:
    tenant = await request.app[KEYRING].tenant_of(request.headers, tenants.SEARCH)
    request[TENANT_ID] = tenant.tenant_id
    return tenant


@asynccontextmanager
async def _running(request: web.Request, tenant: Tenant, endpoint: str) -> AsyncIterator[Run]:
    """A place at the turnstile for one caller, with the bounds and the metrics of what is run in it."""
    app = request.app
    began = time.monotonic()
    result = "error"
    async with app[TURNSTILE].passing(tenant.tenant_id, tenant.limits.concurrent_queries):
        try:
            yield partial(_run, app[STORE], app[CONFIG].store)
            result = "ok"
        finally:
            app[METRICS].query_seconds.labels(endpoint).observe(time.monotonic() - began)
            app[METRICS].queries.labels(endpoint, result).inc()


async def _run(store: Store, config: StoreConfig, statement: Statement) -> list[tuple[Any, ...]]:
    try:
        return await store.query(statement.sql, statement.params)
    except StoreError as error:
        if error.code not in GIVEN_UP_CODES:
            raise
        raise QueryTooExpensive(
            f"the search was given up at one of its bounds ({config.query_timeout_s:g} s, memory or rows read); "
            "narrow it: a shorter time range (start_time, end_time), a service, or a rarer word"
        ) from error


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=_encode(value), content_type="application/json")
