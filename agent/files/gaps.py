"""Runs of NULs in a log file: they are no content, and no line of it.

A writer that keeps its position across a truncation leaves a hole in front of its next line; a power cut leaves zeros where
the data of an append never came to the disk. Such a run is skipped and counted, the offsets behind it stay true.

- At the front of a file every NUL counts, elsewhere a run of at least `GAP_BYTES`: shorter ones belong to their line.
- A run that nothing follows yet is none: a file that was given its size in advance is filled from there on.
- Whether a block holds one costs one search (20 µs a MiB). A hole is leapt over where the file system tells where data is, and
  never more than `LOOK_BYTES` of zeros are read in one go.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple, Protocol

from agent.files.expand import NotYet

GAP_BYTES = 512
"""Smaller than a sector's worth is kept as it is: records of fixed size, padded with NULs, are lines."""
LOOK_BYTES = 64 << 20
STEP_BYTES = 1 << 20
_GAP = bytes(GAP_BYTES)
_ZEROS = bytes(STEP_BYTES)


class Bytes(Protocol):
    """What bytes are looked for in."""

    def read(self, position: int, length: int, /) -> bytes: ...

    def next_data(self, at: int, size: int, /) -> int:
        """Where the next byte may be that is no NUL, from ``at`` on."""


class Looked(NamedTuple):
    """How far a run of NULs reaches. ``found``: a byte that is none stands at ``at``; else there are NULs up to there."""

    at: int
    found: bool


def first_gap(buf: bytes | bytearray, start: int, end: int, *, offset: int, unit: int = 1) -> int:
    """Where the first run to skip begins in ``buf[start:end]``; ``end`` where there is none.

    Args:
        offset: of ``buf[start]`` in the file.
        unit: bytes of a character's unit: in UTF-16 the NUL that ends a newline is not the run's.
    """
    if not offset and end - start >= unit and not any(buf[start : start + unit]):
        return start
    at = buf.find(_GAP, start, end)
    return end if at < 0 else at + -(offset + at - start) % unit


def data_after(file: Bytes, at: int, size: int, *, limit: int = LOOK_BYTES) -> Looked:
    """Where the NULs that begin at ``at`` end, reading at most ``limit`` of them, or what time allows. Raises OSError."""
    while at < size and limit > 0:
        at = file.next_data(at, size)
        try:
            chunk = file.read(at, min(STEP_BYTES, size - at)) if at < size else b""
        except NotYet:
            break
        if not chunk:
            break
        if chunk != _ZEROS[: len(chunk)]:
            return Looked(at + len(chunk) - len(chunk.lstrip(b"\0")), True)
        at += len(chunk)
        limit -= len(chunk)
    return Looked(min(at, size), False)


def text_at_front(file: Bytes, size: int, length: int) -> tuple[int, bytes]:
    """Where a file's first byte that is no NUL is, and up to ``length`` bytes from there; ``size`` and nothing where there is
    none, or so many NULs are in front that it is not known yet. Raises OSError."""
    text = file.read(0, length)
    if text[:1] != b"\0":
        return 0, text
    at, found = data_after(file, 0, size)
    return (at, file.read(at, length)) if found else (size, b"")


def next_data(fd: int, at: int, size: int) -> int:
    """`Bytes.next_data` of a plain file: the end of the hole that ``at`` is in; ``at`` where it is in none, or the file system
    does not tell."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else at
