"""A window cut into buckets of one length, aligned to the clock of a time zone. Pure.

- Buckets are aligned to multiples of their length since 1970, weeks to Mondays: the same moment is in the same bucket
  whatever window is asked for.
- In a time zone it is the zone's clock that counts: days begin at its midnight, so one has 23 or 25 hours where the clock
  changes. Buckets of an hour or less keep their length then, unless the change is no multiple of it.
- No length given: one of `LENGTHS`, the shortest that makes at most `CHOSEN` buckets.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
_MONDAY_US = 4 * DAY_US
"""1970 began on a Thursday."""

CHOSEN = 120
MAX_BUCKETS = 1500
MAX_US = 10 * 366 * DAY_US
LENGTHS = tuple(
    count * unit_us
    for unit_us, counts in (
        (SECOND_US, (1, 2, 5, 10, 15, 30)),
        (60 * SECOND_US, (1, 2, 5, 10, 15, 30)),
        (HOUR_US, (1, 2, 3, 6, 12)),
        (DAY_US, (1, 2, 3, 7, 14, 28)),
    )
    for count in counts
)
FORMS = "a number of seconds, minutes, hours, days or weeks like 30s, 5m, 1h, 1d, 1w, or ISO 8601 like PT5M, P1D"

_UNITS = {"s": SECOND_US, "m": 60 * SECOND_US, "h": HOUR_US, "d": DAY_US, "w": WEEK_US}
_SHORT = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_ISO = re.compile(r"P(?:([0-9]{1,9})(?P<w>W)|([0-9]{1,9})(?P<d>D)|T([0-9]{1,9})(?P<t>[HMS]))", re.ASCII)
_OFFSET = re.compile(r"([+ -])([01][0-9]):?([0-5][0-9])", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Buckets(NamedTuple):
    """Of one window, without gaps."""

    length_us: int
    starts: tuple[int, ...]
    """µs; empty: the window is."""
    end_us: int
    """Of the last, not included."""
    ahead: bool = False
    """The last is no bucket like the others but all that lies behind them."""

    def bounds(self) -> list[tuple[int, int]]:
        """Of each: start, and end, not included."""
        return list(zip(self.starts, (*self.starts[1:], self.end_us), strict=True)) if self.starts else []


class TooMany(Exception):
    """More than `MAX_BUCKETS`."""


def parse_length(text: str) -> int | None:
    """µs; None: it is no length of time from a second to ten years."""
    text = text.strip()
    if short := _SHORT.fullmatch(text):
        length_us = int(short[1]) * _UNITS[short[2]]
    elif iso := _ISO.fullmatch(text.upper()):
        number, unit = next((n, u) for n, u in zip(iso.groups()[::2], iso.groups()[1::2], strict=True) if n)
        length_us = int(number) * _UNITS[unit.lower()]
    else:
        return None
    return length_us if SECOND_US <= length_us <= MAX_US else None


def show_length(length_us: int) -> str:
    """The short form, in the largest unit that divides it."""
    unit = next(name for name in reversed(_UNITS) if length_us % _UNITS[name] == 0)
    return f"{length_us // _UNITS[unit]}{unit}"


def chosen_length(start_us: int, end_us: int, most: int = CHOSEN) -> int:
    """The shortest of `LENGTHS` that makes at most ``most`` buckets of a window."""
    span_us = max(end_us - start_us, 0)
    return next((length_us for length_us in LENGTHS if span_us <= length_us * most), LENGTHS[-1])


def zone_of(text: str) -> tzinfo | None:
    """A name of the time zone database, or an offset; None: there is no such zone."""
    if text in ("UTC", "Z"):
        return UTC
    if offset := _OFFSET.fullmatch(text):
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    if not _ZONE.fullmatch(text):
        return None
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # no such zone, a folder of them, a name that is no path
        return None


def cut(start_us: int, end_us: int, length_us: int, zone: tzinfo = UTC) -> Buckets:
    """The buckets of a window, both of whose ends are included. Raises TooMany."""
    if end_us < start_us:
        return Buckets(length_us, (), start_us)
    if (end_us - start_us) // length_us > MAX_BUCKETS:
        raise TooMany
    offset_at = _offsets(zone)
    begin_us = _aligned(start_us, length_us, offset_at)
    starts = [begin_us]
    while (following_us := _following(starts[-1], length_us, offset_at)) <= end_us:
        starts.append(following_us)
        if len(starts) > MAX_BUCKETS:
            raise TooMany
    return Buckets(length_us, tuple(starts), following_us)


def _offsets(zone: tzinfo) -> Callable[[int], int]:
    """How far the zone's clock is ahead at a moment, µs."""
    if zone is UTC:
        return lambda us: 0

    def offset_at(us: int) -> int:
        there = (_EPOCH + timedelta(microseconds=us)).astimezone(zone).utcoffset()
        return (there or timedelta()) // timedelta(microseconds=1)

    return offset_at


def _aligned(us: int, length_us: int, offset_at: Callable[[int], int]) -> int:
    """Where the bucket begins that a moment is in: sought from well before it, since the clock may have changed in it."""
    begin_us = max(0, us - 2 * length_us)
    begin_us -= (begin_us + offset_at(begin_us) - _base(length_us)) % length_us
    while (following_us := _following(begin_us, length_us, offset_at)) <= us:
        begin_us = following_us
    return begin_us


def _following(begin_us: int, length_us: int, offset_at: Callable[[int], int]) -> int:
    """Where the next bucket begins: when the clock has reached the next multiple of the length."""
    offset_us, end_us = offset_at(begin_us), begin_us + length_us
    changed_us = offset_at(end_us) - offset_us
    if changed_us == 0 and (begin_us + offset_us - _base(length_us)) % length_us == 0:
        return end_us
    if length_us <= HOUR_US and changed_us % length_us == 0 and (begin_us + offset_us) % length_us == 0:
        return end_us
    clock_us = begin_us + offset_us - _base(length_us)
    wanted_us = clock_us - clock_us % length_us + length_us + _base(length_us)
    later_us = wanted_us - offset_at(end_us)
    return max(later_us, _change(begin_us, end_us, offset_at)) if changed_us > 0 else max(later_us, begin_us + SECOND_US)


def _change(begin_us: int, end_us: int, offset_at: Callable[[int], int]) -> int:
    """When the clock first shows what it shows at the end, to the second."""
    seconds = range(begin_us // SECOND_US, end_us // SECOND_US + 1)
    last = offset_at(end_us)
    return seconds[bisect_left(seconds, True, key=lambda second: offset_at(second * SECOND_US) == last)] * SECOND_US


def _base(length_us: int) -> int:
    return _MONDAY_US if length_us % WEEK_US == 0 else 0
