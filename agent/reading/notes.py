"""What the spool is told of files although it takes no bytes of them: it is full, or their first lines have no end yet.

A content that only the process knows is lost with it: once its file is rotated out of the patterns nothing leads to it.

- Each content is in the spool within a moment of being known: with its first record, or in a note of its state.
- While the spool is full, how much of a file is unread is noted anew whenever that has doubled: should the file be gone at the
  next start, at least the half of it is told as lost.
- A note is less than a kilobyte, and finds room also where data does not (`agent.spool.spool`, `agent.spool.reserve`).

Owned by the reader thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from agent import crash
from agent.errors import StorageFull
from agent.files.contents import taken_to
from agent.files.identity import INSTANCE, FileState
from agent.files.tail import Tail
from agent.spool.segment import SpoolHead
from agent.spool.spool import Spool

log = logging.getLogger("agent.reader")

LOOK_S = 1.0
"""How often while nothing is in the way of data, and after a disk took no note."""
SIZES_S = 10.0
"""How often sizes are noted at most: a spool that is full now and then would take more notes than data."""


class Notes:
    """``told``: origin -> how far its file reached, as the spool knows; kept up to date also by whoever appends records."""

    def __init__(self, spool: Spool, states: Mapping[str, FileState], told: dict[str, int], *, scope: str) -> None:
        self._spool = spool
        self._states = states
        self._told = told
        self._scope = scope
        self._next_s = self._again_s = self._sizes_s = float("-inf")

    def keep(self, due: Iterable[Tail], now_s: float, *, full: bool) -> None:
        """Write what is wanted now. ``due``: files with something to read; ``full``: it cannot be appended. Raises
        StorageFailed."""
        if now_s < (self._again_s if full else self._next_s):
            return
        self._next_s = now_s + LOOK_S
        wanted = [self._states[origin] for origin in self._states.keys() - self._told.keys()]
        if full and now_s >= self._sizes_s:
            grown = [tail.state for tail in due if tail.state is not None and self._has_grown(tail.state)]
            self._sizes_s = now_s + SIZES_S if grown else self._sizes_s
            wanted += grown
        if wanted and not self._writes(wanted):
            self._again_s = now_s + LOOK_S
        if len(self._told) > 2 * len(self._states) + 1000:
            for origin in self._told.keys() - self._states.keys():
                del self._told[origin]

    def _has_grown(self, state: FileState) -> bool:
        told, taken = self._told.get(state.origin), taken_to(state)
        return told is not None and state.size > taken and state.size - taken >= 2 * (told - taken)

    def _writes(self, states: list[FileState]) -> bool:
        tags = {state.head: state.tag for state in states if state.tag < INSTANCE}
        try:
            self._spool.note_states(SpoolHead(self._scope, states=states, tags=tags))
        except StorageFull as error:
            log.debug("%d files cannot be noted now: %s", len(states), error)
            return False
        crash.point("full.noted")
        self._told.update((state.origin, state.size) for state in states)
        return True
