"""Times out of texts, as the collector's engine reads them (`collector.store.formats.times`): in µs since 1970. Pure.

Nothing is guessed: what is not written as a format says is no time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo

from agent import timeformats
from agent.timeformats import PARTS, TimeFormat

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_COUNT = re.compile(r"(\d{10})(?:\.(\d+))?|(\d{13}|\d{16}|\d{19})", re.ASCII)
_ISO = re.compile(
    r"(\d{4})[-/](0[1-9]|1[0-2])[-/](0[1-9]|[12]\d|3[01])"
    r"(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:[.,](\d+))?)?(?: ?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?))?)?",
    re.ASCII,
)
_ISO_PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "zone")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def usual(text: str, zone: tzinfo) -> int | None:
    """ISO 8601, or a count since 1970 of s, ms, us or ns by its length. ``zone``: of times that do not tell theirs."""
    if count := _COUNT.fullmatch(text):
        if count[3]:
            return int(count[3].ljust(16, "0")[:16])
        return int(count[1]) * SECOND_US + _fraction_us(count[2] or "")
    found = _ISO.fullmatch(text)
    return made(dict(zip(_ISO_PARTS, found.groups(""), strict=True)), zone, 0) if found else None


def told(said: TimeFormat, text: str, zone: tzinfo, seen_us: int) -> int | None:
    """As a source's ``time_format`` says."""
    if not said.pattern:
        return usual(text, zone)
    found = re.compile(said.pattern).fullmatch(text)
    if found is None:
        return None
    if not said.parts:
        digits = found[1] + (found[2] or "").ljust(9, "0")
        return int(digits[: max(len(found[1]) + said.scale, 0)] or "0")
    return made({name: found[group] or "" for name, group in zip(PARTS, said.parts, strict=True) if group}, zone, seen_us)


def made(parts: Mapping[str, str], zone: tzinfo, seen_us: int) -> int | None:
    """Of the texts of a time's parts (`agent.timeformats.PARTS`). One without a year is of the latest year that does not put it
    more than a day ahead of ``seen_us``."""
    short = parts.get("short_year", "")
    year = ("20" if short < "69" else "19") + short if short else parts.get("year", "")
    try:
        where = _zone(parts.get("zone", "")) or zone

        def in_year(number: int) -> datetime | None:
            try:
                return _wall(number, parts).replace(tzinfo=where)
            except ValueError:
                return None

        found = in_year(int(year)) if year else _latest(in_year, _EPOCH + timedelta(microseconds=seen_us))
        return None if found is None else (found.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def _zone(text: str) -> tzinfo | None:
    """Raises ValueError."""
    if text in ("Z", "z", "UTC", "GMT"):
        return UTC
    return timeformats.zone(text if len(text) > 3 else f"{text}:00") if text else None


def _latest(in_year: Callable[[int], datetime | None], seen: datetime) -> datetime | None:
    near = (seen + 2 * _DAY).year
    late = in_year(near) or in_year(near - 1)
    if late is None or late.astimezone(UTC) <= seen + _DAY:
        return late
    before = in_year(late.year - 1)
    return late.replace(year=late.year - 1, day=28) if before is None else before


def _wall(year: int, parts: Mapping[str, str]) -> datetime:
    """Raises ValueError for a day that there is not."""
    hour = int(parts.get("hour") or 0)
    if half := parts.get("half", "").lower():
        hour = hour % 12 + 12 * (half == "pm")
    second, fraction = int(parts.get("second") or 0), _fraction_us(parts.get("fraction", ""))
    return datetime(year, _month_of(parts["month"]), int(parts["day"]), hour, int(parts.get("minute") or 0), second, fraction)


def _month_of(text: str) -> int:
    """Raises ValueError."""
    return int(text) if text.isdecimal() else _MONTHS.index(text[:3].lower()) + 1


def _fraction_us(digits: str) -> int:
    return int(digits[:6].ljust(6, "0"))
