"""The time that a line carries, in every format. (`tests/integration/test_format_tables.py` compares with what is stored.)"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.config import Fields, Source
from agent.text.eventtime import event_time_ns, runtime_time_ns

SEEN = datetime(2026, 1, 20, tzinfo=UTC)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
IN_2025 = MOMENT.replace(year=2025, month=12)
PATTERN = r"^\[(?P<when>[^\]]+)\] (?P<message>.*)$"
LINES: list[tuple[str, dict[str, Any], str, datetime | None]] = [
    ("json", {}, '{"ts": "2026-01-02T03:04:05Z"}', MOMENT),
    ("json", {}, '{"ts": "2026-01-02T05:04:05+02:00"}', MOMENT),
    ("json", {}, '{"time": 1767323045, "ts": "2020-01-01"}', datetime(2020, 1, 1, tzinfo=UTC)),
    ("json", {}, '{"time": "1767323045000", "ts": null}', MOMENT),
    ("json", {}, '{"ts": 1767323045.5}', MOMENT.replace(microsecond=500_000)),
    ("json", {"time_zone": "Europe/Paris"}, '{"ts": "2026-01-02 04:04:05"}', MOMENT),
    ("json", {"time_format": "%d.%m.%Y %T"}, '{"ts": "02.01.2026 03:04:05"}', MOMENT),
    ("json", {}, '{"ts": "2026-02-31"}', None),
    ("json", {}, '{"ts": "today"}', None),
    ("json", {}, '{"at": 1767323045}', None),
    ("json", {}, '[{"ts": 1767323045}]', None),
    ("json", {}, '{"ts": 1767323045', None),
    ("json", {}, '{"ts": 1767323045, "n": NaN}', None),
    ("logfmt", {}, 'level=info ts="2026-01-02 03:04:05,0" msg=a', MOMENT),
    ("logfmt", {"time_format": "epoch_ms"}, "ts=1767323045000 msg=a", MOMENT),
    ("logfmt", {}, "no ts=2026-01-02T03:04:05Z", None),
    ("clf", {}, '::1 - - [02/Jan/2026:05:04:05 +0200] "GET / HTTP/1.1" 200 1', MOMENT),
    ("combined", {}, 'h:80 ::1 - a b [02/Jan/2026:03:04:05 +0000] "GET /?q="x" HTTP/1.1" 200 1 "-" "a "b""', MOMENT),
    ("combined", {}, '::1 - - [2026-01-02T03:04:05+00:00] "-" 400 0', MOMENT),
    ("combined", {}, '::1 - - [32/Jan/2026:03:04:05 +0000] "-" 400 0', None),
    ("combined", {}, "::1 - - [02/Jan/2026:03:04:05 +0000] GET", None),
    ("syslog", {}, "<34>1 2026-01-02T03:04:05Z h a - - - x", MOMENT),
    ("syslog", {}, "<34>1 - h a - - - x", None),
    ("syslog", {}, "<34>Jan  2 03:04:05 h a[1]: x", MOMENT),
    ("syslog", {"time_zone": "+01:00"}, "Jan  2 04:04:05 h a[1]: x", MOMENT),
    ("syslog", {}, "Dec  2 03:04:05 h a: x", IN_2025),
    ("syslog", {}, "Dec  2 2025 03:04:05.0 h a: x", IN_2025),
    ("syslog", {}, "2026-01-02T03:04:05Z h a: x", MOMENT),
    ("syslog", {}, "Feb 30 03:04:05 h a: x", None),
    ("syslog", {}, "on Jan  2 03:04:05 h a: x", None),
    ("klog", {}, "I0102 03:04:05.000000       1 a.go:1] x", MOMENT),
    ("klog", {}, "E1202 03:04:05.000000       1 a.go:1] x", IN_2025),
    ("klog", {}, "X0102 03:04:05.000000       1 a.go:1] x", None),
    ("regex", {"pattern": PATTERN, "fields": {"time": ["when"]}}, "[2026-01-02 03:04:05] x", MOMENT),
    ("regex", {"pattern": PATTERN, "fields": {"time": ["when"]}, "time_format": "syslog"}, "[Jan  2 03:04:05] x", MOMENT),
    ("regex", {"pattern": PATTERN, "fields": {"time": ["when"]}}, "2026-01-02 03:04:05 x", None),
    ("raw", {}, "2026-01-02 03:04:05 x", None),
    ("auto", {}, '{"ts": "2026-01-02T03:04:05Z"}', None),
]  # fmt: skip


def ns(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000) * 1000


@pytest.mark.parametrize(("format", "said", "line", "moment"), LINES)
def test_a_lines_time_is_told_where_its_format_says_so(
    format: str, said: dict[str, Any], line: str, moment: datetime | None
) -> None:
    fields = Fields(time=tuple(said.get("fields", {}).get("time", ("ts", "time"))))
    source = Source("app", ("*",), format=format, **{**said, "fields": fields})  # type: ignore[arg-type]
    assert event_time_ns(source, line.encode(), seen_ns=ns(SEEN) or 0) == ns(moment)


def test_of_a_source_that_says_auto_the_found_form_counts() -> None:
    source = Source("app", ("*",), format="auto")
    line = b"Jan  2 03:04:05 h a[1]: x"
    assert event_time_ns(source, line, seen_ns=ns(SEEN) or 0, form="syslog") == ns(MOMENT)
    assert event_time_ns(source, line, seen_ns=ns(SEEN) or 0, form="raw") is None


def test_a_runtimes_time_is_read_to_the_microsecond() -> None:
    assert runtime_time_ns(b"2026-01-02T03:04:05.123456789Z") == ns(MOMENT.replace(microsecond=123_456))
    assert runtime_time_ns(b"\xff") is None
