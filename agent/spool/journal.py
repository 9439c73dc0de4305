"""The segments on disk: what is appended to the last one, when it is on disk for certain, and when the next one begins.

Promises:
- Sealed segments are synced, with their folder, before the next one is created. Each begins with the state of every file.
- A failed write changes nothing: `StorageFull`, try again later. A failed sync is never papered over: what was not proven to
  be on disk is cut, and nothing works any more (`StorageFailed`) until the folder is opened anew.
- What has to be on disk before it is seen (``waits``) is held until it is, and what is behind it waits with it; `sync_wanted`
  says so to whoever syncs.
- A segment is replaced in one rename, never written over.
- States of files find room also where data does not (`note`, `agent.spool.reserve`).

Order: append (write) -> sync -> sealed when full (sync, new file, sync folder) -> removed. One thread appends, one syncs, any
reads; `lock` guards the counts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from agent import crash, wire
from agent.errors import StorageFailed, StorageFull
from agent.spool.disk import Disk
from agent.spool.opening import Opened, segment_name
from agent.spool.reserve import Reserve
from agent.spool.segment import SpoolHead, head_records

log = logging.getLogger("agent.spool")

Fsync = Literal["interval", "always", "never"]


class Journal:
    """Made of what the folder holds. Nothing is written before `start`, but that a torn tail is cut."""

    def __init__(self, folder: Path, found: Opened, *, segment_bytes: int, fsync: Fsync, disk: Disk, read_only: bool) -> None:
        """Raises OSError."""
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._disk = disk
        self._reserve = Reserve(folder, disk)
        self.lock = threading.RLock()
        """Guards the counts, here and in `agent.spool.spool`."""
        self._syncing = threading.RLock()
        self._writing = threading.Lock()
        self._failed = ""
        self.roll_first = False
        """A new segment has to have the last word on what the older ones say."""
        self._fd = -1
        self._read_fd = (-1, -1)
        self._synced = 0
        self._held: list[int] = []
        """Where records begin, in the last segment, that are not to be shipped before they are synced."""
        self.sync_wanted = threading.Event()
        self.sizes = found.sizes
        """Number of each segment -> how many of its bytes count."""
        self.last = max(found.sizes, default=0)
        self._highest, self.head_bytes = found.highest, found.head_bytes
        self.damaged = found.damaged
        """Found at the start, by segment."""
        self._distrusted = bool(found.damaged) or found.incomplete
        if found.sizes and not read_only:
            self._fd = self._disk.open(self.path(self.last))
            if self._disk.size(self._fd) != self.sizes[self.last]:
                self._disk.truncate(self._fd, self.sizes[self.last])
                self._distrusted = True
                crash.point("recover.truncated")
            self._disk.sync(self._fd)  # a killed agent's last records may be in the page cache only
            self._synced = self.sizes[self.last]

    def start(self, head: Callable[[], SpoolHead], released: Callable[[], None]) -> None:
        """Begin to append. ``head`` is asked for the state of every file whenever a segment begins; ``released`` is called, in
        any thread, when what had to wait for a sync can be shipped."""
        self._head, self._released = head, released
        if self._fd < 0:
            self._create()
        elif self._distrusted or not self.sizes[self.last]:
            # Heads behind the damage know of records that are gone, a cut one does not know all: a new one has the last word.
            self.roll_first = True
            with contextlib.suppress(StorageFull):  # what is there can be shipped, which makes room
                self._roll()
                crash.point("recover.rolled")
        self._reserve.hold()

    def path(self, number: int) -> Path:
        return self.folder / segment_name(number)

    @property
    def size_bytes(self) -> int:
        """What the segments take on disk."""
        with self.lock:
            return sum(self.sizes.values())

    @property
    def unsynced_bytes(self) -> int:
        """What was appended and may be in the page cache only."""
        with self.lock:
            return max(0, self.sizes.get(self.last, 0) - self._synced)

    @property
    def held_from(self) -> int | None:
        """Where in the last segment what may be shipped ends, for want of a sync."""
        return self._held[0] if self._held else None

    def append(self, record: bytes, *, rolls: bool = True, waits: bool = False) -> None:
        """Add one record.

        Args:
            waits: it is not to be shipped before it is synced.
            rolls: where the segment is full, begin another one first. Not for losses: its head would know of what they cost
                before they are told.

        Raises:
            StorageFull: the disk is; nothing has changed, try again later.
            StorageFailed: it is not in the spool, and what was not synced may not be either.
        """
        self._check()
        if self.roll_first or (rolls and self.sizes[self.last] - self.head_bytes >= self._segment_bytes):
            self._roll()
        self._write(record, waits=waits and self._fsync != "never")
        if self._fsync == "always":
            self.sync()

    def note(self, record: bytes) -> None:
        """Add states of files. They count as those at the segment's front do: not as what it holds. Raises StorageFull,
        StorageFailed."""
        try:
            self.append(record, rolls=False)
        except StorageFull:
            if not self._reserve.give(len(record)):
                raise
            self.append(record, rolls=False)
        with self.lock:
            self.head_bytes += len(record)

    def _write(self, record: bytes, *, waits: bool) -> None:
        with self._writing:  # not behind the end that a failed sync goes back to
            self._check()
            at = self.sizes[self.last]
            crash.point("append.before")
            try:
                if crash.HALF:
                    self._disk.write(self._fd, record[: len(record) // 2], at)
                    crash.point("append.half")
                self._disk.write(self._fd, record, at)
            except OSError as error:
                self._cut(at)
                raise StorageFull(f"{self.path(self.last)}: append: {error.strerror}") from error
            with self.lock:
                self._held += [at] * waits
                self.sizes[self.last] = at + len(record)
        if waits:
            self.sync_wanted.set()
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
            log.debug("%s: cannot cut it back to %d: %s", self.path(self.last), at, error.strerror)

    def sync(self) -> None:
        """Everything appended so far is on disk when this returns.

        Raises:
            StorageFailed: it is not. The pages of a failed sync are gone: all since the last good one is cut, and nothing
                works any more until the spool is opened anew.
        """
        with self._syncing:  # one at a time: no segment is closed while it is being synced
            self._check()
            with self.lock:
                fd, end = self._fd, self.sizes[self.last]
                if end == self._synced:
                    return
            if self._fsync == "never":
                self._synced = end
                return
            crash.point("sync.before")
            try:
                self._disk.sync(fd)
            except OSError as error:
                with self._writing, self.lock:
                    self._failed = f"{self.path(self.last)}: sync: {error.strerror}"
                    self._cut(self._synced)
                    self.sizes[self.last] = self._synced
                raise StorageFailed(self._failed) from error
            with self.lock:
                self._synced = end
                released, self._held = bool(self._held), [at for at in self._held if at >= end]
            if released:
                self._released()
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
            self.roll_first = False
            self._reserve.hold()

    def _create(self) -> None:
        number = self._highest + 1
        path = self.path(number)
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
        with self.lock:
            self._fd, self.last, self.sizes[number], self._synced = fd, number, len(head), len(head)
            self.head_bytes = len(head)

    def _give_up(self, path: Path) -> None:
        """Take a segment that was not finished away; where that fails, go round it: the next start reads it as it is."""
        try:
            self._disk.remove(path)
        except OSError as error:
            log.debug("%s: cannot remove what was begun: %s", path, error.strerror)
            self._highest += 1

    def replace(self, number: int, data: bytes, *, may: Callable[[int], bool]) -> bool:
        """Put other bytes in the place of a sealed segment, if it still ``may`` be done when they are ready. Raises OSError."""
        partial = self.path(number).with_suffix(".part")
        self._disk.remove(partial)
        fd = self._disk.create(partial)
        try:
            self._disk.write(fd, data, 0)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        crash.point("drop.written")
        with self.lock:
            if not may(number):
                return False
            self._disk.rename(partial, self.path(number))
            self.sizes[number] = len(data)
            self.damaged = [(segment, damage) for segment, damage in self.damaged if segment != number]
        crash.point("drop.renamed")
        self._disk.sync_folder(self.folder)
        return True

    def read(self, number: int, at: int, end: int) -> wire.Record | None:
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

    def _reading(self, number: int) -> int:
        if self._read_fd[0] != number:
            if self._read_fd[1] >= 0:
                self._disk.close(self._read_fd[1])
            self._read_fd = (number, self._disk.open(self.path(number)))
        return self._read_fd[1]

    def remove(self, number: int) -> None:
        """Delete a segment. Raises OSError."""
        if self._read_fd[0] == number:
            self._disk.close(self._read_fd[1])
            self._read_fd = (-1, -1)
        crash.point("trim.before")
        self._disk.remove(self.path(number))
        with self.lock:
            del self.sizes[number]
        crash.point("trim.after")

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
