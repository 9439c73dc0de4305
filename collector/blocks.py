"""Agent records, from the bytes of a run to parcels that can be written. Pure.

- All or nothing: a run with one bad record is refused whole, with the record's place, and nothing of it was used.
- Nothing inflates beyond what its header announces, nothing announces more than `wire.MAX_RAW_BYTES`, and a run not
  more than ``max_raw_bytes``. The window of a zstd frame is bounded too, so that a small frame cannot ask for much.
- What a header says of its payload is checked: length, number of lines, offsets, names. What comes out is written as
  it stands, so nothing downstream has to look again.
- No loop over lines, with two exceptions: replays whose IDs were found in part (`ids_of`, `picked`), and refused
  commits (`cut`).

A line ends in ``\\n`` or ``\\r\\n``; the end is no part of the event. The engine cuts at ``\\n`` only, so ends are made
equal here, and the offsets, which then no longer follow from the bytes, are carried along.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from agent import wire
from collector.errors import BadRun, TooLarge, UnsupportedVersion

if TYPE_CHECKING:
    from collector.tenants import Tenant

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_RUN_RAW_BYTES = 64 << 20
"""Longest run after decompression; a longer one is refused, and an agent sends it in parts. One record always fits."""
MAX_WINDOW_LOG = 23
"""Windows up to 8 MiB: twice the longest payload."""
MAX_OFFSET = 16**wire.OFFSET_DIGITS - 1
MAX_LOSSES = 10_000

_FILE_ID = re.compile(r"[0-9a-f]{16}")
_RECORD_ID = re.compile(r"[\x21-\x7e]{1,100}")
_FRAME: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
_AFTER_HEX = "g"
"""Sorts behind every hex digit: makes an ID prefix the upper end of a range."""


Distances: TypeAlias = npt.NDArray[np.uint32]
Starts: TypeAlias = npt.NDArray[np.int64]


class Parcel(msgspec.Struct, frozen=True):
    """Events of one record, or its losses, or a heartbeat, checked and inflated."""

    tenant_id: str
    retention_days: int
    header: wire.Header
    lines: bytes = b""
    """The events, one after the other, with a newline between two."""
    events: int = 0
    base_offset: int = 0
    distances: Distances | None = None
    """Per event: its offset minus ``base_offset``. None: they follow from the lines' lengths."""
    losses: tuple[wire.Loss, ...] = ()
    heartbeat: wire.Heartbeat | None = None
    """Not written with events, and no event itself."""
    lookup: bool = False
    """The events may be in the store already."""


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
    for record in _records(body):
        header = record.header
        named = header.record_id if _RECORD_ID.fullmatch(header.record_id) else ""
        try:
            _check(header, seen)
            if header.raw_bytes > wire.MAX_RAW_BYTES or (header.raw_bytes > left and parcels):
                raise _too_large(record, max_raw_bytes)
            left -= header.raw_bytes
            parcels.append(_open(record, tenant, now_ns, replay))
        except _Bomb as bomb:
            raise TooLarge(f"record {named or '(unnamed)'} at byte {record.start}: {bomb}") from None
        except _Wrong as wrong:
            raise BadRun(record.start, str(wrong), record_id=named) from None
    return parcels


def starts_of(parcel: Parcel) -> Starts:
    """Per event: its distance from ``base_offset``."""
    if parcel.distances is not None:
        return parcel.distances.astype(np.int64)
    return _line_starts(parcel.lines)


def ids_of(parcel: Parcel) -> list[str]:
    """The external_id of every event."""
    file_id, base = parcel.header.file_id, parcel.base_offset
    return [
        wire.event_id(file_id, base + distance, line)
        for distance, line in zip(starts_of(parcel).tolist(), parcel.lines.split(b"\n"), strict=True)
    ]


def range_of(parcel: Parcel) -> tuple[str, str]:
    """The smallest range of IDs that holds those of all events, both ends included."""
    first, last = offsets_of(parcel)
    prefix = parcel.header.file_id
    return f"{prefix}-{first:0{wire.OFFSET_DIGITS}x}", f"{prefix}-{last:0{wire.OFFSET_DIGITS}x}-{_AFTER_HEX}"


def offsets_of(parcel: Parcel) -> tuple[int, int]:
    """Offsets of the first and the last event; the parcel has at least one."""
    if parcel.distances is not None:
        return parcel.base_offset + int(parcel.distances[0]), parcel.base_offset + int(parcel.distances[-1])
    return parcel.base_offset, parcel.base_offset + parcel.lines.rfind(b"\n") + 1


