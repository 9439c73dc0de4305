"""Halves of lines that were sent when the agent ended, and a collector of a version that does not take them away again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import wire
from agent.codec import compress
from agent.spool import reserve
from tests.support.agent import AgentProcess, App, arrived
from tests.support.lives import Lives, clock_of_the_agent
from tests.support.sink import SinkProcess
from tests.support.wait import until

OLDER = {"kind": wire.COMPLETED, "status": 400}
SAID = "does not take away the half of a line"
FILES = ("a", "b", "c")


def quarantined(agent: AgentProcess) -> list[Path]:
    return sorted((agent.state / "quarantine").glob("*.rec"))


def try_again(agent: AgentProcess) -> None:
    """As an hour later."""
    agent.kill()
    for path in quarantined(agent):
        os.utime(path, (0, 0))
    agent.start()


@pytest.fixture
def apps(agent: AgentProcess, sink: SinkProcess, logs: Path) -> list[App]:
    """Three whose last lines were sent in halves, and again as wholes to a collector that does not know what that means."""
    apps = [App(logs / f"{name}.log", name) for name in FILES]
    for app in apps:
        app.write(3)
        app.append(f"half {app.name}")
    agent.start()
    arrived(sink, [line for app in apps for line in app.lines], told=agent)
    assert agent.stop() == 0
    arrived(sink, [f"half {name}" for name in FILES], told=agent)
    sink.rules(OLDER)
    for app in apps:
        app.append(" and whole\n")
    agent.start()
    arrived(sink, [f"half {name} and whole" for name in FILES], told=agent)
    until(lambda: len(quarantined(agent)) == len(FILES), "what it does not know is set aside", told=agent.log)
    return apps


def test_it_holds_nothing_up_and_is_told_once(agent: AgentProcess, sink: SinkProcess, apps: list[App]) -> None:
    arrived(sink, apps[0].write(100), told=agent)
    agent.settle()
    assert agent.log().count(SAID) == 1
    assert " ERROR " not in agent.log()
    assert "sending fails" not in agent.log()
    assert agent.status()["counts"].get("quarantined_events", 0) == 0
    lines = [line for app in apps for line in (*app.lines, f"half {app.name}", f"half {app.name} and whole")]
    assert {text: len(ids) for text, ids in sink.seen().texts.items()} == dict.fromkeys(lines, 1)


def test_the_halves_go_once_the_collector_is_updated(agent: AgentProcess, sink: SinkProcess, apps: list[App]) -> None:
    sink.rules()
    try_again(agent)
    until(lambda: not quarantined(agent), "they are delivered", told=agent.log)
    lines = [line for app in apps for line in (*app.lines, f"half {app.name} and whole")]
    assert {text: len(ids) for text, ids in sink.seen().texts.items()} == dict.fromkeys(lines, 1)


def test_one_that_is_refused_for_a_month_is_let_go_of_and_no_other(
    agent: AgentProcess, sink: SinkProcess, apps: list[App]
) -> None:
    raw = wire.encode_completed(())
    header = wire.Header(wire.COMPLETED, "of-long-ago", raw_bytes=len(raw), observed_ns=1)
    (agent.state / "quarantine" / "of-long-ago.rec").write_bytes(wire.encode_record(header, compress(raw)))
    try_again(agent)
    until(lambda: len(quarantined(agent)) == len(FILES), "it is let go of", told=agent.log)
    until(lambda: all(path.stat().st_mtime for path in quarantined(agent)), "the others were tried, too")
    assert "of-long-ago.rec" not in [path.name for path in quarantined(agent)]


# No room ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lives(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lives]:
    monkeypatch.setattr(reserve, "RESERVE_BYTES", 0)
    made = Lives(tmp_path / "spool", (f"{logs}/app.log",), segment_bytes=100_000, max_open_files=10)
    with clock_of_the_agent(made.clock):
        yield made


def full(lives: Lives, *, room_bytes: int | None = 0) -> None:
    """The spool takes no data; its disk no more than so much."""
    lives.spool._max_bytes = 0 if room_bytes == 0 else 1 << 30
    lives.disk.room_bytes = room_bytes


def shown(lives: Lives) -> dict[str, int]:
    """What search shows -> how often."""
    return {text.decode(): len(names) for text, names in lives.store.lines.items()}


@pytest.mark.parametrize("then", ["goes on", "is deleted"])
def test_half_a_line_that_finds_no_room_at_the_end_stays_in_its_file(lives: Lives, logs: Path, then: str) -> None:
    app = App(logs / "app.log")
    app.write(5)
    lives.start()
    lives.turns()
    app.append("half")
    lives.spool._max_bytes = 0
    lives.stop()
    assert shown(lives) == dict.fromkeys(app.lines, 1)
    if then == "goes on":
        app.append(" and whole\n")
    else:
        app.path.unlink()
    lives.start()
    lives.finish(6.0, 6.0)
    wanted = [*app.lines, *["half and whole"] * (then == "goes on")]
    assert shown(lives) == dict.fromkeys(wanted, 1)
    assert lives.store.lost_bytes == (0 if then == "goes on" else 4)


@pytest.mark.parametrize("room_bytes", [0, 400, 600], ids=["none", "for what takes the half away", "for that and some"])
def test_a_half_stays_until_there_is_room_for_its_whole(lives: Lives, logs: Path, room_bytes: int) -> None:
    """What takes it away goes in front of the whole: where that finds no room it must not be there either."""
    app = App(logs / "app.log")
    app.write(5)
    app.append("half")
    lives.start()
    lives.turns()
    lives.stop()
    assert shown(lives) == {**dict.fromkeys(app.lines, 1), "half": 1}
    lives.start()
    lives.turn()
    rest = os.urandom(2000).hex()
    app.append(f"{rest}\n")
    lives.notices.paths.add(str(app.path))
    full(lives, room_bytes=room_bytes)
    for _ in range(4):
        lives.turn(2.0)
    lives.ship()
    assert shown(lives) == {**dict.fromkeys(app.lines, 1), "half": 1}
    full(lives, room_bytes=None)
    lives.finish(6.0, 6.0)
    assert shown(lives) == {**dict.fromkeys(app.lines, 1), f"half{rest}": 1}
    assert lives.store.losses == {}
