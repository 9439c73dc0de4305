"""Tenants and keys over HTTP: see `collector.tenants.administration` for what is done.

Who may: the admin token everything; a key with the scope ``admin`` its own tenant, except for limits and being disabled.
To such a key any other tenant is not there. What was changed counts here at once, on other collectors within seconds
(`collector.tenants.auth.FRESH_S`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from collector.ingest import small_bodies
from collector.parts import CONFIG, KEYRING, REGISTERING, STORE
from collector.tenants import administration, caller, tenants
from collector.tenants.administration import REGISTER_PATH, TENANTS_PATH, Change, NewKey, Registration, Rotation
from collector.tenants.auth import ADMIN_HEADER, key_in
from collector.tenants.tenants import Tenant


def routes() -> list[web.RouteDef]:
    tenant, key = f"{TENANTS_PATH}/{{slug}}", f"{TENANTS_PATH}/{{slug}}/keys/{{key_id}}"
    return [
        web.post(REGISTER_PATH, post_tenant),
        web.get(TENANTS_PATH, get_tenants),
        web.get(tenant, get_tenant),
        web.patch(tenant, patch_tenant),
        web.delete(tenant, delete_tenant),
        web.get(f"{tenant}/keys", get_keys),
        web.post(f"{tenant}/keys", post_key),
        web.post(f"{key}/rotate", post_rotation),
        web.delete(key, delete_key),
    ]


async def post_tenant(request: web.Request) -> web.Response:
    """201 with the tenant and its API key, which is shown this once."""
    caller.admin(request)
    wanted = small_bodies.read(await small_bodies.whole(request), Registration)
    async with request.app[REGISTERING]:  # a slug is looked up and then taken: nobody else in between
        made = await administration.register(request.app[STORE], request.app[CONFIG].default_limits, wanted)
    return _json(made, status=201)


async def get_tenants(request: web.Request) -> web.Response:
    caller.admin(request)
    found = await tenants.list_all(request.app[STORE])
    return _json({"tenants": [administration.describe(tenant) for tenant in found]})


async def get_tenant(request: web.Request) -> web.Response:
    tenant, _ = await _meant(request)
    return _json({"tenant": administration.describe(tenant)})


async def patch_tenant(request: web.Request) -> web.Response:
    tenant, own = await _meant(request)
    return await _changed(request, tenant, small_bodies.read(await small_bodies.whole(request), Change), own=own)


async def delete_tenant(request: web.Request) -> web.Response:
    """Disables it; a second time says the same."""
    tenant, own = await _meant(request)
    return await _changed(request, tenant, Change(disabled=True), own=own)


async def get_keys(request: web.Request) -> web.Response:
    tenant, _ = await _meant(request)
    return _json(await administration.list_keys(request.app[STORE], tenant))


async def post_key(request: web.Request) -> web.Response:
    """201 with the key, which is shown this once."""
    tenant, _ = await _meant(request)
    wanted = small_bodies.read(await small_bodies.whole(request), NewKey)
    return _json(await administration.add_key(request.app[STORE], tenant, wanted), status=201)


async def post_rotation(request: web.Request) -> web.Response:
    """201 with the new key, which is shown this once; the old one works until its end."""
    tenant, _ = await _meant(request)
    wanted = small_bodies.read(await small_bodies.whole(request), Rotation)
    async with request.app[REGISTERING]:
        made = await administration.rotate_key(request.app[STORE], tenant, request.match_info["key_id"], wanted)
    request.app[KEYRING].forget(tenant.tenant_id)
    return _json(made, status=201)


async def delete_key(request: web.Request) -> web.Response:
    tenant, _ = await _meant(request)
    async with request.app[REGISTERING]:
        done = await administration.revoke_key(request.app[STORE], tenant, request.match_info["key_id"])
    request.app[KEYRING].forget(tenant.tenant_id)
    return _json(done)


async def _changed(request: web.Request, tenant: Tenant, wanted: Change, *, own: bool) -> web.Response:
    store = request.app[STORE]
    async with request.app[REGISTERING]:  # read and written again: no other change of this collector in between
        now = await tenants.find_id(store, tenant.tenant_id) or tenant
        changed = await administration.change(store, now, wanted, own=own)
    request.app[KEYRING].forget(tenant.tenant_id)
    return _json({"tenant": administration.describe(changed)})


async def _meant(request: web.Request) -> tuple[Tenant, bool]:
    """The tenant that the path names, for who may see it, and whether it is the caller's own."""
    slug = request.match_info["slug"]
    if ADMIN_HEADER in request.headers or not key_in(request.headers):
        caller.admin(request)
        return await administration.found(request.app[STORE], slug), False
    own = await caller.tenant_of(request, tenants.ADMIN)
    if own.slug != slug:
        raise administration.absent(slug)
    return await tenants.find_id(request.app[STORE], own.tenant_id) or own, True


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
