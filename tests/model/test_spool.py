"""The spool against a short model: random appends, reads, acks, crashes, torn tails and flipped bits on both.

The model knows which bytes of which file each record stands for, and which are acknowledged. After every step, whatever
happened before it:

- every byte below a file's offset is acknowledged, or lies in an undamaged record that is still to be shipped: nothing lost;
- in one life of the agent no record is shipped twice, all come in order, and what an earlier life may have sent says so;
- without damage no file's offset goes back behind what is on disk: nothing is read again without need.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.errors import StorageFailed, StorageFull
from agent.spool.segment import Position
from agent.spool.spool import Entry, Run
from tests.support.disk import FakeDisk
from tests.support.spooled import Written, abandon, open_spool, segments

ORIGINS = st.sampled_from("abc")
FRACTION = st.floats(0, 1)


class Known(NamedTuple):
    """A record of the model: what it stands for, and where its bytes lie."""

    origin: str
    start: int
    end: int
    path: Path
    at: int
    data: bytes

    def lies_there(self) -> bool:
        return self.path.exists() and self.path.read_bytes()[self.at : self.at + len(self.data)] == self.data


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name) / "spool"
        self.disk = FakeDisk()
        self.records: dict[str, Known] = {}
        self.freed_to: dict[str, int] = {}
        self.acked: set[str] = set()
        self.acked_bytes: dict[str, set[int]] = {}
        self.damaged = False
        self.flipped: set[tuple[Path, int, int]] = set()
        self.boot()

    def teardown(self) -> None:
        self.spool.close()
        self._temporary.cleanup()

    def boot(self) -> None:
        self.spool = open_spool(self.folder, self.disk)
        self.of_earlier_lives = set(self.records)
        self.written = Written(self.spool)
        self.taken: list[str] = []
        self.runs: list[Run] = []
        self.records = {name: known for name, known in self.records.items() if known.lies_there()}
        self.last = Position(0, 0)

    # What an agent does ------------------------------------------------------------------------------------------------

    @rule(origin=ORIGINS, length=st.integers(1, 20), times=st.integers(1, 4))
    def append(self, origin: str, length: int, times: int) -> None:
        for _ in range(times):
            start = self.written.offset(origin)
            name = self.written.append(origin, length)
            self.remember(name, origin, start, start + length)

    def remember(self, name: str, origin: str, start: int, end: int) -> None:
        path = segments(self.folder)[-1]
        data = path.read_bytes()
        at = data.rindex(b"PSR\x01")
        self.records[name] = Known(origin, start, end, path, at, data[at:])

    @rule(max_bytes=st.sampled_from([1, 400, 1 << 20]))
    def take(self, max_bytes: int) -> None:
        self.next_run(max_bytes)

    def next_run(self, max_bytes: int) -> Run | None:
        run = self.spool.next_run(max_bytes=max_bytes, max_raw_bytes=1 << 20)
        if run is not None:
            self.runs.append(run)
            for entry in run.entries:
                self.check(entry, replay=run.replay)
        return run

    def check(self, entry: Entry, *, replay: bool) -> None:
        name = entry.header.record_id
        assert name not in self.taken, "shipped twice in one life"
        assert entry.data == self.records[name].data
        assert entry.position > self.last, "out of order"
        assert replay == (name in self.of_earlier_lives)
        self.taken.append(name)
        self.last = entry.position

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        if self.runs:
            self.finish(self.runs.pop(data.draw(st.integers(0, len(self.runs) - 1))).entries)

    def finish(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            name, header = entry.header.record_id, entry.header
            self.acked.add(name)
            self.acked_bytes.setdefault(header.origin, set()).update(range(header.source_from, header.source_to))
        before = segments(self.folder)
        self.spool.ack(entries)
        for path in set(before) - set(segments(self.folder)):
            for name in [name for name, known in self.records.items() if known.path == path]:
                assert name in self.acked, "freed before it was acknowledged"
                known = self.records.pop(name)
                self.freed_to[known.origin] = max(known.end, self.freed_to.get(known.origin, 0))

    @rule()
    def note_acks(self) -> None:
        self.spool.note_acks("tenant")

    @rule()
    def sync(self) -> None:
        self.spool.sync()

    @rule()
    def ship_everything(self) -> None:
        while self.next_run(400) is not None:
            pass
        unacked = self.records.keys() - self.acked
        assert unacked <= set(self.taken), "not shipped"
        while self.runs:
            self.finish(self.runs.pop(0).entries)
        assert self.spool.drained
        self.finish(())
        assert len(segments(self.folder)) == 1, "space that is not freed"

    # What happens to it ------------------------------------------------------------------------------------------------

    @rule()
    def stop_and_start(self) -> None:
        self.spool.note_acks("tenant")
        self.spool.close()
        self.boot()

    @rule(kept=FRACTION, zeros=st.booleans())
    def power_cut(self, kept: float, zeros: bool) -> None:
        """Of what was not synced any part may be there, or be as long as it was and hold zeros."""
        abandon(self.spool)
        path = segments(self.folder)[-1]
        whole = path.read_bytes()
        synced = self.disk.synced[path.stat().st_ino]
        keep = synced + round(kept * (len(whole) - synced))
        path.write_bytes(whole[:keep] + bytes(len(whole) - keep if zeros else 0))
        self.boot()

    @rule()
    def a_sync_fails(self) -> None:
        self.disk.failing_syncs = 1
        size = segments(self.folder)[-1].stat().st_size
        if size == self.disk.synced[segments(self.folder)[-1].stat().st_ino]:
            self.spool.sync()
            self.disk.failing_syncs = 0
            return
        with pytest.raises(StorageFailed):
            self.spool.sync()
        abandon(self.spool)
        self.boot()

    @rule(origin=ORIGINS, room_bytes=st.integers(0, 900))
    def the_disk_is_full_for_a_while(self, origin: str, room_bytes: int) -> None:
        start = self.written.offset(origin)
        self.disk.room_bytes = room_bytes
        try:
            name = self.written.append(origin)
        except StorageFull:
            assert self.written.offset(origin) == start
        else:
            self.remember(name, origin, start, start + 10)
        finally:
            self.disk.room_bytes = None

    @rule(which=FRACTION, where=FRACTION, bit=st.integers(0, 7))
    def a_bit_flips(self, which: float, where: float, bit: int) -> None:
        self.spool.close()
        paths = [path for path in segments(self.folder) if path.stat().st_size]
        path = paths[round(which * (len(paths) - 1))]
        data = bytearray(path.read_bytes())
        at = round(where * (len(data) - 1))
        if (path, at, bit) not in self.flipped:  # twice would undo it, and no disk does that
            data[at] ^= 1 << bit
        self.flipped.add((path, at, bit))
        path.write_bytes(data)
        self.damaged = True
        self.boot()

    # What must hold ----------------------------------------------------------------------------------------------------

    @invariant()
    def every_byte_below_an_offset_is_safe(self) -> None:
        for origin, state in self.written.states.items():
            safe = set(self.acked_bytes.get(origin, ()))
            for known in self.records.values():
                if known.origin == origin:
                    safe.update(range(known.start, known.end))
            assert set(range(state.offset)) <= safe, f"bytes of {origin} that nobody has"

    @invariant()
    def no_offset_goes_back_without_damage(self) -> None:
        reached = dict(self.freed_to)
        for known in self.records.values():
            reached[known.origin] = max(known.end, reached.get(known.origin, 0))
        for origin, end in reached.items():
            assert self.written.offset(origin) == end or self.damaged


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
