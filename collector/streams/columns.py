"""The flat columns of an export: their names, what each needs of the store, and its values. Pure.

Names and order are kept for ever, new ones come at the end: files that were exported last year are read beside today's.
A metric that an event did not say has no value (null, an empty cell); one that it said to be 0 is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from collector.search import event, fields, query
from collector.search.query import Search

TEXT, TIME, WORDS, PAIRS, JSON, SMALL, LARGE, REAL = "text", "time", "words", "pairs", "json", "small", "large", "real"
"""Kinds of values: text; µs since 1970; a list of texts; a map of texts; JSON as text; numbers of 16 and 64 bits; doubles."""

CURSOR = "cursor"
Values = Sequence[Any]
Stored = Mapping[str, Values]
"""Values by the names of `collector.search.event.COLUMNS`."""

_ORDER = (
    "timestamp", "observed_timestamp", "event_id", "event_type", "severity", "service", "source", "title", "message",
    "endpoint", "method", "version", "environment", "user_id", "session_id", "request_id", "ip_address", "user_agent",
    "tags", "status_code", "response_time_ms", "request_size_bytes", "response_size_bytes", "error_code", "error_type",
    "error_message", "stack_trace", "attributes", "payload", "metadata", "trace_id", "span_id", "agent", "path", "offset",
    "parse_error",
)  # fmt: skip
_KINDS = {
    "timestamp": TIME, "observed_timestamp": TIME, "tags": WORDS, "attributes": PAIRS, "payload": JSON, "metadata": JSON,
    "status_code": SMALL, "response_time_ms": REAL, "request_size_bytes": LARGE, "response_size_bytes": LARGE, "offset": LARGE,
}  # fmt: skip
NAMES = _ORDER
"""All but `CURSOR` and attributes, which are there when they are asked for."""
ALWAYS = ("timestamp", "external_id")


class Column(NamedTuple):
    name: str
    kind: str
    needs: tuple[str, ...]
    values: Callable[[Stored], Values]


def column_of(name: str, search: Search) -> Column | None:
    """The column of that name, which it keeps as its header; None: there is none."""
    if name == CURSOR:
        return Column(name, TEXT, ALWAYS, lambda stored: _cursors(stored, search))
    if name == "offset":
        return Column(name, LARGE, ("external_id",), lambda stored: [event.offset_of(one) for one in stored["external_id"]])
    if name == "attributes":
        return Column(name, PAIRS, (name,), lambda stored: stored[name])
    field = fields.field_of(name)
    if field is None:
        return None
    key, kind = field.attribute, _KINDS.get(field.name, TEXT)
    if not field.column:
        return Column(name, TEXT, ("attributes",), lambda stored: [pairs.get(key) for pairs in stored["attributes"]])
    if field.kind == fields.NUMBER:
        return Column(name, kind, (field.column, "zero_metrics"), lambda stored: _said(stored, field.column))
    return Column(name, kind, (field.column,), lambda stored: stored[field.column])


def selected(columns: Sequence[Column]) -> dict[str, str]:
    """What to select for these columns."""
    needed = dict.fromkeys((*ALWAYS, *(name for column in columns for name in column.needs)))
    return {name: event.COLUMNS[name] for name in needed}


def stored_of(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Stored:
    """Rows, at least one, turned."""
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def _said(stored: Stored, name: str) -> Values:
    return [
        value if value or name in zeros else None for value, zeros in zip(stored[name], stored["zero_metrics"], strict=True)
    ]


def _cursors(stored: Stored, search: Search) -> Values:
    return [query.cursor_after(search, *key) for key in zip(stored["timestamp"], stored["external_id"], strict=True)]
