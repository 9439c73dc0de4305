"""Lines that are longer than a block: where they end. They become one event, cut, and what is cut off is told as lost.

Promises:
- Nothing is sent before the end is there, as with any other line, and then in one append: a kill at any moment, while gigabytes
  are looked through, leaves the offset where the line begins. There is no state of half a line, on disk or elsewhere.
- Memory is one chunk, whatever the line's length, and a turn takes at most `LOOK_BYTES`: other files have theirs in between.
- What was looked through is not looked through again while the file grows, as long as it is what it was (`Looked.mark`).

Known limit: NULs behind the first block of such a line are part of it, however many.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.files.expand import NotYet
from agent.files.gaps import Bytes
from agent.files.identity import FileState
from agent.files.tail import LongLine, Tail

LOOK_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


class End(NamedTuple):
    """Where a line ends: ``length`` without its line end, ``to``: what comes next."""

    length: int
    to: int
    partial: bool


def look(tail: Tail, state: FileState, begin: int, newline: bytes, size: int, *, final: bool) -> End | None:
    """Go on to look for the end of the line that begins at ``begin``; None where it is not found yet.

    Args:
        newline: as the file's encoding has it.
        size: of the file, as of now.
        final: nothing will be appended any more: the file's end is the line's.

    Raises OSError.
    """
    known = tail.long_line
    if (
        known is None
        or known.origin != state.origin
        or known.at != begin
        or size < known.looked_to
        or not tail.holds(*known.mark)
    ):
        known = LongLine(state.origin, begin, begin, (0, 0))
    known.looked_to, end = search(tail, begin, known.looked_to, size, newline)
    if end is not None:
        tail.long_line = None
        return end
    known.mark = tail.mark(known.looked_to)
    tail.long_line = known
    at_end = size - known.looked_to < len(newline) and not tail.goes_on
    return End(size - begin, size, True) if final and at_end else None


def find(tail: Tail, begin: int, newline: bytes) -> End | None:
    """The end of the line that begins at ``begin``, however far it is. Raises OSError."""
    at, before = begin, -1
    while at > before:
        before, size = at, tail.reach(at + _CHUNK_BYTES)
        at, end = search(tail, begin, before, size, newline, limit=size)
        if end is not None:
            return end
    return None


def search(
    file: Bytes, begin: int, looked_to: int, size: int, newline: bytes, *, limit: int = LOOK_BYTES
) -> tuple[int, End | None]:
    """How far the line that begins at ``begin`` was looked through, from ``looked_to`` on, and its end if that was found."""
    unit = len(newline)
    at = max(looked_to, begin + begin % unit)
    stop = min(size, at + limit)
    while at < stop:
        try:
            chunk = file.read(at, min(_CHUNK_BYTES, size - at))
        except NotYet:
            break
        found = _find(chunk, newline)
        if found >= 0:
            end = at + found
            return end, End(end - begin - unit * _ends_in_cr(file, end, newline), end + unit, False)
        if len(chunk) < unit:
            break  # half of a character, or it was cut meanwhile
        at += len(chunk) - len(chunk) % unit
    return at, None


def is_begun(tail: Tail, state: FileState) -> bool:
    """Whether the end of the line at the offset was looked for before, and not found."""
    known = tail.long_line
    return known is not None and (known.origin, known.at) == (state.origin, state.offset)


def is_waiting(tail: Tail, state: FileState, size: int) -> bool:
    """Whether the line at the offset was looked through up to the file's end, and more has to come."""
    known = tail.long_line
    return known is not None and is_begun(tail, state) and not tail.goes_on and 0 <= size - known.looked_to < 2


def _find(chunk: bytes, newline: bytes) -> int:
    at = chunk.find(newline)
    while at >= 0 and at % len(newline):
        at = chunk.find(newline, at + 1)
    return at


def _ends_in_cr(file: Bytes, end: int, newline: bytes) -> bool:
    return file.read(end - len(newline), len(newline)) == newline.replace(b"\n", b"\r")
