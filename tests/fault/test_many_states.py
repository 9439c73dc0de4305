"""Ten thousand files in one state: it starts, appends and rolls as with ten."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec
import pytest

from agent.files import identity
from agent.files.identity import BODY_AT, RECENT_MARKS, RUNG_BYTES, FileState
from agent.spool.segment import IDLE_MARKS, SpoolHead, head_records, slim
from tests.support.agent import App
from tests.support.disk import FakeDisk
from tests.support.reading import Reading
from tests.support.spooled import Written, abandon, open_spool, segments

FILES = 10_000
MIB = 1 << 20


def worst(number: int) -> FileState:
    """A state with all the marks that one can have."""
    head_id, body_id = (identity.file_id("scope", "app", b"%d" % n, 0) for n in (number, -number))
    return FileState(
        origin=f"{number:016x}", source="app", path=f"/var/log/app/{number}.log", born_path=f"/var/log/app/{number}.log",
        inode=number, generation=number, size=MIB, offset=MIB, head=f"{zlib.crc32(b'%d' % number):016x}", tag=0,
        head_id=head_id, body_id=body_id,
        marks={BODY_AT << n: zlib.crc32(b"%d %d" % (number, n)) for n in range(9)},
        recent=[(MIB - RECENT_MARKS + n, zlib.crc32(b"%d/%d" % (number, n))) for n in range(RECENT_MARKS)],
        ladder=os.urandom(BODY_AT // RUNG_BYTES * 4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def states() -> list[FileState]:
    return [worst(number) for number in range(FILES)]


def known(folder: Path, states: list[FileState], disk: FakeDisk, **sizes: int) -> Written:
    """A spool that begins with these states."""
    written = Written.__new__(Written)
    written.spool = open_spool(folder, disk, **sizes)
    written.states = {**written.spool.recovery.states, **{state.origin: state for state in states}}
    written.spool.start(lambda: SpoolHead("scope", "tenant", list(written.states.values()), {}))
    return written


def test_segments_roll_by_what_lies_behind_their_heads(folder: Path, states: list[FileState]) -> None:
    disk = FakeDisk()
    written = known(folder, states, disk, segment_bytes=MIB, max_bytes=4 * MIB)
    head = segments(folder)[0].stat().st_size
    assert head > MIB, "or this test shows nothing"
    for _ in range(100):
        assert written.spool.room(2000)
        written.append("new", payload=b"x" * 1000)
    assert disk.done == ["create 00000001.seg", "sync", "sync_folder", "create reserve"]
    abandon(written.spool)
    disk.done.clear()
    again = known(folder, [], disk, segment_bytes=MIB, max_bytes=4 * MIB)
    assert len(again.spool.recovery.states) == FILES + 1
    for _ in range(100):
        again.append("new", payload=b"x" * 1000)
    assert disk.done == ["sync"]
    abandon(again.spool)


def test_a_spool_whose_head_alone_is_beyond_its_bounds_is_freed_by_acks(folder: Path, states: list[FileState]) -> None:
    written = known(folder, states, FakeDisk(), segment_bytes=100_000, max_bytes=4 * MIB)
    for _ in range(5):
        while written.spool.room(20_000):
            written.append("new", payload=os.urandom(10_000))
        while run := written.spool.next_run(max_bytes=MIB, max_raw_bytes=MIB):
            written.spool.ack(run.entries)
        assert written.spool.room(20_000)
    abandon(written.spool)


def test_a_file_at_rest_takes_little_of_a_head(states: list[FileState]) -> None:
    at_rest = [msgspec.structs.replace(state, recent=list(state.recent)) for state in states[:1000]]
    for state in at_rest:
        slim(state)
        assert len(state.recent) == IDLE_MARKS
        assert state.recent[-1][0] == MIB - 1
    size = sum(len(record) for record in head_records(SpoolHead("scope", "tenant", at_rest, {})))
    assert size < 800 * len(at_rest)


def test_only_open_files_keep_all_their_record_ends(folder: Path, logs: Path) -> None:
    apps = [App(logs / f"{number}.log", f"file {number}") for number in range(20)]
    with Reading(folder, logs, max_open_files=8) as reading:
        for turn in range(1, 2 + IDLE_MARKS * 2):
            for app in apps:
                app.write(1)
            reading.has_read(turn * len(apps))
        states = {state.path: state for state in reading.reader.head().states}
        closed = {tail.name for tail in reading.reader.catalog.tails.values() if not tail.is_open}
        assert closed
        for path, state in states.items():
            assert path not in closed or len(state.recent) <= IDLE_MARKS
    assert max(len(state.recent) for state in states.values()) <= RECENT_MARKS
