"""Grafana's dashboards in charts/: whole, and every series and label they ask for is one that the programs show."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import promql

FOLDER = Path(__file__).resolve().parents[2] / "charts" / "dashboards"
NAMES = ("operator", "tenant")
FROM_PROMETHEUS = {"job", "instance"}


def dashboard(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    board = dashboard("operator")
    of_panels = [target["expr"] for panel in panels("operator") for target in panel["targets"]]
    of_variables = [var["definition"] for var in board["templating"]["list"] if var["type"] == "query"]
    return [*of_panels, *(text.removeprefix("label_values(").partition(",")[0] for text in of_variables)]


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_whole(name: str) -> None:
    board = dashboard(name)
    assert board["uid"] == f"pulsestream-{name}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])
    kind = {"operator": "prometheus", "tenant": "grafana-clickhouse-datasource"}[name]
    source = {"type": kind, "uid": "${datasource}"}
    assert all(panel["datasource"] == target["datasource"] == source for panel in panels(name) for target in panel["targets"])
    assert board["templating"]["list"][0]["query"] == kind
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = set(itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])))
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


def test_every_series_and_label_that_is_asked_for_is_shown() -> None:
    asked = expressions()
    assert len(asked) > 40
    for expression in asked:
        for name, labels in promql.series(expression).items():
            assert name in promql.known(), f"{name}, in {expression}"
            wanted = labels | promql.grouped(expression)
            assert wanted <= promql.known()[name] | FROM_PROMETHEUS, (
                f"{name} has no {wanted - promql.known()[name]}: {expression}"
            )


@pytest.mark.parametrize("expression", [
    "rate(collector_event_total[5m])", "sum by (tenant) (collector_events_total)", 'collector_events_total{outcom="accepted"}',
])  # fmt: skip
def test_what_nothing_shows_would_be_found(expression: str) -> None:
    ((name, labels),) = promql.series(expression).items()
    assert name not in promql.known() or not labels | promql.grouped(expression) <= promql.known()[name] | FROM_PROMETHEUS


def test_a_legend_names_labels_that_are_left() -> None:
    for panel in panels("operator"):
        for target in panel["targets"]:
            named = {part.partition("}}")[0] for part in target.get("legendFormat", "").split("{{")[1:]}
            assert named <= promql.grouped(target["expr"]), (panel["title"], target)
