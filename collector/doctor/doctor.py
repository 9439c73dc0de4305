"""All checks, in an order in which they can be read. Each is looked at for itself: one that fails ends no other.

Beside a collector that runs: a served store is simply asked too; an embedded one belongs to one process, so the collector
that has it is asked (`collector.doctor.running`). Nothing is made or changed: a store that is not there is not made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from agent import settings
from collector.config import Config
from collector.doctor import around, inside, running
from collector.doctor.findings import Finding, error, warning
from collector.errors import CollectorError, StoreLocked
from collector.store.store import Store
from collector.tenants.directory import Door

_EVERY_SERVER_HAS = "system"


async def examine(config: Config, path: str, door: Door) -> list[Finding]:
    """Args:
    path: of the configuration file, if there is one.
    door: how a running collector is asked; without a URL as the configuration says.
    """
    found = [*around.configured(config), *around.secrets(config, path), *around.certified(config), *around.tenants(config)]
    found += [finding async for finding in around.redis(config)]
    embedded = settings.url_of(config.store.url).scheme == "chdb"
    if embedded:
        found.append(around.disk(config.store))
    try:
        found += [finding async for finding in (_embedded(config, door) if embedded else _served(config))]
    except CollectorError as problem:
        found.append(error("store", str(problem), "see what it says, and look at store.url, store.user and the engine's log"))
    return found


async def _embedded(config: Config, door: Door) -> AsyncIterator[Finding]:
    folder = Path(settings.url_of(config.store.url).path)
    if not folder.is_dir() or not any(folder.iterdir()):
        yield warning("store", f"{folder}: there is no store yet", "start the collector (serve): it makes one")
        return
    try:
        store = await Store.open(config.store)
    except StoreLocked as locked:
        if not door.url:
            host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.server.host, config.server.host)
            scheme = "https" if config.server.tls.cert_file else "http"
            door = Door(f"{scheme}://{host}:{config.server.port}", door.token, config.server.tls)
        async for finding in running.asked(door, locked.message):
            yield finding
        return
    try:
        if store.unclean:
            mend = "start the collector (serve): it looks for damaged parts and says what to do"
            yield warning("parts", "the store was not closed well, and nobody has looked for damage yet", mend)
        async for finding in _looked_into(store, config):
            yield finding
    finally:
        await store.close()


async def _served(config: Config) -> AsyncIterator[Finding]:
    elsewhere = msgspec.structs.replace(config.store, database=_EVERY_SERVER_HAS)  # opening makes the database it names
    store = await Store.open(elsewhere)
    try:
        async for finding in inside.engine(store):
            yield finding
        async for finding in inside.disks(store, config.store.min_free_disk_ratio):
            yield finding
        if not await inside.exists(store, config.store.database):
            mend = "start the collector (serve): it makes one"
            yield warning("schema", f"there is no database {config.store.database} yet", mend)
            return
    finally:
        await store.close()
    store = await Store.open(config.store)
    try:
        async for finding in inside.kept(store):
            yield finding
    finally:
        await store.close()


async def _looked_into(store: Store, config: Config) -> AsyncIterator[Finding]:
    async for finding in inside.engine(store):
        yield finding
    async for finding in inside.kept(store):
        yield finding