def picked(parcel: Parcel, which: Iterable[int]) -> Parcel:
    """The parcel with only the events (or losses) at these positions, in order; at least one."""
    chosen = list(which)
    if parcel.losses:
        return msgspec.structs.replace(parcel, losses=tuple(parcel.losses[n] for n in chosen), events=len(chosen))
    lines = parcel.lines.split(b"\n")
    return msgspec.structs.replace(
        parcel,
        lines=b"\n".join([lines[n] for n in chosen]),
        events=len(chosen),
        distances=starts_of(parcel)[chosen].astype(np.uint32),
    )


def cut(parcel: Parcel, most: int) -> list[Parcel]:
    """The parcel in pieces of at most ``most`` events, in order."""
    if parcel.events <= most:
        return [parcel]
    begins = _line_starts(parcel.lines)
    pieces = []
    for first in range(0, parcel.events, most):
        last = min(first + most, parcel.events)
        end = int(begins[last]) - 1 if last < parcel.events else len(parcel.lines)
        begin = int(begins[first])
        pieces.append(
            msgspec.structs.replace(
                parcel,
                lines=parcel.lines[begin:end],
                events=last - first,
                base_offset=parcel.base_offset + (begin if parcel.distances is None else 0),
                distances=None if parcel.distances is None else parcel.distances[first:last],
            )
        )
    return pieces


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
            f"kind {header.kind} is not one that is shipped ({wire.DATA} data, {wire.LOSS} losses, {wire.HEARTBEAT} heartbeat)"
        )
    if header.raw_bytes < 0 or header.events < 0 or header.observed_ns < 0:
        raise _Wrong("raw_bytes, events and observed_ns must not be negative")
    if len(header.labels) > wire.MAX_LABELS:
        raise _Wrong(f"{len(header.labels)} labels, at most {wire.MAX_LABELS} are taken")
    texts = (header.agent, header.scope, header.source, header.service, header.path, *header.labels, *header.labels.values())
    if any(len(text.encode()) > wire.MAX_TEXT_BYTES for text in texts):
        raise _Wrong(f"a name, path or label is longer than {wire.MAX_TEXT_BYTES} bytes")


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
        lookup=replay or bool(header.flags & wire.REPLAY) or header.base_offset == 0,
    )
    if header.kind == wire.LOSS:
        losses = _losses(raw)
        return msgspec.structs.replace(parcel, losses=losses, events=len(losses))
    if header.kind == wire.HEARTBEAT:
        return msgspec.structs.replace(parcel, heartbeat=_heartbeat(header, raw))
    return _data(parcel, raw)


def _data(parcel: Parcel, raw: bytes) -> Parcel:
    header = parcel.header
    count = raw.count(b"\n") + (not raw.endswith(b"\n") if raw else 0)
    if count != header.events:
        raise _Wrong(f"the payload has {count} lines, the header says {header.events} events")
    if not count:
        return parcel
    if not _FILE_ID.fullmatch(header.file_id):
        raise _Wrong("file_id is not 16 hex digits")
    distances = _distances(header, raw)
    span = int(distances[-1]) if distances is not None else len(raw)
    if header.base_offset < 0 or header.base_offset + span > MAX_OFFSET:
        raise _Wrong(f"base_offset {header.base_offset} is not in the range of file offsets")
    lines = raw.removesuffix(b"\n")
    if b"\r\n" in raw:
        lines = raw.replace(b"\r\n", b"\n").removesuffix(b"\n")
    return msgspec.structs.replace(parcel, lines=lines, events=count, distances=distances)


def _distances(header: wire.Header, raw: bytes) -> Distances | None:
    if not header.offsets:
        return _line_starts(raw.removesuffix(b"\n")).astype(np.uint32) if b"\r\n" in raw else None
    packed = _inflated(memoryview(header.offsets), 4 * header.events, "offsets")
    distances = np.frombuffer(packed, dtype="<u4")
    if header.events > 1 and not bool((distances[1:] > distances[:-1]).all()):
        raise _Wrong("the offsets do not rise from event to event")
    return distances


def _line_starts(lines: bytes) -> Starts:
    ends = np.flatnonzero(np.frombuffer(lines, dtype=np.uint8) == 10)
    return np.concatenate((np.zeros(1, dtype=np.int64), ends + 1))


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
