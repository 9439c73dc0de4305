"""Records as an agent makes them, for tests of what takes them."""

from __future__ import annotations

import struct
import sys
import time
import zlib
from itertools import count
from typing import Any, NamedTuple

import msgspec

from agent import wire
from collector.config import Limits
from collector.tenants.tenants import Tenant

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILE_ID = "00c0ffee00c0ffee"
SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
NOW_NS = (time.time_ns() // DAY_NS) * DAY_NS - DAY_NS + (14 * 3600 + 13 * 60 + 20) * SECOND_NS
"""Yesterday, 14:13:20 UTC: the engine drops by its own clock what is beyond the retention, so it has to be a recent day."""

_numbers = count(1)


def tenant(name: str = "t", *, retention_days: int = 30) -> Tenant:
    return Tenant(name, name, name, limits=Limits(retention_days=retention_days))


def header(raw: bytes, **changed: Any) -> wire.Header:
    """A header that is right for ``raw``, except for what is changed."""
    said: dict[str, Any] = {
        "kind": wire.DATA,
        "record_id": f"record-{next(_numbers)}",
        "agent": "agent-1",
        "scope": "host-1",
        "source": "access",
        "service": "shop",
        "path": "/var/log/shop.log",
        "file_id": FILE_ID,
        "base_offset": 4096,
        "source_from": changed.get("base_offset", 4096),
        "raw_bytes": len(raw),
        "events": raw.count(b"\n") + (bool(raw) and not raw.endswith(b"\n")),
        "observed_ns": NOW_NS,
    }
    return wire.Header(**{**said, **changed})


def record(raw: bytes, **changed: Any) -> bytes:
    """The bytes of one record with the payload ``raw``."""
    return wire.encode_record(header(raw, **changed), zstd.compress(raw, 1))


class Event(NamedTuple):
    """An event as a transform makes it, for `shaped_record`."""

    start: int
    """Distance from the record's first event."""
    text: bytes
    mark: dict[str, str] = {}
    time: str = ""


def shaped_record(*events: Event, **changed: Any) -> bytes:
    """A record of version 2 that says all there is to say of these events."""
    marks: list[dict[str, str]] = []
    for event in events:
        if event.mark not in marks:
            marks.append(event.mark)
    data = b"".join(event.text + b"\n" for event in events)
    steps = [event.start - before.start for before, event in zip((events[:1] + events), events, strict=False)]
    times = "".join(f"{event.time}\n" for event in events).encode()
    raw = b"".join(
        (
            data,
            struct.pack(f"<{len(events)}I", *(len(event.text) for event in events)),
            struct.pack(f"<{len(events)}I", *steps),
            struct.pack(f"<{len(events)}H", *(marks.index(event.mark) for event in events)),
            times,
        )
    )
    said = {"data_bytes": len(data), "sizes": True, "steps": True, "marks": tuple(marks), "times_bytes": len(times)}
    plain = header(raw, **{"events": len(events)})
    head = wire.ShapedHeader(**{**msgspec.structs.asdict(plain), **said, **changed})
    return wire.encode_record(head, zstd.compress(raw, 1))


def loss_record(*losses: wire.Loss, **changed: Any) -> bytes:
    raw = wire.encode_losses(losses)
    return record(raw, **{"kind": wire.LOSS, "file_id": "", "base_offset": 0, "events": len(losses), **changed})


def loss(loss_id: str, **changed: Any) -> wire.Loss:
    said: dict[str, Any] = {
        "loss_id": loss_id,
        "path": "/var/log/shop.log",
        "source": "access",
        "reason": "cut_before_read",
        "lost_bytes": 1000,
        "at_least": True,
        "offset": 77,
        "file_id": FILE_ID,
        "time_ns": NOW_NS,
        "events": 3,
    }
    return wire.Loss(**{**said, **changed})


def expected_ids(raw: bytes, *, file_id: str = FILE_ID, base_offset: int = 4096) -> list[str]:
    """The IDs of the lines of ``raw``, line by line, in the plainest way."""
    ids = []
    at = base_offset
    for line in _lines(raw):
        event = line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\r\n") else line.removesuffix(b"\n")
        ids.append(f"{file_id}-{at:012x}-{zlib.crc32(event):08x}")
        at += len(line)
    return ids


def _lines(raw: bytes) -> list[bytes]:
    parts = raw.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
