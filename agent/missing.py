"""Contents that nothing holds any more: the rotated file that has them now, or what of them is lost.

When a known file is missing at its path, its rotated siblings are looked for beside it and known by content, also where no
source matches them. Where there is none, what was seen and not read is a loss; where that cannot be told just now, each
walk looks again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from agent.contents import Contents, Lost
from agent.discover import siblings
from agent.identity import FileState
from agent.tail import Tail
from agent.wanted import Wanted

log = logging.getLogger("agent.files")


class Search:
    """For the owners of contents that have lost theirs."""

    def __init__(self, contents: Contents, wanted: Wanted | None = None) -> None:
        """``wanted``: which contents the configuration has let go of; None: none."""
        self._contents = contents
        self._wanted = wanted

    def settle(self, now_s: float, now_ns: int) -> Iterator[Tail | Lost]:
        """Find a holder for every content that lost its own. Yields the tails found, and what is lost."""
        contents = self._contents
        for state in list(contents.states.values()):
            if state.origin in contents.owners or state.finished or state.origin in contents.untold:
                continue
            if (source := self.source_of(state)) is None:
                continue
            state.source = source
            contents.gone_s.setdefault(state.origin, now_s)
            try:
                tail = self._sibling(state, now_s)
            except OSError as error:
                if state.origin not in contents.unsure:
                    log.warning("%s: what became of it cannot be told: %s; each walk looks again", state.path, error)
                contents.unsure.add(state.origin)
                continue
            contents.unsure.discard(state.origin)
            if tail is not None:
                yield tail
            else:
                yield from self._give_up(state, now_ns)

    def source_of(self, state: FileState) -> str | None:
        """The source that a content belongs to now; None: to none any more."""
        return state.source if self._wanted is None else self._wanted.source_of(state.source, state.born_path, state.path)

    def _give_up(self, state: FileState, now_ns: int) -> Iterator[Lost]:
        state.gone_ns = state.gone_ns or now_ns
        state.finished = not state.gaps and state.size <= max(state.offset, state.read_to, state.half_to if state.halves else 0)
        if not state.finished:
            self._contents.untold.add(state.origin)
        for start, end in state.gaps:
            yield Lost(state, "spool_record_damaged", end - max(start, state.offset), max(start, state.offset), exact=True)
        if state.size > (unread_from := max(state.offset, state.read_to, state.half_to if state.halves else 0)):
            reason = "cut_before_read" if os.path.exists(state.path) else "deleted_before_read"
            yield Lost(state, reason, state.size - unread_from, unread_from)

    def told(self) -> None:
        """The losses found so far are in the spool. Only now their files are done with: a head that says so before the losses
        are told would make a crash swallow them."""
        contents = self._contents
        for origin in contents.untold & contents.states.keys():
            contents.states[origin].finished = True
        contents.untold.clear()

    def _sibling(self, state: FileState, now_s: float) -> Tail | None:
        """The rotated file that holds this content, by inode or by its marks. Raises OSError when none is found, and one
        that may be it cannot be read: no space for handles, no right, a disk that fails."""
        trouble: OSError | None = None
        place = os.fsdecode(state.place) if state.place else state.path
        tails = self._contents.tails
        for path in (place, *siblings(place)):
            try:
                stat = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                trouble = error
                continue
            tail = tails.get((stat.st_dev, stat.st_ino))
            if tail is not None and tail.state is not None:
                continue
            tail = tail or self._contents.new_tail(path, state.source, stat, now_s)
            try:
                found = self._contents.is_in(state, tail)
            except OSError as error:
                found = False
                if not isinstance(error, PermissionError) or stat.st_ino == state.inode:
                    trouble = error
            if found:
                return self._found(state, tail, path)
            if tail.inode not in tails:
                tail.close()
        if trouble is not None:
            raise trouble
        return None

    def _found(self, state: FileState, tail: Tail, path: str) -> Tail:
        if tail.inode not in self._contents.tails:
            tail.listed = False
            self._contents.tails[tail.inode] = tail
        log.info("%s: found as %s, %d bytes left to read", state.path, path, tail.size - state.offset)
        state.gone_ns = 0
        state.inode, state.generation = tail.inode[1], tail.generation
        self._contents.hold(tail, state)
        return tail
