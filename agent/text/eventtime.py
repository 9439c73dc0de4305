"""The time that an event carries itself, as the collector reads it in each of its formats. Pure.

For few events only: those that a comparison with the store finds missing. Where a line has no time of its own, or one that is
not written as its format says, there is none. A time without a year is told from when the line was seen, which is not known
any more: its file's last change stands for that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import tzinfo
from functools import lru_cache
from typing import NamedTuple

from agent import patterns, timeformats, wire
from agent.config import Source
from agent.text import forms, moments
from agent.timeformats import TimeFormat

MAX_NAMES = 1000
"""Of one line; a line with more is kept as text."""
ODD_BYTES = 8192
"""A line longer than this is not looked through for quotes within quotes."""

_ASCII = re.ASCII | re.DOTALL
_ACCESS, _ACCESS_ODD = re.compile(forms.ACCESS, _ASCII), re.compile(forms.ACCESS_ODD, _ASCII)
_ACCESS_TIME = re.compile(forms.ACCESS_TIME, _ASCII)
_NEW, _HAS_YEAR = re.compile(forms.SYSLOG_NEW, _ASCII), re.compile(forms.HAS_YEAR, _ASCII)
_5424 = re.compile(forms.RFC_5424.replace(r"\x{FEFF}", "\ufeff"), _ASCII)
_3164 = re.compile(forms.RFC_3164, _ASCII)
_KLOG = re.compile(forms.KLOG, _ASCII)
_LOGFMT, _LOGFMT_PAIR = re.compile(forms.LOGFMT, _ASCII), re.compile(forms.LOGFMT_PAIR, _ASCII)


class _Said(NamedTuple):
    """What a source says of its times."""

    source: Source
    time: TimeFormat
    zone: tzinfo
    seen_us: int


def event_time_ns(source: Source, event: bytes, *, seen_ns: int, form: str = "") -> int | None:
    """The time that an event of a source carries; None: it has none of its own.

    Args:
        seen_ns: about when it was written, for times without a year.
        form: of its lines, where the source says ``auto``.
    """
    read = _READERS.get(form or source.format)
    if read is None:
        return None
    time, zone = _times_of(source.time_format, source.time_zone)
    found = read(_Said(source, time, zone, seen_ns // 1000), event)
    return None if found is None else found * 1000


def runtime_time_ns(text: bytes) -> int | None:
    """The time that a container's runtime has written."""
    found = moments.usual(text.decode("utf-8", "replace"), timeformats.zone(""))
    return None if found is None else found * 1000


@lru_cache(64)
def _times_of(time_format: str, time_zone: str) -> tuple[TimeFormat, tzinfo]:
    return timeformats.time_format(time_format), timeformats.zone(time_zone)


def _named(said: _Said, pairs: list[tuple[str, str]]) -> int | None:
    """Of names and values, in the order of the line: the first name that is there of those that the source has for times."""
    if len(pairs) > MAX_NAMES:
        return None
    values = dict(reversed(pairs))
    text = next((values[name] for name in said.source.fields.time if name in values), None)
    return None if text is None else moments.told(said.time, text, said.zone, said.seen_us)


def _json(said: _Said, event: bytes) -> int | None:
    def members(pairs: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
        return [(name, value) for name, value in pairs if value is not None]

    if not event.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(event, object_pairs_hook=members, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return _named(said, [(name, str(value)) for name, value in found])


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _logfmt(said: _Said, event: bytes) -> int | None:
    text = event.decode("utf-8", "replace")
    if not _LOGFMT.match(text):
        return None
    return _named(said, [(pair[1], _value(pair)) for pair in _LOGFMT_PAIR.finditer(text)])


def _value(pair: re.Match[str]) -> str:
    if not pair[2]:
        return "true"
    if pair[3] is None or "\\" not in pair[3]:
        return pair[3] or pair[4] or ""
    try:
        return str(json.loads(f'"{pair[3]}"')) or pair[3]
    except ValueError:
        return pair[3]


def _regex(said: _Said, event: bytes) -> int | None:
    found = patterns.compiled(said.source.pattern).search(event.decode("utf-8", "replace"))
    if found is None:
        return None
    return _named(said, [(name, value) for name, value in found.groupdict().items() if value])


def _access(said: _Said, event: bytes) -> int | None:
    text = event.decode("utf-8", "replace")
    found = _ACCESS.search(text) or (_ACCESS_ODD.search(text) if len(text) <= ODD_BYTES else None)
    if found is None:
        return None
    time = found[5]
    if not _ACCESS_TIME.fullmatch(time):
        return moments.usual(time, said.zone)
    clock, _, own = time[12:].partition(" ")
    parts = {"year": time[7:11], "month": time[3:6], "day": time[:2], **_clock(clock), "zone": own}
    return moments.made(parts, said.zone, said.seen_us)


def _syslog(said: _Said, event: bytes) -> int | None:
    text = event.decode("utf-8", "surrogateescape")
    new = _5424.search(text) if _NEW.search(text) else None
    if new is not None:
        return moments.usual(new[3], said.zone)
    old = _3164.search(text)
    if old is None:
        return None
    if not old[3]:
        return moments.usual(old[4], said.zone)
    time = old[3]
    year = {"year": time[7:11]} if _HAS_YEAR.search(time) else {}
    parts = {**year, "month": time[:3], "day": time[4:6].strip(), **_clock(time[12 if year else 7 :])}
    return moments.made(parts, said.zone, said.seen_us)


def _klog(said: _Said, event: bytes) -> int | None:
    found = _KLOG.search(event.decode("utf-8", "surrogateescape"))
    if found is None:
        return None
    return moments.made({"month": found[3], "day": found[4], **_clock(found[5])}, said.zone, said.seen_us)


def _clock(text: str) -> dict[str, str]:
    """Of ``10:00:00.5``."""
    whole, _, fraction = text.partition(".")
    return dict(zip(("hour", "minute", "second"), whole.split(":"), strict=True)) | {"fraction": fraction}


_READERS: dict[str, Callable[[_Said, bytes], int | None]] = {
    wire.JSON: _json,
    wire.LOGFMT: _logfmt,
    wire.REGEX: _regex,
    wire.CLF: _access,
    wire.COMBINED: _access,
    wire.SYSLOG: _syslog,
    wire.KLOG: _klog,
}
