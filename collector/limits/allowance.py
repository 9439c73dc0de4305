"""GET rate-limit: what a tenant may send, and what is left of it. For a key of any scope; asking costs nothing."""

from __future__ import annotations

import math

import msgspec
from aiohttp import web

from collector.config import Limits
from collector.limits.quota import Budget
from collector.parts import QUOTA, USAGE
from collector.tenants import caller

PATH = "/api/v1/ingestion/rate-limit"


class Bytes(msgspec.Struct, frozen=True):
    limit: int
    """Bytes per minute, uncompressed."""
    remaining: int
    """Negative: a debt, which is paid before anything more is admitted."""


class Month(msgspec.Struct, frozen=True):
    """The running calendar month, UTC."""

    limit: int | None
    used: int
    remaining: int | None
    used_bytes: int
    reset_s: int


class Allowance(msgspec.Struct, frozen=True):
    tenant_id: str
    events: Budget
    bytes: Bytes
    month: Month
    limits: Limits
    counted_in: str
    """Where budgets are counted: in this collector's memory, or in Redis."""


async def get_rate_limit(request: web.Request) -> web.Response:
    tenant = await caller.tenant_of(request, caller.ANY_SCOPE)
    quota, usage = request.app[QUOTA], request.app[USAGE]
    await usage.known(tenant)
    used, used_bytes = usage.used(tenant.tenant_id)
    answer = Allowance(
        tenant_id=tenant.tenant_id,
        events=await quota.budget(tenant),
        bytes=Bytes(tenant.limits.bytes_per_minute, math.floor((await quota.levels(tenant)).size)),
        month=Month(
            limit=tenant.limits.events_per_month or None,
            used=used,
            remaining=usage.left(tenant),
            used_bytes=used_bytes,
            reset_s=math.ceil(usage.month_ends_in_s()),
        ),
        limits=tenant.limits,
        counted_in=quota.state,
    )
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
