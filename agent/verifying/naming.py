"""The events of one file, named the way the agent names them: for the ``ids`` command and for comparing with the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from agent import wire
from agent.files import gaps, identity
from agent.files.contents import EVERYTHING
from agent.files.identity import BODY_AT, FileState
from agent.files.packed import tail_of
from agent.files.tail import Handles, Tail
from agent.text import detection, longline, packing, shape
from agent.text.blocks import BLOCK_BYTES, cut_block, is_too_long
from agent.text.lines import newline_of
from agent.text.packing import Shaped


class NamedEvent(NamedTuple):
    offset: int
    external_id: str
    event: bytes


class Block(NamedTuple):
    """Whole events of a file, as one record holds them: of the header only what says which events there are and where."""

    header: wire.Header
    payload: bytes
    offset: int
    """Where it begins in the file; its first event may start later."""
    end: int

    def taken_apart(self) -> tuple[list[int], list[bytes]]:
        """Where each event starts in the file, and its bytes, as `packing.events_of` has them."""
        raw = self.payload
        if isinstance(self.header, wire.ShapedHeader) or self.header.offsets or not raw:
            events = list(packing.events_of(self.header, raw))
            return [offset for offset, _ in events], [event for _, event in events]
        texts = raw.removesuffix(b"\n").split(b"\n")
        starts = list(accumulate((len(text) + 1 for text in texts[:-1]), initial=self.header.base_offset))
        if b"\r" in raw:
            last = texts[-1]
            texts = [text.removesuffix(b"\r") for text in texts]
            if not raw.endswith(b"\n"):
                texts[-1] = last  # what follows it may be no newline
        return starts, texts

    def times(self) -> list[bytes]:
        """What the runtime says of when each event was; empty where it says nothing."""
        if not isinstance(self.header, wire.ShapedHeader) or not self.header.times_bytes:
            return []
        return self.payload[-self.header.times_bytes :].split(b"\n")[:-1]

    def form(self, said: str) -> str:
        """The format of its lines, as the source says or as it is found for ``auto``."""
        if said != wire.AUTO:
            return said
        header = self.header
        return detection.format_of(self.payload[: header.data_bytes] if isinstance(header, wire.ShapedHeader) else self.payload)


class NamedFile:
    """An open file whose lines have names."""

    def __init__(self, file: Tail, ids: tuple[str, str], plan: shape.Plan | None, *, final: bool) -> None:
        self.head_id, self.body_id = ids
        self._file = file
        self._plan = plan
        self._finished = final
        """The agent has finished with it: the last line counts without its newline."""

    @property
    def size(self) -> int:
        return self._file.reach(EVERYTHING)

    @property
    def mtime_ns(self) -> int:
        self._file.look()
        return self._file.mtime_ns

    @property
    def _final(self) -> bool:
        return self._finished or (self._file.packed and self._file.ended)

    def blocks(self, at: int = 0) -> Iterator[Block]:
        """The blocks from ``at`` on, where one begins. Raises OSError."""
        front = self._file.front(2)
        while True:
            block = self._block(at) if self._plan is None else self._shaped(self._plan, at, front)
            if block is None:
                return
            yield block
            at = block.end

    def _block(self, at: int) -> Block | None:
        offset, buf, more = _read(self._file, at)
        cut = cut_block(buf, 0, len(buf), offset, final=self._final) or cut_block(buf, 0, len(buf), offset, final=more)
        if cut is None:
            return self._too_long(shape.Plan(), offset, buf)
        header = wire.Header(
            wire.DATA,
            "",
            file_id=self._id_at(offset),
            base_offset=offset,
            raw_bytes=cut.length,
            events=cut.events,
            flags=wire.PARTIAL * cut.partial,
        )
        return Block(header, buf[: cut.length], offset, offset + cut.length)

    def _shaped(self, plan: shape.Plan, at: int, front: bytes) -> Block | None:
        offset, buf, more = _read(self._file, at, unit=plan.unit)
        shaped = shape.apply(plan, buf, offset, final=self._final and len(buf) < BLOCK_BYTES, front=front)
        shaped = shaped or (shape.apply(plan, buf, offset, final=True, front=front) if more else None)
        if shaped is None:
            return self._too_long(plan, offset, buf, front)
        return self._as_block(shaped, offset)

    def _too_long(self, plan: shape.Plan, offset: int, buf: bytes, front: bytes = b"") -> Block | None:
        """The event of a line that is longer than a block."""
        if not is_too_long(len(buf)):
            return None
        buf += self._file.read(offset + len(buf), shape.MARGIN_BYTES)
        end = longline.find(self._file, offset, newline_of(plan.encoding, front))
        if end is None and self._final:
            end = longline.End(self.size - offset, self.size, True)
        if end is None:
            return None
        return self._as_block(shape.over_long(plan, buf, offset, end.length, end.to, partial=end.partial, front=front), offset)

    def _as_block(self, shaped: Shaped, offset: int) -> Block:
        plain = wire.Header(wire.DATA, "", file_id=self._id_at(offset), base_offset=offset, flags=wire.PARTIAL * shaped.partial)
        return Block(shaped.header(plain), shaped.payload, offset, offset + shaped.length)

    def _id_at(self, offset: int) -> str:
        return self.head_id if offset < BODY_AT else self.body_id


@contextmanager
def opened(
    path: Path, *, scope: str, source: str, state: FileState | None = None, plan: shape.Plan | None = None
) -> Iterator[NamedFile | None]:
    """A file, named the way the agent names it; None while its first line is not complete.

    Args:
        path: a file, compressed or not.
        scope: as the agent resolves it.
        source: name of the source in the agent's configuration.
        state: what a running agent's state says of the file, if it knows it: its tag tells it from look-alikes.
        plan: what the source's settings make of its lines; events that a timeout ended are not known here.

    Raises:
        OSError: the file cannot be read.
    """
    with _opened(path, source) as file:
        data_at, text = file.text_at_front()
        head = identity.head_of(text)
        if head is None and not (state and state.finished) and not (file.packed and file.ended):
            yield None
            return
        head = text[: identity.HEAD_BYTES] if head is None else head
        body = identity.hole_anchor(data_at, head) if data_at >= BODY_AT else identity.body_of(file.front(BODY_AT))
        head_id = state.head_id if state else identity.file_id(scope, source, head, 0)
        body_id = (state and state.body_id) or identity.file_id(
            scope, source, body or b"", identity.body_tag(state.tag) if state else 0
        )
        yield NamedFile(file, (head_id, body_id), plan, final=state is not None and state.finished)


def events(
    path: Path, *, scope: str, source: str, state: FileState | None = None, plan: shape.Plan | None = None
) -> Iterator[NamedEvent]:
    """Every complete line of a file, and the last one without its newline if the agent has finished with the file.

    Arguments and errors as `opened`.
    """
    with opened(path, scope=scope, source=source, state=state, plan=plan) as file:
        for block in file.blocks() if file is not None else ():
            for offset, event in packing.events_of(block.header, block.payload):
                yield NamedEvent(offset, wire.event_id(block.header.file_id, offset, event), event)


def known_as(path: Path, source: str, states: Iterable[FileState]) -> FileState | None:
    """The state that speaks of this file's content, by its marks: also of a copy, which has no state of its own."""
    with _opened(path, source) as file:
        _, inode = file.inode
        head = identity.head_of(file.text_at_front()[1])
        key = identity.head_key(source, head) if head is not None else ""
        fit = [state for state in states if state.head == key or state.inode == inode]
        for state in fit:
            file.want(identity.positions(state))
        size = file.reach(max((state.offset for state in fit), default=0))
        fit = [state for state in fit if identity.agrees(state, min(size, state.offset), file.holds)]
    return max(fit, key=lambda state: (state.inode == inode, min(size, state.offset)), default=None)


@contextmanager
def _opened(path: Path, source: str) -> Iterator[Tail]:
    tail = tail_of(str(path), source, path.stat(), 0.0, Handles(1))
    try:
        tail.look()
        yield tail
    finally:
        tail.close()


def _read(file: Tail, offset: int, *, unit: int = 1) -> tuple[int, bytes, bool]:
    """The next bytes at or behind ``offset``, up to NULs to skip: where they begin, and whether more follows."""
    buf = file.read(offset, BLOCK_BYTES)
    end = gaps.first_gap(buf, 0, len(buf), offset=offset, unit=unit)
    if buf and not end:
        looked = _behind(file, offset)
        if not looked.found:
            return looked.at, b"", False
        offset = looked.at - looked.at % unit
        buf = file.read(offset, BLOCK_BYTES)
        end = gaps.first_gap(buf, 0, len(buf), offset=offset, unit=unit)
    more = end < len(buf) and (file.packed or _behind(file, offset + end).found)
    return offset, buf[:end], more


def _behind(file: Tail, at: int) -> gaps.Looked:
    while True:
        looked = gaps.data_after(file, at, size := file.reach(at + gaps.STEP_BYTES), limit=size)
        if looked.found or looked.at == at:
            return looked
        at = looked.at
