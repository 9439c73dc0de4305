"""What the agent on this machine has of a file and has not sent, or not read yet: that is not missing in the store.

Read from the state folder, beside a running agent or without one. It is looked at before the store is asked: what is not
among it then has been acknowledged, and so the store must have it.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from agent import wire
from agent.files.identity import FileState
from agent.status import status


class Unsent:
    """As of the moment it was made. Raises StateRefused."""

    def __init__(self, state_dir: Path) -> None:
        spool = status.kept_state(state_dir)
        self.known = spool is not None
        """There is a state: files that it does not know are still to be read."""
        self.states: list[FileState] = list(spool.recovery.states.values()) if spool else []
        self.scope = spool.recovery.scope if spool else ""
        self.tenant_id = spool.recovery.tenant_id if spool else ""
        self.retention_days = spool.recovery.retention_days if spool else 0
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        for header in status.waiting(spool) if spool else ():
            if header.kind == wire.DATA:
                self._ranges.setdefault(header.origin, []).append((header.source_from, header.source_to))
        for state in self.states:
            ranges = self._ranges.setdefault(state.origin, [])
            ranges += state.gaps
            ranges.sort()

    def has(self, state: FileState | None, offset: int) -> bool:
        """Whether the event that starts at ``offset`` of this content is the agent's to send yet."""
        if state is None:
            return self.known
        if offset >= max(state.offset, state.read_to):
            return not state.finished
        ranges = self._ranges[state.origin]
        at = bisect_right(ranges, (offset, 1 << 63)) - 1
        return at >= 0 and offset < ranges[at][1]
