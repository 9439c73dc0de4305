"""The decompressed bytes of gzip, zstd, xz and bzip2 files: forward, from any position, as far as they can be had.

Promises:
- The same file gives the same bytes, however many members or frames it has, however it was written, read or sought in.
- What is damaged gives every byte before the damage, and says so (`Expansion.damage`). A stream that just ends is not at its
  end: its writer may be at work. Only when nothing was added for `CUT_SHORT_S` is it taken for cut short.
- Memory: a window of about 2 MiB for each of `SLOTS` files at work, and what their formats need. Of all others only the first
  bytes and a few checksums are kept, and that is enough not to expand them again.
- Time: no call goes on after the time granted (`Slots.grant`); it raises `NotYet`, and the next call goes on from there. A file
  is expanded once for what is asked in ascending order; what lies behind is one more pass from its start.

Known limits: behind damage nothing is looked for, since its place in the content cannot be known.
"""

from __future__ import annotations

import bz2
import errno
import heapq
import lzma
import os
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Protocol

from agent.codec import ZstdError, zstd_decoder
from agent.files.identity import BODY_AT, HEAD_BYTES, MARK_BYTES
from agent.text.blocks import BLOCK_BYTES

PACKED = (".gz", ".zst", ".xz", ".bz2")
"""Endings of names that promise a compressed file. What is in it says the file itself."""
UNREADABLE = (".lz4", ".zip")
"""Those of formats that are not read at all."""
SLOTS = 4
"""So many files are expanded side by side; one more begins anew when its turn comes again."""
CUT_SHORT_S = 3600.0
RAW_BYTES = 64 << 10
STEP_BYTES = 256 << 10
"""What one step makes at most, whatever a few compressed bytes stand for."""
LEAST_STEPS = 4
"""A call makes progress also where no time is left."""
KEPT_BYTES = 2 * MARK_BYTES + BLOCK_BYTES + STEP_BYTES
"""So far behind the farthest byte made one can still read without beginning anew."""
XZ_MEMORY_BYTES = 160 << 20
"""As ``xz -9`` asks for, twice. More is taken for damage."""
_MAGIC_BYTES = 6
_TEXT = bytes({7, 8, 9, 10, 12, 13, 27} | set(range(0x20, 0x100)) - {0x7F})


class NotYet(OSError):
    """There is more to expand before that can be told: ask again."""


class Unfinished(OSError):
    """That can be told when the file is written to its end."""


class _Decoder(Protocol):
    """One member, stream or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int = ..., /) -> bytes: ...


class _Gzip:
    """zlib's way of stopping early, as the others have it."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._left = b""
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int = 0, /) -> bytes:
        made = self._inner.decompress(self._left or data, max_length)
        self._left = self._inner.unconsumed_tail
        self.needs_input = not self._left and len(made) < max_length
        return made


_FAULTS = (zlib.error, lzma.LZMAError, ZstdError, OSError, EOFError, ValueError)


def _decoder(front: bytes) -> _Decoder | None:
    """For what begins with these bytes; None where they begin no compressed stream."""
    if front.startswith(b"\x1f\x8b"):
        return _Gzip()
    if front.startswith(b"\x28\xb5\x2f\xfd") or (front[1:4] == b"\x2a\x4d\x18" and front[0] & 0xF0 == 0x50):
        return zstd_decoder()
    if front.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    if front.startswith(b"BZh") and front[3:4] in b"123456789":
        return bz2.BZ2Decompressor()
    return None


def looks_plain(front: bytes) -> bool | None:
    """Whether a file whose name promises compressed bytes holds plain lines after all; None: too short to tell."""
    if len(front) < _MAGIC_BYTES:
        return None
    if _decoder(front) is not None:
        return False
    return not front.translate(None, _TEXT)


