"""What cannot be kept is told: once, with its reason, also over kills and on a full disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.errors import StorageFailed
from agent.files.identity import BODY_AT
from agent.reading import walk
from agent.spool.segment import scan
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.archives import packed
from tests.support.damage import losses_in
from tests.support.disk import FakeDisk
from tests.support.lives import Lives, clock_of_the_agent, death, small_blocks
from tests.support.reading import Reading
from tests.support.sink import SinkProcess
from tests.support.spooled import segments
from tests.support.wait import until


def test_source_deleted_between_append_and_fsync(folder: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted file is let go of only when all that was read of it is synced."""
    monkeypatch.setattr(walk, "DELETED_IDLE_S", 0.0)
    app, disk = App(logs / "app.log"), FakeDisk()
    let_go: list[bool] = []
    with Reading(folder, logs, disk, segment_bytes=1 << 20) as reading:
        finish = reading.reader.catalog.finish

        def watched(*arguments: object) -> None:
            segment = segments(folder)[-1].stat()
            let_go.append(disk.synced[segment.st_ino] == segment.st_size)
            finish(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(reading.reader.catalog, "finish", watched)
        app.write(20)
        reading.has_read(20)
        app.path.unlink()
        until(lambda: let_go, "it is let go")
    assert let_go == [True]


def test_a_source_deleted_before_an_fsync_that_fails_is_a_loss_and_not_silent(folder: Path, logs: Path) -> None:
    app, disk = App(logs / "app.log"), FakeDisk()
    with Reading(folder, logs, disk) as reading:
        app.write(20)
        reading.has_read(20)
        app.append("never finished")
        until(lambda: reading.reader.unread_bytes() == 14, "the size is known")
        reading.spool.note_files()
        reading.spool.sync()
        app.append("\n")
        reading.has_read(21)
        disk.failing_syncs = 1
        with pytest.raises(StorageFailed):
            reading.spool.sync()
        app.path.unlink()
    with Reading(folder, logs) as reading:
        reading.has_told()
    (loss,) = losses_in(folder)
    assert (loss.reason, loss.lost_bytes, loss.at_least) == ("deleted_before_read", 14, True)


def lose_14_bytes(folder: Path, logs: Path) -> App:
    """A file that is gone with 14 bytes unread, which the spool knows and has not told."""
    app = App(logs / "app.log")
    with Reading(folder, logs) as reading:
        app.write(20)
        reading.has_read(20)
        app.append("never finished")
        until(lambda: reading.reader.unread_bytes() == 14, "the size is known")
        reading.spool.note_files()
    app.path.unlink()
    return app


def test_kill_between_loss_and_offset(folder: Path, logs: Path) -> None:
    """A loss may be told again after a kill, under the same ID: it is counted once."""
    lose_14_bytes(folder, logs)
    for _ in range(2):
        with Reading(folder, logs) as reading:
            reading.has_told()
    losses = losses_in(folder)
    assert len(losses) == 2
    assert len({loss.loss_id for loss in losses}) == 1


def test_a_segment_that_begins_before_a_loss_is_told_does_not_call_its_file_done(folder: Path, logs: Path) -> None:
    """The loss itself may need a new segment: killed between its head and the loss, the next start has to tell it."""
    lose_14_bytes(folder, logs)
    disk = FakeDisk()
    with Reading(folder, logs, disk, segment_bytes=1) as reading:
        until(lambda: losses_in(folder), "the loss is told")
    last = segments(folder)[-1]
    (loss,) = [item for item in scan(last.read_bytes()) if isinstance(item, wire.Record) and item.header.kind == wire.LOSS]
    os.truncate(last, loss.start)
    with Reading(folder, logs) as reading:
        until(lambda: reading.reader.walk.next_s, "it has looked")
    assert [found.lost_bytes for found in losses_in(folder)] == [14]


def test_a_loss_that_the_next_head_knows_of_is_not_told_again(folder: Path, logs: Path) -> None:
    lose_14_bytes(folder, logs)
    with Reading(folder, logs) as reading:
        until(lambda: losses_in(folder), "the loss is told")
        reading.spool.note_files()
    app = App(logs / "other.log")
    with Reading(folder, logs) as reading:
        app.write(1)
        reading.has_read(1)
    assert len(losses_in(folder)) == 1


@pytest.mark.parametrize("walks", ["cheap", "dear"])
def test_a_loss_on_a_full_disk_is_told_when_there_is_room(
    folder: Path, logs: Path, walks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where walks are so dear that the next one, of idle files, would be due in days."""
    if walks == "dear":
        monkeypatch.setattr(walk, "DEAR_WALK_S", 0.0)
        monkeypatch.setattr(walk, "IDLE_COST_FACTOR", 1e9)
    lose_14_bytes(folder, logs)
    disk = FakeDisk()
    disk.room_bytes = 0
    with Reading(folder, logs, disk) as reading:
        until(lambda: reading.error or reading.counts("lost_bytes"), "the loss is found")
        assert reading.error is None
        refused = disk.refused
        until(lambda: disk.refused > refused + 3, "telling is tried again and again")
        disk.room_bytes = None
        until(lambda: losses_in(folder), "the loss is told")
        assert reading.error is None
        assert reading.counts("lost_bytes") == 14
    assert len(losses_in(folder)) == 1


# A copy that was made before the original was cut away ----------------------------------------------------------------

COPIES = {
    "matched, looked at before the truncation": ("app.log*", "app.log.1", "", "looks"),
    "matched": ("app.log*", "app.log-20261125", "", "up"),
    "matched, while the agent is down": ("app*", "app-20261125.log", "", "down"),
    "not matched": ("app.log", "app.log.1", "", "up"),
    "not matched, while the agent is down": ("app.log", "app-20261125.log", "", "down"),
    "compressed": ("app.log*", "app.log.1", "gz", "up"),
    "compressed, not matched, while the agent is down": ("app.log", "app.log.1", "gz", "down"),
}


@pytest.mark.parametrize(("include", "copy", "form", "agent_is"), COPIES.values(), ids=COPIES)
def test_what_a_copy_still_holds_is_not_lost(
    agent: AgentProcess, sink: SinkProcess, logs: Path, include: str, copy: str, form: str, agent_is: str
) -> None:
    """Half a line was seen and not read when the file was cut away; it goes out, from the copy, when the agent ends."""
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/{include}"]}], shutdown_partial=False)
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    app.append("never finished")
    until(lambda: agent.status()["unread_bytes"] == 14, "the unread bytes are known")
    if agent_is == "down":
        assert agent.stop() == 0
    (logs / copy).write_bytes(app.path.read_bytes())
    if agent_is == "looks":
        until(lambda: len(agent.status()["files"]) == 2, "the copy is seen")
    os.truncate(app.path, 0)
    if form:
        packed(logs / copy, form)
    app.write(30)
    agent.configure(shutdown_partial=True)
    if agent_is == "down":
        agent.start()
    arrived(sink, app.lines, told=agent)
    if agent_is != "down":
        agent.kill()
        agent.start()
    until(lambda: agent.status()["unread_bytes"] == 14, "the rest is found in the copy", told=agent.log)
    assert agent.stop() == 0
    exactly_once(sink.seen(), [*app.lines, "never finished"])
    assert sink.seen().losses == []


def test_what_was_written_behind_the_copy_is_lost_to_the_byte(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    size = app.path.stat().st_size
    (logs / "app.log.1").write_bytes(app.path.read_bytes())
    app.append("never finished")
    until(lambda: agent.status()["unread_bytes"] == 14, "the unread bytes are known")
    os.truncate(app.path, 0)
    app.write(3)
    arrived(sink, app.lines, told=agent)
    (loss,) = until(lambda: sink.seen().losses, "the loss is told", told=agent.log)
    assert (loss["reason"], loss["offset"], loss["lost_bytes"], loss["at_least"]) == ("cut_before_read", size, 14, False)


def test_half_a_line_that_was_sent_at_the_end_is_not_lost_with_the_file(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with a_life(tmp_path, f"{logs}/app.log") as lives:
        app.write(100)
        lives.start()
        lives.turns()
        (logs / "app.log.1").write_bytes(app.path.read_bytes())
        app.append("never finished")
        lives.stop()
        os.truncate(app.path, 0)
        app.write(3)
        lives.start()
        lives.finish(6.0, 6.0)
    all_once_and_none_lost(lives, [*app.lines, "never finished"])


@contextmanager
def a_life(tmp_path: Path, include: str) -> Iterator[Lives]:
    """An agent for these files, not started, with a clock that only the test moves."""
    made = Lives(tmp_path / "spool", (include,), segment_bytes=3000, max_open_files=50)
    with clock_of_the_agent(made.clock):
        yield made


def all_once_and_none_lost(lives: Lives, lines: list[str]) -> None:
    assert {line: len(lives.store.lines[line.encode()]) for line in lines} == dict.fromkeys(lines, 1)
    assert lives.store.losses == {}


STEPS = 5
"""Between which the agent may look or not: lines that it has no room for, copy, more lines, truncation, other lines."""


@pytest.mark.parametrize("looks", [set(chosen) for n in range(STEPS + 1) for chosen in itertools.combinations(range(STEPS), n)])
@pytest.mark.parametrize(("include", "copy"), [("app.log", "app.log.1"), ("app*", "app-20261125.log")])
@pytest.mark.parametrize("lines", [5, 100], ids=["below 4096 bytes", "beyond"])
def test_no_byte_is_both_lost_and_shipped_wherever_the_agent_looks(
    tmp_path: Path, logs: Path, looks: set[int], include: str, copy: str, lines: int
) -> None:
    app = App(logs / "app.log")
    steps: Iterable[Callable[[], object]] = (
        lambda: app.write(50),
        lambda: (logs / copy).write_bytes(app.path.read_bytes()),
        lambda: app.write(2),
        lambda: os.truncate(app.path, 0),
        lambda: app.write(20),
    )
    with a_life(tmp_path, f"{logs}/{include}") as lives:
        app.write(lines)
        lives.start()
        lives.turns()
        lives.spool._max_bytes = 0
        for number, step in enumerate(steps):
            step()
            if number in looks:
                lives.notices.paths |= set(map(str, logs.iterdir()))
                lives.turn()
                lives.turn()
        lives.spool._max_bytes = 1 << 30
        lives.finish(6.0, 6.0, 6.0)
    missing = [line for line in app.lines if line.encode() not in lives.store.lines]
    assert set(missing) <= set(app.lines[lines + 50 : lines + 52]), "what is in the copy is shipped"
    lost = sum(len(line) + 1 for line in missing)
    assert lives.store.lost_bytes == lost or (lives.store.lost_bytes == 0 and 2 not in looks), "what was seen is told"


def test_a_copy_that_is_seen_before_its_original_was_looked_at_again_is_known_for_one(tmp_path: Path, logs: Path) -> None:
    """Cut away and written anew between two looks, and copied again: what the copy holds is not lost with the original."""
    app = App(logs / "app.log")
    with a_life(tmp_path, f"{logs}/app.log*") as lives:
        app.write(100)
        lives.start()
        lives.turns()
        app.copytruncate(logs / "app.log-1")
        app.write(30)
        (logs / "app.log-2").write_bytes(app.path.read_bytes())
        lives.spool._max_bytes = 0
        lives.turn(6.0)
        lives.turn()
        os.truncate(app.path, 0)
        lives.spool._max_bytes = 1 << 30
        lives.finish(6.0, 6.0, 6.0)
    all_once_and_none_lost(lives, app.lines)


def test_a_copy_of_what_was_never_read_is_known_for_one_when_the_original_is_written_anew(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with a_life(tmp_path, f"{logs}/app*") as lives:
        lives.start()
        lives.spool._max_bytes = 0
        app.write(50)
        lives.turn(6.0)
        (logs / "app-1.log").write_bytes(app.path.read_bytes())
        lives.turn(6.0)
        os.truncate(app.path, 0)
        app.write(50)
        lives.notices.paths.add(str(logs / "app-1.log"))
        lives.turn(0.1)
        lives.turn(0.1)
        lives.spool._max_bytes = 1 << 30
        lives.finish(6.0, 6.0, 6.0)
    all_once_and_none_lost(lives, app.lines)


def test_a_rotation_that_moves_on_while_a_content_is_looked_for_does_not_hide_it(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(logs / "app.log")
    with a_life(tmp_path, f"{logs}/app.log") as lives:
        app.write(100)
        lives.start()
        lives.turns()
        app.append("never finished")
        lives.notices.paths.add(str(app.path))
        lives.turns()
        app.copytruncate(logs / "app.log.1")
        assert lives.reader is not None
        contents = lives.reader.catalog._contents
        siblings = contents.siblings

        def moved_on(path: str, source: str) -> list[str]:
            found = siblings(path, source)
            if (logs / "app.log.1").exists():
                (logs / "app.log.1").rename(logs / "app.log.2")
            return found

        monkeypatch.setattr(contents, "siblings", moved_on)
        lives.finish(6.0, 6.0, 70.0)
    assert lives.store.losses == {}
    assert b"never finished" in lives.store.lines


# What comes back ---------------------------------------------------------------------------------------------------------


def lost_with_its_folder(lives: Lives, logs: Path, *, lines: int) -> tuple[App, Path]:
    """A volume that is not there when the agent starts, with a file that was not read to its end. The loss is told."""
    app = App(logs / "volume" / "app.log")
    app.write(100)
    lives.start()
    lives.turns()
    lives.spool._max_bytes = 0
    app.write(lines)
    lives.notices.paths.add(str(app.path))
    lives.turn()
    lives.turn()
    lives.stop()
    away = logs / "away"
    app.path.parent.rename(away)
    for _ in range(2):
        lives.start()
        lives.turn(6.0)
        lives.ship()
        assert lives.store.lost_bytes == lines * 61
        lives.end()
    lives.start()
    return app, away


def test_what_comes_back_with_its_volume_is_taken_back_from_the_ledger(tmp_path: Path, logs: Path) -> None:
    with a_life(tmp_path, f"{logs}/volume/app.log") as lives:
        app, away = lost_with_its_folder(lives, logs, lines=10)
        away.rename(app.path.parent)
        lives.turn(6.0)
        lives.turns()
        assert lives.reader is not None
        assert lives.reader._ledger.counts()["recovered_bytes"] == 610
        lives.finish(6.0)
    assert {line: len(lives.store.lines[line.encode()]) for line in app.lines} == dict.fromkeys(app.lines, 1)
    (loss,) = lives.store.losses.values()
    assert (loss.reason, loss.lost_bytes, loss.takes_back) == ("deleted_before_read", 0, True)


@pytest.mark.parametrize("point", ["append.after", "append.applied", "loss.back"])
def test_a_kill_on_the_way_back_leaves_the_ledger_right(tmp_path: Path, logs: Path, point: str) -> None:
    with a_life(tmp_path, f"{logs}/volume/app.log") as lives:
        app, away = lost_with_its_folder(lives, logs, lines=10)
        away.rename(app.path.parent)
        with death(1, point) as died:
            lives.turn(6.0)
            lives.turns()
        assert died
        lives.end()
        lives.start()
        lives.finish(6.0, 6.0)
        for _ in range(2):
            lives.start()
            lives.finish(6.0)
    assert {line: len(lives.store.lines[line.encode()]) for line in app.lines} == dict.fromkeys(app.lines, 1)
    assert lives.store.lost_bytes == 0


def test_what_comes_back_and_is_lost_again_half_read_is_lost_once(tmp_path: Path, logs: Path) -> None:
    with a_life(tmp_path, f"{logs}/volume/app.log") as lives, small_blocks(BODY_AT + 100):
        app, away = lost_with_its_folder(lives, logs, lines=200)
        away.rename(app.path.parent)
        assert lives.reader is not None
        append = lives.spool.append

        def one(*arguments: Any, **named: Any) -> None:
            append(*arguments, **named)
            lives.spool._max_bytes = 0

        lives.spool.append = one  # type: ignore[method-assign]
        lives.turn(6.0)
        lives.turn()
        lives.spool.append = append  # type: ignore[method-assign]
        lives.end()
        app.path.unlink()
        lives.start()
        lives.finish(6.0, 6.0)
    missing = [line for line in app.lines if line.encode() not in lives.store.lines]
    assert 0 < len(missing) < 200
    assert lives.store.lost_bytes == 61 * len(missing)
    assert len(lives.store.losses) == 2


def test_what_comes_back_before_its_loss_could_be_told_is_not_done_with(tmp_path: Path, logs: Path) -> None:
    """A file that goes on is not called done when the loss, found while the disk was full, is told at last."""
    app = App(logs / "volume" / "app.log")
    with a_life(tmp_path, f"{logs}/volume/app.log") as lives:
        app.write(100)
        lives.start()
        lives.turns()
        app.append("half ")
        lives.notices.paths.add(str(app.path))
        lives.turns()
        lives.spool.note_files()
        lives.end()
        away = logs / "away"
        app.path.parent.rename(away)
        lives.start()
        lives.disk.room_bytes = 0
        lives.turn(6.0)
        away.rename(app.path.parent)
        lives.turn(6.0)
        lives.disk.room_bytes = None
        lives.turn(6.0)
        app.append("never fin")
        lives.notices.paths.add(str(app.path))
        lives.turns()
        lives.spool.note_files()
        lives.end()
        app.path.unlink()
        lives.start()
        lives.finish(6.0, 6.0)
    assert lives.store.lost_bytes == 14


@pytest.mark.parametrize("cut", ["while it looks", "while it is down"])
def test_what_a_short_copy_holds_that_counts_as_a_file_of_its_own_is_not_lost(tmp_path: Path, logs: Path, cut: str) -> None:
    app = App(logs / "app.log")
    with a_life(tmp_path, f"{logs}/app*") as lives:
        app.write(20)
        lives.start()
        lives.turns()
        app.append("never finished")
        (logs / "app.copy").write_bytes(app.path.read_bytes())
        for seconds in (6.0, 6.0, 6.0):
            lives.turn(seconds)
        app.append(" and more")
        lives.turn(6.0)
        app.append(", and more")
        lives.notices.paths.add(str(app.path))
        lives.turn(0.1)
        lives.turn(0.1)
        if cut != "while it looks":
            lives.spool.note_files()
            lives.end()
        os.truncate(app.path, 0)
        app.write(3)
        if cut != "while it looks":
            lives.start()
        lives.finish(6.0, 70.0, 70.0)
    (loss,) = lives.store.losses.values()
    assert loss.lost_bytes == len(" and more, and more"), "the copy was made before that"


@pytest.mark.parametrize("before", ["nothing was copied", "it was copied"])
def test_what_was_replaced_before_its_copy_was_seen_is_lost_all_the_same(tmp_path: Path, logs: Path, before: str) -> None:
    """The copy is one of what is there now, and says nothing of what was there."""
    app, copy = App(logs / "app.log"), logs / "app.copy"
    with a_life(tmp_path, f"{logs}/app*") as lives:
        app.write(20)
        lives.start()
        lives.turns()
        app.append("never finished")
        lives.notices.paths.add(str(app.path))
        lives.turn()
        lives.turn()
        if before == "it was copied":
            copy.write_bytes(b"".join(app.path.read_bytes().splitlines(keepends=True)[:20]))
            lives.turn(6.0)  # it is seen, and not yet known for what it is
        text = f"{app.lines[0]}\n" + "other " * 300 + "\n"
        app.path.write_text(text)
        copy.write_text(text)
        lives.finish(*[6.0] * 6)
    assert lives.store.lost_bytes == 14


def test_what_only_begins_like_a_file_holds_nothing_of_it(tmp_path: Path, logs: Path) -> None:
    """Two files with the same banner, of which one was read no further when it is cut away."""
    app, other = App(logs / "app.log"), App(logs / "app.other", "other")
    with a_life(tmp_path, f"{logs}/app*") as lives:
        app.append("banner\n" + "never finished" * 200)
        lives.start()
        lives.turns()
        other.append("banner\n")
        other.write(20)
        for seconds in (6.0, 6.0, 6.0):
            lives.turn(seconds)
        os.truncate(app.path, 0)
        lives.finish(*[6.0] * 3)
    assert set(other.lines) < {text.decode() for text in lives.store.lines}
    assert lives.store.lost_bytes == 14 * 200
