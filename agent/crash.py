"""Death at a named point, for tests: ``PULSESTREAM_CRASH=name[:nth]`` makes the process SIGKILL itself when it comes there.

Nothing is flushed, closed or told, as in a real crash. A point lies before or after each step whose order matters; whatever
is on disk there, the next start must make every line arrive once. Without the variable a point costs one call that does
nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

ENV = "PULSESTREAM_CRASH"
POINTS = (
    # a record goes into the spool; the file's state in memory follows
    "append.before", "append.half", "append.after", "append.applied",
    "sync.before", "sync.after",
    # a segment is sealed, the next one begins
    "roll.before", "roll.old_synced", "segment.created", "segment.head_written", "segment.head_synced",
    "folder_sync.before", "folder_sync.after", "roll.switched",
    # a start makes good what a crash left
    "recover.truncated", "recover.rolled",
    # the oldest records are given up
    "drop.written", "drop.renamed",
    # an answer, and what follows from it
    "answer.read", "tenant.first", "ack.before", "ack.after", "ack_note.before", "ack_note.after", "trim.before", "trim.after",
    "dead_letter.before", "dead_letter.written", "dead_letter.synced", "dead_letter.named",
    "quarantine.created", "quarantine.synced", "quarantine.renamed", "quarantine.acked", "quarantine.removed",
    # what becomes of files
    "start.recorded", "start.synced",
    "loss.before", "loss.appended", "loss.synced", "loss.back", "rewind.replaced", "finish.synced",
    # a stop
    "full.noted", "note_files.half", "stop.read", "stop.drained",
)  # fmt: skip


def _nothing(name: str) -> None:
    """Go on."""


def _killer(setting: str) -> Callable[[str], None]:
    wanted, _, nth = setting.partition(":")
    if wanted not in POINTS or (nth and not (nth.isdecimal() and int(nth))):
        raise SystemExit(f"{ENV}={setting}: write name or name:nth, with one of {', '.join(POINTS)}; or unset it")
    left = int(nth or 1)

    def kill(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    return kill


_setting = os.environ.get(ENV, "")
point: Callable[[str], None] = _killer(_setting) if _setting else _nothing
"""Die here, if this is the place."""
HALF = _setting.startswith("append.half")
"""Records are written in two pieces, so that death can come between them."""
