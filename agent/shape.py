"""Transforms: bytes of a file -> events as they are sent. Pure, whole blocks at a time, nothing at all where none is asked for.

Order: decode → unwrap (containers) → join (multi-line) → leave out → redact → cut what is too long.

Promises:
- Which events there are, and their IDs, is a function of the plan and of the bytes from where the record begins: never of
  how much was read at once. An event that is not complete is not consumed; it lies behind the offset and is read again.
- An event is named by where its first line starts in the file and by the bytes that are stored. No record holds events
  from both sides of `BODY_AT` (lines of two streams that lie between one another count as one piece here).
- What is left out is covered all the same: the record's ``source_from`` and ``source_to`` hold it.
- One exception: `Shaped.reproducible` is False where a timeout ended an event. That record must be synced before it is sent.

Known limits: a line longer than `MAX_LINE_BYTES` becomes several events; lines of another stream end a multi-line event; a
file cut back in the middle of a multi-line event is read again from a line of it.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from agent import containers, filters, multiline, redact, wire
from agent.blocks import MAX_LINE_BYTES, cut_block
from agent.codec import decompress
from agent.config import Redact, Source
from agent.identity import BODY_AT

_BLIND = ("\\A", "\\Z", "\\z", "(?<", "(?=", "(?!")
"""What sees beyond an event when a pattern is tried on a whole block."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done with the lines of one source."""

    encoding: str = ""
    container: str = ""
    rule: multiline.Rule | None = None
    timeout_s: float = 0.0
    include: tuple[re.Pattern[bytes], ...] = ()
    exclude: tuple[re.Pattern[bytes], ...] = ()
    sample: dict[str, int] = {}
    redactions: tuple[tuple[redact.Find, redact.Replace, bool], ...] = ()
    """The last: to be tried on each event alone."""
    max_bytes: int = MAX_LINE_BYTES

    only_looks: bool = False
    """A block in which no redaction and no long line is found goes as it is."""

    @property
    def unit(self) -> int:
        """Bytes of a character's unit."""
        return 2 if self.encoding.startswith("utf-16") else 1

    @property
    def needs_front(self) -> bool:
        """Whether the file's first two bytes say how to read it."""
        return self.encoding == "utf-16"


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

    def header(self, plain: wire.Header) -> wire.Header:
        """The header for these events, from one that has all that is not about them."""
        said = {
            **{name: getattr(plain, name) for name in wire.Header.__struct_fields__},
            "base_offset": plain.base_offset + self.first,
            "events": self.events,
            "raw_bytes": len(self.payload),
        }
        return wire.Header(**said) if self.sections is None else wire.ShapedHeader(**said, **self.sections)


class _Lines(msgspec.Struct):
    texts: list[bytes]
    starts: list[int]
    end: int
    moved: bool
    partial: bool = False
    times: list[bytes] | None = None
    streams: list[bytes] | None = None
    clean: list[tuple[int, int]] | None = None
    """Where a record may end; None: at any event."""
    data: bytes = b""
    """The lines in one piece, where they are as they lie in the file."""

    def upto(self, count: int) -> _Lines:
        """The first events, at most ``count`` where a record may end there, else the next fewer; maybe none."""
        if count >= len(self.texts):
            return self
        end = self.starts[count]
        if self.clean is not None:
            at = bisect_left(self.clean, (count + 1, 0)) - 1
            count, end = self.clean[at] if at >= 0 else (0, 0)
        return self._front(count, end)

    def below(self, boundary: int) -> _Lines:
        """The events that start below ``boundary``, and those that cannot be told apart from them."""
        count = bisect_left(self.starts, boundary)
        if count >= len(self.texts):
            return self
        end = self.starts[count]
        if self.clean is not None:
            count, end = next((place for place in self.clean if place[1] >= boundary), (len(self.texts), self.end))
        return self._front(count, end)

    def _front(self, count: int, end: int) -> _Lines:
        return _Lines(
            self.texts[:count],
            self.starts[:count],
            end,
            self.moved,
            False,
            self.times and self.times[:count],
            self.streams and self.streams[:count],
            self.clean and [place for place in self.clean if place[0] <= count],
        )


