"""The collector as an aiohttp application: its routes, its life cycle, and what surrounds every request.

Start:  store (opened; a served engine need not be up) → schema (applied; until then everything is answered 503)
        → writer → handlers. Stop runs backwards: no new connections, requests under way end, the writer commits what
        waits, the store closes.
Around a request: it gets an id (the caller's ``X-Request-Id`` if it is a plain one), which is in the answer's header,
in an error's body and in the log line; an error becomes its answer by the table in `collector.errors`; one access line
says method, route, status and time, never a query string, a key or content.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from secrets import token_hex

from aiohttp import web

from agent import wire
from collector.api import openapi
from collector.config import Config, Limits
from collector.errors import HTTP_CODES, Body, ConfigError, Reply, StoreAway, StoreError, answer_of
from collector.figures import aggregate, facets, histogram, names
from collector.ingest import events, ingest, small_bodies
from collector.ingest.intake import Intake
from collector.ingest.outcomes_log import OutcomesLog
from collector.ingest.workbench import Workbench
from collector.limits import allowance, buckets
from collector.limits.quota import Quota
from collector.limits.usage import Usage
from collector.log import ACCESS, fields
from collector.metrics import Metrics
from collector.parts import (
    ADMIN_GATE,
    AGENTS,
    BREAKAGE,
    CONFIG,
    EXPORTS,
    INTAKE,
    KEY_USES,
    KEYRING,
    METRICS,
    OUTCOMES,
    PEERS,
    PLACES,
    PROXIES,
    QUOTA,
    READINESS,
    REGISTERING,
    REQUEST_ID,
    SAVING,
    STOPPING,
    STORE,
    STREAMS,
    TAIL_SEATS,
    TAILS,
    TENANT_ID,
    THREADS,
    TURNSTILE,
    USAGE,
    WORKBENCH,
    WRITER,
    Readiness,
)
from collector.saved import saving
from collector.search import context, event_by_id, ids, reports, search
from collector.search.agents import Agents
from collector.search.bounds import NO_LIMITS
from collector.search.query import Statement
from collector.search.reading import bounded
from collector.search.turnstile import Places, Turnstile
from collector.serving import operations
from collector.serving.forwarding import PROTO_HEADER, Proxies
from collector.serving.front import respond
from collector.serving.peers import ALONE, Peers
from collector.serving.tls import PROBES, certified, shown
from collector.store import schema
from collector.store.breakage import Breakage
from collector.store.lookout import Lookout
from collector.store.sealing import Sealer
from collector.store.store import Row, Store
from collector.streams import export, tail
from collector.streams.seats import Seats
from collector.streams.tails import Tails
from collector.tenants import caller, registration, tenants
from collector.tenants.auth import AdminGate, Keyring
from collector.tenants.caretaker import Caretaker
from collector.tenants.keys import KeyUses
from collector.writing.flusher import Flusher
from collector.writing.writer import Writer

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CATCHING_UP = 2
"""Queries of a tenant under way, its searches included, beyond which none is made for its tails that come back."""
WATCH_INTERVAL_S = 2.0
"""How often the store is asked whether it is there, and the schema tried again while it is not applied."""


def build(config: Config, peers: Peers = ALONE) -> web.Application:
    """The application, not yet started. ``peers``: the other processes on its port."""
    asked = [certified] if config.server.tls.client_certificates == "required_except_probes" else []
    app = web.Application(middlewares=[surround, *asked, caller.leaving], client_max_size=small_bodies.MAX_BODY_BYTES)
    app[CONFIG] = config
    app[PEERS] = peers
    app[METRICS] = Metrics(peers)
    app[READINESS] = Readiness()
    app[PROXIES] = Proxies(config.server.trusted_proxies, config.server.proxy_header)
    app[TURNSTILE] = Turnstile(config.store.readers - 1, config.store.query_timeout_s)
    app[WORKBENCH] = Workbench()
    app[PLACES] = Places()
    app[REGISTERING] = peers.lock("tenants")
    app[SAVING] = peers.lock("searches")
    app[ADMIN_GATE] = AdminGate(config.admin_token, app[METRICS])
    app[INTAKE] = Intake(
        total_bytes=config.writer.queue_bytes,
        tenant_share=config.writer.tenant_share,
        retry_after_s=config.writer.retry_after_s,
    )
    app.cleanup_ctx.extend(
        (_threads, _store, _breakage, _schema, _sealing, _lookout, _tenants, _quota, _reports, _tails, _writer)
    )
    app[STOPPING] = asyncio.Event()
    app[STREAMS] = set()
    app[EXPORTS] = Seats("exports", "streams.max_exports", config.streams.max_exports)
    app[TAIL_SEATS] = Seats("tails", "streams.max_tails", config.streams.max_tails)
    app.on_response_prepare.append(caller.say_budget)
    app.on_response_prepare.append(_say_request)
    app.on_shutdown.append(_say_stop)
    app.router.add_routes(
        [
            web.get("/", operations.get_root),
            web.get("/healthz", operations.get_healthz),
            web.get("/readyz", operations.get_readyz),
            web.get("/metrics", operations.get_metrics),
            web.post(wire.BLOCKS_PATH, ingest.post_blocks),
            web.post(events.EVENTS_PATH, events.post_event),
            web.post(events.BATCH_PATH, events.post_batch),
            web.get("/api/v1/ingestion/events/search", search.get_events),
            web.get(f"{events.EVENTS_PATH}/histogram", histogram.get_histogram),
            web.get(f"{events.EVENTS_PATH}/facets", facets.get_facets),
            web.get(f"{events.EVENTS_PATH}/fields", names.get_fields),
            web.post(f"{events.EVENTS_PATH}/aggregate", aggregate.post_aggregate),
            web.get(f"{events.EVENTS_PATH}/context/{{event_id:[^/]+}}", context.get_context),
            web.get(export.PATH, export.get_export, allow_head=False),
            web.get(tail.PATH, tail.get_tail, allow_head=False),
            web.get(f"{events.EVENTS_PATH}/types", event_by_id.get_types),
            web.get(f"{events.EVENTS_PATH}/severities", event_by_id.get_severities),
            web.get(f"{events.EVENTS_PATH}/{{event_id:[^/]+}}", event_by_id.get_event),
            web.delete(f"{events.EVENTS_PATH}/{{event_id:[^/]+}}", event_by_id.delete_event),
            web.get(wire.IDS_PATH, ids.get_ids),
            web.get(wire.SUMS_PATH, ids.get_sums),
            web.get("/api/v1/ingestion/stats", reports.get_stats),
            web.get("/api/v1/ingestion/outcomes", reports.get_outcomes),
            web.get("/api/v1/ingestion/agents", reports.get_agents),
            web.get("/api/v1/ingestion/health", operations.get_health),
            web.get("/api/v1/openapi.json", openapi.get_openapi),
            web.get(allowance.PATH, allowance.get_rate_limit),
            *saving.routes(),
            *registration.routes(),
        ]
    )
    return app


async def _say_request(request: web.Request, response: web.StreamResponse) -> None:
    """Before an answer is sent; that of a stream is, long before its handler ends."""
    response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
    response.headers["Server"] = "pulsestream"


async def _say_stop(app: web.Application) -> None:
    """What would go on for ever is cut off: its caller goes on where it was, with another collector or with the next."""
    app[STOPPING].set()
    for transport in app[STREAMS]:
        transport.abort()


async def _threads(app: web.Application) -> AsyncIterator[None]:
    with ThreadPoolExecutor(2, "blocks") as app[THREADS]:
        yield


async def _store(app: web.Application) -> AsyncIterator[None]:
    store = app[STORE] = await Store.open(app[CONFIG].store)
    app[KEY_USES] = KeyUses()
    app[KEYRING] = Keyring(partial(tenants.find_key, store), app[METRICS], used=app[KEY_USES].note)
    yield
    await store.close()


async def _breakage(app: web.Application) -> AsyncIterator[None]:
    breakage = app[BREAKAGE] = Breakage(app[STORE], app[METRICS])
    breakage.start()
    yield
    await breakage.stop()


async def _schema(app: web.Application) -> AsyncIterator[None]:
    """Apply the schema now if the engine is there; else start, answer 503, and apply it when the engine comes."""
    try:
        await _apply(app)
    except StoreAway as error:
        _away(app, error)
    watch = asyncio.create_task(_watch(app))
    yield
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch


async def _sealing(app: web.Application) -> AsyncIterator[None]:
    if not app[CONFIG].store.index_words:
        yield
        return
    sealer = Sealer(app[STORE], app[METRICS])
    sealer.start()
    yield
    await sealer.stop()


async def _lookout(app: web.Application) -> AsyncIterator[None]:
    lookout = Lookout(app[STORE], app[METRICS])
    lookout.start()
    yield
    await lookout.stop()


async def _tenants(app: web.Application) -> AsyncIterator[None]:
    caretaker = Caretaker(app[STORE], app[KEYRING], app[KEY_USES], app[CONFIG])
    await caretaker.start()
    yield
    await caretaker.stop()


async def _quota(app: web.Application) -> AsyncIterator[None]:
    kept = buckets.made(app[CONFIG].quota, app[METRICS])
    usage = app[USAGE] = Usage(app[STORE])
    app[QUOTA] = Quota(kept, usage, app[METRICS])
    await usage.start()
    yield
    await usage.stop()
    await kept.close()


async def _reports(app: web.Application) -> AsyncIterator[None]:
    outcomes = app[OUTCOMES] = OutcomesLog(app[STORE])
    agents = app[AGENTS] = Agents(app[STORE], app[METRICS], app[PEERS])
    flusher = Flusher(app[STORE], {"outcomes": outcomes.write, "heartbeats": agents.write})
    flusher.start()
    yield
    await flusher.stop()


async def _tails(app: web.Application) -> AsyncIterator[None]:
    store, grace_s = app[CONFIG].store, app[CONFIG].streams.tail_grace_s

    async def ask_live(statement: Statement, tenant_id: str = "", limits: Limits = NO_LIMITS) -> list[Row]:
        return await bounded(app[STORE], store, statement, limits=limits)

    async def ask_in_turn(statement: Statement, tenant_id: str = "", limits: Limits = NO_LIMITS) -> list[Row]:
        if not tenant_id:
            return await ask_live(statement)
        async with app[TURNSTILE].passing(tenant_id, CATCHING_UP):
            return await ask_live(statement, tenant_id, limits)

    tails = app[TAILS] = Tails(store.database, ask_live, ask_in_turn, app[METRICS], grace_s=grace_s)
    tails.start()
    yield
    await tails.stop()


async def _writer(app: web.Application) -> AsyncIterator[None]:
    writer = app[WRITER] = Writer(app[STORE], app[CONFIG].writer, app[METRICS])
    await writer.start()
    yield
    app[READINESS].reason = "stopping"
    await writer.stop()


async def _apply(app: web.Application) -> None:
    await schema.apply(app[STORE])
    app[READINESS].reason = ""
    app[METRICS].store_up.set(1)


async def _watch(app: web.Application) -> None:
    """Keep `Readiness` true to the store: asked again and again, said once when it changes."""
    readiness = app[READINESS]
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        was = readiness.reason
        try:
            await (app[STORE].ping() if app[STORE].ready else _apply(app))
        except (StoreError, ConfigError) as error:
            _away(app, error)
            continue
        except Exception:
            log.exception("asking the store failed in an unexpected way")
            continue
        readiness.reason = ""
        app[METRICS].store_up.set(1)
        if was:
            log.info("the store answers again")


def _away(app: web.Application, error: StoreError | ConfigError) -> None:
    readiness = app[READINESS]
    kind = "the store does not answer" if isinstance(error, StoreAway) else "the store cannot be used"
    reason = error.message if isinstance(error, ConfigError) else kind
    if reason != readiness.reason:
        level = logging.WARNING if isinstance(error, StoreAway) else logging.ERROR
        log.log(level, "%s; requests are answered 503 until it does: %s", kind, error)
    readiness.reason = reason
    app[METRICS].store_up.set(0)


@web.middleware
async def surround(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Request id, errors into answers, metrics, access line."""
    began = time.monotonic()
    sent_id = request.headers.get(REQUEST_ID_HEADER, "")
    request_id = request[REQUEST_ID] = sent_id if _REQUEST_ID.fullmatch(sent_id) else token_hex(8)
    metrics = request.app[METRICS]
    metrics.requests_in_flight.inc()
    status = 499
    try:
        response = await _answered(request, handler, request_id)
        status = response.status
        return response
    finally:
        metrics.requests_in_flight.dec()
        _account(request, status, time.monotonic() - began)


