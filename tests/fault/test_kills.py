"""Few handles, and kills at any time."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.sink import SinkProcess
from tests.support.wait import until

KILLS = int(os.environ.get("KILLS", "10"))
"""``KILLS=1800`` is about an hour of them."""
FILES, HANDLES = 150, 64
ROTATED_AT_BYTES = 30_000


def test_emfile(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """Far more files than handles: all are read, in turns."""
    apps = [App(logs / f"{number}.log", f"file {number}") for number in range(FILES)]
    for app in apps:
        app.write(5)
    agent.start("prlimit", f"--nofile={HANDLES}:{HANDLES}")
    arrived(sink, [line for app in apps for line in app.lines], told=agent)
    lines = [line for app in apps for line in app.write(2)]
    arrived(sink, lines, told=agent)
    assert agent.stop() == 0
    exactly_once(sink.seen(), [line for app in apps for line in app.lines])
    assert sink.seen().losses == []


def test_killed_every_two_seconds_for_an_hour(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    chance = random.Random(20260102)
    app = App(logs / "app.log")
    stop, pause = threading.Event(), 0.01

    def write() -> None:
        rotations = 0
        while not stop.wait(pause):
            app.write(chance.randrange(1, 20))
            if app.path.stat().st_size > ROTATED_AT_BYTES:
                rotations += 1
                app.rename(logs / f"app.log.{rotations}")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(KILLS):
            agent.launch()
            enough = sink.seen().runs + chance.randrange(1, 6)
            until(lambda enough=enough: sink.seen().runs >= enough, "runs arrive", told=agent.log)
            agent.kill()
    finally:
        stop.set()
        writing.join()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert sink.seen().losses == []
