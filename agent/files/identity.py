"""Same file or not: identity from content, with the inode as a hint. Pure: no IO, no clock, no randomness.

Promises:
- The same bytes at the same place get the same ID on any day, with or without the agent's state.
- A file is never taken for another because a path, an inode number or a first line came back.
- When content cannot tell, the answer is the one that ships: a second copy can be recognised later, a lost line cannot.

``file_id`` (16 hex digits) is BLAKE2b-64 over scope, source name, anchor and tag. Events that start below byte `BODY_AT`
use the head (the first line, at most `HEAD_BYTES`, leading NULs skipped) as anchor; events from there on use the first
`BODY_AT` bytes, and always tag 0; where these are nothing but NULs, the length of the hole and the head behind it
(`hole_anchor`): a writer that kept its position across a truncation has left it. So a small file has an ID as soon as its
first line is complete, and a file of any size keeps its IDs when all state is gone.

A mark is the CRC-32 of the up to `MARK_BYTES` before a position. Per file the agent keeps marks at 4096, 8192, 16384, …
and at the ends of its last `RECENT_MARKS` records; the last of these is the offset. Below `BODY_AT` there is one every
`RUNG_BYTES` besides (the ladder), so that short files are told apart as soon as they differ, not when one has outgrown the
other. Rules, for an inode that is known:

1. The mark at the offset holds: the same file, perhaps renamed. Go on (`Continue`). Where nothing was read yet, the bytes it
   was seen to begin with are compared instead (`front`).
2. An earlier mark at `BODY_AT` or beyond holds (a power cut took what the app had not synced, the file was cut back):
   read again from the line start at or before it, with the same IDs (`Rewind`).
3. None holds: new content (`NewContent`).

and for an inode that is not known, against every known file of the source with the same head (`judge`):

4. It agrees over min(size, offset) >= `BODY_AT`: the same content, a copy or a rename (`Same`). One that is shorter than
   the offset may part from the known one behind the last mark within it: the file that holds that one is asked. Where none
   does, it is read from that mark on, with the same IDs (`Fork`).
5. Below that: the known one has just gone and this is another path: the same (`Same`); at the same path, or gone for longer
   than `SETTLE_S` before this one came: a new instance, with the next tag (`New`); both are there: wait `SETTLE_S`, then a
   new instance (`Wait`, `New`). A compressed file that is equal as a whole is the same, unless another one has that content.
   Where less was read of the known one than is there, its file is asked: what begins with all of the new one has it, and one
   that has the first `BODY_AT` bytes in common is as in rule 4.

6. Of sources with ``identity: instance`` each inode, by its number and generation, is a file of its own (`instance_tag`), also
   beside its copy, and so are its events from `BODY_AT` on: for logs without times that are replaced by equal bytes.

Known limits: without state, files that begin alike within their first 4 KiB take their tags in the order of their paths;
files that agree over 4 KiB or more count as copies.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import msgspec

HEAD_BYTES = 1024
BODY_AT = 4096
MARK_BYTES = 4096
RECENT_MARKS = 64
RUNG_BYTES = 32
INSTANCE = 1 << 48
"""Tags from here on are not counted but made of the inode."""
SETTLE_S = 10.0
"""How long two files that look alike in less than `BODY_AT` bytes are watched before they count as two."""

Begins = Callable[["FileState", int], bool | None]
Mark = Callable[[int], tuple[int, int]]
Holds = Callable[[int, int], bool]
"""Whether the mark ``(position, crc)`` holds in the file under question."""


class ToldLost(msgspec.Struct, array_like=True, frozen=True):
    """A loss of a file, by its ID."""

    loss_id: str
    reason: str
    at: int
    lost_bytes: int
    time_ns: int


class FileState(msgspec.Struct, array_like=True):
    """What the agent knows of one file's content. New fields go at the end, with defaults: it is kept on disk."""

    origin: str
    """Random; tells this state from every other."""
    source: str
    path: str
    """Where it was last seen."""
    born_path: str
    """Where it was first seen: a new file there is a successor, not a copy."""
    inode: int
    generation: int
    size: int
    offset: int
    """First byte that is not in the spool yet."""
    head: str
    """`head_key`, 16 hex digits: files with equal heads share it."""
    tag: int
    head_id: str
    body_id: str = ""
    """Empty until `BODY_AT` bytes are known."""
    marks: dict[int, int] = {}
    """Position -> crc at powers of two from `BODY_AT`."""
    recent: list[tuple[int, int]] = []
    """(position, crc) at the ends of the last records, ascending; the last one is at ``offset``."""
    replay_until: int = 0
    """Below this offset the bytes may have been shipped before."""
    gone_ns: int = 0
    """When its inode was found to hold other content, or nothing; 0 while it is there."""
    finished: bool = False
    """Nothing more is to be read of it: rotated away or deleted and read to its end, or lost."""
    base: int = 0
    """Where this state began to read: 0, or where it took over from another."""
    ladder: bytes = b""
    """uint32 per `RUNG_BYTES` of what was seen below `BODY_AT`: the CRC of everything up to there."""
    gaps: list[tuple[int, int]] = []
    """(start, end) of bytes beyond ``offset`` whose records were damaged; they are read again, or lost."""
    read_to: int = 0
    """What lies between ``offset`` and here is in the spool, but for ``gaps``; 0 where nothing was damaged."""
    replaces: str = ""
    """Origin of the state that this one took over from when its file was cut back: void where this one is known."""
    device: int = 0
    """Inode numbers are counted per device; 0: not noted. A reboot may change it."""
    front: tuple[int, int] = (0, 0)
    """(position, crc) at the end of what was seen of the first `BODY_AT` bytes before any of it was read."""
    place: bytes = b""
    """The real path, where ``path`` is a link or no UTF-8: rotated siblings lie beside this one."""
    skipped: int = 0
    """So many bytes at its front were there when its source was read for the first time, and were not wanted (`start`)."""
    halves: list[str] = []
    """IDs of events at the offset that were shipped although they may go on (`agent.reading.recorder`, the end)."""
    half_to: int = 0
    """How far they reach in the file."""
    packed: tuple[int, int] = (0, 0)
    """Of the compressed file that holds this content: its size on disk and time of change when all of it had been read."""
    lost: list[ToldLost] = []
    """What was told of it, while it was nowhere to be found."""
    elsewhere: int = 0
    """Up to here its bytes lie in a copy, too, that counts as a file of its own and is read as one."""


