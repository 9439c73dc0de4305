"""The columns of every table, as text: names, types and codecs, in order."""

from __future__ import annotations

TIME = "DateTime64(6, 'UTC')"
WORD = "LowCardinality(String)"
_TEXT = "String CODEC(ZSTD(1))"
_NUMBER = "UInt64 CODEC(ZSTD(1))"
_MAP = "Map(LowCardinality(String), String) CODEC(ZSTD(3))"
"""At level 1 the lengths of the values, the same few in every row, take a byte a row; 3 costs no more."""

_OF_LINES = {
    "tenant_id": WORD,
    "external_id": _TEXT,
    "timestamp": f"{TIME} CODEC(Delta, ZSTD(1))",
    "observed_timestamp": f"{TIME} CODEC(Delta, ZSTD(1))",
    "event_type": WORD,
    "severity": WORD,
    "service": WORD,
    "source": WORD,
    "path": WORD,
    "agent": WORD,
    "message": _TEXT,
    "attributes": _MAP,
    "parse_error": WORD,
    "retention_days": "UInt16",
    "version": _NUMBER,
}

EVENT_COLUMNS = {
    **_OF_LINES,
    "is_deleted": "UInt8",
    "title": _TEXT,
    "endpoint": "String CODEC(ZSTD(3))",
    "method": WORD,
    "service_version": WORD,
    "environment": WORD,
    "user_id": _TEXT,
    "session_id": _TEXT,
    "request_id": _TEXT,
    "trace_id": _TEXT,
    "span_id": _TEXT,
    "ip_address": _TEXT,
    "user_agent": f"{WORD} CODEC(ZSTD(1))",
    "tags": "Array(LowCardinality(String)) CODEC(ZSTD(1))",
    "status_code": "UInt16 CODEC(ZSTD(1))",
    "response_time_ms": "Float64 CODEC(ZSTD(1))",
    "request_size_bytes": _NUMBER,
    "response_size_bytes": _NUMBER,
    "zero_metrics": "Array(LowCardinality(String)) CODEC(ZSTD(1))",
    "error_code": WORD,
    "error_type": WORD,
    "error_message": _TEXT,
    "stack_trace": _TEXT,
    "payload": _TEXT,
    "metadata": _TEXT,
}
"""Stored columns of `events`, in order. Numbers are 0 and texts empty where an event did not say. ``zero_metrics``: the
names of those numbers that it did say to be 0 (a gRPC status of 0 is a success, not a gap)."""

TRACED = ("trace_id", "span_id")
REQUESTED = (
    "endpoint", "method", "user_id", "ip_address", "user_agent", "status_code", "response_time_ms", "response_size_bytes",
    "zero_metrics",
)  # fmt: skip
LINE_COLUMNS = {**_OF_LINES, **{name: EVENT_COLUMNS[name] for name in TRACED}}
"""Columns that the block views fill; the others keep their defaults for lines of files."""
REQUEST_COLUMNS = {**LINE_COLUMNS, **{name: EVENT_COLUMNS[name] for name in REQUESTED}}
"""Those of access logs. They go another way: each column costs every line on its way."""

BLOCK_COLUMNS = {
    "commit_id": "UInt64",
    "record": "UInt32",
    "tenant_id": WORD,
    "file_id": "String",
    "base_offset": "UInt64",
    "offsets": "Array(UInt32)",
    "data": "String",
    "observed_us": "Int64",
    "oldest_us": "Int64",
    "newest_us": "Int64",
    "service": WORD,
    "source": WORD,
    "path": WORD,
    "agent": WORD,
    "labels": "Map(LowCardinality(String), String)",
    "time_fields": "Array(String)",
    "level_fields": "Array(String)",
    "message_fields": "Array(String)",
    "parse_error": WORD,
    "retention_days": "UInt16",
    "version": "UInt64",
}
"""One row per block: lines joined by newlines, without the last one; ``offsets`` empty where they follow from the
lines' lengths."""

