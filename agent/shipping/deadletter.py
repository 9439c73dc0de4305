"""What the collector refused for good: single events (dead letters), and records it cannot take (quarantine).

Promises:
- A dead letter is on disk, synced, before the record it came from is trimmed: one JSON object a line, with the reason and
  the event's bytes. A letter that was torn, by a full disk or a kill, does not damage the next.
- A letter is there once: a record that is refused again, since the agent was killed before it was trimmed, adds only those of
  its letters that are not there. What an older agent has written twice is read once, as it was written last.
- Dead letters take at most `MAX_DEAD_LETTER_BYTES` (and one record's): beyond it the older half is dropped, and counted.
- A quarantined record is kept byte for byte, tried again every `RETRY_S` also over restarts, and deleted when it was
  delivered. The folder is bounded; when it is full the record stays in the spool and holds it up, which loses nothing.
- A record of kind `wire.COMPLETED` holds no line: one that is refused for `KEPT_COMPLETED_S`, or finds no room, is let go of.
  A collector of a version that does not know the kind then goes on showing a half beside its whole.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent import crash, wire
from agent.codec import decompress
from agent.spool.disk import Disk
from agent.spool.spool import Entry
from agent.text import packing

log = logging.getLogger("agent.deadletter")

RETRY_S = 3600.0
KEPT_COMPLETED_S = 30 * 86_400
MAX_QUARANTINE_BYTES = 64 << 20
MAX_DEAD_LETTER_BYTES = 64 << 20
DEAD_LETTERS = "dead-letters.ndjson"
OLD_DEAD_LETTERS = "dead-letters.old.ndjson"
LOCK = "dead-letters.lock"
_SUFFIX = ".rec"


class DeadLetters:
    """The dead letters of one state folder. Methods raise OSError."""

    def __init__(self, state: Path, disk: Disk | None = None, *, max_bytes: int = MAX_DEAD_LETTER_BYTES) -> None:
        self._state = state
        self._path = state / DEAD_LETTERS
        self._old = state / OLD_DEAD_LETTERS
        self._disk = disk or Disk()
        self._max_bytes = max_bytes
        self._known: tuple[tuple[object, ...], set[int]] = (), set()
        """Hashes of the IDs that have a letter, and `_stamp` when that was so."""
        self.dropped = 0
        """Letters that had to make room for later ones, since the start."""

    def add(self, entry: Entry, outcome: wire.RecordOutcome, tenant_id: str, *, again: bool = False) -> int:
        """Keep the rejected events of one record. Returns how many they are, once they are synced. ``again``: it may have been
        here before."""
        letters = _letters(entry, outcome, tenant_id)
        if not letters:
            return 0
        crash.point("dead_letter.before")
        with locked(self._state):
            new = self._not_there(letters) if again else letters
            data = b"".join(msgspec.json.encode(letter) + b"\n" for letter in new)
            moved = self._make_room(len(data))
            self._append(data)
            if again and not moved:
                self._known[1].update(_hashes(new))
                self._known = self._stamp(), self._known[1]
            else:
                self._known = (), set()
        crash.point("dead_letter.named")
        return len(letters)

    def _not_there(self, letters: list[dict[str, object]]) -> list[dict[str, object]]:
        """Those that have no letter. Which have one is kept until a record comes that cannot have been here before. The lock is
        held: a command may have changed the files since."""
        if self._known[0] != self._stamp():
            self._known = self._stamp(), _hashes(_all(self._state))
        return [letter for letter in letters if hash(letter["event_id"]) not in self._known[1]]

    def _stamp(self) -> tuple[object, ...]:
        """Changes with the files."""
        found = []
        for path in (self._old, self._path):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def _make_room(self, more: int) -> bool:
        """When half of the room is full, what is there becomes the old file, and the one before it goes. Whether it is so."""
        if not self._path.exists() or self._path.stat().st_size + more <= self._max_bytes // 2:
            return False
        self._append(b"")  # a letter that an agent has left unsynced, killed at once, counts as there
        dropped = self._old.read_bytes().count(b"\n") if self._old.exists() else 0
        self._path.replace(self._old)
        self._disk.sync_folder(self._state)
        self.dropped += dropped
        if dropped:
            log.error("%s: full; the %d oldest dead letters were dropped", self._path, dropped)
        return True

    def _append(self, data: bytes) -> None:
        """Add it; what is there is synced in any case."""
        fd = self._disk.open(self._path) if self._path.exists() else self._disk.create(self._path)
        try:
            size = self._disk.size(fd)
            if data and size and self._disk.read(fd, 1, size - 1) != b"\n":
                data = b"\n" + data  # half a letter, of an agent that was killed: it ends here
            try:
                self._disk.write(fd, data, size)
                crash.point("dead_letter.written")
                self._disk.sync(fd)
                crash.point("dead_letter.synced")
            except OSError:
                with contextlib.suppress(OSError):
                    self._disk.truncate(fd, size)
                raise
        finally:
            self._disk.close(fd)
        self._disk.sync_folder(self._state)  # each time: the one that should have kept a new name may have failed


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Nobody else changes the dead letters meanwhile: neither the agent nor a command beside it."""
    fd = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read(state: Path) -> Iterator[dict[str, Any]]:
    """The dead letters of a state folder, oldest first, each once: as it was written last. Half a letter is passed over.
    Raises OSError."""
    times = Counter(letter["event_id"] for letter in _all(state))
    for letter in _all(state):
        times[letter["event_id"]] -= 1
        if times[letter["event_id"]] <= 0:
            yield letter


