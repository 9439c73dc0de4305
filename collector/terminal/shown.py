"""Events for people and for pipes: lines of text, JSON, CSV. Pure.

What an event says is never obeyed by the terminal: control characters are shown as such. Colours are for a terminal only.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from collector.search import fields

TEXT, JSON, CSV = OUTPUTS = ("text", "json", "csv")
COLUMNS = (
    "timestamp", "severity", "service", "source", "event_id", "event_type", "title", "message", "endpoint", "method",
    "status_code", "user_id", "tags", "agent", "path", "attributes",
)  # fmt: skip
"""Of CSV, where none are named."""
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_encode = msgspec.json.Encoder().encode
Show = Callable[[Any], str]
"""An event as it is printed, its end of line included."""


def show_of(output: str, columns: Sequence[str], *, coloured: bool) -> Show:
    """How events are shown."""
    if output == JSON:
        if columns:
            return lambda event: _encode({name: value_of(event, name) for name in columns}).decode() + "\n"
        return lambda event: _encode(event).decode() + "\n"
    if output == CSV:
        return lambda event: row([cell(value_of(event, name)) for name in columns or COLUMNS])
    if columns:
        return lambda event: "\t".join(_one_line(cell(value_of(event, name))) for name in columns) + "\n"
    return lambda event: line(event, coloured=coloured)


def header(output: str, columns: Sequence[str]) -> str:
    return row(columns or COLUMNS) if output == CSV else ""


def line(event: Any, *, coloured: bool) -> str:
    """Time, severity, service, and what it says; more lines are set in."""
    severity = f"{event['severity'].upper():8}"
    if coloured:
        severity = f"\x1b[{_COLOURS.get(event['severity'], '0')}m{severity}\x1b[0m"
    service = plain(event["source"]["service"] or event["source"]["name"] or "-")
    if coloured:
        service = f"\x1b[36m{service}\x1b[0m"
    said = [plain(part) for part in (event["title"], event["message"]) if part]
    text = ": ".join(said).rstrip("\n").replace("\n", "\n    ")
    return f"{event['timestamp']} {severity} {service} {text}\n"


def value_of(event: Any, name: str) -> Any:
    """What an event as the API shows it has in a column; None: nothing."""
    if name in ("attributes", "offset"):
        return event.get(name)
    field = fields.field_of(name)
    if field is None:
        return None
    if field.attribute:
        return event["attributes"].get(field.attribute)
    group = event.get(field.group, {}) if field.group else event
    return group.get(field.inner or field.name)


def cell(value: Any) -> str:
    if value is None or value in ([], {}):
        return ""
    return value if isinstance(value, str) else _encode(value).decode()


def row(cells: Sequence[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def plain(text: str) -> str:
    """Without anything that a terminal would obey."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", text)


def _one_line(text: str) -> str:
    return plain(text).replace("\t", "\\t").replace("\n", "\\n")
