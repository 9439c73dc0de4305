"""What a tenant is told about its own data as a whole: stats, outcomes by the hour, its agents.

Every figure is the tenant's own: what is kept, what became of what it sent, what its agents lost before that.
"""

from __future__ import annotations

import time
from collections import Counter

from aiohttp import web

from collector.ingest.moments import show_moment
from collector.ingest.outcomes_log import HOUR_S, Count
from collector.parts import AGENTS, OUTCOMES
from collector.search import filters, query, summary
from collector.search.parameters import Parameters
from collector.search.query import DAY_US
from collector.search.read_types import AgentsAnswer, LossRecords, OutcomesAnswer, StatsAnswer
from collector.search.reading import json_of, reader_of, running

STATS_PARAMETERS = (*query.WINDOW_PARAMETERS, *filters.PARAMETERS)
OUTCOMES_DEFAULT_US = DAY_US
OUTCOMES_LONGEST_DAYS = 92


async def get_stats(request: web.Request) -> web.Response:
    """How much the tenant has here, and what its agents reported as lost. Filters narrow the events, not the losses."""
    tenant = await reader_of(request, reads_query=True)
    search = query.parse(
        request.query.items(),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
        known=STATS_PARAMETERS,
    )
    since_us = search.start_us if "start_time" in request.query else 0
    async with running(request, tenant, "stats") as run:
        events = summary.event_sums(await run(summary.events_of(search)))
        losses = summary.loss_sums(await run(summary.losses_of(tenant.tenant_id, since_us, search.end_us)))
    return json_of(
        StatsAnswer(
            tenant_id=tenant.tenant_id,
            retention_days=tenant.limits.retention_days,
            start_time=show_moment(search.start_us),
            end_time=show_moment(search.end_us),
            events=events,
            losses=losses,
        )
    )


async def get_outcomes(request: web.Request) -> web.Response:
    """What became of what was sent, by the hour: of the last day if not asked otherwise."""
    tenant = await reader_of(request, reads_query=True)
    start_us, end_us = _window(request, time.time_ns() // 1000)
    start_s, end_s = start_us // 1_000_000 // HOUR_S * HOUR_S, end_us // 1_000_000
    kept = request.app[OUTCOMES]
    async with running(request, tenant, "outcomes") as run:
        rows = await run(kept.statement(tenant.tenant_id, start_s, end_s))
        counts = kept.shown(tenant.tenant_id, start_s, end_s, rows)
        losses = summary.loss_sums(await run(summary.losses_of(tenant.tenant_id, start_us, end_us)))
        newest = summary.losses_shown(await run(summary.newest_losses_of(tenant.tenant_id, start_us, end_us)))
    return json_of(
        OutcomesAnswer(
            start_time=show_moment(start_s * 1_000_000),
            end_time=show_moment(end_us),
            total=_total(counts),
            outcomes=summary.outcome_sums(counts),
            hours=summary.hours(counts),
            losses=LossRecords(losses.count, losses.bytes, losses.at_least, losses.by_reason, newest),
        )
    )


async def get_agents(request: web.Request) -> web.Response:
    """Every agent that sent a heartbeat, the one furthest behind first."""
    tenant = await reader_of(request)
    kept = request.app[AGENTS]
    async with running(request, tenant, "agents") as run:
        rows = await run(kept.statement(tenant.tenant_id))
    return json_of(AgentsAnswer(kept.shown(tenant.tenant_id, rows)))


def _window(request: web.Request, now_us: int) -> tuple[int, int]:
    """Start and end, µs; whole hours count. Raises Invalid."""
    given = Parameters(request.query.items(), known=query.WINDOW_PARAMETERS)
    end_us = given.moment("end_time", now_us, now_us)
    start_us = given.moment("start_time", now_us, end_us - OUTCOMES_DEFAULT_US)
    if end_us < start_us:
        given.fault("end_time", "lies before start_time", given.get("end_time"), "swap the two")
    if end_us - start_us > OUTCOMES_LONGEST_DAYS * DAY_US:
        error = f"lies more than {OUTCOMES_LONGEST_DAYS} days before end_time"
        given.fault("start_time", error, given.get("start_time"), "ask for less at once")
    given.check()
    return max(0, start_us), end_us


def _total(counts: list[Count]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total[count.outcome] += count.events
    return dict(total)
