"""Histories that the model of identity has found, each by itself; see `tests/model/test_identity_model.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import App
from tests.support.lives import Lives, clock_of_the_agent


@pytest.fixture
def lives(tmp_path: Path, logs: Path) -> Iterator[Lives]:
    """An agent for ``*.log``, started, with a clock that only the test moves."""
    made = Lives(tmp_path / "spool", (f"{logs}/*.log",), segment_bytes=3000, max_open_files=50)
    with clock_of_the_agent(made.clock):
        made.start()
        yield made
        made.end()


def names(lives: Lives, lines: list[str]) -> list[int]:
    """How many IDs each line has in the store, when all is shipped."""
    lives.ship()
    return [len(lives.store.lines.get(line.encode(), ())) for line in lines]


@pytest.mark.parametrize("whole", [True, False], ids=["whole lines", "the rest of a line"])
def test_an_app_that_writes_a_while_to_what_was_quiet_and_is_rotated_now_loses_nothing(
    lives: Lives, logs: Path, whole: bool
) -> None:
    """Out of the patterns, its log not opened anew yet: it was quiet for long before, and counts as in use all the same."""
    app = App(logs / "app.log")
    app.write(3)
    if not whole:
        app.append("a line ")
    lives.turns()
    lives.turn(3600.0)
    app.path.rename(logs / "app.log.1")
    lives.turn(6.0)
    lives.turns()
    app.path = logs / "app.log.1"
    if not whole:
        app.append("in two parts\n")
        app.lines.append("a line in two parts")
    app.write(3)
    lives.turn(6.0)
    lives.turns()
    assert names(lives, app.lines) == [1] * len(app.lines)


def test_what_forks_from_a_file_behind_its_first_4096_bytes_keeps_their_ids(lives: Lives, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    lives.end()
    (logs / "fork.log").write_bytes(app.path.read_bytes())
    fork = App(logs / "fork.log", "fork")
    app.write(3)
    fork.write(3)
    lives.start()
    for seconds in (0.1, 12.0, 12.0):
        lives.turn(seconds)
        lives.turns()
    assert names(lives, app.lines + fork.lines) == [1] * 106
