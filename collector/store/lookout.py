"""What only the store knows, for the metrics: agents that went silent, and how full its disks are.

- An agent may speak to any collector, so one collector alone cannot tell that it is silent: the last heartbeat that any of
  them has written counts. One that said goodbye, or was silent for longer than `REMEMBERED_S`, is not waited for.
- Nothing waits for a look, and one that fails leaves the figures as they were: a store that is away has a metric of its own.

Known limit: a user of a server who may not read ``system.disks`` is told nothing about them, once, in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from agent import wire
from collector.errors import StoreAway, StoreError
from collector.metrics import Metrics
from collector.store.store import Store

log = logging.getLogger(__name__)

LOOK_S = 30.0
SILENT_AFTER_S = 120.0
"""Agents send a heartbeat every 30 s."""
REMEMBERED_S = 86_400.0

_STOPPING = wire.Heartbeat.__struct_fields__.index("stopping") + 1
"""A heartbeat is kept as an array; places in one are counted from 1."""
_SILENT = (
    "SELECT count() FROM {database:Identifier}.agents FINAL "
    "WHERE toUnixTimestamp64Micro(seen) BETWEEN {oldest:Int64} AND {newest:Int64} "
    f"AND NOT JSONExtractBool(heartbeat, {_STOPPING})"
)
_FREE = "SELECT min(unreserved_space / total_space), count() FROM system.disks WHERE total_space > 0"


class Lookout:
    def __init__(self, store: Store, metrics: Metrics, *, clock_s: Callable[[], float] = time.time) -> None:
        self._store = store
        self._metrics = metrics
        self._clock_s = clock_s
        self._task: asyncio.Task[None] | None = None
        self._sees_disks = True

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="lookout")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """Set the metrics. Raises StoreError, StoreAway."""
        now_s = self._clock_s()
        within = {"oldest": int((now_s - REMEMBERED_S) * 1e6), "newest": int((now_s - SILENT_AFTER_S) * 1e6)}
        [(silent,)] = await self._store.query(_SILENT, {"database": self._store.database, **within})
        self._metrics.agents_silent.set(silent)
        if self._sees_disks:
            await self._look_at_disks()

    async def _look_at_disks(self) -> None:
        try:
            [(free, disks)] = await self._store.query(_FREE)
        except StoreAway:
            raise
        except StoreError as error:
            self._sees_disks = False
            log.warning("store: its disks cannot be seen, so collector_store_free_disk_ratio says nothing: %s", error)
            return
        if disks:
            self._metrics.free_disk.set(free)

    async def _run(self) -> None:
        while True:
            try:
                if self._store.ready:
                    await self.look()
            except StoreError as error:
                log.debug("what only the store knows is asked again: %s", error)
            except Exception:  # whatever it is, the next look must come
                log.exception("asking for what only the store knows failed in an unexpected way; it is tried again")
            await asyncio.sleep(LOOK_S if self._store.ready else 1.0)
