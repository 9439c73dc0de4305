"""One file on disk: its handle, and bytes from an offset. Decisions about what it holds are in `agent.files.identity`."""

from __future__ import annotations

import array
import fcntl
import os
import zlib
from collections.abc import Iterable

import msgspec

from agent import wire
from agent.files import gaps
from agent.files.expand import Slots
from agent.files.identity import MARK_BYTES, FileState

FRONT_BYTES = 65536
"""How much of a file is looked at for its head: more than a head, in case NULs precede it."""
_FS_IOC_GETVERSION = 0x80087601


class Gap(msgspec.Struct):
    """A run of NULs that reading has come to."""

    at: int
    looked_to: int
    """Nothing but NULs up to here, when that was looked at."""
    size: int
    """Of the file at that time."""
    since_s: float = 0.0
    """When data was first seen behind it; 0: there is none. In a compressed file it is at ``looked_to`` then."""
    before: Gap | None = None
    """One that was waited for, and nothing could be taken behind it: half a line is there, and this run."""


class Handles:
    """The open files, not more than ``limit``: those that can be opened again by their path make room for the next one,
    first those without unread bytes, of these the longest idle. Deleted and rotated files stay open."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.slots = Slots()
        self._open: set[Tail] = set()

    def add(self, tail: Tail) -> None:
        self._open.add(tail)

    def discard(self, tail: Tail) -> None:
        self._open.discard(tail)

    def tails(self) -> list[Tail]:
        return list(self._open)

    def make_room(self) -> None:
        """Before one more is opened."""
        if len(self._open) < self._limit:
            return
        spare = [tail for tail in self._open if tail.listed and not tail.deleted]
        spare.sort(key=lambda tail: (tail.unread > 0, tail.grew_s))
        wanted = max(1, self._limit // 4)
        for tail in spare:
            if wanted and tail.is_at_its_path():  # the last look is old: its name may have gone since
                tail.close()
                wanted -= 1


def shortened(text: str) -> str:
    """The last part of a text that has at most `wire.MAX_TEXT_BYTES`, marked where it was cut."""
    data = text.encode()
    if len(data) <= wire.MAX_TEXT_BYTES:
        return text
    return "…" + data[-wire.MAX_TEXT_BYTES + len("…".encode()) :].decode("utf-8", "ignore")


def shown(path: str) -> str:
    """A path as text: see `Tail.name`."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if len(text) <= wire.MAX_TEXT_BYTES // 4 else shortened(text)


class LongLine:
    """A line longer than a block that was looked through up to ``looked_to``: see `agent.text.longline`."""

    def __init__(self, origin: str, at: int, looked_to: int, mark: tuple[int, int]) -> None:
        self.origin, self.at, self.looked_to, self.mark = origin, at, looked_to, mark


