"""How the time of an event is written: what a source may say, for agent and collector. Pure.

A format becomes an expression (of the kind that `agent.patterns` describes) with a group for each part of the time, and
the numbers of these groups by part. So the engine takes times apart as it takes lines apart, and never guesses: a time
that is not written as the format says is no time.

- ``auto``: ISO 8601, or a count since 1970 of 10 digits (s), 13 (ms), 16 (us) or 19 (ns).
- ``iso8601``, ``epoch_s``, ``epoch_ms``, ``epoch_us``, ``epoch_ns``, ``access_log`` (10/Oct/2026:13:55:36 +0200),
  ``syslog`` (Oct 10 13:55:36).
- strptime: text with ``%Y %y %m %d %e %b %B %h %H %I %M %S %f %p %z %Z %a %A %s %T %D %F %R %n %t %%``. A blank stands for
  any number of blanks; everything else for itself. ``%f`` takes 1 to 9 digits, ``%z`` also ``Z`` and ``+02:00``, ``%Z`` only
  UTC, GMT and Z: other abbreviations name several zones.

A time without a year is of the latest year that does not put it more than a day ahead of when the line was seen.
A zone is an IANA name (Europe/Paris) or an offset (+02:00), and counts where the time does not tell its own.
"""

from __future__ import annotations

import re
from collections.abc import Set
from contextlib import suppress
from datetime import UTC, timedelta, timezone, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

AUTO = "auto"
ISO, ACCESS_LOG, SYSLOG = "iso8601", "access_log", "syslog"
EPOCHS = {"epoch_s": 6, "epoch_ms": 3, "epoch_us": 0, "epoch_ns": -3}
"""Of what the number counts, how many digits more a count of µs has."""
NAMED = (AUTO, ISO, *EPOCHS, ACCESS_LOG, SYSLOG)
MAX_FORMAT_CHARS = 200

PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "half", "zone", "short_year")
OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")

_HOUR, _SIXTY, _SECOND = "[01][0-9]|2[0-3]", "[0-5][0-9]", "[0-5][0-9]|60"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_LONG_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_ZONE = "[Zz]|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2}"
_DIRECTIVES = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("short_year", "[0-9]{2}"),
    "m": ("month", "0?[1-9]|1[0-2]"),
    "d": ("day", "0?[1-9]|[12][0-9]|3[01]"),
    "e": ("day", " ?[1-9]|[12][0-9]|3[01]"),
    "b": ("month", f"(?i:{_LONG_MONTHS}|{_MONTHS})"),
    "H": ("hour", f"{_HOUR}|[0-9]"),
    "I": ("hour", "0[1-9]|1[0-2]|[1-9]"),
    "M": ("minute", _SIXTY),
    "S": ("second", _SECOND),
    "f": ("fraction", "[0-9]{1,9}"),
    "p": ("half", "[AaPp][Mm]"),
    "z": ("zone", _ZONE),
    "Z": ("zone", "UTC|GMT|Z"),
}
_DIRECTIVES |= {"B": _DIRECTIVES["b"], "h": _DIRECTIVES["b"]}
_SHORT = {"T": "%H:%M:%S", "D": "%m/%d/%y", "F": "%Y-%m-%d", "R": "%H:%M", "n": " ", "t": " "}
_ISO = (
    "^(?P<year>[0-9]{4})[-/](?P<month>0[1-9]|1[0-2])[-/](?P<day>0[1-9]|[12][0-9]|3[01])"
    f"(?:[Tt ](?P<hour>{_HOUR}):(?P<minute>{_SIXTY})(?::(?P<second>{_SECOND})(?:[.,](?P<fraction>[0-9]{{1,9}}))?)?"
    f"(?: ?(?P<zone>{_ZONE}))?)?$"
)
_KNOWN = {
    AUTO: "",
    ISO: _ISO,
    ACCESS_LOG: "%d/%b/%Y:%H:%M:%S %z",
    SYSLOG: "%b %e %H:%M:%S",
}


