"""A walk: every file that matches is looked at, and it is settled which content is where.

Promises:
- What came or went is seen soon after the notice of it, at the latest at the next walk by the clock. Walks of many files that
  nothing but time asks for cost little.
- A file that a source's `start` or `ignore_older` does not want is not read before that is recorded.
- A rotated file is kept open until it has been read to its end, and nothing was added for `ROTATED_IDLE_S` since it was
  rotated, and its bytes are synced. Its last line counts without a newline then, and only then; and only with proof that it
  was rotated or deleted, not because its folder cannot be looked into just now. So does that of a rotated file that still
  matches a source.

Order: watches -> what is there, and whether it still is what it was -> what was cut away is told -> who is new is read at
once, so that the next look-alike can be told from it -> what lost its file is looked for -> rotated files that are over are
let go.

Owned by the reader thread.
"""

from __future__ import annotations

import logging
import os
import time

from agent import crash
from agent.config import Config
from agent.errors import StorageFull
from agent.files import discover
from agent.files.aging import DAY_S, WAIT_S, Ages
from agent.files.catalog import Catalog
from agent.files.contents import Lost
from agent.files.discover import Found
from agent.files.expand import PACKED
from agent.files.starting import Starts
from agent.files.tail import Tail
from agent.ledger import Ledger
from agent.reading.recorder import Recorder
from agent.reading.turns import SLICE_S, Turns
from agent.spool.segment import SpoolHead
from agent.spool.spool import Spool
from agent.text import longline
from agent.text.blocks import BLOCK_BYTES

log = logging.getLogger("agent.reader")

ROTATED_IDLE_S = 60.0
NOWHERE_IDLE_S = 3600.0
"""How long the unfinished last line of a file that is gone from its path, without a successor there, waits: its folder may
come back, and the line may go on. Shipped in two pieces it is a line too many, never shipped it is lost."""
DELETED_IDLE_S = 10.0
WALK_COST_FACTOR = 20
"""A walk of many files that notices trigger is not repeated before this many times its own duration has passed."""

IDLE_COST_FACTOR = 400
DEAR_WALK_S = 0.02
"""A walk of thousands of files that nothing but time asks for waits for so many times the CPU time it takes."""


