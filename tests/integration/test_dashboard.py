"""The example dashboard for Grafana: every query of it runs on the real engine, with what Grafana puts in for its macros."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home

pytestmark = pytest.mark.engine

GRAFANA = Path(__file__).parents[2] / "config" / "grafana"
MACROS = {
    r"\$__timeFilter\((\w+)\)": r"\1 >= now() - INTERVAL 1 HOUR AND \1 <= now() + INTERVAL 1 HOUR",
    r"\$__timeInterval\((\w+)\)": r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
    r"\$\{service:singlequote\}": "'shop','stock'",
    r"\$\{severity:singlequote\}": "'info','error'",
}


def queries() -> dict[str, str]:
    dashboard: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
    of_panels = {panel["title"]: panel["targets"][0]["rawSql"] for panel in dashboard["panels"]}
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


def test_the_data_source_names_the_plugin_of_the_dashboard() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"]
    dashboard = json.loads((GRAFANA / "dashboard.json").read_text())
    kinds = {panel["datasource"]["type"] for panel in dashboard["panels"]}
    assert kinds == {source["type"]}
