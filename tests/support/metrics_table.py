"""All metrics of both programs as one table: ``python -m tests.support.metrics_table`` writes charts/METRICS.md anew.

Names, types and meanings come from where the programs declare them, labels from the instruments (the collector's) and from
what is rendered (the agent's); nothing is written here by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from agent import metrics as agents
from collector.metrics import Metrics

TABLE = Path(__file__).resolve().parents[2] / "charts" / "METRICS.md"
NOTHING_YET = {
    "counts": {},
    "files": [],
    "spool_bytes": 0,
    "unread_bytes": 0,
    "ignored_files": 0,
    "held_bytes": 0,
    "sending": "ok",
    "reading": "ok",
}
_HEAD = """# Metrics

Written by `python -m tests.support.metrics_table` from what the two programs declare; a test says when it is out of date.

The collector's stand at `GET /metrics` on its own port (those of all workers together, whichever answers), and beside them what
the system says of its processes (`process_…`, `python_…`). The agent's stand at `GET /metrics` on the port of `metrics.listen`.
Labels come from small fixed sets, never from what is sent: no paths, no tenants.
"""


class Row(NamedTuple):
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def of_the_collector() -> list[Row]:
    found = []
    for one in vars(Metrics()).values():
        if isinstance(one, MetricWrapperBase):
            (family,) = one.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found.append(Row(name, family.type, tuple(one._labelnames), family.documentation))
    return sorted(found)


def of_the_agent() -> list[Row]:
    text = agents.render(NOTHING_YET, lag_s=0.0, healthy=True)
    declared = [one for one in vars(agents).values() if isinstance(one, agents.Metric)]
    return sorted(Row(one.name, one.kind, _labels(text, one.name), one.text) for one in declared)


def _labels(text: str, name: str) -> tuple[str, ...]:
    shown = re.search(rf"^{name}(?:\{{(.*)\}})? ", text, re.MULTILINE)
    assert shown, f"{name} is declared, and not rendered"
    return tuple(re.findall(r'(\w+)="', shown[1] or ""))


def document() -> str:
    """All of charts/METRICS.md."""
    return "\n".join([_HEAD, _part("Collector", of_the_collector()), _part("Agent", of_the_agent())])


def _part(title: str, rows: list[Row]) -> str:
    lines = [f"## {title}", "", "| name | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for row in rows:
        meaning = row.meaning.replace("|", "\\|")
        lines.append(f"| `{row.name}` | {row.kind} | {', '.join(f'`{label}`' for label in row.labels)} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(document(), encoding="utf-8")
    print(TABLE)
