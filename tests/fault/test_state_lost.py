"""The state folder is gone: every line is sent again, under the ID that it had."""

from __future__ import annotations

from pathlib import Path

from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until

BODY_AT = 4096
"""Events that start below this byte are named by the file's first line, later ones by its first 4096 bytes."""


def forget_everything(agent: AgentProcess) -> None:
    """As when the state's volume is lost."""
    agent.state.rename(agent.state.with_name("state-that-was-lost"))


def test_lines_keep_their_ids_when_the_state_is_deleted(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app, other = App(logs / "app.log"), App(logs / "other.log", "other")
    app.write(500)
    other.write(20)
    agent.start()
    arrived(sink, [*app.lines, *other.lines], told=agent)
    before = sink.seen().events
    assert agent.stop() == 0
    forget_everything(agent)
    agent.start()
    until(lambda: sink.seen().events == 2 * before, "all is sent again", told=agent.log)
    exactly_once(sink.seen(), [*app.lines, *other.lines])


def test_rotated_files_keep_their_ids_when_the_state_is_deleted(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    app = App(logs / "app.log")
    for number in (2, 1):
        app.write(200)
        app.rename(logs / f"app.log.{number}")
    app.write(200)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    forget_everything(agent)
    (logs / "app.log.2").rename(logs / "app.log.3")
    agent.start()
    until(lambda: sink.seen().events == 2 * len(app.lines), "all is sent again", told=agent.log)
    exactly_once(sink.seen(), app.lines)


def test_equal_headers_side_by_side(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    apps = [App(logs / f"{name}.log", name) for name in ("a", "b")]
    for app in apps:
        app.append("# the same header in every file\n")
        app.write(500)
    agent.start()
    wanted = [line for app in apps for line in app.lines]
    arrived(sink, wanted, told=agent)
    agent.settle()
    agent.kill()
    forget_everything(agent)
    apps[0].path.rename(logs / "z.log")
    agent.start()
    until(lambda: sink.seen().events == 2 * (len(wanted) + 2), "all is sent again", told=agent.log)
    twice = {text for text, ids in sink.seen().texts.items() if len(ids) > 1}
    known_limit = {line for app in apps for line in app.lines[: BODY_AT // len(app.lines[0])]}
    assert twice <= known_limit | {"# the same header in every file"}


def test_fixed_header_nine_rotations(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    apps = [App(logs / f"app.log.{number}", f"rotation {number}") for number in range(9, 0, -1)] + [App(logs / "app.log")]
    for app in apps:
        app.append("# the same header in every file\n")
        app.write(200)
    agent.start()
    wanted = [line for app in apps for line in app.lines]
    arrived(sink, wanted, told=agent)
    agent.kill()
    forget_everything(agent)
    apps[0].path.unlink()
    for app in apps[1:]:
        app.path.rename(app.path.with_name(f"app.log.{int(app.path.suffix[1:].replace('log', '0')) + 1}"))
    before = sink.seen().events
    agent.start()
    until(lambda: sink.seen().events >= before + 9 * 201, "all is sent again", told=agent.log)
    twice = {text for text, ids in sink.seen().texts.items() if len(ids) > 1}
    known_limit = {line for app in apps for line in app.lines[: BODY_AT // len(app.lines[0])]}
    assert twice <= known_limit | {"# the same header in every file"}