def file_id(scope: str, source: str, anchor: bytes, tag: int) -> str:
    """16 hex digits. The parts are length-prefixed, so no two different quadruples feed the hash the same bytes."""
    digest = blake2b(digest_size=8, person=b"pulsestream-file")
    for part in (scope.encode(), source.encode(), anchor, b"%d" % tag):
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(part)
    return digest.hexdigest()


def head_of(front: bytes) -> bytes | None:
    """The head of a file whose first bytes are ``front``; None while its first line is not complete.

    Leading NULs are skipped: a writer that keeps its position across a truncation leaves a hole in front of its next line.
    """
    text = front.lstrip(b"\0")
    end = text.find(b"\n", 0, HEAD_BYTES)
    if end >= 0:
        return text[:end]
    return text[:HEAD_BYTES] if len(text) >= HEAD_BYTES else None


def body_of(front: bytes) -> bytes | None:
    """The anchor of events from `BODY_AT` on; None while the file is shorter."""
    return front[:BODY_AT] if len(front) >= BODY_AT else None


def hole_anchor(data_at: int, head: bytes) -> bytes:
    """The anchor of events from `BODY_AT` on where nothing but NULs is before: how long the hole is, and the head behind it."""
    return b"\0%d\0" % data_at + head


def head_key(source: str, head: bytes) -> str:
    """Equal for equal heads of a source; what tags are counted by."""
    return file_id("", source, head, 0)


