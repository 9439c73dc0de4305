"""Every operation of the API, as `collector.api.openapi` describes it. A test keeps this list and the routes the same."""

from __future__ import annotations

from typing import Any, NamedTuple

from agent import wire
from collector.api import api_types
from collector.figures import aggregate_types, answers, facets, histogram, intervals
from collector.ingest import event_types, events
from collector.ingest.event_types import EVENT_TYPES, SEVERITIES
from collector.ingest.moments import MOMENT_FORMS
from collector.limits import allowance
from collector.saved import saving, searches
from collector.search import context, fields, filters, ids, query, read_types, reports
from collector.search.language import parsing
from collector.streams import columns, export, shapes, tail
from collector.tenants import administration

KEY, ADMIN, ANYONE = "key", "admin", ""
JSON = "application/json"
INGESTION = "/api/v1/ingestion"
DESCRIPTION_PATH = "/api/v1/openapi.json"
RESERVED_IDS = ("search", "export", "tail", "histogram", "facets", "fields", "aggregate", "types", "severities", "batch")
"""Event IDs that are no events in a path."""


class Parameter(NamedTuple):
    name: str
    text: str
    schema: dict[str, Any]
    example: Any = None
    place: str = "query"
    required: bool = False


class Operation(NamedTuple):
    method: str
    path: str
    name: str
    summary: str
    credential: str = KEY
    scope: str = ""
    answer: Any = None
    """Type of the answer; None: a text."""
    success: int = 200
    refusals: tuple[int, ...] = ()
    """Statuses besides 422, which all have, and those that the credential brings."""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_example: Any = None
    more_bodies: tuple[str, ...] = ()
    """Media types in which the body may be sent besides, as bytes."""
    more_answers: tuple[str, ...] = ()
    answer_type: str = JSON


