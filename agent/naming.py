"""The events of one file, named the way the agent names them: for the ``ids`` command and for comparing with the store."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agent import identity, shape, wire
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
        front = file.read(FRONT_BYTES)
        head = identity.head_of(front)
        if head is None and not (state and state.finished):
            return
        head = head or b""
        body = identity.body_of(front)
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
        head = identity.head_of(file.read(FRONT_BYTES))
        stat = os.fstat(file.fileno())

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


def _blocks(file: BinaryIO, *, final: bool) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while True:
        file.seek(offset)
        buf = file.read(BLOCK_BYTES)
        cut = cut_block(buf, 0, len(buf), offset, final=final)
        if cut is None:
            return
        yield offset, buf[: cut.length]
        offset += cut.length


def _shaped(file: BinaryIO, plan: shape.Plan, ids: tuple[str, str], *, final: bool) -> Iterator[tuple[str, int, bytes]]:
    file.seek(0)
    front = file.read(2)
    offset = 0
    while True:
        file.seek(offset)
        block = file.read(BLOCK_BYTES)
        shaped = shape.apply(plan, block, offset, final=final and len(block) < BLOCK_BYTES, front=front)
        if shaped is None:
            return
        header = shaped.header(wire.Header(wire.DATA, "", file_id=ids[offset >= BODY_AT], base_offset=offset))
        for at, event in shape.events_of(header, shaped.payload):
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
