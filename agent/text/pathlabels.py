"""What the path of a file says of its lines, such as namespace, pod and container on a Kubernetes node. Pure.

- ``path_labels`` of a source are patterns with named groups. The first that is found in the path, else in the path that links
  lead to, gives a label for each of its groups that took part; a group called `SERVICE` gives the service instead. A path that
  none is found in says nothing: its lines are shipped all the same.
- They are no part of an event's ID. What is said of a path is kept: a record costs a look into a table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

SERVICE = "service"
KEPT_PATHS = 4096
"""What is said of so many is kept. A file beyond is looked at again with each of its records."""


class Said(NamedTuple):
    labels: dict[str, str]
    service: str = ""
    """Empty: the path says none."""


NOTHING = Said({})


class PathLabels:
    """Of one source."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self.most = max((len(pattern.groupindex.keys() - {SERVICE}) for pattern in self._patterns), default=0)
        """So many labels a path gives at most."""
        self._looked = lru_cache(KEPT_PATHS)(self._look)

    def of(self, path: str, real_path: str) -> Said:
        """What is said of a file. ``real_path``: where links lead; the same where there are none. Both as they are shown."""
        return self._looked(path, real_path) if self._patterns else NOTHING

    def _look(self, path: str, real_path: str) -> Said:
        for text in dict.fromkeys((path, real_path)):
            for pattern in self._patterns:
                if (match := pattern.search(text)) is not None:
                    found = {name: value for name, value in match.groupdict().items() if value}
                    return Said({name: value for name, value in found.items() if name != SERVICE}, found.get(SERVICE, ""))
        return NOTHING


def faults(patterns: Iterable[str], *, room: int) -> list[str]:
    """What is wrong with patterns. ``room``: how many labels they may give."""
    found = []
    for pattern in patterns:
        try:
            names = set(re.compile(pattern).groupindex) - {SERVICE}
        except (re.error, OverflowError, RecursionError) as error:
            found.append(f"{pattern!r} is no regular expression: {error}")
            continue
        if not re.compile(pattern).groupindex:
            found.append(f"{pattern!r} has no named group; write for instance '/(?P<pod>[^/]+)/[^/]+\\.log'")
        elif len(names) > room:
            found.append(f"{pattern!r} gives {len(names)} labels, there is room for {room}; drop some")
    return found


def of_file(patterns: Iterable[str], path: str | os.PathLike[str], shown: str) -> Said:
    """The same for one file that lies at ``path`` and is shown as ``shown``."""
    real = os.fsencode(os.path.realpath(path)).decode("utf-8", "backslashreplace")
    return PathLabels(patterns).of(shown, real)
