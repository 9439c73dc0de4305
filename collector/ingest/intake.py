"""Bodies of requests, read with a bound on each and on all together.

- A body beyond its limit ends in `TooLarge`: at once when its length is announced, else at the first byte too many.
- All bodies in memory together stay below ``total_bytes``, one tenant's below its share of it, counted as the bytes
  arrive: a caller who announces much and sends nothing holds nothing. Beyond that: `QueueFull`, nothing was taken.
  A body that is alone is let in, however small the bound.
- A body for which its tenant has no room now waits at the door, unread, at most `PATIENCE_S`: a client with many
  connections is slowed down so, rather than sent away with what it has just uploaded.
- A caller who sends nothing for `IDLE_S` is given up, so that half-sent requests cannot pile up.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from collector.errors import BadRequest, QueueFull, TooLarge

IDLE_S = 30.0
PATIENCE_S = 1.0
BECOMES = 2
"""What a body is taken for at the door, in times of its length: it is taken apart, and what it held waits for its commit."""


_TOO_MUCH = "too many bytes are being received; nothing of this request was taken"


class Stream(Protocol):
    """The part of aiohttp's StreamReader that is used."""

    async def readany(self) -> bytes: ...

    def read_nowait(self) -> bytes: ...

    def is_eof(self) -> bool: ...

    def exception(self) -> BaseException | None: ...


class Intake:
    def __init__(self, *, total_bytes: int, tenant_share: float, retry_after_s: float) -> None:
        self._total_bytes = total_bytes
        self._tenant_bytes = int(total_bytes * tenant_share)
        self._retry_after_s = retry_after_s
        self._held: Counter[str] = Counter()
        self._all = 0
        self._expected: Counter[str] = Counter()
        """By tenant, of bodies that passed the door: what they announced. It binds nobody but the tenant itself."""
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def body(self, stream: Stream, *, announced: int | None, limit: int, tenant_id: str) -> AsyncIterator[bytes]:
        """The whole body, counted until the block is left.

        Args:
            announced: the Content-Length, if there is one.
            limit: longest body in bytes.

        Raises:
            TooLarge: the body is longer than ``limit``.
            QueueFull: too many bytes are held, by all or by this tenant, and for too long.
            BadRequest: the body is empty, or stopped arriving.
        """
        if announced is not None and announced > limit:
            raise _too_large(limit, f"{announced} bytes are announced")
        chunks: list[bytes] = []
        held = 0
        expected = min(BECOMES * (announced or 0), self._tenant_bytes)
        await self._pass_the_door(tenant_id, expected)
        try:
            while chunk := await _next(stream):
                if held + len(chunk) > limit:
                    raise _too_large(limit, "more arrived")
                self._admit(tenant_id, len(chunk), held)
                held += len(chunk)
                chunks.append(chunk)
            if not chunks:
                raise BadRequest("the body is empty; send at least one record or event")
            yield b"".join(chunks)
        finally:
            self._release(tenant_id, held)
            self._leave(tenant_id, expected)

    async def _pass_the_door(self, tenant_id: str, size: int) -> None:
        line = self._waiting.get(tenant_id)
        if line is None and self._expected[tenant_id] + size <= self._tenant_bytes:
            self._expected[tenant_id] += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, turn)
        self._waiting.setdefault(tenant_id, deque()).append(place)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():  # let in just then
                self._leave(tenant_id, size)
            else:
                with suppress(KeyError, ValueError):  # passed over already
                    self._waiting[tenant_id].remove(place)
                self._let_in(tenant_id)
            if isinstance(error, TimeoutError):
                raise QueueFull(self._retry_after_s, _TOO_MUCH) from None
            raise

    def _leave(self, tenant_id: str, size: int) -> None:
        self._expected[tenant_id] -= size
        if not self._expected[tenant_id]:
            del self._expected[tenant_id]
        self._let_in(tenant_id)

    def _let_in(self, tenant_id: str) -> None:
        """Those of the tenant's line for whom there is room, in order."""
        line = self._waiting.get(tenant_id)
        while line and self._expected[tenant_id] + line[0][0] <= self._tenant_bytes:
            size, turn = line.popleft()
            if not turn.done():
                self._expected[tenant_id] += size
                turn.set_result(None)
        if line is not None and not line:
            del self._waiting[tenant_id]

    @contextmanager
    def more(self, tenant_id: str, size: int, *, own: int) -> Iterator[None]:
        """Count what a body of ``own`` bytes became besides, until the block is left. Raises QueueFull."""
        self._admit(tenant_id, size, own)
        try:
            yield
        finally:
            self._release(tenant_id, size)

    def _admit(self, tenant_id: str, size: int, own: int) -> None:
        """Count ``size`` more bytes of a body that holds ``own``. A body that is alone is let in whatever its size."""
        tenant = self._held[tenant_id]
        full = tenant + size > self._tenant_bytes and tenant > own
        if full or (self._all + size > self._total_bytes and self._all > own):
            raise QueueFull(self._retry_after_s, _TOO_MUCH)
        self._held[tenant_id] += size
        self._all += size

    def _release(self, tenant_id: str, size: int) -> None:
        self._held[tenant_id] -= size
        self._all -= size
        if not self._held[tenant_id]:
            del self._held[tenant_id]


async def _next(stream: Stream) -> bytes:
    if stream.is_eof() and stream.exception() is None:  # all of it is here, as small bodies are: nothing to wait for
        return stream.read_nowait()
    try:
        async with asyncio.timeout(IDLE_S):
            return await stream.readany()
    except TimeoutError:
        raise BadRequest(f"the body stopped arriving: nothing for {IDLE_S:g} s; send it again") from None
    except (ConnectionError, ClientPayloadError, HttpProcessingError):
        raise BadRequest("the body ended before its end; send it again") from None


def _too_large(limit: int, what: str) -> TooLarge:
    return TooLarge(f"the body may have {limit} bytes at most, {what}; split it into smaller requests")
