"""A file that is cut away and written anew between two looks at it: what was taken from one look does not meet what the other
shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.files import identity
from agent.files.identity import BODY_AT
from agent.files.tail import Tail
from agent.reading.recorder import Recorder
from tests.support.agent import SCOPE, App
from tests.support.reading import Reading, spooled
from tests.support.wait import until


class Rewriting:
    """`Tail.front` in whose first call of a file with content the file is cut away, copied before, and written anew."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, anew: str) -> None:
        self.done = self.armed = False
        front = Tail.front

        def looked(tail: Tail, length: int) -> bytes:
            if self.armed and not self.done and os.fspath(tail.path) == str(path) and path.stat().st_size:
                self.done = True
                path.with_name("app.log.1").write_bytes(path.read_bytes())
                os.truncate(path, 0)
                path.write_text(anew)
            return front(tail, length)

        monkeypatch.setattr(Tail, "front", looked)


def lines(of: str, count: int) -> str:
    return "".join(f"{of} line {n} {'x' * 40}\n" for n in range(count))


@pytest.mark.parametrize("count", [20, 200], ids=["below 4096 bytes", "beyond"])
def test_it_gets_no_name_of_what_was_there_before(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    path = logs / "app.log"
    path.write_text(lines("old", count))
    rewriting = Rewriting(path, monkeypatch, lines("new", count))
    rewriting.armed = True
    with Reading(tmp_path / "spool", logs, include=(f"{logs}/app.log*",)) as reading:
        reading.has_read(2 * count)
        assert rewriting.done
    found = spooled(tmp_path / "spool")
    assert len(found) == 2 * count
    for of in ("old", "new"):
        (line, *_) = lines(of, 1).splitlines()
        assert {name.partition("-")[0] for name in found[line]} == {identity.file_id(SCOPE, "app", line.encode(), 0)}


def test_what_is_noted_of_an_unread_file_goes_on_from_what_was_seen(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be read while the spool has no room."""
    monkeypatch.setattr(Recorder, "is_ready", lambda *_: False)
    path = logs / "app.log"
    path.write_text(lines("old", 5))
    rewriting = Rewriting(path, monkeypatch, lines("new", 50))
    reading = Reading(tmp_path / "spool", logs)
    catalog = reading.reader.catalog
    reading.spool.start(reading.reader.head)
    reading.reader.walk.go(0.0)
    until(lambda: catalog.states, "the file is known")
    (tail,) = catalog.tails.values()
    (state,) = catalog.states.values()
    before = state.front
    assert state.offset == 0
    App(path).append(lines("old", 5))
    tail.look()
    rewriting.armed = True
    assert (tail.state, tail.size > state.size) == (state, True)
    catalog.see(tail)
    assert rewriting.done
    assert state.front == before
    assert before[0] < BODY_AT
    path.write_text(lines("old", 10))
    tail.look()
    catalog.see(tail)
    assert state.front[0] == path.stat().st_size
    reading.reader.release()
