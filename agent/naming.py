"""The events of one file, named the way the agent names them: for the ``ids`` command and for comparing with the store."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agent import gaps, identity, longline, packing, shape, wire
from agent.blocks import BLOCK_BYTES, cut_block, is_too_long
from agent.identity import BODY_AT, FileState
from agent.lines import newline_of
from agent.packing import Shaped
from agent.tail import FRONT_BYTES


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


class NamedFile:
    """An open file whose lines have names."""

    def __init__(self, file: BinaryIO, ids: tuple[str, str], plan: shape.Plan | None, *, final: bool) -> None:
        self.head_id, self.body_id = ids
        self._file = file
        self._plan = plan
        self._final = final
        """The agent has finished with it: the last line counts without its newline."""

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def mtime_ns(self) -> int:
        return os.fstat(self._file.fileno()).st_mtime_ns

    def blocks(self, at: int = 0) -> Iterator[Block]:
        """The blocks from ``at`` on, where one begins. Raises OSError."""
        front = os.pread(self._file.fileno(), 2, 0)
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
        fd, size = self._file.fileno(), self.size
        newline = newline_of(plan.encoding, front)
        _, end = longline.search(fd, offset, offset, size, newline, limit=size)
        if end is None and self._final:
            end = longline.End(size - offset, size, True)
        if end is None:
            return None
        buf += os.pread(fd, shape.MARGIN_BYTES, offset + len(buf))
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
        path: a plain file.
        scope: as the agent resolves it.
        source: name of the source in the agent's configuration.
        state: what a running agent's state says of the file, if it knows it: its tag tells it from look-alikes.
        plan: what the source's settings make of its lines; events that a timeout ended are not known here.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        data_at, text = gaps.text_at_front(file.fileno(), os.fstat(file.fileno()).st_size, FRONT_BYTES)
        head = identity.head_of(text)
        if head is None and not (state and state.finished):
            yield None
            return
        head = head or b""
        body = identity.hole_anchor(data_at, head) if data_at >= BODY_AT else identity.body_of(file.read(BODY_AT))
        head_id = state.head_id if state else identity.file_id(scope, source, head, 0)
        body_id = (state and state.body_id) or identity.file_id(scope, source, body or b"", 0)
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
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        head = identity.head_of(gaps.text_at_front(file.fileno(), stat.st_size, FRONT_BYTES)[1])

        def holds(position: int, crc: int) -> bool:
            start = max(0, position - identity.MARK_BYTES)
            return zlib.crc32(os.pread(file.fileno(), position - start, start)) == crc

        key = identity.head_key(source, head) if head is not None else ""
        fit = [
            state
            for state in states
            if (state.head == key or state.inode == stat.st_ino)
            and identity.agrees(state, min(stat.st_size, state.offset), holds)
        ]
    return max(fit, key=lambda state: (state.inode == stat.st_ino, min(stat.st_size, state.offset)), default=None)


def _read(file: BinaryIO, offset: int, *, unit: int = 1) -> tuple[int, bytes, bool]:
    """The next bytes at or behind ``offset``, up to NULs to skip: where they begin, and whether more follows."""
    size = os.fstat(file.fileno()).st_size
    buf = os.pread(file.fileno(), BLOCK_BYTES, offset)
    end = gaps.first_gap(buf, 0, len(buf), offset=offset, unit=unit)
    if buf and not end:
        looked = gaps.data_after(file.fileno(), offset, size, limit=size)
        if not looked.found:
            return size, b"", False
        offset = looked.at - looked.at % unit
        buf = os.pread(file.fileno(), BLOCK_BYTES, offset)
        end = gaps.first_gap(buf, 0, len(buf), offset=offset, unit=unit)
    more = end < len(buf) and gaps.data_after(file.fileno(), offset + end, size, limit=size).found
    return offset, buf[:end], more
