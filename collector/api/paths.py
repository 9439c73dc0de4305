"""Every operation of the API, as `collector.api.openapi` describes it. A test keeps this list and the routes the same."""

from __future__ import annotations

from typing import Any, NamedTuple

from agent import wire
from collector.api import api_types
from collector.api.parameters import (
    AGGREGATE,
    ANY_EVENT_ID,
    CONTEXT,
    DRY_RUN,
    EVENT,
    EVENT_ID,
    EXPORT,
    FACETS,
    FILTERS,
    HISTOGRAM,
    ID,
    IDEMPOTENCY,
    KEY_ID,
    OFFSET,
    PAGE,
    SAVED,
    SEARCH_ID,
    SLUG,
    WINDOW,
    Parameter,
)
from collector.figures import aggregate_types, answers
from collector.ingest import event_types, events
from collector.limits import allowance
from collector.saved import saving, searches
from collector.search import ids, read_types, reports
from collector.streams import export, shapes, tail
from collector.tenants import administration, whose

KEY, ADMIN, ANYONE = "key", "admin", ""
JSON = "application/json"
INGESTION = "/api/v1/ingestion"
DESCRIPTION_PATH = "/api/v1/openapi.json"


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


_TENANT = f"{administration.TENANTS_PATH}/{{slug}}"

