"""Segments of the spool: what their bytes mean, and the state of every file that follows from them. Pure.

A segment is records one after the other (`agent.wire`), the first of kind `FILES`: the state of every file when the segment
began. Each `DATA` record carries a checkpoint, the change of its file's state, so what was read is known from the same
bytes that hold it. `ACKED` records say how far acks had come; they are hints, losing one costs a lookup in the store.

What damage costs:
- A bad record is skipped, those behind it count. A file whose next record does not start where its last one ended goes back
  to the gap; what is read again keeps its IDs. Where its source is gone, the gap is what was lost (`FileState.gaps`).
- A bad `FILES` record is only missed where no record speaks of the file any more; it is then read from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from agent import wire
from agent.codec import ZstdError, compress, decompress
from agent.files.identity import INSTANCE, RECENT_MARKS, FileState

MAX_HEAD_BYTES = 256 << 20
"""Longest `FILES` payload after decompression."""
STATES_PER_RECORD = 1000
IDLE_MARKS = 8
"""Record ends that are kept of a file at rest."""


class Position(NamedTuple):
    """A place in the spool: number of the segment, byte in it."""

    segment: int
    at: int


class SpoolHead(msgspec.Struct, array_like=True):
    """Payload of a `FILES` record."""

    scope: str = ""
    tenant_id: str = ""
    states: list[FileState] = []
    tags: dict[str, int] = {}
    """`head_key` -> the last tag given to a file with this head."""
    known: bool = False
    """What was read up to ``offset`` is accounted for, although no record of it is there: it was given up, and told."""
    retention_days: int = 0
    """What the collector said last; 0: not known."""
    started: list[str] = []
    """Sources of which the files that were there at first have been seen to (`agent.files.starting`), all states before it."""


class Acked(msgspec.Struct, array_like=True, frozen=True):
    """Payload of an `ACKED` record: everything before this position has a final outcome."""

    segment: int
    at: int
    tenant_id: str = ""
    retention_days: int = 0


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """The change of a file's state that a `DATA` record makes. In ``state`` only what is new: the marks of this record, and
    the ladder while it grows."""

    state: FileState
    replaces: str = ""
    """Origin of a state that this one makes void."""


_encode = msgspec.msgpack.Encoder().encode
_head_of = msgspec.msgpack.Decoder(SpoolHead).decode
_acked_of = msgspec.msgpack.Decoder(Acked).decode
_checkpoint_of = msgspec.msgpack.Decoder(Checkpoint).decode


def head_records(head: SpoolHead) -> Iterator[bytes]:
    """The `FILES` records that begin a segment; several, so that none outgrows a record."""
    for at in range(0, max(len(head.states), 1), STATES_PER_RECORD):
        states, last = head.states[at : at + STATES_PER_RECORD], at + STATES_PER_RECORD >= len(head.states)
        part = msgspec.structs.replace(head, states=states, tags={} if at else head.tags, started=head.started if last else [])
        yield wire.encode_record(wire.Header(wire.FILES, "files"), compress(_encode(part)))


def acked_record(acked: Acked) -> bytes:
    return wire.encode_record(wire.Header(wire.ACKED, "acked"), _encode(acked))


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    return _encode(checkpoint)


class Damage(NamedTuple):
    """Bytes ``start`` to ``end`` of a segment are no records."""

    start: int
    end: int
    reason: str


def scan(segment: bytes | memoryview) -> Iterator[wire.Record | Damage]:
    """The records of a segment, and what is damaged. Damage at its end may be a torn tail.

    Args:
        segment: the whole file.

    Raises:
        wire.UnknownVersion: an undamaged record of a newer program.
    """
    at = 0
    while at < len(segment):
        try:
            record = wire.decode_record(segment, at)
        except wire.UnknownVersion:
            raise
        except wire.BadRecord as error:
            end = _next_record(segment, at + 1)
            yield Damage(at, end, error.reason)
            at = end
        else:
            yield record
            at = record.end


def _next_record(segment: bytes | memoryview, at: int) -> int:
    """Where the next undamaged record begins; the end where there is none. Payloads may hold the magic bytes by chance."""
    whole = bytes(segment)
    while (at := whole.find(wire.MAGIC, at)) >= 0:
        try:
            wire.decode_record(segment, at)
        except wire.UnknownVersion:
            return at
        except wire.BadRecord:
            at += 1
        else:
            return at
    return len(segment)


class Recovery:
    """The state of every file as the records prove it, fed with the segments in their order."""

    def __init__(self) -> None:
        self.scope = ""
        self.tenant_id = ""
        self.retention_days = 0
        self.tags: dict[str, int] = {}
        self.started: set[str] = set()
        self.states: dict[str, FileState] = {}
        self.acked: Position | None = None
        self._first_segment: int | None = None

    def begin(self, segment: int) -> None:
        """A segment comes next, whether or not any record in it is good: only the head of the first one needs no proof."""
        if self._first_segment is None:
            self._first_segment = segment

    def feed(self, record: wire.Record, segment: int) -> None:
        """Take one record of a segment into account. A payload that does not decode is ignored: its checksum was right, so
        a program wrote it that knew better, and nothing else depends on it."""
        kind = record.header.kind
        try:
            if kind == wire.FILES:
                self._files(segment, wire.decoded(_head_of, decompress(record.payload, MAX_HEAD_BYTES)))
            elif kind == wire.ACKED:
                acked = wire.decoded(_acked_of, record.payload)
                self.acked = Position(acked.segment, acked.at)
                self.tenant_id = acked.tenant_id or self.tenant_id
                self.retention_days = acked.retention_days or self.retention_days
            elif record.header.checkpoint:
                self._data(record.header, wire.decoded(_checkpoint_of, record.header.checkpoint))
        except (msgspec.DecodeError, ZstdError):
            return

    def _files(self, segment: int, head: SpoolHead) -> None:
        self.scope = head.scope or self.scope
        self.tenant_id = head.tenant_id or self.tenant_id
        self.retention_days = head.retention_days or self.retention_days
        self._raise_tags(head.tags)
        self.started.update(head.started)
        for state in head.states:
            known = self.states.get(state.origin)
            replaced = self.states.pop(state.replaces, None)
            if known is None and replaced is not None and state.offset <= replaced.offset:
                self.states[state.origin] = state  # it was cut back; no record of it says so yet
                continue
            if head.known and (known is None or not known.gaps):
                self.states[state.origin] = state
            elif known is not None:
                self._keep_proven(known, state)
            else:
                self.states[state.origin] = state
                if segment != self._first_segment and state.offset:
                    _start_over(state)

    def _keep_proven(self, known: FileState, told: FileState) -> None:
        """A head repeats what records said; where it says more, records between are missing."""
        if told.offset > known.offset:
            known.replay_until = max(known.replay_until, told.offset)
            _miss(known, told.offset, told.offset)
            known.size = max(known.size, told.size)
        else:
            self.states[told.origin] = told

    def _data(self, header: wire.Header, checkpoint: Checkpoint) -> None:
        told = checkpoint.state
        self.states.pop(checkpoint.replaces, None)
        self._raise_tags({told.head: told.tag} if told.tag < INSTANCE else {})
        state = self.states.get(told.origin)
        if state is None:
            state = self.states[told.origin] = msgspec.structs.replace(told, offset=told.base, marks={}, recent=[])
            if header.source_from > told.base:
                _start_over(state)
        if header.source_from > state.offset:
            state.replay_until = max(state.replay_until, header.source_to)
            _miss(state, header.source_from, header.source_to)
            state.size = max(state.size, told.size)
            return
        if header.source_to <= state.offset:
            if header.source_from == header.source_to == state.offset and told.halves:
                state.halves, state.half_to = told.halves, told.half_to
            return
        self.states[told.origin] = merge(state, told)

    def _raise_tags(self, tags: dict[str, int]) -> None:
        for head, tag in tags.items():
            self.tags[head] = max(tag, self.tags.get(head, 0))


def slim(state: FileState) -> None:
    """Forget record ends of a file at rest: they tell to the line how far it was cut back, and with many files the heads would
    consist of them."""
    del state.recent[:-IDLE_MARKS]


def merge(state: FileState, change: FileState) -> FileState:
    """``state`` after a record whose checkpoint holds ``change``."""
    return msgspec.structs.replace(
        change,
        marks=state.marks | change.marks,
        recent=(state.recent + change.recent)[-RECENT_MARKS:],
        ladder=change.ladder or state.ladder,
        replay_until=max(state.replay_until, change.replay_until),
        gaps=[(start, end) for start, end in state.gaps if end > change.offset],
        read_to=max(state.read_to, change.read_to),
    )


def _miss(state: FileState, start: int, end: int) -> None:
    """Something speaks of bytes up to ``end``, the last of them, from ``start`` on, in the spool: what is between there and
    what was known is missing."""
    known = max(state.offset, state.read_to, state.base)
    if start > known:
        state.gaps = [*state.gaps, (known, start)]
    state.read_to = max(known, end)
    state.size = max(state.size, end)


def _start_over(state: FileState) -> None:
    state.replay_until = max(state.replay_until, state.offset)
    reached, state.offset, state.gaps, state.read_to = state.offset, 0, [], 0
    _miss(state, reached, reached)
    state.marks, state.recent, state.ladder = {}, [], b""
