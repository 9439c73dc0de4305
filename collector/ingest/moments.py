"""Moments as callers write them, and as they are shown. Pure; µs since 1970, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MOMENT_FORMS = (
    "ISO 8601 (2026-01-31T08:00:00Z; without an offset it means UTC), seconds or milliseconds since 1970, "
    "or a time before now like -15m (s, m, h, d, w), or now"
)
MAX_US = 10_413_792_000 * 1_000_000 - 1
"""The end of 2299, the last year that the engine's times know."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COUNT = re.compile(r"(\d{9,11})(\.\d{1,6})?|\d{13}|\d{16}|\d{19}|0", re.ASCII)
_RELATIVE = re.compile(r"-(\d{1,9})([smhdw])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PER_US = {13: (1000, 1), 16: (1, 1), 19: (1, 1000)}
_LOST_PLUS = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")
"""In a query string an unescaped ``+`` means a space: ``…T08:00:00+01:00`` arrives without its sign."""


def parse_moment(text: str, now_us: int) -> int | None:
    """µs since 1970, kept within what the engine's times can say; None when ``text`` is no moment."""
    text = text.strip()
    if text == "now":
        return now_us
    if relative := _RELATIVE.fullmatch(text):
        return max(now_us - int(relative[1]) * _UNIT_S[relative[2]] * 1_000_000, 0)
    if count := _COUNT.fullmatch(text):
        return _bounded(_count_us(text, count))
    return _iso_us(text)


def show_moment(us: int) -> str:
    """ISO 8601 with ``Z`` and microseconds, always of the same length."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _count_us(text: str, count: re.Match[str]) -> int:
    if count[1]:
        return int(count[1]) * 1_000_000 + int((count[2] or ".0")[1:].ljust(6, "0"))
    times, parts = _PER_US.get(len(text), (1, 1))
    return int(text) * times // parts


def _iso_us(text: str) -> int | None:
    return iso_us(_LOST_PLUS.sub("+", text) if "T" in text.upper() else text)


def iso_us(text: str) -> int | None:
    """As `parse_moment`, of ISO 8601 alone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded((moment - _EPOCH) // _MICROSECOND)


def _bounded(us: int) -> int:
    return us if 0 <= us <= MAX_US else min(max(us, 0), MAX_US)
