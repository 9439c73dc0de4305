"""What the agent did, in numbers: read, acknowledged, refused, lost. Counters since the start, for `status` and the log."""

from __future__ import annotations

import threading

from agent import wire


class Ledger:
    """Counters. The reader adds what it read and lost, the shipper what became of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._acked: dict[str, int] = {}
        self.tenant_id = ""
        self.sending = "starting"
        """How sending goes, in words: ok, or why not."""

    def read(self, events: int, raw_bytes: int) -> None:
        self.add("read_events", events)
        self.add("read_bytes", raw_bytes)

    def lost(self, reason: str, lost_bytes: int) -> None:
        self.add("lost_bytes", lost_bytes)
        self.add(f"lost_bytes.{reason}", lost_bytes)
        self.add(f"losses.{reason}", 1)

    def acked(self, header: wire.Header, outcome: wire.RecordOutcome) -> None:
        """A record's final outcome."""
        if header.kind != wire.DATA:
            return
        self.add("acked_events", header.events)
        self.add("acked_bytes", header.raw_bytes)
        for name in (wire.ACCEPTED, wire.DUPLICATE, wire.EXPIRED, wire.REJECTED):
            self.add(f"{name}_events", getattr(outcome, name))
        with self._lock:
            self._acked[header.origin] = max(header.source_to, self._acked.get(header.origin, 0))

    def add(self, name: str, count: int) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count

    def acked_to(self, origin: str) -> int | None:
        """How far a file is acknowledged; None when nothing of it was since the start."""
        return self._acked.get(origin)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)
