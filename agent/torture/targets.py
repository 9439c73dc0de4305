"""Where the lines go: a sink of our own that keeps each event once by its ID, as a store does, or a collector that is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import aiohttp
import msgspec
from aiohttp import web

from agent import wire
from agent.codec import decompress
from agent.text import packing
from agent.torture.victim import OrdealFailed
from agent.torture.weather import MAX_BODY_BYTES

SEARCH_PATH = "/api/v1/ingestion/events/search"
OUTCOMES_PATH = "/api/v1/ingestion/outcomes"
CURSOR_HEADER = "X-Next-Cursor"
PAGE = 10_000
READY_S = 60.0
PAUSE_S = 0.3

Strike: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Some harm, and its end."""


class Target(Protocol):
    url: str
    api_key: str

    @property
    def victims(self) -> dict[str, Strike]:
        """What may be killed and started again, by name."""
        ...

    async def start(self) -> None: ...

    async def stored(self, service: str) -> Counter[str]:
        """How often each text of a service is stored, as a reader sees it."""
        ...

    async def lost_bytes(self) -> int:
        """By the loss records that arrived since the start."""
        ...

    async def stop(self) -> None: ...


class Sink:
    """Takes runs as a collector does."""

    api_key = "torture"

    def __init__(self) -> None:
        self.url = ""
        self._texts: dict[str, str] = {}
        self._buried: set[str] = set()
        self._losses: dict[str, int] = {}
        self._runner: web.AppRunner | None = None

    @property
    def victims(self) -> dict[str, Strike]:
        return {}

    async def start(self) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post(wire.BLOCKS_PATH, self._blocks)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def stored(self, service: str) -> Counter[str]:
        return Counter(self._texts.values())

    async def lost_bytes(self) -> int:
        return sum(self._losses.values())

    async def _blocks(self, request: web.Request) -> web.Response:
        records = list(wire.decode_run(await request.read()))
        answer = wire.Answer("torture", tuple(self._take(record) for record in records))
        return web.Response(body=msgspec.json.encode(answer), content_type=wire.ANSWER_TYPE)

    def _take(self, record: wire.Record) -> wire.RecordOutcome:
        header = record.header
        raw = decompress(record.payload, header.raw_bytes)
        if header.kind == wire.LOSS:
            self._losses.update((loss.loss_id, loss.lost_bytes) for loss in wire.decode_losses(raw))
        elif header.kind == wire.COMPLETED:
            for name in wire.decode_completed(raw):
                if self._texts.pop(name, None) is not None:
                    self._buried.add(name)
        elif header.kind == wire.DATA:
            for at, line in packing.events_of(header, raw):
                name = wire.event_id(header.file_id, at, line)
                if name not in self._buried:
                    self._texts[name] = line.decode("utf-8", "replace")
        return wire.RecordOutcome(header.record_id, wire.ACCEPTED, accepted=header.events)


class Collector:
    """A collector that runs somewhere, with a tenant's key that may ingest and search.

    Args:
        command: starts it, in the foreground; it is then killed and started again, too. Empty: it is there, and stays.
        log: where the command's output goes.
    """

    def __init__(self, url: str, api_key: str, *, command: Sequence[str] = (), log: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self.api_key = api_key
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._lost_before = 0

    @property
    def victims(self) -> dict[str, Strike]:
        return {"collector": self._kill} if self._command else {}

    async def start(self) -> None:
        await self._launch()
        self._lost_before = await self._lost_bytes()

    async def _launch(self) -> None:
        if not self._command:
            return
        with (self._log or Path(os.devnull)).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started itself
        await process.wait()

    async def _kill(self) -> None:
        await self.stop()
        await asyncio.sleep(PAUSE_S)
        await self._launch()

    async def stored(self, service: str) -> Counter[str]:
        found: Counter[str] = Counter()
        cursor: dict[str, str] = {}
        async with self._session() as session:
            while True:
                query = {"limit": str(PAGE), "format": "ndjson", "service": service, **cursor}
                body, following = await self._get(session, SEARCH_PATH, query)
                found.update(_event.decode(line).message for line in body.splitlines())
                if not following:
                    return found
                cursor = {"cursor": following}

    async def lost_bytes(self) -> int:
        return await self._lost_bytes() - self._lost_before

    async def _lost_bytes(self) -> int:
        async with self._session() as session:
            body, _ = await self._get(session, OUTCOMES_PATH, {})
        return _outcomes.decode(body).losses.bytes

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers={"X-API-Key": self.api_key})

    async def _get(self, session: aiohttp.ClientSession, path: str, query: dict[str, str]) -> tuple[bytes, str]:
        """The answer and the cursor of the next page; asked for again while the collector is not ready."""
        end_s = asyncio.get_running_loop().time() + READY_S
        while True:
            try:
                async with session.get(self.url + path, params=query) as response:
                    body = await response.read()
                    if response.status == 200:
                        return body, response.headers.get(CURSOR_HEADER, "")
                    trouble = f"HTTP {response.status}: {body[:500].decode('utf-8', 'replace')}"
                    hopeless = response.status < 429
            except (aiohttp.ClientError, TimeoutError) as error:
                trouble, hopeless = f"{type(error).__name__}: {error}", False
            if hopeless or asyncio.get_running_loop().time() > end_s:
                raise OrdealFailed(f"{self.url}{path}: {trouble}")
            await asyncio.sleep(1.0)


class _Event(msgspec.Struct):
    message: str


class _Losses(msgspec.Struct):
    bytes: int


class _Outcomes(msgspec.Struct):
    losses: _Losses


_event = msgspec.json.Decoder(_Event)
_outcomes = msgspec.json.Decoder(_Outcomes)
