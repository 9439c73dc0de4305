"""Which format the lines of a block are in, for sources that say ``auto``. Pure.

Decided from the block's bytes alone, so that the same block sent again gives the same rows: of up to `SAMPLES` lines that
are not empty, from the front of the block, more than half have to look like one format; else the block is kept as raw lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from agent import wire

SAMPLES = 20
LOOKED_AT_BYTES = 1024
"""Of a line. What tells a format stands at its front."""

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_FORMS = (
    (wire.JSON, re.compile(rb'\s*\{\s*(?:"|\}\s*$)')),
    (wire.KLOG, re.compile(rb"[IWEF][01]\d[0-3]\d \d\d:\d\d:\d\d\.\d+ +\d+ [^\s\]]+:\d+\]")),
    (
        wire.SYSLOG,
        re.compile(rb"<\d{1,3}>\d{1,2} \S+ \S+ \S+ |(?:<\d{1,3}>)?" + _MONTH + rb" [ 0-3]\d (?:\d{4} )?\d\d:\d\d:\d\d "),
    ),
    (wire.SYSLOG, re.compile(rb"(?:<\d{1,3}>)?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* [^\s\[\]=:]+ [^\s:\[\]=]+(?:\[[^\]\s]*\])?: ")),
    (wire.COMBINED, re.compile(rb'(?:\S+:\d+ )?\S+ \S+ \S+ \[[^\]]{10,40}\] "')),
    (wire.LOGFMT, re.compile(rb'\s*[A-Za-z_@][\w.@-]*=(?:"(?:[^"\\]|\\.)*"|[^\s"]*)(?: +[A-Za-z_@][\w.@-]*=|\s*$)')),
)


def format_of(lines: bytes) -> str:
    """The format of a block; ``raw`` where none is found."""
    found = Counter(_form(line) for line in islice(_samples(lines), SAMPLES))
    if not found:
        return wire.RAW
    name, times = found.most_common(1)[0]
    return name if times * 2 > found.total() else wire.RAW


def _samples(lines: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(lines):
        end = lines.find(b"\n", at)
        end = len(lines) if end < 0 else end
        if end > at:
            yield lines[at : min(end, at + LOOKED_AT_BYTES)]
        at = end + 1


def _form(line: bytes) -> str:
    return next((name for name, form in _FORMS if form.match(line)), wire.RAW)
