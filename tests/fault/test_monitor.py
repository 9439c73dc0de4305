"""The port for metrics and health of a running agent."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from tests.support.agent import AgentProcess, App, arrived
from tests.support.ports import free_port
from tests.support.sink import SinkProcess


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_and_health_of_a_running_agent(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    port = free_port()
    agent.configure(metrics={"listen": f"127.0.0.1:{port}"})
    app = App(logs / "app.log")
    with agent:
        arrived(sink, app.write(5), told=agent)
        agent.settle()
        status, text = get(port, "/metrics")
        assert status == 200
        assert 'agent_events_total{outcome="accepted"} 5' in text.splitlines()
        assert get(port, "/healthz") == (200, '{"status":"ok","reasons":[]}\n')
        assert get(port, "/livez") == (200, "ok\n")
        assert get(port, "/else")[0] == 404
        assert get(port, "/metrics", "POST")[0] == 405
        assert get(port, "/metrics", "HEAD") == (200, "")


def test_a_port_that_is_taken_is_named(agent: AgentProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        agent.configure(metrics={"listen": address})
        agent.launch()
        assert agent.wait() == 1
    assert f"metrics.listen: {address}:" in agent.log()
    assert "name an address that is free here" in agent.log()
