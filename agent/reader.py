"""The reader: files in, records appended to the spool. One thread, which owns the catalog and every source file.

Promises:
- Bytes are read once on the common path: one read, one compression, one append. Python never touches a single line.
- Before every read the 4 KiB in front of the offset are compared with what was read before: a file that was cut and has
  grown past the old offset between two looks is noticed.
- A quiet file's line leaves at once; after that at most every ``flush_interval_s``, unless a whole block is there. Files with
  much to read take turns, a block each.
- When the spool is full nothing is read and nothing is lost: handles stay open, offsets stay where they are.
- A rotated file is kept open until it has been read to its end and nothing was added for `ROTATED_IDLE_S`, and its bytes are
  synced. Its last line counts without a newline then, and only then; and only with proof that it was rotated or deleted, not
  because its folder cannot be looked into just now. So does that of a rotated file that still matches a source.
- A reader that ends because the disk failed under its spool hands its open files to the next one (`agent.holding`).

Order of a round: notices -> walk, if something came or went -> a block of each file that is due -> ack notes.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from agent import crash, discover, identity, shape, wire
from agent.blocks import BLOCK_BYTES, Cut, cut_block
from agent.catalog import Catalog, Lost, Origins
from agent.codec import compress
from agent.config import Config, Source
from agent.errors import StorageFailed, StorageFull
from agent.holding import Held
from agent.identity import BODY_AT, MARK_BYTES, FileState
from agent.ledger import Ledger
from agent.logs import REPEAT_S, Fault
from agent.segment import Checkpoint, SpoolHead, encode_checkpoint, merge, slim
from agent.spool import Spool, loss_record
from agent.tail import Handles, Tail

log = logging.getLogger("agent.reader")

ROTATED_IDLE_S = 60.0
NOWHERE_IDLE_S = 3600.0
"""How long the unfinished last line of a file that is gone from its path, without a successor there, waits: its folder may
come back, and the line may go on. Shipped in two pieces it is a line too many, never shipped it is lost."""
DELETED_IDLE_S = 10.0
OTHER_HANDLES = 40
"""What the rest of the program opens: segments, connections, notices, the status socket."""
FULL_WAIT_S = 0.2
STORAGE_RETRY_S = 1.0
"""A disk that takes nothing is asked again this often, with one record: reading and compressing for nothing costs CPU."""
WALK_COST_FACTOR = 20
"""A walk of many files that notices trigger is not repeated before this many times its own duration has passed."""
RECORD_ROOM = 64 << 10
"""What a record may take beyond its lines: header, checkpoint, and what incompressible data grows by."""
SHAPED_GROWTH = 3
"""What transforms may make of a block at most: a wide encoding grows by half, and offsets and times come along."""
TOLD_BYTES = 3 << 20
TOLD_AFTER_S = 0.02
"""While there is much to read the shipper is told once for so many bytes, or after so long: about a request's worth, and a
quarter of the shipper's CPU."""


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
        self._agent = agent
        self._ledger = ledger
        self._on_append = on_append
        self._tenant_id = tenant_id
        self._sources = {source.name: source for source in config.sources}
        self._plans = {source.name: shape.plan_of(source) for source in config.sources}
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
        )
        self._held = held
        tails, self._untold = held.take() if held is not None else ([], [])
        self.catalog.adopt(tails)
        self._watcher = discover.Watcher(polling=config.polling)
        self._stop = threading.Event()
        self._due: dict[tuple[int, int], Tail] = {}
        self._by_path: dict[str, Tail] = {}
        self._buffer = bytearray(MARK_BYTES + BLOCK_BYTES)
        self._boot = os.urandom(4).hex()
        self._records = 0
        self._walk_after_s = 0.0
        self._walk_wanted = True
        self._next_walk_s = 0.0
        self._noted_s = 0.0
        self._more = False
        self._untold_bytes = 0
        self._told_s = 0.0
        self._stop_by_s = float("inf")
        self._storage = Fault(log, "writing to the spool")
        self._storage_retry_s = 0.0
        self._full_said_s = float("-inf")
        self.blocked = False
        """The spool is full, or its disk takes nothing."""

    def head(self) -> SpoolHead:
        """What a segment begins with."""
        at_work = {tail.state.origin for tail in self.catalog.tails.values() if tail.is_open and tail.state is not None}
        for state in self.catalog.states.values():
            if state.origin not in at_work:
                slim(state)
        return SpoolHead(self._scope, self._tenant_id(), self.catalog.all_states(), dict(self.catalog.tags))

    def stop(self, *, within_s: float) -> None:
        """Read what is there and return from `run`, at the latest after ``within_s``."""
        self._stop_by_s = time.monotonic() + within_s
        self._stop.set()

    def unread_bytes(self) -> int:
        """What the files hold beyond their offsets, as last seen."""
        return sum(tail.unread for tail in list(self.catalog.tails.values()))

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
        held.tails, held.losses = list(self.catalog.tails.values()), self._untold
        if self._held is None:
            held.close()

    def _round(self) -> None:
        now_s = time.monotonic()
        if (self._walk_wanted and now_s >= self._walk_after_s) or now_s >= self._next_walk_s:
            self._walk(now_s)
        self._read_due()
        self._note_acks()
        for path in self._watcher.wait(self._pause_s(), self._stop):
            self._notice(path)

    def _pause_s(self) -> float:
        """How long nothing has to be done if no notice comes."""
        if self.blocked:
            return FULL_WAIT_S
        if self._more:
            return 0.0
        now_s = time.monotonic()
        until = self._next_walk_s
        if self._walk_wanted:
            until = min(until, self._walk_after_s)
        for tail in self._due.values():
            until = min(until, tail.read_s + self._config.flush_interval_s)
        for tail in self._unfinished.values():
            until = min(until, tail.grew_s + self._timeout_s(tail))
        longest = self._config.flush_interval_s if self._watcher.blind else 1.0
        return min(max(until - now_s, 0.0), longest)

    def _notice(self, path: str) -> None:
        tail = self._by_path.get(path)
        if tail is None:
            self._walk_wanted = self._walk_wanted or not path.endswith(discover.COMPRESSED)
            return
        self._due[tail.inode] = tail
        try:
            stat = os.stat(path)
        except OSError:
            self._walk_wanted = True
            return
        if (stat.st_dev, stat.st_ino) != tail.inode:
            self._walk_wanted = True

    # Walking -----------------------------------------------------------------------------------------------------------

    def _walk(self, now_s: float) -> None:
        """Look at every file that matches, and settle which content is where."""
        self._walk_wanted = False
        moved = self._watcher.watch(discover.folders(self._globs) | self._real_folders())
        for tail in self.catalog.update(list(discover.find(self._globs)), now_s):
            self._due[tail.inode] = tail
        if moved:
            self._due.update(self.catalog.tails)
        for tail in list(self.catalog.tails.values()):
            if tail.state is None:
                self._identify(tail, now_s)
                if tail.state is not None:
                    self._pull_safely(tail, final=False)  # once read, the next look-alike can be told from it
        lost = []
        for item in self.catalog.settle_missing(now_s, time.time_ns()):
            if isinstance(item, Lost):
                lost.append(item)
            else:
                self._due[item.inode] = item
        self._write_losses(lost)
        self._finish_rotated(now_s)
        tails = self.catalog.tails.values()
        self._by_path = {path: tail for tail in tails for path in (tail.path, tail.real_path)}
        done_s = time.monotonic()
        self._walk_after_s = done_s + WALK_COST_FACTOR * (done_s - now_s)
        self._next_walk_s = done_s + self._config.rescan_interval_s
        if self._watcher.blind:
            self._next_walk_s = max(done_s + self._config.flush_interval_s, self._walk_after_s)

    def _real_folders(self) -> set[str]:
        """Where links lead: changes are noticed there, not where the link is."""
        return {os.path.dirname(tail.real_path) for tail in self.catalog.tails.values() if tail.real_path != tail.path}

    def _identify(self, tail: Tail, now_s: float, *, final: bool = False) -> None:
        try:
            self.catalog.identify(tail, now_s, final=final)
        except StorageFailed:
            raise
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
            idle_s = now_s - max(tail.grew_s, tail.first_seen_s)
            if (tail.listed and not (tail.unread and tail.rotated)) or (self.blocked and tail.unread):
                continue
            if idle_s < (DELETED_IDLE_S if tail.deleted else ROTATED_IDLE_S):
                continue
            if tail.unread > BLOCK_BYTES:
                self._due[tail.inode] = tail  # in turn with the others
                continue
            final = tail.is_final(may_be_nowhere=idle_s >= NOWHERE_IDLE_S)
            if tail.state is None:
                self._identify(tail, now_s, final=final)
            while self._pull_safely(tail, final=final):
                pass
            if not tail.listed:
                self._let_go(tail, now_s)

    def _let_go(self, tail: Tail, now_s: float) -> None:
        """A rotated or deleted file, once nothing is left of it, or nothing that could be told from a known file."""
        if tail.error or tail.unread:
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
        for tail in [tail for tail in self._unfinished.values() if self._is_ended(tail, end_s)]:
            self._due[tail.inode] = self._unfinished.pop(tail.inode)
        if not self._due:
            self.blocked = False
        self._more = bool(self._due) and now_s >= self._storage_retry_s
        while self._more and time.monotonic() < end_s:
            progress = False
            for tail in list(self._due.values()):
                progress |= self._pull_safely(tail, final=False)
            self._more = progress and bool(self._due)
        self._tell()

    def _pull_safely(self, tail: Tail, *, final: bool) -> bool:
        try:
            progress = self._pull(tail, final=final)
        except OSError as error:
            self._unreadable(tail, error)
            return False
        except StorageFull as error:
            if self._gives_up():
                return True
            now_s = time.monotonic()
            self._storage.seen(f"{error}; reading waits, the sources hold the data", now_s)
            self._storage_retry_s = now_s + STORAGE_RETRY_S
            self.blocked = True
            return False
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
            return tail.state is not None
        reopened = not tail.is_open
        before = tail.size
        size = tail.look()
        state = tail.state
        if size != before:
            tail.grew_s = now_s
        if reopened and tail.generation != state.generation:
            self._changed(tail)
            return False
        if reopened or size < max(state.offset, state.size):
            self.catalog.check(tail)
            if tail.state is not state:
                self._changed(tail, again=tail.state is not None)
                return False
        if size == state.offset:
            self._due.pop(tail.inode, None)
            return False
        urgent = final or self._stop.is_set() or size - state.offset >= BLOCK_BYTES
        if not urgent and now_s < tail.read_s + self._config.flush_interval_s:
            self.catalog.see(tail)
            return False
        growth = 1 if self._plans[tail.source] is None else SHAPED_GROWTH
        if not self._has_room(min(size - state.offset, BLOCK_BYTES) * growth + RECORD_ROOM):
            if now_s - self._full_said_s >= REPEAT_S:
                log.warning("the spool is full (%d bytes): reading waits for acks", self._spool.size_bytes)
                self._full_said_s = now_s
            self.blocked = True
            self.catalog.see(tail)
            return False
        self.blocked = now_s < self._storage_retry_s
        if self.blocked:
            return False
        return self._take(tail, state, size, now_s, final=final)

    def _has_room(self, length: int) -> bool:
        """Whether the spool has room for a record, also by giving up what it has held longest, where that is wanted."""
        while not self._spool.room(length):
            if not self._gives_up():
                return False
        return True

    def _gives_up(self) -> bool:
        """Where that is wanted, make room by giving up a segment. Whether there was one."""
        losses = self._spool.drop_oldest(self._loss_record) if self._config.spool.policy == "drop_oldest" else ()
        for loss in losses:
            log.error(
                "%s: %d bytes (%d events) lost from byte %d on: %s; raise spool.max_bytes, or choose spool.policy block",
                loss.path, loss.lost_bytes, loss.events, loss.offset, loss.reason,
            )  # fmt: skip
            self._ledger.lost(loss.reason, loss.lost_bytes, loss.path)
        if losses:
            self._on_append()
        return bool(losses)

    def _loss_record(self, losses: tuple[wire.Loss, ...]) -> bytes:
        name, now_ns = self._next_id(), time.time_ns()
        return loss_record(losses, record_id=name, agent=self._agent, scope=self._scope, observed_ns=now_ns)

    def _changed(self, tail: Tail, *, again: bool = False) -> None:
        if not again and tail.state is not None:
            self.catalog.other_content(tail)
        self._walk_wanted = True
        self._walk_after_s = 0.0
        self._due[tail.inode] = tail

    def _take(self, tail: Tail, state: FileState, size: int, now_s: float, *, final: bool) -> bool:
        window_at = max(0, state.offset - MARK_BYTES)
        start = state.offset - window_at
        view = memoryview(self._buffer)
        end = os.preadv(tail.open(), [view[: start + BLOCK_BYTES]], window_at)
        seen, crc = state.recent[-1] if state.recent else state.front
        seen -= window_at
        if end < seen or (seen and identity.crc_before(self._buffer, seen) != crc):
            self.catalog.check(tail)
            if tail.state is state:
                return True  # it changed back between the two looks
            self._changed(tail, again=True)
            return False
        state.size = max(size, window_at + end)
        plan, shaped = self._plans[tail.source], None
        if plan is None:
            cut = cut_block(self._buffer, start, end, state.offset, final=final)
        else:
            front = tail.front(2) if plan.needs_front else b""
            flush = window_at + end == size and self._is_ended(tail, now_s)
            shaped = shape.apply(plan, bytes(view[start:end]), state.offset, final=final, flush=flush, front=front)
            cut = None if shaped is None else Cut(shaped.length, shaped.events, shaped.partial)
        if cut is None:
            self._due.pop(tail.inode, None)
            if plan is not None and plan.rule is not None:
                self._unfinished[tail.inode] = tail
            return False
        self._append(tail, state, view[: start + cut.length], start, window_at, cut.events, partial=cut.partial, shaped=shaped)
        tail.read_s = now_s
        tail.grew_s = now_s
        return True

    def _timeout_s(self, tail: Tail) -> float:
        plan = self._plans[tail.source]
        return plan.timeout_s if plan is not None else 0.0

    def _is_ended(self, tail: Tail, now_s: float) -> bool:
        """Whether the last event of a file counts as complete, because nothing came for so long."""
        timeout_s = self._timeout_s(tail)
        return timeout_s > 0 and now_s - tail.grew_s >= timeout_s

    def _append(
        self,
        tail: Tail,
        state: FileState,
        window: memoryview,
        start: int,
        window_at: int,
        events: int,
        *,
        partial: bool,
        shaped: shape.Shaped | None,
    ) -> None:
        source = self._sources[tail.source]
        offset, to = state.offset, window_at + len(window)
        change = msgspec.structs.replace(state, marks={}, recent=[])
        identity.advance(change, window, window_at, to)
        if not window_at and to >= BODY_AT:  # known from now on, also if nothing is ever appended
            change.body_id = identity.file_id(self._scope, tail.source, bytes(window[:BODY_AT]), 0)
        reproducible = not (partial or (state.tag and offset < BODY_AT)) and (shaped is None or shaped.reproducible)
        flags = wire.REPLAY * (offset < state.replay_until) | wire.REPRODUCIBLE * reproducible | wire.PARTIAL * partial
        header = wire.Header(
            wire.DATA,
            self._next_id(),
            agent=self._agent,
            scope=self._scope,
            source=tail.source,
            service=source.service or source.name,
            path=tail.name,
            file_id=state.head_id if offset < BODY_AT else state.body_id,
            origin=state.origin,
            base_offset=offset,
            source_from=offset,
            source_to=to,
            raw_bytes=len(window) - start,
            events=events,
            format=source.format,
            observed_ns=time.time_ns(),
            flags=flags,
            labels=source.labels,
            fields=_fields(source),
            checkpoint=encode_checkpoint(Checkpoint(change, tail.replaces)),
        )
        if shaped is not None:
            header = shaped.header(header)
        self._spool.append(wire.encode_record(header, compress(window[start:] if shaped is None else shaped.payload)))
        self._storage.over()
        tail.replaces = ""
        tail.state = self.catalog.states[state.origin] = merge(state, change)
        crash.point("append.applied")
        if not reproducible:
            self._spool.sync()
        self._ledger.read(events, len(window) - start)
        self._untold_bytes += len(window) - start
        if self._untold_bytes >= TOLD_BYTES or time.monotonic() - self._told_s >= TOLD_AFTER_S:
            self._tell()

    def _tell(self) -> None:
        """Tell the shipper that there is something new, if there is."""
        if self._untold_bytes:
            self._untold_bytes, self._told_s = 0, time.monotonic()
            self._on_append()

    def _next_id(self) -> str:
        self._records += 1
        return f"{self._boot}{self._records:08x}"

    def _write_losses(self, lost: Iterable[Lost]) -> None:
        """Losses go the way of the data: through the spool, synced at once, since nobody could count them again."""
        now_ns = time.time_ns()
        known = {loss.loss_id for loss in self._untold}
        found = (
            wire.Loss(
                f"{state.origin}-{at:x}" + f"-{lost_bytes:x}" * exact,
                state.path,
                state.source,
                reason,
                lost_bytes,
                not exact,
                at,
                state.head_id,
                now_ns,
            )
            for state, reason, lost_bytes, at, exact in lost
        )
        losses = [loss for loss in found if loss.loss_id not in known]
        for loss in losses:
            least = "at least " * loss.at_least
            log.error("%s: %s%d bytes lost from byte %d on: %s", loss.path, least, loss.lost_bytes, loss.offset, loss.reason)
            self._ledger.lost(loss.reason, loss.lost_bytes, loss.path)
        self._untold += losses
        if not self._untold:
            return
        told = tuple(self._untold)
        crash.point("loss.before")
        try:
            self._spool.append(self._loss_record(told))
        except StorageFull:
            return  # the next walk tells; should the agent end before, the next start finds the loss again
        crash.point("loss.appended")
        self._spool.sync()
        self._untold.clear()
        self.catalog.told()
        crash.point("loss.synced")
        self._on_append()

    def _note_acks(self) -> None:
        now_s = time.monotonic()
        if now_s - self._noted_s >= 1.0 and not self.blocked:
            self._noted_s = now_s
            self._spool.note_acks(self._tenant_id())

    def _read_to_the_end(self) -> None:
        """After `stop`: what the sources hold now is read, as far as the spool has room."""
        self._walk(time.monotonic())
        progress = True
        while progress and not self.blocked and time.monotonic() < self._stop_by_s:
            progress = False
            for tail in list(self._due.values()):
                progress |= self._pull_safely(tail, final=False)
        crash.point("stop.read")
        if self.unread_bytes():
            self._spool.note_files()  # should they be gone at the next start, their bytes are known to be lost
        self._spool.sync()
        self._tell()


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


def _fields(source: Source) -> wire.Fields:
    return wire.Fields(source.fields.time, source.fields.level, source.fields.message)
