"""POST events: one, or a batch, from body to answer.

Order: key → parameters and content type → body (bounded, also after unpacking) → events checked → budget →
writer → one outcome per event. Nothing is answered 200 before the store has confirmed the commit that holds it.

- What is stored already is a duplicate, or expired where no read shows it any more (`collector.writing.event_commit`): the
  stored event is not touched, and neither costs budget.
- A batch beyond the tenant's budget is looked up first, so that what was accepted the last time does not pay again and
  the tail of a batch that is sent again gets through. Then the first of the rest are taken, as many as there is budget
  for; the others are ``rate_limited``. With ``on_limit: refuse``, or where nothing was taken, the answer is 429.
- A caller that goes away meanwhile changes nothing: what was submitted is committed, and a retry finds duplicates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import compress
from secrets import randbits, token_hex
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from agent import wire
from collector.errors import (
    EventRefused,
    Expired,
    FieldError,
    Invalid,
    RateLimited,
    TooLarge,
    TooManyQueries,
    UnsupportedType,
    entry_of,
)
from collector.ingest import batches, bodies
from collector.ingest.batches import RATE_LIMITED, Batch, invalid_of
from collector.ingest.event_checks import Checked, Mint, Refused, Rules, check, id_of_key, key_fault
from collector.ingest.event_portions import Whole, ahead_of, asked_of, size_of, sizes_of
from collector.ingest.event_types import EventAnswer
from collector.ingest.moments import show_moment
from collector.limits.quota import Charge
from collector.parts import CONFIG, INTAKE, KEYRING, METRICS, OUTCOMES, QUOTA, STORE, THREADS, TURNSTILE, WORKBENCH, WRITER
from collector.search import query
from collector.search.event_by_id import stored_event
from collector.search.parameters import Parameters
from collector.store.schema import retention_class
from collector.tenants import caller, tenants
from collector.tenants.tenants import Tenant
from collector.writing import ages
from collector.writing.event_lookup import known_ids
from collector.writing.event_parcels import ACCEPTED, DUPLICATE, Verdict, parcels_of, portion_parcel

EVENTS_PATH = "/api/v1/ingestion/events"
BATCH_PATH = f"{EVENTS_PATH}/batch"
KEY_HEADER = "Idempotency-Key"

EVENT_PARAMETERS = ("dry_run",)
BATCH_PARAMETERS = (*EVENT_PARAMETERS, "results")
_MESSAGES = {
    "accepted": "Event accepted",
    "duplicate": "Event already exists (idempotent)",
    "deleted": "Event was deleted; it is not stored again",
}
_encode = msgspec.json.Encoder().encode
_any_json: msgspec.json.Decoder[object] = msgspec.json.Decoder()

T = TypeVar("T")


async def post_event(request: web.Request) -> web.Response:
    """One event in, an `EventAnswer` out."""
    app = request.app
    tenant = await caller.tenant_of(request, tenants.INGEST, reads_query=True)
    given = Parameters(request.query.items(), known=EVENT_PARAMETERS)
    dry_run = given.flag("dry_run")
    given.check()
    mint, rules = _mint(request), _rules(tenant)
    if bodies.media_of(request.content_type) != "json":
        raise UnsupportedType(f"Content-Type: expected application/json here; send lines to {BATCH_PATH}")
    async with _received(request, tenant) as body:
        event = _one(body, rules, mint)
        if isinstance(event, Refused):
            _count(app, tenant, event.outcome, event.reason)
            raise _refusal(event)
        if dry_run:
            verdict = (await _known(app, tenant, [event])).get(event.event_id, Verdict(wire.ACCEPTED))
        else:
            verdict = await _stored(app, tenant, event)
            _count(app, tenant, verdict.outcome, verdict.reason, size=event.size)
    if verdict.outcome == wire.EXPIRED:
        raise _expired(batches.fault_of(verdict))
    if verdict.outcome == wire.REJECTED:
        fault = batches.fault_of(verdict)
        raise EventRefused(invalid_of([fault]).message, errors=(fault,))
    return _json(await _answer(request, tenant, event, verdict, rules.now_us, dry_run=dry_run))


async def post_batch(request: web.Request) -> web.Response:
    """Events in, a `BatchAnswer` out."""
    app = request.app
    tenant = await caller.tenant_of(request, tenants.INGEST, reads_query=True)
    given = Parameters(request.query.items(), known=BATCH_PARAMETERS)
    dry_run, failures_only = given.flag("dry_run"), given.choice("results", ("all", "failures")) == "failures"
    given.check()
    mint, rules = _mint(request), _rules(tenant)
    media = bodies.media_of(request.content_type)
    async with _received(request, tenant) as body:
        work = batches.opened(body, media, rules, mint, max_events=tenant.limits.max_batch_events)
        batch = await app[WORKBENCH].do(tenant.tenant_id, work)
        if dry_run:
            known = await _known(app, tenant, batch.chosen(batch.firsts))
            verdicts = {place: known.get(batch.ids[place] or "", ACCEPTED) for place in batch.firsts}
            limited = None
        else:
            verdicts, limited = await _taken(app, tenant, batch)
            for (outcome, reason), (events, size) in batches.counts_of(batch, verdicts).items():
                _count(app, tenant, outcome, reason, events, size)
    return _json(
        batches.answer(
            batch,
            verdicts,
            batch_id=token_hex(8),
            now_us=rules.now_us,
            limited=limited,
            failures_only=failures_only,
            dry_run=dry_run,
        )
    )


# Headers and bodies.


def _mint(request: web.Request) -> Mint:
    """How events without an ID get one. Raises Invalid for an Idempotency-Key that cannot be used."""
    key = request.headers.get(KEY_HEADER)
    if key is None:
        now_ms = time.time_ns() // 1_000_000
        return lambda index: (_new_id(now_ms, index), True)
    if fault := key_fault(key):
        raise invalid_of([fault])
    return lambda index: (id_of_key(key, index), False)


def _new_id(now_ms: int, index: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): IDs that rise with time lie side by side in the store."""
    rising = now_ms << 80 | 7 << 76 | min(index, 0xFFF) << 64
    return str(UUID(int=rising | 2 << 62 | randbits(62)))


