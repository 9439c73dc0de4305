"""Values of a query as the fields take them: numbers, moments, words of few choices. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from collector.ingest.moments import MOMENT_FORMS, parse_moment
from collector.search.language.faults import QueryFault
from collector.search.language.fields import LEVELS
from collector.search.language.tree import Bound, Field, Number, Parts, Wild

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_CLASS = re.compile(r"([1-9])xx", re.ASCII | re.IGNORECASE)
_RELATIVE = re.compile(r"now\s*(-\d{1,9}[smhdw])", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = re.compile(r"\d{4}-?\d\d-?\d\d[T ]\d\d(:?\d\d)?(:?\d\d)?([.,]\d+)?", re.ASCII)
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US
MAX_INTEGER = (1 << 63) - 1


def number_of(text: str) -> Number | None:
    """An integer that the engine holds to the digit, else a float; None for what is no number."""
    if not _NUMBER.fullmatch(text):
        return None
    if text.lstrip("+-").isdecimal():
        whole = int(text) if len(text) <= 20 else None
        return whole if whole is not None and abs(whole) <= MAX_INTEGER else _finite(float(text))
    return _finite(float(text))


def need_number(field: Field, text: str, at: int) -> Number:
    number = number_of(text)
    if number is None:
        raise QueryFault(f"{text!r} is no number", at, f"{field.name} is one, like 500, >=0.5 or [400 TO 499]")
    return number


def class_of(text: str) -> tuple[int, int] | None:
    """The bounds of a class of statuses, like 5xx."""
    found = _CLASS.fullmatch(text)
    return (int(found[1]) * 100, int(found[1]) * 100 + 99) if found else None


def moment_of(text: str, now_us: int, at: int) -> tuple[int, int]:
    """The first and the last µs of a moment: a date is a whole day, a time without seconds a whole minute."""
    plain = text.strip()
    relative = _RELATIVE.fullmatch(plain)
    first = parse_moment(relative[1] if relative else plain, now_us)
    if first is None:
        raise QueryFault(f"{text!r} is no time", at, f"expected {MOMENT_FORMS}")
    return first, first + _precision_us(plain) - 1


def _precision_us(text: str) -> int:
    if _DATE.fullmatch(text):
        return _DAY_US
    clock = _CLOCK.match(text)
    if not clock or clock[3]:
        return 1
    return _SECOND_US if clock[2] else 60 * _SECOND_US if clock[1] else 3600 * _SECOND_US


def choice_of(field: Field, text: str, at: int) -> str:
    """One of the values that the field can have, in any case."""
    chosen = text.lower()
    chosen = LEVELS.get(chosen, chosen) if field.ranked else chosen
    if chosen not in field.choices:
        raise QueryFault(f"{text!r} is no {field.name}", at, f"one of {', '.join(field.choices)}")
    return chosen


def choices_like(field: Field, parts: Parts) -> tuple[str, ...]:
    pattern = "".join({Wild.MANY: ".*", Wild.ONE: "."}[part] if isinstance(part, Wild) else re.escape(part) for part in parts)
    return tuple(choice for choice in field.choices if re.fullmatch(pattern, choice, re.IGNORECASE))


def choices_between(field: Field, low: Bound | None, high: Bound | None) -> Iterator[str]:
    rank = field.choices.index
    for choice in field.choices:
        above = low is None or rank(choice) > rank(str(low.value)) - low.included
        below = high is None or rank(choice) < rank(str(high.value)) + high.included
        if above and below:
            yield choice


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
