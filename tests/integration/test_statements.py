"""What analysts and clusters are given as SQL: statements that the engine takes, where events go, and the view to read from."""

from __future__ import annotations

import asyncio
import time

import pytest

from collector.errors import StoreError
from collector.store import cluster, schema
from collector.tenants import sql_users
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home

pytestmark = pytest.mark.engine


def test_statements_for_users_and_clusters_are_statements_to_the_engine(home: Home) -> None:
    """The embedded engine has neither; that it takes the statements apart says that their grammar is right."""
    made = sql_users.statements("pulsestream", "t", "ps_t", "ab" * 32, sql_users.Bounds(), cluster="main")
    clustered = cluster.clustered(schema.statements("pulsestream"), "pulsestream", "main", schema.VERSION)

    async def run() -> None:
        async with home.store() as store:
            for statement in (*made, *sql_users.removal("pulsestream", "ps_t", "main"), *clustered):
                await store.query("SELECT formatQuery({statement:String})", {"statement": statement})
            with pytest.raises(StoreError):
                await store.query("SELECT formatQuery({statement:String})", {"statement": made[0] + " WITH"})

    asyncio.run(run())


def test_all_copies_of_an_event_and_all_events_of_a_file_meet_on_one_shard(home: Home) -> None:
    ids = [f"{n:016x}-{at:012x}-{at + n:08x}" for n in range(40) for at in range(3)] + [f"order-{n}" for n in range(40)]
    of_ids = "(SELECT 't' AS tenant_id, arrayJoin({ids:Array(String)}) AS external_id)"
    sql = f"SELECT external_id, {cluster.SHARD} % 2 FROM {of_ids}"

    async def run() -> None:
        async with home.store() as store:
            shard = {name: (name, other) for name, other in await store.query(sql, {"ids": ids})}
            assert await store.query(sql, {"ids": ids}) == list(shard.values())
            of_file: dict[str, set[int]] = {}
            for name, number in shard.values():
                of_file.setdefault(name[:16] if len(name) > 16 else name, set()).add(number)
            assert {len(numbers) for numbers in of_file.values()} == {1}
            assert set.union(*of_file.values()) == {0, 1}

    asyncio.run(run())


def test_the_view_for_analysts_shows_each_event_once_and_none_beyond_its_retention(home: Home, owner: Tenant) -> None:
    columns = ("tenant_id", "external_id", "timestamp", "message", "attributes", "retention_days", "version", "is_deleted")
    now = time.time_ns() // 1000
    old = now - 7 * 86_400_000_000 - 60_000_000
    rows = (("kept", now, 1, 0), ("kept", now, 2, 0), ("gone", now, 1, 0), ("gone", now, 9, 1), ("old", old, 1, 0))

    async def run() -> None:
        async with home.store() as store:
            for name, at, version, gone in rows:
                row = (owner.tenant_id, name, at, f"{name} {version}", {"a": "b"}, 7, version, gone)
                await store.insert("events", columns, [row])
            found = await store.query(
                "SELECT external_id, message, items FROM search WHERE tenant_id = {tenant:String}", {"tenant": owner.tenant_id}
            )
            assert found == [("kept", "kept 2", ["a=b"])]
            names = {name for (name,) in await store.query("SELECT name FROM system.columns WHERE table = 'search'")}
            assert not names & {"version", "is_deleted", "retention_days"}

    asyncio.run(run())
