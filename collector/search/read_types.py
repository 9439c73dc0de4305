"""What the reading side of the API answers. Pure types: the API's description is made from them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class SourceShown(msgspec.Struct, frozen=True):
    service: str
    endpoint: str
    method: str
    version: str
    environment: str
    name: str
    """The log or application within the service."""


class EventShown(msgspec.Struct, frozen=True):
    """A stored event. Texts are empty, and the members of the groups absent, where it did not say."""

    id: str
    event_id: str
    external_id: str
    """The same as ``id`` and ``event_id``."""
    event_type: str
    title: str
    message: str
    severity: str
    timestamp: str
    observed_timestamp: str
    source: SourceShown
    context: dict[str, Any]
    """user_id, session_id, request_id, ip_address, user_agent, tags."""
    metrics: dict[str, Any]
    """response_time_ms, status_code, request_size_bytes, response_size_bytes."""
    error_details: dict[str, Any]
    """error_code, error_message, error_type, stack_trace."""
    attributes: dict[str, str]
    payload: Any
    metadata: Any
    trace_id: str
    span_id: str
    agent: str
    path: str
    offset: int | None
    """Where in its file the event begins, for a line of a file."""
    parse_error: str


class SearchAnswer(msgspec.Struct, frozen=True):
    """One page of the events that match.

    `total_count` is how many events match all filters, on all pages together (the least there are, where
    `total_is_exact` is false: counting would cost more than the page, see `count`). `filtered_count` is how many of them
    are in this answer: the length of `events`, never more than `limit`. `next_cursor` leads to the next page, while
    `has_more` is true. Where `partial` is true the search was given up at a bound (`partial_reason`): the events shown
    are the first in order, but how many follow is not known.
    """

    events: list[EventShown]
    total_count: int
    total_is_exact: bool
    filtered_count: int
    has_more: bool
    next_cursor: str | None
    partial: bool
    search_id: str
    execution_time_ms: float
    partial_reason: str = ""


class ContextAnswer(msgspec.Struct, frozen=True):
    """What stands before and after an event, in order. A cursor goes on in its direction; null: nothing follows there."""

    by: Literal["file", "time"]
    """The neighbours are lines of the same file, or events of the same service by time."""
    exact: bool
    """False: lines across a file's first 4096 bytes are among them, found by path, agent and time."""
    before: list[EventShown]
    """The nearest last."""
    event: EventShown
    after: list[EventShown]
    before_cursor: str | None
    after_cursor: str | None
    execution_time_ms: float


class LossSum(msgspec.Struct, frozen=True):
    count: int
    bytes: int
    events: int
    at_least: bool
    """A figure is a lower bound: not all that was lost could be counted."""
    came_back: int = 0
    """Losses that were taken back, since what was told lost came back: none of the figures counts them."""


class Losses(msgspec.Struct, frozen=True):
    """What agents reported as lost before it reached a collector."""

    count: int
    bytes: int
    at_least: bool
    by_reason: dict[str, LossSum]


class EventSums(msgspec.Struct, frozen=True):
    count: int
    oldest: str | None
    newest: str | None
    by_severity: dict[str, int]
    by_event_type: dict[str, int]
    by_service: dict[str, int]
    """The hundred with the most events."""


class StatsAnswer(msgspec.Struct, frozen=True):
    tenant_id: str
    retention_days: int
    start_time: str
    end_time: str
    events: EventSums
    losses: Losses


class OutcomeSum(msgspec.Struct, frozen=True):
    outcome: str
    reason: str
    """A code; empty where there is nothing to say."""
    events: int
    bytes: int
    """Of accepted events; 0 where they were not measured."""


class HourOutcomes(msgspec.Struct, frozen=True):
    hour: str
    outcomes: list[OutcomeSum]


class LossShown(msgspec.Struct, frozen=True):
    loss_id: str
    time: str
    agent: str
    scope: str
    source: str
    path: str
    file_id: str
    reason: str
    lost_bytes: int
    events: int
    at_least: bool
    offset: int


class LossRecords(msgspec.Struct, frozen=True):
    count: int
    bytes: int
    at_least: bool
    by_reason: dict[str, LossSum]
    newest: list[LossShown]
    """The hundred newest."""


class OutcomesAnswer(msgspec.Struct, frozen=True):
    """Answers that were given, not events: what was refused and sent again is counted again."""

    start_time: str
    end_time: str
    total: dict[str, int]
    """Events by outcome."""
    outcomes: list[OutcomeSum]
    hours: list[HourOutcomes]
    losses: LossRecords


class FileShown(msgspec.Struct, frozen=True):
    """A file of an agent, as its last heartbeat said."""

    path: str
    source: str
    size_bytes: int
    read_bytes: int
    acked_bytes: int | None
    """Null: nothing of it was acknowledged since the agent started."""
    lag_bytes: int
    """What is in the file and not acknowledged."""
    lag_seconds: float
    """Age of the oldest byte that is not acknowledged, to a few seconds."""
    state: str
    error: str


class AgentShown(msgspec.Struct, frozen=True):
    agent: str
    scope: str
    version: str
    started: str
    """When this process of the agent did."""
    last_seen: str
    silent_seconds: float
    stopped: bool
    """It said goodbye: its silence is meant."""
    sending: str
    reading: str
    lag_bytes: int
    lag_seconds: float
    """Of the file that is furthest behind."""
    spool_bytes: int
    unsynced_bytes: int
    held_bytes: int
    """Read, and not acknowledged."""
    quarantined_records: int
    rejected_events: int
    lost_bytes: int
    losses: dict[str, int]
    """Lost bytes by reason, since the agent started."""
    recovered_bytes: int
    """Of bytes that were told lost: those that came back since the agent started."""
    files_total: int
    files: list[FileShown]
    """Those furthest behind."""


class AgentsAnswer(msgspec.Struct, frozen=True):
    agents: list[AgentShown]


class ComponentHealth(msgspec.Struct, frozen=True):
    status: str
    """ok, degraded or down."""
    detail: str = ""


class HealthAnswer(msgspec.Struct, frozen=True):
    status: str
    """healthy, degraded or unhealthy."""
    version: str
    uptime_seconds: float
    components: dict[str, ComponentHealth]