def _all(state: Path) -> Iterator[dict[str, Any]]:
    for name in (OLD_DEAD_LETTERS, DEAD_LETTERS):
        if (state / name).exists():
            yield from read_one(state / name)


def _hashes(letters: Iterable[dict[str, Any]]) -> set[int]:
    """Some MB for as many letters as there is room for, where the IDs would take thrice as much."""
    return {hash(letter["event_id"]) for letter in letters}


def read_one(path: Path) -> Iterator[dict[str, Any]]:
    """The dead letters of one file. Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.DecodeError):
                letter = wire.decoded(_decode_letter, line)
                if letter.keys() >= {"event_id", "data_base64"}:
                    yield letter


_decode_letter = msgspec.json.Decoder(dict[str, Any]).decode


def _letters(entry: Entry, outcome: wire.RecordOutcome, tenant_id: str) -> list[dict[str, object]]:
    header = entry.header
    raw = decompress(wire.decode_record(entry.data).payload, header.raw_bytes)
    events = dict(packing.events_of(header, raw))
    if outcome.outcome == wire.REJECTED:
        refused = [(at, outcome.reason) for at in events]
    else:
        refused = [(event.offset, event.reason) for event in outcome.exceptions if event.outcome == wire.REJECTED]
    letters: list[dict[str, object]] = []
    for offset, reason in refused:
        if offset not in events:
            raise OSError(errno.EPROTO, f"the answer refuses byte {offset}, where no event of the record begins")
        line = events[offset]
        letters.append(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "reason": reason,
                "event_id": wire.event_id(header.file_id, offset, line),
                "tenant_id": tenant_id,
                "source": header.source,
                "path": header.path,
                "data_base64": base64.b64encode(line).decode(),
                "service": header.service,
                "format": header.format,
                "labels": header.labels,
                "fields": header.fields,
                "agent": header.agent,
                "scope": header.scope,
                "observed_ns": header.observed_ns,
            }
        )
    return letters


class Quarantine:
    """Records set aside, one file each."""

    def __init__(self, state: Path, disk: Disk | None = None) -> None:
        self._folder = state / "quarantine"
        self._disk = disk or Disk()

    def add(self, entry: Entry) -> bool:
        """Keep a record; False when there is no room. Raises OSError."""
        path = self._folder / f"{entry.header.record_id}{_SUFFIX}"
        if path.exists():
            return True
        if self.size_bytes() + len(entry.data) > MAX_QUARANTINE_BYTES:
            return False
        self._folder.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(".part")
        self._disk.remove(partial)
        fd = self._disk.create(partial)
        crash.point("quarantine.created")
        try:
            self._disk.write(fd, entry.data, 0)
            self._disk.sync(fd)
            crash.point("quarantine.synced")
        finally:
            self._disk.close(fd)
        partial.rename(path)
        crash.point("quarantine.renamed")
        self._disk.sync_folder(self._folder)
        return True

    def records(self) -> list[Path]:
        return sorted(self._folder.glob("*" + _SUFFIX))

    def due(self, now_s: float) -> list[Path]:
        """Those whose last try is `RETRY_S` ago. It is kept in the file's time, so that restarts do not begin it anew."""
        due = []
        for path in self.records():
            with contextlib.suppress(FileNotFoundError):
                if not 0 <= now_s - path.stat().st_mtime < RETRY_S:
                    due.append(path)
        return due

    def tried(self, path: Path, now_s: float) -> None:
        """It was, in vain. Raises OSError."""
        os.utime(path, (now_s, now_s))

    def due_now(self, entry: Entry) -> None:
        """Make a record that is here be tried at the next look. Raises OSError."""
        os.utime(self._folder / f"{entry.header.record_id}{_SUFFIX}", (0, 0))

    @staticmethod
    def is_over(entry: Entry, now_s: float) -> bool:
        """Whether a record that is still refused is not to be tried any more."""
        return entry.header.kind == wire.COMPLETED and now_s - entry.header.observed_ns / 1e9 > KEPT_COMPLETED_S

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.records())

    def remove(self, path: Path) -> None:
        self._disk.remove(path)
