"""Where reading begins in files that are there when a source is read for the first time (`start`). Pure.

- The first time is when the state knows no file of the source and has not recorded that it was begun. Files that come later
  are read from their beginning, and after a restart nothing changes.
- What is skipped is decided in the first walk, before any of it is read, and recorded with the state of every file that is
  skipped in one synced append: before it nothing was shipped, after it nothing is decided again.
- ``since`` looks at files: one that was written to within that time is read whole. Lines have no time before the collector
  has taken them apart.

Known limits: a file that cannot be read in the first walk, or has no whole line yet, is read from its beginning later.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.config import BEGINNING, Config, since_s
from agent.files.identity import FileState

NS = 1_000_000_000


class Starts:
    """The sources that are read for the first time, and how each of them wants that."""

    def __init__(self, config: Config, started: set[str], states: Iterable[FileState]) -> None:
        """``started``: as recorded; it is kept up to date. ``states``: one that was read from its front says the same of its
        source."""
        wanted = {source.name: source.start or config.start for source in config.sources}
        self.started = started
        started.update(state.source for state in states if not state.base)
        self._first = {name: start for name, start in wanted.items() if name not in self.started and start != BEGINNING}

    @property
    def pending(self) -> list[str]:
        """Sources in which something may be skipped, until `settled`."""
        return list(self._first)

    def skips(self, source: str, mtime_ns: int, now_ns: int) -> bool:
        """Whether what a file holds now is not wanted."""
        if source not in self._first:
            return False
        age_s = since_s(self._first[source])
        return age_s is None or mtime_ns < now_ns - age_s * NS

    def settled(self) -> None:
        """It is recorded."""
        self.started.update(self._first)
        self._first = {}
