"""The parameters and examples of the API's operations, as they are described. What is checked is what the handlers check."""

from __future__ import annotations

from typing import Any, NamedTuple

from collector.figures import facets, histogram, intervals
from collector.ingest import event_types
from collector.ingest.event_types import EVENT_TYPES, SEVERITIES
from collector.ingest.moments import MOMENT_FORMS
from collector.search import context, fields, filters, ids, neighbours, query
from collector.search.language import parsing
from collector.streams import columns, shapes

RESERVED_IDS = ("search", "export", "tail", "histogram", "facets", "fields", "aggregate", "types", "severities", "batch")
"""Event IDs that are no events in a path."""


class Parameter(NamedTuple):
    name: str
    text: str
    schema: dict[str, Any]
    example: Any = None
    place: str = "query"
    required: bool = False


_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
ID = {"type": "string", "minLength": 1, "maxLength": event_types.MAX_ID_CHARS}
OFFSET = {"type": "integer", "minimum": 0, "maximum": ids.MAX_OFFSET}
_QUERY_TEXT = {"type": "string", "minLength": 1, "maxLength": parsing.MAX_CHARS}
_QUERY = (
    'A query in Lucene\'s syntax. Words side by side: title or message have all of them, in any order and case. "A phrase"; '
    "AND, OR, NOT, -word, parentheses; wildcards * and ?; /regular expression/ (RE2); field:value, where the field is one of "
    "the event's (level, service, status_code, user_id, timestamp, …) or the name of an attribute; field:>=500, "
    "field:[400 TO 499}, level:>=warning, timestamp:>now-1h; field:* for any value. Signs that are no syntax part words. "
    "A fault is answered with its column and a caret under it."
)
_STATUS = "(0|[1-9]([0-9]{0,3}|xx|XX))"


def _one_of(words: Any) -> dict[str, Any]:
    word = f"({'|'.join(words)})"
    return {"type": "string", "pattern": f"^{word}(,{word})*$"}


