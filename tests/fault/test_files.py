"""What happens to log files, on real files with a real agent: every line arrives, under one ID.

Lines of a test differ from each other, so that a line with two IDs is a line stored twice, and a line without one is lost.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until


def test_lines_written_before_and_after_the_start_arrive_once(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    app.write(500)
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_half_a_line_then_the_rest(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app, other = App(logs / "app.log"), App(logs / "other.log", "other")
    app.write(3)
    app.append("half ")
    agent.start()
    half_size = app.path.stat().st_size
    until(lambda: any(file["size_bytes"] == half_size for file in agent.status()["files"]), "the half line is seen")
    arrived(sink, other.write(3), told=agent)
    assert "half " not in sink.seen().texts
    app.append("of a line\n")
    wanted = [*app.lines, *other.lines, "half of a line"]
    exactly_once(arrived(sink, wanted, told=agent), wanted)
    agent.kill()
    agent.state.rename(agent.state.with_name("state-that-was-lost"))
    agent.start()
    until(lambda: set(sink.seen().deliveries.values()) == {2}, "all is sent again", told=agent.log)
    exactly_once(sink.seen(), wanted)


def test_power_cut_leaves_source_shorter(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(2000)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    os.truncate(app.path, app.path.stat().st_size - 30_007)
    app.append(" <- this line was cut\n")
    after = App(app.path, "after")
    after.write(100)
    agent.start()
    seen = arrived(sink, after.lines, told=agent)
    cut = [text for text in seen.texts if text.endswith("this line was cut")]
    assert len(cut) == 1
    exactly_once(seen, [*app.lines, *cut, *after.lines])
    assert seen.losses == []


def test_a_file_cut_back_while_the_agent_looks_away_keeps_its_ids(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(1000)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    agent.freeze()
    os.truncate(app.path, 61 * 500)
    kept, app.lines = app.lines, app.lines[:500]
    again = App(app.path, "again")
    again.write(100)
    agent.thaw()
    exactly_once(arrived(sink, again.lines, told=agent), [*kept, *again.lines])


def test_copytruncate_copy_is_shorter_than_the_offset(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    app = App(logs / "app.log")
    app.write(1995)
    agent.start()
    arrived(sink, app.lines, told=agent)
    (logs / "app.log.1").write_bytes(app.path.read_bytes())
    arrived(sink, app.write(5), told=agent)
    os.truncate(app.path, 0)
    arrived(sink, app.write(50), told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)


@pytest.mark.parametrize("include", ["*.log", "*.log*"])
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_rename_rotation_loses_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path, alive: bool, include: str) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/{include}"]}])
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    app.write(100)
    app.rename(logs / "app.log.1")
    app.write(100)
    agent.thaw() if alive else agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_rotated_out_of_the_glob_while_down(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    app.write(500)
    app.path.rename(logs / "app.log-20260101")
    wanted = [*app.lines, *App(logs / "app.log", "next").write(3)]
    agent.start()
    arrived(sink, wanted, told=agent)
    agent.settle()
    exactly_once(sink.seen(), wanted)
    assert sink.seen().losses == []


def test_several_rotations_while_down_lose_nothing_that_is_still_there(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    for number in range(3, 0, -1):
        app.write(100)
        app.rename(logs / f"app.log.{number}")
    app.write(1)
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "down"])
def test_copytruncate_rotation_loses_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path, alive: bool) -> None:
    app = App(logs / "app.log")
    app.write(500)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze() if alive else agent.kill()
    app.write(100)
    app.copytruncate(logs / "app.log.1")
    app.write(100)
    agent.thaw() if alive else agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_regrown_past_the_offset(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    agent.freeze()
    os.truncate(app.path, 0)
    app.write(200)
    agent.thaw()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_what_is_cut_away_unread_is_a_loss_record(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    sink.stop()
    agent.settle()
    app.append("never finished")
    unread = app.path.stat().st_size
    until(lambda: agent.status()["unread_bytes"] == len("never finished"), "the unread bytes are known")
    app.path.write_text("")
    App(app.path, "after").write(1)
    sink.start()
    agent.logged("cut_before_read")
    losses = until(lambda: sink.seen().losses, "the loss is told", told=agent.log)
    assert [(loss["reason"], loss["lost_bytes"], loss["at_least"]) for loss in losses] == [("cut_before_read", 14, True)]
    assert losses[0]["offset"] == unread - 14
    assert agent.status()["lost_bytes"] == 14


def test_a_file_deleted_while_it_is_open_is_read_to_its_end(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.freeze()
    app.write(1000)
    app.path.unlink()
    agent.thaw()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_a_file_deleted_unread_while_the_agent_was_down_is_a_loss_record(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(shutdown_partial=False)
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    app.append("never finished")
    until(lambda: agent.status()["unread_bytes"] == 14, "the unread bytes are known")
    assert agent.stop() == 0
    app.path.unlink()
    agent.start()
    losses = until(lambda: sink.seen().losses, "the loss is told", told=agent.log)
    assert [(loss["reason"], loss["at_least"]) for loss in losses] == [("deleted_before_read", True)]


def test_killed_again_and_again_while_the_app_writes(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    rotations = 0
    for number in range(8):
        app.write(300)
        agent.start()
        before = sink.seen().events
        app.write(300)
        if number % 3 == 2:
            rotations += 1
            app.rename(logs / f"app.log.{rotations}")
        until(lambda before=before: sink.seen().events > before, "something new arrives", told=agent.log)
        app.write(300)
        agent.kill()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
