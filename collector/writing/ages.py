"""How old what waits for a commit is, and which partitions of `events` its insert will touch. Pure.

An insert makes a part, synced by itself, in every partition that its rows fall into: one of many weeks takes long, and
beyond the engine's bound it is refused whole. So data older than `OLD_US` is committed apart from fresh data, which by
itself falls into two weeks of each class of retention at most, and in portions of few partitions.

What is known before the insert:
- Events of the JSON API: the time of each; it was checked.
- Lines that are kept as they are (`formats.RAW`): theirs is the time at which the agent saw them, the record's.
- Lines that the engine parses: a guess from the first and the last line of the record, for in a log time rises; where
  they tell no time, the record's. A wrong guess costs the commit it is in some partitions more, of this tenant's
  retention at most, and nothing else.
- Losses fall into no partition.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from collector.ingest.event_checks import ROW_COLUMNS, Row
from collector.ingest.moments import parse_moment
from collector.store import formats
from collector.store.schema import retention_class
from collector.writing.parcels import Parcel
from collector.writing.readings import reading_of

if TYPE_CHECKING:
    from collector.ingest.event_checks import Checked

DAY_US = 86_400_000_000
OLD_US = DAY_US
MAX_PARTITIONS = 16
"""In a commit of old data; what alone touches more goes alone."""
MAX_LOOKED_AT_BYTES = 64 << 10
"""A longer line is not parsed here, only for a guess."""

MAX_FRONT_BYTES = 512
_DATE = re.compile(rb"(\d\d/[A-Z][a-z]{2}/\d{4})|\d{4}([-/])\d\d\2\d\d")
"""Of the lines of other formats than JSON. One without a year is not looked for: it is of the last twelve months anyway."""

Partition: TypeAlias = tuple[int, int]
"""Class of retention, and number of the week (from Monday on)."""
FRESH: frozenset[Partition] = frozenset()

_TIME, _CLASS = ROW_COLUMNS.index("timestamp"), ROW_COLUMNS.index("retention_days")
_members: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def old_before(now_us: int) -> int:
    """Events before this are old."""
    return now_us - OLD_US


def week_of(time_us: int) -> int:
    """1970 began on a Thursday."""
    return (time_us // DAY_US + 3) // 7


def old_partition(row: Row, old_before_us: int) -> Partition | None:
    """Where an old event of the JSON API goes; None: it is fresh."""
    time_us: int = row[_TIME]
    return (row[_CLASS], week_of(time_us)) if time_us < old_before_us else None


def fresh_first(events: Sequence[Checked], old_before_us: int) -> list[int] | None:
    """Places of the events, those of the old ones at the end and by their time; None: nothing needs to change."""
    old = [place for place, event in enumerate(events) if event.row[_TIME] < old_before_us]
    if not old:
        return None
    are_old = set(old)
    old.sort(key=lambda place: events[place].row[_TIME])
    return [place for place in range(len(events)) if place not in are_old] + old


def old_partitions(parcel: Parcel, now_us: int) -> frozenset[Partition]:
    """The partitions that an agent's record touches, as far as it can be told, if some of it is old; else `FRESH`."""
    if not parcel.events or parcel.losses:
        return FRESH
    times = _times(parcel, now_us) or [parcel.header.observed_ns // 1000]
    oldest_us = max(min(times), now_us - parcel.retention_days * DAY_US)
    if oldest_us >= old_before(now_us):
        return FRESH
    kept = retention_class(parcel.retention_days)
    newest_us = min(max(oldest_us, *times), now_us)
    return frozenset((kept, week) for week in range(week_of(oldest_us), week_of(newest_us) + 1))


def _times(parcel: Parcel, now_us: int) -> list[int]:
    """Of the first and the last line, where they tell one."""
    table = reading_of(parcel).table
    if table == formats.RAW:
        return []
    lines, names = parcel.lines, parcel.header.fields.time
    end = lines.find(b"\n")
    first = lines if end < 0 else lines[:end]
    last = lines[lines.rfind(b"\n") + 1 :]
    if table != formats.JSON:
        return [time_us for line in (first, last) if (time_us := _noon(line)) is not None]
    return [time_us for line in (first, last) if (time_us := _time(line, names, now_us)) is not None]


def _noon(line: bytes) -> int | None:
    """Of the day that a line names first, at its front: closer is not needed."""
    found = _DATE.search(line[:MAX_FRONT_BYTES])
    if not found:
        return None
    text = found[0].decode()
    try:
        day = datetime.strptime(text, "%d/%b/%Y") if found[1] else datetime.strptime(text.replace("/", "-"), "%Y-%m-%d")
    except ValueError:
        return None
    return int(day.replace(hour=12, tzinfo=UTC).timestamp()) * 1_000_000


def _time(line: bytes, names: Sequence[str], now_us: int) -> int | None:
    if len(line) > MAX_LOOKED_AT_BYTES:
        return None
    try:
        members = _members.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    said = next((members[name] for name in names if name in members), None)
    if isinstance(said, bool) or not isinstance(said, (str, int, float)):
        return None
    text = str(said)
    return None if text[:1] in ("-", "n") else parse_moment(text, now_us)
