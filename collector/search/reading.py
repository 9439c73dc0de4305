"""Around every read of a caller: who it is, a place at the turnstile, and what becomes of queries given up at a bound."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from collector.config import StoreConfig
from collector.errors import QueryTooExpensive, StoreError
from collector.parts import CONFIG, METRICS, STORE, TURNSTILE
from collector.search.language import refused
from collector.search.query import Statement
from collector.store.store import Store
from collector.tenants import caller, tenants
from collector.tenants.tenants import Tenant

GIVEN_UP_CODES = {158: "rows", 159: "time", 160: "time", 241: "memory", 307: "rows", 396: "rows"}
"""The engine's codes for a query that met one of its bounds (rows, time, slowness, memory, bytes, result), and which."""

Run = Callable[[Statement], Awaitable[list[tuple[Any, ...]]]]
_encode = msgspec.json.Encoder().encode


async def reader_of(request: web.Request, *, reads_query: bool = False) -> Tenant:
    """The tenant, if the request's key may search; see `collector.tenants.caller.tenant_of`."""
    return await caller.tenant_of(request, tenants.SEARCH, reads_query=reads_query)


@asynccontextmanager
async def running(request: web.Request, tenant: Tenant, endpoint: str) -> AsyncIterator[Run]:
    """A place at the turnstile for one caller, with the bounds and the metrics of what is run in it."""
    app = request.app
    began = time.monotonic()
    result = "error"
    async with app[TURNSTILE].passing(tenant.tenant_id, tenant.limits.concurrent_queries):
        try:
            yield partial(bounded, app[STORE], app[CONFIG].store, q=request.query.get("q", ""))
            result = "ok"
        finally:
            app[METRICS].query_seconds.labels(endpoint).observe(time.monotonic() - began)
            app[METRICS].queries.labels(endpoint, result).inc()


def json_of(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")


async def bounded(store: Store, config: StoreConfig, statement: Statement, *, q: str = "") -> list[tuple[Any, ...]]:
    """The rows of a statement, within the bounds of every query.

    Args:
        q: the caller's query, for faults in it that only the engine finds.

    Raises:
        StoreError, QueryTooExpensive, Invalid.
    """
    limit_s = min(statement.timeout_s or config.query_timeout_s, config.query_timeout_s)
    bound = {} if statement.max_rows is None else {"max_rows_to_read": _least(statement.max_rows, config.max_query_rows)}
    try:
        return await store.query(statement.sql, statement.params, timeout_s=limit_s, settings=bound)
    except StoreError as error:
        if error.code == refused.CODE:
            await tell_refused_pattern(store, statement, q)
        if error.code not in GIVEN_UP_CODES:
            raise
        bounds = {
            "rows": f"{bound.get('max_rows_to_read', config.max_query_rows)} rows read",
            "time": f"{limit_s:g} s",
            "memory": f"{config.max_query_memory_bytes >> 20} MiB of memory",
        }
        raise QueryTooExpensive(
            f"the query was given up at its bound of {bounds[GIVEN_UP_CODES[error.code]]}; "
            "narrow it: a shorter time range (start_time, end_time), a service, or a rarer word"
        ) from error


async def tell_refused_pattern(store: Store, statement: Statement, q: str) -> None:
    """Raises Invalid for the first regular expression of the caller that the engine does not take."""
    for at, pattern in refused.patterns_in(statement.params):
        try:
            await store.query(refused.PROBE, {"pattern": pattern})
        except StoreError as error:
            if error.code == refused.CODE:
                raise refused.refusal(q, at, str(error)) from error
            raise


def _least(rows: int, bound: int) -> int:
    """The lower of two bounds, of which 0 is none."""
    return min(rows, bound) if bound else rows
