"""The labels of a source: those of the configuration, and those of a file that others write, such as Kubernetes' downward API.

- The file has a ``key="value"`` a line, the value quoted as Go quotes it. It is looked at once a second while there is anything
  to send, so a label that changes is on the events read from then on; labels are no part of an event's ID.
- What the configuration says goes before what the file says. A file that is not there, or not all of it, never holds up a line:
  what was known stays, and the log says what is wrong.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Mapping

from agent import wire
from agent.config import Source
from agent.logs import Fault

log = logging.getLogger("agent.reader")

LOOK_S = 1.0
MAX_FILE_BYTES = 256 << 10
"""What is behind it is not looked at: `wire.MAX_LABELS` of the longest labels fit."""
_LINE = re.compile(r'([^\s="]+)="((?:[^"\\]|\\.)*+)"')
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class Labels:
    """Owned by the reader thread. ``given``: by the configuration; ``room``: for all labels."""

    def __init__(self, given: Mapping[str, str], path: str = "", *, room: int = wire.MAX_LABELS) -> None:
        self._given = dict(given)
        self._room = max(0, room - len(given))
        self._path = path
        self._now = self._given
        self._seen: tuple[int, int, int] | None = None
        self._next_look_s = float("-inf")
        self._fault = Fault(log, "reading labels_file")

    def now(self) -> dict[str, str]:
        """All labels, as of a second ago."""
        if self._path and (now_s := time.monotonic()) >= self._next_look_s:
            self._next_look_s = now_s + LOOK_S
            self._look(now_s)
        return self._now

    def _look(self, now_s: float) -> None:
        try:
            stat = os.stat(self._path)
            seen = stat.st_mtime_ns, stat.st_ino, stat.st_size
            if seen == self._seen:
                return
            found, left_out = read(self._path)
        except OSError as error:
            self._fault.seen(
                f"{self._path}: {error.strerror or error}; events go without what it says, or with what it said", now_s
            )
            return
        self._fault.over()
        self._seen = seen
        extra = [name for name in found if name not in self._given]
        self._now = {name: found[name] for name in extra[: self._room]} | self._given
        left_out += extra[self._room :]
        if left_out:
            shown = ", ".join(left_out[:5])
            log.warning(
                '%s: %d entries are left out (%s): no key="value", too long, or too many', self._path, len(left_out), shown
            )


def faults(sources: Iterable[Source]) -> list[str]:
    """What stands in the way of the files of some sources."""
    found = []
    for source in sources:
        try:
            left_out = read(source.labels_file)[1] if source.labels_file else []
        except OSError as error:
            found.append(f"source {source.name}: labels_file {source.labels_file} cannot be read: {error.strerror or error}")
        else:
            found += [
                f'source {source.name}: labels_file {source.labels_file}: {line!r} is no key="value"' for line in left_out
            ]
    return found


def read(path: str) -> tuple[dict[str, str], list[str]]:
    """The labels in a file, and the beginnings of lines that are none. Raises OSError."""
    with open(path, "rb") as file:
        text = file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    labels: dict[str, str] = {}
    left_out = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        match = _LINE.fullmatch(line)
        value = _ESCAPED.sub(_unescaped, match[2]) if match else ""
        if match is None or any(map(_is_refused, (match[1], value))):
            left_out.append(line[:40])
        else:
            labels[match[1]] = value
    return labels, left_out


def _unescaped(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits is None:
        return _NAMED.get(match[4], match[4])
    return chr(int(digits, 16)) if int(digits, 16) <= 0x10FFFF else "\ufffd"


def _is_refused(text: str) -> bool:
    """Whether a collector would refuse a record with this."""
    return _UNWRITABLE.search(text) is not None or len(text.encode()) > wire.MAX_TEXT_BYTES
