"""Stores for tests: the embedded one, which a process can have once, and one that is served over HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from collector.config import StoreConfig, WriterConfig
from collector.ingest.blocks import open_run
from collector.metrics import Metrics
from collector.store import schema
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from collector.writing.writer import Writer
from tests.support.engine import ClickHouseFront
from tests.support.records import NOW_NS, tenant

EMBEDDED, SERVED = "embedded", "served"

_tenants = count(1)


class Home:
    """Where a test's store lives. Tests share its tables and stay apart by tenant."""

    def __init__(self, name: str, config: StoreConfig) -> None:
        self.name = name
        self.config = config
        self._kept: Store | None = None

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store with the schema applied. The embedded one stays open between tests."""
        if self.name == EMBEDDED:
            if self._kept is None:
                self._kept = await _applied(self.config)
            yield self._kept
            return
        store = await _applied(self.config)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def writer(
        self, *, now_ns: int = NOW_NS, store: Store | None = None, **changed: Any
    ) -> AsyncIterator[tuple[Writer, Store]]:
        """A running writer on `store`, at a fixed time."""
        async with self.store() as opened:
            used = store or opened
            config = WriterConfig(**{"commit_interval_s": 0.0, **changed})
            writer = Writer(used, config, Metrics(), clock_ns=lambda: now_ns)
            await writer.start()
            try:
                yield writer, used
            finally:
                await writer.stop()

    def close(self) -> None:
        if self._kept is not None:
            asyncio.run(self._kept.close())


async def _applied(config: StoreConfig) -> Store:
    store = await Store.open(config)
    try:
        await schema.apply(store)
    except BaseException:
        await store.close()
        raise
    return store


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    if importlib.util.find_spec("chdb") is None:
        pytest.skip("the engine (chdb) is not installed")
    home = Home(EMBEDDED, StoreConfig(url=f"chdb://{tmp_path_factory.mktemp('embedded')}", readers=2))
    yield home
    home.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    if importlib.util.find_spec("chdb") is None:
        pytest.skip("the engine (chdb) is not installed")
    with ClickHouseFront(Path(tmp_path_factory.mktemp("served")) / "data") as front:
        yield Home(SERVED, StoreConfig(url=front.url, readers=2))


@pytest.fixture(params=[EMBEDDED, SERVED])
def home(request: pytest.FixtureRequest) -> Home:
    """Each home in turn: both keep the same promises."""
    found: Home = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def owner() -> Tenant:
    """A tenant that no other test has."""
    return tenant(f"tenant-{next(_tenants)}")


async def submit(writer: Writer, owner: Tenant, *records: bytes, replay: bool = False) -> list[wire.RecordOutcome]:
    return await writer.submit(open_run(b"".join(records), tenant=owner, now_ns=NOW_NS, replay=replay))


async def rows_of(store: Store, owner: Tenant, columns: str, *, final: bool = True) -> list[tuple[Any, ...]]:
    return await store.query(
        f"SELECT {columns} FROM events {'FINAL' if final else ''} WHERE tenant_id = {{tenant:String}} ORDER BY external_id",
        {"tenant": owner.tenant_id},
    )