def plan_of(source: Source) -> Plan | None:
    """What a source's settings ask for; None: its lines go as they are."""
    lines, rule = source.multiline, None
    if lines.preset or lines.start or lines.continuation:
        rule = multiline.PRESETS.get(lines.preset) or multiline.Rule(
            start=re.compile(lines.start.encode()).search if lines.start else None,
            goes_on=re.compile(lines.continuation.encode()).search if lines.continuation else None,
        )
        rule = msgspec.structs.replace(rule, max_lines=lines.max_lines)
        rule = msgspec.structs.replace(rule, in_block=multiline.in_block(lines.start or lines.continuation) or rule.in_block)
    plan = Plan(
        "" if source.encoding == "utf-8" else source.encoding,
        source.container,
        rule,
        lines.timeout_s if rule else 0.0,
        tuple(re.compile(pattern.encode()) for pattern in source.include_lines),
        tuple(re.compile(pattern.encode()) for pattern in source.exclude_lines),
        {severity: one_in for severity, one_in in source.sample.items() if one_in > 1},
        tuple(_redactions(source.redact)),
        source.max_line_bytes,
    )
    if plan == Plan():
        return None
    looks = not (plan.encoding or plan.container or plan.rule or plan.include or plan.exclude or plan.sample)
    return msgspec.structs.replace(plan, only_looks=looks and not any(alone for _, _, alone in plan.redactions))


def _redactions(wanted: Redact) -> Iterator[tuple[redact.Find, redact.Replace, bool]]:
    for name in (*wanted.presets, *wanted.patterns):
        replace = redact.keyed_hash(name, wanted.key.encode()) if wanted.action == "hash" else redact.mask(name)
        if name in wanted.patterns:
            pattern = wanted.patterns[name]
            yield redact.matches(re.compile(pattern.encode(), re.M)), replace, any(token in pattern for token in _BLIND)
        else:
            yield redact.PRESETS[name], replace, False


def apply(
    plan: Plan, block: bytes, offset: int, *, final: bool = False, flush: bool = False, front: bytes = b""
) -> Shaped | None:
    """Make events of the bytes at the front of ``block``.

    Args:
        block: from ``offset`` on, where an event begins; at most `blocks.BLOCK_BYTES`.
        final: nothing will be appended any more: what is there is complete.
        flush: nothing was appended for the plan's timeout: complete lines are complete events.
        front: the file's first two bytes, where `Plan.needs_front`.

    Returns:
        None when no event is complete yet. Any byte string is valid input; nothing is raised for content.
    """
    untouched = _untouched(plan, block, offset, final=final)
    if untouched is not None:
        return untouched
    full = len(block) > MAX_LINE_BYTES
    lines = _physical(plan, block, offset, final=final, full=full, front=front)
    if lines is None:
        return None
    waited = False
    if plan.container:
        lines = _unwrapped(plan, lines, end_all=final) or (_unwrapped(plan, lines, end_all=True) if full else None)
    if lines is not None and plan.rule is not None:
        lines, waited = _joined(plan.rule, lines, end_all=final or flush, force=full)
        waited = waited and not final
    if lines is None or not lines.end:
        return None
    whole = lines.end
    if offset < BODY_AT:
        lines = lines.below(BODY_AT - offset)
    if len(lines.texts) > wire.MAX_SHAPED_EVENTS:
        lines = lines.upto(wire.MAX_SHAPED_EVENTS)
    return _packed(plan, lines, reproducible=not (waited and lines.end == whole), block=block)


def _untouched(plan: Plan, block: bytes, offset: int, *, final: bool) -> Shaped | None:
    """The lines as they lie there, where it is seen without taking them apart that nothing is to be done to them."""
    if not plan.only_looks or b"\r\n" in block:
        return None
    found = cut_block(block, 0, len(block), offset, final=final)
    if found is None:
        return None
    data = block[: found.length]
    if _has_longer(data, plan.max_bytes):
        return None
    if any(next(find(data), None) for find, _, _ in plan.redactions):
        return None
    return Shaped(found.length, 0, found.events, data, found.partial, True, None)


def _has_longer(data: bytes, length: int) -> bool:
    """Whether a line is longer, seen by leaps of that length."""
    at = 0
    while len(data) - at > length:
        at = data.rfind(b"\n", at, at + length + 1) + 1
        if not at:
            return True
    return False


