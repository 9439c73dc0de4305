"""Equal logs of several pods, one log volume under several host names, one state folder under several agents."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, App, arrived
from tests.support.sink import SinkProcess

LINES = 201
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process a host name of its own")


def on_host(name: str, *, own_processes: bool = False) -> tuple[str, ...]:
    """In front of a command: as in a container of that name."""
    more = ("--pid", "--fork", "--kill-child") if own_processes else ()
    return ("unshare", "--uts", *more, "sh", "-c", f'hostname {name} && exec "$@"', "sh")


def in_pod(scope: str) -> tuple[str, ...]:
    return ("env", "KUBERNETES_SERVICE_HOST=10.0.0.1", f"PULSESTREAM_SCOPE={scope}")


def test_three_replicas_one_name(tmp_path: Path, sink: SinkProcess, request: pytest.FixtureRequest) -> None:
    """One configuration, one banner, times that agree to the second: the simpler rule lost 402 of 603 lines."""
    replicas = []
    for number in range(3):
        logs = tmp_path / f"pod-{number}"
        app = App(logs / "app.log")
        app.append("starting up\n" + "".join(f"2026-11-25T12:00:{n // 10:02d}Z request {n} done\n" for n in range(LINES - 1)))
        agent = AgentProcess(tmp_path / f"agent-{number}", url=sink.url, include=[logs / "*.log"], name="shop", scope="")
        replicas.append(agent)
        request.addfinalizer(agent.kill)
        agent.start(*in_pod(f"uid-of-pod-{number}"))
    for agent in replicas:
        agent.settle()
        assert agent.status()["warnings"] == []
        agent.kill()
    seen = sink.seen()
    assert {len(names) for names in seen.texts.values()} == {3}
    assert sum(len(names) for names in seen.texts.values()) == 3 * LINES


@AS_ROOT
def test_container_restarts_with_new_hostname(tmp_path: Path, agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The log volume is kept, the state is not: the simpler rule sent everything twice."""
    app = App(logs / "app.log")
    agent.configure(scope="")
    agent.start(*in_pod("uid-of-the-claim"), *on_host("shop-7f9c-x1"))
    arrived(sink, app.write(LINES), told=agent)
    agent.kill()
    shutil.rmtree(agent.state)
    agent.start(*in_pod("uid-of-the-claim"), *on_host("shop-7f9c-k8"))
    arrived(sink, app.write(10), told=agent)
    agent.settle()
    seen = sink.seen()
    assert {text: names for text, names in seen.texts.items() if len(names) != 1} == {}
    assert set(seen.deliveries.values()) == {1, 2}, "all of it was sent again, under the same IDs"


@AS_ROOT
def test_an_agent_of_another_container_on_the_same_state_folder_is_named(
    tmp_path: Path, agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.start(*on_host("pod-of-the-first", own_processes=True))
    second = AgentProcess(tmp_path / "second", url=sink.url, include=[logs / "*.log"], state_dir=str(agent.state))
    second.launch(*on_host("pod-of-the-second", own_processes=True))
    assert second.wait() == 1
    assert "another agent (pid 1 on pod-of-the-first) works on this state folder" in second.log()


def test_a_volume_keeps_its_scope_whatever_becomes_of_pods_and_state(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    """Nobody can name a claim in advance: its scope lies on it, and comes back with it."""
    app = App(logs / "app.log")
    agent.configure(scope="", scope_file=str(logs / ".pulsestream" / "scope"))
    agent.launch()
    assert agent.wait() == 1
    assert "scope_file: " in agent.log(), "the volume is not there: no scope is made up"
    (logs / ".pulsestream").mkdir()
    assert agent.command("ids", str(app.path)).returncode == 2
    agent.start(*in_pod("uid-of-the-first-pod"))
    arrived(sink, app.write(LINES), told=agent)
    agent.kill()
    shutil.rmtree(agent.state)
    agent.start(*in_pod("uid-of-another-pod"))
    arrived(sink, app.write(10), told=agent)
    agent.settle()
    seen = sink.seen()
    assert {text: names for text, names in seen.texts.items() if len(names) != 1} == {}
    named = agent.command("ids", str(app.path)).stdout.splitlines()
    assert {line.split("\t")[1] for line in named} == {name for names in seen.texts.values() for name in names}
