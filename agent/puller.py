"""One block from one file: whether it is due, whether the file is still what it was, and which whole events it holds.

Before every read the 4 KiB in front of the offset are compared with what was read before: a file that was cut and has grown
past the old offset between two looks is noticed. Owned by the reader thread.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable

from agent import identity, shape
from agent.blocks import BLOCK_BYTES, Cut, cut_block
from agent.catalog import Catalog
from agent.config import Config
from agent.identity import MARK_BYTES, FileState
from agent.recorder import Recorder
from agent.tail import Tail

RECORD_ROOM = 64 << 10
"""What a record may take beyond its lines: header, checkpoint, and what incompressible data grows by."""
SHAPED_GROWTH = 3
"""What transforms may make of a block at most: a wide encoding grows by half, and offsets and times come along."""


class Pulled(enum.Enum):
    """What came of it."""

    TAKEN = "there may be more to take at once"
    DONE = "no whole event lies behind the offset"
    UNFINISHED = "as done, but with time the last event may count as whole"
    WAITS = "there is something to take, not now"
    CHANGED = "the file holds other content than its state says: a walk settles it"


class Puller:
    """Takes blocks of files whose content is known. ``stopping``: whether everything is due at once."""

    def __init__(self, config: Config, catalog: Catalog, recorder: Recorder, *, stopping: Callable[[], bool]) -> None:
        self._flush_interval_s = config.flush_interval_s
        self._catalog = catalog
        self._recorder = recorder
        self._stopping = stopping
        self._plans = {source.name: shape.plan_of(source) for source in config.sources}
        self._buffer = bytearray(MARK_BYTES + BLOCK_BYTES)

    def pull(self, tail: Tail, state: FileState, now_s: float, *, final: bool) -> Pulled:
        """Take one block, if it is due. Raises OSError, StorageFull, StorageFailed."""
        reopened = not tail.is_open
        before = tail.size
        size = tail.look()
        if size != before:
            tail.grew_s = now_s
        if reopened and tail.generation != state.generation:
            self._catalog.other_content(tail)
            return Pulled.CHANGED
        if reopened or size < max(state.offset, state.size):
            self._catalog.check(tail)
            if tail.state is not state:
                return Pulled.CHANGED
        if size == state.offset:
            return Pulled.DONE
        urgent = final or self._stopping() or size - state.offset >= BLOCK_BYTES
        if not urgent and now_s < tail.read_s + self._flush_interval_s:
            self._catalog.see(tail)
            return Pulled.WAITS
        growth = 1 if self._plans[tail.source] is None else SHAPED_GROWTH
        if not self._recorder.is_ready(min(size - state.offset, BLOCK_BYTES) * growth + RECORD_ROOM, now_s):
            self._catalog.see(tail)
            return Pulled.WAITS
        return self._take(tail, state, size, now_s, final=final)

    def timeout_s(self, tail: Tail) -> float:
        """After how long without anything new the last event of a file counts as complete; 0: that is known at once."""
        plan = self._plans[tail.source]
        return plan.timeout_s if plan is not None else 0.0

    def is_ended(self, tail: Tail, now_s: float) -> bool:
        """Whether nothing came for so long."""
        timeout_s = self.timeout_s(tail)
        return timeout_s > 0 and now_s - tail.grew_s >= timeout_s

    def _take(self, tail: Tail, state: FileState, size: int, now_s: float, *, final: bool) -> Pulled:
        window_at = max(0, state.offset - MARK_BYTES)
        start = state.offset - window_at
        view = memoryview(self._buffer)
        end = os.preadv(tail.open(), [view[: start + BLOCK_BYTES]], window_at)
        seen, crc = state.recent[-1] if state.recent else state.front
        seen -= window_at
        if end < seen or (seen and identity.crc_before(self._buffer, seen) != crc):
            self._catalog.check(tail)
            # where the state is the same it changed back between the two looks
            return Pulled.TAKEN if tail.state is state else Pulled.CHANGED
        state.size = max(size, window_at + end)
        plan, shaped = self._plans[tail.source], None
        if plan is None:
            cut = cut_block(self._buffer, start, end, state.offset, final=final)
        else:
            front = tail.front(2) if plan.needs_front else b""
            flush = window_at + end == size and self.is_ended(tail, now_s)
            shaped = shape.apply(plan, bytes(view[start:end]), state.offset, final=final, flush=flush, front=front)
            cut = None if shaped is None else Cut(shaped.length, shaped.events, shaped.partial)
        if cut is None:
            return Pulled.UNFINISHED if plan is not None and plan.rule is not None else Pulled.DONE
        self._recorder.append(
            tail, state, view[: start + cut.length], window_at, cut.events, partial=cut.partial, shaped=shaped
        )
        tail.read_s = now_s
        tail.grew_s = now_s
        return Pulled.TAKEN
