"""A collector on a served engine, both processes, or with the engine inside; all of them are killed and started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.torture import targets
from agent.torture.targets import Strike
from tests.support.collector import Collector
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

READY_S = 60.0
PAUSE_S = 0.3


class Product(targets.Collector):
    def __init__(self, folder: Path, *, embedded: bool = False) -> None:
        self._engine = None if embedded else ClickHouseFront(folder / "engine")
        self._folder = folder
        self._collector: Collector | None = None
        super().__init__("", "")

    @property
    def victims(self) -> dict[str, Strike]:
        return {"collector": self._kill_collector} | ({"engine": self._kill_engine} if self._engine is not None else {})

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        if self._engine is not None:
            self._engine.start()
        store = self._engine.url if self._engine is not None else ""
        collector = self._collector = Collector(self._folder / "collector", store=store, log_level="info")
        collector.start()
        until(lambda: collector.request("GET", "/readyz").status == 200, "the collector is ready", deadline_s=READY_S)
        self.url = collector.url
        limits = {"events_per_minute": 100_000_000, "bytes_per_minute": 1 << 40}
        self.api_key = collector.new_tenant("Torture", limits=limits)

    async def stop(self) -> None:
        if self._collector is not None:
            await asyncio.to_thread(self._collector.kill)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)

    async def _kill_collector(self) -> None:
        assert self._collector is not None
        await asyncio.to_thread(self._collector.kill)
        await asyncio.sleep(PAUSE_S)
        await asyncio.to_thread(self._collector.start)

    async def _kill_engine(self) -> None:
        assert self._engine is not None
        await asyncio.to_thread(self._engine.kill)
        await asyncio.sleep(PAUSE_S)
        await asyncio.to_thread(self._engine.start)