def _physical(plan: Plan, block: bytes, offset: int, *, final: bool, full: bool, front: bytes) -> _Lines | None:
    wide = plan.encoding if plan.encoding.startswith("utf-16") else ""
    if wide == "utf-16":
        wide = "utf-16-be" if front[:2] == b"\xfe\xff" else "utf-16-le"
    newline = "\n".encode(wide) if wide else b"\n"
    # A file cut back is read again from behind a byte 10: the other half of a wide newline may be still to come.
    skip = len(newline) - 1 if wide and offset % len(newline) else 0
    last = block.rfind(newline, skip)
    while wide and last >= 0 and (last - skip) % len(newline):
        last = block.rfind(newline, skip, last + len(newline) - 1)
    end = last + len(newline) if last >= 0 else 0
    partial = False
    if final and end < len(block) and not (full and not end):
        end, partial = len(block), True
    elif not end and full:
        end, partial = MAX_LINE_BYTES, True
    if not end:
        return None
    data = block[skip:end]
    if wide:
        texts, lengths = _wide(data, wide)
    else:
        texts = data.split(b"\n")
        lengths = list(map(len, texts))
    if not texts[-1] and not partial:
        texts.pop()
        lengths.pop()
    ends = list(accumulate((length + len(newline) for length in lengths), initial=skip))
    starts, moved = ends[:-1], bool(wide)
    if not wide and plan.encoding:
        texts, moved = _decoded(texts, plan.encoding), True
    if b"\r\n" in data or (wide and b"\r" in data):
        texts = [text.removesuffix(b"\r") for text in texts]
        moved = True
    if skip and starts:
        moved = True
    return _Lines(texts, starts, end, moved, partial, data=b"" if moved else data)


def _wide(data: bytes, encoding: str) -> tuple[list[bytes], list[int]]:
    """Lines as UTF-8, and their lengths in the file without the newline."""
    lines = data.decode(encoding, "surrogatepass" if not len(data) % 2 else "replace").split("\n")
    lengths = [len(line.encode(encoding, "surrogatepass")) for line in lines]
    lines[0] = lines[0].removeprefix("\ufeff")
    return [line.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode() for line in lines], lengths


def _decoded(texts: list[bytes], encoding: str) -> list[bytes]:
    data = b"\n".join(texts)
    if data.isascii():
        return texts
    made = data.decode(encoding, "replace").encode().split(b"\n")
    if len(made) == len(texts):
        return made
    return [text.decode(encoding, "replace").replace("\n", "�").encode() for text in texts]


def _unwrapped(plan: Plan, lines: _Lines, *, end_all: bool) -> _Lines | None:
    ends = [*lines.starts[1:], lines.end]
    found = containers.unwrap(containers.FORMATS[plan.container], lines.texts, ends, final=end_all)
    if not found.clean:
        return None
    starts = [start or lines.starts[0] for start in found.starts]
    end = found.clean[-1][1]
    return _Lines(found.texts, starts, end, True, lines.partial and end == lines.end, found.times, found.streams, found.clean)


def _joined(rule: multiline.Rule, lines: _Lines, *, end_all: bool, force: bool) -> tuple[_Lines | None, bool]:
    """Events of one or more lines; and whether the last one was ended by nothing but ``end_all``."""
    firsts = multiline.firsts(rule, lines.texts, lines.streams, (lines.data, lines.starts) if lines.data else None)
    if not firsts:
        return lines, False
    ended = len(lines.texts) - firsts[-1] >= rule.max_lines
    count = len(firsts)
    if not ended and not end_all:
        rest = lines.upto(firsts[-1])
        if rest.end:
            count = bisect_left(firsts, len(rest.texts))
            lines, ended = rest, True
        elif not force:
            return None, False
    if count == len(lines.texts):
        return lines, not ended
    places = [*firsts[:count], len(lines.texts)]
    texts = lines.texts
    groups = list(pairwise(places))
    clean = lines.clean
    if clean is not None:
        numbers = {place: n for n, place in enumerate(places)}
        clean = [(numbers[place], end) for place, end in clean if place in numbers]
    joined = _Lines(
        [texts[a] if b - a == 1 else b"\n".join(texts[a:b]) for a, b in groups],
        [lines.starts[a] for a, _ in groups],
        lines.end,
        lines.moved,
        lines.partial,
        lines.times and [lines.times[a] for a, _ in groups],
        lines.streams and [lines.streams[a] for a, _ in groups],
        clean,
    )
    return joined, not ended


