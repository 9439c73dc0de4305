"""How much of a disk the agent may keep from others: deleted files that only its handles hold, and the free space that is left.

- A deleted file that is not read to its end yet is held without a limit of time, within ``held_bytes`` of all of them together
  and above the floor of free space of its file system. Beyond either the oldest is given up: the app comes first.
- What of it was not read is a loss record, to the byte, in the spool and synced before the handle is let go for good.
- The floor is ``min_free_bytes``, or `FLOOR_PART` of a file system that is small beside it. At the floor of its own file system
  the spool takes no more than a few records that wait (`agent.spool.spool`), so that lines still flow while acks come.

Owned by the reader thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from agent.config import Config
from agent.files.catalog import Catalog
from agent.files.contents import Lost
from agent.files.tail import Tail
from agent.reading.recorder import Recorder
from agent.spool.spool import Spool

log = logging.getLogger("agent.files")

LOOK_S = 1.0
"""How often."""


class Bounds:
    """Looks at what is held, and lets go of what is too much."""

    def __init__(self, config: Config, catalog: Catalog, recorder: Recorder, spool: Spool) -> None:
        self._held_bytes = config.held_bytes
        self._min_free_bytes = config.min_free_bytes
        self._catalog = catalog
        self._recorder = recorder
        self._spool = spool
        self._next_s = 0.0
        self.held_bytes = 0
        """What deleted files take now."""

    def keep(self, now_s: float) -> list[Tail]:
        """Within the bounds. Returns those that were let go of. Raises StorageFailed."""
        if now_s < self._next_s:
            return []
        self._next_s = now_s + LOOK_S
        held = sorted(self._held(), key=lambda item: (item[0].unread > 0, item[0].mtime_ns))
        self.held_bytes = sum(size for _, size in held)
        gone: list[Tail] = []
        lost = list(self._beyond(held, gone))
        if lost:
            self._recorder.lose(lost, self._catalog.told)
        return gone

    def _held(self) -> Iterator[tuple[Tail, int]]:
        for tail in self._catalog.open_tails():
            if tail.deleted or not tail.listed:
                try:
                    tail.look()
                    if tail.deleted:
                        yield tail, tail.taken_bytes()
                except OSError as error:
                    log.debug("%s: cannot be looked at: %s", tail.name, error)

    def _beyond(self, held: list[tuple[Tail, int]], gone: list[Tail]) -> Iterator[Lost]:
        short = {tail.inode[0]: self._short(tail) for tail, _ in held}
        for tail, size in held:
            reason = "free_space" if short[tail.inode[0]] > 0 else "held_bytes" if self.held_bytes > self._held_bytes else ""
            if reason and (lost := self._given_up(tail, reason)) is not None:
                short[tail.inode[0]] -= size
                self.held_bytes -= size
                gone.append(tail)
                if lost.lost_bytes:
                    yield lost

    def _short(self, tail: Tail) -> int:
        """How many bytes are missing to the floor of a file's file system."""
        try:
            return self._spool.disk.missing_to_floor(tail.open(), self._min_free_bytes)
        except OSError:
            return 0

    def _given_up(self, tail: Tail, reason: str) -> Lost | None:
        """None: it cannot be told yet which content that is, or that it is read."""
        try:
            if tail.state is None:
                self._catalog.identify(tail, time.monotonic(), final=True)
        except OSError as error:
            log.debug("%s: cannot be read: %s", tail.name, error)
        if tail.state is None:
            return None
        if not tail.unread:
            self._spool.sync()
        return self._catalog.give_up(tail, reason, time.time_ns())
