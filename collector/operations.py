"""What operators and orchestrators ask: is it alive, can it work, how is it doing, what is it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from agent import wire
from collector import metrics
from collector.errors import StoreError
from collector.parts import METRICS, READINESS, STORE, WRITER

RETRY_AFTER_S = 2

_HERE = {
    "name": "pulsestream-collector",
    "what": "Takes log events from agents, keeps each exactly once, and lets their owners search them.",
    "endpoints": {
        f"POST {wire.BLOCKS_PATH}": "records of agents (API key with scope ingest)",
        "GET /api/v1/ingestion/events/search": "search (scope search): q, service, severity, start_time, …",
        "GET /api/v1/ingestion/stats": "how much is kept, what was lost (scope search)",
        "POST /api/v1/auth/register/tenant": "a new tenant and its key (admin token)",
        "GET /api/v1/tenants": "all tenants (admin token)",
        "GET /healthz": "200 while the process works",
        "GET /readyz": "200 while requests can be served, else 503 with the reason",
        "GET /metrics": "Prometheus metrics",
    },
    "credentials": "X-API-Key: ps_…, or Authorization: Bearer ps_…",
}


async def get_root(request: web.Request) -> web.Response:
    return _json(_HERE)


async def get_healthz(request: web.Request) -> web.Response:
    """The process answers; nothing else is looked at, so that a store away restarts nobody."""
    return _json({"status": "ok"})


async def get_readyz(request: web.Request) -> web.Response:
    """Asks the store itself: what the last look said may be seconds old."""
    reason = request.app[READINESS].reason
    if not reason:
        try:
            await request.app[STORE].ping()
        except StoreError:
            reason = "the store does not answer"
    if not reason and not request.app[WRITER].takes:
        reason = "the writer has ended; restart the collector"
    if not reason:
        return _json({"status": "ready"})
    answer = _json({"status": "not ready", "reason": reason}, status=503)
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


async def get_metrics(request: web.Request) -> web.Response:
    return web.Response(body=request.app[METRICS].text(), headers={"Content-Type": metrics.CONTENT_TYPE})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
