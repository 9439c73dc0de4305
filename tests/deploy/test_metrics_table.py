"""The table of metrics says what the programs say."""

from __future__ import annotations

import re

from agent import metrics as agents
from collector.metrics import Metrics
from tests.support.metrics_table import NOTHING_YET, TABLE, document, of_the_agent, of_the_collector


def test_the_table_of_metrics_is_current() -> None:
    assert TABLE.read_text("utf-8") == document(), "write it anew: python -m tests.support.metrics_table"


def test_every_metric_that_is_shown_stands_in_it_once_with_a_unit_and_a_meaning() -> None:
    shown = Metrics().text().decode() + agents.render(NOTHING_YET, lag_s=0.0, healthy=True)
    rows = of_the_collector() + of_the_agent()
    names = [row.name for row in rows]
    assert set(re.findall("^# TYPE ((?:agent|collector)_[a-z0-9_]+) ", shown, re.MULTILINE)) == set(names)
    assert len(names) == len(set(names))
    for row in rows:
        assert row.meaning.endswith("."), row
        assert (row.kind == "counter") is row.name.endswith("_total"), row
        assert not {"tenant", "path", "key"} & set(row.labels), row