def instance_tag(inode: int, generation: int, count: int) -> int:
    """The tag of a file of its own whatever its bytes are (rule 6); ``count``: how many were in this inode before."""
    digest = blake2b(b"%d %d" % (inode, generation), digest_size=5).digest()
    return INSTANCE | int.from_bytes(digest) << 8 | min(count, 255)


def body_tag(tag: int) -> int:
    """The tag of the events from `BODY_AT` on."""
    return tag if tag >= INSTANCE else 0


def can_be_made_again(tag: int) -> bool:
    """Whether the same file gets the tag again when all state is gone."""
    return not tag or (tag >= INSTANCE and not tag & 255)


def crc_before(window: bytes | bytearray | memoryview, at: int) -> int:
    """CRC of the mark at index ``at`` of ``window``, which begins at the file's start or `MARK_BYTES` or more before ``at``."""
    return zlib.crc32(memoryview(window)[max(0, at - MARK_BYTES) : at])


def power_marks(low: int, high: int) -> Iterator[int]:
    """The fixed mark positions in (low, high]."""
    position = max(BODY_AT, 1 << max(low, 1).bit_length() - 1)
    while position <= high:
        if position > low:
            yield position
        position <<= 1


def positions(state: FileState) -> set[int]:
    """Where the state has marks."""
    return {*state.marks, *(position for position, _ in state.recent)}


