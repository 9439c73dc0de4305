"""Files that nobody has written to for longer than their lines would be kept (`ignore_older`): they are not opened. Pure.

- Only what the state does not know is ignored, and only while nobody writes to it: nothing is recorded, so nothing has to be
  undone. It is no loss, and is counted.
- The default is the tenant's retention, which the collector says with its first answer. Until it has, what is older than any
  retention may be waits, at most `WAIT_S`: reading it for nothing would be all that a start without state does. What is being
  compressed from such a file waits with it: read first it would not be known for its copy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from agent import settings
from agent.config import NEVER, RETENTION, Config
from agent.files.discover import Found
from agent.files.expand import PACKED

DAY_S = 86400
SHORTEST_DAYS = 1
"""No collector keeps events for less."""
WAIT_S = 60.0
NS = 1_000_000_000


class Ages:
    """Told what there is, says what of it is to be read."""

    def __init__(self, config: Config) -> None:
        self._limits = {source.name: source.ignore_older for source in config.sources}
        self.ignored: dict[str, tuple[int, int]] = {}
        """By source: how many files, and their bytes."""
        self.waiting_bytes = 0
        """In files that wait for the collector's word."""

    def limit_s(self, source: str, retention_days: int) -> float | None:
        """How old files of a source may be; None: of any age. ``retention_days``: 0 where that is not known."""
        limit = self._limits[source]
        if limit == NEVER:
            return None
        return (settings.duration_s(limit) or 0.0) if limit != RETENTION else retention_days * DAY_S or None

    def is_old(self, one: Found, retention_days: int, now_ns: int) -> bool:
        """Whether a file that is not known is beyond its limit."""
        limit_s = self.limit_s(one.source, retention_days)
        return limit_s is not None and now_ns - one.stat.st_mtime_ns > limit_s * NS

    def wanted(
        self, found: Sequence[Found], known: Callable[[Found], bool], *, retention_days: int, now_ns: int, waits: bool
    ) -> list[Found]:
        """Those that are to be read.

        Args:
            known: whether the state knows a file, or its age does not matter for another reason.
            waits: whether the collector may still say how long it keeps events.
        """
        kept: set[str] = set()
        self.ignored, self.waiting_bytes = {}, 0
        waiting: set[str] = set()
        for one in sorted(found, key=lambda one: one.path.endswith(PACKED)):
            pending = waits and not retention_days and self._limits[one.source] == RETENTION
            is_old = self.is_old(one, SHORTEST_DAYS if pending else retention_days, now_ns)
            if pending and one.path.endswith(PACKED):
                is_old = is_old or os.path.splitext(one.path)[0] in waiting
            if not is_old or known(one):
                kept.add(one.path)
            elif pending:
                self.waiting_bytes += one.stat.st_size
                waiting.add(one.path)
            else:
                files, size = self.ignored.get(one.source, (0, 0))
                self.ignored[one.source] = files + 1, size + one.stat.st_size
        return [one for one in found if one.path in kept]