def _packed(plan: Plan, lines: _Lines, *, reproducible: bool, block: bytes) -> Shaped:
    texts, starts, moved = lines.texts, lines.starts, lines.moved
    times, streams = lines.times, lines.streams
    if plan.include or plan.exclude or plan.sample:
        chosen = filters.kept(texts, include=plan.include, exclude=plan.exclude, sample=plan.sample)
        if chosen is not None:
            moved = True
            texts, starts = [texts[n] for n in chosen], [starts[n] for n in chosen]
            times, streams = times and [times[n] for n in chosen], streams and [streams[n] for n in chosen]
    if not texts:
        return Shaped(lines.end, 0, 0, b"", lines.partial, reproducible, None)
    longest = max(map(len, texts))
    lengths = list(map(len, texts)) if longest > plan.max_bytes else None
    for find, replace, alone in plan.redactions:
        made = _redacted(texts, find, replace, alone=alone)
        moved = moved or made is not texts
        texts = made
    if lengths is not None:
        texts = [text if len(text) <= plan.max_bytes else _cut(text, plan.max_bytes) for text in texts]
    if not moved and lengths is None and times is None and len(texts) == block.count(b"\n", 0, lines.end) + lines.partial:
        return Shaped(lines.end, 0, len(texts), block[: lines.end], lines.partial, reproducible, None)
    data = b"\n".join(texts) + b"\n"
    sections: dict[str, Any] = {"data_bytes": len(data)}
    parts = [data]
    count = len(texts)
    if data.count(b"\n") != count:
        sections["sizes"] = True
        parts.append(struct.pack(f"<{count}I", *map(len, texts)))
    if moved or lengths is not None:
        sections["steps"] = True
        parts.append(struct.pack(f"<{count}I", *(b - a for a, b in zip([starts[0], *starts], starts, strict=False))))
    if lengths is not None or streams:
        marks, numbers = _marks(lengths or [0] * count, streams or [b""] * count, plan.max_bytes)
        sections["marks"] = marks
        parts.append(struct.pack(f"<{count}H", *numbers))
    if times is not None:
        text = b"\n".join(times) + b"\n"
        sections["times_bytes"] = len(text)
        parts.append(text)
    return Shaped(lines.end, starts[0], count, b"".join(parts), lines.partial, reproducible, sections)


def _marks(lengths: list[int], streams: list[bytes], max_bytes: int) -> tuple[tuple[dict[str, str], ...], list[int]]:
    numbers: dict[tuple[int, bytes], int] = {}
    given = [
        numbers.setdefault((length if length > max_bytes else 0, stream), len(numbers))
        for length, stream in zip(lengths, streams, strict=True)
    ]
    marks = []
    for length, stream in numbers:
        mark = {"stream": stream.decode("utf-8", "replace")[:20]} if stream else {}
        marks.append(mark | ({"truncated": "true", "full_length": str(length)} if length else {}))
    return tuple(marks), given


def _redacted(texts: list[bytes], find: redact.Find, replace: redact.Replace, *, alone: bool) -> list[bytes]:
    if not alone:
        data = b"\n".join(texts)
        made = redact.redacted(data, find, replace)
        if made is data:
            return texts
        newlines = made.count(b"\n")
        if newlines == data.count(b"\n"):
            pieces = made.split(b"\n")
            if newlines == len(texts) - 1:
                return pieces
            counts = [text.count(b"\n") + 1 for text in texts]
            places = list(accumulate(counts, initial=0))
            return [b"\n".join(pieces[a:b]) for a, b in pairwise(places)]
    pieces = [redact.redacted(text, find, replace) for text in texts]
    return texts if pieces == texts else pieces


def _cut(text: bytes, length: int) -> bytes:
    """At most ``length`` bytes, not ending inside a character."""
    for end in range(length, max(length - 4, 0), -1):
        if text[end] & 0xC0 != 0x80:
            return text[:end]
    return text[:length]


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
