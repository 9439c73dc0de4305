"""What befell stores of simpler designs: power cuts, broken parts, floods, repeats. Each test has its history's name."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.metrics import Metrics
from collector.store.breakage import Breakage
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home, rows_of, submit
from tests.support.collector import Collector, until
from tests.support.collector import record as sent
from tests.support.events import ago, named
from tests.support.records import record

pytestmark = pytest.mark.engine

BATCH = "/api/v1/ingestion/events/batch"
DAY_S = 86400
JSON = {"Content-Type": "application/json"}


def batch(events: list[dict[str, object]]) -> bytes:
    return json.dumps({"events": events}).encode()


def test_power_cut_after_ack(embedded: Home, owner: Tenant) -> None:
    """20 acknowledged inserts and a merge: each is on the disk when it is acknowledged, and a merge takes nothing at once."""

    async def run() -> None:
        async with embedded.writer() as (writer, store):

            async def counted(event: str) -> int:
                rows = await store.query(f"SELECT sum(value) FROM system.events WHERE event = '{event}'")
                return int(rows[0][0])

            files, folders = await counted("FileSync"), await counted("DirectorySync")
            for n in range(20):
                (outcome,) = await submit(writer, owner, record(b"line\n", base_offset=4096 + n * 10))
                assert outcome.accepted == 1
            assert await counted("FileSync") - files >= 20
            assert await counted("DirectorySync") - folders >= 20
            await store.command("OPTIMIZE TABLE events FINAL")
            kept = await store.query("SELECT count() FROM system.parts WHERE table = 'events' AND NOT active AND rows > 0")
            assert kept[0][0] >= 20, "a merge that a power cut takes has left its sources"
            assert len(await rows_of(store, owner, "external_id")) == 20

    asyncio.run(run())


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path / "collector", more="writer: {queue_bytes: 8388608}") as process:
        yield process


def test_broken_part_at_start(collector: Collector) -> None:
    """One part has a flipped bit, another lacks its data: the collector starts, all else is found, what is missing can be
    sent again, and an operator is told."""
    key = collector.new_tenant("broken parts")
    weeks = [named(timestamp=ago(60 + week * 7 * DAY_S), message="x" * 2000) for week in range(4)]
    assert collector.request("POST", BATCH, key=key, body=batch(weeks), headers=JSON).status == 200
    collector.kill()
    flipped, emptied, *whole = sorted(Path(collector.folder / "store" / "store").glob("*/*/30-*/data.bin"))
    assert len(whole) == 2, "retention and week make a part"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    os.truncate(emptied, 0)
    collector.start()
    until(lambda: str(collector.request("GET", "/readyz").body.get("warning", "")).startswith("2 damaged parts"))
    ready = collector.request("GET", "/readyz")
    assert ready.status == 200
    assert "`pulsestream-agent verify`" in ready.body["warning"]
    assert "`pulsestream-agent repair`" in ready.body["warning"]
    health = collector.request("GET", "/api/v1/ingestion/health").body
    assert (health["status"], health["components"]["parts"]["status"]) == ("degraded", "degraded")
    assert b"collector_store_parts_set_aside 2" in collector.request("GET", "/metrics").body
    assert "pulsestream-agent repair" in health["components"]["parts"]["detail"]
    assert collector.search(key)["total_count"] == 2
    again = collector.request("POST", BATCH, key=key, body=batch(weeks), headers=JSON).body
    assert again["outcomes"] == {"accepted": 2, "duplicate": 2}
    assert collector.search(key)["total_count"] == 4
    assert collector.stop() == 0
    said = len(collector.stderr.read_text())
    collector.start()
    until(lambda: "2 damaged parts" in collector.stderr.read_text()[said:])
    assert "not closed well" not in collector.stderr.read_text()[said:]
    assert collector.search(key)["total_count"] == 4


def test_parts_that_an_operator_of_a_server_has_detached_by_hand_are_not_called_damaged(served: Home, owner: Tenant) -> None:
    """Beside one that the engine itself has called broken."""

    async def run() -> None:
        async with served.writer() as (writer, store):
            metrics = Metrics()

            async def warning() -> str:
                breakage = Breakage(store, metrics)
                breakage.start()
                assert breakage._task is not None
                await breakage._task
                return breakage.warning

            await submit(writer, owner, record(b"line\n", base_offset=4096))
            ((part,),) = await store.query(
                "SELECT DISTINCT _part FROM events WHERE tenant_id = {tenant:String}", {"tenant": owner.tenant_id}
            )
            await store.command(f"ALTER TABLE events DETACH PART '{part}'")
            assert await warning() == ""
            assert b"collector_store_parts_set_aside 0" in metrics.text()
            ((path,),) = await store.query(f"SELECT path FROM system.detached_parts WHERE name = '{part}'")
            Path(path).rename(Path(path).with_name(f"broken_{part}"))
            assert (await warning()).startswith("1 damaged parts")
            assert b"collector_store_parts_set_aside 1" in metrics.text()
            await store.command(f"ALTER TABLE events DROP DETACHED PART 'broken_{part}' SETTINGS allow_drop_detached = 1")

    asyncio.run(run())


def test_one_tenant_floods(collector: Collector) -> None:
    """What one tenant sends fills its share of what may wait, many times over; another one is never sent away."""
    loud, quiet = collector.new_tenant("loud"), collector.new_tenant("quiet")
    body = batch([named(message="x" * 2000) for _ in range(400)])
    ended, statuses = threading.Event(), set[int]()

    def flood() -> None:
        while not ended.is_set():
            statuses.add(collector.request("POST", BATCH, key=loud, body=body, headers=JSON).status)

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        answers = [
            collector.request("POST", BATCH, key=quiet, body=batch([named()]), headers=JSON).body["outcomes"] for _ in range(30)
        ]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert answers == [{"accepted": 1}] * 30
    assert statuses <= {200, 503}
    assert 200 in statuses
    assert collector.search(quiet)["total_count"] == 30


def test_same_block_sent_again_after_a_delete(home: Home, owner: Tenant) -> None:
    """With the engine's own deduplication of blocks it would be acknowledged, and nothing stored."""

    async def run() -> None:
        async with home.writer() as (writer, store):
            block = record(b"one\ntwo\n", base_offset=4096)
            (first,) = await submit(writer, owner, block)
            where = {"tenant": owner.tenant_id}
            await store.command(
                "ALTER TABLE events DELETE WHERE tenant_id = {tenant:String} SETTINGS mutations_sync = 2", where
            )
            assert await rows_of(store, owner, "external_id") == []
            (again,) = await submit(writer, owner, block)
            assert (first.accepted, again.accepted) == (2, 2)
            assert len(await rows_of(store, owner, "external_id")) == 2

    asyncio.run(run())


def test_rows_sent_twice_and_a_rollup(collector: Collector) -> None:
    """Every count is one of events, not of copies."""
    key = collector.new_tenant("sent twice")
    lines = b"".join(b"line %d\n" % n for n in range(1000))
    for n in range(2):
        assert collector.post(key, sent(lines, record_id=f"copy-{n}", base_offset=4096, source_from=4096)).status == 200
    stats = collector.request("GET", "/api/v1/ingestion/stats", key=key).body["events"]
    assert (stats["count"], sum(stats["by_severity"].values()), sum(stats["by_service"].values())) == (1000, 1000, 1000)
    assert collector.search(key, limit=1)["total_count"] == 1000
