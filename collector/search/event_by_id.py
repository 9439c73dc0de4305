"""One event by its ID, read and deleted; and the words that events may use.

A delete writes every stored copy of the event again, whole, with ``is_deleted`` and the highest version there is. Whole,
because a filter may skip a marker that holds nothing and so bring the event back; every copy, because one in another
week would be found alone. What was deleted stays deleted: sent again, it is a duplicate with ``deleted``.

Known limit: a copy that is being written in the same instant, by another collector, into another week, is not seen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from agent import wire
from collector.errors import NotFound, QueryTooExpensive, StoreError, shown
from collector.ingest.event_types import EVENT_TYPES, SEVERITIES, DeleteAnswer
from collector.parts import CONFIG, STORE
from collector.search import query
from collector.search.event import COLUMNS, event_of
from collector.search.reading import Run, bounded, running
from collector.store.columns import EVENT_COLUMNS
from collector.store.store import Store
from collector.tenants import caller, tenants
from collector.tenants.tenants import Tenant

HIGHEST_VERSION = (1 << 64) - 1

_encode = msgspec.json.Encoder().encode


async def get_event(request: web.Request) -> web.Response:
    """The event, or 404: absent, deleted, beyond the retention, or not this tenant's."""
    tenant = await caller.tenant_of(request, tenants.SEARCH)
    event_id = request.match_info["event_id"]
    async with running(request, tenant, "event") as run:
        found = await _read(run, tenant, event_id)
    if found is None:
        raise _not_found(event_id)
    return _json(found)


async def delete_event(request: web.Request) -> web.Response:
    """A `DeleteAnswer`; the same again when it is deleted already."""
    tenant = await caller.tenant_of(request, tenants.DELETE)
    event_id = request.match_info["event_id"]
    deleted_now = await delete(request.app[STORE], tenant.tenant_id, event_id)
    message = "Event deleted" if deleted_now else "Event was deleted before"
    return _json(DeleteAnswer(success=True, event_id=event_id, deleted=True, message=message))


async def get_types(request: web.Request) -> web.Response:
    """The event types there are."""
    await caller.tenant_of(request, caller.ANY_SCOPE)
    return _json({"event_types": list(EVENT_TYPES), "descriptions": EVENT_TYPES})


async def get_severities(request: web.Request) -> web.Response:
    """The severities there are, in rising order."""
    await caller.tenant_of(request, caller.ANY_SCOPE)
    return _json({"severities": list(SEVERITIES), "descriptions": SEVERITIES})


async def stored_event(app: web.Application, tenant: Tenant, event_id: str) -> dict[str, Any] | None:
    """The event as it is stored; None when it is not there, or cannot be read now."""
    try:
        return await _read(partial(bounded, app[STORE], app[CONFIG].store), tenant, event_id)
    except (StoreError, QueryTooExpensive):
        return None


async def _read(run: Run, tenant: Tenant, event_id: str) -> dict[str, Any] | None:
    statement = query.event_of_id(
        tenant.tenant_id,
        event_id,
        COLUMNS,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    found = await run(statement)
    return event_of(found[0]).shown if found else None


async def delete(store: Store, tenant_id: str, event_id: str) -> bool:
    """Delete the event; False: it was deleted before. Raises NotFound."""
    params = {"tenant": tenant_id, "id": event_id}
    where = "tenant_id = {tenant:String} AND external_id = {id:String}"
    copies = await store.query(
        f"SELECT timestamp, max(is_deleted) FROM events WHERE {where} GROUP BY timestamp, retention_days", params
    )
    if not copies:
        raise _not_found(event_id)
    if all(deleted for _, deleted in copies):
        return False
    await _bury(store, where, params)
    return True


async def replace_partial(store: Store, tenant_id: str, ids: Sequence[str]) -> None:
    """Delete events that were shipped before their ends had come, and are stored whole now; of these IDs no others. What is
    not there, or deleted, stays so. Raises StoreError, StoreAway."""
    where = "tenant_id = {tenant:String} AND external_id IN {ids:Array(String)} AND attributes[{label:String}] = 'true'"
    await _bury(store, where, {"tenant": tenant_id, "ids": list(ids), "label": wire.PARTIAL_LABEL})


async def _bury(store: Store, where: str, params: Mapping[str, Any]) -> None:
    changed = {"is_deleted": "1", "version": str(HIGHEST_VERSION)}
    values = ", ".join(changed.get(name, name) for name in EVENT_COLUMNS)
    await store.insert_from(
        "events", list(EVENT_COLUMNS), f"SELECT {values} FROM events WHERE {where} AND is_deleted = 0", params
    )


def _not_found(event_id: str) -> NotFound:
    return NotFound(f"there is no event {shown(event_id)!r}; it may have been deleted, or be older than what is kept")


def _json(answer: Any) -> web.Response:
    return web.Response(body=_encode(answer), content_type="application/json")
