"""Events -> the payload of a record, and back. Pure; the layout is in `agent.wire`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import msgspec

from agent import wire
from agent.codec import decompress
from agent.text.lines import Lines, uint32s


class Shaped(msgspec.Struct):
    """Events from the front of a block."""

    length: int
    """Bytes of the block that they stand for."""
    first: int
    """Where the first event starts in the block; 0 where there is none."""
    events: int
    payload: bytes
    partial: bool
    reproducible: bool
    sections: dict[str, Any] | None
    """Fields of a `wire.ShapedHeader`; None: the payload is lines as they lie in the file."""
    cut_events: int = 0
    """How many were too long."""
    cut_bytes: int = 0
    """What is missing of these."""

    @property
    def data(self) -> memoryview:
        """The events in it, without what is said of them."""
        return memoryview(self.payload)[: None if self.sections is None else self.sections["data_bytes"]]

    def header(self, plain: wire.Header) -> wire.Header:
        """The header for these events, from one that has all that is not about them."""
        said = {
            **{name: getattr(plain, name) for name in wire.Header.__struct_fields__},
            "base_offset": plain.base_offset + self.first,
            "events": self.events,
            "raw_bytes": len(self.payload),
        }
        return wire.Header(**said) if self.sections is None else wire.ShapedHeader(**said, **self.sections)


def packed(lines: Lines, block: bytes, *, full_lengths: Sequence[int] | None, reproducible: bool) -> Shaped:
    """The events of ``lines``, which stand for the front of ``block``.

    Args:
        full_lengths: of each, its length before it was cut, or 0; None: none was.
    """
    count, times, streams = len(lines), lines.times, lines.streams
    plain = not lines.moved and full_lengths is None and times is None
    if plain and (lines.sizes is None or count == block.count(b"\n", 0, lines.end) + lines.partial):
        return Shaped(lines.end, 0, count, block[: lines.end], lines.partial, reproducible, None)
    data = lines.data + b"\n"
    sections: dict[str, Any] = {"data_bytes": len(data)}
    parts = [data]
    if lines.sizes is not None and data.count(b"\n") != count:
        sections["sizes"] = True
        parts.append(uint32s(lines.sizes))
    if not plain:
        sections["steps"] = True
        parts.append(lines.steps)
    if full_lengths is not None or streams:
        sections["marks"], numbers = _marks(full_lengths, streams, count)
        parts.append(numbers)
    if times is not None:
        text = b"\n".join(times) + b"\n"
        sections["times_bytes"] = len(text)
        parts.append(text)
    return Shaped(lines.end, lines.first, count, b"".join(parts), lines.partial, reproducible, sections)


def _marks(
    full_lengths: Sequence[int] | None, streams: list[bytes] | None, count: int
) -> tuple[tuple[dict[str, str], ...], bytes]:
    if full_lengths is None and streams is not None and streams.count(streams[0]) == count:
        return (_mark(0, streams[0]),), bytes(2 * count)
    numbers: dict[tuple[int, bytes], int] = {}
    given = [
        numbers.setdefault((length, stream), len(numbers))
        for length, stream in zip(full_lengths or repeat(0, count), streams or repeat(b"", count), strict=True)
    ]
    return tuple(_mark(length, stream) for length, stream in numbers), struct.pack(f"<{count}H", *given)


def _mark(full_length: int, stream: bytes) -> dict[str, str]:
    mark = {"stream": stream.decode("utf-8", "replace")[:20]} if stream else {}
    return mark | ({"truncated": "true", "full_length": str(full_length)} if full_length else {})


def events_of(header: wire.Header, raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Every event of a data record with its offset, from the inflated payload: the other way round."""
    if not isinstance(header, wire.ShapedHeader):
        given: tuple[int, ...] = ()
        if header.offsets:
            packed = decompress(header.offsets, 4 * max(0, header.events))
            given = struct.unpack(f"<{len(packed) // 4}I", packed[: len(packed) // 4 * 4])
        at = 0
        for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else ()):
            whole = at + len(line) < len(raw)
            offset = header.base_offset + (given[number] if number < len(given) else at)
            yield offset, line.removesuffix(b"\r") if whole else line
            at += len(line) + 1
        return
    count, at = header.events, header.data_bytes
    data = raw[:at]
    sizes: tuple[int, ...] = ()
    if header.sizes:
        sizes = struct.unpack_from(f"<{count}I", raw, at)
        at += 4 * count
    else:
        sizes = tuple(map(len, data.split(b"\n")[:-1]))
    steps = struct.unpack_from(f"<{count}I", raw, at) if header.steps else tuple(size + 1 for size in (-1, *sizes[:-1]))
    begin, offset = 0, header.base_offset
    for size, step in zip(sizes, steps, strict=True):
        offset += step
        yield offset, data[begin : begin + size]
        begin += size + 1
