"""Files that were seen and not read yet, because the spool has no room: what becomes of their bytes meanwhile is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.files import identity
from agent.files.catalog import Catalog
from agent.files.contents import Origins
from agent.files.identity import FileState
from agent.files.tail import Handles, Tail
from agent.verifying.naming import events
from tests.support.agent import SCOPE, App
from tests.support.archives import losses
from tests.support.reading import Reading, spooled
from tests.support.wait import until


def no_room(reading: Reading, logs: Path) -> None:
    """From here on nothing can be appended; files are looked at all the same."""
    App(logs / "other.log", "other").write(1)
    reading.has_read(1)
    reading.disk.room_bytes = 0


def seen(reading: Reading, path: Path, size: int) -> None:
    def at_its_size() -> bool:
        states = list(reading.reader.catalog.states.values())
        return any(state.path == str(path) and state.size == size for state in states)

    until(at_its_size, f"{size} bytes of {path.name} are seen", told=lambda: reading.reader.catalog.states)


def inode_reused(path: Path) -> None:
    """As where file systems keep no generation: another file with the same inode, nothing of it from before."""
    os.truncate(path, 0)


@pytest.mark.parametrize("lines", [10, 500], ids=["below 4096 bytes", "beyond"])
def test_copytruncate_of_a_file_that_is_seen_and_unread_is_read_from_the_copy(tmp_path: Path, logs: Path, lines: int) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs) as reading:
        no_room(reading, logs)
        app.write(lines)
        seen(reading, app.path, app.path.stat().st_size)
        app.copytruncate(logs / "app.log.1")
        app.write(lines + 100)
        reading.disk.room_bytes = None
        reading.has_read(1 + len(app.lines))
        assert reading.counts("lost_bytes") == 0
    found = spooled(tmp_path / "spool")
    assert {line: len(found.get(line, ())) for line in app.lines} == dict.fromkeys(app.lines, 1)
    for path in (app.path, logs / "app.log.1"):
        named = {event.event.decode(): {event.external_id} for event in events(path, scope=SCOPE, source="app")}
        assert {line: found[line] for line in named} == named


def test_an_unread_file_whose_place_others_take_is_a_loss_and_they_have_ids_of_their_own(tmp_path: Path, logs: Path) -> None:
    """inode_reused, at offset 0 and where inodes have no generation: nothing but the bytes tells."""
    app, after = App(logs / "app.log"), App(logs / "app.log", "after")
    with Reading(tmp_path / "spool", logs) as reading:
        no_room(reading, logs)
        app.write(100)
        lost = app.path.stat().st_size
        seen(reading, app.path, lost)
        inode_reused(app.path)
        after.write(200)
        reading.disk.room_bytes = None
        reading.has_read(201)
        reading.has_told()
    assert losses(tmp_path / "spool") == [("cut_before_read", 0, lost, True)]
    found = spooled(tmp_path / "spool")
    named = {event.event.decode(): {event.external_id} for event in events(app.path, scope=SCOPE, source="app")}
    assert {line: found[line] for line in after.lines} == named


def test_an_unread_file_that_others_replace_while_the_agent_is_down_is_a_loss(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log", "after")
    app.append("no end yet" * 200)
    with Reading(tmp_path / "spool", logs) as reading:
        seen(reading, app.path, 2000)
        reading.spool.note_files()
    inode_reused(app.path)
    app.write(200)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(200)
        reading.has_told()
        assert reading.counts("lost_bytes") == 2000


@pytest.mark.parametrize(
    ("cut", "lost"),
    [
        (lambda read, size: size - 500, lambda read, size: (size - 500, 500)),
        (lambda read, size: read - 500, lambda read, size: (read, size - read)),
    ],
    ids=["behind what was read", "into what was read"],
)
def test_what_is_cut_back_unread_is_a_loss_of_exactly_these_bytes(
    tmp_path: Path, logs: Path, cut: Callable[[int, int], int], lost: Callable[[int, int], tuple[int, int]]
) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs) as reading:
        app.write(200)
        reading.has_read(200)
        read = app.path.stat().st_size
        reading.disk.room_bytes = 0
        app.write(200)
        size = app.path.stat().st_size
        seen(reading, app.path, size)
        os.truncate(app.path, cut(read, size))
        seen(reading, app.path, cut(read, size))
        reading.disk.room_bytes = None
        reading.has_told()
    first, count = lost(read, size)
    assert losses(tmp_path / "spool") == [("cut_before_read", first, count, False)]


def test_an_unread_file_that_is_cut_back_is_read_as_far_as_it_still_goes(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs) as reading:
        no_room(reading, logs)
        app.write(20)
        size = app.path.stat().st_size
        seen(reading, app.path, size)
        os.truncate(app.path, size // 2)
        seen(reading, app.path, size // 2)
        reading.disk.room_bytes = None
        reading.has_read(1 + 10)
        reading.has_told()
    assert losses(tmp_path / "spool") == [("cut_before_read", size // 2, size // 2, False)]
    assert app.lines[:10] == [line for line in app.lines if line in spooled(tmp_path / "spool")]


def test_equal_inode_numbers_on_two_devices_are_two_files(tmp_path: Path, logs: Path) -> None:
    """As of two volumes without generations: which state is whose is told by the device."""
    paths = [logs / "a.log", logs / "b.log"]
    for path in paths:
        path.write_text(f"{path.name}\n" * 10)
    catalog = a_catalog({})
    tails = []
    for device, path in enumerate(paths, 7):
        stat = fake_stat(path, device)
        tail = FakeTail(str(path), stat, catalog)
        catalog.tails[tail.inode] = tail
        catalog.identify(tail, 100.0)
        tails.append(tail)
    assert all(tail.state is not None for tail in tails)
    states = {state.origin: msgspec.structs.replace(state) for state in catalog.states.values()}

    again = a_catalog(states)
    for device, path in enumerate(paths, 7):
        tail = FakeTail(str(path), fake_stat(path, device), again)
        again._recognise_inode(tail, list(again.states.values()))
        assert tail.state is not None
        assert tail.state.path == str(path)
    assert len(again.states) == 2


def a_catalog(states: dict[str, FileState]) -> Catalog:
    return Catalog(SCOPE, states, {}, fresh=False, make_origin=Origins(), handles=Handles(10))


def fake_stat(path: Path, device: int) -> os.stat_result:
    values = list(path.stat())
    values[1], values[2] = 12345, device
    return os.stat_result(values)


class FakeTail(Tail):
    """A file whose device and inode number are what the test says."""

    def __init__(self, path: str, stat: os.stat_result, catalog: Catalog) -> None:
        super().__init__(path, "app", stat, 0.0, catalog._contents.handles)
        self._really = os.open(path, os.O_RDONLY)

    def open(self) -> int:
        self._fd = self._really
        return self._fd


def test_the_ladder_of_what_was_seen_is_that_of_what_is_read() -> None:
    content = os.urandom(5000)
    state = msgspec.convert(["o", "app", "/a", "/a", 1, 1, 5000, 0, "", 0, ""], FileState)
    identity.see_front(state, b"\1" * 5000)
    identity.advance(state, memoryview(content), 0, 5000)
    plain = msgspec.convert(["o", "app", "/a", "/a", 1, 1, 5000, 0, "", 0, ""], FileState)
    identity.advance(plain, memoryview(content), 0, 5000)
    assert state.ladder == plain.ladder


def test_nothing_is_assumed_of_a_file_whose_beginning_was_never_noted() -> None:
    """States of earlier versions."""
    state = msgspec.convert(["o", "app", "/a", "/a", 1, 1, 5000, 0, "", 0, ""], FileState)
    assert identity.resume(state, 10, lambda *_: False) == identity.Continue()
