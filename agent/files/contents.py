"""What the agent knows: contents (`FileState`), files on disk (`Tail`), and which of them holds which.

One place keeps these in step; `agent.files.catalog` and `agent.files.missing` decide what is put there. Owned by the
reader thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent import wire
from agent.files import identity
from agent.files.discover import siblings
from agent.files.expand import Unfinished
from agent.files.identity import BODY_AT, FileState
from agent.files.packed import tail_of
from agent.files.tail import Handles, Tail

KEPT_GONE_STATES = 2000
"""States of files that are gone: what a copy that turns up later is recognised by."""


EVERYTHING = 1 << 62
"""A position that no file has."""


class Lost(NamedTuple):
    """Bytes of a file that nobody can read any more."""

    state: FileState
    reason: str
    lost_bytes: int
    at: int
    """The first lost byte."""
    exact: bool = False
    """These bytes and no others; else there may have been more."""
    last: bool = False
    """Nothing is left of the file: should that be found again after a crash, it is this loss and no other."""

    @property
    def loss_id(self) -> str:
        """Equal for what is found lost again after a crash."""
        owner = self.state.head_id if self.reason == wire.OVER_LONG else self.state.origin
        return f"{owner}-{self.at:x}" + f"-{self.lost_bytes:x}" * (self.exact and not self.last)


def taken_to(state: FileState) -> int:
    """Up to where a file's bytes are in the spool, but for its gaps; also those that may go on and were sent all the same, and
    those that a copy holds."""
    return max(state.offset, state.read_to, state.half_to if state.halves else 0, state.elsewhere)


class Origins:
    """Makes origins: random, 16 hex digits."""

    def __call__(self) -> str:
        return os.urandom(8).hex()


class Contents:
    """States by their origin, tails by their inode, and who owns what."""

    def __init__(
        self, states: dict[str, FileState], *, handles: Handles, olddirs: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """``olddirs``: by source, the folders where its rotated files lie besides their own."""
        self.states = states
        self.tails: dict[tuple[int, int], Tail] = {}
        self.handles = handles
        self._olddirs = olddirs or {}
        self.owners: dict[str, Tail] = {}
        self.gone_s: dict[str, float] = {}
        """When a content was found to have lost its owner, as far as that was seen."""
        self.unsure: set[str] = set()
        """Origins of contents that may lie in a file which cannot be read now."""
        self.untold: set[str] = set()
        """Origins of contents whose loss is not in the spool yet."""
        self.untold_ends: dict[str, tuple[int, int]] = {}
        """Origins of contents in compressed files that are damaged -> `Tail.stamp`: that loss is not in the spool yet."""
        self.walks = 0

    def new_tail(self, path: str, source: str, stat: os.stat_result, now_s: float) -> Tail:
        """A file that was not known; it is not kept yet."""
        tail = tail_of(path, source, stat, now_s, self.handles)
        if self.walks == 1:
            tail.replay_until = tail.size  # a power cut may have taken the records of what was shipped from the spool
        return tail

    def siblings(self, path: str, source: str) -> list[str]:
        """Where a rotation may have put a file of a source."""
        return siblings(path, self._olddirs.get(source, ()))

    def hold(self, tail: Tail, state: FileState) -> None:
        """This file holds this content."""
        tail.state = state
        state.path, state.place, state.device = tail.name, tail.place, tail.inode[0]
        state.source = tail.source
        if state.packed != tail.stamp or not tail.packed:
            state.packed = 0, 0
        state.replay_until = max(state.replay_until, tail.replay_until)
        self.owners[state.origin] = tail
        self.gone_s.pop(state.origin, None)
        self.unsure.discard(state.origin)
        self.untold.discard(state.origin)

    def let_go(self, tail: Tail) -> None:
        """The tail's content is gone from its inode; the content may turn up elsewhere."""
        if tail.state is not None:
            self.owners.pop(tail.state.origin, None)
            tail.state = None

    def replace(self, tail: Tail, old: FileState, new: FileState) -> None:
        """``new`` takes over from ``old``, which is void as soon as a record has said so."""
        del self.states[old.origin]
        self.owners.pop(old.origin, None)
        self.states[new.origin] = new
        self.hold(tail, new)
        new.base, new.replaces, tail.replaces = new.offset, old.origin, old.origin

    def finish(self, tail: Tail, now_s: float, now_ns: int) -> None:
        """A rotated or deleted file was read to its end, and its bytes are synced."""
        state = tail.state
        if state is not None:
            state.finished, state.gone_ns = True, now_ns
            self.gone_s[state.origin] = now_s
        self.drop(tail)

    def drop(self, tail: Tail) -> None:
        """Forget a file on disk."""
        tail.close()
        self.let_go(tail)
        self.tails.pop(tail.inode, None)

    def all_states(self) -> list[FileState]:
        """What the next segment begins with; forgets the oldest of the gone."""
        gone = [state for state in self.states.values() if state.finished and state.origin not in self.owners]
        for state in gone[: max(0, len(gone) - KEPT_GONE_STATES)]:
            del self.states[state.origin]
            self.gone_s.pop(state.origin, None)
        return list(self.states.values())

    def is_in(self, state: FileState, tail: Tail) -> bool:
        """Whether a content that nothing holds lies in this file. Raises OSError: also where that is not known yet."""
        tail.look()
        if tail.packed and not self._may_be_in(state, tail):
            return False
        if state.offset == 0:
            if not state.front[0]:
                return (state.inode, state.generation) == (tail.inode[1], tail.generation)
            return identity.begins_alike(state, tail.size, tail.holds) and not self._was_read(tail)
        found = bool(state.recent) and tail.size >= state.offset and tail.holds(*state.recent[-1])
        return found and not self._is_copy_of_another(state, tail)

    def _may_be_in(self, state: FileState, tail: Tail) -> bool:
        """For a compressed file: what it begins with, first; then all that has to be known of it."""
        needed = state.offset or state.front[0]
        size = tail.reach(min(needed, BODY_AT))
        if not self._begins(state, size, tail):
            return False
        size = tail.reach(needed if state.offset else EVERYTHING)
        if size < needed and not tail.ended:
            if self._begins(state, size, tail):
                raise Unfinished(errno.EAGAIN, f"{tail.name} is not written to its end")
            return False
        return True

    @staticmethod
    def _begins(state: FileState, size: int, tail: Tail) -> bool:
        if not size:
            return not tail.ended
        if not state.offset:
            return identity.begins_alike(state, size, tail.holds)
        return identity.agrees(state, min(size, state.offset, BODY_AT), tail.holds)

    def _is_copy_of_another(self, state: FileState, tail: Tail) -> bool:
        """Whether all of a file of `BODY_AT` bytes or more is at the front of one that is there and was read further: it only
        begins like the content in question."""
        if tail.size < BODY_AT or tail.packed or (state.inode, state.generation) == (tail.inode[1], tail.generation):
            return False
        end = tail.mark(tail.size)
        owners = (self.owners.get(other.origin) for other in self.states.values() if self._is_ahead(other, state))
        return any(
            owner is not None and not owner.packed and owner.look() >= tail.size and owner.holds(*end) for owner in owners
        )

    @staticmethod
    def _is_ahead(other: FileState, state: FileState) -> bool:
        return other.head == state.head and other.offset > state.offset

    def _was_read(self, tail: Tail) -> bool:
        """Whether all of a file was read under another state: it may begin like one that was not."""
        return any(
            state.recent and state.offset == tail.size and tail.holds(*state.recent[-1]) for state in self.states.values()
        )
