"""Whose request it is: credential → tenant, one of the tenant's places, and the budget headers of the answer.

- Every handler begins with one of `tenant_of`, `admin` and `anyone`; the first is the only way to a tenant.
- All three refuse query parameters, so that none is passed over; a handler that has some says so, and reads them all.
- The credential comes first: who has none is not told what is wrong with the rest of a request.
- What `tenant_of` takes is left again by `leaving`, and `say_budget` puts the budget on every answer to a request whose
  tenant is known, refusals included: also where the key may not do what was asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from collector.errors import TooManyRequests
from collector.parts import ADMIN_GATE, KEYRING, METRICS, PLACES, QUOTA, TENANT, TENANT_ID
from collector.search import parameters
from collector.tenants.tenants import Tenant

LIMIT_HEADER = "X-RateLimit-Limit"
REMAINING_HEADER = "X-RateLimit-Remaining"
RESET_HEADER = "X-RateLimit-Reset"
ANY_SCOPE = ""
"""For what every key of a tenant may ask."""
_HAS_PLACE = "has_place"


async def tenant_of(request: web.Request, scope: str, *, reads_query: bool = False) -> Tenant:
    """The tenant of the request's key, if the key has ``scope`` and the tenant a place for one more request.

    Args:
        reads_query: the handler has parameters of its own, and names those it does not know itself.

    Raises:
        Unauthorized, Forbidden, StoreAway: as `Keyring.key_of` and `Keyring.check`.
        TooManyRequests: the tenant's places are taken.
        Invalid: there are query parameters where there should be none.
    """
    app = request.app
    key = await app[KEYRING].key_of(request.headers)
    tenant = key.tenant
    request[TENANT], request[TENANT_ID] = tenant, tenant.tenant_id
    app[KEYRING].check(key, scope)
    if not request.get(_HAS_PLACE, False):
        try:
            app[PLACES].take(tenant.tenant_id, tenant.limits.concurrent_requests)
        except TooManyRequests:
            app[METRICS].limited.labels("too_many_requests").inc()
            raise
        request[_HAS_PLACE] = True
    if not reads_query:
        parameters.refuse(request.query.items())
    return tenant


def admin(request: web.Request) -> None:
    """Let the admin token in. Raises RegistrationOff, Unauthorized, Invalid (there are query parameters)."""
    request.app[ADMIN_GATE].check(request.headers)
    parameters.refuse(request.query.items())


def anyone(request: web.Request) -> None:
    """For what needs no credential. Raises Invalid (there are query parameters)."""
    parameters.refuse(request.query.items())


@web.middleware
async def leaving(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Leave the tenant's place when the request is done."""
    try:
        return await handler(request)
    finally:
        if request.get(_HAS_PLACE, False):
            request.app[PLACES].leave(request[TENANT].tenant_id)


def leave_place(request: web.Request) -> None:
    """Leave the tenant's place before the request is done: it lasts, and is counted otherwise from now on."""
    if request.get(_HAS_PLACE, False):
        request[_HAS_PLACE] = False
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
