"""The collector as an aiohttp application: its routes and its life cycle.

Start:  store (opened; a served engine need not be up) → schema (applied; until then everything is answered 503)
        → writer → handlers. Stop runs backwards: no new connections, requests under way end, the writer commits what
        waits, the store closes.
What surrounds every request is in `collector.serving.surround`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from aiohttp import web

from agent import wire
from collector.api import openapi
from collector.config import Config, Limits
from collector.errors import ConfigError, StoreAway, StoreError
from collector.figures import aggregate, facets, histogram, names
from collector.ingest import events, ingest, small_bodies
from collector.ingest.intake import Intake
from collector.ingest.outcomes_log import OutcomesLog
from collector.ingest.workbench import Workbench
from collector.limits import allowance, buckets
from collector.limits.quota import Quota
from collector.limits.usage import Usage
from collector.metrics import Metrics
from collector.page import assets
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
    REACHES,
    READINESS,
    REGISTERING,
    SAVING,
    STOPPING,
    STORE,
    STREAMS,
    TAIL_SEATS,
    TAILS,
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
from collector.search.reaches import Reaches
from collector.search.reading import bounded
from collector.search.turnstile import Places, Turnstile
from collector.serving import operations
from collector.serving.forwarding import Proxies
from collector.serving.peers import ALONE, Peers
from collector.serving.surround import say_request, surround
from collector.serving.tls import certified
from collector.store import schema
from collector.store.breakage import Breakage
from collector.store.lookout import Lookout
from collector.store.sealing import Sealer
from collector.store.store import Row, Store
from collector.streams import export, tail
from collector.streams.seats import Seats
from collector.streams.tails import Tails
from collector.tenants import caller, registration, tenants, whose
from collector.tenants.auth import AdminGate, Keyring
from collector.tenants.caretaker import Caretaker
from collector.tenants.keys import KeyUses
from collector.writing.flusher import Flusher
from collector.writing.writer import Writer

log = logging.getLogger(__name__)

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
    app[REACHES] = Reaches()
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
    app[assets.ASSETS] = assets.load()
    app[STREAMS] = set()
    app[EXPORTS] = Seats("exports", "streams.max_exports", config.streams.max_exports)
    app[TAIL_SEATS] = Seats("tails", "streams.max_tails", config.streams.max_tails)
    app.on_response_prepare.append(caller.say_budget)
    app.on_response_prepare.append(say_request)
    app.on_shutdown.append(_say_stop)
    app.router.add_routes(
        [
            web.get("/", assets.get_root),
            web.get(assets.PATH, assets.get_asset),
            web.get(whose.PATH, whose.get_key),
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
