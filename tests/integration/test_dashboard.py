"""The dashboards for Grafana that ask in SQL: every query of them runs on the real engine, with what Grafana puts in for its
macros."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from agent import wire
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home

pytestmark = pytest.mark.engine

TENANT = Path(__file__).parents[2] / "charts" / "dashboards" / "tenant.json"
GRAFANA = Path(__file__).parents[2] / "config" / "grafana"
MACROS = {
    r"\$__timeFilter\((\w+)\)": r"\1 >= now() - INTERVAL 1 HOUR AND \1 <= now() + INTERVAL 1 HOUR",
    r"\$__timeInterval\((\w+)\)": r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
    r"\$\{service:singlequote\}": "'shop','stock'",
    r"\$\{severity:singlequote\}": "'info','error'",
}


def queries(path: Path = GRAFANA / "dashboard.json") -> dict[str, str]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    of_panels = {panel["title"]: panel["targets"][0]["rawSql"] for panel in dashboard["panels"] if panel["type"] != "row"}
    of_variables = {var["label"]: var["query"] for var in dashboard["templating"]["list"] if var["type"] == "query"}
    return {**of_panels, **of_variables}


def filled(sql: str, words: str) -> str:
    for pattern, text in {**MACROS, r"\$\{words:singlequote\}": f"'{words}'"}.items():
        sql = re.sub(pattern, text, sql)
    assert "$" not in sql, sql
    return sql


@pytest.mark.parametrize(("words", "found"), [("", 2), ("Paid", 1), ("nothing of it", 0)])
def test_every_query_of_the_dashboard_answers(home: Home, owner: Tenant, words: str, found: int) -> None:
    now_us = time.time_ns() // 1000
    columns = ("tenant_id", "external_id", "timestamp", "severity", "service", "message", "retention_days")

    async def run() -> None:
        async with home.store() as store:
            for n, (service, message) in enumerate((("shop", "order paid"), ("stock", "item gone"), ("other", "paid"))):
                row = (owner.tenant_id, f"{owner.tenant_id}-{n}", now_us, "info", service, message, 30)
                await store.insert("events", columns, [row])
            answers = {name: await store.query(filled(sql, words)) for name, sql in queries().items()}
            shown = [row for row in answers["Events"] if str(row[-1]).startswith(f"{owner.tenant_id}-")]
            assert len(shown) == found
            assert sum(row[2] for row in answers["Events by severity"]) >= found
            assert {"shop", "stock", "other"} <= {service for (service,) in answers["Service"]}

    asyncio.run(run())


def test_every_query_of_the_tenants_dashboard_answers(home: Home, owner: Tenant) -> None:
    """As its user of the engine would see it: of one tenant; here a filter does what the user's row policy does there."""
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    name = owner.tenant_id
    beat = wire.Heartbeat(version="1.2.3", sending="ok", lag_bytes=70, lag_s=1.5, lost_bytes=9)
    outcomes = [(name, hour, outcome, reason, "w", events, 0, 1) for outcome, reason, events in (
        ("accepted", "", 100), ("duplicate", "", 7), ("rejected", "too_long", 2), ("expired", "retention", 1),
        ("rate_limited", "events", 5),
    )]  # fmt: skip

    async def run() -> dict[str, list[Any]]:
        async with home.store() as store:
            columns = ("tenant_id", "hour", "outcome", "reason", "writer", "events", "bytes", "version")
            await store.insert("outcomes", columns, outcomes)
            columns = ("tenant_id", "agent", "scope", "seen", "heartbeat")
            await store.insert("agents", columns, [(name, "web-1", "s", now, msgspec.json.encode(beat).decode())])
            columns = ("tenant_id", "loss_id", "time", "agent", "path", "reason", "lost_bytes", "at_least", "retention_days")
            await store.insert("losses", columns, [(name, f"{name}-1", now, "web-1", "/var/log/a.log", "deleted", 9, 1, 30)])
            asked = {title: _of(name, filled(sql, "")) for title, sql in queries(TENANT).items()}
            return {title: list(await store.query(sql)) for title, sql in asked.items()}

    answers = asyncio.run(run())
    numbers = {"Stored": 100, "Repeats": 7, "Not stored": 3, "Kept back": 5, "Lost before it was sent": 9}
    assert {title: answers[title][0][0] for title in numbers} == numbers
    assert {row[1]: row[2] for row in answers["Not stored, by reason"]} == {"too_long": 2, "retention": 1, "events": 5}
    ((agent, scope, _, silent_s, *said),) = answers["Agents"]
    assert (agent, scope, said) == ("web-1", "s", ["1.2.3", "ok", 70, 1.5, 9])
    assert 0 <= silent_s < 600
    assert [row[2:5] for row in answers["Losses"]] == [("/var/log/a.log", "deleted", 9)]


def _of(tenant_id: str, sql: str) -> str:
    """The query with rows of one tenant only."""
    return re.sub(r"FROM (\w+)( FINAL)?", rf"FROM (SELECT * FROM \1\2 WHERE tenant_id = '{tenant_id}')", sql)


def test_the_data_source_names_the_plugin_of_the_dashboard() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"]
    dashboard = json.loads((GRAFANA / "dashboard.json").read_text())
    kinds = {panel["datasource"]["type"] for panel in dashboard["panels"]}
    assert kinds == {source["type"]}
