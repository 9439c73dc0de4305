"""What the agent did, in numbers: read, acknowledged, refused, lost. Counters since the start, for `status` and the log."""

from __future__ import annotations

import threading

from agent import wire

MAX_RETENTION_DAYS = 36_500
"""More is as good as for ever."""
MAX_LOSSES = 100
"""Kept by file and reason. What is forgotten beyond them is still in the sums by reason, and at the collector."""


class Ledger:
    """Counters. The reader adds what it read and lost, the shipper what became of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._pending: dict[str, dict[int, int]] = {}
        """Per file: where each record that is on its way begins -> how many do."""
        self._taken_to: dict[str, int] = {}
        self._losses: dict[tuple[str, str], tuple[int, int]] = {}
        """Path and reason -> bytes, and how often; the latest last."""
        self.tenant_id = ""
        self.retention_days = 0
        """How many days the collector keeps this tenant's events, as its latest answer said; 0: not known (yet)."""
        self.sending = "starting"
        """How sending goes, in words: ok, or why not."""

    def keeps(self, retention_days: int) -> None:
        """What an answer said of the retention; nothing where it did not."""
        if retention_days > 0:
            self.retention_days = min(retention_days, MAX_RETENTION_DAYS)

    def read(self, events: int, raw_bytes: int) -> None:
        self.add("read_events", events)
        self.add("read_bytes", raw_bytes)

    def lost(self, reason: str, lost_bytes: int, path: str = "") -> None:
        """``path``: of the file that it was of."""
        with self._lock:
            before, times = self._losses.pop((path, reason), (0, 0))
            self._losses[path, reason] = before + lost_bytes, times + 1
            if len(self._losses) > MAX_LOSSES:
                del self._losses[next(iter(self._losses))]
        self.add("lost_bytes", lost_bytes)
        self.add(f"lost_bytes.{reason}", lost_bytes)
        self.add(f"losses.{reason}", 1)

    def taken(self, header: wire.Header) -> None:
        """A record of a file is about to be sent, for the first time since the start: in the order of the file."""
        if header.kind != wire.DATA:
            return
        with self._lock:
            pending = self._pending.setdefault(header.origin, {})
            pending[header.source_from] = pending.get(header.source_from, 0) + 1
            self._taken_to[header.origin] = header.source_to

    def begin(self) -> None:
        """Sending begins (again): what was on its way is taken anew."""
        with self._lock:
            self._pending.clear()
            self._taken_to.clear()

    def set_aside(self, header: wire.Header) -> None:
        """A record went into the quarantine: what is behind it is not held up in the figures either."""
        if header.kind == wire.DATA:
            self.add("quarantined_events", header.events)
            self._settled(header)

    def acked(self, header: wire.Header, outcome: wire.RecordOutcome) -> None:
        """A record's final outcome."""
        if header.kind != wire.DATA:
            return
        self.add("acked_events", header.events)
        self.add("acked_bytes", header.raw_bytes)
        for name in (wire.ACCEPTED, wire.DUPLICATE, wire.EXPIRED, wire.REJECTED):
            self.add(f"{name}_events", getattr(outcome, name))
        self._settled(header)

    def _settled(self, header: wire.Header) -> None:
        with self._lock:
            pending = self._pending.get(header.origin, {})
            left = pending.pop(header.source_from, 0) - 1
            if left > 0:
                pending[header.source_from] = left
            elif not pending:
                self._pending.pop(header.origin, None)

    def add(self, name: str, count: int) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count

    def acked_to(self, origin: str) -> int | None:
        """Up to where all of a file is acknowledged (or in the quarantine); None while nothing of it was sent."""
        with self._lock:
            pending = self._pending.get(origin)
            return min(pending) if pending else self._taken_to.get(origin)

    def losses(self) -> list[dict[str, str | int]]:
        """What was lost since the start by file and reason, the latest first: the last `MAX_LOSSES` of them."""
        with self._lock:
            found = list(self._losses.items())[::-1]
        return [{"path": path, "reason": reason, "bytes": count, "times": times} for (path, reason), (count, times) in found]

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)
