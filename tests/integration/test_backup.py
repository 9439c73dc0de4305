"""Yesterday's backup is restored, and `repair` brings back what the agents' machines still have: nothing twice."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from tests.support.agent import AgentProcess, App
from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]


class Shipped:
    """A tenant with an agent that ships one log, and what can be found of it."""

    def __init__(self, collector: Collector, folder: Path) -> None:
        self._collector = collector
        self.key = collector.new_tenant("Blue Shop", slug="blue-shop")
        (folder / "logs").mkdir()
        self.app = App(folder / "logs" / "app.log")
        self.agent = AgentProcess(folder / "agent", url=collector.url, include=[folder / "logs" / "*.log*"])
        self.agent.configure(collector={"api_key": self.key})

    def ship(self, lines: int) -> None:
        self.app.write(lines)
        size = sum(path.stat().st_size for path in self.app.path.parent.iterdir())
        until(lambda: self._acked_bytes() == size, "all is acknowledged", told=self.agent.log)

    def _acked_bytes(self) -> int:
        return sum(file["acked_offset"] or 0 for file in self.agent.status()["files"])

    def found(self) -> list[str]:
        """Every line that a search finds, as often as it does."""
        lines: list[str] = []
        query: dict[str, object] = {"limit": 1000, "order": "asc"}
        while True:
            answer = self._collector.request("GET", "/api/v1/ingestion/events/search", key=self.key, query=query).body
            lines += [event["message"] for event in answer["events"]]
            if not answer["has_more"]:
                return lines
            query["cursor"] = answer["next_cursor"]

    def verified(self) -> dict[str, int]:
        totals: dict[str, int] = json.loads(self.agent.command("verify", "--json").stdout)["totals"]
        return {name: number for name, number in totals.items() if number}


def test_a_backup_of_the_engine_is_restored_and_repair_adds_what_came_after_it(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with (
        ClickHouseFront(tmp_path / "engine", backups=backups) as engine,
        Collector(tmp_path / "c", store=engine.url) as collector,
    ):
        shipped = Shipped(collector, tmp_path)
        with shipped.agent:
            shipped.ship(1200)
            _run(engine, f"BACKUP DATABASE pulsestream TO File('{backups}/yesterday')")
            shipped.app.rename(shipped.app.path.with_name("app.log.1"))
            shipped.ship(700)
            assert collector.stop() == 0
            _run(engine, "DROP DATABASE pulsestream SYNC")
            _run(engine, f"RESTORE DATABASE pulsestream FROM File('{backups}/yesterday')")
            collector.start()
            assert sorted(shipped.found()) == shipped.app.lines[:1200]
            assert shipped.verified() == {"lines": 1900, "stored": 1200, "missing": 700}
            assert shipped.agent.command("repair").returncode == 0
            assert sorted(shipped.found()) == shipped.app.lines
            assert shipped.verified() == {"lines": 1900, "stored": 1900}
            shipped.ship(50)
            assert sorted(shipped.found()) == shipped.app.lines


def test_a_copy_of_the_embedded_store_is_put_back_and_repair_adds_what_came_after_it(tmp_path: Path) -> None:
    """Taken while the collector is stopped: the agents hold what comes meanwhile."""
    with Collector(tmp_path / "c") as collector:
        store = tmp_path / "c" / "store"
        shipped = Shipped(collector, tmp_path)
        with shipped.agent:
            shipped.ship(500)
            assert collector.stop() == 0
            shutil.copytree(store, tmp_path / "copy", symlinks=True)
            collector.start()
            shipped.ship(300)
            assert collector.stop() == 0
            shutil.rmtree(store)
            shutil.copytree(tmp_path / "copy", store, symlinks=True)
            collector.start()
            assert sorted(shipped.found()) == shipped.app.lines[:500]
            assert shipped.agent.command("repair").returncode == 0
            assert sorted(shipped.found()) == shipped.app.lines


def test_what_was_deleted_before_the_backup_stays_deleted_when_it_is_restored_and_repaired(tmp_path: Path) -> None:
    """The line is still in its file: the event's tombstone is part of the backup, and `repair` knows it."""
    backups = tmp_path / "backups"
    with (
        ClickHouseFront(tmp_path / "engine", backups=backups) as engine,
        Collector(tmp_path / "c", store=engine.url) as collector,
    ):
        shipped = Shipped(collector, tmp_path)
        with shipped.agent:
            shipped.ship(10)
            key = _key(collector)
            first = _search(collector, key)[0]["id"]
            assert collector.request("DELETE", f"/api/v1/ingestion/events/{first}", key=key).status == 200
            _run(engine, f"BACKUP DATABASE pulsestream TO File('{backups}/yesterday')")
            shipped.agent.command("repair")
            assert len(shipped.found()) == 9
            assert collector.stop() == 0
            _run(engine, "DROP DATABASE pulsestream SYNC")
            _run(engine, f"RESTORE DATABASE pulsestream FROM File('{backups}/yesterday')")
            collector.start()
            shipped.agent.command("repair")
            assert len(shipped.found()) == 9


def _key(collector: Collector) -> str:
    made = collector.request(
        "POST", "/api/v1/tenants/blue-shop/keys", body=json.dumps({"name": "all", "scopes": ["search", "delete"]}).encode(),
        headers={"X-Admin-Token": ADMIN_TOKEN},
    )  # fmt: skip
    key = str(made.body["api_key"])
    until(lambda: collector.request("GET", "/api/v1/ingestion/events/types", key=key).status == 200, "the key is known")
    return key


def _search(collector: Collector, key: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = collector.request("GET", "/api/v1/ingestion/events/search", key=key).body["events"]
    return events


def _run(engine: ClickHouseFront, sql: str) -> None:
    with clickhouse_connect.get_client(host=engine.host, port=engine.port) as client:
        client.command(sql)