async def _answered(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        reply = _of_http(request, error, request_id)
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return respond(reply, headers)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        reply = answer_of(error, request_id)
        if reply.status == 500:
            log.error("a request failed: %s", error, exc_info=error, extra=fields(request_id=request_id))
        elif isinstance(error, StoreError):
            log.warning("a request met the store away: %s", error, extra=fields(request_id=request_id))
        return respond(reply)


def _of_http(request: web.Request, error: web.HTTPException, request_id: str) -> Reply:
    """What aiohttp refused by itself."""
    if error.status == 404:
        message = f"there is nothing at {request.path}; GET / lists what there is"
    elif error.status == 405:
        message = f"{request.method} is not possible here; possible: {error.headers.get('Allow', '')}"
    elif error.status == 413:
        message = f"the body may have {small_bodies.MAX_BODY_BYTES} bytes at most here"
    else:
        message = error.reason
    return Reply(error.status, Body(HTTP_CODES.get(error.status, "bad_request"), message, request_id=request_id))


def _account(request: web.Request, status: int, seconds: float) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    metrics = request.app[METRICS]
    metrics.requests.labels(route, str(status)).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    # What machines ask every few seconds.
    level = logging.DEBUG if route in PROBES and status < 400 else logging.INFO
    proxies, headers = request.app[PROXIES], request.headers
    origin = proxies.origin(
        request.remote or "", request.scheme, headers.getall(proxies.header, ()), headers.getall(PROTO_HEADER, ())
    )
    ACCESS.log(
        level,
        "%s %s %d",
        request.method,
        route if resource else request.path,
        status,
        extra=fields(
            ms=round(seconds * 1000, 1),
            request_id=request[REQUEST_ID],
            tenant=request.get(TENANT_ID, ""),
            remote=origin.address,
            **({"scheme": origin.scheme} if origin.scheme != "http" else {}),
            **({"certificate": name} if (name := shown(request)) else {}),
        ),
    )
