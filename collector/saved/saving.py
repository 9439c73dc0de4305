"""Saved searches over HTTP: see `collector.saved.searches` for what is kept.

Any key with the scope ``search`` reads and changes them: they hold questions, no events. Another tenant's search is not there.
"""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from collector.ingest import small_bodies
from collector.parts import SAVING, STORE
from collector.saved import searches
from collector.saved.searches import SavedBody, SavedSearch
from collector.search import query
from collector.search.members import faults_within, text_of
from collector.search.reading import json_of, reader_of, running, tell_refused_pattern
from collector.tenants.tenants import Tenant

_ENDPOINT = "searches"


class SavedAnswer(msgspec.Struct, frozen=True):
    search: SavedSearch


class SavedSearchesAnswer(msgspec.Struct, frozen=True):
    searches: list[SavedSearch]
    """By name."""


class UnsavedAnswer(msgspec.Struct, frozen=True):
    success: bool
    id: str
    deleted: bool


def routes() -> list[web.RouteDef]:
    one = f"{searches.PATH}/{{search_id}}"
    return [
        web.get(searches.PATH, get_searches),
        web.post(searches.PATH, post_search),
        web.get(one, get_search),
        web.put(one, put_search),
        web.delete(one, delete_search),
    ]


async def get_searches(request: web.Request) -> web.Response:
    tenant = await reader_of(request)
    async with running(request, tenant, _ENDPOINT) as run:
        found = await searches.all_of(run, tenant.tenant_id)
    return json_of(SavedSearchesAnswer([row.shown for row in found]))


async def post_search(request: web.Request) -> web.Response:
    """201 with the search and its ID."""
    tenant = await reader_of(request)
    body = await _body(request, tenant)
    async with running(request, tenant, _ENDPOINT) as run, request.app[SAVING]:
        row = await searches.add(run, request.app[STORE], tenant.tenant_id, body)
    return json_of(SavedAnswer(row.shown), status=201)


async def get_search(request: web.Request) -> web.Response:
    tenant = await reader_of(request)
    async with running(request, tenant, _ENDPOINT) as run:
        row = await searches.one_of(run, tenant.tenant_id, request.match_info["search_id"])
    return json_of(SavedAnswer(row.shown))


async def put_search(request: web.Request) -> web.Response:
    """The search, changed whole."""
    tenant = await reader_of(request)
    body, search_id = await _body(request, tenant), request.match_info["search_id"]
    async with running(request, tenant, _ENDPOINT) as run, request.app[SAVING]:
        row = await searches.change(run, request.app[STORE], tenant.tenant_id, search_id, body)
    return json_of(SavedAnswer(row.shown))


async def delete_search(request: web.Request) -> web.Response:
    tenant = await reader_of(request)
    search_id = request.match_info["search_id"]
    async with running(request, tenant, _ENDPOINT) as run, request.app[SAVING]:
        await searches.remove(run, request.app[STORE], tenant.tenant_id, search_id)
    return json_of(UnsavedAnswer(success=True, id=search_id, deleted=True))


async def _body(request: web.Request, tenant: Tenant) -> SavedBody:
    """The search as it is to be kept. Raises Invalid for what a search would refuse, too."""
    body, search = searches.checked(
        small_bodies.read(await small_bodies.whole(request), SavedBody),
        tenant_id=tenant.tenant_id,
        retention_days=tenant.limits.retention_days,
        now_us=time.time_ns() // 1000,
    )
    with faults_within("query", body.query):
        # Found by the engine only, which a search of nothing would not ask.
        await tell_refused_pattern(request.app[STORE], query.where_of(search)[1], text_of(body.query, "q"))
    return body
