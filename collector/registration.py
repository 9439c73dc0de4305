"""Making and listing tenants over HTTP, for whoever holds the admin token."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from collector import tenants
from collector.config import Limits
from collector.errors import BadRequest, FieldError, Invalid, sentence
from collector.parts import ADMIN_GATE, CONFIG, REGISTERING, STORE
from collector.tenants import Tenant

MAX_BODY_BYTES = 64 << 10


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a registration."""

    name: str
    slug: str = ""
    contact_email: str = ""
    limits: dict[str, Any] = {}
    """Limits that differ from the configured ``default_limits``."""


async def post_tenant(request: web.Request) -> web.Response:
    """201 with the tenant and its API key, which is shown this once."""
    request.app[ADMIN_GATE].check(request.headers)
    wanted = _registration(await request.read())
    limits = limits_with(request.app[CONFIG].default_limits, wanted.limits)
    async with request.app[REGISTERING]:  # a slug is looked up and then taken: nobody else in between
        tenant, api_key = await tenants.create(
            request.app[STORE], wanted.name, slug=wanted.slug, contact_email=wanted.contact_email, limits=limits
        )
    body = msgspec.json.encode({"tenant": shown(tenant), "api_key": api_key})
    return web.Response(status=201, body=body, content_type="application/json")


async def get_tenants(request: web.Request) -> web.Response:
    request.app[ADMIN_GATE].check(request.headers)
    found = await tenants.list_all(request.app[STORE])
    body = msgspec.json.encode({"tenants": [shown(tenant) for tenant in found]})
    return web.Response(body=body, content_type="application/json")


def shown(tenant: Tenant) -> dict[str, Any]:
    """A tenant as JSON, over HTTP and on the command line."""
    return {
        "tenant_id": tenant.tenant_id,
        "slug": tenant.slug,
        "name": tenant.name,
        "contact_email": tenant.contact_email,
        "limits": msgspec.to_builtins(tenant.limits),
        "disabled": tenant.disabled,
        "created": tenant.created.strftime("%Y-%m-%dT%H:%M:%SZ") if tenant.created else None,
    }


def limits_with(defaults: Limits, changes: dict[str, Any]) -> Limits:
    """``defaults`` with some limits changed. Raises Invalid."""
    merged = {**msgspec.to_builtins(defaults), **changes}
    try:
        return msgspec.convert(merged, Limits)
    except msgspec.ValidationError as error:
        raise _invalid("limits", error, f"the limits are {', '.join(Limits.__struct_fields__)}") from None


def _registration(body: bytes) -> Registration:
    try:
        return msgspec.json.decode(body, type=Registration)
    except msgspec.ValidationError as error:
        raise _invalid("body", error, 'expected {"name": "…"}, and slug, contact_email, limits if wanted') from None
    except msgspec.DecodeError as error:
        raise BadRequest(f'the body is not JSON: {error}; send {{"name": "…"}}') from None


def _invalid(field: str, error: msgspec.ValidationError, suggestion: str) -> Invalid:
    fault = FieldError(field, str(error), suggestion=suggestion)
    return Invalid(sentence(fault), errors=(fault,))
