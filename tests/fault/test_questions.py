"""Questions to the command line: is a collector there and the key good; what of this file?"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.agent import AgentProcess, App, arrived
from tests.support.sink import SinkProcess


def test_check_asks_every_collector_for_the_key(agent: AgentProcess, sink: SinkProcess) -> None:
    fine = agent.command("check", "--collector")
    assert (fine.returncode, f"{sink.url}: answers, and takes the key" in fine.stdout) == (0, True)
    agent.configure(collector={"urls": ["http://127.0.0.1:9"]})
    away = agent.command("check", "--collector", "--json")
    assert away.returncode == 1
    (problem,) = json.loads(away.stdout)["problems"]
    assert problem.startswith("http://127.0.0.1:9/")
    assert "check the URL, the network" in problem
    assert agent.command("check").returncode == 0, "it is asked only when that is wanted"


def test_check_names_a_key_that_is_refused(agent: AgentProcess, sink: SinkProcess) -> None:
    sink.rules({"status": 401})
    said = agent.command("check", "--collector")
    assert said.returncode == 1
    assert "HTTP 401" in said.stdout
    assert "check api_key" in said.stdout
    assert sink.seen().events == 0


def test_explain_says_how_far_a_file_has_come(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    with agent:
        arrived(sink, app.write(3), told=agent)
        agent.settle()
        size = app.path.stat().st_size
        said = json.loads(agent.command("explain", str(app.path), "--json").stdout)
        (known,) = said["known_as"]
        assert (said["source"], known["read_offset"], known["acked_offset"], known["lag_bytes"]) == ("app", size, size, 0)
        assert f"it matches {logs}/*.log" in agent.command("explain", str(app.path)).stdout
    resting = agent.command("explain", str(app.path)).stdout
    assert f"read to {size:,}, acknowledged to unknown" in resting


def test_explain_says_why_no_source_has_a_file(agent: AgentProcess, logs: Path) -> None:
    agent.settings["sources"][0]["exclude"] = [f"{logs}/debug*"]
    agent.configure()
    for name, why in (
        ("app.txt", f"no source includes it; there are {logs}/*.log"),
        ("debug.log", f"source app includes it by {logs}/*.log and excludes it by {logs}/debug*"),
        ("app.log.zip", "cannot be read"),
        ("away.log", "it cannot be looked at: No such file"),
    ):
        if name != "away.log":
            (logs / name).touch()
        said = agent.command("explain", str(logs / name))
        assert said.returncode == 1
        assert why in said.stdout


def test_what_a_path_says_is_shown_before_anything_is_shipped(agent: AgentProcess, logs: Path) -> None:
    agent.settings["sources"][0]["path_labels"] = [r"/(?P<shop>[^/-]+)-(?P<service>[^/]+)\.log$"]
    agent.configure()
    for name in ("blue-web.log", "plain.log"):
        (logs / name).write_text("line\n")
    assert "\n  by its path: shop=blue; service web\n" in agent.command("explain", str(logs / "blue-web.log")).stdout
    assert "\n  by its path: no labels\n" in agent.command("explain", str(logs / "plain.log")).stdout
    (warning,) = json.loads(agent.command("check", "--json").stdout)["warnings"]
    assert warning == f"source app: none of path_labels is found in 1 paths, such as {logs}/plain.log; they go without"
