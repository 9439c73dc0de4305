"""Bytes of a file -> blocks of whole lines. Pure, and never a loop over lines.

Promises:
- Where a block ends depends on reading pace, which events there are does not: lines are cut at newlines. So IDs do not depend
  on how the bytes were read. A line longer than `MAX_LINE_BYTES` is no block: see `agent.text.longline`.
- No block straddles `BODY_AT`: its events are all named by the head or all by the body.
- A line without its newline stays where it is, unless the caller says that the file is final.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.files.identity import BODY_AT

MAX_LINE_BYTES = 1 << 20
"""Newline not counted. Part of how events are named, hence no setting: a longer line is cut."""
BLOCK_BYTES = MAX_LINE_BYTES + 1
"""What is read at once: enough to see whether the longest line ends there."""


class Cut(NamedTuple):
    """The block at the front of a buffer: ``length`` bytes, ``events`` lines; ``partial``: the last one has no newline."""

    length: int
    events: int
    partial: bool = False


def cut_block(buf: bytes | bytearray, start: int, end: int, offset: int, *, final: bool = False) -> Cut | None:
    """Cut the complete lines at the front of ``buf[start:end]`` into one block.

    Args:
        buf: holds the file's bytes; ``buf[start]`` is at ``offset`` in the file and begins an event.
        end: end of what was read, at most `BLOCK_BYTES` after ``start``.
        final: nothing will be appended any more: a last line without newline counts.

    Returns:
        None when no line is complete yet, or the first one is too long (`is_too_long`). Any byte string is valid input;
        nothing is raised for content.
    """
    limit = end
    if offset < BODY_AT:
        # The last event of the head begins at or before BODY_AT - 1: it ends with the first newline from there on.
        boundary = buf.find(b"\n", start + BODY_AT - 1 - offset, end)
        limit = end if boundary < 0 else boundary + 1
    newline = buf.rfind(b"\n", start, limit)
    if newline >= 0:
        return Cut(newline + 1 - start, buf.count(b"\n", start, newline + 1))
    if final and 0 < end - start <= MAX_LINE_BYTES:
        return Cut(end - start, 1, partial=True)
    return None


def is_too_long(length: int) -> bool:
    """Whether so many bytes of which `cut_block` makes no block begin a line that never fits into one."""
    return length > MAX_LINE_BYTES


def invalid_lines(data: bytes | memoryview) -> int:
    """How many lines are not UTF-8; they are kept as they are. Where none is that costs 2 % of what shipping does."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return sum(map(_is_invalid, bytes(data).split(b"\n")))
    return 0


def _is_invalid(line: bytes) -> bool:
    if line.isascii():
        return False
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False