class Tail:
    """A file by its inode, whatever its path is now. ``state`` is None until its content is known."""

    def __init__(self, path: str, source: str, stat: os.stat_result, now_s: float, handles: Handles) -> None:
        self.path = path
        self.real_path = path
        """Where links lead, as of the last time it was opened."""
        self.born_path = self.name
        """`FileState.born_path` of what it holds, should that begin here."""
        self.source = source
        self.inode = (stat.st_dev, stat.st_ino)
        self.generation = 0
        self.first_seen_s = now_s
        self.state: FileState | None = None
        self.replaces = ""
        """Origin of the state that this one makes void, until a record has said so."""
        self.replay_until = 0
        """What is below may have been shipped before, whoever it turns out to be."""
        self.settled = False
        """The inode is an old acquaintance with new content: nothing to wait for before it counts as an instance."""
        self.listed = True
        """It matches a source; otherwise it is read to its end and let go."""
        self.deleted = False
        self.size = stat.st_size
        self.disk_size = stat.st_size
        self.mtime_ns = stat.st_mtime_ns
        self.compared_ns = 0
        """`mtime_ns` when what is before the offset was last compared with what was read."""
        self.read_s = float("-inf")
        """When a block was last taken."""
        self.grew_s = now_s
        self.left_s = now_s
        """When it was seen to have another name, or none: its app may write to it for a while yet."""
        self.error = ""
        self.unrecognised = False
        """It could not be opened when it was to be known by its inode."""
        self.unchecked = False
        """It holds its content by what it looks like from outside; its marks have not been compared yet."""
        self.is_copy = False
        """All that it holds is known of another file, which is still there."""
        self.kept_block = (0, b"")
        """Of a compressed file: bytes from a position on that are needed again when the end of their line is found."""
        self.gap: Gap | None = None
        self.gap_said = False
        self.long_line: LongLine | None = None
        self._handles = handles
        self._fd = -1

    @property
    def unread(self) -> int:
        """Bytes beyond the offset, as last seen; 0 while the content is not known. NULs that nothing follows do not count."""
        if self.state is None:
            return 0
        end = self.gap.at if self.gap is not None and self.ends_blank else self.size
        return max(0, end - self.state.offset)

    @property
    def ends_blank(self) -> bool:
        """Whether nothing but NULs is behind the gap it was read to, as last seen: a file that has its size in advance."""
        gap = self.gap
        return gap is not None and gap.looked_to == gap.size == self.size

    @property
    def name(self) -> str:
        """The path as text that can be written down: bytes that are no UTF-8 are shown escaped; the end of it where that
        makes it longer than a collector takes."""
        return shown(self.path)

    @property
    def real_name(self) -> str:
        """The same of where links lead."""
        return shown(self.real_path)

    @property
    def place(self) -> bytes:
        """`FileState.place`: empty where the path says it all."""
        return b"" if self.real_path == self.name else os.fsencode(self.real_path)

    def is_at_its_path(self) -> bool:
        """Whether its path leads to it now, so that it can be opened again."""
        return inode_at(self.path) == self.inode

    @property
    def rotated(self) -> bool:
        """It was first seen under another name."""
        return self.name != (self.state.born_path if self.state is not None else self.born_path)

    def is_final(self, *, may_be_nowhere: bool) -> bool:
        """Whether its last line counts without a newline: it was deleted, or is found under another name, or its own name
        leads to another file. ``may_be_nowhere``: also when nothing has its name any more."""
        if self.deleted:
            return True
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            return may_be_nowhere
        except OSError:
            return False
        return (stat.st_dev, stat.st_ino) != self.inode or self.rotated

    def move(self, path: str) -> None:
        """It was found under another name."""
        self.path, self.real_path = path, os.path.realpath(path)

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def open(self) -> int:
        """The descriptor. Raises OSError; FileNotFoundError also when the path leads to another file by now."""
        if self._fd < 0:
            self._handles.make_room()
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
            stat = os.fstat(fd)
            if (stat.st_dev, stat.st_ino) != self.inode:
                os.close(fd)
                raise FileNotFoundError(f"{self.name} is another file now")
            self._fd, self.generation = fd, _generation(fd)
            self.real_path = os.path.realpath(self.path)
            self._handles.add(self)
        return self._fd

    def look(self) -> int:
        """The size now, also noted; notices deletion. Raises OSError."""
        stat = os.fstat(self.open())
        self._see(stat)
        self.size = stat.st_size
        return self.size

    def taken_bytes(self) -> int:
        """What it takes on disk. Raises OSError."""
        return os.fstat(self.open()).st_blocks * 512

    def _see(self, stat: os.stat_result) -> None:
        self.disk_size, self.mtime_ns, self.deleted = stat.st_size, stat.st_mtime_ns, stat.st_nlink == 0

    def is_news(self, stat: os.stat_result) -> bool:
        """Whether there may be something in the file, which looks so now, that was not seen or not read."""
        touched = (stat.st_size, stat.st_mtime_ns) != (self.disk_size, self.mtime_ns)
        return touched or self.state is None or stat.st_size != self.state.offset

    # Bytes: a compressed file (`agent.files.packed`) has other ways to them ---------------------------------------------------

    @property
    def packed(self) -> bool:
        """Its bytes have to be expanded first: `size` is what is known of them, until `ended`. They do not change."""
        return False

    @property
    def ended(self) -> bool:
        """Nothing follows what is known, for the file as it is now."""
        return True

    @property
    def damage(self) -> str:
        """Why there may be more, and it cannot be had."""
        return ""

    @property
    def stamp(self) -> tuple[int, int]:
        """Size on disk and time of change, as last seen."""
        return self.disk_size, self.mtime_ns

    @property
    def goes_on(self) -> bool:
        """There may be more than `size` by now, without anything being appended."""
        return False

    def trust(self, state: FileState) -> bool:
        """Whether the file is as it was when all of it was read into this state: then nothing has to be compared."""
        return False

    def forget(self) -> None:
        """It holds other content now."""

    def give_up(self, reason: str) -> None:
        """Nothing will be added any more, although it has not `ended`."""

    def reach(self, position: int) -> int:
        """As `look`, but the size is known at least as far as ``position``, should there be so much."""
        return self.look()

    def estimate(self) -> int:
        """About how many bytes there are, without going through all of them."""
        return self.look()

    def want(self, positions: Iterable[int]) -> None:
        """The marks at these positions will be asked for."""

    def rest(self) -> None:
        """Nothing is to be had of it for the time being."""

    def front(self, length: int) -> bytes:
        """The first bytes, at most `BODY_AT`."""
        return self.read(0, length)

    def text_at_front(self) -> tuple[int, bytes]:
        """As `gaps.text_at_front`: enough for a head."""
        return gaps.text_at_front(self, self.size, FRONT_BYTES)

    def read(self, position: int, length: int) -> bytes:
        return os.pread(self.open(), length, position)

    def read_into(self, view: memoryview, position: int) -> int:
        """As many bytes as there are from ``position`` on; how many."""
        return os.preadv(self.open(), [view], position)

    def next_data(self, at: int, size: int) -> int:
        return gaps.next_data(self.open(), at, size)

    def holds(self, position: int, crc: int) -> bool:
        """Whether a mark holds: see `agent.files.identity`."""
        start = max(0, position - MARK_BYTES)
        window = os.pread(self.open(), position - start, start)
        return len(window) == position - start and zlib.crc32(window) == crc

    def mark(self, position: int) -> tuple[int, int]:
        """The mark at a position, from what the file holds now."""
        start = max(0, position - MARK_BYTES)
        return position, zlib.crc32(os.pread(self.open(), position - start, start))

    def line_start(self, position: int) -> int:
        """Where the line that holds byte ``position - 1`` begins, or ``position`` where that byte ends one."""
        end = position
        while end > 0:
            start = max(0, end - FRONT_BYTES)
            newline = os.pread(self.open(), end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def hand_over(self, handles: Handles) -> None:
        """Another owner counts its handle from now on."""
        self._handles = handles
        if self._fd >= 0:
            handles.add(self)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._handles.discard(self)


def inode_at(path: str) -> tuple[int, int] | None:
    """Device and inode of what a path leads to; None where that cannot be told."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _generation(fd: int) -> int:
    """The inode's generation number: ext4, xfs and btrfs give a number that was used before another one. 0 elsewhere."""
    value = array.array("l", [0])
    try:
        fcntl.ioctl(fd, _FS_IOC_GETVERSION, value)
    except OSError:
        return 0
    return value[0] & 0xFFFFFFFF
