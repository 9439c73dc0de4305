"""What the collector refused for good: single events (dead letters), and records it cannot take (quarantine).

Promises:
- A dead letter is on disk, synced, before the record it came from is trimmed: one JSON object a line, with the reason and
  the event's bytes.
- A quarantined record is kept byte for byte, tried again every `RETRY_S`, and deleted when it was delivered. The folder is
  bounded; when it is full the record stays in the spool and holds it up, which loses nothing.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path

import msgspec

from agent import shape, wire
from agent.codec import decompress
from agent.disk import Disk
from agent.spool import Entry

RETRY_S = 3600.0
MAX_QUARANTINE_BYTES = 64 << 20
DEAD_LETTERS = "dead-letters.ndjson"
_SUFFIX = ".rec"


class DeadLetters:
    """The dead-letter file of one state folder. Methods raise OSError."""

    def __init__(self, state: Path, disk: Disk | None = None) -> None:
        self._path = state / DEAD_LETTERS
        self._disk = disk or Disk()

    def add(self, entry: Entry, outcome: wire.RecordOutcome, tenant_id: str) -> int:
        """Keep the rejected events of one record. Returns how many, once they are synced."""
        lines = [msgspec.json.encode(letter) + b"\n" for letter in _letters(entry, outcome, tenant_id)]
        if not lines:
            return 0
        fd = self._disk.open(self._path) if self._path.exists() else self._disk.create(self._path)
        try:
            self._disk.write(fd, b"".join(lines), self._disk.size(fd))
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._disk.sync_folder(self._path.parent)  # each time: the one that should have kept a new name may have failed
        return len(lines)


def _letters(entry: Entry, outcome: wire.RecordOutcome, tenant_id: str) -> list[dict[str, object]]:
    header = entry.header
    raw = decompress(wire.decode_record(entry.data).payload, header.raw_bytes)
    events = shape.events_of(header, raw)
    if outcome.outcome == wire.REJECTED:
        refused = [(offset, event, outcome.reason) for offset, event in events]
    else:
        reasons = {event.offset: event.reason for event in outcome.exceptions if event.outcome == wire.REJECTED}
        refused = [(offset, event, reasons[offset]) for offset, event in events if offset in reasons]
    letters: list[dict[str, object]] = []
    for offset, line, reason in refused:
        letters.append(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "reason": reason,
                "event_id": wire.event_id(header.file_id, offset, line),
                "tenant_id": tenant_id,
                "source": header.source,
                "path": header.path,
                "data_base64": base64.b64encode(line).decode(),
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
        try:
            self._disk.write(fd, entry.data, 0)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        partial.rename(path)
        self._disk.sync_folder(self._folder)
        return True

    def records(self) -> list[Path]:
        return sorted(self._folder.glob("*" + _SUFFIX))

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.records())

    def remove(self, path: Path) -> None:
        self._disk.remove(path)
