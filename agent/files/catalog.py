"""Every file the agent knows, and which file on disk holds which known content.

`agent.files.identity` decides; this module asks it the questions in the right order and keeps the result. The order of a walk:

1. Known inodes first: each either still holds its content or lets go of it.
2. Then what holds no known content: a copy or successor of a known one, new, or too short to tell (`agent.files.newcomer`).
3. Then the known contents that nothing holds any more (`agent.files.missing`).

Owned by the reader thread.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from agent import crash
from agent.files import identity
from agent.files.contents import Contents, Lost, Origins, taken_to
from agent.files.discover import Found
from agent.files.expand import Unfinished
from agent.files.identity import BODY_AT, FileState
from agent.files.missing import Search
from agent.files.newcomer import Newcomers
from agent.files.tail import Handles, Tail, inode_at
from agent.files.wanted import Wanted

log = logging.getLogger("agent.files")


class Catalog:
    """States (contents) and tails (files on disk). ``fresh``: there was no state, all that is there may be known already."""

    def __init__(
        self,
        scope: str,
        states: dict[str, FileState],
        tags: dict[str, int],
        *,
        fresh: bool,
        make_origin: Origins,
        handles: Handles,
        wanted: Wanted | None = None,
        olddirs: Mapping[str, Sequence[str]] | None = None,
        instances: frozenset[str] = frozenset(),
    ) -> None:
        """``instances``: sources of which each inode is a file of its own."""
        self.tags = tags
        self._contents = Contents(states, handles=handles, olddirs=olddirs)
        self.slots = handles.slots
        self.states, self.tails = self._contents.states, self._contents.tails
        self._search = Search(self._contents, wanted)
        self._newcomers = Newcomers(scope, self._contents, tags, fresh=fresh, make_origin=make_origin, instances=instances)
        self._make_origin = make_origin
        self.ends_to_note = False
        """What `at_end` found is not on disk yet: without it compressed files are expanded again after a start."""
        self._cut: list[Lost] = []
        """Seen, unread and cut away while the rest of the file stayed."""

    def adopt(self, tails: list[Tail]) -> None:
        """Go on with files that an earlier catalog held open, before the first walk. What can be found by its path is
        found there; the others have no name any more, or one that nothing matches, and are known by their handles only."""
        for tail in tails:
            tail.hand_over(self._contents.handles)
            state, tail.state, tail.replaces, tail.error = tail.state, None, "", ""
            with contextlib.suppress(OSError):
                tail.look()
            if not tail.is_open or (tail.listed and not tail.deleted and tail.is_at_its_path()):
                tail.close()
                continue
            if state is not None and (source := self._search.source_of(state)) is None:
                tail.close()  # the configuration has let go of it
                continue
            tail.source = source if state is not None and source else tail.source
            tail.listed = False
            tail.replay_until = tail.size
            self.tails[tail.inode] = tail
            known = [known for known in self.states.values() if known.inode == tail.inode[1]]
            if state is not None and state.origin in self.states:
                known = [self.states[state.origin]]
            self._recognise_inode(tail, known)
            if tail.state is None and state is not None:
                self._begin_again(tail, state)

    def _begin_again(self, tail: Tail, state: FileState) -> None:
        """Nothing of this content is in the spool: all of it is read again, with the same IDs."""
        state.offset, state.gone_ns, state.finished = state.base, 0, False
        identity.drop_marks_beyond(state, state.base)
        if state.base and (not state.recent or state.recent[-1][0] != state.base):
            state.recent.append(tail.mark(state.base))
        if state.tag < identity.INSTANCE:
            self.tags[state.head] = max(state.tag, self.tags.get(state.head, 0))
        self.states[state.origin] = state
        self._contents.hold(tail, state)

    def left(self) -> list[FileState]:
        """Contents of files that are of no source any more, and were not read to their end."""
        return [state for state in self.states.values() if not state.finished and self._search.source_of(state) is None]

    # Step 1 and 2: files on disk ---------------------------------------------------------------------------------------

    def update(self, found: list[Found], now_s: float) -> Iterator[Tail]:
        """Take the result of a walk into account. Yields tails with something to read or to look at."""
        self._contents.walks += 1
        listed_before = {known.inode for known in self.tails.values() if known.listed}
        for known in self.tails.values():
            known.listed = False
        arrived: list[Tail] = []
        for path, source, stat in found:
            inode = (stat.st_dev, stat.st_ino)
            tail = self.tails.get(inode) or self._contents.new_tail(path, source, stat, now_s)
            if inode not in self.tails:
                self.tails[inode] = tail
                arrived.append(tail)
            elif tail.listed:
                continue  # a second link to the same file
            elif tail.path != path:
                self._moved(tail, path)
                tail.left_s = now_s
            tail.listed, tail.source = True, source
            if tail.is_news(stat):
                yield tail
        if arrived:
            by_inode: dict[int, list[FileState]] = {}
            for state in self.states.values():
                by_inode.setdefault(state.inode, []).append(state)
            for tail in arrived:
                self._recognise_inode(tail, by_inode.get(tail.inode[1], []))
        yield from arrived
        for tail in list(self.tails.values()):
            if not tail.listed:
                tail.left_s = now_s if tail.inode in listed_before else tail.left_s
                yield from self._unlisted(tail)
        if any(tail.state is None for tail in arrived):
            yield from self._search.in_own_inodes(now_s)

    def _moved(self, tail: Tail, path: str) -> None:
        before = tail.name
        tail.move(path)
        log.info("%s is now %s", before, tail.name)
        if tail.state is not None:
            tail.state.path, tail.state.place = tail.name, tail.place

    def _recognise_inode(self, tail: Tail, states: list[FileState]) -> None:
        """Step 1 for a file that was not seen since the start: is its inode a known one? The newest claim counts."""
        tail.unrecognised = not self._opens(tail)
        if tail.unrecognised:
            return
        newest_first = states[::-1]
        for state in sorted(newest_first, key=lambda state: state.device != tail.inode[0]):
            if state.generation != tail.generation or state.origin in self._contents.owners:
                continue
            known = tail.trust(state)
            if not known and (state.gone_ns or self._on_another_device(state, tail)) and not self._is_back(state, tail):
                continue
            state.gone_ns, state.finished = 0, False
            self._contents.hold(tail, state)
            if tail.packed:
                tail.unchecked = not known
                tail.rest()
                return
            with contextlib.suppress(OSError):  # what cannot be read now is compared before it is read
                self.check(tail)
            return

    @staticmethod
    def _on_another_device(state: FileState, tail: Tail) -> bool:
        """Whether an equal inode number is an accident. A reboot may number devices anew: then the generation, which is no
        accident, or the path speaks for it."""
        return state.device not in (0, tail.inode[0]) and not state.generation and state.path != tail.name

    def _is_back(self, state: FileState, tail: Tail) -> bool:
        """Whether a content that was given up lies in its inode again: a folder that was away, a file moved out and back."""
        try:
            return self._contents.is_in(state, tail)
        except OSError:
            return False

    def _unlisted(self, tail: Tail) -> Iterator[Tail]:
        """A file that no source matches any more: renamed out of the globs, deleted, or gone unread."""
        if tail.is_open:
            with contextlib.suppress(OSError):
                tail.look()
        if tail.is_open and not tail.deleted:
            for path in self._contents.siblings(tail.real_path, tail.source):
                if inode_at(path) == tail.inode:
                    self._moved(tail, path)
                    break
        if tail.is_open and (tail.state is not None or tail.size):
            yield tail
        else:
            self._contents.drop(tail)

    def _opens(self, tail: Tail) -> bool:
        try:
            tail.look()
        except OSError as error:
            if tail.error != error.strerror:
                tail.error = error.strerror or str(error)
                log.warning("%s: cannot be read: %s; it is tried again at each walk", tail.name, tail.error)
            return False
        tail.error = ""
        return True

    def check(self, tail: Tail) -> None:
        """Whether a tail still holds its content (rules 1 to 3), and what follows."""
        state = tail.state
        if state is None:
            return
        tail.kept_block = 0, b""
        size = tail.reach(state.offset or state.front[0])
        if size < state.offset and not tail.ended:
            raise Unfinished(errno.EAGAIN, "it is not written to its end, and was read beyond that")
        if tail.packed and state.recent and not tail.holds(*state.recent[-1]):
            tail.want(identity.positions(state))
        verdict = identity.resume(state, size, tail.holds)
        tail.unchecked = False
        if isinstance(verdict, identity.Rewind):
            self._rewind(tail, state, verdict)
        elif isinstance(verdict, identity.NewContent):
            self.other_content(tail)
        else:
            if tail.damage or not tail.ended:
                return  # what is missing is told when all that can be had is read: `at_end`
            self._lose_behind(state, tail.size)
            if tail.size < state.front[0] and not state.offset:
                identity.see_front(state, tail.front(BODY_AT))  # what it is compared with before it is read
            state.size = tail.size

    def _lose_behind(self, state: FileState, end: int) -> None:
        """What was seen of a file behind a position is cut away: lost, but for what is in the spool."""
        kept = end if state.gaps else max(end, taken_to(state))
        if state.size > kept:
            self._cut.append(Lost(state, "cut_before_read", state.size - kept, kept, exact=True))

    def see(self, tail: Tail) -> None:
        """Note how far a file reaches that cannot be read yet: should it be cut away before, that much is known to be lost."""
        state = tail.state
        if state is None or tail.size <= state.size:
            return
        if tail.packed:
            state.size = tail.size
            return
        if not state.offset and state.front[0] < BODY_AT:
            if not identity.goes_on(state, front := tail.front(BODY_AT)):  # of one look: it may be written anew behind it
                return  # it is looked into before it is read
            identity.see_front(state, front)
        elif not state.offset:
            if not identity.begins_alike(state, tail.size, tail.holds):
                return
        elif state.recent and not tail.holds(*state.recent[-1]):
            return
        state.size = tail.size

    def other_content(self, tail: Tail) -> None:
        """The tail's content was cut away or replaced in place (rule 3)."""
        log.info("%s: holds other content now", tail.name)
        self._contents.let_go(tail)
        tail.forget()
        tail.settled = True

    def _rewind(self, tail: Tail, state: FileState, verdict: identity.Rewind) -> None:
        offset = verdict.position if verdict.line_start else tail.line_start(verdict.position)
        offset = offset if offset >= BODY_AT else 0
        log.warning("%s: was cut back; reading again from byte %d, with the same IDs", tail.name, offset)
        self._lose_behind(state, state.offset)
        again = msgspec.structs.replace(
            state, origin=self._make_origin(), offset=offset, replay_until=max(state.replay_until, state.offset), size=tail.size
        )
        again.skipped, again.elsewhere = min(again.skipped, offset), 0
        identity.drop_marks_beyond(again, offset)
        if offset and (not again.recent or again.recent[-1][0] != offset):
            again.recent.append(tail.mark(offset))
        if not offset:
            identity.see_front(again, tail.front(BODY_AT))
        self._contents.replace(tail, state, again)
        crash.point("rewind.replaced")

    def identify(self, tail: Tail, now_s: float, *, final: bool = False) -> None:
        """Step 2: give a tail without content its state, if it can be told. ``final``: its first line will not go on.
        Raises OSError."""
        if tail.unrecognised:  # it could not be opened when step 1 was its turn
            self._recognise_inode(tail, [state for state in self.states.values() if state.inode == tail.inode[1]])
            if tail.unrecognised or tail.state is not None:
                return
        self._newcomers.identify(tail, now_s, final=final)

    def begin_at_end(self, tail: Tail) -> FileState | None:
        """Give a tail without content a state that skips its whole lines. None where it has none. Raises OSError. A compressed
        file is not expanded for it: as it is now, nothing of it is wanted."""
        return self._newcomers.begin_at_end(tail)

    def forget(self, tails: Iterable[Tail]) -> None:
        """Take what `begin_at_end` gave them: it cannot be recorded now."""
        for tail in tails:
            if tail.state is not None:
                del self.states[tail.state.origin]
            self._contents.let_go(tail)

    def at_end(self, tail: Tail) -> None:
        """All that can be had of a file now was read. Of a compressed one that is noted, and what damage has cost."""
        state = tail.state
        if state is None or not tail.packed or not tail.ended or tail.unread or state.packed == tail.stamp:
            return
        if self._contents.untold_ends.get(state.origin) == tail.stamp:
            return
        if tail.damage:
            log.error("%s: is damaged behind byte %d of its content: %s", tail.name, tail.size, tail.damage)
            self._cut.append(Lost(state, "compressed_file_damaged", max(state.size - tail.size, 1), tail.size))
            self._contents.untold_ends[state.origin] = tail.stamp
        else:
            state.size, state.packed = tail.size, tail.stamp
            self.ends_to_note = True
        tail.rest()

    @property
    def ends_told(self) -> bool:
        """Whether all that damaged files have cost is in the spool."""
        return not self._contents.untold_ends

    # Step 3 ------------------------------------------------------------------------------------------------------------

    def settle_missing(self, now_s: float, now_ns: int) -> Iterator[Tail | Lost]:
        """Find a holder for every content that lost its own. Yields the tails found, and what is lost."""
        yield from self.cut()
        yield from self._search.settle(now_s, now_ns)

    def cut(self) -> list[Lost]:
        """What was cut away unread while the rest of its file stayed. To be told before anything more is read of that: the
        state of what stayed knows nothing of it."""
        cut, self._cut = self._cut, []
        return cut

    @property
    def is_cut(self) -> bool:
        """There is something for `cut` to give away."""
        return bool(self._cut)

    def open_tails(self) -> list[Tail]:
        """The files that are open."""
        return self._contents.handles.tails()

    def give_up(self, tail: Tail, reason: str, now_ns: int) -> Lost | None:
        """Let go of a deleted file for good: nothing else leads to what of it was not read."""
        state = tail.state
        if state is None:
            return None
        lost = Lost(state, reason, max(0, tail.size - state.offset), state.offset, exact=tail.ended, last=True)
        state.size, state.gone_ns = tail.size, now_ns
        state.finished = not lost.lost_bytes
        if lost.lost_bytes:
            self._contents.untold.add(state.origin)
        self._contents.drop(tail)
        return lost

    @property
    def is_waiting(self) -> bool:
        """There are contents of which cannot be told yet what became of them."""
        return bool(self._contents.unsure)

    @property
    def searching(self) -> bool:
        """Where missing contents are takes more time to find out: ask again soon."""
        return self._search.goes_on

    def told(self) -> None:
        """The losses found so far are in the spool, but for those that `cut` has not given away yet."""
        self._search.told()
        ends, waiting = self._contents.untold_ends, {lost.state.origin for lost in self._cut}
        for origin in ends.keys() - waiting:
            stamp, state = ends.pop(origin), self.states.get(origin)
            if state is not None:
                state.size, state.packed = state.offset, stamp

    def finish(self, tail: Tail, now_s: float, now_ns: int) -> None:
        """A rotated or deleted file was read to its end, and its bytes are synced."""
        self._contents.finish(tail, now_s, now_ns)

    def drop(self, tail: Tail) -> None:
        """Forget a file on disk."""
        self._contents.drop(tail)

    def all_states(self) -> list[FileState]:
        """What the next segment begins with."""
        return self._contents.all_states()
