"""Time formats become expressions with a group for each part; what is not one is named."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone

import pytest

from agent.patterns import groups_of
from agent.timeformats import NAMED, PARTS, BadTimeFormat, time_format, zone


def parts(format: str, text: str) -> dict[str, str] | None:
    found = time_format(format)
    match = re.match(found.pattern, text)
    return {part: match[n] for part, n in zip(PARTS, found.parts, strict=True) if n and match[n]} if match else None


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("%d.%m.%Y %H:%M:%S", "24.11.2026   10:00:01",
         {"day": "24", "month": "11", "year": "2026", "hour": "10", "minute": "00", "second": "01"}),
        ("%b %e %T", "Nov  4 10:00:01", {"month": "Nov", "day": "4", "hour": "10", "minute": "00", "second": "01"}),
        ("%m/%d/%y %I%p", "11/24/26 09pm", {"month": "11", "day": "24", "short_year": "26", "hour": "09", "half": "pm"}),
        ("%F (%A) %%d", "2026-11-24 (Tuesday) %d", {"year": "2026", "month": "11", "day": "24"}),
        ("%Y.%m.%d", "2026-11-24", None),
        ("%Y-%m-%d", "2026-13-24", None),
        ("%Y-%m-%d", "2026-11-24 and more", None),
        ("iso8601", "2026-11-24T10:00:01,5+0100",
         {"year": "2026", "month": "11", "day": "24", "hour": "10", "minute": "00", "second": "01", "fraction": "5",
          "zone": "+0100"}),
        ("access_log", "24/Nov/2026:10:00:01 -0700",
         {"day": "24", "month": "Nov", "year": "2026", "hour": "10", "minute": "00", "second": "01", "zone": "-0700"}),
    ],
)  # fmt: skip
def test_a_time_is_taken_apart(format: str, text: str, expected: dict[str, str] | None) -> None:
    assert parts(format, text) == expected


@pytest.mark.parametrize(
    "format", [*NAMED[1:2], *NAMED[6:], "%d.%m.%Y %H:%M:%S.%f %z", "%A %d %B %y %I:%M %p", "[%F] (%T)? a{2}"]
)
def test_every_expression_is_one_that_the_engine_takes(format: str) -> None:
    assert groups_of(time_format(format).pattern)


@pytest.mark.parametrize(
    ("format", "fault"),
    [
        ("soon", "is none; write one of auto, iso8601"),
        ("%Q", "%Q is not one of the directives"),
        ("%Y-%m-%d %", "% is not one of the directives"),
        ("%H:%M", "does not tell the day"),
        ("%Y-%m", "does not tell the day"),
        ("%Y-%m-%d %M", "does not tell the hour"),
        ("%Y-%m-%d %F", "tells the year twice"),
        ("%y %F", "tells the year twice"),
        ("%F %I:%M", "%I and %p go together"),
        ("%F " + "x" * 300, "at most 200"),
    ],
)
def test_a_format_that_tells_no_moment_is_refused(format: str, fault: str) -> None:
    with pytest.raises(BadTimeFormat) as caught:
        time_format(format)
    assert fault in str(caught.value)


def test_zones_have_names_or_offsets() -> None:
    assert (zone(""), zone("-03:30"), zone("+0200")) == (
        UTC, timezone(timedelta(hours=-3, minutes=-30)), timezone(timedelta(hours=2)),
    )  # fmt: skip
    assert str(zone("Europe/Paris")) == "Europe/Paris"
    for text in ("Mars/Base", "+25:00", "+02:61", "../../etc/passwd", "/etc/localtime", "CEST?", "\0"):
        with pytest.raises(BadTimeFormat, match="no time zone that this machine knows"):
            zone(text)
