"""What SECURITY.md says is so: its tests exist, and what an agent keeps is its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.support.agent import AgentProcess, App, arrived
from tests.support.sink import SinkProcess

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _threats() -> list[str]:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    rows = [line for line in text.partition("## Threats")[2].splitlines() if line.startswith("| ")]
    return rows[2:]


def test_every_test_that_the_table_of_threats_names_exists() -> None:
    missing, known = [], {}
    for path, name in NAMED.findall((ROOT / "SECURITY.md").read_text("utf-8")):
        if path not in known:
            file = ROOT / path
            tree = ast.parse(file.read_text("utf-8")) if file.exists() else ast.Module([], [])
            known[path] = {one.name for one in tree.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))}
        if name not in known[path]:
            missing.append(f"{path}::{name}")
    assert missing == []


def test_every_threat_has_a_test() -> None:
    rows = _threats()
    assert len(rows) >= 20
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert NAMED.search(cells[3]), row
        assert not NAMED.sub("", cells[3]).strip(", "), f"a test in another form than `file::name`: {row}"


def test_what_an_agent_keeps_is_its_users_own(tmp_path: Path, sink: SinkProcess, logs: Path) -> None:
    sink.rules(
        {"contains": "secret", "status": 400, "type": "application/json", "body": '{"error": {"code": "x", "message": "x"}}'}
    )
    app = App(logs / "app.log")
    with AgentProcess(tmp_path / "agent", url=sink.url, include=[app.path]) as agent:
        arrived(sink, app.write(3), told=agent)
        app.append("secret\n")
        agent.logged("was refused and is in the quarantine")
        for place in (agent.state, *agent.state.rglob("*")):
            mode = place.stat().st_mode & 0o777
            assert (mode & 0o077 == 0) or place.parent.stat().st_mode & 0o077 == 0, f"{place} has the mode {mode:o}"
        assert agent.state.stat().st_mode & 0o077 == 0
        assert any((agent.state / "quarantine").iterdir())
