"""How the lines of a record are to be read, from what its header says: table, pattern, times. Pure.

A record of which something cannot be used is kept as it is, line by line, with ``parse_error``: ``format`` (not known here),
``pattern`` (no good one, or the engine does not take it), ``time_format``, or ``zone``. What is wrong with one record never
touches another.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from agent import patterns, timeformats, wire
from collector.store import formats
from collector.writing.parcels import Parcel

FORMAT, PATTERN, TIME_FORMAT, ZONE = "format", "pattern", "time_format", "zone"

Steps: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""From which µs of a zone's own clock on, how many µs it is ahead of UTC."""

_TIMED = frozenset(table.removesuffix(formats.TIMED) for table in formats.TABLES if table.endswith(formats.TIMED))
_EVER_US = -(1 << 60)
_SECOND_US = 1_000_000
_LOOK = timedelta(days=7)
"""Zones change their clocks less often than this."""


class Reading(NamedTuple):
    table: str = formats.RAW
    fault: str = ""
    """Why the lines are kept as they are."""
    pattern: str = ""
    groups: tuple[str, ...] = ()
    time: timeformats.TimeFormat = timeformats.TimeFormat()
    zone: str = ""


class Group(NamedTuple):
    """What all blocks of one insert share."""

    table: str
    pattern: str
    time_pattern: str


def reading_of(parcel: Parcel) -> Reading:
    if parcel.fault:
        return Reading(fault=parcel.fault)
    fields = parcel.header.fields
    return _reading(parcel.format or parcel.header.format, fields.pattern, fields.time_format, fields.time_zone)


def table_of(parcel: Parcel) -> str:
    """Which of `formats.TABLES` it goes into."""
    reading = reading_of(parcel)
    table = reading.table
    if table in _TIMED and (reading.time.pattern or (table == formats.JSON and reading.zone)):
        return table + formats.TIMED
    return table + formats.SHAPED if parcel.shaped and table in (formats.RAW, formats.JSON) else table


def group_of(parcel: Parcel) -> Group:
    reading, table = reading_of(parcel), table_of(parcel)
    if table not in formats.READ:
        return Group(table, "", "")
    return Group(table, reading.pattern, reading.time.pattern)


@lru_cache(4096)
def _reading(format: str, pattern: str, time_format: str, time_zone: str) -> Reading:
    table = formats.TABLE_OF.get(format)
    if table is None:
        return Reading(fault=FORMAT)
    if table == formats.RAW:
        return Reading()
    groups: tuple[str, ...] = ()
    if format == wire.REGEX:
        try:
            groups = patterns.groups_of(pattern)
        except patterns.BadPattern:
            return Reading(fault=PATTERN)
    else:
        pattern = ""
    try:
        time = timeformats.time_format(time_format)
    except timeformats.BadTimeFormat:
        return Reading(fault=TIME_FORMAT)
    try:
        zone = "" if timeformats.zone(time_zone) is UTC else time_zone
    except timeformats.BadTimeFormat:
        return Reading(fault=ZONE)
    return Reading(table, "", pattern, groups, time, zone)


def zone_steps(name: str, oldest_us: int, newest_us: int) -> Steps:
    """How a zone's clock goes in the years around two moments."""
    if not name:
        return (), ()
    first, last = (datetime.fromtimestamp(us / _SECOND_US, UTC).year for us in (max(oldest_us, 0), newest_us))
    return _steps(name, max(first - 1, 1970), last + 1)


@lru_cache(256)
def _steps(name: str, first: int, last: int) -> Steps:
    zone = timeformats.zone(name)
    moment, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    since, shifts = [_EVER_US], [_ahead(zone, moment)]
    while moment < end:
        later = moment + _LOOK
        if (ahead := _ahead(zone, later)) != shifts[-1]:
            change = _change(zone, moment, later)
            # Of a time that comes twice the first is meant; in a gap the clock has not been put forward yet.
            since.append(int(change.timestamp()) * _SECOND_US + max(shifts[-1], ahead))
            shifts.append(ahead)
        moment = later
    return tuple(since), tuple(shifts)


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first second at which the clock is as it is at ``after``."""
    ahead = _ahead(zone, after)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        before, after = (before, middle) if _ahead(zone, middle) == ahead else (middle, after)
    return after


def _ahead(zone: tzinfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset() or timedelta()
    return int(offset.total_seconds()) * _SECOND_US
