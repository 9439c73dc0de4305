"""Bodies of requests, read with a bound on each and on all together.

- A body beyond its limit ends in `TooLarge`: at once when its length is announced, else at the first byte too many.
- All bodies in memory together stay below ``total_bytes``, one tenant's below its share of it, counted as the bytes
  arrive: a caller who announces much and sends nothing holds nothing. Beyond that: `QueueFull`, nothing was taken.
  A body that is alone is let in, however small the bound.
- A caller who sends nothing for `IDLE_S` is given up, so that half-sent requests cannot pile up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from collector.errors import BadRequest, QueueFull, TooLarge

IDLE_S = 30.0


class Stream(Protocol):
    """The part of aiohttp's StreamReader that is used."""

    async def readany(self) -> bytes: ...


class Intake:
    def __init__(self, *, total_bytes: int, tenant_share: float, retry_after_s: float) -> None:
        self._total_bytes = total_bytes
        self._tenant_bytes = int(total_bytes * tenant_share)
        self._retry_after_s = retry_after_s
        self._held: Counter[str] = Counter()
        self._all = 0

    @asynccontextmanager
    async def body(self, stream: Stream, *, announced: int | None, limit: int, tenant_id: str) -> AsyncIterator[bytes]:
        """The whole body, counted until the block is left.

        Args:
            announced: the Content-Length, if there is one.
            limit: longest body in bytes.

        Raises:
            TooLarge: the body is longer than ``limit``.
            QueueFull: too many bytes are held, by all or by this tenant.
            BadRequest: the body is empty, or stopped arriving.
        """
        if announced is not None and announced > limit:
            raise _too_large(limit, f"{announced} bytes are announced")
        chunks: list[bytes] = []
        held = 0
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
            raise QueueFull(self._retry_after_s, "too many bytes are being received; nothing of this request was taken")
        self._held[tenant_id] += size
        self._all += size

    def _release(self, tenant_id: str, size: int) -> None:
        self._held[tenant_id] -= size
        self._all -= size
        if not self._held[tenant_id]:
            del self._held[tenant_id]


async def _next(stream: Stream) -> bytes:
    try:
        async with asyncio.timeout(IDLE_S):
            return await stream.readany()
    except TimeoutError:
        raise BadRequest(f"the body stopped arriving: nothing for {IDLE_S:g} s; send it again") from None
    except (ConnectionError, ClientPayloadError, HttpProcessingError):
        raise BadRequest("the body ended before its end; send it again") from None


def _too_large(limit: int, what: str) -> TooLarge:
    return TooLarge(f"the body may have {limit} bytes at most, {what}; split it into smaller requests")
