"""Reading the spool's folder at a start: which segments there are, what their records prove, and what is damaged.

Promises:
- Nothing that lies in the folder stops the start but records of a newer agent. What is no segment by its name is left alone;
  a segment that cannot be read (a bad sector, another owner, a folder of that name) is named, gone round, and never deleted.
- What may be better in a moment is not taken for damage: no handles or no memory left ends the start, and it is tried again.
- Only the end of the last segment is cut: a torn tail. Whatever is intact behind damage counts.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

from agent import wire
from agent.spool.segment import Damage, Recovery, scan

log = logging.getLogger("agent.spool")

_NAME = re.compile(r"(\d{8,18})\.seg")
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Opened(NamedTuple):
    """What a folder holds. ``sizes``: number of each segment that was read -> how many of its bytes count."""

    sizes: dict[int, int]
    recovery: Recovery
    damaged: list[tuple[int, Damage]]
    highest: int
    """No segment has a higher number, read or not."""
    head_bytes: int
    """How much of the last segment is states of files."""
    incomplete: bool
    """Segments are missing or cannot be read."""


def segment_name(number: int) -> str:
    return f"{number:08d}.seg"


def open_folder(folder: Path, *, quiet: bool) -> Opened:
    """Read all segments. ``quiet``: somebody only looks. Raises OSError, wire.UnknownVersion."""
    numbers = sorted(
        int(match[1]) for name in os.listdir(folder) if (match := _NAME.fullmatch(name)) and name == segment_name(int(match[1]))
    )
    level = logging.DEBUG if quiet else logging.WARNING
    sizes: dict[int, int] = {}
    damaged: list[tuple[int, Damage]] = []
    recovery = Recovery()
    head_bytes = 0
    for number in numbers:
        recovery.begin(number)
        try:
            data = (folder / segment_name(number)).read_bytes()
        except OSError as error:
            if error.errno in _PASSING:
                raise
            log.log(
                level, "%s: cannot be read (%s); the lines in it are read again", folder / segment_name(number), error.strerror
            )
            continue
        sizes[number] = len(data)
        head_bytes = 0
        for item in scan(data):
            if not isinstance(item, Damage):
                recovery.feed(item, number)
                if item.header.kind == wire.FILES:
                    head_bytes += item.end - item.start
                continue
            log.log(
                level, "spool segment %d: bytes %d to %d are damaged (%s); the lines in them are read again",
                number, item.start, item.end, item.reason,
            )  # fmt: skip
            damaged.append((number, item))
    if damaged and sizes and damaged[-1][0] == max(sizes) and damaged[-1][1].end == sizes[max(sizes)]:
        sizes[max(sizes)] = damaged.pop()[1].start
    missing = bool(numbers) and numbers[-1] - numbers[0] + 1 != len(numbers)
    if missing:
        log.log(
            level,
            "%s: segments are missing between %d and %d; the lines in them are read again",
            folder,
            numbers[0],
            numbers[-1],
        )
    return Opened(sizes, recovery, damaged, max(numbers, default=0), head_bytes, missing or len(sizes) != len(numbers))
