"""Histories that the model of identity has found, each by itself; see `tests/model/test_identity_model.py`."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.config import Source
from agent.files.identity import BODY_AT
from tests.support.agent import App
from tests.support.lives import Lives, clock_of_the_agent, death, small_blocks
from tests.support.spooled import segments


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


@pytest.mark.parametrize("gone", [False, True], ids=["both are there", "the longer one is gone"])
def test_what_parts_from_a_longer_file_between_two_of_its_marks_loses_nothing(lives: Lives, logs: Path, gone: bool) -> None:
    """Shorter than what was read of the other, and equal at every mark within: it is no copy of it for that."""
    app = App(logs / "app.log")
    app.write(80)
    lives.end()
    part = App(logs / "part.log", "part")
    front = app.path.read_bytes()
    app.write(80)
    lives.start()
    for _ in range(3):
        lives.turn(12.0)
        lives.turns()
    if gone:
        app.path.unlink()
        lives.turn(70.0)
        lives.turns()
    part.path.write_bytes(front)
    part.write(20)
    assert BODY_AT < part.path.stat().st_size < 2 * BODY_AT
    for _ in range(3):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines + part.lines) == [1] * 180


def test_a_file_that_was_written_over_with_as_many_bytes_is_read_again(lives: Lives, logs: Path) -> None:
    app, again = App(logs / "app.log"), App(logs / "app.log", "two")
    app.write(3)
    lives.turns()
    app.path.write_text("")
    again.write(3)
    os.utime(app.path, (1, 1))
    for _ in range(2):
        lives.turn(6.0)
        lives.turns()
    assert app.path.stat().st_size == 3 * 61
    assert names(lives, app.lines + again.lines) == [1] * 6


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_what_a_hole_carries_over_the_first_4096_bytes_has_a_name_of_its_own(lives: Lives, logs: Path, kind: str) -> None:
    """The file was shorter when it began, and no record of it ends where its second name begins."""
    app = App(logs / "app.log")
    app.write(3)
    lives.turns()
    app.append("\0" * (BODY_AT + 900))
    app.write(3)
    if kind == "packed":
        lives.stop()
        (logs / "app.log.1.gz").write_bytes(gzip.compress(app.path.read_bytes()))
        app.path.unlink()
        lives.start()
    for seconds in (0.1, 6.0, 6.0, 6.0):
        lives.turn(seconds)
        lives.turns()
    assert names(lives, app.lines) == [1] * 6
    ids = {name for line in app.lines for name in lives.store.lines[line.encode()]}
    assert {len(name) for name in ids} == {len("0123456789abcdef-0123456789ab-01234567")}


def test_a_copy_of_a_file_of_which_only_the_first_lines_can_be_read_is_a_copy(lives: Lives, logs: Path) -> None:
    """What is behind them is size that was given in advance: with 4 KiB or more it is not too short to tell."""
    app = App(logs / "app.log")
    app.write(3)
    lives.turns()
    app.append("\0" * BODY_AT)
    (logs / "copy.log").write_bytes(app.path.read_bytes())
    copy = App(logs / "copy.log", "copy")
    for _ in range(3):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines) == [1] * 3
    copy.write(2)
    app.write(2)
    for _ in range(3):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines + copy.lines) == [1] * 7


@pytest.mark.parametrize("other", [False, True], ids=["its original", "another file"])
def test_a_short_compressed_file_does_not_wait_for_half_a_line_of_a_file_that_begins_like_it(
    lives: Lives, logs: Path, other: bool
) -> None:
    """It is a copy of what is there, half a line and all, or a file of its own: that can be told."""
    app, more = App(logs / "app.log"), App(logs / "more.log", "more")
    app.write(3)
    lives.turns()
    whole = app.path.read_bytes()
    app.append("half")
    more.path.write_bytes(whole if other else app.path.read_bytes())
    if other:
        more.write(2)
    (logs / "app.log.1.gz").write_bytes(gzip.compress(more.path.read_bytes()))
    more.path.unlink()
    lives._config = msgspec.structs.replace(lives._config, sources=(Source("app", (f"{logs}/*.log*",)),))
    lives.end()
    lives.start()
    for _ in range(4):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines) == [1 + other] * 3, "a short one that goes another way is a new one"
    assert names(lives, more.lines) == [1] * len(more.lines)
    app.append(" a line\n")
    lives.turn(12.0)
    lives.turns()
    assert names(lives, ["half a line", "half"]) == [1, 0]


@pytest.mark.parametrize("front", ["\0" * BODY_AT, "a line of the first\n" * 5], ids=["a hole", "less than a rung"])
def test_a_short_file_is_no_beginning_of_one_that_has_just_gone_because_their_first_lines_are_equal(
    lives: Lives, logs: Path, front: str
) -> None:
    """Nothing behind them was seen of the other that could tell the two apart."""
    app, other = App(logs / "app.log"), App(logs / "other.log", "b")
    app.append(front[:BODY_AT] + "time\n" if front[0] == "\0" else "time\n" + front)
    lives.turns()
    for _ in range(2):
        lives.turn(6.0)
        lives.turns()
    app.path.unlink()
    lives.turn(6.0)
    other.append("time\n")
    other.write(1, width=1)
    for _ in range(3):
        lives.turn(6.0)
        lives.turns()
    assert other.path.stat().st_size < 32
    assert names(lives, other.lines) == [1]


def test_what_was_cut_away_unread_is_told_when_only_the_last_look_finds_it(lives: Lives, logs: Path) -> None:
    app = App(logs / "app.log")
    app.append("\0" * (BODY_AT + 900))
    app.write(3)
    lives.turn(6.0)
    app.path.write_text("")
    app.write(1)
    lives.stop()
    assert lives.store.lost_bytes >= 3 * 61
    assert names(lives, app.lines[3:]) == [1]


def test_a_copy_of_what_is_there_is_not_what_has_gone_and_began_like_it(lives: Lives, logs: Path) -> None:
    """The first file was short, and the second one begins with all of it."""
    app = App(logs / "app.log")
    app.write(3)
    lives.turns()
    before = app.path.read_bytes()
    app.path.unlink()
    app.path.write_bytes(before)
    app.write(3)
    lives.turn(6.0)
    lives.turns()
    app.append("\0" * BODY_AT)
    lives.ship()
    lives.power_cut(0.0, zeros=False)
    (logs / "app.log.bak").write_bytes(app.path.read_bytes())
    lives.start()
    for _ in range(3):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines) == [2] * 3 + [1] * 3


def two_that_begin_alike(lives: Lives, logs: Path, *, read: bool) -> App:
    """Both are known at one path, and nobody has noticed yet that the first, of three lines, is gone for good. The second has
    these three as well; where it was not ``read`` to its end, one of them was. The agent is gone."""
    app = App(logs / "app.log")
    app.write(3)
    lives.turns()
    first, *more = app.path.read_bytes().splitlines(keepends=True)
    app.path.unlink()
    app.path.write_bytes(first)
    lives.turn(6.0)
    lives.turns()
    app.append(b"".join(more).decode())
    app.write(3)
    if read:
        lives.turn(6.0)
        lives.turns()
    lives.ship()
    lives.end()
    return app


@pytest.mark.parametrize("rotated", ["moved", "copied", "compressed", "being compressed"])
def test_a_rotated_file_is_of_the_one_that_was_read_furthest_of_those_it_begins_like(
    lives: Lives, logs: Path, rotated: str
) -> None:
    """Out of the patterns and while no agent runs."""
    app = two_that_begin_alike(lives, logs, read=True)
    data, gz = app.path.read_bytes(), zlib.compressobj(wbits=31)
    begun, rest = gz.compress(data[:250]) + gz.flush(zlib.Z_SYNC_FLUSH), gz.compress(data[250:]) + gz.flush()
    if rotated == "moved":
        app.path.rename(logs / "app.log.1")
    else:
        app.path.unlink()
        to = logs / ("app.log.1" if rotated == "copied" else "app.log.1.gz")
        to.write_bytes(data if rotated == "copied" else begun + rest if rotated == "compressed" else begun)
    lives.start()
    for _ in range(2):
        lives.turn(12.0)
        lives.turns()
    if rotated == "being compressed":
        with (logs / "app.log.1.gz").open("ab") as file:
            file.write(rest)
    for _ in range(2):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines) == [2] * 3 + [1] * 3
    assert not lives.store.losses


def test_a_rotated_file_is_of_the_one_that_was_in_its_inode_although_another_was_read_further(lives: Lives, logs: Path) -> None:
    app = two_that_begin_alike(lives, logs, read=False)
    app.path.rename(logs / "app.log.1")
    lives.start()
    for _ in range(2):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines) == [2] * 3 + [1] * 3
    assert not lives.store.losses


@pytest.mark.parametrize("lines", [3, 2 * BODY_AT // 60], ids=["short", "long"])
def test_a_copy_is_not_taken_for_what_was_moved_out_of_the_patterns_and_written_to_while_no_agent_ran(
    lives: Lives, logs: Path, lines: int
) -> None:
    app = App(logs / "app.log")
    app.write(lines)
    lives.turns()
    lives.ship()
    lives.end()
    (logs / "copy.log").write_bytes(app.path.read_bytes())
    app.path.rename(logs / "app.log.1")
    app.path = logs / "app.log.1"
    app.write(3)
    lives.start()
    for _ in range(3):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines[lines:]) == [1] * 3
    assert not lives.store.losses


def test_a_copy_that_was_written_to_does_not_wait_for_half_a_line_of_its_original(lives: Lives, logs: Path) -> None:
    """Until that has its end, which may be never, the copy is longer than what was read of it."""
    app = App(logs / "app.log")
    app.write(2 * BODY_AT // 60)
    lives.turns()
    copy = App(logs / "copy.log", "copy")
    copy.path.write_bytes(app.path.read_bytes())
    app.append("half a line")
    lives.turn(12.0)
    lives.turns()
    copy.write(3)
    for _ in range(2):
        lives.turn(12.0)
        lives.turns()
    assert names(lives, app.lines + copy.lines) == [1] * (len(app.lines) + 3)


@pytest.mark.parametrize("front", [0, 600], ids=["a first line", "a hole"])
def test_half_a_line_between_two_holes_holds_nothing_up(lives: Lives, logs: Path, front: int) -> None:
    """Each is waited for; having waited for the second is no reason to wait for the first again."""
    app = App(logs / "app.log")
    app.append("\0" * front + "a first line\n" * (not front) + "\0" * 700 + "half a line" + "\0" * 800)
    app.write(3)
    for seconds in (0.1, 6.0, 6.0, 6.0):
        lives.turn(seconds)
        lives.turns()
    assert names(lives, ["half a line", *app.lines]) == [1] * 4


@pytest.mark.parametrize("running", [True, False])
def test_what_was_cut_back_unread_is_told_wherever_the_agent_dies(tmp_path: Path, running: bool) -> None:
    """Its state is replaced by one that knows nothing of what was cut: the loss has to be in the spool before that."""
    for nth in itertools.count(1):
        logs = tmp_path / str(nth)
        logs.mkdir()
        app, other = App(logs / "app.log"), App(logs / "other.log", "other")
        app.write(200)
        lives = Lives(logs / "spool", (f"{logs}/*.log",), segment_bytes=600, max_open_files=50)
        with clock_of_the_agent(lives.clock), small_blocks(BODY_AT + 100):
            read = dies_behind_one_block(lives)
            lives.start()
            if running:
                lives.spool._max_bytes = 0
                lives.turns()
            os.truncate(app.path, BODY_AT + 1)
            other.write(3)
            lives.spool._max_bytes = 1 << 30
            lives.notices.paths |= {str(app.path), str(other.path)}
            with death(nth) as where:
                lives.turns()
            lives.end()
            lives.start()
            lives.turns()
            lives.ship()
            lives.end()
        assert lives.store.lost_bytes == 200 * 61 - read, f"died at {where}"
        if not where:
            return


def dies_behind_one_block(lives: Lives) -> int:
    """How much of the file was read; how long it is, is known."""
    lives.start()
    with death(1, "append.applied"):
        lives.turn()
    assert lives.reader is not None
    (read,) = (state.offset for state in lives.reader.catalog.states.values() if state.offset)
    lives.end()
    return read


def test_what_only_a_tag_tells_apart_is_synced_before_it_can_be_shipped(lives: Lives, logs: Path) -> None:
    for name in ("a", "b"):
        App(logs / f"{name}.log", "equal").write(3)
    lives.turns()
    lives.turn(12.0)
    assert len(lives.reader.catalog.states) == 2  # type: ignore[union-attr]
    assert lives.spool.unsynced_bytes == 0


@pytest.mark.parametrize("end", ["sync", "power"])
def test_whose_name_is_whose_is_on_disk_before_the_first_lines_of_a_file_are_shipped(
    lives: Lives, logs: Path, end: str
) -> None:
    """What is shipped of the first of several files that begin alike has a name that only the state gives it again."""
    app = App(logs / "m.log", "equal")
    app.append("time level message\n")
    app.write(3)
    lives.turns()
    run = lives.spool.next_run(max_bytes=1 << 20, max_raw_bytes=1 << 20)
    assert run is None, "nothing says on disk that this file has the first of the names"
    assert lives.spool.waits_for_sync
    assert lives.spool.sync_wanted.is_set()
    assert not lives.spool.drained
    other = App(logs / "a.log", "other")
    if end == "sync":
        lives.disk.failing_syncs = 1
        other.append("time level message\n")
        other.write(3)
        lives.ship()
    else:
        lives.power_cut(0.0, zeros=False)
        other.append("time level message\n")
        other.write(3)
        lives.start()
    for seconds in (0.1, 12.0, 12.0):
        lives.turn(seconds)
        lives.turns()
        lives.ship()
    assert names(lives, app.lines + other.lines) == [1] * 6


def test_a_file_that_goes_on_waits_for_no_sync(lives: Lives, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(3)
    lives.turns()
    lives.ship()
    app.write(3)
    lives.turn(6.0)
    assert lives.spool.unsynced_bytes
    run = lives.spool.next_run(max_bytes=1 << 20, max_raw_bytes=1 << 20)
    assert run is not None
    assert lives.spool.unsynced_bytes


def test_what_a_killed_agent_left_in_the_page_cache_is_synced_by_the_next_start(lives: Lives, logs: Path) -> None:
    App(logs / "app.log").write(3)
    lives.turns()
    lives.end()
    lives.start()
    lives.end()
    assert [lives.disk.synced[path.stat().st_ino] for path in segments(lives.folder)] == [
        path.stat().st_size for path in segments(lives.folder)
    ]
