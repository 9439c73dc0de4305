"""Sums over what a tenant has: statements with bound parameters, and their rows as they are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from collector.ingest.moments import show_moment
from collector.ingest.outcomes_log import Count
from collector.search.query import Search, Statement, where_of
from collector.search.read_types import EventSums, HourOutcomes, Losses, LossShown, LossSum, OutcomeSum

MAX_SERVICES = 100
MAX_LOSSES = 100

_CAME_BACK = "lost_bytes = 0 AND events = 0"
_LOSS_COLUMNS = "agent, scope, source, path, file_id"
_IN_WINDOW = (
    "tenant_id = {tenant:String} AND time >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
    "AND time <= fromUnixTimestamp64Micro({end:Int64}, 'UTC')"
)


def events_of(search: Search) -> Statement:
    """Rows of severity, event type, service, whether it is a row of a service, number, earliest and latest time (µs)."""
    where, params = where_of(search)
    return Statement(
        "SELECT severity, event_type, toValidUTF8(service), grouping(severity) AS by_service, count() AS number, "
        "toUnixTimestamp64Micro(min(timestamp)), toUnixTimestamp64Micro(max(timestamp)) "
        f"FROM events FINAL WHERE {where} GROUP BY GROUPING SETS ((severity, event_type), (service)) "
        f"ORDER BY by_service, number DESC, service LIMIT {MAX_SERVICES} BY by_service",
        params,
    )


def event_sums(rows: Iterable[Sequence[Any]]) -> EventSums:
    """The rows of `events_of`."""
    severities: dict[str, int] = {}
    types: dict[str, int] = {}
    services: dict[str, int] = {}
    times: list[int] = []
    for severity, event_type, service, by_service, number, oldest_us, newest_us in rows:
        if by_service:
            services[service] = services.get(service, 0) + number
            continue
        severities[severity] = severities.get(severity, 0) + number
        types[event_type] = types.get(event_type, 0) + number
        times += (oldest_us, newest_us)
    return EventSums(
        count=sum(severities.values()),
        oldest=show_moment(min(times)) if times else None,
        newest=show_moment(max(times)) if times else None,
        by_severity=severities,
        by_event_type=types,
        by_service=services,
    )


def losses_of(tenant_id: str, start_us: int, end_us: int) -> Statement:
    """Per reason: records, bytes, events, and whether one of the figures is a lower bound."""
    return Statement(
        f"SELECT reason, countIf(NOT ({_CAME_BACK})), sum(lost_bytes), sum(events), max(at_least), countIf({_CAME_BACK}) "
        "FROM losses FINAL "
        f"WHERE {_IN_WINDOW} GROUP BY reason ORDER BY reason",
        {"tenant": tenant_id, "start": start_us, "end": end_us},
    )


def newest_losses_of(tenant_id: str, start_us: int, end_us: int) -> Statement:
    return Statement(
        f"SELECT loss_id, toUnixTimestamp64Micro(time), {', '.join(f'toValidUTF8({c})' for c in _LOSS_COLUMNS.split(', '))}, "
        "reason, lost_bytes, events, at_least, offset FROM losses FINAL "
        f"WHERE {_IN_WINDOW} ORDER BY time DESC, loss_id LIMIT {MAX_LOSSES}",
        {"tenant": tenant_id, "start": start_us, "end": end_us},
    )


def loss_sums(rows: Iterable[Sequence[Any]]) -> Losses:
    """The rows of `losses_of`."""
    by_reason = {
        reason: LossSum(count, lost, events, bool(at_least), back) for reason, count, lost, events, at_least, back in rows
    }
    return Losses(
        count=sum(loss.count for loss in by_reason.values()),
        bytes=sum(loss.bytes for loss in by_reason.values()),
        at_least=any(loss.at_least for loss in by_reason.values()),
        by_reason=by_reason,
    )


def losses_shown(rows: Iterable[Sequence[Any]]) -> list[LossShown]:
    """The rows of `newest_losses_of`."""
    return [
        LossShown(
            loss_id, show_moment(time_us), agent, scope, source, path, file_id, reason, lost, events, bool(at_least), offset
        )
        for loss_id, time_us, agent, scope, source, path, file_id, reason, lost, events, at_least, offset in rows
    ]


def outcome_sums(counts: Iterable[Count]) -> list[OutcomeSum]:
    """Over all hours, by outcome and reason."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for count in counts:
        events, size = sums.get((count.outcome, count.reason), (0, 0))
        sums[count.outcome, count.reason] = events + count.events, size + count.size
    return [OutcomeSum(*name, *figures) for name, figures in sorted(sums.items())]


def hours(counts: Sequence[Count]) -> list[HourOutcomes]:
    """Hours in which anything was answered, oldest first."""
    by_hour: dict[int, list[Count]] = {}
    for count in counts:
        by_hour.setdefault(count.hour_s, []).append(count)
    return [HourOutcomes(show_moment(hour_s * 1_000_000), outcome_sums(found)) for hour_s, found in sorted(by_hour.items())]
