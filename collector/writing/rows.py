"""Columns for the engine, from parcels. Pure.

Times are bounded here, before the engine sees them: a row beyond the retention would be dropped without a word, and a
row far away makes a partition of its own. A time more than `MAX_AHEAD_NS` ahead of the collector's clock is replaced by
that clock, and kept as an attribute.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agent import wire
from collector.store import formats
from collector.store.schema import retention_class
from collector.writing import readings
from collector.writing.parcels import Parcel, begins_of, line_starts

DAY_NS = 86_400_000_000_000
MAX_AHEAD_NS = DAY_NS
_VERSIONS = 1 << 63

LOSS_COLUMNS = (
    "tenant_id", "loss_id", "time", "agent", "scope", "source", "path", "file_id", "reason", "lost_bytes", "events",
    "at_least", "offset", "retention_days",
)  # fmt: skip
LOSSES_KEPT_DAYS = 400
"""The ledger's own retention. Losses said to be older than `LOSS_MAX_AGE_NS` are dated so, or they would vanish."""
LOSS_MAX_AGE_NS = 365 * DAY_NS


def version_of(now_ns: int) -> int:
    """The version of rows written now: it falls with time, so that of several copies the first written counts."""
    return _VERSIONS - now_ns


def oldest_ns(parcel: Parcel, now_ns: int) -> int:
    """Events before this are beyond the tenant's retention."""
    return now_ns - parcel.retention_days * DAY_NS


def expired(parcel: Parcel, now_ns: int) -> bool:
    """Whether all its events are beyond the retention: known beforehand where the record's time is theirs."""
    return readings.table_of(parcel) == formats.RAW and parcel.header.observed_ns < oldest_ns(parcel, now_ns)


def ahead(parcel: Parcel, now_ns: int) -> bool:
    """Whether the record's time is too far ahead to be used."""
    return parcel.header.observed_ns > now_ns + MAX_AHEAD_NS


def block_row(parcel: Parcel, *, commit_id: int, record: int, now_ns: int) -> list[Any]:
    """One row for the table of its format, with its `formats.columns_of`."""
    header = parcel.header
    labels = dict(header.labels)
    observed_ns = header.observed_ns
    if ahead(parcel, now_ns):
        labels[formats.ORIGINAL_TIMESTAMP] = str(observed_ns)
        observed_ns = now_ns
    row = {
        "commit_id": commit_id,
        "record": record,
        "tenant_id": parcel.tenant_id,
        "file_id": header.file_id,
        "base_offset": parcel.base_offset,
        "offsets": [] if parcel.distances is None else parcel.distances.tolist(),
        "data": parcel.lines,
        "observed_us": observed_ns // 1000,
        "oldest_us": oldest_ns(parcel, now_ns) // 1000,
        "newest_us": (now_ns + MAX_AHEAD_NS) // 1000,
        "service": header.service,
        "source": header.source,
        "path": header.path,
        "agent": header.agent,
        "labels": labels,
        "time_fields": header.fields.time,
        "level_fields": header.fields.level,
        "message_fields": header.fields.message,
        "parse_error": readings.reading_of(parcel).fault,
        "retention_days": retention_class(parcel.retention_days),
        "version": version_of(now_ns),
    }
    table = readings.table_of(parcel)
    if parcel.shaped or table in formats.READ:
        row |= _shape(parcel)
    if table in formats.READ:
        row |= _reading(readings.reading_of(parcel), row["oldest_us"], row["newest_us"])
    return [row[name] for name in formats.columns_of(table)]


def _reading(reading: readings.Reading, oldest_us: int, newest_us: int) -> dict[str, Any]:
    since, shifts = readings.zone_steps(reading.zone, oldest_us, newest_us)
    return {
        "pattern": reading.pattern,
        "groups": reading.groups,
        "time_pattern": reading.time.pattern,
        "time_parts": reading.time.parts,
        "time_scale": reading.time.scale,
        "zone_from": since,
        "zone_shift": shifts,
    }


def _shape(parcel: Parcel) -> dict[str, Any]:
    marks = parcel.header.marks if isinstance(parcel.header, wire.ShapedHeader) else ()
    firsts = [] if parcel.sizes is None else np.isin(line_starts(parcel.lines), begins_of(parcel)).astype(np.uint8).tolist()
    return {"firsts": firsts, "marks": [marks[n] for n in parcel.marks or ()], "times": list(parcel.times or ())}


def loss_rows(parcel: Parcel, losses: list[wire.Loss], now_ns: int) -> list[tuple[Any, ...]]:
    """Rows of `losses`, in the order of `LOSS_COLUMNS`."""
    header = parcel.header
    return [
        (
            parcel.tenant_id, loss.loss_id, min(max(loss.time_ns, now_ns - LOSS_MAX_AGE_NS), now_ns) // 1000,
            header.agent, header.scope, loss.source, loss.path, loss.file_id, loss.reason, loss.lost_bytes,
            loss.events, int(loss.at_least), loss.offset, LOSSES_KEPT_DAYS,
        )
        for loss in losses
    ]  # fmt: skip
