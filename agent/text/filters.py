"""Which events are sent: by pattern, and a sample by severity. Pure; what is left out on purpose is no loss.

A sample is decided by the event's own bytes, never by chance: an event that is read again is left out again.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate, compress, repeat
from operator import itemgetter, mod, not_
from typing import NamedTuple

from agent.text.lines import Lines
from agent.text.patterns import is_line_bound, is_literal

LOOKED_AT_BYTES = 256
"""How far into an event its severity is looked for."""
FIRST_WORDS = 10
"""As many as come before a severity in most logs: the parts of a time with its zone, and one more."""
FEW_WORDS = 3
"""So many are looked for in the whole of each event."""
MANY = 8
"""Where one event in so many may have what is looked for, each is looked at."""
_WORDS = {
    "debug": (b"trace", b"debug", b"verbose"),
    "info": (b"info", b"information", b"notice"),
    "warning": (b"warn", b"warning"),
    "error": (b"err", b"error", b"severe"),
    "critical": (b"fatal", b"panic", b"crit", b"critical", b"alert", b"emerg"),
}
"""As they are, in capitals, or with a capital first."""
_NAMED = {form: severity for severity, words in _WORDS.items() for word in words for form in (word, word.upper(), word.title())}
_OTHERS = [severity for severity in _WORDS if severity != "info"]
_LOWER = bytes(range(256)).lower()
_IN_NO_WORD = bytes(byte for byte in b"0123456789.:,+-()[]hjkqxyzHJKQXYZ" if not any(byte in word.lower() for word in _NAMED))
"""Spaces, quotes and slashes stay: where words meet, there may seem to be another one."""
_APART = bytes(byte if (byte < 128 and chr(byte).isalnum()) or byte == 95 else 32 for byte in range(256))


class Filter(NamedTuple):
    """A pattern of the configuration."""

    search: Callable[[bytes], re.Match[bytes] | None]
    """In one event."""
    find: Callable[[bytes, int], int] | None
    """Where, from a place on, in many events with newlines between them: -1 only where no event behind it has anything. None:
    that cannot be said, or not in a time that goes with the length."""


def compiled(text: str) -> Filter:
    search, literal = re.compile(text.encode()).search, text.encode()
    if is_literal(text):
        return Filter(search, lambda data, at: data.find(literal, at))
    if not is_line_bound(text):
        return Filter(search, None)
    anywhere = re.compile(literal, re.M).search
    return Filter(search, lambda data, at: found.start() if (found := anywhere(data, at)) else -1)


def kept(lines: Lines, *, include: Sequence[Filter], exclude: Sequence[Filter], sample: Mapping[str, int]) -> list[int] | None:
    """Positions of the events to send; None: all of them."""
    places, left_out = _Places(len(lines), lambda: lines.lengths), set[int]()
    for one in exclude:
        left_out.update(_matching(lines, one, places))
    if not (include or sample or left_out):
        return None
    chosen: Sequence[int] = range(len(lines))
    if left_out:
        chosen = [n for n in chosen if n not in left_out]
    if include:
        events, searches = lines.texts, [one.search for one in include]
        chosen = [n for n in chosen if any(search(events[n]) for search in searches)]
    if sample:
        picked = _picked(lines, sample)
        chosen = list(compress(chosen, map(picked.__getitem__, chosen)))
    return None if len(chosen) == len(lines) else list(chosen)


class _Places:
    """Which event of some a byte of all of them belongs to. ``lengths``: of each, without the newline between two."""

    def __init__(self, count: int, lengths: Callable[[], Iterable[int]]) -> None:
        self._count, self._lengths = count, lengths
        self._starts: list[int] = []

    def of(self, find: Callable[[int], int]) -> list[int] | None:
        """The events that something is in; None: too many of them. ``find``: where, from a place on; -1: nowhere."""
        found: list[int] = []
        at = find(0)
        while at >= 0:
            if not self._starts:
                self._starts = list(accumulate(map((1).__add__, self._lengths()), initial=0))
            number = bisect_right(self._starts, at, hi=self._count) - 1
            found.append(number)
            if len(found) > self._count // MANY:
                return None
            at = find(self._starts[number + 1]) if number + 1 < self._count else -1
        return found


def _matching(lines: Lines, one: Filter, places: _Places) -> Iterable[int]:
    search, numbers = one.search, places.of(partial(one.find, lines.data)) if one.find is not None else None
    if numbers is not None and not numbers:
        return ()
    events = lines.texts
    return [n for n in (range(len(events)) if numbers is None else numbers) if search(events[n])]


def severity_of(event: bytes) -> str:
    """The first word near the event's start that names one; ``info`` where none does."""
    words = event[:LOOKED_AT_BYTES].translate(_APART).split()
    return next(filter(None, map(_NAMED.get, words)), "info")


def _picked(lines: Lines, sample: Mapping[str, int]) -> Sequence[object]:
    """Whether each is one of the sample."""
    events, rest = lines.texts, sample.get("info", 1)
    # An event without a word is one of info: a word for that decides nothing that it would not be without.
    asked = _naming(lines, _OTHERS if rest > 1 else sample)
    if asked is None:
        rates = map(sample.get, _severities(events), repeat(1))
        return list(map(not_, map(mod, map(zlib.crc32, events), rates)))
    picked = list(map(not_, map(mod, map(zlib.crc32, events), repeat(rest)))) if rest > 1 else [True] * len(events)
    for n in asked:
        picked[n] = not zlib.crc32(events[n]) % sample.get(severity_of(events[n]), 1)
    return picked


def _severities(events: Sequence[bytes]) -> list[str]:
    """The same as `severity_of` for each: soon where the word is one of the first few."""
    fronts = map(bytes.translate, map(itemgetter(slice(LOOKED_AT_BYTES)), events), repeat(_APART))
    words = map(bytes.split, fronts, repeat(None), repeat(FIRST_WORDS))
    found = list(map(next, map(filter, repeat(None), map(map, repeat(_NAMED.get), words)), repeat("")))
    return [severity or severity_of(event) for severity, event in zip(found, events, strict=True)]


def _naming(lines: Lines, severities: Iterable[str]) -> set[int] | None:
    """Which events may have a word for one of these severities; None: too many of them."""
    words = [word for severity in severities for word in _WORDS[severity]]
    words = [word for word in words if not any(part in word for part in words if part != word)]  # found by its part
    # What stands in no such word is left out where that pays: half of most logs, and what is left is searched once a word.
    shorter = lines.sizes is None and len(words) > FEW_WORDS
    data = lines.data.translate(_LOWER, _IN_NO_WORD) if shorter else lines.data.lower()
    places = _Places(len(lines), lambda: map(len, data.split(b"\n")) if shorter else lines.lengths)
    found: set[int] = set()
    for word in words:
        numbers = places.of(partial(data.find, word))
        if numbers is None or len(found := found.union(numbers)) > len(lines) // MANY:
            return None
    return found
