"""Links, and names that are no text: rotated siblings are looked for where the file really is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_kubernetes_rotates_behind_the_link(agent: AgentProcess, sink: SinkProcess, tmp_path: Path, alive: bool) -> None:
    """/var/log/containers/x.log -> /var/log/pods/x/0.log, rotated there to 0.log.20261123-100000."""
    pods, containers = tmp_path / "pods" / "x", tmp_path / "containers"
    containers.mkdir()
    app = App(pods / "0.log")
    app.write(300)
    (containers / "x.log").symlink_to(app.path)
    agent.configure(sources=[{"name": "app", "include": [f"{containers}/*.log"]}])
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    app.write(200)
    app.path.rename(pods / "0.log.20261123-100000")
    app.write(100)
    agent.thaw() if alive else agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    agent.settle()
    assert sink.seen().losses == []


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_a_current_link_that_moves_on_leaves_no_line_behind(
    agent: AgentProcess, sink: SinkProcess, tmp_path: Path, logs: Path, alive: bool
) -> None:
    store = tmp_path / "store"
    first, second = App(store / "app.log", "first"), App(store / "app.log", "second")
    first.write(300)
    (logs / "current.log").symlink_to(first.path)
    agent.start()
    arrived(sink, first.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    first.write(100)
    first.path.rename(store / "app-2026-11-22.log")
    second.write(100)
    (logs / "new").symlink_to(second.path)
    (logs / "new").rename(logs / "current.log")
    agent.thaw() if alive else agent.start()
    wanted = [*first.lines, *second.lines]
    exactly_once(arrived(sink, wanted, told=agent), wanted)


def test_a_name_that_is_no_text_is_found_again_under_its_rotated_name(tmp_path: Path, logs: Path) -> None:
    path = os.fsdecode(os.fsencode(logs) + b"/caf\xe9.log")
    lines = [f"line {number} of a file whose name is latin-1" for number in range(6)]
    with open(path, "w") as file:
        file.write("".join(f"{line}\n" for line in lines[:3]))
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(3)
    with open(path, "a") as file:
        file.write("".join(f"{line}\n" for line in lines[3:]))
    os.rename(path, path + ".1")
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(3)
        assert reading.counts("lost_bytes") == 0
    assert {line: len(ids) for line, ids in spooled(tmp_path / "spool").items()} == dict.fromkeys(lines, 1)


def test_hard_links_to_one_file_are_one_file(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(300)
    os.link(app.path, logs / "same.log")
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(300)
        app.path.unlink()
        App(logs / "same.log", "later").write(1)
        reading.has_read(301)
    assert {len(ids) for ids in spooled(tmp_path / "spool").values()} == {1}
