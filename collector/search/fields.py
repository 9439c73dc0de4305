"""The fields of an event as the API shows it: the names a caller may use, and what each is in the table `events`. Pure.

- A field has a short name (``service``) and the name of its place in what is shown (``source.service``); both mean the
  same. ``attr.NAME`` (or ``attributes.NAME``) is the attribute NAME, whatever NAME is.
- No name of a caller becomes SQL: columns come from `FIELDS`, the name of an attribute is a bound value.
- Texts may hold any bytes; `shown` replaces what is not UTF-8 as a search does, so that what looks equal is equal.
- Numbers are 0 in the table where an event did not say them, and texts empty; `said` tells that from a 0 that was said.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Literal

import msgspec

TEXT, NUMBER, TIME, LIST = "text", "number", "time", "list"
ATTRIBUTE = "attr."
_ATTRIBUTES = "attributes."
MAX_NAME_CHARS = 1000
"""Of an attribute."""


class Field(msgspec.Struct, frozen=True):
    name: str
    kind: Literal["text", "number", "time", "list"]
    column: str = ""
    """Of `events`; empty: an attribute."""
    attribute: str = ""
    """The attribute's name."""
    group: str = ""
    """Where it is in a shown event: ``source``, ``context``, …; empty: at the top."""
    inner: str = ""
    """Its name there, if it is another."""

    @property
    def place(self) -> str:
        """Its name with that of the group: ``source.service``."""
        return f"{self.group}.{self.inner or self.name}" if self.group else self.name


FIELDS = {
    field.name: field
    for field in (
        Field("timestamp", "time", "timestamp"),
        Field("observed_timestamp", "time", "observed_timestamp"),
        Field("event_id", "text", "external_id"),
        Field("event_type", "text", "event_type"),
        Field("severity", "text", "severity"),
        Field("title", "text", "title"),
        Field("message", "text", "message"),
        Field("service", "text", "service", group="source"),
        Field("source", "text", "source", group="source", inner="name"),
        Field("endpoint", "text", "endpoint", group="source"),
        Field("method", "text", "method", group="source"),
        Field("version", "text", "service_version", group="source"),
        Field("environment", "text", "environment", group="source"),
        Field("user_id", "text", "user_id", group="context"),
        Field("session_id", "text", "session_id", group="context"),
        Field("request_id", "text", "request_id", group="context"),
        Field("ip_address", "text", "ip_address", group="context"),
        Field("user_agent", "text", "user_agent", group="context"),
        Field("tags", "list", "tags", group="context"),
        Field("status_code", "number", "status_code", group="metrics"),
        Field("response_time_ms", "number", "response_time_ms", group="metrics"),
        Field("request_size_bytes", "number", "request_size_bytes", group="metrics"),
        Field("response_size_bytes", "number", "response_size_bytes", group="metrics"),
        Field("error_code", "text", "error_code", group="error_details"),
        Field("error_type", "text", "error_type", group="error_details"),
        Field("error_message", "text", "error_message", group="error_details"),
        Field("stack_trace", "text", "stack_trace", group="error_details"),
        Field("payload", "text", "payload"),
        Field("metadata", "text", "metadata"),
        Field("trace_id", "text", "trace_id"),
        Field("span_id", "text", "span_id"),
        Field("agent", "text", "agent"),
        Field("path", "text", "path"),
        Field("parse_error", "text", "parse_error"),
    )
}
"""By short name, in the order in which an event shows them."""

_OTHER_NAMES = {"id": "event_id", "external_id": "event_id", **{field.place: field.name for field in FIELDS.values()}}


def field_of(name: str) -> Field | None:
    """The field that a caller means by ``name``; None: there is none."""
    for prefix in (ATTRIBUTE, _ATTRIBUTES):
        if name.startswith(prefix):
            attribute = name.removeprefix(prefix)
            if not attribute or len(attribute) > MAX_NAME_CHARS:
                return None
            return Field(f"{ATTRIBUTE}{attribute}", "text", attribute=attribute)
    return FIELDS.get(_OTHER_NAMES.get(name, name))


def suggestion(name: str) -> str:
    """What a caller may have meant by a name that is none."""
    near = get_close_matches(name.lower(), {**FIELDS, **_OTHER_NAMES}, 2)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}fields are {', '.join(FIELDS)}, and attr.NAME for an attribute"


def stored(field: Field, params: dict[str, Any], key: str) -> str:
    """The expression of the field's value as it is stored.

    Args:
        key: name of the bound value that an attribute's name becomes.
    """
    if field.column:
        return field.column
    params[key] = field.attribute
    return f"attributes[{{{key}:String}}]"


def shown(field: Field, params: dict[str, Any], key: str) -> str:
    """As `stored`, with texts as they are shown."""
    value = stored(field, params, key)
    if field.kind == TEXT:
        return f"toValidUTF8({value})"
    return f"arrayMap(item -> toValidUTF8(item), {value})" if field.kind == LIST else value


def said(field: Field, params: dict[str, Any], key: str) -> str:
    """The condition that the event has a value there."""
    if not field.column:
        params[key] = field.attribute
        return f"mapContains(attributes, {{{key}:String}})"
    if field.kind == NUMBER:
        return f"({field.column} != 0 OR has(zero_metrics, '{field.column}'))"
    if field.kind == TIME:
        return "1"
    return f"notEmpty({field.column})"


def number(field: Field, params: dict[str, Any], key: str) -> str:
    """The value of a number or a text as a finite number; NULL where it is none."""
    value = stored(field, params, key)
    if field.kind == NUMBER:
        return f"if({said(field, params, key)}, toFloat64({value}), NULL)"
    return f"nullIf(ifNotFinite(toFloat64OrNull({value}), inf), inf)"
