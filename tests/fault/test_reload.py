"""Another configuration for a running agent: taken whole, or refused and named; no line is lost or doubled by it."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.config import Config, Source
from agent.reload import Settings, changes, fixed_faults
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until

ROUNDS = 20


def source(name: str, *include: Path | str, **more: Any) -> dict[str, Any]:
    return {"name": name, "include": [str(path) for path in include], **more}


def test_a_source_is_added_changed_and_removed_without_a_restart(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app, other = App(logs / "app.log"), App(logs / "other.txt", "other")
    other.write(3)
    agent.start()
    pid = agent.status()["pid"]
    arrived(sink, app.write(3), told=agent)
    first = source("app", logs / "*.log", labels={"region": "eu"})
    said = agent.reload(sources=[first, source("other", logs / "*.txt")])
    assert (said["refused"], agent.status()["pid"]) == ("", pid)
    arrived(sink, [*app.write(2), *other.write(2)], told=agent)
    agent.logged("changed: source other added, source app changed")
    agent.settle()
    agent.reload(sources=[first])
    unseen = other.write(4)
    arrived(sink, app.write(2), told=agent)
    agent.settle()
    assert not set(unseen) & sink.seen().texts.keys()
    agent.reload(sources=[first, source("other", logs / "*.txt")])
    seen = arrived(sink, other.lines, told=agent)
    exactly_once(seen, [*app.lines, *other.lines])
    assert set(seen.deliveries.values()) == {1}, "nothing was read again"
    assert seen.losses == []
    assert agent.status()["config"]["taken"] == 3


def test_a_file_that_is_excluded_now_is_left_where_it_is_also_over_a_restart(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app, chatty = App(logs / "app.log"), App(logs / "chatty.log", "chatty")
    agent.start()
    arrived(sink, [*app.write(3), *chatty.write(3)], told=agent)
    agent.settle()
    agent.reload(sources=[source("app", logs / "*.log", exclude=[str(logs / "chatty*")])])
    unseen = chatty.write(3)
    arrived(sink, app.write(1), told=agent)
    agent.kill()
    agent.start()
    agent.logged("1 files are of no source any more")
    arrived(sink, app.write(1), told=agent)
    agent.settle()
    assert not set(unseen) & sink.seen().texts.keys()
    agent.reload(sources=[source("renamed", logs / "*.log")])
    seen = arrived(sink, chatty.lines, told=agent)
    exactly_once(seen, [*app.lines, *chatty.lines])
    assert seen.losses == []


def test_a_rotated_file_of_a_source_that_was_renamed_is_finished(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(3), told=agent)
    agent.kill()
    app.write(3)
    app.rename(logs / "app.log.1")
    agent.configure(sources=[source("renamed", logs / "*.log")])
    agent.start()
    exactly_once(arrived(sink, [*app.lines, *app.write(1)], told=agent), app.lines)


def test_a_faulty_configuration_is_refused_with_all_its_faults_and_the_old_one_stays(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    agent.start()
    said = agent.reload(flush_interval_s="soon", nonsense=1)
    assert "flush_interval_s: expected" in said["refused"]
    assert "nonsense: there is no such setting" in said["refused"]
    agent.logged("the new configuration is refused, the old one stays")
    arrived(sink, app.write(3), told=agent)
    del agent.settings["nonsense"]
    said = agent.reload(flush_interval_s=0.05, scope="another", state_dir=str(logs / "elsewhere"))
    assert "scope: is 'another'" in said["refused"]
    assert "state_dir: is " in said["refused"]
    assert "restart the agent to change it" in said["refused"]
    agent.reload(scope="scope-of-the-test", state_dir=str(agent.state))
    assert agent.status()["config"]["refused"] == ""


def test_what_cannot_be_put_in_force_is_refused_and_the_old_one_goes_on(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        agent.start()
        agent.reload(metrics={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        until(lambda: "name an address that is free here" in agent.status()["config"]["refused"], "it is refused")
    arrived(sink, app.write(3), told=agent)
    shown = agent.command("status").stdout  # of the configuration in the file, which is fine by itself
    assert "config: refused since 20" in shown


def test_another_key_and_another_collector_count_at_once(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    agent.configure(collector={"url": "http://127.0.0.1:9"})
    agent.start()
    app.write(3)
    agent.logged("sending fails")
    agent.reload(collector={"url": sink.url, "api_key": "another-key"})
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert set(sink.seen().keys) == {"another-key"}


def test_a_watched_configuration_is_taken_when_it_was_written(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    other = App(logs / "other.txt", "other")
    other.write(2)
    agent.launch(after=("--watch-config",))
    until(agent.status, "it answers")
    agent.config.write_text("sources: [")
    agent.logged("not YAML")
    agent.configure(sources=[source("other", logs / "*.txt")])
    exactly_once(arrived(sink, other.lines, told=agent), other.lines)


def test_reloads_amid_writing_rotating_and_kills_lose_and_double_nothing(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    random = Random(os.environ.get("PULSESTREAM_SEED", "7"))
    apps = [App(logs / f"{name}.log", name) for name in ("one", "two", "three")]
    agent.start()
    for number in range(ROUNDS):
        for app in apps:
            app.write(random.randrange(1, 2000))
        if number % 3 == 0:
            apps[0].rename(logs / f"one.log.{number}")
        if number % 3 == 1:
            apps[1].copytruncate(logs / f"two.log.{number}")
        include = [logs / "*.log*"] if number % 2 else [logs / "one.log*", logs / "t*.log*"]
        agent.configure(sources=[source("app", *include, labels={"round": str(number)})])
        agent.signal(signal.SIGHUP)
        until(lambda n=number: agent.log().count("changed: source app changed") > n, "it is taken", told=agent.log)
        if number % 5 == 4:
            agent.kill()
            agent.start()
    wanted = [line for app in apps for line in app.lines]
    seen = arrived(sink, wanted, told=agent)
    exactly_once(seen, wanted)
    assert seen.losses == []
    assert agent.status()["config"]["refused"] == ""


CONFIG = Config(sources=(Source("a", ("/a",)), Source("b", ("/b",))))


def test_what_differs_is_named() -> None:
    other = Config(sources=(Source("b", ("/c",)), Source("c", ("/c",))), flush_interval_s=1.0)
    assert changes(CONFIG, other) == ["source a removed", "source c added", "source b changed", "flush_interval_s"]
    assert changes(CONFIG, Config(sources=CONFIG.sources[::-1])) == ["order of sources"]
    assert changes(CONFIG, CONFIG) == fixed_faults(CONFIG, other) == []


@pytest.mark.parametrize("asked", [1, 2])
def test_one_that_never_worked_gives_way_to_the_last_that_did(asked: int) -> None:
    candidates = [Config(sources=CONFIG.sources, name=f"n{number}") for number in range(asked)]
    settings = Settings(CONFIG, load=lambda: candidates.pop())
    for _ in range(asked):
        settings.ask()
    settings.begin()
    assert settings.fails("the port is taken")
    assert settings.begin() is CONFIG
    assert settings.said()["refused"] == "the port is taken"
    assert not settings.fails("again")
    json.dumps(settings.said())
