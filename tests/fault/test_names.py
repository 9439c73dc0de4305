"""Names that are awkward: the name of a file is no reason to lose what is in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.agent import AgentProcess, arrived, exactly_once
from tests.support.sink import SinkProcess


def test_a_file_whose_name_is_no_utf8_is_followed_and_shown_escaped(logs: Path, sink: SinkProcess, agent: AgentProcess) -> None:
    path = os.fsencode(logs) + b"/bad\xff.log"
    with open(path, "wb") as file:
        file.write(b"first\n")
    agent.start()
    arrived(sink, ["first"], told=agent)
    with open(path, "ab") as file:
        file.write(b"second\n")
    exactly_once(arrived(sink, ["first", "second"], told=agent), ["first", "second"])
    assert [file["path"] for file in agent.status()["files"]] == [f"{logs}/bad\\xff.log"]
    assert json.loads(agent.command("check", "--json").stdout)["files"][0]["path"] == f"{logs}/bad\\xff.log"
    assert agent.stop() == 0


def test_what_is_no_regular_file_is_left_alone(logs: Path, sink: SinkProcess, agent: AgentProcess) -> None:
    os.mkfifo(logs / "pipe.log")
    (logs / "folder.log").mkdir()
    (logs / "dangling.log").symlink_to(logs / "nothing")
    (logs / "name with $(shell) 'quotes' ü.log").write_text("found\n")
    agent.start()
    exactly_once(arrived(sink, ["found"], told=agent), ["found"])
    assert len(agent.status()["files"]) == 1
