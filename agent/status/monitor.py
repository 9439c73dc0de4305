"""``/metrics``, ``/healthz`` and ``/livez`` on a port of their own, if the configuration names one. Read-only, plain HTTP.

A request has a few seconds and a few kilobytes; one connection serves one. Nothing here holds up reading or sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from agent import metrics
from agent.errors import AgentError
from agent.metrics import Health

REQUEST_S = 5.0
MAX_REQUEST_BYTES = 8192
LOOK_S = 5.0


@contextlib.asynccontextmanager
async def served(listen: str, max_lag_s: float, snapshot: Callable[[], dict[str, Any]]) -> AsyncIterator[None]:
    """Answer on ``host:port`` as long as the context lasts; do nothing for an empty one. Raises AgentError."""
    if not listen:
        yield
        return
    health = Health(max_lag_s=max_lag_s)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, health, snapshot))
                await writer.drain()
        writer.close()

    host, _, port = listen.rpartition(":")
    try:
        server = await asyncio.start_server(serve, host.strip("[]"), int(port), limit=MAX_REQUEST_BYTES)
    except OSError as error:
        raise AgentError(f"metrics.listen: {listen}: {error.strerror or error}; name an address that is free here") from None
    looking = asyncio.create_task(_look(health, snapshot))
    try:
        yield
    finally:
        looking.cancel()
        server.close()


async def _look(health: Health, snapshot: Callable[[], dict[str, Any]]) -> None:
    while True:
        health.look(snapshot(), time.monotonic())
        await asyncio.sleep(LOOK_S)


def _answer(head: bytes, health: Health, snapshot: Callable[[], dict[str, Any]]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    now_s = time.monotonic()
    said = snapshot()
    health.look(said, now_s)
    reasons = health.reasons(now_s)
    if method not in (b"GET", b"HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", "only GET\n"
    elif path == b"/metrics":
        status, kind = "200 OK", metrics.TEXT_TYPE
        body = metrics.render(said, lag_s=health.lag_s(now_s), healthy=not reasons)
    elif path == b"/livez":
        status, kind, body = "200 OK", "text/plain", "ok\n"
    elif path == b"/healthz":
        status, kind = "503 Service Unavailable" if reasons else "200 OK", "application/json"
        body = msgspec.json.encode({"status": "red" if reasons else "ok", "reasons": reasons}).decode() + "\n"
    else:
        status, kind, body = "404 Not Found", "text/plain", "there are /metrics, /healthz and /livez\n"
    data = body.encode()
    fields = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return fields.encode() + (b"" if method == b"HEAD" else data)