def advance(state: FileState, window: memoryview, window_at: int, to: int, mark: Mark | None = None) -> None:
    """Move ``state`` to offset ``to`` and note the marks on the way.

    Args:
        window: bytes of the file from offset ``window_at``, which is 0 or at least `MARK_BYTES` before the old offset.
        to: new offset, inside the window unless there is ``mark``.
        mark: takes the mark at a position from the file itself.
    """

    def crc_at(position: int) -> int:
        if mark is not None and position > window_at + len(window):
            return mark(position)[1]
        return crc_before(window, position - window_at)

    for position in power_marks(state.offset, to):
        state.marks[position] = crc_at(position)
    if state.offset < BODY_AT:
        state.ladder = state.ladder[: state.offset // RUNG_BYTES * 4]  # what was seen beyond may have changed since
        state.ladder += _rungs(window, len(state.ladder) // 4 + 1, to)
    state.offset = to
    state.recent.append((to, crc_at(to)))
    del state.recent[:-RECENT_MARKS]


def leap(state: FileState, to: int) -> None:
    """Move over NULs that are no content. No mark is taken of them: it would hold in any such run. `advance` comes next."""
    if state.offset < BODY_AT:
        state.ladder = state.ladder[: state.offset // RUNG_BYTES * 4]
    state.offset = to


def skip(state: FileState, to: int, mark: Callable[[int], tuple[int, int]]) -> None:
    """Let an unread ``state`` begin at offset ``to``. ``mark`` takes the mark at a position from the file."""
    state.offset = state.base = state.skipped = to
    state.marks = dict(mark(position) for position in power_marks(0, to))
    state.recent = [mark(to)]
    state.ladder = state.ladder[: to // RUNG_BYTES * 4]


def see_front(state: FileState, front: bytes) -> None:
    """Note what a file of which nothing was read begins with: should it change unread, that is noticed."""
    seen = front[:BODY_AT]
    state.front = len(seen), zlib.crc32(seen)
    state.ladder = _rungs(memoryview(seen), 1, len(seen))


def see_behind_hole(state: FileState, mark: tuple[int, int]) -> None:
    """The same for a file that begins with `BODY_AT` NULs or more: what tells it from others is the first line behind them."""
    state.front, state.ladder = mark, b""


def _rungs(window: memoryview, first: int, to: int) -> bytes:
    """The rungs from number ``first`` on, up to position ``to``, of a file that begins with ``window``."""
    rungs = range(first, min(to, BODY_AT) // RUNG_BYTES + 1)
    return b"".join(zlib.crc32(window[: rung * RUNG_BYTES]).to_bytes(4, "little") for rung in rungs)


def begins_alike(state: FileState, size: int, holds: Holds) -> bool:
    """Whether a file of ``size`` bytes begins as the unread ``state`` was seen to: all of it, or what a cut has left."""
    position, crc = state.front
    if size >= position:
        return not position or holds(position, crc)
    rung = size // RUNG_BYTES
    return bool(rung) and holds(rung * RUNG_BYTES, int.from_bytes(state.ladder[rung * 4 - 4 : rung * 4], "little"))


def goes_on(state: FileState, front: bytes) -> bool:
    """Whether these first bytes of a file go on from what was seen of the unread ``state``, or are the same."""
    position, crc = state.front
    return len(front) >= position and zlib.crc32(front[:position]) == crc


class Continue(msgspec.Struct, frozen=True):
    """Rule 1."""


class Rewind(msgspec.Struct, frozen=True):
    """Rule 2: the last mark that holds. ``line_start`` says that it is the end of a record, not just a place in the file."""

    position: int
    line_start: bool


class NewContent(msgspec.Struct, frozen=True):
    """Rule 3."""


def resume(state: FileState, size: int, holds: Holds) -> Continue | Rewind | NewContent:
    """What a known inode holds now that it is ``size`` bytes long (rules 1 to 3)."""
    if state.offset == 0:
        return Continue() if begins_alike(state, size, holds) else NewContent()
    if state.recent and size >= state.offset and holds(*state.recent[-1]):
        return Continue()
    found = last_mark(state, size, holds, low=BODY_AT)
    return NewContent() if found is None else found


def last_mark(state: FileState, size: int, holds: Holds, *, low: int) -> Rewind | None:
    """The last mark from ``low`` on, within ``size``, that holds."""
    line_ends = dict(state.recent)
    for position, crc in sorted((state.marks | line_ends).items(), reverse=True):
        if low <= position <= min(size, state.offset) and holds(position, crc):
            return Rewind(position, position in line_ends)
    return None


def drop_marks_beyond(state: FileState, position: int) -> None:
    """Forget marks past ``position``: after a rewind they speak of bytes that are gone."""
    state.marks = {at: crc for at, crc in state.marks.items() if at <= position}
    state.recent = [(at, crc) for at, crc in state.recent if at <= position]
    state.ladder = state.ladder[: position // RUNG_BYTES * 4]


def branch(known: FileState, *, origin: str, path: str, inode: tuple[int, int, int], size: int, offset: int) -> FileState:
    """A file of its own that has the bytes up to ``offset`` in common with a known one, and goes on from there.

    Args:
        inode: device, number, generation.
    """
    state = msgspec.structs.replace(
        known, origin=origin, path=path, born_path=path, device=inode[0], inode=inode[1], generation=inode[2], size=size,
        offset=offset, base=offset, replay_until=size, gone_ns=0, finished=False, gaps=[], read_to=0, replaces="", halves=[],
        half_to=0, lost=[], elsewhere=0,
    )  # fmt: skip
    drop_marks_beyond(state, offset)
    return state


class Candidate(msgspec.Struct, frozen=True):
    """A file with an inode that is not known."""

    path: str
    size: int
    head: str
    """`head_key`."""
    body_id: str
    """Empty below `BODY_AT` bytes."""
    holds: Holds
    copy: bool = False
    """It is compressed, so made of another file, and all of it is known."""
    damaged: bool = False
    """There was more of it, or will be."""


class Same(msgspec.Struct, frozen=True):
    """The content of ``known``: a rename, a copy, or a copy in progress."""

    known: FileState


class Fork(msgspec.Struct, frozen=True):
    """As ``known`` up to the mark ``at``; what is behind that, nobody can tell."""

    known: FileState
    at: Rewind


class Standing(enum.Enum):
    """What became of the inode in which a content was known."""

    ALIVE = "alive"
    JUST_GONE = "just gone"
    LONG_GONE = "long gone"
    PACKED = "alive, in a compressed file"


class Wait(msgspec.Struct, frozen=True):
    """Too short to tell from a known file that is still there."""


class New(msgspec.Struct, frozen=True):
    """Content of its own."""


def judge(
    new: Candidate,
    known: Iterable[FileState],
    standing: Callable[[FileState], Standing],
    *,
    settled: bool,
    begins: Begins = lambda state, position: None,
) -> Same | Fork | Wait | New:
    """Which known content, if any, a new inode holds (rules 4 and 5).

    Args:
        new: the file in question.
        known: states of the same source.
        standing: what became of a state's own inode.
        settled: the new file was first seen `SETTLE_S` ago or longer.
        begins: whether the file that holds a known content has the bytes before a position in common with the new one; None:
            nobody can tell.
    """
    wait = False
    forks: list[Fork] = []
    for state in sorted(known, key=lambda state: -state.offset):
        common = min(new.size, state.offset)
        if state.head != new.head or not agrees(state, common, new.holds):
            continue
        if not state.offset and new.size >= RUNG_BYTES and not begins_alike(state, new.size, new.holds):
            continue
        if common >= BODY_AT:
            if state.body_id == new.body_id:
                if new.damaged or new.size in positions(state) or new.size > state.offset or (same := begins(state, new.size)):
                    return Same(state)
                mark = last_mark(state, new.size, new.holds, low=BODY_AT)
                forks += [Fork(state, mark)] if mark is not None and same is None else []
            continue
        if new.path in (state.path, state.born_path):
            continue
        there = standing(state)
        copied = new.copy and there is not Standing.PACKED
        if copied and (new.size == state.offset or (new.damaged and new.size < state.offset)):
            return Same(state)
        if there is Standing.JUST_GONE and (new.size >= state.offset or _is_seen_within(state, new.size)):
            return Same(state)
        if there in (Standing.ALIVE, Standing.PACKED):
            found = _beside(new, state, begins, copied=copied) if settled else Wait()
            if isinstance(found, Same):
                return found
            forks += [found] if isinstance(found, Fork) else []
            wait = wait or isinstance(found, Wait)
    if forks:
        return max(forks, key=lambda fork: fork.at.position)
    return Wait() if wait else New()


def _beside(new: Candidate, state: FileState, begins: Begins, *, copied: bool) -> Same | Fork | Wait | New:
    """What a settled file is that agrees with one which is still there in all that was read of that, less than `BODY_AT`. There
    may be more of it: unread because the spool is full, half a line, a hole that nothing follows."""
    common = min(new.size, state.size)
    if common < BODY_AT and not (copied and new.size > state.offset < state.size):
        return New()
    alike = begins(state, min(new.size, BODY_AT))
    inside = alike and begins(state, new.size)
    if alike is None or inside is None:
        return Wait()
    if inside:
        return Same(state)
    return Fork(state, Rewind(state.offset, line_start=True)) if alike and common >= BODY_AT else New()


def _is_seen_within(state: FileState, size: int) -> bool:
    """Whether anything but its first line tells that a file of so many bytes is the beginning of the known one. Behind a hole
    at its front, and in less than a rung, nothing can."""
    return size >= RUNG_BYTES <= len(state.ladder) // 4 * RUNG_BYTES or any(position <= size for position in positions(state))


def agrees(state: FileState, common: int, holds: Holds) -> bool:
    """Whether every mark of the state up to ``common`` holds, and the highest rung of its ladder."""
    rung = min(common // RUNG_BYTES, len(state.ladder) // 4)
    if rung and not holds(rung * RUNG_BYTES, int.from_bytes(state.ladder[rung * 4 - 4 : rung * 4], "little")):
        return False
    marks = state.marks | dict(state.recent)
    return all(holds(position, crc) for position, crc in sorted(marks.items(), reverse=True) if position <= common)
