"""Where bodies are taken apart: on the event loop, one at a time and in slices, between which everybody is served.

Threads would not do it faster, as one interpreter runs one of them at a time; they made the loop wait some milliseconds
for its next turn again and again, and moved the work from core to core. Tenants with work here take turns, so one
tenant's many batches delay another's by one of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Workbench:
    def __init__(self) -> None:
        self._busy = False
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        """Who waits, by tenant; the first tenant is next."""

    async def do(self, tenant_id: str, work: Generator[None, None, T]) -> T:
        """The result of ``work``, which yields where it may be interrupted. Raises what it raises."""
        async with self._turn(tenant_id):
            while True:
                try:
                    next(work)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]  # typed as Any there
                await asyncio.sleep(0)

    @asynccontextmanager
    async def _turn(self, tenant_id: str) -> AsyncIterator[None]:
        if self._busy:
            await self._wait(tenant_id)
        self._busy = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, tenant_id: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come just then
                self._next()
            raise

    def _next(self) -> None:
        """Pass the turn on; the place stays taken if there is somebody to take it."""
        while self._lines:
            tenant_id, line = next(iter(self._lines.items()))
            turn = line.popleft()
            del self._lines[tenant_id]
            if line:
                self._lines[tenant_id] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False
