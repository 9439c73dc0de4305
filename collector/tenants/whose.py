"""``GET /api/v1/ingestion/key``: whose key this is and what it may do, for programs and pages that were given one."""

from __future__ import annotations

import msgspec
from aiohttp import web

from collector.ingest.moments import show_moment
from collector.parts import KEYRING
from collector.tenants import caller

PATH = "/api/v1/ingestion/key"


class KeyAnswer(msgspec.Struct, frozen=True):
    tenant_id: str
    slug: str
    name: str
    """The tenant's, for people."""
    key_id: str
    scopes: list[str]
    expires: str | None
    retention_days: int


async def get_key(request: web.Request) -> web.Response:
    tenant = await caller.tenant_of(request, caller.ANY_SCOPE)
    key = await request.app[KEYRING].key_of(request.headers)
    answer = KeyAnswer(
        tenant_id=tenant.tenant_id,
        slug=tenant.slug,
        name=tenant.name,
        key_id=key.key_id,
        scopes=sorted(key.scopes),
        expires=None if key.expires_us is None else show_moment(key.expires_us),
        retention_days=tenant.limits.retention_days,
    )
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
