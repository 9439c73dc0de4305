"""Writes at intervals what other parts keep in memory and lose little by losing: outcomes by the hour, heartbeats.

A store that is away only delays: what is to be written is kept by its part, and tried again. A clean stop writes the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol

from collector.errors import StoreError

log = logging.getLogger(__name__)

WRITE_S = 2.0
Write = Callable[[], Awaitable[None]]


class Readied(Protocol):
    @property
    def ready(self) -> bool: ...


class Flusher:
    """Calls ``writes`` (named, for the log) one after the other, each `WRITE_S`."""

    def __init__(self, store: Readied, writes: Mapping[str, Write]) -> None:
        self._store = store
        self._writes = writes
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="flusher")

    async def stop(self) -> None:
        """End, and write what is left."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for name, write in self._writes.items():
            try:
                await write()
            except StoreError as error:
                log.error("%s: what was counted last could not be written: %s", name, error)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_S)
            if self._store.ready:
                for name, write in self._writes.items():
                    await self._write(name, write)

    async def _write(self, name: str, write: Write) -> None:
        try:
            await write()
        except StoreError as error:
            log.debug("%s: not written, tried again: %s", name, error)
        except Exception:
            log.exception("%s: writing failed in an unexpected way", name)
