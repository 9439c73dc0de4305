"""One block from one file: whether it is due, whether the file is still what it was, and which whole events it holds.

Before every read the 4 KiB in front of the offset are compared with what was read before: a file that was cut and has grown
past the old offset between two looks is noticed. Owned by the reader thread.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from agent import wire
from agent.config import Config
from agent.files import gaps, identity
from agent.files.catalog import Catalog
from agent.files.contents import Lost
from agent.files.identity import BODY_AT, MARK_BYTES, FileState
from agent.files.tail import Gap, Tail
from agent.reading import memory
from agent.reading.recorder import Recorder
from agent.text import longline, shape
from agent.text.blocks import BLOCK_BYTES, Cut, cut_block, is_too_long
from agent.text.lines import newline_of
from agent.text.packing import Shaped

RECORD_ROOM = 64 << 10
"""What a record may take beyond its lines: header, checkpoint, and what incompressible data grows by."""
SHAPED_GROWTH = 3
"""What transforms may make of a block at most: a wide encoding grows by half, and offsets and times come along."""
FARTHEST = 1 << 50
"""No line ends behind it."""
GAP_SETTLE_S = 1.0


class _Window(NamedTuple):
    """What the buffer holds: bytes of the file from ``at`` on, those of interest at indices ``start`` to ``end``."""

    at: int
    start: int
    end: int


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
        if any(plan is not None for plan in self._plans.values()):
            memory.keep_freed()
        self._buffer = bytearray(MARK_BYTES + BLOCK_BYTES)

    def pull(self, tail: Tail, state: FileState, now_s: float, *, final: bool) -> Pulled:
        """Take one block, if it is due. Raises OSError, StorageFull, StorageFailed."""
        reopened = not tail.is_open
        before = tail.size
        if tail.packed and tail.look() >= 0 and state.packed == tail.stamp:
            return Pulled.DONE  # all that was wanted of it was read, and it is as it was
        size = tail.reach(state.offset + BLOCK_BYTES)
        if size != before:
            tail.grew_s = now_s
        if reopened and tail.generation != state.generation:
            self._catalog.other_content(tail)
            return Pulled.CHANGED
        if (reopened and not tail.packed) or tail.unchecked or size < max(state.offset, state.size):
            self._catalog.check(tail)
            if tail.state is not state:
                return Pulled.CHANGED
        if size == state.offset:
            if tail.mtime_ns != tail.compared_ns and not tail.packed:  # perhaps written over, to the same length
                tail.compared_ns = tail.mtime_ns
                self._catalog.check(tail)
            return Pulled.DONE if tail.state is state else Pulled.CHANGED
        waits = tail.ends_blank or longline.is_waiting(tail, state, size)
        urgent = final or self._stopping() or (size - state.offset >= BLOCK_BYTES and not waits)
        if not urgent and now_s < tail.read_s + self._flush_interval_s:
            self._catalog.see(tail)
            return Pulled.WAITS
        growth = 1 if self._plans[tail.source] is None else SHAPED_GROWTH
        if not self._recorder.is_ready(min(size - state.offset, BLOCK_BYTES) * growth + RECORD_ROOM, now_s):
            self._catalog.see(tail)
            return Pulled.WAITS
        return self._take(tail, state, size, now_s, final=final)

    def part(self, tail: Tail, state: FileState, now_s: float) -> int:
        """The end of the agent comes: take what is left of a file as it stands, and leave its offset (`Recorder.part`).
        Returns how many bytes that was. Raises OSError, StorageFull, StorageFailed."""
        size = tail.look()
        if not 0 < size - state.offset <= BLOCK_BYTES:
            return 0
        window = self._read(tail, state.offset)
        whole = window.at + window.end == size and self._goes_on(tail, state, window)
        if not whole or self._first_gap(tail, state.offset, window) != window.end:
            return 0
        cut, shaped = self._cut(tail, state.offset, window, window.end, now_s, final=True)
        if cut is None or not cut.events or window.start + cut.length != window.end:
            return 0
        if not self._recorder.is_ready(cut.length * SHAPED_GROWTH + RECORD_ROOM, now_s):
            return 0
        self._recorder.part(tail, state, memoryview(self._buffer)[: window.end], window.at, cut.events, shaped=shaped)
        return cut.length

    def timeout_s(self, tail: Tail) -> float:
        """After how long without anything new the last event of a file counts as complete; 0: that is known at once."""
        plan = self._plans[tail.source]
        return plan.timeout_s if plan is not None else 0.0

    def is_ended(self, tail: Tail, now_s: float) -> bool:
        """Whether nothing came for so long."""
        timeout_s = self.timeout_s(tail)
        return timeout_s > 0 and now_s - tail.grew_s >= timeout_s

    def _take(self, tail: Tail, state: FileState, size: int, now_s: float, *, final: bool) -> Pulled:
        begin, ended = state.offset, None
        if longline.is_begun(tail, state):
            ended = self._end_of_line(tail, state, begin, size, final=final)
            if ended is None:
                return self._waits_for_end(tail, state, tail.size, now_s)
        window, stop, passed = _Window(begin, 0, 0), 0, None
        if not self._is_in_gap(tail, begin):
            window = self._read(tail, begin)
            if not self._goes_on(tail, state, window):
                self._catalog.check(tail)
                # where the state is the same it changed back between the two looks
                return Pulled.TAKEN if tail.state is state else Pulled.CHANGED
            tail.compared_ns = tail.mtime_ns
            state.size = max(size, window.at + window.end)
            stop = self._first_gap(tail, begin, window)
        if stop == window.start:
            behind = self._behind_gap(tail, begin, size, now_s, final=final)
            if isinstance(behind, Pulled):
                return behind
            passed = self._gap_at(tail, begin)
            begin, window = behind, self._read(tail, behind)
            stop = self._first_gap(tail, begin, window)
        cut, shaped = self._cut(tail, begin, window, stop, now_s, final=final and stop == window.end)
        if cut is None and window.start < stop < window.end:
            if not tail.packed:
                at = begin + stop - window.start
                behind = self._behind_gap(tail, at, size, now_s, final=final, before=passed)
                if isinstance(behind, Pulled):
                    return behind
            cut, shaped = self._cut(tail, begin, window, stop, now_s, final=True)
        if cut is None and stop == window.end and is_too_long(window.end - window.start):
            if tail.packed and not tail.kept_block[1]:  # in its bytes one does not go back
                kept = bytes(memoryview(self._buffer)[: window.end]) + tail.read(window.at + window.end, shape.MARGIN_BYTES)
                tail.kept_block = window.at, kept
                tail.want(identity.power_marks(begin, FARTHEST))
            ended = ended or self._end_of_line(tail, state, begin, size, final=final)
            if ended is None:
                return self._waits_for_end(tail, state, tail.size, now_s)
            return self._take_long(tail, state, begin, window, ended, now_s)
        if cut is None and final and begin == size > state.offset:
            cut = Cut(0, 0)  # nothing but NULs was left of it
        if cut is None:
            plan = self._plans[tail.source]
            return Pulled.UNFINISHED if plan is not None and plan.rule is not None else Pulled.DONE
        block = memoryview(self._buffer)[: window.start + cut.length]
        self._recorder.append(tail, state, block, window.at, begin, cut.events, partial=cut.partial, shaped=shaped)
        tail.read_s = now_s
        tail.grew_s = now_s
        return Pulled.TAKEN

    def _end_of_line(self, tail: Tail, state: FileState, begin: int, size: int, *, final: bool) -> longline.End | None:
        plan = self._plans[tail.source]
        newline = b"\n" if plan is None else newline_of(plan.encoding, self._front(tail))
        if tail.packed:
            known = tail.long_line
            size = tail.reach((known.looked_to if known and longline.is_begun(tail, state) else begin) + BLOCK_BYTES)
        return longline.look(tail, state, begin, newline, size, final=final)

    def _waits_for_end(self, tail: Tail, state: FileState, size: int, now_s: float) -> Pulled:
        self._catalog.see(tail)
        if not longline.is_waiting(tail, state, size):
            return Pulled.TAKEN  # the next part is looked through in turn with other files
        tail.read_s = now_s
        return Pulled.DONE

    def _take_long(
        self, tail: Tail, state: FileState, begin: int, window: _Window, ended: longline.End, now_s: float
    ) -> Pulled:
        plan = self._plans[tail.source] or shape.Plan()
        if tail.packed:
            block = tail.kept_block[1][window.start :]
        else:
            block = bytes(memoryview(self._buffer)[window.start : window.end])
            block += tail.read(window.at + window.end, shape.MARGIN_BYTES)
        shaped = shape.over_long(plan, block, begin, ended.length, ended.to, partial=ended.partial, front=self._front(tail))
        if shaped.cut_bytes:
            kept = ended.length - shaped.cut_bytes
            lost = Lost(state, wire.OVER_LONG, shaped.cut_bytes, begin + kept, exact=True)
            self._recorder.lose([lost], self._catalog.told)
            if self._recorder.losses:
                return Pulled.WAITS  # the spool has no room even for that
        self._recorder.append(
            tail, state, memoryview(self._buffer)[: window.end], window.at, begin, shaped.events,
            partial=ended.partial, shaped=shaped, to=ended.to,
        )  # fmt: skip
        tail.read_s = now_s
        tail.grew_s = now_s
        return Pulled.TAKEN

    def _front(self, tail: Tail) -> bytes:
        """The file's first two bytes, where they say how to read it."""
        plan = self._plans[tail.source]
        return tail.front(2) if plan is not None and plan.needs_front else b""

    def _read(self, tail: Tail, begin: int) -> _Window:
        """Fill the buffer with a block from ``begin`` on, and with what is in front of it."""
        at = max(0, begin - MARK_BYTES)
        start = begin - at
        view = memoryview(self._buffer)[: start + BLOCK_BYTES]
        kept_at, kept = tail.kept_block
        if kept and kept_at == at:
            end = min(len(kept), len(view))
            view[:end] = kept[:end]
            return _Window(at, start, end)
        tail.kept_block = 0, b""
        end = tail.read_into(view, at)
        return _Window(at, start, max(start, end))

    def _goes_on(self, tail: Tail, state: FileState, window: _Window) -> bool:
        """Whether what was seen last is still there."""
        seen, crc = state.recent[-1] if state.recent else state.front
        if not state.recent and seen > BODY_AT:  # behind a hole
            return tail.holds(seen, crc)
        seen -= window.at
        return not seen or (window.end >= seen and identity.crc_before(self._buffer, seen) == crc)

    def _first_gap(self, tail: Tail, begin: int, window: _Window) -> int:
        return gaps.first_gap(self._buffer, window.start, window.end, offset=begin, unit=self._unit(tail))

    def _behind_gap(
        self, tail: Tail, at: int, size: int, now_s: float, *, final: bool, before: Gap | None = None
    ) -> int | Pulled:
        """Where the data behind a run of NULs begins; at the end of a file that is final, its end. ``before``: the run in front
        of it."""
        gap = tail.gap
        if tail.packed:
            return self._behind_packed_gap(tail, at, final=final)
        if gap is not None and gap.at != at and self._gap_at(tail, at) is not None and size >= gap.size:
            looked = gaps.data_after(tail, at, size, limit=size)
            return looked.at - looked.at % self._unit(tail)
        if gap is None or not gap.at <= at <= gap.looked_to or size < gap.size:
            gap = tail.gap = Gap(at, at, size, before=before)
        elif at != gap.at:
            gap = tail.gap = Gap(at, gap.looked_to, gap.size)  # it is being filled from its front
        looked = gaps.data_after(tail, gap.looked_to, size)
        gap.looked_to, gap.size = looked.at, size
        if not looked.found:
            return Pulled.WAITS if looked.at < size else size if final else Pulled.DONE
        gap.since_s = gap.since_s or now_s
        if not final and now_s < gap.since_s + GAP_SETTLE_S:
            tail.read_s = now_s  # look again after an interval
            return Pulled.WAITS
        looked = gaps.data_after(tail, at, size, limit=size)  # it may have been filled since it was looked at
        return looked.at - looked.at % self._unit(tail)

    @staticmethod
    def _gap_at(tail: Tail, at: int) -> Gap | None:
        """The run of NULs that begins there, of those that were waited for."""
        return next((gap for gap in (tail.gap, tail.gap and tail.gap.before) if gap is not None and gap.at == at), None)

    @staticmethod
    def _is_in_gap(tail: Tail, at: int) -> bool:
        """Whether a gap was begun here that took more than one look: in a compressed file one does not go back for it."""
        return tail.packed and tail.gap is not None and tail.gap.at == at < tail.gap.looked_to

    def _behind_packed_gap(self, tail: Tail, at: int, *, final: bool) -> int | Pulled:
        """The same for a compressed file: nothing is filled there, and going on is all there is to do."""
        gap = tail.gap
        if gap is None or gap.at != at:
            gap = tail.gap = Gap(at, at, at)
        if gap.since_s:
            return gap.looked_to - gap.looked_to % self._unit(tail)
        before = gap.looked_to
        size = tail.reach(before + gaps.STEP_BYTES)
        looked = gaps.data_after(tail, before, size)
        gap.looked_to, gap.size = looked.at, size
        if looked.found:
            gap.since_s = 1.0
            return looked.at - looked.at % self._unit(tail)
        if looked.at < size or tail.goes_on:
            return Pulled.TAKEN  # there is more to look through, in turn with other files
        return size if final else Pulled.DONE

    def _unit(self, tail: Tail) -> int:
        plan = self._plans[tail.source]
        return 1 if plan is None else plan.unit

    def _cut(
        self, tail: Tail, begin: int, window: _Window, stop: int, now_s: float, *, final: bool
    ) -> tuple[Cut | None, Shaped | None]:
        """The whole events at the front of a window, up to index ``stop``."""
        plan = self._plans[tail.source]
        if plan is None:
            return cut_block(self._buffer, window.start, stop, begin, final=final), None
        flush = window.at + stop == tail.size and self.is_ended(tail, now_s)
        block = bytes(memoryview(self._buffer)[window.start : stop])
        shaped = shape.apply(plan, block, begin, final=final, flush=flush, front=self._front(tail))
        return (None if shaped is None else Cut(shaped.length, shaped.events, shaped.partial)), shaped
