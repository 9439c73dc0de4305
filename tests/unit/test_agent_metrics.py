"""Metrics are whole and bounded; health is red when sending has stopped or the lag has grown, and green again after it."""

from __future__ import annotations

import re
from typing import Any

from agent import metrics
from agent.metrics import STOPPED_S, Health, Metric, render

DECLARED = {value for value in vars(metrics).values() if isinstance(value, Metric)}


def said(**changes: Any) -> dict[str, Any]:
    file = {"path": "/a.log", "size_bytes": 100, "read_offset": 100, "acked_offset": 100, "state": "followed", "error": None}
    return {
        "sending": "ok", "reading": "ok", "spool_bytes": 7, "unread_bytes": 0, "drained": True, "lost_bytes": 0,
        "ignored_files": 3, "held_bytes": 4, "counts": {}, "files": [file | changes.pop("file", {})], **changes,
    }  # fmt: skip


def test_every_declared_metric_is_there_with_help_and_type_and_no_other() -> None:
    text = render(said(), lag_s=0.0, healthy=True)
    assert set(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)) == {(metric.name, metric.kind) for metric in DECLARED}
    assert {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if line[0] != "#"} == {
        metric.name for metric in DECLARED
    }
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in DECLARED)


def test_counts_appear_by_outcome_and_reason_and_exact() -> None:
    counts = {"accepted_events": 12345678901, "rejected_events": 2, "lost_bytes.cut_before_read": 5, "internal_errors": 1}
    text = render(said(counts=counts, reading="waiting", config={"refused": "scope: …"}), lag_s=1.5, healthy=False)
    for line in (
        'agent_events_total{outcome="accepted"} 12345678901',
        'agent_events_total{outcome="rejected"} 2',
        'agent_lost_bytes_total{reason="cut_before_read"} 5',
        'agent_lost_bytes_total{reason="deleted_before_read"} 0',
        "agent_internal_errors_total 1",
        "agent_lag_seconds 1.5",
        "agent_reading_blocked 1",
        "agent_config_refused 1",
        "agent_healthy 0",
    ):
        assert line in text.splitlines()
    assert "/a.log" not in text


def test_health_is_red_when_sending_has_failed_for_long_and_green_when_it_works_again() -> None:
    health = Health(max_lag_s=300.0)
    for now in (0.0, 30.0, STOPPED_S - 1):
        health.look(said(sending="HTTP 500"), now)
        assert health.reasons(now) == []
    health.look(said(sending="HTTP 503"), STOPPED_S)
    assert health.reasons(STOPPED_S) == ["sending has failed for 60 s: HTTP 503"]
    health.look(said(), STOPPED_S + 1)
    assert health.reasons(STOPPED_S + 1) == []


def test_health_is_red_when_what_was_written_waits_for_too_long() -> None:
    health = Health(max_lag_s=10.0)
    behind = said(drained=False, file={"size_bytes": 200, "acked_offset": 100})
    health.look(behind, 0.0)
    assert health.reasons(10.0) == []
    assert health.reasons(11.0) == ["the oldest byte that is not acknowledged is 11 s old, more than 10"]
    health.look(said(file={"size_bytes": 200, "read_offset": 200, "acked_offset": 200}), 12.0)
    assert health.reasons(12.0) == []


def test_an_agent_that_has_nothing_to_send_yet_is_well() -> None:
    health = Health(max_lag_s=10.0)
    health.look(said(sending="starting", files=[]), 0.0)
    health.look(said(sending="starting", files=[]), 1000.0)
    assert health.reasons(1000.0) == []
