"""Whose request it is: credential → tenant, one of the tenant's places, and the budget headers of the answer.

Every handler that works for a tenant begins with `tenant_of`; it is the only way to one. What it takes is left again
by `leaving`, and `say_budget` puts the budget on every answer to a request whose tenant is known, errors included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from collector.errors import TooManyRequests
from collector.parts import KEYRING, METRICS, PLACES, QUOTA, TENANT, TENANT_ID
from collector.tenants import Tenant

LIMIT_HEADER = "X-RateLimit-Limit"
REMAINING_HEADER = "X-RateLimit-Remaining"
RESET_HEADER = "X-RateLimit-Reset"
ANY_SCOPE = ""
"""For what every key of a tenant may ask."""
_HAS_PLACE = "has_place"


async def tenant_of(request: web.Request, scope: str) -> Tenant:
    """The tenant of the request's key, if the key has ``scope`` and the tenant a place for one more request.

    Raises:
        Unauthorized, Forbidden, StoreAway: as `Keyring.tenant_of`.
        TooManyRequests: the tenant's places are taken.
    """
    app = request.app
    tenant = await app[KEYRING].tenant_of(request.headers, scope)
    request[TENANT], request[TENANT_ID] = tenant, tenant.tenant_id
    if not request.get(_HAS_PLACE, False):
        try:
            app[PLACES].take(tenant.tenant_id, tenant.limits.concurrent_requests)
        except TooManyRequests:
            app[METRICS].limited.labels("too_many_requests").inc()
            raise
        request[_HAS_PLACE] = True
    return tenant


@web.middleware
async def leaving(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Leave the tenant's place when the request is done."""
    try:
        return await handler(request)
    finally:
        if request.get(_HAS_PLACE, False):
            request.app[PLACES].leave(request[TENANT].tenant_id)


async def say_budget(request: web.Request, response: web.StreamResponse) -> None:
    """Before an answer is sent: what is left of its tenant's budget."""
    tenant = request.get(TENANT)
    if tenant is None:
        return
    budget = await request.app[QUOTA].budget(tenant)
    response.headers[LIMIT_HEADER] = str(budget.limit)
    response.headers[REMAINING_HEADER] = str(budget.remaining)
    response.headers[RESET_HEADER] = str(budget.reset_s)