SHAPED_COLUMNS = {
    **BLOCK_COLUMNS,
    "firsts": "Array(UInt8)",
    "marks": "Array(Map(LowCardinality(String), String))",
    "times": "Array(String)",
}
"""The same for events that transforms have made. ``firsts``: per line, whether an event begins with it; ``marks`` and
``times``: an event's own attributes and time. Each is empty where there is nothing to say."""

READ_COLUMNS = {
    **SHAPED_COLUMNS,
    "pattern": "String",
    "groups": "Array(String)",
    "time_pattern": "String",
    "time_parts": "Array(UInt8)",
    "time_scale": "Int8",
    "zone_from": "Array(Int64)",
    "zone_shift": "Array(Int64)",
}
"""The same for formats that say more of how lines and times are read. The two patterns are the same in all rows of an insert.
``groups``: the names of those of ``pattern``; ``time_parts`` and ``time_scale``: see `agent.timeformats.TimeFormat`; the zone:
see `collector.store.formats.times`."""

LOSS_COLUMNS = {
    "tenant_id": WORD,
    "loss_id": "String",
    "time": TIME,
    "agent": WORD,
    "scope": WORD,
    "source": WORD,
    "path": WORD,
    "file_id": "String",
    "reason": WORD,
    "lost_bytes": "UInt64",
    "events": "UInt64",
    "at_least": "UInt8",
    "offset": "UInt64",
    "retention_days": "UInt16",
}

TENANT_COLUMNS = {
    "tenant_id": "String",
    "slug": "String",
    "name": "String",
    "contact_email": "String",
    "limits": "String",
    "disabled": "UInt8",
    "created": TIME,
    "version": "UInt64",
    "origin": WORD,
}
KEY_COLUMNS = {
    "key_hash": "String",
    "key_id": "String",
    "tenant_id": "String",
    "scopes": "Array(String)",
    "name": "String",
    "created": TIME,
    "expires": f"Nullable({TIME})",
    "revoked": "UInt8",
    "version": "UInt64",
    "origin": WORD,
}
"""``origin`` of tenants and keys: ``file`` for those of the tenants file, else empty."""

KEY_USE_COLUMNS = {"tenant_id": "String", "key_id": "String", "used": TIME}
"""When a key was used last, roughly. A table of its own: a key's row is changed by people only."""

USAGE_COLUMNS = {
    "tenant_id": "String",
    "month": "UInt32",
    "writer": "String",
    "events": "UInt64",
    "bytes": "UInt64",
    "version": "UInt64",
}
"""Running totals of accepted events, one row per tenant, month (202608) and process."""

OUTCOME_COLUMNS = {
    "tenant_id": "String",
    "hour": "DateTime('UTC')",
    "outcome": WORD,
    "reason": WORD,
    "writer": "String",
    "events": "UInt64",
    "bytes": "UInt64",
    "version": "UInt64",
}
"""What became of events, per hour: running totals, one row per tenant, hour, outcome, reason and process."""

AGENT_COLUMNS = {
    "tenant_id": "String",
    "agent": "String",
    "scope": "String",
    "seen": TIME,
    "heartbeat": "String",
}
"""The last heartbeat of every agent, as JSON."""

SAVED_SEARCH_COLUMNS = {
    "tenant_id": "String",
    "search_id": "String",
    "name": "String",
    "query": "String",
    "columns": "String",
    "created": TIME,
    "updated": TIME,
    "deleted": "UInt8",
    "version": "UInt64",
}
"""Searches that a tenant keeps under a name; ``query`` and ``columns`` as JSON. Of one that was deleted an empty row stays."""

EXCEPTION_COLUMNS = {
    "commit_id": "UInt64",
    "record": "UInt32",
    "reason": WORD,
    "note": WORD,
    "parse_error": WORD,
    "events": "UInt64",
    "offsets": "Array(UInt64)",
}
"""What a commit's writer wants to know of lines that were set aside (``reason``) or were odd."""
