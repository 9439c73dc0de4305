"""An event as the API shows it: the columns a read asks for, and a row of them as JSON. Pure.

- Texts may hold any bytes in the store; they are shown as UTF-8, with U+FFFD for what is not. (The engine replaces
  them: a driver that meets other bytes shows the whole text as hex digits.)
- ``id``, ``event_id`` and ``external_id`` are the same value. ``offset`` is read out of an ID that was made from a file.
- The parts that lines of files do not have (``context``, ``metrics``, ``error_details``) hold only what the event said.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agent import wire
from collector.ingest.moments import show_moment

_PLAIN = ("external_id", "event_type", "severity", "service", "method", "source", "parse_error")
"""Columns whose values are checked before they are stored, or are ours."""
_TEXTS = (
    "title", "message", "endpoint", "service_version", "environment", "path", "agent", "payload", "metadata",
    "trace_id", "span_id",
)  # fmt: skip
_CONTEXT = ("user_id", "session_id", "request_id", "ip_address", "user_agent")
_METRICS = ("response_time_ms", "status_code", "request_size_bytes", "response_size_bytes")
_ERROR = ("error_code", "error_message", "error_type", "stack_trace")

_EXPRESSIONS = {
    "timestamp": "toUnixTimestamp64Micro(timestamp)",
    "observed_timestamp": "toUnixTimestamp64Micro(observed_timestamp)",
    **{name: name for name in (*_PLAIN, *_METRICS, "zero_metrics")},
    **{name: f"toValidUTF8({name})" for name in (*_TEXTS, *_CONTEXT, *_ERROR)},
    "tags": "arrayMap(tag -> toValidUTF8(tag), tags)",
    "attributes": "mapApply((k, v) -> (toValidUTF8(k), toValidUTF8(v)), attributes)",
}
COLUMNS = _EXPRESSIONS
"""Columns to read, and how to select each; `event_of` takes such rows."""
_NAMES = tuple(_EXPRESSIONS)


class Event(msgspec.Struct, frozen=True):
    """Named values of one row."""

    time_us: int
    external_id: str
    shown: dict[str, Any]


def event_of(row: tuple[Any, ...]) -> Event:
    """The event of a row of `COLUMNS`."""
    value = dict(zip(_NAMES, row, strict=True))
    external_id = value["external_id"]
    shown = {
        "id": external_id,
        "event_id": external_id,
        "external_id": external_id,
        "event_type": value["event_type"],
        "title": value["title"],
        "message": value["message"],
        "severity": value["severity"],
        "timestamp": show_moment(value["timestamp"]),
        "observed_timestamp": show_moment(value["observed_timestamp"]),
        "source": {
            "service": value["service"],
            "endpoint": value["endpoint"],
            "method": value["method"],
            "version": value["service_version"],
            "environment": value["environment"],
            "name": value["source"],
        },
        "context": _said(value, (*_CONTEXT, "tags")),
        "metrics": {name: value[name] for name in _METRICS if value[name] or name in value["zero_metrics"]},
        "error_details": _said(value, _ERROR),
        "attributes": value["attributes"],
        "payload": decoded(value["payload"]),
        "metadata": decoded(value["metadata"]),
        "trace_id": value["trace_id"],
        "span_id": value["span_id"],
        "agent": value["agent"],
        "path": value["path"],
        "offset": offset_of(external_id),
        "parse_error": value["parse_error"],
    }
    return Event(value["timestamp"], external_id, shown)


def offset_of(external_id: str) -> int | None:
    """Where in its file the event starts, for an ID made from a file."""
    if not wire.EVENT_ID.fullmatch(external_id):
        return None
    return int(external_id.split("-")[1], 16)


def _said(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value[name] for name in names if value[name]}


def decoded(text: str) -> Any:
    """JSON that a column keeps as text: shown as it was sent, to the digit."""
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return text
