"""What can be done with tenants and keys, once for HTTP and the command line: JSON in, JSON out.

- Limits that are not named at registration come from the configured ``default_limits``, and are the tenant's own from
  then on. A change names only what changes.
- Deleting a tenant disables it: its keys stop, its events stay until their retention ends, its slug stays taken. It can
  be enabled again.
- What the tenants file describes is changed there, and refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from collector.config import Limits
from collector.errors import Conflict, Forbidden, NotFound, invalid, shown
from collector.ingest.moments import parse_moment
from collector.ingest.small_bodies import fault_of
from collector.tenants import keys, tenants
from collector.tenants.keys import KeyRow
from collector.tenants.tenants import Tables, Tenant

REGISTER_PATH = "/api/v1/auth/register/tenant"
TENANTS_PATH = "/api/v1/tenants"

MAX_OVERLAP_S = 90 * 86400
ALIASES = {
    "rate_limit_per_minute": "events_per_minute",
    "rate_limit_burst": "events_burst",
    "max_events_per_month": "events_per_month",
}
"""Names of limits at the top of a body → names in `Limits`."""


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a registration."""

    name: str
    slug: str = ""
    contact_email: str = ""
    limits: dict[str, Any] = {}
    """Limits that differ from the configured ``default_limits``."""
    rate_limit_per_minute: int | UnsetType = UNSET
    rate_limit_burst: int | UnsetType = UNSET
    max_events_per_month: int | UnsetType = UNSET


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change; what is left out stays."""

    name: str | UnsetType = UNSET
    contact_email: str | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    limits: dict[str, Any] = {}
    rate_limit_per_minute: int | UnsetType = UNSET
    rate_limit_burst: int | UnsetType = UNSET
    max_events_per_month: int | UnsetType = UNSET


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    scopes: tuple[str, ...] = (tenants.INGEST,)
    expires: str | None = None
    """ISO 8601; without it the key has no end."""


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    overlap_s: float = 86400.0
    """How long the old key goes on working."""


async def register(store: Tables, defaults: Limits, wanted: Registration) -> dict[str, Any]:
    """A new tenant and its first key, which is shown this once. Raises Invalid, Conflict."""
    limits = limits_with(defaults, *_limit_changes(wanted))
    tenant = await tenants.add(store, wanted.name, slug=wanted.slug, contact_email=wanted.contact_email, limits=limits)
    api_key, _ = await keys.add(store, tenant.tenant_id, scopes=tenants.FIRST_KEY_SCOPES, name="first key")
    return {"tenant": describe(tenant), "api_key": api_key}


async def found(store: Tables, slug: str) -> Tenant:
    """Raises NotFound."""
    tenant = await tenants.find(store, slug)
    if tenant is None:
        raise absent(slug)
    return tenant


def absent(slug: str) -> NotFound:
    return NotFound(f"there is no tenant {shown(slug)!r}; its slug is the one shown when it was made")


async def change(store: Tables, tenant: Tenant, wanted: Change, *, own: bool = False) -> Tenant:
    """The tenant, changed.

    Args:
        own: it is the tenant itself that asks, which may not change what it is allowed.

    Raises:
        Invalid, Forbidden, Conflict.
    """
    _check_origin(tenant.origin, "tenant")
    limit_changes, aliases = _limit_changes(wanted)
    if own and (limit_changes or wanted.disabled is not UNSET):
        raise Forbidden("limits and disabled are changed with the admin token; a key of the tenant may change name and contact")
    changes: dict[str, Any] = {}
    if wanted.name is not UNSET:
        changes["name"] = tenants.checked_name(wanted.name)
    if wanted.contact_email is not UNSET:
        changes["contact_email"] = tenants.checked_email(wanted.contact_email)
    if wanted.disabled is not UNSET:
        changes["disabled"] = wanted.disabled
    if limit_changes:
        changes["limits"] = limits_with(tenant.limits, limit_changes, aliases)
    return await tenants.write(store, msgspec.structs.replace(tenant, **changes)) if changes else tenant


async def add_key(store: Tables, tenant: Tenant, wanted: NewKey) -> dict[str, Any]:
    """One more key, shown this once. Raises Invalid."""
    api_key, row = await keys.add(
        store, tenant.tenant_id, scopes=wanted.scopes, name=wanted.name, expires_us=_expiry(wanted.expires)
    )
    return {"key": row.shown, "api_key": api_key}


async def rotate_key(store: Tables, tenant: Tenant, key_id: str, wanted: Rotation) -> dict[str, Any]:
    """A new key with the scopes of the old one, which ends after the overlap. Raises Invalid, NotFound, Conflict."""
    if not 0 <= wanted.overlap_s <= MAX_OVERLAP_S:
        raise invalid("overlap_s", f"expected 0 to {MAX_OVERLAP_S} seconds", wanted.overlap_s)
    row = await _own_key(store, tenant, key_id)
    if row.revoked or (row.expires_us is not None and row.expires_us <= keys.now_us()):
        raise Conflict(f"the key {row.key_id} has ended already; make a new one instead")
    api_key, fresh = await keys.rotate(store, row, wanted.overlap_s)
    old = await keys.find(store, tenant.tenant_id, key_id)
    return {"key": fresh.shown, "api_key": api_key, "old_key": old.shown}


async def revoke_key(store: Tables, tenant: Tenant, key_id: str) -> dict[str, Any]:
    """The key ends within seconds. A second time changes nothing. Raises NotFound, Conflict."""
    row = await keys.revoke(store, await _own_key(store, tenant, key_id))
    return {"key": row.shown}


async def list_keys(store: Tables, tenant: Tenant) -> dict[str, Any]:
    return {"keys": [row.shown for row in await keys.list_all(store, tenant.tenant_id)]}


def describe(tenant: Tenant) -> dict[str, Any]:
    """A tenant as JSON, over HTTP and on the command line."""
    return {
        "tenant_id": tenant.tenant_id,
        "slug": tenant.slug,
        "name": tenant.name,
        "contact_email": tenant.contact_email,
        "limits": msgspec.to_builtins(tenant.limits),
        "disabled": tenant.disabled,
        "created": tenant.created.strftime("%Y-%m-%dT%H:%M:%SZ") if tenant.created else None,
        "origin": tenant.origin or "api",
    }


def limits_with(now: Limits, changes: dict[str, Any], aliases: Mapping[str, str] = {}) -> Limits:
    """``now`` with some limits changed.

    Args:
        aliases: names of limits → what the caller called them, where that is not ``limits.NAME``.

    Raises:
        Invalid: names the limit.
    """
    try:
        return msgspec.convert({**msgspec.to_builtins(now), **changes}, Limits)
    except msgspec.ValidationError as error:
        name, said = fault_of(str(error))
        suggestion = f"the limits are {', '.join(Limits.__struct_fields__)}"
        raise invalid(aliases.get(name, f"limits.{name}"), said, changes.get(name), suggestion) from None


def _limit_changes(wanted: Registration | Change) -> tuple[dict[str, Any], dict[str, str]]:
    """Limits by name, and those that were called otherwise. Raises Invalid."""
    changes = dict(wanted.limits)
    aliases: dict[str, str] = {}
    for alias, name in ALIASES.items():
        value = getattr(wanted, alias)
        if value is UNSET:
            continue
        if changes.get(name, value) != value:
            raise invalid(alias, f"limits.{name} says otherwise", value, "give one of the two")
        changes[name] = value
        aliases[name] = alias
    return changes, aliases


def _expiry(text: str | None) -> int | None:
    if text is None:
        return None
    moment_us = parse_moment(text, keys.now_us())
    if moment_us is None or moment_us <= keys.now_us():
        raise invalid("expires", "expected a moment in the future", text, "for instance 2031-01-31T00:00:00Z")
    return moment_us


async def _own_key(store: Tables, tenant: Tenant, key_id: str) -> KeyRow:
    row = await keys.find(store, tenant.tenant_id, key_id)
    _check_origin(row.origin, "key")
    return row


def _check_origin(origin: str, what: str) -> None:
    if origin == tenants.FROM_FILE:
        raise Conflict(f"this {what} comes from the tenants file of the collector; change it there")