_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_ID = {"type": "string", "minLength": 1, "maxLength": event_types.MAX_ID_CHARS}
_OFFSET = {"type": "integer", "minimum": 0, "maximum": ids.MAX_OFFSET}
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
_WINDOW = (
    Parameter("start_time", f"From here on: {MOMENT_FORMS}.", {"type": "string"}, "-15m"),
    Parameter("end_time", "Up to here, included; written as start_time.", {"type": "string"}, "now"),
)
_FILTERS = (
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
_PAGE = (
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
_HISTOGRAM = (
    *_BUCKETS,
    Parameter("by", "A field; attributes as attr.NAME.", {"type": "string", "pattern": f"^{_FIELD}$"}, "severity"),
    Parameter(
        "top",
        "With `by`: how many values are listed, those with the most events.",
        {"type": "integer", "minimum": 1, "maximum": histogram.MAX_TOP, "default": histogram.DEFAULT_TOP},
        5,
    ),
)
_FACETS = (
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
_EXPORT = (
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
_DRY_RUN = Parameter("dry_run", "Check and answer, store nothing.", {"enum": ["true", "false", "1", "0"]}, "false")
_ANY_EVENT_ID = Parameter("event_id", "The event's ID.", _TEXT, "order-17-paid", "path")
_EVENT_ID = Parameter("event_id", "The event's ID.", {**_TEXT, "not": {"enum": list(RESERVED_IDS)}}, "order-17-paid", "path")
_CONTEXT = (
    *(
        Parameter(
            name,
            f"Events {name} it.",
            {"type": "integer", "minimum": 0, "maximum": context.MAX_LINES, "default": context.DEFAULT_LINES},
            5,
        )
        for name in (context.BEFORE, context.AFTER)
    ),
    Parameter(
        "cursor", "before_cursor or after_cursor of the answer before: only that direction is answered.", {"type": "string"}
    ),
)
_SEARCH_ID = Parameter("search_id", "The saved search's ID.", _TEXT, "0123456789abcdef", "path")
_SLUG = Parameter("slug", "The tenant's short name.", _TEXT, "blue-shop", "path")
_KEY_ID = Parameter("key_id", "The key's ID.", _TEXT, "a1b2c3d4", "path")
_IDEMPOTENCY = Parameter(
    "Idempotency-Key",
    "For events without event_id: two requests with the same key are the same events.",
    {"type": "string", "pattern": "^[!-~]{1,100}$"},
    "checkout-17",
    "header",
)
_EVENT = {
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
_SAVED = {
    "name": "Refused payments of the last hour",
    "query": {"q": "payment refused", "min_severity": "warning", "start_time": "-1h", "service": ["shop", "stock"]},
    "columns": ["timestamp", "severity", "service", "message", "attr.region"],
}
_AGGREGATE = {
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
_TENANT = f"{administration.TENANTS_PATH}/{{slug}}"

OPERATIONS = (
    Operation(
        "post", events.EVENTS_PATH, "ingestEvent", "Store one event",
        scope="ingest", answer=event_types.EventAnswer, refusals=(400, 413, 415, 429),
        parameters=(_DRY_RUN, _IDEMPOTENCY), body=api_types.EventBody, body_example=_EVENT,
    ),
    Operation(
        "post", events.BATCH_PATH, "ingestBatch", "Store many events; each has its own outcome",
        scope="ingest", answer=event_types.BatchAnswer, refusals=(400, 413, 415, 429),
        parameters=(
            _DRY_RUN,
            Parameter("results", "failures: list only the events that failed.", {"enum": ["all", "failures"]}, "all"),
            _IDEMPOTENCY,
        ),
        body=api_types.BatchBody, body_example={"events": [_EVENT]}, more_bodies=("application/x-ndjson",),
    ),
    Operation(
        "post", wire.BLOCKS_PATH, "ingestRecords", "Records of agents", scope="ingest", answer=wire.Answer,
        answer_type=wire.ANSWER_TYPE, refusals=(400, 413, 415, 429), more_bodies=(wire.RUN_TYPE,),
    ),
    Operation(
        "get", f"{INGESTION}/events/search", "searchEvents", "Find events; newest first",
        scope="search", answer=read_types.SearchAnswer, refusals=(429,), parameters=(*_WINDOW, *_FILTERS, *_PAGE),
        more_answers=("application/x-ndjson",),
    ),
    Operation(
        "get", f"{INGESTION}/events/histogram", "countOverTime", "Numbers of events over time, in all or by a field's values",
        scope="search", answer=answers.HistogramAnswer, refusals=(429,), parameters=(*_WINDOW, *_FILTERS, *_HISTOGRAM),
    ),
    Operation(
        "get", f"{INGESTION}/events/facets", "countByValue", "The values of fields with the most events, and their numbers",
        scope="search", answer=answers.FacetsAnswer, refusals=(429,), parameters=(*_WINDOW, *_FILTERS, *_FACETS),
    ),
    Operation(
        "get", f"{INGESTION}/events/fields", "listFields", "The fields that events have, with types and examples",
        scope="search", answer=answers.FieldsAnswer, refusals=(429,), parameters=(*_WINDOW, *_FILTERS),
    ),
    Operation(
        "get", tail.PATH, "tailEvents",
        "Every event that matches, as it is committed: Server-Sent Events, each with an id; open, gap and error besides",
        scope="search", answer_type=tail.CONTENT_TYPE, refusals=(429,),
        parameters=(
            *_FILTERS,
            Parameter("cursor", "Go on behind the event with this id.", {"type": "string"}),
            Parameter(tail.LAST_ID_HEADER, "The same, from browsers; it goes before a cursor.", {"type": "string"},
                      place="header"),
        ),
    ),
    Operation(
        "get", export.PATH, "exportEvents",
        "Every event that matches, once, as a stream; one that ends in order is whole, a fault cuts the connection off",
        scope="search", answer_type=shapes.TYPES[0], more_answers=shapes.TYPES[1:], refusals=(429,),
        parameters=(*_WINDOW, *_FILTERS, *_EXPORT),
    ),
    Operation(
        "get", f"{INGESTION}/events/context/{{event_id}}", "getContext", "What stands before and after an event in its file",
        scope="search", answer=read_types.ContextAnswer, refusals=(404, 429), parameters=(_ANY_EVENT_ID, *_CONTEXT),
    ),
    Operation(
        "post", f"{INGESTION}/events/aggregate", "aggregateEvents", "Figures over the events that match, by fields, over time",
        scope="search", answer=aggregate_types.AggregateAnswer, refusals=(400, 413, 429),
        body=aggregate_types.AggregateBody, body_example=_AGGREGATE,
    ),
    Operation(
        "get", f"{INGESTION}/events/types", "listEventTypes", "The event types there are",
        answer=api_types.TypesAnswer, refusals=(429,),
    ),
    Operation(
        "get", f"{INGESTION}/events/severities", "listSeverities", "The severities there are",
        answer=api_types.SeveritiesAnswer, refusals=(429,),
    ),
    Operation(
        "get", f"{INGESTION}/events/{{event_id}}", "getEvent", "One event",
        scope="search", answer=read_types.EventShown, refusals=(404, 429), parameters=(_EVENT_ID,),
    ),
    Operation(
        "delete", f"{INGESTION}/events/{{event_id}}", "deleteEvent", "Delete one event; again does nothing",
        scope="delete", answer=event_types.DeleteAnswer, refusals=(404, 429), parameters=(_EVENT_ID,),
    ),
    Operation(
        "get", wire.IDS_PATH, "listIds", "IDs of stored events, in order; what agents compare their files with",
        scope="ingest", answer=wire.IdsAnswer, refusals=(429,),
        parameters=(
            Parameter("from", "The least ID that is meant.", _ID, "00c0ffee00c0ffee-", required=True),
            Parameter("to", "The greatest ID that is meant, or any text behind it.", _ID, "00c0ffee00c0ffee-g", required=True),
            Parameter(
                "limit", "IDs on a page.",
                {"type": "integer", "minimum": 1, "maximum": ids.MAX_LIMIT, "default": ids.DEFAULT_LIMIT}, 1000,
            ),
            Parameter("cursor", "next_cursor of the page before, with the same bounds.", _ID),
        ),
    ),
    Operation(
        "get", wire.SUMS_PATH, "sumIds", "Sums over the lines of a file that are stored, by where they start in it",
        scope="ingest", answer=wire.SumsAnswer, refusals=(429,),
        parameters=(
            Parameter(
                "file_id", "The first part of the lines' IDs.", {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                "00c0ffee00c0ffee", required=True,
            ),
            Parameter("from_offset", "A multiple of step.", _OFFSET, 0),
            Parameter("to_offset", f"At most {ids.MAX_SUMS} steps further; not included.", _OFFSET),
            Parameter(
                "step", "Bytes that are summed up together.",
                {"type": "integer", "minimum": ids.MIN_STEP, "maximum": ids.MAX_STEP, "default": 1 << 20},
            ),
        ),
    ),
    Operation(
        "get", f"{INGESTION}/stats", "getStats", "How much is kept, and what agents lost",
        scope="search", answer=read_types.StatsAnswer, refusals=(429,), parameters=(*_WINDOW, *_FILTERS),
    ),
    Operation(
        "get", searches.PATH, "listSearches", "Saved searches, by name", scope="search", answer=saving.SavedSearchesAnswer,
        refusals=(429,),
    ),
    Operation(
        "post", searches.PATH, "saveSearch", "Keep a search under a name", scope="search", answer=saving.SavedAnswer,
        success=201, refusals=(400, 409, 413, 429), body=searches.SavedBody, body_example=_SAVED,
    ),
    Operation(
        "get", f"{searches.PATH}/{{search_id}}", "getSearch", "One saved search", scope="search",
        answer=saving.SavedAnswer, refusals=(404, 429), parameters=(_SEARCH_ID,),
    ),
    Operation(
        "put", f"{searches.PATH}/{{search_id}}", "changeSearch", "Put a search in the place of a saved one", scope="search",
        answer=saving.SavedAnswer, refusals=(400, 404, 409, 413, 429), parameters=(_SEARCH_ID,), body=searches.SavedBody,
        body_example=_SAVED,
    ),
    Operation(
        "delete", f"{searches.PATH}/{{search_id}}", "deleteSearch", "Forget a saved search", scope="search",
        answer=saving.UnsavedAnswer, refusals=(404, 429), parameters=(_SEARCH_ID,),
    ),
    Operation(
        "get", f"{INGESTION}/outcomes", "getOutcomes", f"What became of what was sent, {reports.OUTCOMES_LONGEST_DAYS} days",
        scope="search", answer=read_types.OutcomesAnswer, refusals=(429,), parameters=_WINDOW,
    ),
    Operation(
        "get", f"{INGESTION}/agents", "getAgents", "Agents by their heartbeats, the one furthest behind first",
        scope="search", answer=read_types.AgentsAnswer, refusals=(429,),
    ),
    Operation(
        "get", allowance.PATH, "getRateLimit", "What may be sent, and what is left of it",
        answer=allowance.Allowance, refusals=(429,),
    ),
    Operation(
        "get", f"{INGESTION}/health", "getHealth", "How the parts of this collector are", ANYONE,
        answer=read_types.HealthAnswer, refusals=(503,),
    ),
    Operation(
        "post", administration.REGISTER_PATH, "registerTenant", "Make a tenant and its first key", ADMIN,
        answer=api_types.RegistrationAnswer, success=201, refusals=(400, 409, 413),
        body=administration.Registration, body_example={"name": "Blue Shop", "slug": "blue-shop"},
    ),
    Operation(
        "get", administration.TENANTS_PATH, "listTenants", "All tenants", ADMIN, answer=api_types.TenantsAnswer,
    ),
    Operation(
        "get", _TENANT, "getTenant", "One tenant", ADMIN, scope="admin", answer=api_types.TenantAnswer,
        refusals=(404, 429), parameters=(_SLUG,),
    ),
    Operation(
        "patch", _TENANT, "changeTenant", "Change a tenant; what is left out stays", ADMIN, scope="admin",
        answer=api_types.TenantAnswer, refusals=(400, 404, 409, 413, 429), parameters=(_SLUG,),
        body=administration.Change, body_example={"limits": {"events_per_minute": 100_000}},
    ),
    Operation(
        "delete", _TENANT, "disableTenant", "Disable a tenant; its events stay until their retention ends", ADMIN,
        scope="admin", answer=api_types.TenantAnswer, refusals=(404, 409, 429), parameters=(_SLUG,),
    ),
    Operation(
        "get", f"{_TENANT}/keys", "listKeys", "A tenant's keys", ADMIN, scope="admin", answer=api_types.KeysAnswer,
        refusals=(404, 429), parameters=(_SLUG,),
    ),
    Operation(
        "post", f"{_TENANT}/keys", "addKey", "One more key", ADMIN, scope="admin", answer=api_types.NewKeyAnswer,
        success=201, refusals=(400, 404, 409, 413, 429), parameters=(_SLUG,), body=administration.NewKey,
        body_example={"name": "agents", "scopes": ["ingest"]},
    ),
    Operation(
        "post", f"{_TENANT}/keys/{{key_id}}/rotate", "rotateKey", "A new key; the old one works on for a while", ADMIN,
        scope="admin", answer=api_types.RotationAnswer, success=201, refusals=(400, 404, 409, 413, 429),
        parameters=(_SLUG, _KEY_ID), body=administration.Rotation, body_example={"overlap_s": 86400},
    ),
    Operation(
        "delete", f"{_TENANT}/keys/{{key_id}}", "revokeKey", "End a key within seconds", ADMIN, scope="admin",
        answer=api_types.KeyAnswer, refusals=(404, 409, 429), parameters=(_SLUG, _KEY_ID),
    ),
    Operation("get", "/healthz", "isAlive", "200 while the process works", ANYONE, answer=api_types.Alive),
    Operation(
        "get", "/readyz", "isReady", "200 while requests can be served", ANYONE, answer=api_types.Ready, refusals=(503,),
    ),
    Operation("get", "/metrics", "getMetrics", "Prometheus metrics", ANYONE, answer_type="text/plain"),
    Operation("get", "/", "getRoot", "What there is", ANYONE, answer=dict[str, Any]),
    Operation("get", DESCRIPTION_PATH, "getDescription", "This description", ANYONE, answer=dict[str, Any]),
)  # fmt: skip
