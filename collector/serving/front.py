"""The HTTP server as the library makes it, with bounds on what comes before a handler and answers in the API's own form.

- What cannot be read as HTTP (a bad request line, bad or too large headers, two lengths) never reaches a handler; it gets
  the same envelope as every other error. The library would log it with the bytes that were sent, keys among them.
- A connection on which no whole request arrived for ``header_timeout_s`` is closed: half a request costs nothing for long.
- So does an ``Expect`` that nobody can meet.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_hex

import msgspec
from aiohttp import hdrs, web

from agent import wire
from collector.errors import HTTP_CODES, Body, Envelope, Reply, answer_of, shown
from collector.log import fields

log = logging.getLogger(__name__)


class Runner(web.AppRunner):
    """An `web.AppRunner` whose connections are of `_Connection`.

    Args:
        header_timeout_s: how long a connection may be without a whole request.
    """

    def __init__(self, app: web.Application, *, header_timeout_s: float, shutdown_timeout_s: float) -> None:
        # Packed bodies are unpacked by `collector.ingest.bodies`, which bounds what comes out.
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=shutdown_timeout_s,
            auto_decompress=False,
            keepalive_timeout=header_timeout_s,
        )

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # the library has no other way to name the class of connections
        server.request_handler = partial(_enveloped, server.request_handler)
        return server


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        connection = super().__call__()
        connection.__class__ = _Connection
        return connection


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What happened outside of every handler: an answer, after which the connection is closed."""
        if isinstance(exc, ConnectionError):
            raise exc  # the caller went away: nobody is left to be answered
        named = token_hex(8)
        if status >= 500:
            log.error("a request failed outside of its handler: %s", exc, exc_info=exc, extra=fields(request_id=named))
            reply = answer_of(exc or RuntimeError("unknown"), named)
        else:
            log.debug("what came is not HTTP: %s", type(exc).__name__, extra=fields(request_id=named))
            reply = _refused(status, _sentence(message), named)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        response = respond(reply)
        response.headers[hdrs.SERVER] = "pulsestream"
        response.force_close()
        return response


async def _enveloped(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], request: web.BaseRequest
) -> web.StreamResponse:
    expected = request.headers.get(hdrs.EXPECT, "100-continue").lower()
    if expected != "100-continue":  # the library would put what was sent into a text, and fail where it is no UTF-8
        message = f"Expect: {shown(expected)!r} cannot be met; send the request without this header"
        return respond(_refused(417, message, _name_of(request)))
    try:
        return await handler(request)
    except web.HTTPException as error:
        return respond(_refused(error.status, error.reason, _name_of(request)))


def _name_of(request: web.BaseRequest) -> str:
    sent = request.headers.get(wire.REQUEST_ID_HEADER, "")
    return sent if wire.REQUEST_ID.fullmatch(sent) else token_hex(8)


def _refused(status: int, message: str, request_id: str) -> Reply:
    return Reply(status, Body(HTTP_CODES.get(status, "bad_request"), message, request_id=request_id))


def _sentence(message: str | None) -> str:
    first = (message or "").strip().partition("\n")[0].rstrip(":")
    return f"the request cannot be read as HTTP: {shown(first) or 'it is malformed'}; send it with an HTTP/1.1 client"


def respond(reply: Reply, headers: dict[str, str] | None = None) -> web.Response:
    """The error envelope on the wire."""
    sent = dict(headers or {})
    if reply.retry_after_s is not None:
        sent["Retry-After"] = str(max(1, math.ceil(reply.retry_after_s)))
    if reply.body.request_id:
        sent[wire.REQUEST_ID_HEADER] = reply.body.request_id
    if reply.status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    body = msgspec.json.encode(Envelope(reply.body))
    return web.Response(status=reply.status, body=body, content_type="application/json", headers=sent)
