"""Files whose inode holds no known content: copies or successors of a known one, new ones, or too short to tell.

`agent.files.identity` decides; this module asks it, and gives a file the state that follows. A new state's name (`head_id`,
`body_id`) is made here, once.

Owned by the reader thread.
"""

from __future__ import annotations

import errno
import logging

from agent.files import identity
from agent.files.contents import Contents, Origins
from agent.files.expand import NotYet
from agent.files.identity import BODY_AT, Candidate, FileState, Standing
from agent.files.tail import Tail

log = logging.getLogger("agent.files")

JUST_GONE_S = 30.0
"""A content that vanished longer ago than this before a short look-alike came is not what came back."""


class Newcomers:
    """Gives files their states. ``fresh``: there was no state, all that is there may be known already; ``instances``: sources
    of which each inode is a file of its own."""

    def __init__(
        self,
        scope: str,
        contents: Contents,
        tags: dict[str, int],
        *,
        fresh: bool,
        make_origin: Origins,
        instances: frozenset[str],
    ) -> None:
        self._scope = scope
        self._contents = contents
        self._states = contents.states
        self._tags = tags
        self._fresh = fresh
        self._make_origin = make_origin
        self._instances = instances

    def identify(self, tail: Tail, now_s: float, *, final: bool = False) -> None:
        """Give a tail without content its state, if it can be told. ``final``: its first line will not go on.
        Raises OSError."""
        size = tail.look()
        data_at, text = tail.text_at_front()
        head = identity.head_of(text)
        if head is None and not ((final or tail.deleted or tail.packed) and tail.ended and (text or tail.damage)):
            return  # the first line is not complete
        head = text[: identity.HEAD_BYTES] if head is None else head
        if not text:  # so damaged that there is nothing to know it by; the loss has to be somebody's
            self._begin(tail, head, identity.head_key(tail.source, head), "", b"")
            return
        front = self._front(tail, data_at, head)
        key, body_id = self._named(tail, data_at, head, front)
        if tail.source in self._instances and not tail.packed:
            self._begin(tail, head, key, body_id, front)
            return
        known = [state for state in self._states.values() if state.head == key and not self._unlike(state, front)]
        if tail.packed:
            if tail.source in self._instances:  # made of one of them: whose bytes it holds says of which
                body_id = self._same_body(tail, data_at, head, known) or body_id
            known = [state for state in known if not body_id or state.body_id in ("", body_id)]
            size = self._expanded(tail, known)
            if not tail.ended and size < BODY_AT and any(_agrees(state, size, tail) for state in known):
                return  # it may be a copy of a known one, or go on otherwise
        more = bool(tail.damage) or not tail.ended
        new = Candidate(tail.name, size, key, body_id, tail.holds, copy=tail.packed and tail.ended, damaged=more)
        settled = tail.settled or now_s - tail.first_seen_s >= identity.SETTLE_S
        verdict = identity.judge(
            new,
            known,
            lambda state: self._standing(state, tail),
            settled=settled,
            begins=lambda state, position: self._begins_with(state, tail, position),
        )
        if isinstance(verdict, identity.Same):
            self._same(tail, verdict.known)
        elif isinstance(verdict, identity.New) or (isinstance(verdict, identity.Fork) and not self._forks(tail, verdict)):
            self._is_elsewhere(known, tail)
            self._begin(tail, head, key, body_id, front)
        tail.is_copy = tail.state is None and isinstance(verdict, identity.Same)
        if tail.state is None and tail.ended:
            tail.rest()

    def _is_elsewhere(self, known: list[FileState], tail: Tail) -> None:
        """A short copy is going to be a file of its own: should its original be cut away, what it holds of that is not lost."""
        size = tail.size
        if tail.packed or size >= BODY_AT:
            return
        for state in known:
            owner = self._contents.owners.get(state.origin)
            if owner is None or owner.packed or owner is tail or state.offset >= size:
                continue
            try:
                there = owner.look() >= size and owner.holds(*(state.recent[-1] if state.recent else state.front))
                if there and owner.holds(*tail.mark(size)):
                    state.elsewhere = max(state.elsewhere, size)
            except OSError:
                continue

    @staticmethod
    def _expanded(tail: Tail, known: list[FileState]) -> int:
        """The size of a compressed file, as far as it takes to tell it from known contents."""
        for state in known:
            tail.want(identity.positions(state))
        return tail.reach(max((state.offset + 1 for state in known), default=0))

    @staticmethod
    def _front(tail: Tail, data_at: int, head: bytes) -> bytes:
        """What a file begins with, which has to be what its head was taken from: one that is cut away and written anew between
        two looks would get the name of the one and the lines of the other. Raises OSError."""
        front = tail.front(BODY_AT)
        seen = front[data_at : data_at + len(head)]
        if (
            any(front[:data_at])
            or seen != head[: max(len(front) - data_at, 0)]
            or len(front) < min(data_at + len(head), BODY_AT)
        ):
            raise OSError(errno.EAGAIN, "it was written anew while it was looked at")
        return front

    def _named(self, tail: Tail, data_at: int, head: bytes, front: bytes) -> tuple[str, str]:
        """What a file is known by: its head's key, and its `FileState.body_id`."""
        body = identity.body_of(front) if data_at < BODY_AT else identity.hole_anchor(data_at, head)
        key, tag = identity.head_key(tail.source, head), 0
        if tail.source in self._instances:
            tag = self._instance_tag(tail, key)
        return key, identity.file_id(self._scope, tail.source, body, tag) if body is not None else ""

    def _same_body(self, tail: Tail, data_at: int, head: bytes, known: list[FileState]) -> str:
        """The `FileState.body_id` of the known instance that begins with the same bytes; empty where none does."""
        body = identity.body_of(tail.front(BODY_AT)) if data_at < BODY_AT else identity.hole_anchor(data_at, head)
        for state in known if body is not None else ():
            if state.body_id == identity.file_id(self._scope, state.source, body or b"", identity.body_tag(state.tag)):
                return state.body_id
        return ""

    def _instance_tag(self, tail: Tail, key: str) -> int:
        """Not one that another content in the same inode has: it was cut away, and the same bytes were written again."""
        first = identity.instance_tag(tail.inode[1], tail.generation, 0)
        before = [state.tag & 255 for state in self._states.values() if state.head == key and state.tag & ~255 == first]
        return identity.instance_tag(tail.inode[1], tail.generation, max(before, default=-1) + 1)

    def begin_at_end(self, tail: Tail) -> FileState | None:
        """Give a tail without content a state that skips its whole lines. None where it has none. Raises OSError. A compressed
        file is not expanded for it: as it is now, nothing of it is wanted."""
        size = tail.look()
        data_at, text = tail.text_at_front()
        head, end = identity.head_of(text), data_at + len(text) if tail.packed else tail.line_start(size)
        if head is None or not end:
            return None
        front = self._front(tail, data_at, head)
        key, body_id = self._named(tail, data_at, head, front)
        self._begin(tail, head, key, body_id, front)
        if tail.packed and tail.state is not None:
            tail.state.size, tail.state.packed, tail.state.skipped = 0, tail.stamp, tail.disk_size
            tail.rest()
        elif tail.state is not None:
            identity.skip(tail.state, end, tail.mark)
        return tail.state

    def _unlike(self, state: FileState, front: bytes) -> bool:
        """Whether a known file begins differently. Only one that has not been read, so has no marks, is asked itself, unless it
        was cut away meanwhile: what its file holds now says nothing of it."""
        owner = self._contents.owners.get(state.origin)
        if state.offset or owner is None:
            return False
        try:
            if not identity.begins_alike(state, owner.size, owner.holds):
                return False
            other = owner.front(BODY_AT)
        except OSError:
            return False
        common = min(len(front), len(other))
        return front[:common] != other[:common]

    def _begin(self, tail: Tail, head: bytes, key: str, body_id: str, front: bytes) -> None:
        twin = next((state for state in self._states.values() if body_id and state.body_id == body_id), None)
        # What differs from its twin does so behind their equal first 4 KiB: of these the lines keep their IDs.
        tag = self._tags.get(key, -1) + 1 if twin is None else twin.tag
        if tail.source in self._instances:
            tag = self._instance_tag(tail, key)
        else:
            self._tags[key] = max(tag, self._tags.get(key, 0))
        again = self._fresh or twin is not None
        state = FileState(
            origin=self._make_origin(),
            source=tail.source,
            path=tail.name,
            born_path=tail.born_path,
            inode=tail.inode[1],
            generation=tail.generation,
            size=tail.size,
            offset=0,
            head=key,
            tag=tag,
            head_id=identity.file_id(self._scope, tail.source, head, tag),
            body_id=body_id,
            replay_until=tail.size if again else 0,
        )
        identity.see_front(state, front)
        if front and not any(front) and len(front) == BODY_AT:
            identity.see_behind_hole(state, tail.mark(tail.text_at_front()[0] + len(head)))
        self._states[state.origin] = state
        self._contents.hold(tail, state)

    def _same(self, tail: Tail, known: FileState) -> None:
        """Rule 4 and its like: nothing to send while it is a prefix; where it is longer, go on where the known one ended."""
        if tail.size < known.offset:
            return
        owner = self._contents.owners.get(known.origin)
        if owner is None:
            log.info("%s: goes on where %s ended", tail.name, known.path)
            known.path, known.gone_ns, known.finished = tail.name, 0, False
            known.inode, known.generation = tail.inode[1], tail.generation
            known.replay_until = max(known.replay_until, tail.size)
            self._contents.hold(tail, known)
        elif tail.size > known.offset and self._goes_its_own_way(tail, owner, known):
            self._go_on_from(tail, known, known.offset)

    @staticmethod
    def _goes_its_own_way(tail: Tail, owner: Tail, known: FileState) -> bool:
        """Whether the original ends where it was read to, or what is unread of it, half a line perhaps, is not in its copy. One
        that was cut away meanwhile says nothing."""
        there = owner.reach(known.offset + 1)
        if there <= known.offset or not owner.ended or owner.packed or tail.packed:
            return there == known.offset and owner.ended
        still = bool(known.recent) and owner.holds(*known.recent[-1])
        return still and not owner.holds(*tail.mark(min(tail.size, there)))

    def _go_on_from(self, tail: Tail, known: FileState, offset: int) -> None:
        """A file of its own that has the beginning, up to there, in common with a known one."""
        copy = identity.branch(
            known,
            origin=self._make_origin(),
            path=tail.name,
            inode=(*tail.inode, tail.generation),
            size=tail.size,
            offset=offset,
        )
        if offset and (not copy.recent or copy.recent[-1][0] != offset):
            copy.recent.append(tail.mark(offset))
        self._states[copy.origin] = copy
        self._contents.hold(tail, copy)

    def _forks(self, tail: Tail, fork: identity.Fork) -> bool:
        """Whether it is a copy that ends early or goes its own way, nobody can tell: what is behind the last mark is read, with
        the IDs it would have in any case. False: that is all of it."""
        offset = fork.at.position if fork.at.line_start else tail.line_start(fork.at.position)
        if fork.at.line_start or offset >= BODY_AT:
            self._go_on_from(tail, fork.known, offset)
        return tail.state is not None

    def _begins_with(self, known: FileState, tail: Tail, size: int) -> bool | None:
        """Whether the file that holds a known content has the bytes before a position in common with this one. None: there is
        none, or it cannot be asked."""
        owner = self._contents.owners.get(known.origin)
        if owner is None:
            return None
        try:
            return owner.reach(size) >= size and owner.holds(*tail.mark(size))
        except NotYet:
            raise
        except OSError:
            return None

    def _standing(self, state: FileState, asking: Tail) -> Standing:
        owner = self._contents.owners.get(state.origin)
        if state.origin in self._contents.unsure:
            return Standing.ALIVE
        if owner is not None and owner.packed:
            return Standing.PACKED
        if owner is not None and (not owner.deleted or owner.size > state.offset):
            return Standing.ALIVE
        gone_s = self._contents.gone_s.get(state.origin)
        if gone_s is None:
            return Standing.LONG_GONE if state.finished else Standing.JUST_GONE
        return Standing.JUST_GONE if asking.first_seen_s - gone_s <= JUST_GONE_S else Standing.LONG_GONE


def _agrees(state: FileState, size: int, tail: Tail) -> bool:
    return identity.agrees(state, min(size, state.offset), tail.holds)
