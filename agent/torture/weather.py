"""The way between agent and collector: a proxy that is, by turns, fine, slow, wrong and gone.

Of each request it is decided anew what happens to it; how often something bad does, changes every few seconds. Whatever the
answer, the far side may have stored the request: that is the point.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

import aiohttp
from aiohttp import web

HELD_S = 6.0
"""Longer than the agent waits."""
FORWARD_TIMEOUT_S = 30.0
MAX_BODY_BYTES = 64 << 20
HARMS = (
    "429", "503", "500", "html", "hang", "reset",
    "429_stored", "503_stored", "late_answer", "lost_answer", "cut_answer",
)  # fmt: skip
"""What may happen to a request. Without forwarding it: four wrong answers, none within the time, a reset. After it was
forwarded, and stored: told to wait or that nothing works, an answer that comes too late, none, half of one."""


class Weather:
    """The proxy. ``url`` is where it listens, ``counts`` what happened how often."""

    def __init__(self, target_url: str, seed: int) -> None:
        self._target_url = target_url
        self._random = Random(seed)
        self.chance = 0.0
        """Of harm, for each request."""
        self.url = ""
        self.counts: Counter[str] = Counter()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FORWARD_TIMEOUT_S), auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def change(self, random: Random) -> None:
        """Other weather."""
        self.chance = random.choice((0.0, 0.05, 0.3, 0.9, 1.0))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        harm = self._random.choice(HARMS) if self._random.random() < self.chance else "fine"
        self.counts[harm] += 1
        body = await request.read()
        if harm in ("429", "503", "500"):
            return _refusal(harm)
        if harm == "html":
            return web.Response(text="<html>all is well</html>", content_type="text/html")
        if harm == "hang":
            await asyncio.sleep(HELD_S)
            return _cut_off(request)
        if harm == "reset":
            return _cut_off(request)
        status, kind, answer = await self._forward(request, body)
        if harm in ("429_stored", "503_stored"):
            return _refusal(harm.partition("_")[0])
        if harm == "late_answer":
            await asyncio.sleep(HELD_S)
        if harm == "lost_answer":
            return _cut_off(request)
        if harm == "cut_answer":
            response = web.StreamResponse(status=status, headers={"Content-Type": kind, "Content-Length": str(len(answer))})
            with suppress(ConnectionError):  # the agent went away first
                await response.prepare(request)
                await response.write(answer[: len(answer) // 2])
            return _cut_off(request)
        return web.Response(status=status, body=answer, headers={"Content-Type": kind})

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, str, bytes]:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        try:
            async with self._session.request(
                request.method, self._target_url + request.path_qs, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status, answer.headers.get("Content-Type", ""), await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            self.counts["away"] += 1
            return 502, "text/html", b"<html>bad gateway</html>"


def _refusal(status: str) -> web.Response:
    headers = {"Retry-After": "1"} if status != "500" else {}
    return web.json_response({"error": {"code": "torture", "message": status}}, status=int(status), headers=headers)


def _cut_off(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # nobody reads it
