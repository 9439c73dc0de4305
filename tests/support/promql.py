"""Expressions of alerts and dashboards: which series they name, held against what the programs really show."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from agent import metrics as agents
from collector.metrics import Metrics

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def series(expression: str) -> dict[str, set[str]]:
    """The series that an expression asks for, each with the labels that it names. Raises ValueError: it is no PromQL."""
    found: dict[str, set[str]] = {}
    for node in _nodes(promql_parser.parse(_plain(expression))):
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)
    return found


def grouped(expression: str) -> set[str]:
    """The labels by which it groups."""
    return {
        name for part in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression) for name in re.split(r"[,\s]+", part) if name
    }


def _plain(expression: str) -> str:
    """With values for Grafana's variables."""
    return re.sub(r"\$\{?\w+\}?", lambda match: "5m" if "interval" in match[0] else "x", expression)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in dir(node):
        value = None if name.startswith("_") else getattr(node, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, promql_parser.Expr):
                yield from _nodes(part)


@functools.cache
def known() -> dict[str, set[str]]:
    """Every series that the two programs show, with its labels (those that Prometheus adds aside)."""
    found: dict[str, set[str]] = {}
    families = [*Metrics().registry.collect(), *ProcessCollector(registry=None).collect()]
    for family in families:
        for suffix in _SUFFIXES.get(family.type, ("",)):
            found[f"{family.name}{suffix}"] = _labels(family) | ({"le"} if suffix == "_bucket" else set())
    for family in text_string_to_metric_families(agents.render(_SAID, lag_s=0.0, healthy=True)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _labels(family: Any) -> set[str]:
    names = {name for instrument in vars(Metrics()).values() for name in getattr(instrument, "_labelnames", ())
             if getattr(instrument, "_name", "") == family.name}  # fmt: skip
    return set(names)


_SAID: dict[str, Any] = {
    "sending": "ok", "reading": "ok", "spool_bytes": 0, "unread_bytes": 0, "drained": True, "lost_bytes": 0, "held_bytes": 0,
    "ignored_files": 0, "files": [], "counts": {},
}  # fmt: skip
