"""POST blocks: the agents' records, from body to answer.

Order: key → content type → body (bounded) → records checked and inflated → budget → writer → one outcome per record. Nothing is
answered 200 before the store has confirmed the commit that holds it. A body that cannot be used is refused whole, with
the place of the fault; of a body that can, every record gets an outcome of its own.

A caller that goes away meanwhile changes nothing: what was submitted is committed, and a retry finds duplicates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import msgspec
from aiohttp import web

from agent import wire
from collector.errors import CollectorError, Forbidden, RateLimited, UnsupportedType, entry_of, shown
from collector.ingest import blocks
from collector.ingest.outcomes_log import RATE_LIMITED
from collector.limits.quota import Charge, Quota
from collector.metrics import Metrics
from collector.parts import AGENTS, CONFIG, INTAKE, METRICS, OUTCOMES, QUOTA, STORE, THREADS, WRITER
from collector.search import event_by_id
from collector.search.agents import Agents
from collector.tenants import caller, tenants
from collector.tenants.tenants import Tenant
from collector.writing import parcels

_encode = msgspec.json.Encoder().encode


async def post_blocks(request: web.Request) -> web.Response:
    """A run of records in, an `agent.wire.Answer` out."""
    app = request.app
    try:
        tenant = await caller.tenant_of(request, tenants.INGEST)
        _check_type(request)
        check_owner(request, tenant)
        limit = min(app[CONFIG].server.max_request_bytes, tenant.limits.max_request_bytes)
        taken = app[INTAKE].body(request.content, announced=request.content_length, limit=limit, tenant_id=tenant.tenant_id)
        async with taken as body:
            app[METRICS].request_bytes.labels(wire.BLOCKS_PATH).inc(len(body))
            parcels = await _open(app, body, tenant, replay=request.headers.get(wire.REPLAY_HEADER, "") == "1")
            written = [parcel for parcel in parcels if parcel.header.kind in (wire.DATA, wire.LOSS)]
            outcomes = await _write(app, tenant, written)
            outcomes += await _completed(app, tenant, parcels)
            outcomes += _heard(app[AGENTS], tenant, parcels)
    except CollectorError as error:
        app[METRICS].runs_refused.labels(entry_of(type(error))[1]).inc()
        raise
    answer = wire.Answer(tenant.tenant_id, tuple(outcomes), tenant.limits.retention_days)
    return web.Response(body=_encode(answer), content_type=wire.ANSWER_TYPE)


def _check_type(request: web.Request) -> None:
    if request.content_type != wire.RUN_TYPE:
        raise UnsupportedType(f"Content-Type: expected {wire.RUN_TYPE}, got {shown(request.content_type)}")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise UnsupportedType("Content-Encoding: expected none, records are compressed already; send the run as it is")


def check_owner(request: web.Request, tenant: Tenant) -> None:
    """What was read for one tenant is not stored for another because somebody mixed up two keys."""
    owner = request.headers.get(wire.TENANT_HEADER, tenant.tenant_id)
    if owner != tenant.tenant_id:
        raise Forbidden("this agent's data belongs to another tenant than the key; nothing was stored, check api_key")


async def _open(app: web.Application, body: bytes, tenant: Tenant, *, replay: bool) -> list[parcels.Parcel]:
    """Always in a thread: a small body may inflate to much, and the event loop serves everybody."""
    work = partial(blocks.open_run, body, tenant=tenant, now_ns=time.time_ns(), replay=replay)
    return await asyncio.get_running_loop().run_in_executor(app[THREADS], work)


async def _write(app: web.Application, tenant: Tenant, parcels: list[parcels.Parcel]) -> list[wire.RecordOutcome]:
    """Within the tenant's budget; everything that became of the events is counted here."""
    events = sum(parcel.events for parcel in parcels if parcel.header.kind == wire.DATA)
    try:
        charge = await _admit(app[QUOTA], tenant, parcels)
    except RateLimited as error:
        app[OUTCOMES].note(tenant.tenant_id, RATE_LIMITED, events, reason=entry_of(type(error))[1])
        raise
    try:
        outcomes = await app[WRITER].submit(parcels)
    except CollectorError:
        await charge.settle(0, 0)
        raise
    await charge.settle(*_accepted(parcels, outcomes))
    _count(app[METRICS], outcomes)
    sized = [(outcome, len(parcel.lines)) for parcel, outcome in zip(parcels, outcomes, strict=True) if not parcel.losses]
    app[OUTCOMES].note_records(tenant.tenant_id, sized)
    return outcomes


async def _completed(app: web.Application, tenant: Tenant, parcels: Sequence[parcels.Parcel]) -> list[wire.RecordOutcome]:
    """After the commit: what a run replaces may have come with it. Sent again, it does the same again."""
    outcomes = []
    for parcel in parcels:
        if parcel.header.kind == wire.COMPLETED:
            await event_by_id.replace_partial(app[STORE], tenant.tenant_id, parcel.completed)
            outcomes.append(wire.RecordOutcome(parcel.header.record_id, wire.ACCEPTED))
    return outcomes


def _heard(agents: Agents, tenant: Tenant, parcels: Sequence[parcels.Parcel]) -> list[wire.RecordOutcome]:
    """Heartbeats cost no budget and wait for no commit: the next one says more."""
    outcomes = []
    for parcel in parcels:
        if parcel.heartbeat is not None:
            agents.take(tenant.tenant_id, parcel.header, parcel.heartbeat)
            outcomes.append(wire.RecordOutcome(parcel.header.record_id, wire.ACCEPTED))
    return outcomes


async def _admit(quota: Quota, tenant: Tenant, parcels: Sequence[parcels.Parcel]) -> Charge:
    """A run is admitted whole, on credit: its records are bytes on the agent's disk that cannot be made smaller."""
    paid = [parcel for parcel in parcels if parcel.header.kind == wire.DATA]
    return await quota.admit(
        tenant, events=sum(parcel.events for parcel in paid), size_bytes=sum(len(parcel.lines) for parcel in paid)
    )


def _accepted(parcels: Sequence[parcels.Parcel], outcomes: Sequence[wire.RecordOutcome]) -> tuple[int, int]:
    """Events and bytes that are stored now and were not before."""
    events = size = 0
    for parcel, outcome in zip(parcels, outcomes, strict=True):
        if parcel.header.kind == wire.DATA and parcel.events:
            events += outcome.accepted
            size += len(parcel.lines) * outcome.accepted // parcel.events
    return events, size


def _count(metrics: Metrics, outcomes: Sequence[wire.RecordOutcome]) -> None:
    for outcome in outcomes:
        metrics.records.labels(outcome.outcome).inc()
        for name in (wire.ACCEPTED, wire.DUPLICATE, wire.EXPIRED, wire.REJECTED):
            if count := getattr(outcome, name):
                metrics.events.labels(name).inc(count)
