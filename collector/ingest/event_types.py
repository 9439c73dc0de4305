"""An event as API clients send it: its parts, what each may hold, and the answers they get. Pure types.

- The types are the check: `collector.ingest.event_checks` decodes into them, and the API's description is made from them.
- ``null`` is the same as leaving a member out, wherever a member may be left out.
- Members that are not known here are no error: they are kept as attributes, under their path (``source.region``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from collector.errors import FieldError

EVENT_TYPES = {
    "api_call": "a request that an API served or made",
    "user_action": "something a user did",
    "system_event": "something a system did by itself: started, stopped, scaled, ran a job",
    "error_event": "something that went wrong",
    "custom_event": "anything else",
    "log": "a line of a log",
}
SEVERITIES = {
    "debug": "for those who develop the service",
    "info": "as it should be",
    "warning": "unexpected, nothing is lost",
    "error": "something failed",
    "critical": "somebody has to act now",
}
"""In rising order."""

MAX_ID_CHARS = 200
MAX_ATTRIBUTES = 1000

Word = Annotated[str, Meta(min_length=1, max_length=200)]
OptionalWord = Annotated[str, Meta(max_length=200)] | None
Line = Annotated[str, Meta(min_length=1, max_length=4096)]
OptionalLine = Annotated[str, Meta(max_length=4096)] | None
Size = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | None
Json = msgspec.Raw
NOTHING = Json(b"")


class Source(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Where the event comes from."""

    service: Word
    endpoint: Line
    method: Word
    version: OptionalWord = None
    environment: OptionalWord = None
    name: OptionalWord = None
    """The log or application within the service; else the batch's ``source_application``."""


class Context(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """On whose behalf it happened."""

    user_id: OptionalLine = None
    session_id: OptionalLine = None
    request_id: OptionalLine = None
    ip_address: OptionalWord = None
    user_agent: OptionalLine = None
    tags: Annotated[list[Word], Meta(max_length=100)] | None = None


class Metrics(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    response_time_ms: Annotated[float, Meta(ge=0)] | None = None
    status_code: Annotated[int, Meta(ge=0, le=65535)] | None = None
    request_size_bytes: Size = None
    response_size_bytes: Size = None


class ErrorDetails(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    error_code: OptionalWord = None
    error_message: str | None = None
    error_type: OptionalWord = None
    stack_trace: str | None = None


class ApiEvent(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One event as it is sent."""

    event_type: Literal["api_call", "user_action", "system_event", "error_event", "custom_event", "log"]
    title: Line
    source: Source
    event_id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    """The sender's own name for the event. Sent again, it is the same event. Made here if it is left out."""
    message: str | None = None
    severity: Literal["debug", "info", "warning", "error", "critical"] | None = None
    """``info`` if it is left out."""
    timestamp: str | int | float | None = None
    """ISO 8601, or seconds, ms, µs or ns since 1970; when it is left out, the time of arrival."""
    context: Context | None = None
    metrics: Metrics | None = None
    error_details: ErrorDetails | None = None
    attributes: dict[str, Any] | None = None
    """Names and values to filter by; what is no text is kept as JSON text."""
    payload: Json = NOTHING
    metadata: Json = NOTHING
    """Any JSON; both are kept as they were sent."""
    trace_id: OptionalWord = None
    span_id: OptionalWord = None


class EventAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one event."""

    success: bool
    event_id: str
    outcome: Literal["accepted", "duplicate"]
    processing_status: Literal["completed"]
    message: str
    ingested_at: str | None
    """When the stored event arrived; of a deleted one this is not said."""
    duplicate: bool = False
    deleted: bool = False
    """It was stored once and has been deleted since; it is not stored again."""
    clock_ahead: bool = False
    """Its time lay too far ahead to be used: the time of arrival was taken."""
    dry_run: bool = False
    event: dict[str, Any] | None = None
    """The stored event, where it was there already."""


Outcome = Literal["accepted", "duplicate", "rejected", "rate_limited", "expired"]


class EventResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one event of a batch."""

    index: int
    """Its place in the batch, from 0."""
    success: bool
    event_id: str | None
    outcome: Outcome
    errors: tuple[FieldError, ...] = ()
    deleted: bool = False


class BatchAnswer(msgspec.Struct, frozen=True):
    """The answer to a batch; ``results`` in the order sent."""

    batch_id: str
    total_events: int
    successful_events: int
    failed_events: int
    successful_count: int
    failed_count: int
    processing_status: Literal["completed", "partial", "failed"]
    outcomes: dict[str, int]
    """How many events of each outcome."""
    results: list[EventResult]
    ingested_at: str
    retry_after_s: int | None = None
    """Where events were ``rate_limited``: when to send them again."""
    dry_run: bool = False


class DeleteAnswer(msgspec.Struct, frozen=True):
    success: bool
    event_id: str
    deleted: bool
    message: str