_FILTER_TEXTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "event_type": ("The event's type.", _one_of(EVENT_TYPES), "api_call,error_event"),
    "severity": ("Exactly this severity.", _one_of(SEVERITIES), "error"),
    "service": ("The service.", _TEXT, "shop"),
    "source": ("The log or application within the service.", _TEXT, "access-log"),
    "endpoint": ("The endpoint, whole.", _TEXT, "/api/pay"),
    "user_id": ("The user.", _TEXT, "u-17"),
    "method": ("The method, in any case.", _TEXT, "POST"),
    "status_code": (
        "A status, a class or a range.",
        {"type": "string", "pattern": f"^{_STATUS}(,{_STATUS})*$"},
        "5xx,404,420-429",
    ),
    "host": ("The agent's name, or the attribute host.name or host.", _TEXT, "web-3"),
    "tags": ("Has the tag. Given twice: has one of each.", _TEXT, "checkout"),
}
WINDOW = (
    Parameter("start_time", f"From here on: {MOMENT_FORMS}.", {"type": "string"}, "-15m"),
    Parameter("end_time", "Up to here, included; written as start_time.", {"type": "string"}, "now"),
)
FILTERS = (
    *(Parameter(name, f"{text} Several with commas: any of them.", schema, example)
      for name, (text, schema, example) in _FILTER_TEXTS.items()),
    Parameter("min_severity", "This severity or a higher one.", {"enum": list(SEVERITIES)}, "warning"),
    Parameter("q", _QUERY, _QUERY_TEXT, "level:>=warning \"payment refused\" -test"),
    Parameter("event_id", "The event with this ID.", _TEXT, "order-17-paid"),
    Parameter(
        f"{filters.ATTRIBUTE}NAME",
        "The attribute NAME has this value, whole; given twice: one of them. NAME stands for the attribute's name.",
        {"type": "string"},
    ),
)  # fmt: skip
PAGE = (
    Parameter(
        "limit",
        f"Events on a page; as NDJSON up to {query.MAX_LINES_LIMIT}.",
        {"type": "integer", "minimum": 1, "maximum": query.MAX_LIMIT, "default": query.DEFAULT_LIMIT},
        50,
    ),
    Parameter("offset", "Events to pass over.", {"type": "integer", "minimum": 0, "maximum": query.MAX_OFFSET, "default": 0}),
    Parameter("cursor", "next_cursor of the page before, with the same parameters.", {"type": "string"}),
    Parameter("order", "By time.", {"enum": ["desc", "asc"], "default": "desc"}, "desc"),
    Parameter("format", "Instead of the Accept header.", {"enum": [query.JSON, query.LINES]}, query.JSON),
    Parameter(
        "count",
        f"Of total_count: given up beyond {query.COUNT_ROWS:,} rows to read, exact whatever it costs, or not made.",
        {"enum": list(query.COUNTS), "default": query.COUNT_BOUNDED},
        query.COUNT_EXACT,
    ),
)
_FIELD = rf"({'|'.join(name for name, field in fields.FIELDS.items() if field.kind != fields.TIME)}|attr\..+)"
_BUCKETS = (
    Parameter(
        "interval",
        f"Length of a bucket: {intervals.FORMS}. `auto`: what suits the window.",
        {
            "type": "string",
            "pattern": "^([1-9][0-9]{0,3}[smhdw]|P([1-9][0-9]{0,3}[WD]|T[1-9][0-9]{0,3}[HMS])|auto)$",
            "default": histogram.AUTO,
        },
        "1h",
    ),
    Parameter(
        "time_zone",
        "Buckets are aligned to this zone's clock.",
        {"type": "string", "default": "UTC"},
        "Europe/Berlin",
    ),
)
HISTOGRAM = (
    *_BUCKETS,
    Parameter("by", "A field; attributes as attr.NAME.", {"type": "string", "pattern": f"^{_FIELD}$"}, "severity"),
    Parameter(
        "top",
        "With `by`: how many values are listed, those with the most events.",
        {"type": "integer", "minimum": 1, "maximum": histogram.MAX_TOP, "default": histogram.DEFAULT_TOP},
        5,
    ),
)
FACETS = (
    Parameter(
        "fields",
        f"Fields, at most {facets.MAX_FIELDS}; attributes as attr.NAME.",
        {"type": "string", "pattern": f"^{_FIELD}(,{_FIELD})*$", "default": ",".join(facets.DEFAULT_FIELDS)},
        "service,severity,attr.region",
    ),
    Parameter(
        "limit",
        "Values listed of each field.",
        {"type": "integer", "minimum": 1, "maximum": facets.MAX_LIMIT, "default": facets.DEFAULT_LIMIT},
        20,
    ),
    Parameter("prefix", "List only values that begin with this, in any case.", _TEXT, "sh"),
    Parameter("contains", "List only values that have this in them, in any case.", _TEXT, "op"),
)
EXPORT = (
    Parameter("format", "The form of the answer.", {"enum": list(shapes.FORMATS)}, shapes.NDJSON),
    Parameter(
        "columns",
        f"Flat columns, with commas: {', '.join(columns.NAMES)}; {columns.CURSOR}, attr.NAME. Not given: all of the "
        "first list; as NDJSON events as a search shows them.",
        {"type": "string"}, "timestamp,severity,message,attr.region",
    ),
    Parameter(
        "csv_guard", "CSV: an apostrophe goes before texts that a spreadsheet would take for formulas.",
        {"enum": ["true", "false", "1", "0"]}, "true",
    ),
    Parameter("after", "Go on behind the event with this ID, the last that arrived; with the same parameters.", _TEXT),
    Parameter("cursor", "Go on behind the event of this cursor (a column), with the same parameters.", {"type": "string"}),
    Parameter("order", "By time.", {"enum": ["desc", "asc"], "default": "asc"}, "asc"),
)  # fmt: skip
DRY_RUN = Parameter("dry_run", "Check and answer, store nothing.", {"enum": ["true", "false", "1", "0"]}, "false")
ANY_EVENT_ID = Parameter("event_id", "The event's ID.", _TEXT, "order-17-paid", "path")
EVENT_ID = Parameter("event_id", "The event's ID.", {**_TEXT, "not": {"enum": list(RESERVED_IDS)}}, "order-17-paid", "path")
CONTEXT = (
    *(
        Parameter(
            name,
            f"Events {name} it.",
            {"type": "integer", "minimum": 0, "maximum": context.MAX_LINES, "default": context.DEFAULT_LINES},
            5,
        )
        for name in (neighbours.BEFORE, neighbours.AFTER)
    ),
    Parameter(
        "cursor", "before_cursor or after_cursor of the answer before: only that direction is answered.", {"type": "string"}
    ),
)
SEARCH_ID = Parameter("search_id", "The saved search's ID.", _TEXT, "0123456789abcdef", "path")
SLUG = Parameter("slug", "The tenant's short name.", _TEXT, "blue-shop", "path")
KEY_ID = Parameter("key_id", "The key's ID.", _TEXT, "a1b2c3d4", "path")
IDEMPOTENCY = Parameter(
    "Idempotency-Key",
    "For events without event_id: two requests with the same key are the same events.",
    {"type": "string", "pattern": "^[!-~]{1,100}$"},
    "checkout-17",
    "header",
)
EVENT = {
    "event_id": "order-17-paid",
    "event_type": "api_call",
    "title": "Order paid",
    "severity": "info",
    "source": {"service": "shop", "endpoint": "/api/pay", "method": "POST", "environment": "production"},
    "context": {"user_id": "u-17", "tags": ["checkout"]},
    "metrics": {"response_time_ms": 41.5, "status_code": 200},
    "attributes": {"region": "eu-1"},
    "payload": {"order": 17},
}
SAVED = {
    "name": "Refused payments of the last hour",
    "query": {"q": "payment refused", "min_severity": "warning", "start_time": "-1h", "service": ["shop", "stock"]},
    "columns": ["timestamp", "severity", "service", "message", "attr.region"],
}
AGGREGATE = {
    "filter": {"service": "shop", "min_severity": "warning"},
    "start_time": "-24h",
    "group_by": ["endpoint", "attr.region"],
    "interval": "1h",
    "metrics": [
        {"function": "count"},
        {"function": "p95", "field": "response_time_ms"},
        {"function": "percentiles", "field": "attr.duration_ms", "percentiles": [50, 99.9]},
    ],
    "having": [{"metric": "count", "op": ">", "value": 10}],
    "order_by": ["time", "-count"],
    "limit": 100,
}
