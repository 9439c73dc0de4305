"""The disk queue that is the checkpoint.

Promises:
- Appending a record is the one step that moves a file's offset. There is no other file of offsets, so none can run ahead.
- A record is read for shipping as soon as it is appended; what a power cut takes from the spool it takes from the offset,
  too, and the lines are read again with the same IDs. Records that reading again would not reproduce are synced first.
- Sealed segments are synced, with their folder, before the next one is created. Each segment begins with the state of every
  file, so deleting a fully acked segment writes nothing: a full disk can free itself.
- A failed sync is never papered over: what was not proven to be on disk is cut, nothing works any more, and `StorageFailed`
  makes the agent start again from what is. A failed write changes nothing: `StorageFull`, try again later.
- Nobody deletes files by hand: any damage is skipped, named and read again (`agent.spool.opening`, `agent.spool.segment`).

Order: append (write) -> sync, at most `fsync_interval_s` later -> sealed when full (sync, new file, sync folder) -> acked ->
deleted. One thread appends (the reader), one syncs, the shipping loop takes runs and acks them; a lock guards the counts.

Known limit: `max_bytes` bounds what the spool holds, but for the last segment's head (less than a kilobyte a file); a segment
is freed only when all of it is acked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from agent import crash, wire
from agent.codec import compress
from agent.errors import StateAway, StateRefused, StorageFailed, StorageFull
from agent.spool.disk import Disk
from agent.spool.dropping import RecordOf, drop
from agent.spool.opening import Opened, open_folder, segment_name
from agent.spool.segment import Acked, Position, SpoolHead, acked_record, head_records

log = logging.getLogger("agent.spool")

Fsync = Literal["interval", "always", "never"]
MAX_RUN_RECORDS = 256
WAITING_BYTES = 4 << 20
"""What may wait for acks while the disk is nearly full: a little, so that what the disk is full of can still be shipped."""
_LONGEST_RECORD = wire.PREFIX_BYTES + wire.MAX_HEADER_BYTES + wire.MAX_PAYLOAD_BYTES


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
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._min_free_bytes = min_free_bytes
        self.disk = self._disk = disk or Disk()
        self._lock = threading.RLock()
        self._syncing = threading.RLock()
        self._writing = threading.Lock()
        self._failed = ""
        self._roll_first = False
        self._useless: set[int] = set()
        self._fd = -1
        self._read_fd = (-1, -1)
        self._synced = 0
        self._outstanding: dict[Position, None] = {}
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_over(open_folder(folder, quiet=read_only), read_only=read_only)
        except wire.UnknownVersion as error:
            raise StateRefused(
                f"{folder}: {error}; a newer agent wrote it: start that one, or give this one another state_dir"
            ) from None
        except OSError as error:
            raise StateAway(f"{folder}: {error.strerror}; the agent must be able to read and write it") from error

    # Opening -----------------------------------------------------------------------------------------------------------

    def _take_over(self, found: Opened, *, read_only: bool) -> None:
        self._sizes, self.recovery, self._damaged, self._last_cut = found.sizes, found.recovery, found.damaged, found.incomplete
        self.fresh = not found.sizes
        self._first, self._last = min(found.sizes, default=1), max(found.sizes, default=0)
        self._highest, self._head_bytes = found.highest, found.head_bytes
        if found.sizes and not read_only:
            self._fd = self._disk.open(self._path(self._last))
            if self._disk.size(self._fd) != self._sizes[self._last]:
                self._disk.truncate(self._fd, self._sizes[self._last])
                self._last_cut = True
                crash.point("recover.truncated")
            self._disk.sync(self._fd)  # a killed agent's last records may be in the page cache only
            self._synced = self._sizes[self._last]
        self._cursor = self._noted = self._start_of_unacked()
        self._boot_end = Position(self._last, self._sizes.get(self._last, 0))

    def _start_of_unacked(self) -> Position:
        start = Position(self._first, 0)
        acked = self.recovery.acked
        if acked is not None and start < acked and acked.at <= self._sizes.get(acked.segment, -1):
            return acked
        return start

    def start(self, head: Callable[[], SpoolHead]) -> None:
        """Begin to append. ``head`` is asked for the state of every file whenever a segment begins."""
        self._head = head
        if self._fd < 0:
            self._create()
        elif self._damaged or self._last_cut or not self._sizes[self._last]:
            # Heads behind the damage know of records that are gone, a cut one does not know all: a new one has the last word.
            self._roll_first = True
            with contextlib.suppress(StorageFull):  # what is there can be shipped, which makes room
                self._roll()
                crash.point("recover.rolled")

    def _path(self, number: int) -> Path:
        return self.folder / segment_name(number)

    # Appending (reader thread) -----------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """What the segments take on disk."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def unsynced_bytes(self) -> int:
        """What was appended and may be in the page cache only."""
        with self._lock:
            return max(0, self._sizes.get(self._last, 0) - self._synced)

    def room(self, length: int) -> bool:
        """Whether a record of ``length`` bytes may be appended now. False is backpressure: wait for acks."""
        with self._lock:  # the last head comes on top: however many files it names, a record fits once the rest is acked
            if self.size_bytes - self._head_bytes + length > self._max_bytes:
                return False
        return not self._at_floor(length) or self._waiting_bytes() + length <= WAITING_BYTES

    def full(self) -> str:
        """Why there is no room."""
        free, size = f"{self._min_free_bytes} bytes", f"{self.size_bytes} bytes"
        return f"{size}, and less than min_free_bytes, {free}, are free on its disk" if self._at_floor(0) else size

    def _at_floor(self, length: int) -> bool:
        try:
            return bool(self._min_free_bytes) and self._disk.missing_to_floor(self.folder, self._min_free_bytes) + length > 0
        except OSError:
            return False

    def _waiting_bytes(self) -> int:
        """What is not acked."""
        with self._lock:
            low = self.low_water
            return sum(size for number, size in self._sizes.items() if number >= low.segment) - low.at

    def append(self, record: bytes, *, rolls: bool = True) -> None:
        """Add one record.

        Args:
            rolls: where the segment is full, begin another one first. Not for losses: its head would know of what they cost
                before they are told.

        Raises:
            StorageFull: the disk is; nothing has changed, try again later.
            StorageFailed: it is not in the spool, and what was not synced may not be either.
        """
        self._check()
        if self._roll_first or (rolls and self._sizes[self._last] - self._head_bytes >= self._segment_bytes):
            self._roll()
        self._write(record)
        if self._fsync == "always":
            self.sync()

    def _write(self, record: bytes) -> None:
        with self._writing:  # not behind the end that a failed sync goes back to
            self._check()
            at = self._sizes[self._last]
            crash.point("append.before")
            try:
                if crash.HALF:
                    self._disk.write(self._fd, record[: len(record) // 2], at)
                    crash.point("append.half")
                self._disk.write(self._fd, record, at)
            except OSError as error:
                self._cut(at)
                raise StorageFull(f"{self._path(self._last)}: append: {error.strerror}") from error
            with self._lock:
                self._sizes[self._last] = at + len(record)
        crash.point("append.after")

    def _check(self) -> None:
        """Raises StorageFailed once a sync has failed: the next one would report success for pages that are gone."""
        if self._failed:
            raise StorageFailed(self._failed)

    def _cut(self, at: int) -> None:
        """Take a half-written record off the end. Failing is fine: the next start cuts it by its checksum."""
        try:
            self._disk.truncate(self._fd, at)
        except OSError as error:
            log.debug("%s: cannot cut it back to %d: %s", self._path(self._last), at, error.strerror)

    def sync(self) -> None:
        """Everything appended so far is on disk when this returns.

        Raises:
            StorageFailed: it is not. The pages of a failed sync are gone: all since the last good one is cut, and nothing
                works any more until the spool is opened anew.
        """
        with self._syncing:  # one at a time: no segment is closed while it is being synced
            self._check()
            with self._lock:
                fd, end = self._fd, self._sizes[self._last]
                if end == self._synced:
                    return
            if self._fsync == "never":
                self._synced = end
                return
            crash.point("sync.before")
            try:
                self._disk.sync(fd)
            except OSError as error:
                with self._writing, self._lock:
                    self._failed = f"{self._path(self._last)}: sync: {error.strerror}"
                    self._cut(self._synced)
                    self._sizes[self._last] = self._synced
                raise StorageFailed(self._failed) from error
            self._synced = end
            crash.point("sync.after")

    def _roll(self) -> None:
        """Seal the segment and begin the next one. The old one is synced before the new one exists."""
        with self._syncing:
            crash.point("roll.before")
            self.sync()
            crash.point("roll.old_synced")
            old = self._fd
            self._create()
            crash.point("roll.switched")
            with contextlib.suppress(OSError):  # it is synced
                self._disk.close(old)
            self._roll_first = False

    def _create(self) -> None:
        number = self._highest + 1
        path = self._path(number)
        head = b"".join(head_records(self._head()))
        fd = -1
        try:
            fd = self._disk.create(path)
            crash.point("segment.created")
            self._disk.write(fd, head, 0)
            crash.point("segment.head_written")
            if self._fsync != "never":
                self._disk.sync(fd)
                crash.point("segment.head_synced")
                crash.point("folder_sync.before")
                self._disk.sync_folder(self.folder)
                crash.point("folder_sync.after")
        except OSError as error:
            if fd >= 0:
                self._disk.close(fd)
                self._give_up(path)
            raise StorageFull(f"{path}: new segment: {error.strerror}") from error
        self._highest = number
        with self._lock:
            self._fd, self._last, self._sizes[number], self._synced = fd, number, len(head), len(head)
            self._head_bytes = len(head)

    def _give_up(self, path: Path) -> None:
        """Take a segment that was not finished away; where that fails, go round it: the next start reads it as it is."""
        try:
            self._disk.remove(path)
        except OSError as error:
            log.debug("%s: cannot remove what was begun: %s", path, error.strerror)
            self._highest += 1

    def drop_oldest(self, record_of: RecordOf) -> tuple[wire.Loss, ...]:
        """Give up the oldest segment of which nothing was taken for shipping yet (reader thread). Returns what that costs, once
        it is told on disk; nothing where there is no such segment, or the disk has no room for a few hundred bytes.
        """
        with self._lock:
            taken = max([self._cursor.segment, *(position.segment for position in self._outstanding)])
            spare = [number for number in self._sizes if taken < number < self._last and number not in self._useless]
        for number in sorted(spare):
            self._useless.add(number)
            path = self._path(number)
            partial = path.with_suffix(".part")
            try:
                dropped = drop(path.read_bytes(), record_of, now_ns=time.time_ns())
                if dropped is not None and self._exchanged(number, partial, dropped.segment):
                    return dropped.losses
            except OSError as error:
                self._useless.discard(number)
                log.debug("%s: cannot be dropped now: %s", path, error.strerror)
                return ()
        return ()

    def _exchanged(self, number: int, partial: Path, data: bytes) -> bool:
        self._disk.remove(partial)
        fd = self._disk.create(partial)
        try:
            self._disk.write(fd, data, 0)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        crash.point("drop.written")
        with self._lock:
            if self._cursor.segment >= number:
                return False  # it is being shipped by now
            self._disk.rename(partial, self._path(number))
            self._sizes[number] = len(data)
            self._damaged = [(segment, damage) for segment, damage in self._damaged if segment != number]
        crash.point("drop.renamed")
        self._disk.sync_folder(self.folder)
        return True

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
            with self._lock:
                self._cursor = Position(entry.position.segment, entry.position.at + len(entry.data))
                self._outstanding[entry.position] = None
            if size >= max_bytes or len(entries) >= MAX_RUN_RECORDS:
                break
        return Run(tuple(entries), replay) if entries else None

    def entry(self, position: Position) -> Entry:
        """One that was taken before, read again. Raises StorageFailed when it was damaged since."""
        record = self._read_record(position.segment, position.at, self._sizes.get(position.segment, 0))
        if record is None:
            raise StorageFailed(
                f"{self._path(position.segment)}: the record at byte {position.at} was damaged after it was written"
            )
        return Entry(position, record.header, bytes(record.payload.obj))

    def _from_cursor(self) -> Iterator[Entry]:
        """Shipped records from the cursor on; the cursor passes over the others by itself."""
        while True:
            number, at = self._cursor
            with self._lock:
                end, last = self._sizes.get(number, 0), self._last
                following = min((n for n in self._sizes if n > number), default=number)
            if at >= end:
                if number >= last:
                    return
                self._cursor = Position(following, 0)
                continue
            try:
                record = self._read_record(number, at, end)
            except OSError as error:  # a start goes round a segment that cannot be read, and waits for handles
                raise StorageFailed(f"{self._path(number)}: read: {error.strerror}") from error
            if record is None or record.header.kind not in wire.SHIPPED_KINDS:
                self._cursor = Position(number, record.end if record else self._after_damage(number, at, end))
                continue
            yield Entry(self._cursor, record.header, bytes(record.payload.obj))

    def _read_record(self, number: int, at: int, end: int) -> wire.Record | None:
        """The record at a place, its positions relative to the segment; None where it is damaged."""
        fd = self._reading(number)
        length = wire.record_length(self._disk.read(fd, wire.PREFIX_BYTES, at))
        if length is None or at + length > end:
            return None
        try:
            record = wire.decode_record(self._disk.read(fd, length, at))
        except wire.BadRecord:
            return None
        return record._replace(start=at, end=at + length)

    def _after_damage(self, number: int, at: int, end: int) -> int:
        """Where to go on behind a record that cannot be read. Damage found at the start is known, and its lines are read
        again; damage that came later can only be met by starting again."""
        for segment, damage in self._damaged:
            if segment == number and damage.start <= at < damage.end:
                return damage.end
        raise StorageFailed(f"{self._path(number)}: the record at byte {at} was damaged after it was written")

    def _reading(self, number: int) -> int:
        if self._read_fd[0] != number:
            if self._read_fd[1] >= 0:
                self._disk.close(self._read_fd[1])
            self._read_fd = (number, self._disk.open(self._path(number)))
        return self._read_fd[1]

    def ack(self, entries: tuple[Entry, ...]) -> None:
        """Their outcome is final. Segments that hold nothing else any more are deleted."""
        with self._lock:
            for entry in entries:
                self._outstanding.pop(entry.position, None)
            end = min(self.low_water.segment, self._last)
            if self._roll_first and self._damaged:
                end = min(end, self._damaged[0][0])  # until a new head says so, only the damage tells what is missing
            done = [number for number in self._sizes if number < end]
        for number in done:
            if self._read_fd[0] == number:
                self._disk.close(self._read_fd[1])
                self._read_fd = (-1, -1)
            crash.point("trim.before")
            try:
                self._disk.remove(self._path(number))
            except OSError as error:
                log.warning("%s: cannot delete it yet: %s", self._path(number), error.strerror)
                return
            with self._lock:
                del self._sizes[number]
            crash.point("trim.after")

    @property
    def low_water(self) -> Position:
        """Everything before this place has a final outcome."""
        with self._lock:
            return next(iter(self._outstanding), self._cursor)

    @property
    def drained(self) -> bool:
        """Nothing is waiting to be taken and nothing is outstanding."""
        with self._lock:
            end = Position(self._last, self._sizes.get(self._last, 0))
        return not self._outstanding and (self._cursor >= end or not any(True for _ in self._from_cursor()))

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
                self.append(record)
                crash.point("note_files.half")

    def record_files(self, head: SpoolHead) -> None:
        """Append states that no record of data speaks of, synced (reader thread). Raises StorageFull, StorageFailed."""
        for record in head_records(head):
            self.append(record)
            crash.point("start.recorded")
        self.sync()
        crash.point("start.synced")

    def _end(self) -> Position:
        with self._lock:
            return Position(self._last, self._sizes[self._last])

    def close(self) -> None:
        """Sync and close. Raises StorageFailed as `sync` does."""
        try:
            if self._fd >= 0:
                self.sync()
        finally:
            for fd in (self._fd, self._read_fd[1]):
                if fd >= 0:
                    os.close(fd)
            self._fd, self._read_fd = -1, (-1, -1)


def loss_record(losses: tuple[wire.Loss, ...], *, record_id: str, agent: str, scope: str, observed_ns: int) -> bytes:
    """The record that tells the collector what was lost."""
    raw = wire.encode_losses(losses)
    header = wire.Header(
        wire.LOSS, record_id, agent=agent, scope=scope, raw_bytes=len(raw), events=len(losses), observed_ns=observed_ns
    )
    return wire.encode_record(header, compress(raw))