class Slots:
    """Who is expanded now, and for how long. ``until_s``: on ``clock``."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._until_s = float("inf")
        self._used: list[Expansion] = []

    def grant(self, seconds: float) -> None:
        """So long from now on."""
        self._until_s = self._clock() + seconds

    @property
    def is_spent(self) -> bool:
        return self._clock() >= self._until_s

    def is_stale(self, mtime_ns: int) -> bool:
        """Whether the last change was so long ago that nobody is at work on it."""
        return self._wall() - mtime_ns / 1e9 >= CUT_SHORT_S

    def use(self, one: Expansion) -> None:
        """This one is expanded next; those that were not for the longest time make room."""
        if self._used and self._used[-1] is one:
            return
        self.leave(one)
        self._used.append(one)
        while len(self._used) > SLOTS:
            self._used[0].rest()

    def leave(self, one: Expansion) -> None:
        if one in self._used:
            self._used.remove(one)


class Expansion:
    """The content of one compressed file. ``opened``: gives its descriptor, raises OSError."""

    def __init__(self, opened: Callable[[], int], slots: Slots) -> None:
        self._opened = opened
        self._slots = slots
        self._stamp = (-1, 0)
        self.resets = 0
        """How often the file turned out to be another than the one that was begun with."""
        self._forget()

    def _forget(self) -> None:
        self.size = 0
        """So many bytes are there at least; all of them when `ended`."""
        self.whole = False
        """The file ends where a stream ends."""
        self.damage = ""
        """Why nothing can be had beyond ``size``."""
        self.exhausted = False
        """Nothing more can be made of the file as it is now."""
        self._front = b""
        self._lead, self._text = 0, b""
        """NULs that the content begins with, and what follows them."""
        self._marks: dict[int, int] = {}
        self._asked: set[int] = set()
        self._ahead: list[int] = []
        """Marks to be taken in passing, the next one first."""
        self._behind: list[int] = []
        """Marks for which it takes another pass."""
        self._raw_marks: tuple[tuple[int, int], ...] = ()
        self._careful_from = -1
        self.rest()

    def rest(self) -> None:
        """Nothing is asked for the time being: keep only what little is needed."""
        self._slots.leave(self)
        self._ahead += self._behind
        self._behind = []
        heapq.heapify(self._ahead)
        self._decoder: _Decoder | None = None
        self._input: memoryview = memoryview(b"")
        self._raw_at = self._fed_at = self._members = 0
        self._data = bytearray()
        self._at = 0
        """End of what was made in this pass; ``_data`` ends there."""

    @property
    def ended(self) -> bool:
        """``size`` is final, for the file as it is now."""
        return self.whole or bool(self.damage)

    # What is asked -----------------------------------------------------------------------------------------------------

    def notice(self, disk_size: int, mtime_ns: int) -> None:
        """The file's size on disk and time of change, as of now. Raises OSError."""
        stamp = disk_size, mtime_ns
        if stamp != self._stamp:
            if self._stamp[0] >= 0 and (self.damage or not self._goes_on(disk_size)):
                self._forget()
                self.resets += 1
            self._stamp = stamp
            self.whole = self.exhausted = False
        if self.exhausted and not self.ended and self._slots.is_stale(mtime_ns):
            self.damage = "it ends in the middle, and nothing was added for an hour"

    def trust(self, size: int, crc: int, damage: str = "") -> None:
        """What was found when the file was as it is now: all of its ``size`` bytes were read, with this mark at their end."""
        self.size, self.damage, self.whole, self.exhausted = size, damage, not damage, True
        self._marks[size] = crc
        self._asked.add(size)

    def give_up(self, reason: str) -> None:
        """Nobody goes on writing it."""
        if self.exhausted and not self.ended:
            self.damage = reason

    def reach(self, position: int) -> int:
        """`size`, once it is known whether there are ``position`` bytes. Raises OSError, NotYet."""
        if self.size < position and not self.exhausted:
            self._run(position)
        return self.size

    def estimate(self, disk_size: int) -> int:
        """About how long the content is, should the rest of it compress as what was expanded last."""
        used = self._raw_at - len(self._input)
        return max(self.size, self._at * disk_size // used if used else 0)

    def front(self, length: int) -> bytes:
        """The first bytes, at most `BODY_AT`. Raises OSError, NotYet."""
        length = min(length, BODY_AT)
        if len(self._front) < length and not (self.exhausted and len(self._front) >= self.size):
            self._run(length)
        return self._front[:length]

    def text_at_front(self) -> tuple[int, bytes]:
        """Where the first byte is that is no NUL, and up to `HEAD_BYTES` from there. Raises OSError, NotYet."""
        while len(self._text) < HEAD_BYTES and not (self.exhausted and self._lead + len(self._text) >= self.size):
            self._run(max(self._at, self._lead) + HEAD_BYTES)
        return self._lead, self._text

    def want(self, positions: Iterable[int]) -> None:
        """These marks will be asked for: they are taken in passing."""
        for position in set(positions) - self._asked:
            if position <= BODY_AT:
                continue
            self._asked.add(position)
            if position > self._at:
                heapq.heappush(self._ahead, position)
            elif position - MARK_BYTES >= self._at - len(self._data):
                self._note(position)
            else:
                self._behind.append(position)

    def mark(self, position: int) -> int | None:
        """CRC of the up to 4 KiB before ``position``; None where there is less. Raises OSError, NotYet."""
        if position <= BODY_AT:
            front = self.front(BODY_AT)
            return zlib.crc32(front[:position]) if len(front) >= position else None
        self.want([position])
        if position not in self._marks:
            if self.exhausted and position > self.size:
                return None
            self._run(position)
        return self._marks.get(position)

    def read(self, position: int, length: int) -> bytes:
        """Up to ``length`` bytes, at most `KEPT_BYTES` less a step, from ``position`` on. Raises OSError, NotYet."""
        end = position + length
        if self.exhausted:
            end = min(end, self.size)
        if position < self._at - len(self._data):
            self.rest()
        if self._at < end:
            self._run(end)
        begin = self._at - len(self._data)
        return bytes(memoryview(self._data)[max(0, position - begin) : max(0, end - begin)])

    # How it is made ----------------------------------------------------------------------------------------------------

    def _run(self, position: int) -> None:
        """Expand up to ``position``, and so far that marks wanted before it are taken."""
        if any(behind <= position for behind in self._behind):
            self.rest()
        self._slots.use(self)
        fd = self._opened()
        steps = 0
        try:
            while self._at < position:
                if not self._step(fd):
                    self._end()
                    return
                steps += 1
                if steps >= LEAST_STEPS and self._at < position and self._slots.is_spent:
                    raise NotYet(errno.EAGAIN, "more of it has to be expanded")
        finally:
            self._note_raw(fd)

    def _step(self, fd: int) -> bool:
        """Make a little more. False: nothing more is to be had now."""
        if self.damage and self._at >= self.size:
            return False
        if self._decoder is None:
            return self._begin_member(fd)
        data: bytes | memoryview = b""
        if self._decoder.needs_input:
            data = self._raw(fd)
            if not data:
                return False
        try:
            made = self._decoder.decompress(data, STEP_BYTES)
        except MemoryError:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
        except _FAULTS as error:
            return self._fail(str(error) or type(error).__name__)
        if self._decoder.eof:
            self._input = memoryview(self._decoder.unused_data + bytes(self._input))
            self._decoder = None
        self._take(made)
        return True

    def _begin_member(self, fd: int) -> bool:
        data = bytes(self._input)
        while True:
            data = data.lstrip(b"\0") if self._members else data  # padding between streams is fine
            if len(data) >= _MAGIC_BYTES or not (more := os.pread(fd, RAW_BYTES, self._raw_at)):
                break
            self._raw_at += len(more)
            data += more
        self._input = memoryview(data)
        decoder = _decoder(data) if data else None
        if decoder is None:
            return len(data) >= _MAGIC_BYTES and self._fail("there are bytes that begin no compressed stream", sure=True)
        self._decoder = decoder
        self._members += 1
        return True

    def _raw(self, fd: int) -> memoryview:
        if not self._input:
            self._input = memoryview(os.pread(fd, RAW_BYTES, self._raw_at))
            self._raw_at += len(self._input)
        start = self._raw_at - len(self._input)
        size = 1 if 0 <= self._careful_from <= start else RAW_BYTES
        data, self._input = self._input[:size], self._input[size:]
        self._fed_at = start if data else self._fed_at
        return data

    def _fail(self, reason: str, *, sure: bool = False) -> bool:
        """The file is damaged here. At first it is gone through again, now byte by byte from where it failed: a decoder that
        fails keeps back what it made of the same piece before."""
        if sure or 0 <= self._careful_from <= self._fed_at:
            self.damage = reason
            return False
        self._careful_from = self._fed_at
        self.rest()
        self._slots.use(self)
        return True

    def _end(self) -> None:
        """Nothing more can be made of the file as it is."""
        self.exhausted = True
        self.whole = not self.damage and self._decoder is None and not self._input and self._members > 0
        self.size = max(self.size, self._at) if not self.damage else self._at
        if self._at > BODY_AT:
            self._note(self._at)
            self._asked.add(self._at)

    def _take(self, made: bytes) -> None:
        if self._at <= len(self._front) < BODY_AT:
            self._front = max(self._front, (self._front[: self._at] + made)[:BODY_AT], key=len)
        if self._at <= self._lead + len(self._text) and len(self._text) < HEAD_BYTES:
            self._see_text(made)
        self._data += made
        self._at += len(made)
        self.size = max(self.size, self._at)
        while self._ahead and self._ahead[0] <= self._at:
            self._note(heapq.heappop(self._ahead))
        if len(self._data) > KEPT_BYTES + STEP_BYTES:
            del self._data[: len(self._data) - KEPT_BYTES]

    def _see_text(self, made: bytes) -> None:
        if not self._text:
            text = made.lstrip(b"\0")
            self._lead = max(self._lead, self._at + len(made) - len(text))
            self._text = text[:HEAD_BYTES]
        else:
            kept = self._text[: max(0, self._at - self._lead)] + made[max(0, self._lead - self._at) :]
            self._text = max(self._text, kept[:HEAD_BYTES], key=len)

    def _note(self, position: int) -> None:
        end = position - self._at + len(self._data)
        self._marks[position] = zlib.crc32(memoryview(self._data)[max(0, end - MARK_BYTES) : end])

    # Whether it is still the same file ---------------------------------------------------------------------------------

    def _note_raw(self, fd: int) -> None:
        """Know again what was read of the file itself, should it change."""
        if self._raw_marks and self._raw_at <= self._raw_marks[-1][0]:
            return
        self._raw_marks = tuple((at, _raw_crc(fd, at)) for at in (min(self._raw_at, MARK_BYTES), self._raw_at))

    def _goes_on(self, disk_size: int) -> bool:
        if not self._raw_marks:
            return not self.size
        fd = self._opened()
        return all(at <= disk_size and _raw_crc(fd, at) == crc for at, crc in self._raw_marks)


def _raw_crc(fd: int, at: int) -> int:
    start = max(0, at - MARK_BYTES)
    return zlib.crc32(os.pread(fd, at - start, start))
