"""Around every read of a caller: who it is, a place at the turnstile, and what becomes of queries given up at a bound."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from collector.config import Limits, StoreConfig
from collector.errors import StoreError
from collector.parts import CONFIG, METRICS, STORE, TURNSTILE
from collector.search.bounds import GIVEN_UP_CODES, NO_LIMITS, bounds_of
from collector.search.language import refused
from collector.search.query import Statement
from collector.store.store import Store
from collector.tenants import caller, tenants
from collector.tenants.tenants import Tenant

Run = Callable[[Statement], Awaitable[list[tuple[Any, ...]]]]
_encode = msgspec.json.Encoder().encode


async def reader_of(request: web.Request, *, reads_query: bool = False) -> Tenant:
    """The tenant, if the request's key may search; see `collector.tenants.caller.tenant_of`."""
    return await caller.tenant_of(request, tenants.SEARCH, reads_query=reads_query)


@asynccontextmanager
async def running(request: web.Request, tenant: Tenant, endpoint: str, *, q: str | None = None) -> AsyncIterator[Run]:
    """A place at the turnstile for one caller, with the bounds and the metrics of what is run in it.

    Args:
        q: the caller's query, if it is not that of the URL.
    """
    app = request.app
    asked = request.query.get("q", "") if q is None else q
    began = time.monotonic()
    result = "error"
    async with app[TURNSTILE].passing(tenant.tenant_id, tenant.limits.concurrent_queries):
        try:
            yield partial(bounded, app[STORE], app[CONFIG].store, limits=tenant.limits, q=asked)
            result = "ok"
        finally:
            app[METRICS].query_seconds.labels(endpoint).observe(time.monotonic() - began)
            app[METRICS].queries.labels(endpoint, result).inc()


def json_of(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")


async def bounded(
    store: Store, config: StoreConfig, statement: Statement, *, limits: Limits = NO_LIMITS, q: str = ""
) -> list[tuple[Any, ...]]:
    """The rows of a statement, within the bounds of every query and those of its tenant.

    Args:
        q: the caller's query, for faults in it that only the engine finds.

    Raises:
        StoreError, QueryTooExpensive, Invalid.
    """
    bounds = bounds_of(config, limits, statement)
    settings = bounds.settings()
    if statement.max_bytes is not None:
        settings["max_result_bytes"] = str(statement.max_bytes)
    try:
        return await store.query(statement.sql, statement.params, timeout_s=bounds.time.value, settings=settings)
    except StoreError as error:
        if error.code == refused.CODE:
            await tell_refused_pattern(store, statement.params, q)
        if error.code not in GIVEN_UP_CODES:
            raise
        raise bounds.given_up(error.code) from error


async def tell_refused_pattern(store: Store, values: Mapping[str, Any], q: str) -> None:
    """Raises Invalid for the first regular expression of the caller, among the bound values, that the engine does not take."""
    for at, pattern in refused.patterns_in(values):
        try:
            await store.query(refused.PROBE, {"pattern": pattern})
        except StoreError as error:
            if error.code == refused.CODE:
                raise refused.refusal(q, at, str(error)) from error
            raise
