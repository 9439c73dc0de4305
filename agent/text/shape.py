"""Transforms: bytes of a file -> events as they are sent. Pure, whole blocks at a time, nothing at all where none is asked for.

Order: decode → unwrap (containers) → join (multi-line) → leave out → redact → cut what is too long.

Promises:
- Which events there are, and their IDs, is a function of the plan and of the bytes from where the record begins: never of
  how much was read at once. An event that is not complete is not consumed; it lies behind the offset and is read again.
- An event is named by where its first line starts in the file and by the bytes that are stored. No record holds events
  from both sides of `BODY_AT` (lines of two streams that lie between one another count as one piece here).
- What is left out is covered all the same: the record's ``source_from`` and ``source_to`` hold it.
- One exception: `Shaped.reproducible` is False where a timeout ended an event. That record must be synced before it is sent.

Known limits: an event that is put together of more bytes than a block becomes several; lines of another stream end a multi-line
event; a file cut back in the middle of a multi-line event is read again from a line of it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise

import msgspec

from agent import wire
from agent.config import Redact, Source
from agent.files.identity import BODY_AT
from agent.text import containers, filters, multiline, redact
from agent.text.blocks import BLOCK_BYTES, MAX_LINE_BYTES, is_too_long
from agent.text.lines import Lines, physical
from agent.text.packing import Shaped, packed

MARGIN_BYTES = 4096
"""How much more of a line than is sent is looked at before its redaction: longer than anything that a preset looks for."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done with the lines of one source."""

    encoding: str = ""
    container: str = ""
    rule: multiline.Rule | None = None
    timeout_s: float = 0.0
    include: tuple[filters.Filter, ...] = ()
    exclude: tuple[filters.Filter, ...] = ()
    sample: dict[str, int] = {}
    redactions: tuple[redact.Redaction, ...] = ()
    max_bytes: int = MAX_LINE_BYTES

    @property
    def unit(self) -> int:
        """Bytes of a character's unit."""
        return 2 if self.encoding.startswith("utf-16") else 1

    @property
    def needs_front(self) -> bool:
        """Whether the file's first two bytes say how to read it."""
        return self.encoding == "utf-16"


def plan_of(source: Source) -> Plan | None:
    """What a source's settings ask for; None: its lines go as they are."""
    lines, rule = source.multiline, None
    if lines.preset or lines.start or lines.continuation:
        rule = multiline.PRESETS.get(lines.preset) or multiline.Rule(
            start=re.compile(lines.start.encode()).search if lines.start else None,
            goes_on=re.compile(lines.continuation.encode()).search if lines.continuation else None,
        )
        in_block = multiline.in_block(lines.start or lines.continuation, is_start=bool(lines.start))
        rule = msgspec.structs.replace(rule, max_lines=lines.max_lines, block=in_block or rule.block)
    plan = Plan(
        "" if source.encoding == "utf-8" else source.encoding,
        source.container,
        rule,
        lines.timeout_s if rule else 0.0,
        tuple(map(filters.compiled, source.include_lines)),
        tuple(map(filters.compiled, source.exclude_lines)),
        {severity: one_in for severity, one_in in source.sample.items() if one_in > 1},
        tuple(_redactions(source.redact)),
        source.max_line_bytes,
    )
    return None if plan == Plan() else plan


