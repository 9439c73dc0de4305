"""Contents that nothing holds any more: the rotated file that has them now, or what of them is lost.

When a known file is missing at its path, its rotated siblings are looked for beside it and known by content, also where no
source matches them. Where there is none, what was seen and not read is a loss; where that cannot be told just now, because a
file cannot be read or a rotation is moving files on, it is looked for again. Where several that are missing begin alike, a file
is of the one whose inode it is, else of the one that was read furthest.

What is told as lost and comes back, with a volume that was not mounted when the agent started for instance, is taken back as
soon as it is read (`agent.reading.recorder`). A copy below `BODY_AT` bytes that stood beside its original for `SETTLE_S` counts
as a file of its own; what it holds of the original is not lost with that (`FileState.elsewhere`).

Known limits: a file below `BODY_AT` bytes that comes back in another inode is a new one, and the loss stays told. So does that
of an original whose copy was seen in the moment before the agent was killed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator

from agent.files.contents import Contents, Lost, taken_to
from agent.files.expand import NotYet, Unfinished
from agent.files.identity import FileState, ToldLost
from agent.files.tail import Tail, inode_at
from agent.files.wanted import Wanted

log = logging.getLogger("agent.files")


class Search:
    """For the owners of contents that have lost theirs."""

    def __init__(self, contents: Contents, wanted: Wanted | None = None) -> None:
        """``wanted``: which contents the configuration has let go of; None: none."""
        self._contents = contents
        self._wanted = wanted
        self._looked: dict[tuple[int, int], Tail] = {}
        """Compressed siblings that were looked into and hold nothing that is missing: not to be expanded again."""
        self._waited: set[str] = set()
        self._open: dict[tuple[tuple[int, int], str], OSError] = {}
        """Inode and head of files of which could not be told whether a content lies in them: not for another to take."""
        self.goes_on = False
        """It takes more time: call `settle` again soon."""

    def settle(self, now_s: float, now_ns: int) -> Iterator[Tail | Lost]:
        """Find a holder for every content that lost its own. Yields the tails found, and what is lost."""
        contents = self._contents
        self.goes_on = False
        self._open.clear()
        for state in self._missing():
            if (source := self.source_of(state)) is None:
                continue
            state.source = source
            contents.gone_s.setdefault(state.origin, now_s)
            try:
                tail = self._sibling(state, now_s)
            except OSError as error:
                self._cannot_tell(state, error)
                continue
            contents.unsure.discard(state.origin)
            if tail is not None:
                yield tail
            else:
                yield from self._give_up(state, now_ns)
        if not contents.unsure:
            self._looked.clear()
            self._waited.clear()

    def in_own_inodes(self, now_s: float) -> Iterator[Tail]:
        """Find those that were moved out of the patterns while nobody looked, before a copy of one is taken for it: nothing
        would lead to what was written to it since. Yields the tails found."""
        for state in self._missing():
            if state.origin in self._contents.gone_s or (source := self.source_of(state)) is None:
                continue
            state.source = source
            for path, inode in self._places(state).items():
                if inode is None or inode[1] != state.inode or inode in self._contents.tails:
                    continue
                if (tail := self._own(state, path, now_s)) is not None:
                    yield self._found(state, tail, path)
                    break

    def _own(self, state: FileState, path: str, now_s: float) -> Tail | None:
        """The file at a path, if it is the very one that a content was in, and still holds it."""
        try:
            tail = self._contents.new_tail(path, state.source, os.stat(path), now_s)
        except OSError:
            return None
        with contextlib.suppress(OSError):  # it is looked for again
            same = not tail.packed and self._contents.is_in(state, tail)
            if same and (tail.inode[1], tail.generation) == (state.inode, state.generation):
                return tail
        tail.close()
        return None

    def _missing(self) -> list[FileState]:
        """Contents without a holder, the one that was read furthest first: where several begin alike, its file holds what was
        read of the others as well, and is not theirs."""
        contents = self._contents
        missing = [
            state
            for state in contents.states.values()
            if state.origin not in contents.owners and not state.finished and state.origin not in contents.untold
        ]
        return sorted(missing, key=lambda state: -state.offset)

    def _cannot_tell(self, state: FileState, error: OSError) -> None:
        unsure = self._contents.unsure
        if isinstance(error, NotYet):
            self.goes_on = True
        elif isinstance(error, Unfinished):
            if state.origin not in self._waited:
                self._waited.add(state.origin)
                log.info(
                    "%s: it may be in a compressed file that is being written: %s; waiting for it", state.path, error.strerror
                )
        elif state.origin not in unsure:
            log.warning("%s: what became of it cannot be told: %s; each walk looks again", state.path, error)
        unsure.add(state.origin)

    def source_of(self, state: FileState) -> str | None:
        """The source that a content belongs to now; None: to none any more."""
        return state.source if self._wanted is None else self._wanted.source_of(state.source, state.born_path, state.path)

    def _give_up(self, state: FileState, now_ns: int) -> Iterator[Lost]:
        state.gone_ns = state.gone_ns or now_ns
        unread_from = taken_to(state)
        state.finished = not state.gaps and state.size <= unread_from
        if not state.finished:
            self._contents.untold.add(state.origin)
        lost = [
            Lost(state, "spool_record_damaged", end - max(start, state.offset), max(start, state.offset), exact=True)
            for start, end in state.gaps
        ]
        if state.size > unread_from:
            reason = "cut_before_read" if os.path.exists(state.path) else "deleted_before_read"
            lost.append(Lost(state, reason, state.size - unread_from, unread_from))
        state.lost = [told for told in state.lost if told.at < state.offset]  # these are to be taken back yet
        state.lost += [ToldLost(one.loss_id, one.reason, one.at, one.lost_bytes, now_ns) for one in lost]
        yield from lost

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
        tails = self._contents.tails
        places = self._places(state)
        for path in places:
            try:
                stat = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                trouble = error
                continue
            inode = stat.st_dev, stat.st_ino
            tail = tails.get(inode)
            if tail is not None and tail.state is not None:
                continue
            tail = tail or self._candidate(path, state, stat, now_s)
            try:
                found = self._is_in(state, tail) and not self._is_of_another(state, tail, path)
            except OSError as error:
                found = False
                matters = not isinstance(error, PermissionError) or stat.st_ino == state.inode
                if matters and not isinstance(trouble, NotYet):
                    trouble = error
            if found:
                return self._found(state, tail, path)
            if tail.inode not in tails:
                if tail.packed:
                    self._looked[inode] = tail
                tail.close()
        if trouble is None and self._places(state) != places:
            raise NotYet(errno.EAGAIN, "files beside it were renamed while it was looked for")
        if trouble is not None:
            raise trouble
        return None

    def _is_in(self, state: FileState, tail: Tail) -> bool:
        """`Contents.is_in`; what could not be told for one that begins alike and comes first cannot be told either."""
        asked = tail.inode, state.head
        if asked in self._open:
            raise self._open[asked]
        try:
            return self._contents.is_in(state, tail)
        except (NotYet, Unfinished) as error:
            self._open[asked] = error
            raise

    def _is_of_another(self, state: FileState, tail: Tail, path: str) -> bool:
        """Whether another missing one was in this very inode and still is, although it was read less far. Raises OSError."""
        inode = tail.inode[1], tail.generation
        return (state.inode, state.generation) != inode and any(
            (other.inode, other.generation) == inode and path in self._places(other) and self._contents.is_in(other, tail)
            for other in self._missing()
            if other.head == state.head
        )

    def _candidate(self, path: str, state: FileState, stat: os.stat_result, now_s: float) -> Tail:
        tail = self._looked.get((stat.st_dev, stat.st_ino))
        if tail is None:
            return self._contents.new_tail(path, state.source, stat, now_s)
        tail.path = path
        return tail

    def _places(self, state: FileState) -> dict[str, tuple[int, int] | None]:
        """Where it was last, where a rotation may have put it since, and where one may have put what was there at first: each
        with the inode that is there, since a rotation that is under way moves them on."""
        place = os.fsdecode(state.place) if state.place else state.path
        found = [place, *self._contents.siblings(place, state.source)]
        if state.born_path != place:
            found += self._contents.siblings(state.born_path, state.source)
        return {path: inode_at(path) for path in found}

    def _found(self, state: FileState, tail: Tail, path: str) -> Tail:
        if tail.inode not in self._contents.tails:
            tail.listed = False
            self._contents.tails[tail.inode] = tail
            self._looked.pop(tail.inode, None)
        left = f"{tail.size - state.offset} bytes" if tail.ended else "what follows"
        log.info("%s: found as %s, %s left to read", state.path, path, left)
        state.gone_ns = 0
        state.inode, state.generation = tail.inode[1], tail.generation
        self._contents.hold(tail, state)
        return tail
