"""Files take turns: a block of each that is due, in the order in which they became so.

What cannot be read just now holds up no other file: it is told once, and tried again at each walk. Owned by the reader thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from agent.config import Config
from agent.errors import StorageFailed, StorageFull
from agent.files.catalog import Catalog
from agent.files.expand import NotYet, Unfinished
from agent.files.tail import Tail
from agent.ledger import Ledger
from agent.reading.puller import Pulled, Puller
from agent.reading.recorder import Recorder

log = logging.getLogger("agent.reader")

SLICE_S = 0.05
"""How long one compressed file is expanded before other files have their turn."""


class Turns:
    """Which files are due, and what comes of reading them."""

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        recorder: Recorder,
        ledger: Ledger,
        *,
        stopping: Callable[[], bool],
        ask_walk: Callable[..., None],
    ) -> None:
        """``stopping``: whether everything is due at once; ``ask_walk``: a walk has something to settle, ``at_once`` or when
        it may."""
        self._flush_interval_s = config.flush_interval_s
        self._catalog = catalog
        self._recorder = recorder
        self._ledger = ledger
        self._ask_walk = ask_walk
        self._puller = Puller(config, catalog, recorder, stopping=stopping)
        self.due: dict[tuple[int, int], Tail] = {}
        self._unfinished: dict[tuple[int, int], Tail] = {}
        """Files whose last event may go on."""
        self.more = False
        """There is something to take at once."""
        self.parted_bytes = 0
        """Of events that were sent although they may go on: they still count as unread."""

    def next_s(self) -> float:
        """When the next file has its turn."""
        due = [tail.read_s + self._flush_interval_s for tail in self.due.values()]
        ends = [tail.grew_s + self._puller.timeout_s(tail) for tail in self._unfinished.values()]
        return min([*due, *ends], default=float("inf"))

    def leave(self, tail: Tail) -> None:
        """A file that was given up has no turn any more."""
        self.due.pop(tail.inode, None)
        self._unfinished.pop(tail.inode, None)

    def read_due(self) -> None:
        """A block of each file that is due, in turn, for as long as one flush interval."""
        now_s = time.monotonic()
        end_s = now_s + self._flush_interval_s
        for tail in [tail for tail in self._unfinished.values() if self._puller.is_ended(tail, end_s)]:
            self.due[tail.inode] = self._unfinished.pop(tail.inode)
        if not self.due:
            self._recorder.blocked = False
        self.more = bool(self.due) and now_s >= self._recorder.storage_retry_s
        while self.more and time.monotonic() < end_s:
            progress = self.pull_all()
            self.more = progress and bool(self.due)
        self._recorder.tell()

    def pull_all(self) -> bool:
        """A block of each file that is due; of the compressed ones only of the first that has any: taken in turns they would
        have to be expanded again and again."""
        progress = expanded = False
        for tail in list(self.due.values()):
            if tail.packed and expanded:
                continue
            made = self.pull_safely(tail, final=False)
            expanded |= tail.packed and made
            progress |= made
        return progress

    def pull_safely(self, tail: Tail, *, final: bool) -> bool:
        """Take one block of a file, if it is due. True when there may be more to take at once. Raises StorageFailed only."""
        self._catalog.slots.grant(SLICE_S)
        try:
            known = tail.state is not None
            progress = self._pull(tail, final=final)
            if known:
                tail.error = ""  # what could not be read for a while can be now
        except NotYet:
            return True
        except Unfinished:
            self.due.pop(tail.inode, None)
            return False
        except OSError as error:
            self.unreadable(tail, error)
            return False
        except StorageFull as error:
            return self._recorder.refused(error, time.monotonic())
        except StorageFailed:
            raise
        except Exception as error:
            self.unreadable(tail, error)
            return False
        return progress

    def _pull(self, tail: Tail, *, final: bool) -> bool:
        """Take one block of a file, if it is due. True when there may be more to take at once."""
        now_s = time.monotonic()
        if self._catalog.tails.get(tail.inode) is not tail:  # it was let go: asked once more it would count as new
            self.leave(tail)
            return False
        if tail.state is None:
            self.due.pop(tail.inode, None)
            self.identify(tail, now_s)
            return tail.inode in self.due
        pulled = self._puller.pull(tail, tail.state, now_s, final=final)
        if pulled is Pulled.DONE or pulled is Pulled.UNFINISHED:
            self.due.pop(tail.inode, None)
            self._catalog.at_end(tail)
            if not self._catalog.ends_told:
                self._ask_walk()
        if pulled is Pulled.UNFINISHED:
            self._unfinished[tail.inode] = tail
        if pulled is Pulled.CHANGED:
            self._ask_walk(at_once=True)
            self.due.pop(tail.inode, None)  # until the walk has told what that cost
        return pulled is Pulled.TAKEN

    def identify(self, tail: Tail, now_s: float, *, final: bool = False) -> None:
        """Find out which content a file holds; then it is due."""
        try:
            self._catalog.identify(tail, now_s, final=final)
        except StorageFailed:
            raise
        except NotYet:
            self.due[tail.inode] = tail
        except Exception as error:
            self.unreadable(tail, error)
        if tail.state is not None:
            self.due[tail.inode] = tail

    def check(self, tail: Tail) -> None:
        """Find out whether a file still holds what it is known for."""
        if tail.state is None or tail.packed:
            return
        try:
            self._catalog.check(tail)
        except Exception as error:
            self.unreadable(tail, error)

    def unreadable(self, tail: Tail, error: Exception) -> None:
        """The world's fault, or ours: neither holds up other files."""
        world = isinstance(error, OSError)
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else f"internal error: {type(error).__name__}"
        if tail.error != reason:
            tail.error = reason
            text = "%s: cannot be read: %s; it is tried again at each walk" + ("" if world else "; please report it")
            log.log(logging.WARNING if world else logging.ERROR, text, tail.name, reason, exc_info=None if world else error)
        if not world:
            self._ledger.add("internal_errors", 1)
        self.due.pop(tail.inode, None)

    def part(self, now_s: float) -> None:
        """Whoever reads these files next may never come: last lines, and events, that have no end yet are sent as they are."""
        for tail in list(self._catalog.tails.values()):
            if tail.state is None or not tail.unread or tail.error or not tail.ended:
                continue
            try:
                self.parted_bytes += self._puller.part(tail, tail.state, now_s)
            except StorageFailed as error:
                if not isinstance(error, StorageFull):
                    raise
            except Exception as error:
                self.unreadable(tail, error)
