"""What surrounds every request: its id, its errors as answers, its metrics and its line in the log.

- The id is the caller's ``X-Request-ID`` if that is a plain one (`agent.wire.REQUEST_ID`), else made here. It is in the
  answer's header, in an error's body and in the log line, also where no handler was reached (`collector.serving.front`).
- A ``traceparent`` (W3C) makes the line part of that trace.
- An error becomes its answer by the table in `collector.errors`. One access line says method, route, status and time, never a
  query string, a key or content.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex

from aiohttp import web

from agent import wire
from collector.errors import HTTP_CODES, Body, Reply, StoreError, answer_of
from collector.ingest import small_bodies
from collector.log import ACCESS, fields
from collector.parts import METRICS, PROXIES, REQUEST_ID, TENANT_ID
from collector.serving.forwarding import PROTO_HEADER
from collector.serving.front import respond
from collector.serving.tls import PROBES, shown

log = logging.getLogger("collector.app")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TRACE_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACE = "trace"


async def say_request(request: web.Request, response: web.StreamResponse) -> None:
    """Before an answer is sent; that of a stream is, long before its handler ends."""
    response.headers[wire.REQUEST_ID_HEADER] = request[REQUEST_ID]
    response.headers["Server"] = "pulsestream"


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """What a log line says of the trace that a request is part of (W3C Trace Context, 3.2); nothing if it is of none.
    A version to come has more behind the flags, never before; the present one has none."""
    text = headers.get("traceparent", "")
    match = _TRACE_PARENT.fullmatch(text)
    if match is None or (text.startswith("00") and len(text) > match.end(3)):
        return {}
    return {"trace_id": match[1], "span_id": match[2], "trace_flags": match[3]}


@web.middleware
async def surround(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Request id, errors into answers, metrics, access line."""
    began = time.monotonic()
    sent_id = request.headers.get(wire.REQUEST_ID_HEADER, "")
    request_id = request[REQUEST_ID] = sent_id if wire.REQUEST_ID.fullmatch(sent_id) else token_hex(8)
    request[_TRACE] = trace_of(request.headers)
    metrics = request.app[METRICS]
    metrics.requests_in_flight.inc()
    status = 499
    try:
        response = await _answered(request, handler, request_id)
        status = response.status
        return response
    finally:
        metrics.requests_in_flight.dec()
        _account(request, status, time.monotonic() - began)


async def _answered(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        reply = _of_http(request, error, request_id)
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return respond(reply, headers)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        reply = answer_of(error, request_id)
        if reply.status == 500:
            log.error("a request failed: %s", error, exc_info=error, extra=fields(request_id=request_id, **request[_TRACE]))
        elif isinstance(error, StoreError):
            log.warning("a request met the store away: %s", error, extra=fields(request_id=request_id, **request[_TRACE]))
        return respond(reply)


def _of_http(request: web.Request, error: web.HTTPException, request_id: str) -> Reply:
    """What aiohttp refused by itself."""
    if error.status == 404:
        message = f"there is nothing at {request.path}; GET / lists what there is"
    elif error.status == 405:
        message = f"{request.method} is not possible here; possible: {error.headers.get('Allow', '')}"
    elif error.status == 413:
        message = f"the body may have {small_bodies.MAX_BODY_BYTES} bytes at most here"
    else:
        message = error.reason
    return Reply(error.status, Body(HTTP_CODES.get(error.status, "bad_request"), message, request_id=request_id))


def _account(request: web.Request, status: int, seconds: float) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    metrics = request.app[METRICS]
    metrics.requests.labels(route, str(status)).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    # What machines ask every few seconds.
    level = logging.DEBUG if route in PROBES and status < 400 else logging.INFO
    proxies, headers = request.app[PROXIES], request.headers
    origin = proxies.origin(
        request.remote or "", request.scheme, headers.getall(proxies.header, ()), headers.getall(PROTO_HEADER, ())
    )
    ACCESS.log(
        level,
        "%s %s %d",
        request.method,
        route if resource else request.path,
        status,
        extra=fields(
            ms=round(seconds * 1000, 1),
            request_id=request[REQUEST_ID],
            tenant=request.get(TENANT_ID, ""),
            remote=origin.address,
            **request[_TRACE],
            **({"scheme": origin.scheme} if origin.scheme != "http" else {}),
            **({"certificate": name} if (name := shown(request)) else {}),
        ),
    )
