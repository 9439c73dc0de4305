"""The reader: files in, records appended to the spool. One thread, which owns the catalog and every source file.

Promises:
- Bytes are read once on the common path: one read, one compression, one append. Python never touches a single line.
- A quiet file's line leaves at once; after that at most every ``flush_interval_s``, unless a whole block is there. Files with
  much to read take turns, a block each.
- When the spool is full nothing is read and nothing is lost: handles stay open, offsets stay where they are.
- A reader that ends because the disk failed under its spool hands its open files to the next one (`agent.files.holding`).

Order of a round: notices -> walk, if something came or went (`agent.reading.walk`) -> a block of each file that is due
(`agent.reading.turns`) -> notes of files (`agent.reading.notes`) and acks.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable

from agent import crash
from agent.config import Config
from agent.files import discover
from agent.files.bounds import Bounds
from agent.files.catalog import Catalog
from agent.files.contents import Origins
from agent.files.holding import Held
from agent.files.tail import Handles
from agent.files.wanted import Wanted
from agent.ledger import Ledger
from agent.reading.notes import Notes
from agent.reading.recorder import Recorder
from agent.reading.turns import Turns
from agent.reading.walk import Walk
from agent.spool.segment import SpoolHead, slim
from agent.spool.spool import Spool

log = logging.getLogger("agent.reader")

OTHER_HANDLES = 40
"""What the rest of the program opens: segments, connections, notices, the status socket."""
FULL_WAIT_S = 0.2
LAST_WALKS = 3
"""At the end, for what was found out on the way there."""


class Reader:
    """Runs in a thread of its own (`run`) until ``stop``; then reads to the end of every file, and returns."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        *,
        scope: str,
        agent: str,
        ledger: Ledger,
        on_append: Callable[[], None],
        tenant_id: Callable[[], str],
        held: Held | None = None,
    ) -> None:
        """``held``: what a reader before this one has left, and where this one leaves its open files."""
        self._config = config
        self._spool = spool
        self._scope = scope
        self._ledger = ledger
        self._tenant_id = tenant_id
        globs = [discover.Globs(source.name, source.include, source.exclude) for source in config.sources]
        recovery = spool.recovery
        self.catalog = Catalog(
            scope,
            recovery.states,
            recovery.tags,
            fresh=spool.fresh,
            make_origin=Origins(),
            handles=Handles(_handles(config.max_open_files)),
            wanted=Wanted(globs),
            olddirs={source.name: source.olddirs for source in config.sources},
            instances=frozenset(source.name for source in config.sources if source.identity == "instance"),
        )
        if left := self.catalog.left():
            log.info("%d files are of no source any more; they stay where they are, %d bytes of them unread",
                     len(left), sum(max(0, state.size - state.offset) for state in left))  # fmt: skip
        self._stop = threading.Event()
        self.recorder = Recorder(
            config, spool, self.catalog.states, scope=scope, agent=agent, ledger=ledger, on_append=on_append
        )
        self.turns = Turns(config, self.catalog, self.recorder, ledger, stopping=self._stop.is_set, ask_walk=self._ask_walk)
        self.walk = Walk(config, spool, self.catalog, self.recorder, self.turns, ledger, globs, scope=scope)
        self.bounds = Bounds(config, self.catalog, self.recorder, spool)
        self.notes = Notes(spool, self.catalog.states, self.recorder.told_sizes, scope=scope)
        self._held = held
        tails, self.recorder.losses = held.take() if held is not None else ([], [])
        self.catalog.adopt(tails)
        self.has_looked = False
        """Whether what the sources have is known: no files may also mean that none was looked for."""
        self._noted_s = 0.0
        self._stop_by_s = float("inf")
        self._quiet_s = 0.0
        self._parting = False
        self._at_once = threading.Event()

    @property
    def blocked(self) -> bool:
        """The spool is full, or its disk takes nothing."""
        return self.recorder.blocked

    @property
    def parted_bytes(self) -> int:
        """Of events that were sent although they may go on: they still count as unread."""
        return self.turns.parted_bytes

    def head(self) -> SpoolHead:
        """What a segment begins with."""
        at_work = {tail.state.origin for tail in self.catalog.tails.values() if tail.is_open and tail.state is not None}
        for state in self.catalog.states.values():
            if state.origin not in at_work:
                slim(state)
        return SpoolHead(
            self._scope,
            self._tenant_id(),
            self.catalog.all_states(),
            dict(self.catalog.tags),
            retention_days=self._ledger.retention_days,
            started=sorted(self.walk.starts.started),
        )

    def stop(self, *, within_s: float, quiet_s: float = 0.0, parting: bool = False) -> None:
        """Return from `run` when all there is has been read and nothing was added for ``quiet_s``; at the latest after
        ``within_s``. With 0 at once: after the block that is being read. ``parting``: nobody may follow; what has no end yet
        is sent as it stands."""
        self._quiet_s, self._parting = quiet_s, parting
        self._stop_by_s = time.monotonic() + within_s
        self._stop.set()
        if within_s <= 0:
            self._at_once.set()

    def unread_bytes(self) -> int:
        """What the files hold beyond their offsets, as last seen."""
        return sum(tail.unread for tail in list(self.catalog.tails.values())) + self.walk.ages.waiting_bytes

    def run(self) -> None:
        """Until `stop`. Raises StorageFailed when the spool has to be opened anew."""
        try:
            while not self._stop.is_set():
                self._round()
            self._read_to_the_end()
        finally:
            self.walk.watcher.close()
            self.release()

    def release(self) -> None:
        """Leave the open files to the next reader, or close them where none is to follow. Once more is fine."""
        held = self._held or Held()
        held.tails, held.losses = list(self.catalog.tails.values()), self.recorder.losses
        if self._held is None:
            held.close()

    def _ask_walk(self, *, at_once: bool = False) -> None:
        self.walk.ask(at_once=at_once)

    def _round(self) -> None:
        now_s = time.monotonic()
        if not self.has_looked:
            for state in [state for state in self.catalog.states.values() if state.lost]:
                self.recorder.take_back(state)  # what a kill came before
        if self.walk.is_due(now_s):
            self.walk.go(now_s)
        if self.catalog.searching and not self.walk.wanted:
            self.walk.settle(time.monotonic())
        self.turns.read_due()
        for tail in self.bounds.keep(now_s):
            self.turns.leave(tail)
        self.has_looked = True
        self._note_files(now_s)
        self._note_acks()
        for path in self.walk.watcher.wait(self._pause_s(), self._stop):
            self.walk.notice(path)

    def _pause_s(self) -> float:
        """How long nothing has to be done if no notice comes."""
        if self.blocked:
            return FULL_WAIT_S
        if self.turns.more or self.catalog.searching:
            return 0.0
        until = min(self.walk.wake_s(), self.turns.next_s())
        longest = self._config.flush_interval_s if self.walk.watcher.blind else 1.0
        return min(max(until - time.monotonic(), 0.0), longest)

    def _look_around(self, wait_s: float) -> None:
        """On the way to the end: what was added or rotated meanwhile."""
        for path in self.walk.watcher.wait(wait_s, self._at_once):
            self.walk.notice(path)
        now_s = time.monotonic()
        if self.walk.is_asked(now_s) or self.walk.watcher.blind:
            self.walk.go(now_s)

    def _note_files(self, now_s: float) -> None:
        if not self.catalog.is_cut and not self.recorder.losses:  # a note would say nothing of what was cut away
            self.notes.keep(self.turns.due.values(), now_s, full=self.blocked)

    def _note_acks(self) -> None:
        now_s = time.monotonic()
        if now_s - self._noted_s >= 1.0 and not self.blocked:
            self._noted_s = now_s
            self._spool.note_acks(self._tenant_id(), self._ledger.retention_days)

    def _read_to_the_end(self) -> None:
        """After `stop`: what the sources hold is read, and what is added by apps that are ending, too, as far as the spool
        has room."""
        walked = not self._at_once.is_set()
        if walked:
            self.walk.go(time.monotonic())
        quiet_since_s, walks = time.monotonic(), LAST_WALKS
        while walked and not self._at_once.is_set():
            progress = self.turns.pull_all()
            now_s = time.monotonic()
            if not progress and self.walk.wanted and walks:  # a file held other content: what that cost is to be told yet
                walks -= 1
                self.walk.go(now_s)
                continue
            grown_s = max((tail.grew_s for tail in self.catalog.tails.values()), default=0.0)
            quiet_since_s = now_s if progress or self.blocked else max(quiet_since_s, grown_s)
            end_s = min(self._stop_by_s, quiet_since_s + self._quiet_s)
            if now_s >= (self._stop_by_s if progress else end_s):
                if self._parting:
                    self.turns.part(now_s)
                break
            if not progress:
                self.recorder.tell()
                self._look_around(min(end_s - now_s, FULL_WAIT_S))
        crash.point("stop.read")
        if self.unread_bytes() or self.catalog.ends_to_note:
            self._spool.note_files()  # should they be gone at the next start, their bytes are known to be lost
        self._spool.sync()
        self.recorder.tell()


def _handles(wanted: int) -> int:
    """How many log files may be open at once: what is wanted, as far as the process may."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fit = max(allowed - OTHER_HANDLES, 1)
    if allowed == resource.RLIM_INFINITY or wanted <= fit:
        return wanted
    log.warning(
        "max_open_files is %d, but this process may open %d files: %d logs at once, in turns; raise its limit (ulimit -n, "
        "LimitNOFILE) or lower max_open_files",
        wanted,
        allowed,
        fit,
    )
    return fit
