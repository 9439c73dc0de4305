"""The disk queue that is the checkpoint.

Promises:
- Appending a record is the one step that moves a file's offset. There is no other file of offsets, so none can run ahead.
- A record is read for shipping as soon as it is appended; what a power cut takes from the spool it takes from the offset,
  too, and the lines are read again with the same IDs. Records that reading again might not reproduce are on disk before
  they are shipped.
- Each segment begins with the state of every file, so deleting a fully acked segment writes nothing: a full disk can free
  itself. What was not proven to be on disk never counts (`agent.spool.journal`).
- Nobody deletes files by hand: any damage is skipped, named and read again (`agent.spool.opening`, `agent.spool.segment`).

Order: append (write) -> sync, at most `fsync_interval_s` later -> sealed when full (sync, new file, sync folder) -> acked ->
deleted. One thread appends (the reader), one syncs, the shipping loop takes runs and acks them; a lock guards the counts.

Known limit: `max_bytes` bounds what the spool holds, but for the states of files in the last segment (less than a kilobyte
each), which are written also when there is no room for data; a segment is freed only when all of it is acked.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent import crash, wire
from agent.codec import compress
from agent.errors import StateAway, StateRefused, StorageFailed, StorageFull
from agent.spool.disk import Disk
from agent.spool.dropping import RecordOf, drop
from agent.spool.journal import Fsync, Journal
from agent.spool.opening import open_folder
from agent.spool.segment import Acked, Position, SpoolHead, acked_record, head_records

log = logging.getLogger("agent.spool")

MAX_RUN_RECORDS = 256
WAITING_BYTES = 4 << 20
"""What may wait for acks while the disk is nearly full: a little, so that what the disk is full of can still be shipped."""


class Entry(NamedTuple):
    """One shipped record: where it lies and what the answer must name."""

    position: Position
    header: wire.Header
    data: bytes


class Run(NamedTuple):
    """The records of one request. ``replay``: they may have been received before."""

    entries: tuple[Entry, ...]
    replay: bool


class Spool:
    """The queue in one folder. Opening it reads it: `recovery` is what its records prove."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        max_bytes: int,
        fsync: Fsync = "interval",
        min_free_bytes: int = 0,
        disk: Disk | None = None,
        read_only: bool = False,
    ) -> None:
        """Open the queue.

        Args:
            segment_bytes: a segment is sealed when it has grown by so much.
            min_free_bytes: with less free space on its disk it takes no more than `WAITING_BYTES` that are not acked.
            fsync: ``interval``: somebody calls `sync`; ``always``: each record is synced before it counts; ``never``: the
                kernel writes when it likes, and `sync` does nothing.
            read_only: only look at it, also while an agent works on it.

        Raises:
            StateRefused: the folder holds records of a newer agent; with the remedy.
            StateAway: the folder cannot be read or written.
        """
        self.folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self.disk = disk or Disk()
        self._useless: set[int] = set()
        self._outstanding: dict[Position, None] = {}
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = open_folder(folder, quiet=read_only)
            self.journal = Journal(folder, found, segment_bytes=segment_bytes, fsync=fsync, disk=self.disk, read_only=read_only)
        except wire.UnknownVersion as error:
            raise StateRefused(
                f"{folder}: {error}; a newer agent wrote it: start that one, or give this one another state_dir"
            ) from None
        except OSError as error:
            raise StateAway(f"{folder}: {error.strerror}; the agent must be able to read and write it") from error
        self.recovery = found.recovery
        self.fresh = not found.sizes
        self._cursor = self._noted = self._start_of_unacked()
        self._boot_end = self._end()

    def _start_of_unacked(self) -> Position:
        start = Position(min(self.journal.sizes, default=1), 0)
        acked = self.recovery.acked
        if acked is not None and start < acked and acked.at <= self.journal.sizes.get(acked.segment, -1):
            return acked
        return start

    def _end(self) -> Position:
        with self.journal.lock:
            return Position(self.journal.last, self.journal.sizes.get(self.journal.last, 0))

    def start(self, head: Callable[[], SpoolHead], released: Callable[[], None] = lambda: None) -> None:
        """Begin to append (`Journal.start`)."""
        self._head = head
        self.journal.start(head, released)

    # Appending (reader thread) -----------------------------------------------------------------------------------------

    def room(self, length: int) -> bool:
        """Whether a record of ``length`` bytes may be appended now. False is backpressure: wait for acks."""
        with self.journal.lock:  # the last head comes on top: however many files it names, a record fits once the rest is acked
            if self.size_bytes - self.journal.head_bytes + length > self._max_bytes:
                return False
        return not self._at_floor(length) or self._waiting_bytes() + length <= WAITING_BYTES

    def full(self) -> str:
        """Why there is no room."""
        free, size = f"{self._min_free_bytes} bytes", f"{self.size_bytes} bytes"
        return f"{size}, and less than min_free_bytes, {free}, are free on its disk" if self._at_floor(0) else size

    def _at_floor(self, length: int) -> bool:
        try:
            return bool(self._min_free_bytes) and self.disk.missing_to_floor(self.folder, self._min_free_bytes) + length > 0
        except OSError:
            return False

    def _waiting_bytes(self) -> int:
        """What is not acked."""
        with self.journal.lock:
            low = self.low_water
            return sum(size for number, size in self.journal.sizes.items() if number >= low.segment) - low.at

    @property
    def size_bytes(self) -> int:
        """What the segments take on disk."""
        return self.journal.size_bytes

    @property
    def unsynced_bytes(self) -> int:
        """What was appended and may be in the page cache only."""
        return self.journal.unsynced_bytes

    @property
    def waits_for_sync(self) -> bool:
        """There is something that is shipped only when it is synced."""
        return self.journal.held_from is not None

    @property
    def sync_wanted(self) -> threading.Event:
        """Something has come that waits for a sync; whoever syncs clears it before."""
        return self.journal.sync_wanted

    def append(self, record: bytes, *, rolls: bool = True, waits: bool = False) -> None:
        """Add one record, or several that belong together (`Journal.append`). Raises StorageFull, StorageFailed."""
        self.journal.append(record, rolls=rolls, waits=waits)

    def sync(self) -> None:
        """Everything appended so far is on disk when this returns (`Journal.sync`). Raises StorageFailed."""
        self.journal.sync()

    def drop_oldest(self, record_of: RecordOf) -> tuple[wire.Loss, ...]:
        """Give up the oldest segment of which nothing was taken for shipping yet (reader thread). Returns what that costs, once
        it is told on disk; nothing where there is no such segment, or the disk has no room for a few hundred bytes.
        """
        with self.journal.lock:
            taken = max([self._cursor.segment, *(position.segment for position in self._outstanding)])
            spare = [
                number for number in self.journal.sizes if taken < number < self.journal.last and number not in self._useless
            ]
        for number in sorted(spare):
            self._useless.add(number)
            path = self.journal.path(number)
            try:
                dropped = drop(path.read_bytes(), record_of, now_ns=time.time_ns())
                if dropped is not None and self.journal.replace(number, dropped.segment, may=self._is_ahead):
                    return dropped.losses
            except OSError as error:
                self._useless.discard(number)
                log.debug("%s: cannot be dropped now: %s", path, error.strerror)
                return ()
        return ()

    def _is_ahead(self, number: int) -> bool:
        """Whether a segment is not being shipped yet."""
        return self._cursor.segment < number

    # Shipping (event loop) ---------------------------------------------------------------------------------------------

    def next_run(self, *, max_bytes: int, max_raw_bytes: int) -> Run | None:
        """Take the next records: at least one, at most about ``max_bytes`` of them, ``max_raw_bytes`` when inflated.
        None when all are taken. They stay outstanding until `ack`."""
        entries: list[Entry] = []
        size = raw = 0
        replay = False
        for entry in self._from_cursor():
            header = entry.header
            full = size + len(entry.data) > max_bytes or raw + header.raw_bytes > max_raw_bytes
            if entries and (full or replay != (entry.position < self._boot_end)):
                break
            replay = entry.position < self._boot_end
            entries.append(entry)
            size += len(entry.data)
            raw += header.raw_bytes
            with self.journal.lock:
                self._cursor = Position(entry.position.segment, entry.position.at + len(entry.data))
                self._outstanding[entry.position] = None
            if size >= max_bytes or len(entries) >= MAX_RUN_RECORDS:
                break
        return Run(tuple(entries), replay) if entries else None

    def entry(self, position: Position) -> Entry:
        """One that was taken before, read again. Raises StorageFailed when it was damaged since."""
        record = self.journal.read(position.segment, position.at, self.journal.sizes.get(position.segment, 0))
        if record is None:
            raise StorageFailed(
                f"{self.journal.path(position.segment)}: the record at byte {position.at} was damaged after it was written"
            )
        return Entry(position, record.header, bytes(record.payload.obj))

    def _from_cursor(self) -> Iterator[Entry]:
        """Shipped records from the cursor on; the cursor passes over the others by itself."""
        while True:
            number, at = self._cursor
            with self.journal.lock:
                end, last, held = self.journal.sizes.get(number, 0), self.journal.last, self.journal.held_from
                following = min((n for n in self.journal.sizes if n > number), default=number)
            if number == last and held is not None and held <= at:
                return
            if at >= end:
                if number >= last:
                    return
                self._cursor = Position(following, 0)
                continue
            try:
                record = self.journal.read(number, at, end)
            except OSError as error:  # a start goes round a segment that cannot be read, and waits for handles
                raise StorageFailed(f"{self.journal.path(number)}: read: {error.strerror}") from error
            if record is None or record.header.kind not in wire.SHIPPED_KINDS:
                self._cursor = Position(number, record.end if record else self._after_damage(number, at, end))
                continue
            yield Entry(self._cursor, record.header, bytes(record.payload.obj))

    def _after_damage(self, number: int, at: int, end: int) -> int:
        """Where to go on behind a record that cannot be read. Damage found at the start is known, and its lines are read
        again; damage that came later can only be met by starting again."""
        for segment, damage in self.journal.damaged:
            if segment == number and damage.start <= at < damage.end:
                return damage.end
        raise StorageFailed(f"{self.journal.path(number)}: the record at byte {at} was damaged after it was written")

    def ack(self, entries: tuple[Entry, ...]) -> None:
        """Their outcome is final. Segments that hold nothing else any more are deleted."""
        with self.journal.lock:
            for entry in entries:
                self._outstanding.pop(entry.position, None)
            end = min(self.low_water.segment, self.journal.last)
            if self.journal.roll_first and self.journal.damaged:
                end = min(end, self.journal.damaged[0][0])  # until a new head says so, only the damage tells what is missing
            done = [number for number in self.journal.sizes if number < end]
        for number in done:
            try:
                self.journal.remove(number)
            except OSError as error:
                log.warning("%s: cannot delete it yet: %s", self.journal.path(number), error.strerror)
                return

    @property
    def low_water(self) -> Position:
        """Everything before this place has a final outcome."""
        with self.journal.lock:
            return next(iter(self._outstanding), self._cursor)

    @property
    def drained(self) -> bool:
        """Nothing is waiting to be taken and nothing is outstanding."""
        if self._outstanding or self.waits_for_sync:
            return False
        return self._cursor >= self._end() or not any(True for _ in self._from_cursor())

    def note_acks(self, tenant_id: str, retention_days: int = 0) -> None:
        """Append how far acks have come, when that changed (reader thread). Unsynced: a hint that spares lookups, so a full
        disk may do without."""
        low = self.low_water
        if low > self._noted:
            all_acked = low == self._end()
            crash.point("ack_note.before")
            with contextlib.suppress(StorageFull):
                self.append(acked_record(Acked(low.segment, low.at, tenant_id, retention_days)))
                self._noted = self._end() if all_acked else low  # passing over the note itself is no news
                crash.point("ack_note.after")

    def note_files(self) -> None:
        """Append the state of every file (reader thread): what their records cannot say, such as how much is unread."""
        with contextlib.suppress(StorageFull):
            for record in head_records(self._head()):
                self.journal.note(record)
                crash.point("note_files.half")

    def note_states(self, head: SpoolHead) -> None:
        """Append states of some files (reader thread), also where data has no room. Raises StorageFull, StorageFailed."""
        for record in head_records(head):
            self.journal.note(record)

    def record_files(self, head: SpoolHead) -> None:
        """Append states that no record of data speaks of, synced (reader thread). Raises StorageFull, StorageFailed."""
        for record in head_records(head):
            self.append(record)
            crash.point("start.recorded")
        self.sync()
        crash.point("start.synced")

    def close(self) -> None:
        """Sync and close. Raises StorageFailed as `sync` does."""
        self.journal.close()


def loss_record(losses: tuple[wire.Loss, ...], *, record_id: str, agent: str, scope: str, observed_ns: int) -> bytes:
    """The record that tells the collector what was lost."""
    raw = wire.encode_losses(losses)
    header = wire.Header(
        wire.LOSS, record_id, agent=agent, scope=scope, raw_bytes=len(raw), events=len(losses), observed_ns=observed_ns
    )
    return wire.encode_record(header, compress(raw))
