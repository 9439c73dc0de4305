"""Which source a known file belongs to now that the configuration may be another one. Pure.

A file is known by where it was first seen (`FileState.born_path`), which some source matched then, and by where it is now. When
no source matches either any more, the configuration has let go of it: it stays where it is, nothing of it is read or told lost,
and it goes on there should a source match it again. In doubt it is wanted: more is shipped rather than less.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from agent.files.discover import Globs, excluded

_SHORTENED = "…"


class Wanted:
    def __init__(self, globs: Sequence[Globs]) -> None:
        self._globs = globs
        self._names = {one.source for one in globs}

    def source_of(self, source: str, *paths: str) -> str | None:
        """The source of a file that was of ``source`` before and has, or had, these paths; None: it is of none."""
        if source in self._names and any(path.startswith(_SHORTENED) for path in paths):
            return source
        found = [one.source for one in self._globs if any(_matches(path, one) for path in paths)]
        return source if source in found else next(iter(found), None)


def _matches(path: str, one: Globs) -> bool:
    """Lenient: ``*`` also matches ``/``."""
    return any(fnmatch.fnmatchcase(path, pattern.replace("**/", "*")) for pattern in one.include) and not excluded(
        path, one.exclude
    )