def _rules(tenant: Tenant) -> Rules:
    days = tenant.limits.retention_days
    return Rules(
        now_us=time.time_ns() // 1000,
        retention_days=days,
        retention_class=retention_class(days),
        max_event_bytes=tenant.limits.max_event_bytes,
    )


@asynccontextmanager
async def _received(request: web.Request, tenant: Tenant) -> AsyncIterator[bytes]:
    """The body, unpacked; what it takes is counted until the block is left."""
    app, tenant_id = request.app, tenant.tenant_id
    limit = min(app[CONFIG].server.max_request_bytes, tenant.limits.max_request_bytes)
    taken = app[INTAKE].body(request.content, announced=request.content_length, limit=limit, tenant_id=tenant_id)
    async with taken as body:
        app[METRICS].request_bytes.labels(request.path).inc(len(body))
        encoding = request.headers.get("Content-Encoding", "")
        if encoding in ("", "identity"):
            whole = bodies.is_clean(body)
            yield body if whole else await _in_thread(app, partial(bodies.clean, body))
            return
        unpacked = await _in_thread(app, lambda: bodies.clean(bodies.unpacked(body, encoding, most=limit)))
        with app[INTAKE].more(tenant_id, len(unpacked), own=len(body)):
            yield unpacked


async def _in_thread(app: web.Application, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(app[THREADS], work)


def _one(body: bytes, rules: Rules, mint: Mint) -> Checked | Refused:
    """The event that a body is. Raises BadRequest (not JSON), TooLarge."""
    if len(body) > rules.max_event_bytes:
        raise TooLarge(f"an event may have {rules.max_event_bytes} bytes at most, this one has {len(body)}; send less with it")
    event = check(body, rules, mint)
    if isinstance(event, Refused) and event.errors[0].field == "event":
        try:
            bodies.decoded(body, _any_json)
        except msgspec.ValidationError:
            return event  # a number beyond all ranges
    return event


# From checked events to verdicts.


async def _stored(app: web.Application, tenant: Tenant, event: Checked) -> Verdict:
    """The verdict of a single event. Raises RateLimited."""
    try:
        charge = await app[QUOTA].admit(tenant, events=1, size_bytes=event.size)
    except RateLimited as error:
        _count(app, tenant, RATE_LIMITED, entry_of(type(error))[1], size=event.size)
        raise
    return (await _written(app, tenant, [event], charge))[0]


async def _taken(app: web.Application, tenant: Tenant, batch: Batch) -> tuple[dict[int, Verdict], RateLimited | None]:
    """Verdicts of the events of a batch that could be written, and why some were not admitted."""
    quota = app[QUOTA]
    verdicts: dict[int, Verdict] = {}
    new = batch.chosen(batch.firsts)
    places = batch.firsts
    granted, charge = await quota.admit_up_to(tenant, events=len(new), size_bytes=size_of(new))
    if charge.limited is not None:
        await charge.settle(0, 0)
        known = await _known_if_possible(app, tenant, new)
        verdicts = {place: known[event_id] for place in places if (event_id := batch.ids[place] or "") in known}
        places = [place for place in places if place not in verdicts]
        new = batch.chosen(places)
        granted, charge = await quota.admit_up_to(tenant, events=len(new), size_bytes=size_of(new))
    limited = charge.limited
    reason = entry_of(type(limited))[1] if limited else ""
    if limited is not None and (tenant.limits.on_limit == "refuse" or not (granted or verdicts)):
        await charge.settle(0, 0)
        _count(app, tenant, RATE_LIMITED, reason, len(new), size_of(new))
        raise limited
    written = await _written(app, tenant, new if granted == len(new) else new[:granted], charge)
    verdicts.update(zip(places[:granted], written, strict=True))
    verdicts.update(dict.fromkeys(places[granted:], Verdict(RATE_LIMITED, reason)))
    return verdicts, limited


async def _written(app: web.Application, tenant: Tenant, events: Sequence[Checked], charge: Charge) -> list[Verdict]:
    """The verdicts of events that the budget has let in. What comes to nothing is given back."""
    try:
        verdicts = await _submitted(app, tenant, events)
        accepted, size, ahead = len(events), size_of(events), sum(ahead_of(events))
        if verdicts.count(ACCEPTED) < accepted:
            paid = [verdict.outcome == wire.ACCEPTED for verdict in verdicts]
            accepted, size, ahead = sum(paid), sum(compress(sizes_of(events), paid)), sum(compress(ahead_of(events), paid))
        app[METRICS].clock_ahead.inc(ahead)
        await charge.settle(accepted, size)
    finally:
        await charge.settle(0, 0)  # does nothing where it is settled
    return verdicts


async def _submitted(app: web.Application, tenant: Tenant, events: Sequence[Checked]) -> list[Verdict]:
    """The verdicts in the order of the events; old ones are written apart from the others."""
    now_us = time.time_ns() // 1000
    old_before_us, oldest_us = ages.old_before(now_us), _oldest_us(tenant, now_us)
    if isinstance(events, Whole) and events.earliest_us >= old_before_us:
        parcels = [portion_parcel(tenant.tenant_id, portion, oldest_us=oldest_us) for portion in events.portions]
        return await app[WRITER].submit_events(parcels)
    order = ages.fresh_first(events, old_before_us)
    if order is None:
        return await app[WRITER].submit_events(parcels_of(tenant.tenant_id, events, oldest_us=oldest_us))
    ordered = [events[place] for place in order]
    parcels = parcels_of(tenant.tenant_id, ordered, oldest_us=oldest_us, old_before_us=old_before_us)
    verdicts = dict(zip(order, await app[WRITER].submit_events(parcels), strict=True))
    return [verdicts[place] for place in range(len(events))]


async def _known(app: web.Application, tenant: Tenant, events: Sequence[Checked]) -> dict[str, Verdict]:
    """Which of the events the store has had, by ID. Raises StoreAway, TooManyQueries."""
    async with app[TURNSTILE].passing(tenant.tenant_id, tenant.limits.concurrent_queries):
        asked = {tenant.tenant_id: asked_of(events)}
        found = await known_ids(app[STORE], asked, {tenant.tenant_id: _oldest_us(tenant, time.time_ns() // 1000)})
    return {event_id: verdict for (_, event_id), verdict in found.items()}


def _oldest_us(tenant: Tenant, now_us: int) -> int:
    """No read shows what is before this."""
    return query.kept(tenant.limits.retention_days, now_us)[0]


async def _known_if_possible(app: web.Application, tenant: Tenant, events: Sequence[Checked]) -> dict[str, Verdict]:
    """Nothing, where the tenant's queries are under way already: a flood beyond the budget must not cost the store."""
    try:
        return await _known(app, tenant, events)
    except TooManyQueries:
        return {}


# Answers and counts.


async def _answer(
    request: web.Request, tenant: Tenant, event: Checked, verdict: Verdict, now_us: int, *, dry_run: bool
) -> EventAnswer:
    stored: dict[str, Any] | None = None
    if verdict == DUPLICATE and await request.app[KEYRING].may(request.headers, tenants.SEARCH):
        stored = await stored_event(request.app, tenant, event.event_id)
    ingested_at: str | None = show_moment(now_us)
    if verdict.outcome == wire.DUPLICATE:
        ingested_at = stored["observed_timestamp"] if stored else None
    return EventAnswer(
        success=True,
        event_id=event.event_id,
        outcome="duplicate" if verdict.outcome == wire.DUPLICATE else "accepted",
        processing_status="completed",
        message=_MESSAGES["deleted" if verdict.deleted else verdict.outcome],
        ingested_at=ingested_at,
        duplicate=verdict.outcome == wire.DUPLICATE,
        deleted=verdict.deleted,
        clock_ahead=event.ahead and verdict.outcome == wire.ACCEPTED,
        dry_run=dry_run,
        event=stored,
    )


def _refusal(event: Refused) -> Invalid:
    return _expired(*event.errors) if event.outcome == wire.EXPIRED else invalid_of(event.errors)


def _expired(*faults: FieldError) -> Expired:
    return Expired(invalid_of(faults).message, errors=faults)


def _count(app: web.Application, tenant: Tenant, outcome: str, reason: str = "", events: int = 1, size: int = 0) -> None:
    app[METRICS].events.labels(outcome).inc(events)
    if reason:
        app[METRICS].events_refused.labels(reason).inc(events)
    app[OUTCOMES].note(tenant.tenant_id, outcome, events, reason=reason, size=size)


def _json(answer: Any) -> web.Response:
    return web.Response(body=_encode(answer), content_type="application/json")
