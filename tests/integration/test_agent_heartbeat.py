"""Heartbeats of a real agent: soon after its start, at intervals, and once more when it stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.agent import AgentProcess
from tests.support.sink import SinkProcess
from tests.support.wait import until


@pytest.fixture
def beating(agent: AgentProcess) -> AgentProcess:
    agent.configure(heartbeat_interval_s=0.2, name="node-1")
    return agent


def test_an_agent_tells_how_far_it_has_come_and_says_goodbye(beating: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    (logs / "a.log").write_bytes(b"one\ntwo\n")
    beating.start()
    until(lambda: any(beat["files"] and beat["files"][0]["acked"] == 8 for beat in sink.seen().heartbeats), "it was told")
    assert beating.stop() == 0
    beats = sink.seen().heartbeats
    assert {(beat["agent"], beat["scope"], beat["files_total"]) for beat in beats[1:]} == {("node-1", "scope-of-the-test", 1)}
    assert [beat["stopping"] for beat in beats] == [False] * (len(beats) - 1) + [True]
    assert (beats[-1]["lag_bytes"], beats[-1]["held_bytes"], beats[-1]["sending"]) == (0, 0, "ok")


def test_what_is_not_taken_shows_as_lag(beating: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    sink.rules({"status": 503})
    (logs / "a.log").write_bytes(b"one\ntwo\n")
    beating.start()
    until(lambda: any(beat["spool_bytes"] and "HTTP 503" in beat["sending"] for beat in sink.seen().heartbeats), "it was told")
    sink.rules()
    until(lambda: sink.seen().events == 2, "the lines arrive")


def test_a_refused_heartbeat_costs_no_line(beating: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    sink.rules({"heartbeats": 400})
    beating.start()
    until(lambda: len(sink.seen().heartbeats) > 1, "heartbeats are sent")
    (logs / "a.log").write_bytes(b"one\n")
    until(lambda: sink.seen().events == 1, "the line arrives")
    assert sink.seen().runs == 1


def test_no_heartbeat_is_sent_when_they_are_off(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(heartbeat_interval_s=0)
    (logs / "a.log").write_bytes(b"one\n")
    agent.start()
    until(lambda: sink.seen().events == 1, "the line arrives")
    assert agent.stop() == 0
    assert sink.seen().heartbeats == []
