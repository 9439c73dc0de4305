"""Which files there are: globs and exclusions, notices from the kernel, and a walk now and then in case one was missed.

Compressed files match as others do; what they hold says whether it was read before, under its plain name. Formats that cannot
be read are left out.
"""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from agent.files import mounts
from agent.files.expand import PACKED, UNREADABLE

log = logging.getLogger("agent.discover")

SOMETHING = ""
"""Stands for a path that cannot be told."""
RETRY_S = 60.0
"""A kernel that gave no notices is asked again after so long."""
STEP_MS = 20
"""How long notices are collected: the part of the latency that the kernel's notices cost."""


class Found(NamedTuple):
    """A path that matches a source; of several sources the first one has it."""

    path: str
    source: str
    stat: os.stat_result


class Globs(NamedTuple):
    """The patterns of one source."""

    source: str
    include: Sequence[str]
    exclude: Sequence[str]


def find(sources: Iterable[Globs]) -> Iterator[Found]:
    """Every regular file that matches, once, in the order of sources and paths. What cannot be read is left for `Tail`."""
    seen: set[str] = set()
    for source in sources:
        for pattern in source.include:
            for path in sorted(glob.iglob(pattern, recursive=True)):
                if path in seen or excluded(path, source.exclude):
                    continue
                seen.add(path)
                try:
                    stat = os.stat(path)
                except OSError:
                    continue
                if (stat.st_mode & 0o170000) == 0o100000:
                    yield Found(path, source.source, stat)


def excluded(path: str, patterns: Sequence[str]) -> bool:
    """``*`` in an exclusion also matches ``/``: more is excluded rather than less."""
    return path.endswith(UNREADABLE) or any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def folders(sources: Iterable[Globs]) -> set[str]:
    """The folders to watch: each one in which a match may appear, or a folder on the way to it."""
    result: set[str] = set()
    for source in sources:
        for pattern in source.include:
            folder = os.path.dirname(pattern)
            while True:
                result.update(path.rstrip("/") or "/" for path in glob.iglob(folder, recursive=True) if os.path.isdir(path))
                if not glob.has_magic(folder) and os.path.isdir(folder):
                    break
                folder = os.path.dirname(folder)
    return result


def siblings(path: str, olddirs: Iterable[str] = ()) -> list[str]:
    """Files beside ``path``, and in the folders ``olddirs`` (relative to its own), that a rotation may have made of it:
    ``name.*``, ``name-*``, ``stem-*``, ``stem.*``, and ``name`` itself elsewhere. The compressed ones come last."""
    folder, name = os.path.split(path)
    stem = name.partition(".")[0]
    prefixes = (name + ".", name + "-", stem + "-", stem + ".")
    found = []
    for place in dict.fromkeys((folder, *(os.path.normpath(os.path.join(folder, olddir)) for olddir in olddirs))):
        try:
            names = os.listdir(place)
        except (OSError, ValueError):  # ValueError: no path of a file
            continue
        found += [os.path.join(place, other) for other in names if other.startswith(prefixes) or other == name]
    return sorted(
        (other for other in found if other != path and not other.endswith(UNREADABLE)),
        key=lambda other: (other.endswith(PACKED), other),
    )


class Watcher:
    """Notices of changes in a set of folders. Without them (``polling``; the kernel refuses; others write to the file system)
    the caller looks by itself."""

    def __init__(self, *, polling: bool) -> None:
        self._polling = polling
        self._folders: set[str] = set()
        self._notify: RustNotify | None = None
        self._remote = False
        self._retry_s = float("inf")
        self._said: set[str] = set()

    @property
    def blind(self) -> bool:
        """Not all notices come: every file has to be looked at."""
        return self._notify is None or self._remote

    def watch(self, wanted: set[str]) -> bool:
        """Watch exactly these folders. True when that changed anything: notices may have been missed meanwhile."""
        if self._polling or (wanted == self._folders and time.monotonic() < self._retry_s):
            return False
        self.close()
        self._folders, self._retry_s = wanted, float("inf")
        remote = mounts.remote(wanted)
        self._remote = bool(remote)
        if remote:
            named = ", ".join(sorted(f"{folder} ({kind})" for folder, kind in remote.items()))
            self._warn("no notices come of what other machines write to %s: looking at every file instead", named)
        try:
            self._notify = RustNotify(sorted(wanted), False, False, 0, False, True) if wanted else None
        except OSError as error:
            self._retry_s = time.monotonic() + RETRY_S
            self._warn("no notices of file changes (%s): looking at every file instead; raise fs.inotify limits", str(error))
        return True

    def _warn(self, text: str, what: str) -> None:
        """Once: looking goes on, and it is tried again."""
        log.log(logging.DEBUG if what in self._said else logging.WARNING, text, what)
        self._said.add(what)

    def wait(self, timeout_s: float, stop: threading.Event) -> set[str]:
        """The paths that changed, or `SOMETHING`, as soon as there are any; an empty set after ``timeout_s``."""
        if self._notify is None:
            stop.wait(timeout_s)
            return set()
        timeout_ms = max(1, int(timeout_s * 1000))
        step_ms = min(STEP_MS, timeout_ms)
        try:
            changes = self._notify.watch(step_ms, step_ms, timeout_ms, stop)
        except WatchfilesRustInternalError:
            return {SOMETHING}  # a file whose name is no UTF-8: which one it does not say
        return {path for _, path in changes} if isinstance(changes, set) else set()

    def close(self) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None
        self._folders = set()