class BadTimeFormat(ValueError):
    """What is wrong with a time format or a zone, in words for who wrote it."""


class TimeFormat(NamedTuple):
    """How a time is taken apart. Without a pattern: as ``auto`` says."""

    pattern: str = ""
    parts: tuple[int, ...] = ()
    """By `PARTS`: the number of its group, 0 for one that is not there. Of an epoch: none."""
    scale: int = 0
    """Of an epoch: see `EPOCHS`."""


def time_format(text: str) -> TimeFormat:
    """What a source's ``time_format`` means; empty: ``auto``. Raises BadTimeFormat."""
    if text in ("", AUTO):
        return TimeFormat()
    if text in EPOCHS:
        return TimeFormat(f"^([0-9]{{1,{16 - EPOCHS[text]}}})(?:\\.([0-9]{{1,9}}))?$", (), EPOCHS[text])
    if text == "%s":
        return time_format("epoch_s")
    if text not in _KNOWN and "%" not in text:
        raise BadTimeFormat(f"{text!r} is none; write one of {', '.join(NAMED)}, or a strptime pattern like %d.%m.%Y %H:%M:%S")
    if len(text) > MAX_FORMAT_CHARS:
        raise BadTimeFormat(f"has {len(text)} characters; at most {MAX_FORMAT_CHARS} are taken")
    pattern = _ISO if text == ISO else _translated(_KNOWN.get(text, text))
    groups = re.compile(pattern).groupindex
    _check(text, set(groups))
    return TimeFormat(pattern, tuple(groups.get(part, 0) for part in PARTS))


def _translated(text: str) -> str:
    text = re.sub(r"%.", lambda found: _SHORT.get(found[0][1], found[0]), text)
    made: list[str] = []
    for token in re.findall(r"%.?|\s+|.", text, re.DOTALL):
        if token.isspace():
            made.append("[ \t]+")
        elif token[0] != "%" or token == "%%":
            made.append(_literal(token[0]))
        elif token[1:] in ("a", "A"):
            made.append(f"(?i:{_DAYS})")
        elif token[1:] in _DIRECTIVES:
            part, pattern = _DIRECTIVES[token[1:]]
            if f"(?P<{part}>" in "".join(made):
                raise BadTimeFormat(f"{text!r} tells the {part.replace('_', ' ')} twice")
            # "%b %e": the day's own blank has to be left for it
            if token == "%e" and made and made[-1] == "[ \t]+":
                pattern = pattern.replace(" ?", "")
            made.append(f"(?P<{part}>{pattern})")
        else:
            raise BadTimeFormat(
                f"{text!r}: {token} is not one of the directives that are taken: %Y %y %m %d %e %b %B %H %I %M %S %f …"
            )
    return f"^[ \t]*{''.join(made)}[ \t]*$"


def _literal(char: str) -> str:
    return char if char.isalnum() or not char.isascii() else "\\" + char


def _check(text: str, names: Set[str]) -> None:
    if {"year", "short_year"} <= names:
        raise BadTimeFormat(f"{text!r} tells the year twice")
    needed = {"month", "day"} | ({"hour"} if names & {"minute", "second", "fraction", "half"} else set())
    if missing := sorted(needed - names):
        raise BadTimeFormat(f"{text!r} does not tell the {missing[0]}")
    if ("half" in names) != ("%I" in text):
        raise BadTimeFormat(f"{text!r}: %I and %p go together")


def zone(text: str) -> tzinfo:
    """The zone of a source's ``time_zone``; empty: UTC. Raises BadTimeFormat, also for one that this machine does not know."""
    if not text:
        return UTC
    if found := OFFSET.fullmatch(text):
        minutes = int(found[2]) * 60 + int(found[3])
        if int(found[3]) < 60 and minutes <= 18 * 60:
            return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
    else:
        with suppress(ValueError, OSError, ZoneInfoNotFoundError):
            return ZoneInfo(text)
    raise BadTimeFormat(f"{text!r} is no time zone that this machine knows; write for instance Europe/Paris or +02:00")