def _redactions(wanted: Redact) -> Iterator[redact.Redaction]:
    for name in (*wanted.presets, *wanted.patterns):
        replace = redact.KeyedHash(name, wanted.key.encode()) if wanted.action == "hash" else redact.mask(name)
        yield redact.pattern(wanted.patterns[name], replace) if name in wanted.patterns else redact.preset(name, replace)


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
        None when no event is complete yet, or the first line is too long (`over_long`). Any byte string is valid input;
        nothing is raised for content.
    """
    full = is_too_long(len(block))
    final = final and not full
    lines = physical(plan.encoding, block, offset, final=final, front=front)
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
    if len(lines) > wire.MAX_SHAPED_EVENTS:
        lines = lines.upto(wire.MAX_SHAPED_EVENTS)
    return _stored(plan, lines, reproducible=not (waited and lines.end == whole), block=block)


def over_long(plan: Plan, block: bytes, offset: int, length: int, to: int, *, partial: bool, front: bytes = b"") -> Shaped:
    """The one event of a line that is longer than any block.

    Args:
        block: its first bytes: more than `blocks.MAX_LINE_BYTES`, and `MARGIN_BYTES` beyond where there are.
        length: of the line, its end not counted.
        to: where the next one begins.
    """
    part = block[: min(length, BLOCK_BYTES + MARGIN_BYTES * bool(plan.redactions))]
    part = part[: len(part) - (offset + len(part)) % plan.unit]
    lines = physical(plan.encoding, part, offset, final=True, front=front)
    assert lines is not None
    times = streams = None
    text = lines.data
    if plan.encoding and len(part) < length:
        text = text.removesuffix("\ufffd".encode())  # half a character
    found = containers.FORMATS[plan.container].part(text) if plan.container else None
    if found is not None:
        text, times, streams = found.text, [found.time], [found.stream]
    lines = Lines(
        to - offset, texts=[text], starts=[0], sizes=[len(text)], moved=True, partial=partial, times=times, streams=streams
    )
    lines = _chosen(plan, lines)
    if not len(lines):
        return Shaped(lines.end, 0, 0, b"", partial, True, None)
    for redaction in plan.redactions:
        lines = _redacted(lines, redaction)
    text = lines.texts[0]
    # What begins close to the end of what was looked at may be half of something that is to be redacted.
    seen = len(text) - MARGIN_BYTES * (bool(plan.redactions) and len(part) < length)
    if length <= plan.max_bytes and len(text) == seen <= plan.max_bytes:
        return packed(lines, block, full_lengths=None, reproducible=True)
    limit = min(plan.max_bytes, seen)
    kept = _cut(text, limit) if len(text) > limit else text
    shaped = packed(lines.changed(texts=[kept]), block, full_lengths=[length], reproducible=True)
    shaped.cut_events, shaped.cut_bytes = 1, length - len(part) + len(text) - len(kept)
    return shaped


def _unwrapped(plan: Plan, lines: Lines, *, end_all: bool) -> Lines | None:
    form = containers.FORMATS[plan.container]
    columns = form.columns(lines.data)
    if columns is not None:
        return lines.unwrapped(columns.texts, columns.times, columns.streams)
    ends = [*lines.starts[1:], lines.end]
    found = containers.unwrap(form.part, lines.texts, ends, final=end_all)
    if not found.clean:
        return None
    starts = [start or lines.starts[0] for start in found.starts]
    end = found.clean[-1][1]
    return Lines(
        end, texts=found.texts, starts=starts, sizes=list(map(len, found.texts)), moved=True,
        partial=lines.partial and end == lines.end, times=found.times, streams=found.streams, clean=found.clean,
    )  # fmt: skip


def _joined(rule: multiline.Rule, lines: Lines, *, end_all: bool, force: bool) -> tuple[Lines | None, bool]:
    """Events of one or more lines; and whether the last one was ended by nothing but ``end_all``."""
    if rule.block is not None and lines.clean is None and lines.sizes is None and lines.one_stream:
        return _joined_in_block(rule, lines, end_all=end_all, force=force)
    texts = lines.texts
    firsts = multiline.firsts(rule, texts, lines.streams)
    if not firsts:
        return lines, False
    ended = len(texts) - firsts[-1] >= rule.max_lines
    count = len(firsts)
    if not ended and not end_all:
        rest = lines.upto(firsts[-1])
        if rest.end:
            count = bisect_left(firsts, len(rest))
            lines, texts, ended = rest, rest.texts, True
        elif not force:
            return None, False
    if count == len(texts):
        return lines, not ended
    places = [*firsts[:count], len(texts)]
    clean = lines.clean
    if clean is not None:
        numbers = {place: n for n, place in enumerate(places)}
        clean = [(numbers[place], end) for place, end in clean if place in numbers]
    events = [texts[a] if b - a == 1 else b"\n".join(texts[a:b]) for a, b in pairwise(places)]
    return lines.joined(events, places[:-1], clean), not ended


def _joined_in_block(rule: multiline.Rule, lines: Lines, *, end_all: bool, force: bool) -> tuple[Lines | None, bool]:
    """The same for all lines at once."""
    data = lines.data
    events = multiline.events_in(rule, data)
    size = len(data) - data.rfind(b"\n") - 1 if events is None else len(events[-1])
    ended = events is not None and events[-1].count(b"\n") + 1 >= rule.max_lines
    if not ended and not end_all:
        if size < len(data):
            lines = lines.without_last(data[: len(data) - size - 1], 1 if events is None else events.pop().count(b"\n") + 1)
            ended = True
        elif not force:
            return None, False
    return (lines if events is None else lines.grouped(events)), not ended


def _stored(plan: Plan, lines: Lines, *, reproducible: bool, block: bytes) -> Shaped:
    """What is left of the events, and of their bytes."""
    lines = _chosen(plan, lines)
    if not len(lines):
        return Shaped(lines.end, 0, 0, b"", lines.partial, reproducible, None)
    full_lengths, cut_bytes = None, 0
    if lines.sizes is not None or _has_longer(lines.data, plan.max_bytes):
        lengths = lines.lengths
        if max(lengths) > plan.max_bytes:
            full_lengths = [length if length > plan.max_bytes else 0 for length in lengths]
    for redaction in plan.redactions:
        lines = _redacted(lines, redaction)
    if full_lengths is not None:
        texts = [text if len(text) <= plan.max_bytes else _cut(text, plan.max_bytes) for text in lines.texts]
        cut_bytes = sum(map(len, lines.texts)) - sum(map(len, texts))
        lines = lines.changed(texts=texts)
    shaped = packed(lines, block, full_lengths=full_lengths, reproducible=reproducible)
    if full_lengths is not None:
        shaped.cut_events, shaped.cut_bytes = sum(map(bool, full_lengths)), cut_bytes
    return shaped


def _chosen(plan: Plan, lines: Lines) -> Lines:
    if not (plan.include or plan.exclude or plan.sample):
        return lines
    chosen = filters.kept(lines, include=plan.include, exclude=plan.exclude, sample=plan.sample)
    return lines if chosen is None else lines.chosen(chosen)


def _has_longer(data: bytes, length: int) -> bool:
    """Whether a line is longer, seen by leaps of that length."""
    at = 0
    while len(data) - at > length:
        at = data.rfind(b"\n", at, at + length + 1) + 1
        if not at:
            return True
    return False


def _redacted(lines: Lines, redaction: redact.Redaction) -> Lines:
    if not redaction.alone:
        made = redaction.block(lines.data)
        if made is lines.data:
            return lines
        return lines.changed(data=made) if lines.sizes is None else lines.changed(texts=_regrouped(made, lines.texts))
    pieces = list(map(redaction.each, lines.texts))
    return lines if pieces == lines.texts else lines.changed(texts=pieces)


def _regrouped(data: bytes, texts: list[bytes]) -> list[bytes]:
    """``data`` in pieces with as many newlines as ``texts`` have."""
    pieces = data.split(b"\n")
    if len(pieces) == len(texts):
        return pieces
    places = accumulate((text.count(b"\n") + 1 for text in texts), initial=0)
    return [b"\n".join(pieces[a:b]) for a, b in pairwise(places)]


def _cut(text: bytes, length: int) -> bytes:
    """At most ``length`` bytes, not ending inside a character."""
    for end in range(length, max(length - 4, 0), -1):
        if text[end] & 0xC0 != 0x80:
            return text[:end]
    return text[:length]
