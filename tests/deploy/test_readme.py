"""Every command that the README shows is run, against a real collector and agent, with what stands for places filled in.

Blocks marked ``sh`` are split into commands, each of which has to succeed; those that go on until they are ended are ended
after a moment. What cannot run here is named with the test that does the same. Programs of others are stood in for.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
import pytest

from tests.support.agent import AgentProcess
from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
SOURCE = {"name": "app", "service": "auth", "format": "json"}
KINDS = {"sh", "sql", "python", "yaml", "text"}
ELSEWHERE = {
    r"^make (demo|test)": "tests/integration/test_demo.py",
    r"pulsestream-collector demo": "tests/integration/test_demo.py",
    r"-m venv /opt/pulsestream": "tests/deploy/test_images.py",
    r"^docker (build|run) ": "tests/deploy/test_images.py",
    r"^docker compose ": "tests/deploy/test_compose.py",
    r"pulsestream-agent torture": "tests/torture/test_torture.py",
}
"""Commands that are not run here, and where the same is done."""
UNENDING = re.compile(r"collector serve|agent run|--follow|--watch|/tail\?")
MOMENT_S = 4
DEADLINE_S = 60.0
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(README) if found == kind]


def commands(block: str) -> list[str]:
    """The commands of a block, without comments; one goes on over lines while a quote is open or a line ends in a backslash."""
    found, open_lines = [], ""
    for line in block.splitlines():
        open_lines += line + "\n"
        try:
            words = shlex.split(open_lines, comments=True)
        except ValueError:
            continue
        if not open_lines.rstrip().endswith("\\"):
            if words:
                found.append(open_lines.strip())
            open_lines = ""
    assert not open_lines, f"a quote stays open: {open_lines}"
    return found


SHOWN = [command for block in blocks("sh") for command in commands(block)]


def elsewhere(command: str) -> str:
    return next((test for pattern, test in ELSEWHERE.items() if re.search(pattern, command)), "")


def test_every_block_says_what_it_is() -> None:
    kinds = [kind for kind, _ in _BLOCK.findall(README)]
    assert set(kinds) <= KINDS, "mark it: sh is run, sql and python too, text is none of these"
    assert README.count("```") == 2 * len(kinds)


def test_what_runs_elsewhere_does() -> None:
    for pattern, test in ELSEWHERE.items():
        assert (REPOSITORY / test).is_file(), test
        assert any(re.search(pattern, command) for command in SHOWN) or "run" in pattern, f"the README shows no {pattern}"


class Place(NamedTuple):
    """A folder with config/, logs/ and the names that the README uses."""

    folder: Path
    env: dict[str, str]
    engine: ClickHouseFront
    fillings: dict[str, str]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        for old, new in self.fillings.items():
            command = command.replace(old, new)
        words = ["bash", "-c", f"set -euo pipefail\n{command}\n"]
        if UNENDING.search(command):
            words = ["timeout", "--foreground", "-s", "INT", str(MOMENT_S), *words]
        return subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("readme")
    with ClickHouseFront(folder / "engine") as engine, Collector(folder / "collector", store=engine.url) as collector:
        until(lambda: collector.request("GET", "/readyz").status == 200, "the collector is ready")
        key = collector.new_tenant("Blue Shop", slug="blue-shop")
        made = collector.request(
            "POST", "/api/v1/tenants/blue-shop/keys",
            body=json.dumps({"name": "all", "scopes": ["ingest", "search", "delete"]}).encode(),
            headers={"X-Admin-Token": ADMIN_TOKEN},
        )  # fmt: skip
        key = str(made.body["api_key"])
        until(lambda: collector.request("GET", "/api/v1/ingestion/events/types", key=key).status == 200, "the key is known")
        logs = folder / "logs"
        logs.mkdir()
        agent = AgentProcess(folder / "agent", url=collector.url, include=[logs / "*.log*"])
        agent.configure(collector={"api_key": key}, sources=[SOURCE | {"include": [f"{logs}/*.log*"]}])
        with agent:
            yield _place(folder, engine, collector, agent, key)


def _place(folder: Path, engine: ClickHouseFront, collector: Collector, agent: AgentProcess, key: str) -> Place:
    (folder / "config").mkdir()
    shutil.copytree(REPOSITORY / "charts", folder / "charts")
    (folder / "config" / "collector.yaml").write_text(f"server: {{port: 0}}\nstore: {{url: '{engine.url}'}}\n")
    app = folder / "logs" / "app.log"
    lines = [f'{{"level": "warning", "message": "payment refused, timeout of orders {n}", "region": "eu"}}' for n in range(50)]
    app.write_text("\n".join(lines) + "\n")
    until(lambda: sum(file["acked_offset"] or 0 for file in agent.status()["files"]) == app.stat().st_size, "it is shipped")
    shutil.copy(agent.config, folder / "config" / "agent.yaml")
    second = agent.settings | {"state_dir": str(folder / "second")}
    (folder / "config" / "second.yaml").write_text(json.dumps(second))
    (event, *_) = collector.request("GET", "/api/v1/ingestion/events/search", key=key).body["events"]
    (folder / "key").write_text(key)
    env = {
        "PATH": f"{_stand_ins(folder / 'bin', engine)}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder), "URL": collector.url, "KEY": key, "EVENTS": f"{collector.url}/api/v1/ingestion/events",
        "EVENT_ID": event["id"], "ADMIN_TOKEN": ADMIN_TOKEN,
        "PULSESTREAM_URL": collector.url, "PULSESTREAM_API_KEY_FILE": str(folder / "key"),
    }  # fmt: skip
    fillings = {
        "http://collector:8080": collector.url, "~/.pulsestream-key": str(folder / "key"), "PULSESTREAM_API_KEY=…": "",
        "[PATH…]": "", " PATH": f" {app}", " FILE": f" {app}",
        "agent status --watch": "agent status --watch --config config/agent.yaml",
        "tenant create \"Blue Shop\"": "tenant create \"Shop $RANDOM\" --config config/collector.yaml",
        # The agent that runs has the other one's state folder.
        "agent run --config config/agent.yaml": "agent run --config config/second.yaml",
        "agent run    --config config/agent.yaml": "agent run --config config/second.yaml",
        "sql-user create blue-shop ": "sql-user create blue-shop --config config/collector.yaml ",
        "schema print ": "schema print --config config/collector.yaml ",
    }  # fmt: skip
    return Place(folder, env, engine, fillings)


def _stand_ins(folder: Path, engine: ClickHouseFront) -> Path:
    """curl that fails for what is refused; clickhouse-client that asks the engine of the test, and takes what makes a user as
    it is; jq where there is none."""
    folder.mkdir()
    curl = shutil.which("curl")
    scripts = {
        "curl": f'case "$1" in -*f*) exec {curl} "$@" ;; *) exec {curl} --fail-with-body "$@" ;; esac',
        "clickhouse-client": f'exec {sys.executable} {__file__} {engine.host} {engine.port} "$@"',
        # What would be installed or made: a cluster is not here. Dependencies are built in a copy.
        "helm": f'[ "$1" = install ] && {{ shift; set -- template "$@"; }}; exec {Path(sys.executable).parent}/helm "$@"',
        "kubectl": 'case "$*" in "create secret generic pulsestream-ingest --from-literal=api-key=ps_"*) ;; *) exit 3;; esac',
        "jq": f"exec {shutil.which('jq') or 'cat'}" + (' "$@"' if shutil.which("jq") else ""),
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.engine
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here (Debian: apt-get install curl)")
@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_a_command_of_the_readme_works(number: int, place: Place) -> None:
    command = SHOWN[number]
    if elsewhere(command) or command.startswith("export "):
        return
    done = place.run(command)
    assert done.returncode in ((124,) if UNENDING.search(command) else (0,)), (
        f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.engine
def test_a_machine_of_its_own_is_set_up_in_the_order_that_is_shown(tmp_path: Path) -> None:
    """With the configuration as it is shipped, whose store is embedded and whose admin token is not set: but for the folder."""
    (block,) = (block for block in blocks("sh") if "-m venv /opt/pulsestream" in block)
    (made,) = (command for command in commands(block) if "tenant create" in command)
    assert block.index(made) < block.index("pulsestream-collector serve"), "the store belongs to one process"
    (tmp_path / "config").mkdir()
    text, store = (REPOSITORY / "config" / "collector.yaml").read_text(), f"chdb://{tmp_path}/store"
    (tmp_path / "config" / "collector.yaml").write_text(text.replace("chdb:///var/lib/pulsestream/store", store))
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", made], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    key = re.search(r"ps_[\w-]+", done.stdout)
    assert key, done.stderr
    with Collector(tmp_path / "c", store=store) as collector:
        answer = collector.request("GET", "/api/v1/ingestion/events/types", key=key[0])
        assert answer.status == 200


@pytest.mark.engine
def test_the_notebook_of_the_readme_works(place: Place) -> None:
    (code,) = blocks("python")
    code = re.sub(r"get_client\(.*\)", "get_client(host=host, port=port, database='pulsestream')", code)
    names: dict[str, Any] = {"clickhouse_connect": clickhouse_connect, "host": place.engine.host, "port": place.engine.port}
    pytest.importorskip("pandas", reason="pandas is not among the packages of the suite")
    exec(code, names)
    assert names["table"].num_rows >= 50


def _as_clickhouse_client(host: str, port: str, *arguments: str) -> None:
    if "--query" not in arguments:
        statements = [text for text in sys.stdin.read().split(";") if text.strip()]
        assert all(re.match(r"\s*(CREATE|GRANT|DROP|ALTER)\b", text) for text in statements), statements
        return
    with clickhouse_connect.get_client(host=host, port=int(port), database="pulsestream") as client:
        print(client.query(arguments[arguments.index("--query") + 1]).result_rows)


if __name__ == "__main__":
    _as_clickhouse_client(*sys.argv[1:])
