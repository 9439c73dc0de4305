"""The way to the collector: one request, and what came of it. Knows HTTP and TLS, and nothing of records or outcomes.

Promises:
- A request is sent once; whether it is sent again is for others to say. Redirects are not followed.
- Of an answer at most `MAX_ANSWER_BYTES` are read: a longer one is no answer of a collector.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from agent import wire
from agent.config import Collector

MAX_ANSWER_BYTES = 16 << 20
CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_TIMEOUT_S = 10.0


class Reply(NamedTuple):
    """What a server said."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReply(Exception):
    """No whole answer came. ``reached``: a connection was there, so the request may have been received, and be the reason."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(f"{url}: {type(error).__name__}: {error}".rstrip(": "))
        self.reached = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError))


class Transport:
    """Requests to the collector that the configuration names. Owned by the event loop."""

    def __init__(self, settings: Collector, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._url = settings.url.rstrip("/") + wire.BLOCKS_PATH
        self._limits = aiohttp.ClientTimeout(total=settings.request_timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Within it requests can be sent."""
        ca_file = self._settings.ca_file
        context = ssl.create_default_context(cafile=ca_file) if ca_file else True
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=context, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as session:
            self._session = session
            yield

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a run. Raises NoReply."""
        return await self._post(body, headers, self._limits)

    async def post_heartbeat(self, body: bytes) -> Reply:
        """Send a heartbeat: it waits for nothing for long. Raises NoReply."""
        limits = aiohttp.ClientTimeout(total=HEARTBEAT_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        return await self._post(body, {}, limits)

    async def _post(self, body: bytes, headers: Mapping[str, str], limits: aiohttp.ClientTimeout) -> Reply:
        assert self._session is not None, "within opened()"
        said = {"X-API-Key": self._settings.api_key, "Content-Type": wire.RUN_TYPE, **headers}
        request = self._session.post(self._url, data=body, headers=said, allow_redirects=False, timeout=limits)
        try:
            async with request as response:
                return Reply(self._url, response.status, response.headers, await _read(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoReply(self._url, error) from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_chunked(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            break
    return b"".join(chunks)
