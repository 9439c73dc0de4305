"""The events of one file, named the way the agent names them: for the ``ids`` command and for comparing with the store."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agent import gaps, identity, packing, shape, wire
from agent.blocks import BLOCK_BYTES, cut_block
from agent.identity import BODY_AT, FileState
from agent.tail import FRONT_BYTES


class NamedEvent(NamedTuple):
    offset: int
    external_id: str
    event: bytes


def events(
    path: Path, *, scope: str, source: str, state: FileState | None = None, plan: shape.Plan | None = None
) -> Iterator[NamedEvent]:
    """Every complete line of a file, and the last one without its newline if the agent has finished with the file.

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
            return
        head = head or b""
        body = identity.hole_anchor(data_at, head) if data_at >= BODY_AT else identity.body_of(file.read(BODY_AT))
        head_id = state.head_id if state else identity.file_id(scope, source, head, 0)
        body_id = (state and state.body_id) or identity.file_id(scope, source, body or b"", 0)
        final = state is not None and state.finished
        if plan is not None:
            for file_id, offset, event in _shaped(file, plan, (head_id, body_id), final=final):
                yield NamedEvent(offset, wire.event_id(file_id, offset, event), event)
            return
        for offset, block in _blocks(file, final=final):
            yield from _lines(block, offset, head_id if offset < BODY_AT else body_id)


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


def _blocks(file: BinaryIO, *, final: bool) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while True:
        offset, buf, more = _read(file, offset)
        cut = cut_block(buf, 0, len(buf), offset, final=final) or cut_block(buf, 0, len(buf), offset, final=more)
        if cut is None:
            return
        yield offset, buf[: cut.length]
        offset += cut.length


def _shaped(file: BinaryIO, plan: shape.Plan, ids: tuple[str, str], *, final: bool) -> Iterator[tuple[str, int, bytes]]:
    file.seek(0)
    front = file.read(2)
    offset = 0
    while True:
        offset, block, more = _read(file, offset, unit=plan.unit)
        shaped = shape.apply(plan, block, offset, final=final and len(block) < BLOCK_BYTES, front=front)
        shaped = shaped or (shape.apply(plan, block, offset, final=True, front=front) if more else None)
        if shaped is None:
            return
        header = shaped.header(wire.Header(wire.DATA, "", file_id=ids[offset >= BODY_AT], base_offset=offset))
        for at, event in packing.events_of(header, shaped.payload):
            yield header.file_id, at, event
        offset += shaped.length


def _lines(block: bytes, offset: int, file_id: str) -> Iterator[NamedEvent]:
    for line in _split(block):
        event = line[:-1].removesuffix(b"\r") if line.endswith(b"\n") else line
        yield NamedEvent(offset, wire.event_id(file_id, offset, event), event)
        offset += len(line)


def _split(block: bytes) -> list[bytes]:
    """Lines with their newlines; not `splitlines`, to which more than a newline ends a line."""
    lines = [line + b"\n" for line in block.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines
