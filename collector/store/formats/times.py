"""Times out of texts, as SQL. Engines guess, and would make this year's 10 January out of "10": nothing comes to one here
that is not written as a format says.

- `usual`: ISO 8601 (date, or date and time; ``T`` or a space; ``.`` or ``,`` before the fraction), and counts since 1970 of 10
  digits (seconds, with a fraction or not), 13 (ms), 16 (us) or 19 (ns). Anything else is no time.
- `told`: as the source's ``time_format`` says, see `agent.timeformats`.
- A time that does not tell its zone is in that of the block, in ``zone_from`` and ``zone_shift``: from which µs of the zone's
  own clock on the clock is how many µs ahead of UTC. Empty: it is UTC.
- A time without a year is of the latest year with which it is not more than a day ahead of the record's time.
"""

from __future__ import annotations

from agent.timeformats import PARTS
from collector.store.formats.cutting import constant, literal, literals, pattern

_DATE = r"\d{4}[-/](?:0[1-9]|1[0-2])[-/](?:0[1-9]|[12]\d|3[01])"
_USUAL = rf"^({_DATE}([T ]([01]\d|2[0-3]):[0-5]\d.*)?|\d{{10}}(\.\d+)?|\d{{13}}|\d{{16}}|\d{{19}})$"
_ZONED = r"^\d{10}|:\d\d([.,]\d+)? ?([Zz]|UTC|GMT|[+-]\d\d(:?\d\d)?)$"

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY_S = 86_400


def usual(text: str) -> str:
    """ISO 8601 or a count, in UTC where no zone is told; else NULL."""
    found = moment(f"replaceOne({text}, ',', '.')")
    return f"if(match({text}, {literal(_USUAL)}), {found}, NULL)"


def zoned(text: str) -> str:
    """Whether a text that `usual` takes tells its zone."""
    return f"match({text}, {literal(_ZONED)})"


def month(text: str) -> str:
    """Two digits for a month's name; other texts stay."""
    numbers = [f"{number:02}" for number in range(1, 13)]
    return f"transform(lower(substring({text}, 1, 3)), [{literals(_MONTHS)}], [{literals(numbers)}], {text})"


def moment(text: str) -> str:
    return f"parseDateTime64BestEffortOrNull({text}, 6, 'UTC')"


def in_utc(column: str, zoned: str) -> str:
    """A time of the zone's clock as UTC; as it is where ``zoned`` holds or there is no zone."""
    us = f"toUnixTimestamp64Micro(assumeNotNull({column}))"
    shift = f"arrayElement(zone_shift, arrayLastIndex(since -> since <= {us}, zone_from))"
    return f"if(empty(zone_from) OR isNull({column}) OR {zoned}, {column}, fromUnixTimestamp64Micro({us} - {shift}, 'UTC'))"


def own(zoned: str) -> list[str]:
    """Layers: ``own``, of the column ``wall``."""
    return [f"{in_utc('wall', zoned)} AS own"]


def yearless(rest: str, zoned: str) -> list[str]:
    """Layers: ``near``, the zone's time of the text ``rest``, which goes on behind a year (``-10-12 13:55:36``)."""
    this, before = (moment(f"concat(toString(near_year - {back}), {rest})") for back in (0, 1))
    return [
        f"toYear(observed + INTERVAL {2 * _DAY_S} SECOND) AS near_year",
        f"if(isNull({this}), {before}, {this}) AS late",
        f"{in_utc('late', zoned)} AS late_utc",
        f"if(ifNull(late_utc > observed + INTERVAL {_DAY_S} SECOND, 0), subtractYears(late, 1), late) AS near",
    ]


def told(table: str) -> list[str]:
    """Layers: ``own``, of the column ``time_text``, in the form that all blocks of one insert into ``table`` share.

    Their pattern is a constant of the insert: the engine works out what is selected from the view's own table first.
    """

    def part(name: str) -> str:
        return f"arrayElement(told, arrayElement(time_parts, {PARTS.index(name) + 1}))"

    def padded(name: str) -> str:
        return f"leftPad(trimLeft({part(name)}), 2, '0')"

    digits = "concat(arrayElement(told, 1), rightPad(arrayElement(told, 2), 9, '0'))"
    return [
        f"{constant('time_pattern', table)} AS form, extractGroups(time_text, {pattern('time_pattern', table)}) AS told",
        f"{part('short_year')} AS short_year, {part('fraction')} AS fraction, {part('zone')} AS own_zone,\n"
        f"{part('month')} AS month",
        f"if(short_year = '', {part('year')}, concat(if(short_year < '69', '20', '19'), short_year)) AS full_year,\n"
        f"concat('-', leftPad({month('month')}, 2, '0'), '-', {padded('day')}, ' ', {padded('hour')}, ':',\n"
        f"{padded('minute')}, ':',\n"
        f"{padded('second')}, if(fraction = '', '', concat('.', fraction)), ' ', {part('half')},\n"
        "if(own_zone IN ('', 'z', 'Z', 'UTC', 'GMT'), '', concat(' ', own_zone))) AS after_year,\n"
        f"toInt64OrNull(concat('0', substring({digits}, 1,\n"
        "greatest(length(arrayElement(told, 1)) + time_scale, 0)))) AS epoch_us",
        *yearless("after_year", "own_zone != ''"),
        f"multiIf(form = '', {usual('time_text')}, empty(told), NULL,\n"
        "empty(time_parts), fromUnixTimestamp64Micro(assumeNotNull(epoch_us), 'UTC'),\n"
        f"full_year = '', near, {moment('concat(full_year, after_year)')}) AS wall,\n"
        f"multiIf(empty(zone_from), 1, form = '', {zoned('time_text')}, empty(time_parts) OR own_zone != '') AS has_zone",
        *own("has_zone"),
    ]


def of_us(column: str) -> str:
    return f"fromUnixTimestamp64Micro({column}, 'UTC')"