OPERATIONS = (
    Operation(
        "post", events.EVENTS_PATH, "ingestEvent", "Store one event",
        scope="ingest", answer=event_types.EventAnswer, refusals=(400, 413, 415, 429),
        parameters=(DRY_RUN, IDEMPOTENCY), body=api_types.EventBody, body_example=EVENT,
    ),
    Operation(
        "post", events.BATCH_PATH, "ingestBatch", "Store many events; each has its own outcome",
        scope="ingest", answer=event_types.BatchAnswer, refusals=(400, 413, 415, 429),
        parameters=(
            DRY_RUN,
            Parameter("results", "failures: list only the events that failed.", {"enum": ["all", "failures"]}, "all"),
            IDEMPOTENCY,
        ),
        body=api_types.BatchBody, body_example={"events": [EVENT]}, more_bodies=("application/x-ndjson",),
    ),
    Operation(
        "post", wire.BLOCKS_PATH, "ingestRecords", "Records of agents", scope="ingest", answer=wire.Answer,
        answer_type=wire.ANSWER_TYPE, refusals=(400, 413, 415, 429), more_bodies=(wire.RUN_TYPE,),
    ),
    Operation(
        "get", f"{INGESTION}/events/search", "searchEvents", "Find events; newest first",
        scope="search", answer=read_types.SearchAnswer, refusals=(429,), parameters=(*WINDOW, *FILTERS, *PAGE),
        more_answers=("application/x-ndjson",),
    ),
    Operation(
        "get", f"{INGESTION}/events/histogram", "countOverTime", "Numbers of events over time, in all or by a field's values",
        scope="search", answer=answers.HistogramAnswer, refusals=(429,), parameters=(*WINDOW, *FILTERS, *HISTOGRAM),
    ),
    Operation(
        "get", f"{INGESTION}/events/facets", "countByValue", "The values of fields with the most events, and their numbers",
        scope="search", answer=answers.FacetsAnswer, refusals=(429,), parameters=(*WINDOW, *FILTERS, *FACETS),
    ),
    Operation(
        "get", f"{INGESTION}/events/fields", "listFields", "The fields that events have, with types and examples",
        scope="search", answer=answers.FieldsAnswer, refusals=(429,), parameters=(*WINDOW, *FILTERS),
    ),
    Operation(
        "get", tail.PATH, "tailEvents",
        "Every event that matches, as it is committed: Server-Sent Events, each with an id; open, gap and error besides",
        scope="search", answer_type=tail.CONTENT_TYPE, refusals=(429,),
        parameters=(
            *FILTERS,
            Parameter("cursor", "Go on behind the event with this id.", {"type": "string"}),
            Parameter(tail.LAST_ID_HEADER, "The same, from browsers; it goes before a cursor.", {"type": "string"},
                      place="header"),
        ),
    ),
    Operation(
        "get", export.PATH, "exportEvents",
        "Every event that matches, once, as a stream; one that ends in order is whole, a fault cuts the connection off",
        scope="search", answer_type=shapes.TYPES[0], more_answers=shapes.TYPES[1:], refusals=(429,),
        parameters=(*WINDOW, *FILTERS, *EXPORT),
    ),
    Operation(
        "get", f"{INGESTION}/events/context/{{event_id}}", "getContext", "What stands before and after an event in its file",
        scope="search", answer=read_types.ContextAnswer, refusals=(404, 429), parameters=(ANY_EVENT_ID, *CONTEXT),
    ),
    Operation(
        "post", f"{INGESTION}/events/aggregate", "aggregateEvents", "Figures over the events that match, by fields, over time",
        scope="search", answer=aggregate_types.AggregateAnswer, refusals=(400, 413, 429),
        body=aggregate_types.AggregateBody, body_example=AGGREGATE,
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
        scope="search", answer=read_types.EventShown, refusals=(404, 429), parameters=(EVENT_ID,),
    ),
    Operation(
        "delete", f"{INGESTION}/events/{{event_id}}", "deleteEvent", "Delete one event; again does nothing",
        scope="delete", answer=event_types.DeleteAnswer, refusals=(404, 429), parameters=(EVENT_ID,),
    ),
    Operation(
        "get", wire.IDS_PATH, "listIds", "IDs of stored events, in order; what agents compare their files with",
        scope="ingest", answer=wire.IdsAnswer, refusals=(429,),
        parameters=(
            Parameter("from", "The least ID that is meant.", ID, "00c0ffee00c0ffee-", required=True),
            Parameter("to", "The greatest ID that is meant, or any text behind it.", ID, "00c0ffee00c0ffee-g", required=True),
            Parameter(
                "limit", "IDs on a page.",
                {"type": "integer", "minimum": 1, "maximum": ids.MAX_LIMIT, "default": ids.DEFAULT_LIMIT}, 1000,
            ),
            Parameter("cursor", "next_cursor of the page before, with the same bounds.", ID),
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
            Parameter("from_offset", "A multiple of step.", OFFSET, 0),
            Parameter("to_offset", f"At most {ids.MAX_SUMS} steps further; not included.", OFFSET),
            Parameter(
                "step", "Bytes that are summed up together.",
                {"type": "integer", "minimum": ids.MIN_STEP, "maximum": ids.MAX_STEP, "default": 1 << 20},
            ),
        ),
    ),
    Operation(
        "get", f"{INGESTION}/stats", "getStats", "How much is kept, and what agents lost",
        scope="search", answer=read_types.StatsAnswer, refusals=(429,), parameters=(*WINDOW, *FILTERS),
    ),
    Operation(
        "get", searches.PATH, "listSearches", "Saved searches, by name", scope="search", answer=saving.SavedSearchesAnswer,
        refusals=(429,),
    ),
    Operation(
        "post", searches.PATH, "saveSearch", "Keep a search under a name", scope="search", answer=saving.SavedAnswer,
        success=201, refusals=(400, 409, 413, 429), body=searches.SavedBody, body_example=SAVED,
    ),
    Operation(
        "get", f"{searches.PATH}/{{search_id}}", "getSearch", "One saved search", scope="search",
        answer=saving.SavedAnswer, refusals=(404, 429), parameters=(SEARCH_ID,),
    ),
    Operation(
        "put", f"{searches.PATH}/{{search_id}}", "changeSearch", "Put a search in the place of a saved one", scope="search",
        answer=saving.SavedAnswer, refusals=(400, 404, 409, 413, 429), parameters=(SEARCH_ID,), body=searches.SavedBody,
        body_example=SAVED,
    ),
    Operation(
        "delete", f"{searches.PATH}/{{search_id}}", "deleteSearch", "Forget a saved search", scope="search",
        answer=saving.UnsavedAnswer, refusals=(404, 429), parameters=(SEARCH_ID,),
    ),
    Operation(
        "get", f"{INGESTION}/outcomes", "getOutcomes", f"What became of what was sent, {reports.OUTCOMES_LONGEST_DAYS} days",
        scope="search", answer=read_types.OutcomesAnswer, refusals=(429,), parameters=WINDOW,
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
        "get", whose.PATH, "getKey", "Whose key this is, and what it may do", answer=whose.KeyAnswer, refusals=(429,),
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
        refusals=(404, 429), parameters=(SLUG,),
    ),
    Operation(
        "patch", _TENANT, "changeTenant", "Change a tenant; what is left out stays", ADMIN, scope="admin",
        answer=api_types.TenantAnswer, refusals=(400, 404, 409, 413, 429), parameters=(SLUG,),
        body=administration.Change, body_example={"limits": {"events_per_minute": 100_000}},
    ),
    Operation(
        "delete", _TENANT, "disableTenant", "Disable a tenant; its events stay until their retention ends", ADMIN,
        scope="admin", answer=api_types.TenantAnswer, refusals=(404, 409, 429), parameters=(SLUG,),
    ),
    Operation(
        "get", f"{_TENANT}/keys", "listKeys", "A tenant's keys", ADMIN, scope="admin", answer=api_types.KeysAnswer,
        refusals=(404, 429), parameters=(SLUG,),
    ),
    Operation(
        "post", f"{_TENANT}/keys", "addKey", "One more key", ADMIN, scope="admin", answer=api_types.NewKeyAnswer,
        success=201, refusals=(400, 404, 409, 413, 429), parameters=(SLUG,), body=administration.NewKey,
        body_example={"name": "agents", "scopes": ["ingest"]},
    ),
    Operation(
        "post", f"{_TENANT}/keys/{{key_id}}/rotate", "rotateKey", "A new key; the old one works on for a while", ADMIN,
        scope="admin", answer=api_types.RotationAnswer, success=201, refusals=(400, 404, 409, 413, 429),
        parameters=(SLUG, KEY_ID), body=administration.Rotation, body_example={"overlap_s": 86400},
    ),
    Operation(
        "delete", f"{_TENANT}/keys/{{key_id}}", "revokeKey", "End a key within seconds", ADMIN, scope="admin",
        answer=api_types.KeyAnswer, refusals=(404, 409, 429), parameters=(SLUG, KEY_ID),
    ),
    Operation("get", "/healthz", "isAlive", "200 while the process works", ANYONE, answer=api_types.Alive),
    Operation(
        "get", "/readyz", "isReady", "200 while requests can be served", ANYONE, answer=api_types.Ready, refusals=(503,),
    ),
    Operation("get", "/metrics", "getMetrics", "Prometheus metrics", ANYONE, answer_type="text/plain"),
    Operation("get", "/", "getRoot", "What there is", ANYONE, answer=dict[str, Any]),
    Operation("get", DESCRIPTION_PATH, "getDescription", "This description", ANYONE, answer=dict[str, Any]),
)  # fmt: skip
