"""What ``check`` says would be shipped: of each file how much, and how long the tenant's quota lasts for it. An estimate.

A file counts as known by its inode: a copy of one that was read shows as unread here, and is recognised by the agent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from agent.config import Config
from agent.files import discover
from agent.files.aging import Ages
from agent.files.discover import Found
from agent.files.expand import PACKED
from agent.files.identity import FileState
from agent.files.packed import tail_of
from agent.files.starting import Starts
from agent.files.tail import Handles
from agent.spool.segment import Recovery

SAMPLE_FILES = 100
SAMPLE_BYTES = 65536


def survey(config: Config, kept: Recovery | None, now_ns: int, *, retention_days: int = 0) -> list[dict[str, Any]]:
    """Every file that matches: its size, how much of it would be shipped, and why not all of it, if so.

    ``retention_days``: what a collector says now; 0: nothing, what was said last counts.
    """
    states = kept.states.values() if kept else ()
    starts = Starts(config, set(kept.started) if kept else set(), states)
    known: dict[int, FileState] = {}
    for state in states:
        if not state.finished and (state.inode not in known or known[state.inode].offset < state.offset):
            known[state.inode] = state
    ages, days = Ages(config), retention_days or (kept.retention_days if kept else 0)
    globs = [discover.Globs(source.name, source.include, source.exclude) for source in config.sources]
    return [_of(found, known.get(found.stat.st_ino), starts, ages, days, now_ns) for found in discover.find(globs)]


def _of(found: Found, state: FileState | None, starts: Starts, ages: Ages, retention_days: int, now_ns: int) -> dict[str, Any]:
    size = _content_bytes(found) if found.path.endswith(PACKED) else found.stat.st_size
    ships, why = size, ""
    if state is not None and state.packed == (found.stat.st_size, found.stat.st_mtime_ns):
        ships, why = 0, "read before"
    elif state is not None and state.offset <= size:
        ships, why = size - state.offset, "read before" if state.offset else ""
    elif starts.skips(found.source, found.stat.st_mtime_ns, now_ns):
        ships, why = 0, "skipped, as start says"
    elif found.source not in starts.pending and ages.is_old(found, retention_days, now_ns):
        ships, why = 0, "too old, as ignore_older says"
    path = os.fsencode(found.path).decode("utf-8", "backslashreplace")
    return {"path": path, "source": found.source, "bytes": found.stat.st_size, "ships_bytes": ships, "why": why}


def _content_bytes(found: Found) -> int:
    """About how much there is in a compressed file, by what its front expands to."""
    with contextlib.suppress(OSError), closing(tail_of(found.path, found.source, found.stat, 0.0, Handles(1))) as tail:
        return tail.estimate()
    return found.stat.st_size


def events_in(files: Iterable[dict[str, Any]]) -> int:
    """How many events these files hold that would be shipped, by the length of the lines at the front of some of them."""
    shipped = [file for file in files if file["ships_bytes"]]
    lines = looked = 0
    for file in shipped[:: max(1, len(shipped) // SAMPLE_FILES)]:
        try:
            with closing(tail_of(file["path"], file["source"], os.stat(file["path"]), 0.0, Handles(1))) as tail:
                tail.look()
                text = tail.read(0, SAMPLE_BYTES)
        except (OSError, ValueError):
            continue
        lines += text.count(b"\n")
        looked += text.rfind(b"\n") + 1
    return sum(file["ships_bytes"] for file in shipped) * lines // looked if looked else 0
