"""The reader: files in, records appended to the spool. One thread, which owns the catalog and every source file.

Promises:
- Bytes are read once on the common path: one read, one compression, one append. Python never touches a single line.
- A quiet file's line leaves at once; after that at most every ``flush_interval_s``, unless a whole block is there. Files with
  much to read take turns, a block each.
- When the spool is full nothing is read and nothing is lost: handles stay open, offsets stay where they are.
- A rotated file is kept open until it has been read to its end, and nothing was added for `ROTATED_IDLE_S` since it was
  rotated, and its bytes are synced. Its last line counts without a newline then, and only then; and only with proof that it
  was rotated or deleted, not because its folder cannot be looked into just now. So does that of a rotated file that still
  matches a source.
- A reader that ends because the disk failed under its spool hands its open files to the next one (`agent.files.holding`).

Order of a round: notices -> walk, if something came or went -> a block of each file that is due -> ack notes.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable

from agent import crash
from agent.config import Config
from agent.errors import StorageFailed, StorageFull
from agent.files import discover
from agent.files.aging import DAY_S, WAIT_S, Ages
from agent.files.bounds import Bounds
from agent.files.catalog import Catalog
from agent.files.contents import Lost, Origins
from agent.files.discover import Found
from agent.files.expand import PACKED, NotYet, Unfinished
from agent.files.holding import Held
from agent.files.starting import Starts
from agent.files.tail import Handles, Tail
from agent.files.wanted import Wanted
from agent.ledger import Ledger
from agent.reading.puller import Pulled, Puller
from agent.reading.recorder import Recorder
from agent.spool.segment import SpoolHead, slim
from agent.spool.spool import Spool
from agent.text import longline
from agent.text.blocks import BLOCK_BYTES

log = logging.getLogger("agent.reader")

ROTATED_IDLE_S = 60.0
NOWHERE_IDLE_S = 3600.0
"""How long the unfinished last line of a file that is gone from its path, without a successor there, waits: its folder may
come back, and the line may go on. Shipped in two pieces it is a line too many, never shipped it is lost."""
DELETED_IDLE_S = 10.0
OTHER_HANDLES = 40
"""What the rest of the program opens: segments, connections, notices, the status socket."""
SLICE_S = 0.05
"""How long one compressed file is expanded before other files have their turn."""
FULL_WAIT_S = 0.2
WALK_COST_FACTOR = 20
"""A walk of many files that notices trigger is not repeated before this many times its own duration has passed."""

IDLE_COST_FACTOR = 400
DEAR_WALK_S = 0.02
"""A walk of thousands of files that nothing but time asks for waits for so many times the CPU time it takes."""


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
        self._unfinished: dict[tuple[int, int], Tail] = {}
        """Files whose last event may go on."""
        self._globs = [discover.Globs(source.name, source.include, source.exclude) for source in config.sources]
        recovery = spool.recovery
        self.catalog = Catalog(
            scope,
            recovery.states,
            recovery.tags,
            fresh=spool.fresh,
            make_origin=Origins(),
            handles=Handles(_handles(config.max_open_files)),
            wanted=Wanted(self._globs),
            olddirs={source.name: source.olddirs for source in config.sources},
            instances=frozenset(source.name for source in config.sources if source.identity == "instance"),
        )
        if left := self.catalog.left():
            log.info("%d files are of no source any more; they stay where they are, %d bytes of them unread",
                     len(left), sum(max(0, state.size - state.offset) for state in left))  # fmt: skip
        self.ages = Ages(config)
        self._ages_said: dict[str, tuple[int, int]] = {}
        self._wait_until_s = time.monotonic() + WAIT_S
        self._starts = Starts(config, recovery.started, recovery.states.values())
        self._stop = threading.Event()
        self.recorder = Recorder(
            config, spool, self.catalog.states, scope=scope, agent=agent, ledger=ledger, on_append=on_append
        )
        self._puller = Puller(config, self.catalog, self.recorder, stopping=self._stop.is_set)
        self.bounds = Bounds(config, self.catalog, self.recorder, spool)
        self._held = held
        tails, self.recorder.losses = held.take() if held is not None else ([], [])
        self.catalog.adopt(tails)
        self._watcher = discover.Watcher(polling=config.polling)
        self._due: dict[tuple[int, int], Tail] = {}
        self._by_path: dict[str, Tail] = {}
        self._seen_packed: set[str] = set()
        """Compressed files that are none of ours, of which there was a notice since the last walk by the clock."""
        self._walk_after_s = 0.0
        self._walk_wanted = True
        self._next_walk_s = 0.0
        self._noted_s = 0.0
        self._more = False
        self._stop_by_s = float("inf")
        self._quiet_s = 0.0
        self._parting = False
        self.parted_bytes = 0
        """Of events that were sent although they may go on: they still count as unread."""
        self._at_once = threading.Event()

    @property
    def blocked(self) -> bool:
        """The spool is full, or its disk takes nothing."""
        return self.recorder.blocked

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
            started=sorted(self._starts.started),
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
        return sum(tail.unread for tail in list(self.catalog.tails.values())) + self.ages.waiting_bytes

    def run(self) -> None:
        """Until `stop`. Raises StorageFailed when the spool has to be opened anew."""
        try:
            while not self._stop.is_set():
                self._round()
            self._read_to_the_end()
        finally:
            self._watcher.close()
            self.release()

    def release(self) -> None:
        """Leave the open files to the next reader, or close them where none is to follow. Once more is fine."""
        held = self._held or Held()
        held.tails, held.losses = list(self.catalog.tails.values()), self.recorder.losses
        if self._held is None:
            held.close()

    def _round(self) -> None:
        now_s = time.monotonic()
        decided = self.ages.waiting_bytes and (self._ledger.retention_days or now_s >= self._wait_until_s)
        if (self._walk_wanted and now_s >= self._walk_after_s) or now_s >= self._next_walk_s or decided:
            self._walk(now_s)
        if self.catalog.searching and not self._walk_wanted:
            self._settle(time.monotonic())
        self._read_due()
        for tail in self.bounds.keep(now_s):
            self._due.pop(tail.inode, None)
            self._unfinished.pop(tail.inode, None)
        self._note_acks()
        for path in self._watcher.wait(self._pause_s(), self._stop):
            self._notice(path)

    def _pause_s(self) -> float:
        """How long nothing has to be done if no notice comes."""
        if self.blocked:
            return FULL_WAIT_S
        if self._more or self.catalog.searching:
            return 0.0
        now_s = time.monotonic()
        until = self._next_walk_s
        if self._walk_wanted:
            until = min(until, self._walk_after_s)
        for tail in self._due.values():
            until = min(until, tail.read_s + self._config.flush_interval_s)
        for tail in self._unfinished.values():
            until = min(until, tail.grew_s + self._puller.timeout_s(tail))
        longest = self._config.flush_interval_s if self._watcher.blind else 1.0
        return min(max(until - now_s, 0.0), longest)

    def _notice(self, path: str) -> None:
        tail = self._by_path.get(path)
        if tail is None:
            # while a rotation writes a compressed file there is no end of notices: one walk is enough to know it
            news = not path.endswith(PACKED) or path not in self._seen_packed or self.catalog.is_waiting
            self._walk_wanted = self._walk_wanted or news
            self._seen_packed.add(path)
            return
        self._due[tail.inode] = tail
        try:
            stat = os.stat(path)
        except OSError:
            self._walk_wanted = True
            return
        if (stat.st_dev, stat.st_ino) != tail.inode:
            self._walk_wanted = True

    def _part(self, now_s: float) -> None:
        """Whoever reads these files next may never come: last lines, and events, that have no end yet are sent as they are."""
        for tail in list(self.catalog.tails.values()):
            if tail.state is None or not tail.unread or tail.error or not tail.ended:
                continue
            try:
                self.parted_bytes += self._puller.part(tail, tail.state, now_s)
            except StorageFailed as error:
                if not isinstance(error, StorageFull):
                    raise
            except Exception as error:
                self._unreadable(tail, error)

    def _look_around(self, wait_s: float) -> None:
        """On the way to the end: what was added or rotated meanwhile."""
        for path in self._watcher.wait(wait_s, self._at_once):
            self._notice(path)
        now_s = time.monotonic()
        if (self._walk_wanted and now_s >= self._walk_after_s) or self._watcher.blind:
            self._walk(now_s)

    # Walking -----------------------------------------------------------------------------------------------------------

    def _walk(self, now_s: float) -> None:
        """Look at every file that matches, and settle which content is where."""
        began_s, known, self._walk_wanted = time.thread_time(), len(self.catalog.tails), False
        moved = self._watcher.watch(discover.folders(self._globs) | self._real_folders())
        for tail in self.catalog.update(self._young(list(discover.find(self._globs)), now_s), now_s):
            self._due[tail.inode] = tail
        if cut := self.catalog.cut():
            self._lose(cut)
        if moved:
            self._due.update(self.catalog.tails)
            self._walk_wanted = True  # a folder that came between the two steps above is in no notice
        if self._starts.pending and not self._begin_late():
            return
        for tail in list(self.catalog.tails.values()):
            if tail.state is None and not tail.packed:
                self._identify(tail, now_s)
                if tail.state is not None:
                    self._pull_safely(tail, final=False)  # once read, the next look-alike can be told from it
        self._settle(now_s)
        self._finish_rotated(now_s)
        tails = self.catalog.tails.values()
        self._by_path = {path: tail for tail in tails for path in (tail.path, tail.real_path)}
        done_s = time.monotonic()
        self._walk_after_s = done_s + WALK_COST_FACTOR * (done_s - now_s)
        if done_s >= self._next_walk_s:
            self._seen_packed.clear()
        cost_s = time.thread_time() - began_s
        rest_s = IDLE_COST_FACTOR * cost_s if cost_s >= DEAR_WALK_S and not self._is_waited_for(known) else 0.0
        self._next_walk_s = done_s + max(self._config.rescan_interval_s, rest_s)
        if self._watcher.blind:
            self._next_walk_s = max(done_s + self._config.flush_interval_s, self._walk_after_s)

    def _is_waited_for(self, known: int) -> bool:
        """Whether the next walk has more to do than to look whether anything came: files to settle, to finish or to look for,
        losses to tell. Then this one may also have cost what no other will. ``known``: files before this walk."""
        tails = self.catalog.tails.values()
        if self.recorder.losses or self.catalog.is_waiting or len(tails) != known:
            return True
        return any(tail.state is None or not tail.listed for tail in tails)

    def _settle(self, now_s: float) -> None:
        """Where contents are that have lost their files, and what is lost."""
        self.catalog.slots.grant(SLICE_S)
        lost = []
        for item in self.catalog.settle_missing(now_s, time.time_ns()):
            if isinstance(item, Lost):
                lost.append(item)
            else:
                self._due[item.inode] = item
        self._lose(lost)

    def _lose(self, lost: list[Lost]) -> None:
        """Tell of losses. What damage has cost is told once: that it was has to be on disk."""
        ends = not self.catalog.ends_told
        self.recorder.lose(lost, self.catalog.told)
        if ends and self.catalog.ends_told:
            self._spool.note_files()
            self.catalog.ends_to_note = False

    def _young(self, found: list[Found], now_s: float) -> list[Found]:
        """All but the files that are too old to be opened."""
        inodes: set[int] = set()

        def is_known(one: Found) -> bool:
            if not inodes:
                inodes.update(state.inode for state in self.catalog.states.values())
                inodes.add(-1)
            tail = (one.stat.st_dev, one.stat.st_ino) in self.catalog.tails
            return tail or one.stat.st_ino in inodes or one.source in self._starts.pending

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
        self.catalog.slots.grant(float("inf"))
        for tail in self.catalog.tails.values():
            if tail.state is None and tail.listed and self._starts.skips(tail.source, tail.mtime_ns, now_ns):
                try:
                    late += [tail] if self.catalog.begin_at_end(tail) else []
                except OSError as error:
                    self._unreadable(tail, error)
        states = [tail.state for tail in late if tail.state is not None]
        names = [*self._starts.started, *self._starts.pending]
        try:
            self._spool.record_files(SpoolHead(self._scope, states=states, tags=self.catalog.tags, known=True, started=names))
        except StorageFull as error:
            self.recorder.refused(error, time.monotonic())
            self.catalog.forget(late)
            self._due.clear()
            self._next_walk_s = self.recorder.storage_retry_s
            return False
        self._ledger.add("start_skipped_bytes", skipped := sum(state.skipped for state in states))
        text = "first start of %s: %d bytes of %d files that were there are skipped, as `start` says"
        log.info(text, ", ".join(self._starts.pending), skipped, len(late))
        self._starts.settled()
        return True

    def _real_folders(self) -> set[str]:
        """Where links lead: changes are noticed there, not where the link is."""
        return {os.path.dirname(tail.real_path) for tail in self.catalog.tails.values() if tail.real_path != tail.path}

    def _identify(self, tail: Tail, now_s: float, *, final: bool = False) -> None:
        try:
            self.catalog.identify(tail, now_s, final=final)
        except StorageFailed:
            raise
        except NotYet:
            self._due[tail.inode] = tail
        except Exception as error:
            self._unreadable(tail, error)
        if tail.state is not None:
            self._due[tail.inode] = tail

    def _unreadable(self, tail: Tail, error: Exception) -> None:
        """The world's fault, or ours: neither holds up other files."""
        world = isinstance(error, OSError)
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else f"internal error: {type(error).__name__}"
        if tail.error != reason:
            tail.error = reason
            text = "%s: cannot be read: %s; it is tried again at each walk" + ("" if world else "; please report it")
            log.log(logging.WARNING if world else logging.ERROR, text, tail.name, reason, exc_info=None if world else error)
        if not world:
            self._ledger.add("internal_errors", 1)
        self._due.pop(tail.inode, None)

    def _finish_rotated(self, now_s: float) -> None:
        for tail in list(self.catalog.tails.values()):
            idle_s = now_s - max(tail.grew_s, tail.first_seen_s, tail.left_s)
            if (tail.listed and not (tail.unread and tail.rotated)) or (self.blocked and tail.unread):
                continue
            if idle_s < (DELETED_IDLE_S if tail.deleted else ROTATED_IDLE_S):
                continue
            if tail.packed and not tail.ended and tail.deleted:
                tail.give_up("it was deleted before it was written to its end")
            waits = tail.state is not None and longline.is_waiting(tail, tail.state, tail.size)
            if (tail.unread > BLOCK_BYTES and not waits) or not tail.ended:
                self._due[tail.inode] = tail  # in turn with the others
                continue
            final = tail.is_final(may_be_nowhere=idle_s >= NOWHERE_IDLE_S)
            if tail.state is None:
                self._identify(tail, now_s, final=final)
            while self._pull_safely(tail, final=final) and not tail.packed:
                pass
            if not tail.listed:
                self._let_go(tail, now_s)

    def _let_go(self, tail: Tail, now_s: float) -> None:
        """A rotated or deleted file, once nothing is left of it, or nothing that could be told from a known file."""
        if tail.error or tail.unread or not tail.ended or not self.catalog.ends_told:
            return
        if tail.state is None:
            self.catalog.drop(tail)
            return
        self._spool.sync()
        crash.point("finish.synced")
        log.info("%s: read to its end, %d bytes; closed", tail.name, tail.state.offset)
        self.catalog.finish(tail, now_s, time.time_ns())

    # Reading -----------------------------------------------------------------------------------------------------------

    def _read_due(self) -> None:
        """A block of each file that is due, in turn, for as long as one flush interval."""
        now_s = time.monotonic()
        end_s = now_s + self._config.flush_interval_s
        for tail in [tail for tail in self._unfinished.values() if self._puller.is_ended(tail, end_s)]:
            self._due[tail.inode] = self._unfinished.pop(tail.inode)
        if not self._due:
            self.recorder.blocked = False
        self._more = bool(self._due) and now_s >= self.recorder.storage_retry_s
        while self._more and time.monotonic() < end_s:
            progress = self._pull_all()
            self._more = progress and bool(self._due)
        self.recorder.tell()

    def _pull_all(self) -> bool:
        """A block of each file that is due; of the compressed ones only of the first that has any: taken in turns they would
        have to be expanded again and again."""
        progress = expanded = False
        for tail in list(self._due.values()):
            if tail.packed and expanded:
                continue
            made = self._pull_safely(tail, final=False)
            expanded |= tail.packed and made
            progress |= made
        return progress

    def _pull_safely(self, tail: Tail, *, final: bool) -> bool:
        self.catalog.slots.grant(SLICE_S)
        try:
            known = tail.state is not None
            progress = self._pull(tail, final=final)
            if known:
                tail.error = ""  # what could not be read for a while can be now
        except NotYet:
            return True
        except Unfinished:
            self._due.pop(tail.inode, None)
            return False
        except OSError as error:
            self._unreadable(tail, error)
            return False
        except StorageFull as error:
            return self.recorder.refused(error, time.monotonic())
        except StorageFailed:
            raise
        except Exception as error:
            self._unreadable(tail, error)
            return False
        return progress

    def _pull(self, tail: Tail, *, final: bool) -> bool:
        """Take one block of a file, if it is due. True when there may be more to take at once."""
        now_s = time.monotonic()
        if tail.state is None:
            self._due.pop(tail.inode, None)
            self._identify(tail, now_s)
            return tail.inode in self._due
        pulled = self._puller.pull(tail, tail.state, now_s, final=final)
        if pulled is Pulled.DONE or pulled is Pulled.UNFINISHED:
            self._due.pop(tail.inode, None)
            self.catalog.at_end(tail)
            self._walk_wanted = self._walk_wanted or not self.catalog.ends_told
        if pulled is Pulled.UNFINISHED:
            self._unfinished[tail.inode] = tail
        if pulled is Pulled.CHANGED:
            self._walk_wanted, self._walk_after_s = True, 0.0
            self._due.pop(tail.inode, None)  # until the walk has told what that cost
        return pulled is Pulled.TAKEN

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
            self._walk(time.monotonic())
        quiet_since_s = time.monotonic()
        while walked and not self._at_once.is_set():
            progress = self._pull_all()
            now_s = time.monotonic()
            grown_s = max((tail.grew_s for tail in self.catalog.tails.values()), default=0.0)
            quiet_since_s = now_s if progress or self.blocked else max(quiet_since_s, grown_s)
            end_s = min(self._stop_by_s, quiet_since_s + self._quiet_s)
            if now_s >= (self._stop_by_s if progress else end_s):
                if self._parting:
                    self._part(now_s)
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
