"""POST blocks: the agents' records, from body to answer.

Order: key → content type → body (bounded) → records checked and inflated → writer → one outcome per record. Nothing is
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
from collector import blocks, tenants
from collector.errors import CollectorError, UnsupportedType, entry_of
from collector.metrics import Metrics
from collector.parts import CONFIG, INTAKE, KEYRING, METRICS, TENANT_ID, THREADS, WRITER
from collector.tenants import Tenant

_encode = msgspec.json.Encoder().encode


async def post_blocks(request: web.Request) -> web.Response:
    """A run of records in, an `agent.wire.Answer` out."""
    app = request.app
    try:
        tenant = await app[KEYRING].tenant_of(request.headers, tenants.INGEST)
        request[TENANT_ID] = tenant.tenant_id
        _check_type(request)
        limit = min(app[CONFIG].server.max_request_bytes, tenant.limits.max_request_bytes)
        taken = app[INTAKE].body(request.content, announced=request.content_length, limit=limit, tenant_id=tenant.tenant_id)
        async with taken as body:
            app[METRICS].request_bytes.labels(wire.BLOCKS_PATH).inc(len(body))
            parcels = await _open(app, body, tenant, replay=request.headers.get(wire.REPLAY_HEADER, "") == "1")
            outcomes = await app[WRITER].submit(parcels)
    except CollectorError as error:
        app[METRICS].runs_refused.labels(entry_of(type(error))[1]).inc()
        raise
    _count(app[METRICS], outcomes)
    answer = wire.Answer(tenant.tenant_id, tuple(outcomes))
    return web.Response(body=_encode(answer), content_type=wire.ANSWER_TYPE)


def _check_type(request: web.Request) -> None:
    if request.content_type != wire.RUN_TYPE:
        raise UnsupportedType(f"Content-Type: expected {wire.RUN_TYPE}, got {request.content_type}")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise UnsupportedType("Content-Encoding: expected none, records are compressed already; send the run as it is")


async def _open(app: web.Application, body: bytes, tenant: Tenant, *, replay: bool) -> list[blocks.Parcel]:
    """Always in a thread: a small body may inflate to much, and the event loop serves everybody."""
    work = partial(blocks.open_run, body, tenant=tenant, now_ns=time.time_ns(), replay=replay)
    return await asyncio.get_running_loop().run_in_executor(app[THREADS], work)


def _count(metrics: Metrics, outcomes: Sequence[wire.RecordOutcome]) -> None:
    for outcome in outcomes:
        metrics.records.labels(outcome.outcome).inc()
        for name in (wire.ACCEPTED, wire.DUPLICATE, wire.EXPIRED, wire.REJECTED):
            if count := getattr(outcome, name):
                metrics.events.labels(name).inc(count)
