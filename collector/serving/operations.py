"""What operators and orchestrators ask: is it alive, can it work, how is it doing, what is it."""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from agent.release import version
from collector import metrics
from collector.api.paths import ADMIN, ANYONE, DESCRIPTION_PATH, KEY, OPERATIONS, Operation
from collector.errors import StoreError
from collector.parts import AGENTS, BREAKAGE, METRICS, PEERS, QUOTA, READINESS, STORE, WRITER
from collector.search.read_types import ComponentHealth, HealthAnswer
from collector.tenants import caller

RETRY_AFTER_S = 2

_WHO = {KEY: "API key", ADMIN: "admin token", ANYONE: "anyone"}


def _who(operation: Operation) -> str:
    return f"{_WHO[operation.credential]}, scope {operation.scope}" if operation.scope else _WHO[operation.credential]


_HERE = {
    "name": "pulsestream-collector",
    "what": "Takes log events from agents, keeps each exactly once, and lets their owners search them.",
    "endpoints": {f"{op.method.upper()} {op.path}": f"{op.summary} ({_who(op)})" for op in OPERATIONS},
    "credentials": "X-API-Key: ps_…, or Authorization: Bearer ps_…",
    "description": DESCRIPTION_PATH,
}


async def get_root(request: web.Request) -> web.Response:
    caller.anyone(request)
    return _json(_HERE)


async def get_healthz(request: web.Request) -> web.Response:
    """The process answers; nothing else is looked at, so that a store away restarts nobody."""
    caller.anyone(request)
    return _json({"status": "ok"})


async def get_health(request: web.Request) -> web.Response:
    """How the parts are, for people and dashboards; 503 when requests cannot be served. Needs no key, tells no figures."""
    caller.anyone(request)
    app = request.app
    away = await _not_ready(request)
    shared = app[QUOTA].state
    parts = {
        "store": ComponentHealth("down" if away else "ok", away),
        "writer": ComponentHealth("ok" if app[WRITER].takes else "down"),
        "limits": ComponentHealth("degraded" if "does not answer" in shared else "ok", shared),
    }
    if warning := app[BREAKAGE].warning:
        parts["parts"] = ComponentHealth("degraded", warning)
    if not app[PEERS].alone:
        running, count = len(app[PEERS].running()), app[PEERS].count
        parts["workers"] = ComponentHealth("degraded" if running < count else "ok", f"{running} of {count} take requests")
    states = {part.status for part in parts.values()}
    status = "unhealthy" if "down" in states else "degraded" if "degraded" in states else "healthy"
    answer = HealthAnswer(status, version(), round(time.monotonic() - app[READINESS].since_s, 1), parts)
    response = _json(answer, status=503 if status == "unhealthy" else 200)
    if status == "unhealthy":
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


async def get_readyz(request: web.Request) -> web.Response:
    """Asks the store itself: what the last look said may be seconds old."""
    caller.anyone(request)
    reason = await _not_ready(request)
    if not reason:
        warning = request.app[BREAKAGE].warning
        return _json({"status": "ready", "warning": warning} if warning else {"status": "ready"})
    answer = _json({"status": "not ready", "reason": reason}, status=503)
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


async def get_metrics(request: web.Request) -> web.Response:
    """Of all workers together, whichever is asked."""
    caller.anyone(request)
    request.app[AGENTS].measure()
    return web.Response(body=request.app[METRICS].text(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _not_ready(request: web.Request) -> str:
    """Why requests cannot be served; empty when they can."""
    reason = request.app[READINESS].reason
    if not reason:
        try:
            await request.app[STORE].ping()
        except StoreError:
            reason = "the store does not answer"
    if not reason and not request.app[WRITER].takes:
        reason = "the writer has ended; restart the collector"
    return reason


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
