"""Bytes from the front of a block -> texts, each with the place where it starts in the file. Pure.

What a step does not need is not made: texts and places are taken out of the bytes when they are first asked for, so that a
step that works on all bytes at once costs no loop over lines.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import accumulate

Places = list[tuple[int, int]]


class Lines:
    """Texts of one line each, or of several (``sizes``), in the order of the file."""

    def __init__(
        self,
        end: int,
        *,
        data: bytes | None = None,
        texts: list[bytes] | None = None,
        starts: list[int] | None = None,
        spans: Sequence[int] | None = None,
        sizes: list[int] | None = None,
        moved: bool = False,
        partial: bool = False,
        times: list[bytes] | None = None,
        streams: list[bytes] | None = None,
        clean: Places | None = None,
    ) -> None:
        """Give at least one of ``data`` and ``texts``.

        Args:
            end: how many bytes of the block they stand for.
            data: the texts with a newline between each two of them.
            starts: where each begins in the block; None: as ``spans`` say.
            spans: from where each begins to where the next one does, in bytes of the block; of the last one any number.
                None: as in ``data``.
            sizes: length of each text; None: no text holds a newline.
            moved: the texts are not what lies in the block.
            clean: (number of texts, end of their bytes) where a record may end; None: behind any text.
        """
        self.end, self.sizes, self.moved, self.partial = end, sizes, moved, partial
        self.times, self.streams, self.clean = times, streams, clean
        self._data, self._texts, self._starts, self._spans = data, texts, starts, spans
        self._count: int | None = None

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = b"\n".join(self.texts)
        return self._data

    @property
    def texts(self) -> list[bytes]:
        if self._texts is None:
            self._texts = self.data.split(b"\n")
        return self._texts

    @property
    def lengths(self) -> list[int]:
        return list(map(len, self.texts)) if self.sizes is None else self.sizes

    @property
    def spans(self) -> Sequence[int]:
        if self._spans is None:
            self._spans = spans_of(self.data) if self.sizes is None else list(map((1).__add__, self.sizes))
        return self._spans

    @property
    def starts(self) -> list[int]:
        if self._starts is None:
            self._starts = list(accumulate(self.spans[:-1], initial=0))
        return self._starts

    @property
    def first(self) -> int:
        return self._starts[0] if self._starts else 0

    @property
    def steps(self) -> bytes:
        """uint32 per text: from where the one before starts to where it does; 0 for the first."""
        gaps = self.spans if self._starts is None else map(int.__sub__, self._starts[1:], self._starts)
        return (bytes(4) + uint32s(gaps))[: 4 * len(self)]

    @property
    def one_stream(self) -> bool:
        return not self.streams or self.streams.count(self.streams[0]) == len(self.streams)

    def __len__(self) -> int:
        for known in (self._texts, self.sizes, self._starts, self._spans):
            if known is not None:
                return len(known)
        if self._count is None:
            self._count = self.data.count(b"\n") + 1
        return self._count

    def upto(self, count: int) -> Lines:
        """The first texts, at most ``count`` where a record may end there, else the next fewer; maybe none."""
        if count >= len(self):
            return self
        end = self.starts[count]
        if self.clean is not None:
            at = bisect_left(self.clean, (count + 1, 0)) - 1
            count, end = self.clean[at] if at >= 0 else (0, 0)
        return self._front(count, end)

    def below(self, boundary: int) -> Lines:
        """The texts that start below ``boundary``, and those that cannot be told apart from them."""
        count = bisect_left(self.starts, boundary)
        if count >= len(self):
            return self
        end = self.starts[count]
        if self.clean is not None:
            count, end = next((place for place in self.clean if place[1] >= boundary), (len(self), self.end))
        return self._front(count, end)

    def without_last(self, data: bytes, count: int) -> Lines:
        """Without the last ``count`` lines, which leaves ``data``."""
        if self._starts is None and self._spans is None:
            return Lines(len(data) + 1, data=data)
        left = len(self) - count
        return Lines(
            self.starts[left], data=data, starts=self.starts[:left], moved=self.moved,
            times=self.times and self.times[:left], streams=self.streams and self.streams[:left],
        )  # fmt: skip

    def grouped(self, events: list[bytes]) -> Lines:
        """Its lines as events of one or more, made of the same bytes."""
        if self._starts is None and self._spans is None:
            return Lines(self.end, data=self._data, texts=events, sizes=list(map(len, events)), partial=self.partial)
        return self.joined(events, [0, *accumulate(event.count(b"\n") + 1 for event in events[:-1])])

    def joined(self, events: list[bytes], firsts: Sequence[int], clean: Places | None = None) -> Lines:
        """The same, where it is known which line each event begins with."""
        starts, times, streams = self.starts, self.times, self.streams
        return Lines(
            self.end,
            texts=events,
            starts=[starts[n] for n in firsts],
            sizes=list(map(len, events)),
            moved=self.moved,
            partial=self.partial,
            times=times and [times[n] for n in firsts],
            streams=streams and [streams[n] for n in firsts],
            clean=clean,
        )

    def unwrapped(self, texts: list[bytes], times: list[bytes], streams: list[bytes]) -> Lines:
        """What lies in lines that have other lines around them."""
        lines = self.changed(texts=texts)
        lines.times, lines.streams = times, streams
        return lines

    def chosen(self, numbers: Sequence[int]) -> Lines:
        """Some of the texts; they stand for as many bytes."""
        texts, starts, times, streams = self.texts, self.starts, self.times, self.streams
        return Lines(
            self.end,
            texts=[texts[n] for n in numbers],
            starts=[starts[n] for n in numbers],
            sizes=self.sizes and [self.sizes[n] for n in numbers],
            moved=True,
            partial=self.partial,
            times=times and [times[n] for n in numbers],
            streams=streams and [streams[n] for n in numbers],
        )

    def changed(self, *, data: bytes | None = None, texts: list[bytes] | None = None) -> Lines:
        """Other texts, as many, for the same bytes."""
        sizes = None if self.sizes is None or texts is None else list(map(len, texts))
        spans = self.spans if self._starts is None else None
        return Lines(
            self.end, data=data, texts=texts, starts=self._starts, spans=spans, sizes=sizes, moved=True, partial=self.partial,
            times=self.times, streams=self.streams,
        )  # fmt: skip

    def _front(self, count: int, end: int) -> Lines:
        return Lines(
            end,
            texts=self.texts[:count],
            starts=self.starts[:count],
            sizes=self.sizes and self.sizes[:count],
            moved=self.moved,
            times=self.times and self.times[:count],
            streams=self.streams and self.streams[:count],
            clean=self.clean and [place for place in self.clean if place[0] <= count],
        )


def spans_of(data: bytes) -> array[int]:
    """Of lines with a newline between each two: their lengths with it. No line outlives the next one, which halves the time."""
    found = array("I", map(len, BytesIO(data)))
    if not data or data.endswith(b"\n"):
        found.append(0)
    return found


def uint32s(values: Iterable[int]) -> bytes:
    """Little-endian."""
    found = values[:] if isinstance(values, array) else array("I", values)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def physical(encoding: str, block: bytes, offset: int, *, final: bool, front: bytes) -> Lines | None:
    """The complete lines at the front of ``block``, as UTF-8 where they are not; None where there is none.

    Args:
        final: what comes behind the last newline is a complete line, too.
        front: the file's first two bytes, for ``utf-16``.
    """
    wide = wide_encoding(encoding, front)
    newline = newline_of(encoding, front)
    # A file cut back is read again from behind a byte 10: the other half of a wide newline may be still to come.
    skip = len(newline) - 1 if wide and offset % len(newline) else 0
    last = block.rfind(newline, skip)
    while wide and last >= 0 and (last - skip) % len(newline):
        last = block.rfind(newline, skip, last + len(newline) - 1)
    end = last + len(newline) if last >= 0 else 0
    partial = False
    if final and end < len(block):
        end, partial = len(block), True
    if not end:
        return None
    data = block[skip : end if partial else end - len(newline)]
    if wide:
        return _wide(data, wide, end, skip, partial=partial, first=not offset)
    crlf = b"\r" in data and block.find(b"\r\n", 0, end) >= 0
    moved = bool(encoding) and not data.isascii()
    spans = spans_of(data) if moved or crlf else None
    if moved:
        data = b"\n".join(_decoded(data, encoding))
    if crlf:
        data = data.replace(b"\r\n", b"\n")
        if not partial:
            data = data.removesuffix(b"\r")
    return Lines(end, data=data, spans=spans, moved=moved or crlf, partial=partial)


def wide_encoding(encoding: str, front: bytes) -> str:
    """The name with its byte order where a newline has two bytes, else nothing."""
    if encoding == "utf-16":
        return "utf-16-be" if front[:2] == b"\xfe\xff" else "utf-16-le"
    return encoding if encoding.startswith("utf-16") else ""


def newline_of(encoding: str, front: bytes) -> bytes:
    wide = wide_encoding(encoding, front)
    return "\n".encode(wide) if wide else b"\n"


def _wide(data: bytes, encoding: str, end: int, skip: int, *, partial: bool, first: bool) -> Lines:
    text = data.decode(encoding, "surrogatepass" if not len(data) % 2 else "replace")
    lengths = [len(line.encode(encoding, "surrogatepass")) for line in text.split("\n")]
    starts = [at + skip for at in accumulate((length + 2 for length in lengths[:-1]), initial=0)]
    text = (text.removeprefix("\ufeff") if first else text).replace("\r\n", "\n")
    if not partial:
        text = text.removesuffix("\r")
    made = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    return Lines(end, data=made, starts=starts, moved=True, partial=partial)


def _decoded(data: bytes, encoding: str) -> list[bytes]:
    made = data.decode(encoding, "replace").encode().split(b"\n")
    if len(made) == data.count(b"\n") + 1:
        return made
    return [text.decode(encoding, "replace").replace("\n", "\ufffd").encode() for text in data.split(b"\n")]
