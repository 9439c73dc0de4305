"""The way to the collectors: one request, and what came of it. Knows HTTP and TLS, and nothing of records or outcomes.

Promises:
- A request is sent once; whether it is sent again is for others to say. Redirects are not followed.
- Of an answer at most `MAX_ANSWER_BYTES` are read: a longer one is no answer of a collector.
- Key, certificate and authorities are read again when their files change; what cannot be used then leaves the old in place:
  new files are tried in a context of their own, which connections from then on are made with.
- Environment variables (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) name the proxy, unless the configuration does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from agent import settings as texts
from agent import wire
from agent.config import DIRECT, Collector
from agent.shipping import tls
from agent.shipping.endpoints import Bandwidth, Endpoint, Endpoints

with tls.without_authorities():
    import aiohttp  # makes two contexts of its own at once; `Transport` never uses them

log = logging.getLogger("agent.ship")

MAX_ANSWER_BYTES = 16 << 20
CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_TIMEOUT_S = 10.0


class Reply(NamedTuple):
    """What a server said."""

    endpoint: Endpoint
    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str = ""
    """Under which the server's log has it, if it is a collector's."""


class NoReply(Exception):
    """No whole answer came. ``reached``: a connection was there, so the request may have been received, and be the reason."""

    def __init__(self, endpoint: Endpoint, error: Exception, request_id: str) -> None:
        super().__init__(f"{endpoint.url}: {type(error).__name__}: {error}".rstrip(": "))
        self.endpoint = endpoint
        self.request_id = request_id
        self.reached = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError))


class Transport:
    """Requests to the collectors that the configuration names. Owned by the event loop."""

    def __init__(self, settings: Collector, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._limits = aiohttp.ClientTimeout(total=settings.request_timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        urls = [url.rstrip("/") + wire.BLOCKS_PATH for url in (settings.url, *settings.urls)]
        self._endpoints = Endpoints(urls)
        self._proxies = {url: proxy_for(url, settings.proxy) for url in urls}
        self._bandwidth = Bandwidth(settings.bandwidth_limit_bytes_per_s)
        self.key = settings.api_key
        self._key_file = _Watched(settings.api_key_file)
        self._tls_urls = [*urls, *filter(None, self._proxies.values())]
        self._tls_files = _Watched(settings.cert_file, settings.key_file, settings.ca_file)
        self._tls = tls.context(settings, self._tls_urls)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Within it requests can be sent."""
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as session:
            self._session = session
            yield

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a run, when the limit of bytes a second lets it. Raises NoReply."""
        if wait_s := self._bandwidth.take(len(body), time.monotonic()):
            await asyncio.sleep(wait_s)
        return await self._post(body, headers, self._limits)

    async def post_heartbeat(self, body: bytes) -> Reply:
        """Send a heartbeat: it waits for nothing for long. Raises NoReply."""
        limits = aiohttp.ClientTimeout(total=HEARTBEAT_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        return await self._post(body, {}, limits)

    async def get(self, path: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask for something else than blocks. Raises NoReply."""
        asked = f"{path}?{urlencode(query)}" if query else path
        return await self._ask("GET", asked, None, headers or {}, self._limits)

    def works(self, endpoint: Endpoint) -> None:
        """It answered as a collector does."""
        if self._endpoints.works(endpoint):
            log.info("%s answers again", endpoint.url)

    def failed(self, endpoint: Endpoint, *, suspicious: bool) -> bool:
        """It did not, and that may be the fault of what was sent. Returns whether another is worth asking at once."""
        return self._endpoints.failed(endpoint, time.monotonic(), suspicious=suspicious)

    def refresh(self) -> None:
        """Look at the files of key and certificate."""
        if self._tls is not None and self._tls_files.changed():
            settings = self._settings
            files = ", ".join(filter(None, (settings.cert_file, settings.key_file, settings.ca_file)))
            try:
                self._tls = tls.context(settings, self._tls_urls)
                log.info("%s: read again for new connections", files)
            except OSError as error:
                log.warning("%s: cannot be used: %s; what was there before stays in force", files, error.strerror or error)
        if not self._key_file.changed():
            return
        try:
            key = texts.read_secret(self._settings.api_key_file, "collector.api_key_file")
        except texts.SettingsError as error:
            log.warning("%s; the old key stays", error)
            return
        if key != self.key:
            self.key = key
            log.info("%s: the key was read again", self._settings.api_key_file)

    async def _post(self, body: bytes, headers: Mapping[str, str], limits: aiohttp.ClientTimeout) -> Reply:
        return await self._ask("POST", wire.BLOCKS_PATH, body, {"Content-Type": wire.RUN_TYPE, **headers}, limits)

    async def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> Reply:
        assert self._session is not None, "within opened()"
        self.refresh()
        endpoint = self._endpoints.pick(time.monotonic())
        url = endpoint.url.removesuffix(wire.BLOCKS_PATH) + path
        request_id = os.urandom(8).hex()
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers={"X-API-Key": self.key, wire.REQUEST_ID_HEADER: request_id, **headers},
                allow_redirects=False,
                timeout=limits,
                proxy=self._proxies[endpoint.url],
                ssl=self._tls or True,
            ) as response:
                told = response.headers.get(wire.REQUEST_ID_HEADER, "")
                request_id = told if wire.REQUEST_ID.fullmatch(told) else request_id
                return Reply(endpoint, response.status, response.headers, await _read(response), request_id)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoReply(endpoint, error, request_id) from error


class _Watched:
    """Files that may be replaced; empty paths are none."""

    def __init__(self, *paths: str) -> None:
        self._paths = [path for path in paths if path]
        self._last = self._look()

    def _look(self) -> list[tuple[int, int, int]] | None:
        try:
            stats = [os.stat(path) for path in self._paths]
        except OSError:
            return None
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]

    def changed(self) -> bool:
        """Since the last look, to others that are there."""
        before, self._last = self._last, self._look()
        return self._last is not None and self._last != before


def proxy_for(url: str, wanted: str) -> str | None:
    """The proxy for requests to ``url``: the one that is configured, else the environment's; None: none."""
    if wanted:
        return None if wanted == DIRECT else wanted
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_chunked(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            break
    return b"".join(chunks)