class Walk:
    """When it is time for the next one, and what it does."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        catalog: Catalog,
        recorder: Recorder,
        turns: Turns,
        ledger: Ledger,
        globs: list[discover.Globs],
        *,
        scope: str,
    ) -> None:
        self._config = config
        self._spool = spool
        self._catalog = catalog
        self._recorder = recorder
        self._turns = turns
        self._ledger = ledger
        self._globs = globs
        self._scope = scope
        recovery = spool.recovery
        self.starts = Starts(config, recovery.started, recovery.states.values())
        self.ages = Ages(config)
        self._ages_said: dict[str, tuple[int, int]] = {}
        self._wait_until_s = time.monotonic() + WAIT_S
        self.watcher = discover.Watcher(polling=config.polling)
        self._by_path: dict[str, Tail] = {}
        self._seen_packed: set[str] = set()
        """Compressed files that are none of ours, of which there was a notice since the last walk by the clock."""
        self.wanted = True
        """Something came or went."""
        self._after_s = 0.0
        self.next_s = 0.0
        """When the clock asks for one."""

    def ask(self, *, at_once: bool = False) -> None:
        """There is something for a walk to settle."""
        self.wanted = True
        if at_once:
            self._after_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Whether it is time."""
        decided = self.ages.waiting_bytes and (self._ledger.retention_days or now_s >= self._wait_until_s)
        return self.is_asked(now_s) or now_s >= self.next_s or bool(decided)

    def is_asked(self, now_s: float) -> bool:
        """Whether something came or went, and the last walk is long enough ago for what it cost."""
        return self.wanted and now_s >= self._after_s

    def wake_s(self) -> float:
        """When it will be time, as far as is known now."""
        return min(self.next_s, self._after_s) if self.wanted else self.next_s

    def notice(self, path: str) -> None:
        """Something happened at a path: its file is due, or a walk is."""
        tail = self._by_path.get(path)
        if tail is None:
            # while a rotation writes a compressed file there is no end of notices: one walk is enough to know it
            news = not path.endswith(PACKED) or path not in self._seen_packed or self._catalog.is_waiting
            self.wanted = self.wanted or news
            self._seen_packed.add(path)
            return
        self._turns.due[tail.inode] = tail
        try:
            stat = os.stat(path)
        except OSError:
            self.wanted = True
            return
        if (stat.st_dev, stat.st_ino) != tail.inode:
            self.wanted = True

    def go(self, now_s: float) -> None:
        """Look at every file that matches, and settle which content is where."""
        began_s, known, self.wanted = time.thread_time(), len(self._catalog.tails), False
        moved = self.watcher.watch(discover.folders(self._globs) | self._real_folders())
        changed = list(self._catalog.update(self._young(list(discover.find(self._globs)), now_s), now_s))
        self._turns.due.update((tail.inode, tail) for tail in changed)
        if any(tail.state is None and tail.first_seen_s == now_s for tail in changed):
            for tail in changed:  # what is under a name now may be what a newcomer was copied from
                self._turns.check(tail)
        if cut := self._catalog.cut():
            self._lose(cut)
        if moved:
            self._turns.due.update(self._catalog.tails)
            self.wanted = True  # a folder that came between the two steps above is in no notice
        if self.starts.pending and not self._begin_late():
            return
        for tail in list(self._catalog.tails.values()):
            if tail.state is None and not tail.packed:
                self._turns.identify(tail, now_s)
                if tail.state is not None:
                    self._turns.pull_safely(tail, final=False)  # once read, the next look-alike can be told from it
        self.settle(now_s)
        self._finish_rotated(now_s)
        tails = self._catalog.tails.values()
        self._by_path = {path: tail for tail in tails for path in (tail.path, tail.real_path)}
        done_s = time.monotonic()
        self._after_s = done_s + WALK_COST_FACTOR * (done_s - now_s)
        if done_s >= self.next_s:
            self._seen_packed.clear()
        cost_s = time.thread_time() - began_s
        rest_s = IDLE_COST_FACTOR * cost_s if cost_s >= DEAR_WALK_S and not self._is_waited_for(known) else 0.0
        self.next_s = done_s + max(self._config.rescan_interval_s, rest_s)
        if self.watcher.blind:
            self.next_s = max(done_s + self._config.flush_interval_s, self._after_s)

    def _is_waited_for(self, known: int) -> bool:
        """Whether the next walk has more to do than to look whether anything came: files to settle, to finish or to look for,
        losses to tell. Then this one may also have cost what no other will. ``known``: files before this walk."""
        tails = self._catalog.tails.values()
        if self._recorder.losses or self._catalog.is_waiting or len(tails) != known:
            return True
        return any(tail.state is None or not tail.listed for tail in tails)

    def settle(self, now_s: float) -> None:
        """Where contents are that have lost their files, and what is lost."""
        self._catalog.slots.grant(SLICE_S)
        lost = []
        for item in self._catalog.settle_missing(now_s, time.time_ns()):
            if isinstance(item, Lost):
                lost.append(item)
            else:
                self._turns.due[item.inode] = item
        self._lose(lost)

    def _lose(self, lost: list[Lost]) -> None:
        """Tell of losses. What damage has cost is told once: that it was has to be on disk."""
        ends = not self._catalog.ends_told
        self._recorder.lose(lost, self._catalog.told)
        if ends and self._catalog.ends_told:
            self._spool.note_files()
            self._catalog.ends_to_note = False

    def _young(self, found: list[Found], now_s: float) -> list[Found]:
        """All but the files that are too old to be opened."""
        inodes: set[int] = set()

        def is_known(one: Found) -> bool:
            if not inodes:
                inodes.update(state.inode for state in self._catalog.states.values())
                inodes.add(-1)
            tail = (one.stat.st_dev, one.stat.st_ino) in self._catalog.tails
            return tail or one.stat.st_ino in inodes or one.source in self.starts.pending

        days, waits = self._ledger.retention_days, now_s < self._wait_until_s
        kept = self.ages.wanted(found, is_known, retention_days=days, now_ns=time.time_ns(), waits=waits)
        for source, (files, size) in self.ages.ignored.items():
            if files > self._ages_said.get(source, (0, 0))[0]:
                limit_d = (self.ages.limit_s(source, days) or 0.0) / DAY_S
                text = (
                    "source %s: %d files (%d bytes) to which nobody wrote for %g days are not opened (ignore_older); written "
                )
                log.info(text + "to again, they are read", source, files, size, limit_d)
                self._ages_said[source] = files, size
        return kept

    def _begin_late(self) -> bool:
        """Skip, in the first walk of a source, what its `start` does not want. False: that cannot be recorded now, and until
        it can be nothing of these files may be read."""
        late, now_ns = [], time.time_ns()
        self._catalog.slots.grant(float("inf"))
        for tail in self._catalog.tails.values():
            if tail.state is None and tail.listed and self.starts.skips(tail.source, tail.mtime_ns, now_ns):
                try:
                    late += [tail] if self._catalog.begin_at_end(tail) else []
                except OSError as error:
                    self._turns.unreadable(tail, error)
        states = [tail.state for tail in late if tail.state is not None]
        names = [*self.starts.started, *self.starts.pending]
        try:
            self._spool.record_files(SpoolHead(self._scope, states=states, tags=self._catalog.tags, known=True, started=names))
        except StorageFull as error:
            self._recorder.refused(error, time.monotonic())
            self._catalog.forget(late)
            self._turns.due.clear()
            self.next_s = self._recorder.storage_retry_s
            return False
        self._recorder.told_sizes.update((state.origin, state.size) for state in states)
        self._ledger.add("start_skipped_bytes", skipped := sum(state.skipped for state in states))
        text = "first start of %s: %d bytes of %d files that were there are skipped, as `start` says"
        log.info(text, ", ".join(self.starts.pending), skipped, len(late))
        self.starts.settled()
        return True

    def _real_folders(self) -> set[str]:
        """Where links lead: changes are noticed there, not where the link is."""
        return {os.path.dirname(tail.real_path) for tail in self._catalog.tails.values() if tail.real_path != tail.path}

    def _finish_rotated(self, now_s: float) -> None:
        for tail in list(self._catalog.tails.values()):
            idle_s = now_s - max(tail.grew_s, tail.first_seen_s, tail.left_s)
            if (tail.listed and not (tail.unread and tail.rotated)) or (self._recorder.blocked and tail.unread):
                continue
            if idle_s < (DELETED_IDLE_S if tail.deleted else ROTATED_IDLE_S):
                continue
            if tail.packed and not tail.ended and tail.deleted:
                tail.give_up("it was deleted before it was written to its end")
            waits = tail.state is not None and longline.is_waiting(tail, tail.state, tail.size)
            if (tail.unread > BLOCK_BYTES and not waits) or not tail.ended:
                self._turns.due[tail.inode] = tail  # in turn with the others
                continue
            final = tail.is_final(may_be_nowhere=idle_s >= NOWHERE_IDLE_S)
            if tail.state is None:
                self._turns.identify(tail, now_s, final=final)
            while self._turns.pull_safely(tail, final=final) and not tail.packed:
                pass
            if not tail.listed:
                self._let_go(tail, now_s)

    def _let_go(self, tail: Tail, now_s: float) -> None:
        """A rotated or deleted file, once nothing is left of it, or nothing that could be told from a known file."""
        if tail.error or tail.unread or not tail.ended:
            return
        self._catalog.at_end(tail)  # its last event may have been taken just now
        if not self._catalog.ends_told:
            self.wanted = True
            return
        if tail.state is None:
            self._catalog.drop(tail)
            return
        self._spool.sync()
        crash.point("finish.synced")
        log.info("%s: read to its end, %d bytes; closed", tail.name, tail.state.offset)
        self._catalog.finish(tail, now_s, time.time_ns())
