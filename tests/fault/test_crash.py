"""Death by SIGKILL at every named point, once and several times over: every line arrives exactly once, and no loss is made up.

Each life has all that the points need: an app that writes and rotates, a file that is cut back, one that was deleted unread,
lines that the collector refuses and records that it cannot take, a torn tail in the spool, and a stop.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from agent import crash
from agent.shipping import deadletter
from tests.support.agent import REPOSITORY, AgentProcess, App
from tests.support.sink import SinkProcess
from tests.support.spooled import segments
from tests.support.wait import until

HURRY = """
from agent.reading import walk
from agent.shipping import deadletter, ship
from agent.spool import segment
walk.ROTATED_IDLE_S = walk.DELETED_IDLE_S = 0.1
deadletter.RETRY_S = ship.RETRY_S = 0.1
segment.STATES_PER_RECORD = 1
"""
"""What takes a minute or an hour takes a moment, and a few files make a head of several records."""
NO = {"type": "application/json", "body": json.dumps({"error": {"code": "bad_record", "message": "no"}})}
RULES = ({"contains": "poison", "status": 400, **NO}, {"contains": "refused", "refuse": "no"})
AGAIN = 3
IN_EVERY_LIFE = [point for point in crash.POINTS if not point.startswith(("drop.", "start.", "full.")) and point != "loss.back"]
ALWAYS = ("append.half", "loss.appended")
"""In the suite; a quarter of a minute each. ``CRASH=all`` is for all of them: ``make crash``."""
CHOSEN = IN_EVERY_LIFE if os.environ.get("CRASH") == "all" else [point for point in IN_EVERY_LIFE if point in ALWAYS]
UNREAD = "never finished"


class Scene:
    """The files, the agent and the sink of one test."""

    def __init__(self, agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path) -> None:
        self.agent, self.sink, self.logs = agent, sink, logs
        (tmp_path / "sitecustomize.py").write_text(HURRY)
        self.environment = ("env", f"PYTHONPATH={tmp_path}{os.pathsep}{REPOSITORY}")
        self.app, self.cut, self.half = (App(logs / f"{name}.log", name) for name in ("app", "cut", "half"))
        self.apart = [App(logs / f"{name}.log", name) for name in ("poison", "refused")]
        self.gone: list[App] = []
        self.brief: list[App] = []
        self.rotations = 0
        sources = [{"name": "app", "include": [f"{logs}/*.log", f"{logs}/app.log*"]}]
        agent.configure(sources=sources, spool={"segment_bytes": 4096}, heartbeat_interval_s=0, shutdown_partial=False)

    def write(self) -> None:
        self.app.write(5)
        self.cut.write(2)
        for app in self.apart:
            app.write(1)

    def rotate(self) -> None:
        self.rotations += 1
        self.app.rename(self.logs / f"app.log.{self.rotations}")

    def prepare(self) -> None:
        """A clean life, and what happens to the files behind it."""
        self.cut.write(100)
        self.half.write(1)  # the first line is complete, so what follows it has a file to belong to
        self.gone.append(App(self.logs / f"gone{len(self.gone)}.log", f"gone{len(self.gone)}"))
        self.gone[-1].write(3)
        self.gone[-1].append(UNREAD)
        self.brief.append(App(self.logs / f"brief{len(self.brief)}.log", f"brief{len(self.brief)}"))
        self.brief[-1].write(3)
        self.clean()
        self.gone[-1].path.unlink()
        size = self.cut.path.stat().st_size
        os.truncate(self.cut.path, size - size // 4)
        data = self.cut.path.read_bytes()
        os.truncate(self.cut.path, data.rindex(b"\n") + 1)

    def live(self, point: str) -> bool:
        """One life that ends at a point, or by SIGTERM. Whether it came there."""
        self.sink.rules(*RULES)
        self.half.lines.append(f"half a line {len(self.half.lines)}")
        self.half.append(self.half.lines[-1])
        if found := segments(self.agent.state / "spool"):
            with found[-1].open("ab") as file:
                file.write(b"torn")
        self.write()
        self.rotate()
        self.agent.launch(*self.environment, f"{crash.ENV}={point}")
        over = threading.Event()

        def work() -> None:
            for app in self.brief:
                if app.path.exists():
                    app.path.rename(app.path.with_suffix(".done"))  # out of the patterns: read to its end and closed
            for n in range(8):
                self.write()
                if n % 4 == 3:
                    self.rotate()
                over.wait(0.02)

        working = threading.Thread(target=work)
        working.start()
        try:
            working.join()
            until(self.gone_or(self.drained), "it has shipped what it can, or died", told=self.agent.log)
            self.sink.rules()
            until(self.gone_or(lambda: self.drained() and not self.set_apart()), "it is done", told=self.agent.log)
        finally:
            over.set()
        code = self.agent.stop()
        assert code in (0, -9), self.agent.log()
        self.half.append("\n")
        return code == -9

    def gone_or(self, condition: object) -> object:
        return lambda: self.agent._gone() or condition()  # type: ignore[operator]

    def drained(self) -> bool:
        try:
            now = self.agent.status()
        except msgspec.DecodeError:  # it died while it answered
            return False
        if not {str(app.path) for app in (self.app, self.cut, *self.apart)} <= {file["path"] for file in now.get("files", ())}:
            return False
        unread = {file["path"] for file in now.get("files", ()) if file["unread_bytes"]}
        closing = any(file["path"].endswith(".done") for file in now.get("files", ()))
        waiting = {str(app.path) for app in (self.half, *self.gone)}
        return bool(now) and now["drained"] and not unread - waiting and not closing

    def set_apart(self) -> list[Path]:
        return list((self.agent.state / "quarantine").glob("*.rec"))

    def clean(self) -> None:
        self.sink.rules()
        self.agent.start(*self.environment)
        self.write()
        until(lambda: self.drained() and not self.set_apart(), "all is settled", told=self.agent.log)
        assert self.agent.stop() == 0, self.agent.log()

    def check(self) -> None:
        """Every line has one ID, at the sink or among the dead letters; the losses are those that happened."""
        seen = self.sink.seen()
        names = {text: set(ids) for text, ids in seen.texts.items()}
        letters = self.agent.state / deadletter.DEAD_LETTERS
        for line in letters.read_text().splitlines() if letters.exists() else ():
            letter = json.loads(line)
            names.setdefault(base64.b64decode(letter["data_base64"]).decode(), set()).add(letter["event_id"])
        wanted = [line for app in (self.app, self.cut, self.half, *self.apart, *self.gone, *self.brief) for line in app.lines]
        assert len(wanted) == len(set(wanted))
        assert sorted(set(wanted) - names.keys()) == []
        assert sorted(names.keys() - set(wanted)) == []
        assert {text: ids for text, ids in names.items() if len(ids) != 1} == {}
        losses = {loss["loss_id"]: (loss["path"], loss["lost_bytes"], loss["reason"]) for loss in seen.losses}
        deleted = [app for app in self.gone if not app.path.exists()]
        assert sorted(losses.values()) == [(str(app.path), len(UNREAD), "deleted_before_read") for app in deleted]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", CHOSEN)
def test_killed_at(point: str, agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path) -> None:
    scene = Scene(agent, sink, logs, tmp_path)
    if point != "tenant.first":
        scene.prepare()
    assert scene.live(point), f"{point} was not reached; {agent.log()}"
    scene.clean()
    scene.check()
    scene.prepare()
    for nth in range(1, AGAIN + 1):
        scene.live(f"{point}:{nth}")
    scene.clean()
    scene.check()


def test_the_chosen_points_are_points() -> None:
    assert set(ALWAYS) <= set(IN_EVERY_LIFE)


def test_a_point_that_does_not_exist_is_refused_with_those_that_do() -> None:
    environment = {**os.environ, crash.ENV: "append.never"}
    done = subprocess.run(
        [sys.executable, "-m", "agent", "--help"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "append.never: write name or name:nth, with one of append.before" in done.stderr


def test_every_point_in_the_program_is_named_and_every_name_is_in_the_program() -> None:
    places = [
        name
        for path in (REPOSITORY / "agent").rglob("*.py")
        for name in re.findall(r"crash\.point\(\"([^\"]+)\"\)", path.read_text())
    ]
    assert sorted(places) == sorted(crash.POINTS)


def test_a_point_costs_nothing_when_none_is_asked_for() -> None:
    assert crash.point is crash._nothing
    assert not crash.HALF
