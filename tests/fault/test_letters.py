"""Dead letters on the command line, beside a running agent and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import crash
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until


def refused(agent: AgentProcess, sink: SinkProcess, app: App, count: int) -> list[str]:
    """Lines that the collector refuses; their event IDs."""
    sink.rules({"contains": app.name, "refuse": "event_too_large"})
    app.write(count)
    until(lambda: agent.status()["counts"].get("rejected_events") == count, "they are refused", told=agent.log)
    sink.rules()
    lines = agent.command("dead-letters", "list", "--json")
    return [json.loads(line)["event_id"] for line in lines.stdout.splitlines()]


def test_dead_letters_are_sent_again_with_their_ids(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    with agent:
        ids = refused(agent, sink, app, 3)
        assert len(ids) == 3
        said = agent.command("dead-letters", "replay", ids[1])
        assert (said.returncode, said.stdout[:19]) == (0, "1 events will be se")
        seen = arrived(sink, app.lines[1:2], told=agent)
        assert seen.texts[app.lines[1]] == [ids[1]]
        agent.stop()
        assert agent.command("dead-letters", "replay", "--all").returncode == 0
        assert agent.command("dead-letters", "list").stdout == ""
        agent.start()
        seen = arrived(sink, app.lines, told=agent)
        exactly_once(seen, app.lines)
        assert sorted(seen.deliveries) == sorted(ids)
        until(lambda: not list((agent.state / "quarantine").glob("*.rec")), "nothing is left to send")


def test_dead_letters_are_shown_with_their_bytes_and_dropped(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    with agent:
        ids = refused(agent, sink, app, 2)
        shown = agent.command("dead-letters", "show", ids[0])
        assert app.lines[0] in shown.stdout
        assert "reason: event_too_large" in shown.stdout
        assert agent.command("dead-letters", "drop", ids[0]).returncode == 0
        left = agent.command("dead-letters", "list").stdout.splitlines()
        assert [line.split("\t")[1] for line in left] == ids[1:]


def test_an_id_that_is_not_there_is_said_and_nothing_named_is_nothing_done(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    with agent:
        refused(agent, sink, app, 1)
        unknown = agent.command("dead-letters", "drop", "no-such-id")
        assert unknown.returncode == 1
        assert "no-such-id: there is no dead letter" in unknown.stderr
        nothing = agent.command("dead-letters", "drop")
        assert nothing.returncode == 2
        assert "or say --all" in nothing.stderr
        assert len(agent.command("dead-letters", "list").stdout.splitlines()) == 1


def test_what_was_refused_or_set_aside_is_still_there_after_a_kill(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """A start deletes none of it and calls none of it lost."""
    sink.rules({"contains": "poison", "status": 422}, {"contains": "refused", "refuse": "no"})
    apps = [App(logs / f"{name}.log", name) for name in ("refused", "poison", "good")]
    for app in apps:
        app.write(2)
    agent.start()
    arrived(sink, apps[2].lines, told=agent)
    agent.settle()

    def kept() -> tuple[dict[str, str], dict[str, bytes]]:
        letters = [json.loads(line) for line in (agent.state / "dead-letters.ndjson").read_text().splitlines()]
        quarantine = {path.name: path.read_bytes() for path in (agent.state / "quarantine").glob("*.rec")}
        return {letter["event_id"]: letter["data_base64"] for letter in letters}, quarantine

    before = kept()
    assert tuple(map(len, before)) == (2, 1)
    agent.kill()
    agent.start()
    arrived(sink, apps[2].write(2), told=agent)
    agent.settle()
    letters, quarantine = kept()
    assert letters == before[0]
    assert before[1].items() <= quarantine.items()
    exactly_once(sink.seen(), apps[2].lines)
    assert sink.seen().losses == []


@pytest.mark.parametrize("point", ["dead_letter.written", "dead_letter.named", "ack.after"])
def test_a_letter_is_there_once_wherever_its_agent_was_killed(
    point: str, agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    """Its record is sent again, and refused again."""
    sink.rules({"contains": "app", "refuse": "no"})
    app = App(logs / "app.log")
    app.write(3)
    for _ in range(2):
        agent.launch("env", f"{crash.ENV}={point}")
        assert agent.wait() == -9, agent.log()
    agent.start()
    until(lambda: agent.status()["counts"].get("rejected_events") == 3, "they are refused", told=agent.log)
    assert len((agent.state / "dead-letters.ndjson").read_text().splitlines()) == 3
    assert len(agent.command("dead-letters", "list").stdout.splitlines()) == 3
    sink.rules()
    before = sum(sink.seen().deliveries.values())
    assert agent.command("dead-letters", "replay", "--all").stdout.startswith("3 events")
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    until(lambda: not list((agent.state / "quarantine").glob("*.rec")), "all are sent")
    assert sum(sink.seen().deliveries.values()) - before == 3
