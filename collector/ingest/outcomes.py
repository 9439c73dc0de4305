"""What became of each record, from what became of its events. Pure.

The four counts of a record always add up to its number of events: a caller that checks takes nothing else as an ack.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent import wire


class Tally:
    """Counts for one record, while its events are written in one or more pieces."""

    def __init__(self, record_id: str) -> None:
        self._record_id = record_id
        self._accepted = 0
        self._duplicate = 0
        self._refused: list[wire.EventOutcome] = []

    def accept(self, events: int) -> None:
        self._accepted += events

    def duplicate(self, events: int) -> None:
        self._duplicate += events

    def refuse(self, outcome: str, reason: str, offsets: Iterable[int]) -> None:
        """Events that are not stored: `wire.EXPIRED` or `wire.REJECTED`."""
        self._refused.extend(wire.EventOutcome(offset, outcome, reason) for offset in offsets)

    def outcome(self) -> wire.RecordOutcome:
        expired = sum(event.outcome == wire.EXPIRED for event in self._refused)
        counts = {
            wire.ACCEPTED: self._accepted,
            wire.DUPLICATE: self._duplicate,
            wire.EXPIRED: expired,
            wire.REJECTED: len(self._refused) - expired,
        }
        kinds = [name for name, count in counts.items() if count]
        reasons = {event.reason for event in self._refused}
        mixed = len(kinds) > 1 or len(reasons) > 1
        return wire.RecordOutcome(
            record_id=self._record_id,
            outcome=wire.MIXED if mixed else kinds[0] if kinds else wire.ACCEPTED,
            reason=next(iter(reasons)) if len(reasons) == 1 and not self._duplicate else "",
            exceptions=tuple(sorted(self._refused, key=lambda event: event.offset)) if mixed else (),
            **counts,
        )
