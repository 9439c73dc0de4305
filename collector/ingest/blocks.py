"""Agent records, from the bytes of a run to parcels that can be written. Pure.

- All or nothing: a run with one bad record is refused whole, with the record's place, and nothing of it was used.
- Nothing inflates beyond what its header announces, nothing announces more than `wire.MAX_RAW_BYTES`, and a run not
  more than ``max_raw_bytes``. The window of a zstd frame is bounded too, so that a small frame cannot ask for much.
- What a header says of its payload is checked: length, number of lines, offsets, names. What comes out is written as
  it stands, so nothing downstream has to look again.
- No loop over lines.

In records of version 1 a line ends in ``\\n`` or ``\\r\\n``; the end is no part of the event. The engine cuts at ``\\n`` only,
so ends are made equal here, and the offsets, which then no longer follow from the bytes, are carried along.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent import wire
from agent.text import detection
from collector.errors import BadRun, TooLarge, UnsupportedVersion
from collector.writing.parcels import Distances, Parcel, line_starts

if TYPE_CHECKING:
    from collector.tenants.tenants import Tenant

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_RUN_RAW_BYTES = 64 << 20
"""Longest run after decompression; a longer one is refused, and an agent sends it in parts. One record always fits."""
MAX_WINDOW_LOG = 23
"""Windows up to 8 MiB: twice the longest payload."""
MAX_OFFSET = 16**wire.OFFSET_DIGITS - 1
MAX_DISTANCE = (1 << 32) - 1
"""Furthest that an event of a record starts from its first one."""
MAX_LOSSES = 10_000
MAX_RUN_PATTERNS = 32
"""Different patterns for lines and times in a run: each takes an insert of its own."""

_FILE_ID = re.compile(r"[0-9a-f]{16}")
_RECORD_ID = re.compile(r"[\x21-\x7e]{1,100}")
_FRAME: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}


def open_run(
    body: bytes, *, tenant: Tenant, now_ns: int, replay: bool = False, max_raw_bytes: int = MAX_RUN_RAW_BYTES
) -> list[Parcel]:
    """The parcels of a run, in order, one per record.

    Args:
        now_ns: the collector's clock; stands in for an observed time that a record does not give.
        replay: the run is marked as possibly received before.

    Raises:
        UnsupportedVersion: a record of a newer version.
        TooLarge: a record or the run would inflate beyond its limit.
        BadRun: anything else that is wrong, with the byte offset and, where it could be read, the record_id.
    """
    parcels: list[Parcel] = []
    seen: set[str] = set()
    left = max_raw_bytes
    patterns: set[tuple[str, str]] = set()
    for record in _records(body):
        header = record.header
        named = header.record_id if _RECORD_ID.fullmatch(header.record_id) else ""
        try:
            _check(header, seen)
            if header.raw_bytes > wire.MAX_RAW_BYTES or (header.raw_bytes > left and parcels):
                raise _too_large(record, max_raw_bytes)
            patterns.add((header.fields.pattern, header.fields.time_format))
            if len(patterns) > MAX_RUN_PATTERNS:
                raise TooLarge(
                    f"with record {named} at byte {record.start} the run has more than {MAX_RUN_PATTERNS} different patterns "
                    "and time formats; send it in smaller runs"
                )
            left -= header.raw_bytes
            parcels.append(_open(record, tenant, now_ns, replay))
        except _Bomb as bomb:
            raise TooLarge(f"record {named or '(unnamed)'} at byte {record.start}: {bomb}") from None
        except _Wrong as wrong:
            raise BadRun(record.start, str(wrong), record_id=named) from None
    return parcels


class _Wrong(ValueError):
    """What is wrong with one record, in words for its sender."""


class _Bomb(_Wrong):
    """A frame that goes on beyond what was announced."""


def _records(body: bytes) -> Iterable[wire.Record]:
    try:
        yield from wire.decode_run(body)
    except wire.UnknownVersion as error:
        raise UnsupportedVersion(error.offset, error.reason) from None
    except wire.BadRecord as error:
        raise BadRun(error.offset, error.reason) from None


def _too_large(record: wire.Record, max_raw_bytes: int) -> TooLarge:
    which = f"record {record.header.record_id} at byte {record.start}"
    if record.header.raw_bytes > wire.MAX_RAW_BYTES:
        return TooLarge(f"{which} inflates to {record.header.raw_bytes} bytes; at most {wire.MAX_RAW_BYTES} are taken")
    return TooLarge(f"with {which} the run inflates beyond {max_raw_bytes} bytes; send it in smaller runs")


def _check(header: wire.Header, seen: set[str]) -> None:
    if not _RECORD_ID.fullmatch(header.record_id):
        raise _Wrong("record_id is not 1 to 100 printable ASCII characters")
    if header.record_id in seen:
        raise _Wrong("record_id is used twice in the run")
    seen.add(header.record_id)
    if header.kind not in wire.SHIPPED_KINDS:
        raise _Wrong(
            f"kind {header.kind} is not one that is shipped ({wire.DATA} data, {wire.LOSS} losses, {wire.HEARTBEAT} heartbeat, "
            f"{wire.COMPLETED} completed)"
        )
    if header.raw_bytes < 0 or header.events < 0 or header.observed_ns < 0:
        raise _Wrong("raw_bytes, events and observed_ns must not be negative")
    if len(header.labels) > wire.MAX_LABELS:
        raise _Wrong(f"{len(header.labels)} labels, at most {wire.MAX_LABELS} are taken")
    marks = header.marks if isinstance(header, wire.ShapedHeader) else ()
    if any(len(mark) > wire.MAX_LABELS for mark in marks):
        raise _Wrong(f"a mark of more than {wire.MAX_LABELS} attributes")
    fields = header.fields
    said = (fields.pattern, fields.time_format, fields.time_zone)
    names = (header.agent, header.scope, header.source, header.service, header.path, *said)
    texts = (*names, *(text for group in (header.labels, *marks) for pair in group.items() for text in pair))
    if any(len(text.encode()) > wire.MAX_TEXT_BYTES for text in texts):
        raise _Wrong(f"a name, path, label or pattern is longer than {wire.MAX_TEXT_BYTES} bytes")


def _open(record: wire.Record, tenant: Tenant, now_ns: int, replay: bool) -> Parcel:
    header = record.header
    if not header.observed_ns:
        header = msgspec.structs.replace(header, observed_ns=now_ns)
    raw = _inflated(record.payload, header.raw_bytes, "payload")
    parcel = Parcel(
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        header=header,
        base_offset=header.base_offset,
        lookup=replay or bool(header.flags & wire.REPLAY) or header.source_from == 0,
    )
    if header.kind == wire.LOSS:
        losses = _losses(raw)
        return msgspec.structs.replace(parcel, losses=losses, events=len(losses))
    if header.kind == wire.HEARTBEAT:
        return msgspec.structs.replace(parcel, heartbeat=_heartbeat(header, raw))
    if header.kind == wire.COMPLETED:
        return msgspec.structs.replace(parcel, completed=_completed(header, raw))
    parcel = _data(parcel, raw)
    return msgspec.structs.replace(parcel, format=detection.format_of(parcel.lines)) if header.format == wire.AUTO else parcel


def _data(parcel: Parcel, raw: bytes) -> Parcel:
    header = parcel.header
    if isinstance(header, wire.ShapedHeader):
        return _shaped(parcel, header, raw)
    count = raw.count(b"\n") + (not raw.endswith(b"\n") if raw else 0)
    if count != header.events:
        raise _Wrong(f"the payload has {count} lines, the header says {header.events} events")
    if not count:
        return parcel
    distances = _distances(header, raw)
    _check_place(header, int(distances[-1]) if distances is not None else len(raw))
    lines = raw.removesuffix(b"\n")
    if b"\r\n" in raw:
        lines = raw.replace(b"\r\n", b"\n").removesuffix(b"\n")
    return msgspec.structs.replace(parcel, lines=lines, events=count, distances=distances)


def _check_place(header: wire.Header, span: int) -> None:
    if not _FILE_ID.fullmatch(header.file_id):
        raise _Wrong("file_id is not 16 hex digits")
    if header.base_offset < 0 or header.base_offset + span > MAX_OFFSET:
        raise _Wrong(f"base_offset {header.base_offset} is not in the range of file offsets")


def _shaped(parcel: Parcel, header: wire.ShapedHeader, raw: bytes) -> Parcel:
    """Events of version 2, and what is said of each."""
    count = header.events
    lengths = (header.data_bytes, 4 * count * header.sizes, 4 * count * header.steps, 2 * count * bool(header.marks))
    at = list(accumulate((*lengths, header.times_bytes), initial=0))
    if min(header.data_bytes, header.times_bytes) < 0 or at[-1] != len(raw):
        raise _Wrong(f"its parts take {at[-1]} bytes, the payload has {len(raw)}")
    if count > wire.MAX_SHAPED_EVENTS or len(header.marks) > wire.MAX_MARKS:
        raise _Wrong(f"{count} events with {len(header.marks)} marks, {wire.MAX_SHAPED_EVENTS} and {wire.MAX_MARKS} are taken")
    if not count:
        if header.data_bytes:
            raise _Wrong(f"{header.data_bytes} bytes of data, the header says 0 events")
        return parcel
    data = raw[: header.data_bytes]
    sizes = _sizes(data, np.frombuffer(raw[at[1] : at[2]], dtype="<u4")) if header.sizes else None
    found = data.count(b"\n")
    if sizes is None and (found != count or not data.endswith(b"\n")):
        raise _Wrong(f"the payload has {found} lines, the header says {count} events")
    steps = np.frombuffer(raw[at[2] : at[3]], dtype="<u4").astype(np.int64)
    if len(steps) and (steps[0] or not bool((steps[1:] > 0).all()) or int(steps.sum()) > MAX_DISTANCE):
        raise _Wrong(f"the steps do not rise from 0, each by 1 or more, to {MAX_DISTANCE} at most")
    distances = np.cumsum(steps).astype(np.uint32) if header.steps else None
    _check_place(header, int(distances[-1]) if distances is not None else len(data))
    marks = tuple(np.frombuffer(raw[at[3] : at[4]], dtype="<u2").tolist()) if header.marks else None
    if marks and max(marks) >= len(header.marks):
        raise _Wrong(f"mark {max(marks)} of {len(header.marks)}")
    times = tuple(raw[at[4] :].decode("latin-1").split("\n")[:-1]) if header.times_bytes else None
    if times is not None and len(times) != count:
        raise _Wrong(f"{len(times)} times, the header says {count} events")
    return msgspec.structs.replace(
        parcel, lines=data[:-1], events=count, distances=distances, sizes=sizes, marks=marks, times=times
    )


def _sizes(data: bytes, sizes: Distances) -> Distances:
    ends = np.cumsum(sizes.astype(np.int64) + 1)
    if int(ends[-1]) != len(data) or not bool((np.frombuffer(data, dtype=np.uint8)[ends - 1] == 10).all()):
        raise _Wrong(f"the sizes of the events do not lead from newline to newline through its {len(data)} bytes")
    return sizes


def _distances(header: wire.Header, raw: bytes) -> Distances | None:
    if not header.offsets:
        return line_starts(raw.removesuffix(b"\n")).astype(np.uint32) if b"\r\n" in raw else None
    packed = _inflated(memoryview(header.offsets), 4 * header.events, "offsets")
    distances = np.frombuffer(packed, dtype="<u4")
    if header.events > 1 and not bool((distances[1:] > distances[:-1]).all()):
        raise _Wrong("the offsets do not rise from event to event")
    return distances


def _inflated(payload: memoryview, size: int, name: str) -> bytes:
    """Exactly ``size`` bytes out of one zstd frame, or `_Wrong`."""
    if not size and not payload:
        return b""
    frame = zstd.ZstdDecompressor(options=_FRAME)
    try:
        raw = frame.decompress(payload, max_length=size + 1)
    except zstd.ZstdError as error:
        raise _Wrong(f"{name}: {error}") from None
    if len(raw) > size:
        raise _Bomb(f"its {name} inflates beyond the {size} bytes that its header announces")
    if len(raw) != size:
        raise _Wrong(f"{name}: inflates to {len(raw)} bytes, the header says {size}")
    if not frame.eof or frame.unused_data:
        raise _Wrong(f"{name}: is not exactly one zstd frame")
    return raw


def _heartbeat(header: wire.Header, raw: bytes) -> wire.Heartbeat:
    if header.events:
        raise _Wrong("a heartbeat has no events")
    if len(raw) > wire.MAX_HEARTBEAT_BYTES:
        raise _Wrong(f"a heartbeat of {len(raw)} bytes, at most {wire.MAX_HEARTBEAT_BYTES} are taken")
    try:
        return wire.decode_heartbeat(raw)
    except msgspec.DecodeError as error:
        raise _Wrong(f"heartbeat: {error}") from None


def _completed(header: wire.Header, raw: bytes) -> tuple[str, ...]:
    """Only what lies in the very bytes that the record names: a key that may ingest says nothing of other events."""
    if header.events:
        raise _Wrong("a record of completed events has no events itself")
    try:
        ids = wire.decode_completed(raw)
    except msgspec.DecodeError as error:
        raise _Wrong(f"completed: {error}") from None
    if len(ids) > wire.MAX_COMPLETED:
        raise _Wrong(f"{len(ids)} completed events, at most {wire.MAX_COMPLETED} are taken")
    for name in ids:
        if not wire.EVENT_ID.fullmatch(name) or name[:16] != header.file_id:
            raise _Wrong("a completed event's ID is not one of this file")
        if not header.source_from <= int(name[17 : 17 + wire.OFFSET_DIGITS], 16) < header.source_to:
            raise _Wrong("a completed event's ID is of another place")
    return ids


def _losses(raw: bytes) -> tuple[wire.Loss, ...]:
    try:
        losses = wire.decode_losses(raw) if raw else ()
    except msgspec.DecodeError as error:
        raise _Wrong(f"losses: {error}") from None
    if len(losses) > MAX_LOSSES:
        raise _Wrong(f"{len(losses)} losses, at most {MAX_LOSSES} are taken")
    for loss in losses:
        if not loss.loss_id or min(loss.lost_bytes, loss.offset, loss.events, loss.time_ns) < 0:
            raise _Wrong("a loss without loss_id, or with a negative number")
        if max(loss.lost_bytes, loss.offset, loss.events, loss.time_ns) >= 1 << 63:
            raise _Wrong("a loss with a number beyond 63 bits")
        if any(len(text.encode()) > wire.MAX_TEXT_BYTES for text in (loss.loss_id, loss.path, loss.source, loss.reason)):
            raise _Wrong(f"a loss with a text longer than {wire.MAX_TEXT_BYTES} bytes")
    return losses
