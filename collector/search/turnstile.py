"""Who may have a query under way: no tenant takes all the store's readers, and callers together leave one free.

- A tenant that has as many queries as it may is told to come back at once: a queue would only hide that, and would let
  its queries pile up before everybody else's.
- All callers together use ``places``, fewer than the store has readers. What is left is for the collector itself: keys,
  duplicates, readiness. Who finds no place waits in turn, at most ``patience_s``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from collector.errors import TooManyQueries, TooManyRequests

RETRY_AFTER_S = 1.0


class Turnstile:
    def __init__(self, places: int, patience_s: float) -> None:
        self._places = asyncio.Semaphore(places)
        self._patience_s = patience_s
        self._inside: Counter[str] = Counter()

    @asynccontextmanager
    async def passing(self, tenant_id: str, most: int) -> AsyncIterator[None]:
        """One query of a tenant that may have ``most``. Raises TooManyQueries."""
        if self._inside[tenant_id] >= most:
            raise TooManyQueries(
                f"{most} queries of this tenant are under way, which is as many as it may have; send this one again",
                retry_after_s=RETRY_AFTER_S,
            )
        self._inside[tenant_id] += 1
        try:
            await self._place()
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._inside[tenant_id] -= 1
            if not self._inside[tenant_id]:
                del self._inside[tenant_id]

    async def _place(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise TooManyQueries(
                f"the queries of others took all places for {self._patience_s:g} s; send this one again",
                retry_after_s=RETRY_AFTER_S,
            ) from None


class Places:
    """How many requests of each tenant are under way in this process."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, tenant_id: str, most: int) -> None:
        """One more. Raises TooManyRequests."""
        if self._taken[tenant_id] >= most:
            raise TooManyRequests(
                f"{most} requests of this tenant are under way, which is as many as it may have; send this one again",
                retry_after_s=RETRY_AFTER_S,
            )
        self._taken[tenant_id] += 1

    def leave(self, tenant_id: str) -> None:
        self._taken[tenant_id] -= 1
        if not self._taken[tenant_id]:
            del self._taken[tenant_id]
