"""What the store itself says: engine, settings, schema, clock, room, damaged parts, tenants and keys. Changes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from collector.doctor import around
from collector.doctor.findings import Finding, error, ok, warning
from collector.store import breakage, schema
from collector.store.store import Store
from collector.tenants import administration, tenants

OLDEST_ENGINE = (26, 2)
SOON_S = 14 * 86_400.0
_SERVE = "start the collector (serve), or run `pulsestream-collector schema apply`"


async def engine(store: Store) -> AsyncIterator[Finding]:
    """Of a store that is there at all, whatever is in it."""
    text = str((await store.query("SELECT version()"))[0][0])
    oldest = ".".join(map(str, OLDEST_ENGINE))
    numbers = tuple(map(int, re.findall(r"\d+", text)[:2]))
    if numbers < OLDEST_ENGINE:
        yield error("store", f"the engine is {text}; {oldest} is the oldest that will do", f"update it to {oldest} or newer")
    else:
        yield ok("store", f"the engine is {text} ({oldest} or newer is asked for)")
    for fault in await schema.insert_faults(store):
        yield _parted("store", fault)
    before_s = time.time()
    now_s = int((await store.query("SELECT toUnixTimestamp64Micro(now64(6, 'UTC'))"))[0][0]) / 1e6
    yield around.clock("clock", "the engine's clock", now_s - (before_s + time.time()) / 2)


async def disks(store: Store, floor: float) -> AsyncIterator[Finding]:
    """Of a server."""
    for name, path, free, total in await store.query(
        "SELECT name, path, free_space, total_space FROM system.disks ORDER BY name"
    ):
        yield around.roomy(f"the engine's disk {name} ({path})", int(free), int(total), floor)


async def exists(store: Store, database: str) -> bool:
    found = await store.query("SELECT count() FROM system.databases WHERE name = {name:String}", {"name": database})
    return bool(found[0][0])


async def kept(store: Store) -> AsyncIterator[Finding]:
    """Of the database of this configuration."""
    is_made = {"database": store.database, "table": "schema_version"}
    if not (
        await store.query("SELECT 1 FROM system.tables WHERE database = {database:String} AND name = {table:String}", is_made)
    ):
        yield warning("schema", f"the database {store.database} has no tables of ours", _SERVE)
        return
    version = int((await store.query(f"SELECT max(version) FROM {store.database}.schema_version"))[0][0])
    if version > schema.VERSION:
        mend = "run the version that made it, or a newer one"
        yield error("schema", f"version {version}; this program knows up to {schema.VERSION}", mend)
        return
    if version < schema.VERSION:
        yield warning("schema", f"version {version}; this program's is {schema.VERSION}", _SERVE)
    else:
        yield ok("schema", f"version {version}")
    faults = await schema.table_faults(store)
    for fault in faults:
        yield _parted("schema", fault)
    if not faults:
        yield ok("schema", f"{len(schema.DURABLE_TABLES)} tables are on disk before they are acknowledged")
    yield parts([f"{table}: {path}" for table, _, path in await breakage.set_aside(store)])
    if not faults:
        known = [
            (administration.describe(tenant), (await administration.list_keys(store, tenant))["keys"])
            for tenant in await tenants.list_all(store)
        ]
        for finding in keys(known):
            yield finding


def parts(places: Sequence[str]) -> Finding:
    if not places:
        return ok("parts", "none is set aside as damaged")
    return error(
        "parts",
        f"{len(places)} damaged parts are set aside, and events with them: {'; '.join(places[:10])}",
        "beside the apps, `pulsestream-agent verify` says which are missing and `repair` sends them; then remove the parts",
    )


def keys(
    known: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]], now_s: float | None = None
) -> Iterator[Finding]:
    """Args: each tenant with its keys, as the API shows them."""
    now_s = time.time() if now_s is None else now_s
    if not known:
        yield warning("keys", "there are no tenants", "make one: `pulsestream-collector tenant create NAME`")
        return
    fine = 0
    for tenant, all_keys in known:
        if tenant["disabled"]:
            continue
        found = list(_of_tenant(str(tenant["slug"]), [key for key in all_keys if not key["revoked"]], now_s))
        fine += not found
        yield from found
    yield ok("keys", f"{fine} of {len(known)} tenants have keys that neither have ended nor end soon")


def _of_tenant(slug: str, live: Sequence[Mapping[str, Any]], now_s: float) -> Iterator[Finding]:
    add = f"`pulsestream-collector tenant key add {slug}`"
    ends = {str(key["key_id"]): datetime.fromisoformat(key["expires"]) for key in live if key["expires"]}
    ended = {key for key, at in ends.items() if at.astimezone(UTC).timestamp() <= now_s}
    if len(ended) == len(live):
        what = "every key has ended" if live else "has no key"
        yield warning("keys", f"tenant {slug}: {what}: nobody can send or search", f"{add}, or `tenant disable {slug}`")
        return
    for key, at in ends.items():
        if key in ended:
            yield warning(
                "keys", f"tenant {slug}: the key {key} ended at {at:%Y-%m-%d %H:%M} UTC", f"`tenant key revoke {slug} {key}`"
            )
        elif at.timestamp() - now_s < SOON_S:
            mend = f"`pulsestream-collector tenant key rotate {slug} {key}`, and give the new one to whoever uses it"
            yield warning("keys", f"tenant {slug}: the key {key} ends at {at:%Y-%m-%d %H:%M} UTC", mend)


def _parted(check: str, fault: str) -> Finding:
    message, _, mend = fault.partition("; ")
    return error(check, message, mend)
