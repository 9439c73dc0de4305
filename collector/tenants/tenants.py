"""Tenants: the records, the statements that read and write them, and the look-up of a key with its tenant.

- A key is ``ps_`` + 8 hex digits (the key id, which may be shown) + ``_`` + 43 characters of urlsafe base64 (256 random
  bits). The store holds its SHA-256 only, so what is read there opens nothing. A plain hash is enough: the secret is
  random, there is nothing to guess.
- The tables are ReplacingMergeTree and read with FINAL; the row with the highest version counts. A change writes the
  whole row again; of two changes at once the later one stands.
- The engine has no unique keys. A slug is looked up before it is taken; `create` is called by one task at a time in a
  collector, and two collectors that take one slug in the same instant both succeed (the tenants stay apart: a slug is a
  label, `tenant_id` is the identity).
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from secrets import token_bytes, token_hex
from typing import Any, Protocol

import msgspec

from collector.config import Limits
from collector.errors import Conflict, invalid

INGEST, SEARCH, DELETE, ADMIN = "ingest", "search", "delete", "admin"
SCOPES = (INGEST, SEARCH, DELETE, ADMIN)
FIRST_KEY_SCOPES = (INGEST, SEARCH, DELETE)
"""What the key that comes with a new tenant may do. Agents are better given one with `INGEST` alone."""

KEY_PATTERN = re.compile(r"ps_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")
SLUG_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_NAME_CHARS = 200
MAX_EMAIL_CHARS = 254
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")

FROM_FILE = "file"
"""Origin of what the tenants file describes."""

_TENANT_COLUMNS = ("tenant_id", "slug", "name", "contact_email", "limits", "disabled", "created", "version", "origin")
_READ_TENANT = "tenant_id, slug, name, contact_email, limits, disabled, toUnixTimestamp64Micro(created), version, origin"


class Tables(Protocol):
    """The part of the store that this module uses."""

    async def query(self, sql: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]: ...

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...


class Tenant(msgspec.Struct, frozen=True):
    tenant_id: str
    slug: str
    name: str
    contact_email: str = ""
    limits: Limits = Limits()
    disabled: bool = False
    created: datetime | None = None
    version: int = 0
    origin: str = ""


class Key(msgspec.Struct, frozen=True):
    """What the store knows of a key, with its tenant."""

    key_id: str
    scopes: frozenset[str]
    expires_us: int | None
    revoked: bool
    tenant: Tenant


def new_key() -> tuple[str, str]:
    """A fresh API key and its id. The key exists nowhere else: show it once."""
    key_id = token_hex(4)
    secret = base64.urlsafe_b64encode(token_bytes(32)).rstrip(b"=").decode("ascii")
    return f"ps_{key_id}_{secret}", key_id


def hash_of(api_key: str) -> str:
    return hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).hexdigest()


def slug_of(name: str) -> str:
    """A slug made from a name: ``Blue Shop GmbH`` → ``blue-shop-gmbh``; empty when nothing of the name is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].rstrip("-")


async def add(
    store: Tables,
    name: str,
    *,
    slug: str = "",
    contact_email: str = "",
    limits: Limits | None = None,
    tenant_id: str = "",
    origin: str = "",
) -> Tenant:
    """Make a tenant, without a key.

    Raises:
        Invalid: the name, the slug or the address cannot be used.
        Conflict: the slug is taken.
    """
    name = checked_name(name)
    slug = slug or slug_of(name)
    if not SLUG_PATTERN.fullmatch(slug):
        raise invalid("slug", "expected a-z, 0-9 and inner hyphens, at most 63", slug, "choose one, like blue-shop")
    if await find(store, slug):
        raise Conflict(f"slug: {slug!r} is taken by another tenant; choose another slug")
    created = datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC)
    email = checked_email(contact_email)
    tenant = Tenant(tenant_id or token_hex(8), slug, name, email, limits or Limits(), created=created, origin=origin)
    return await write(store, tenant)


async def write(store: Tables, tenant: Tenant) -> Tenant:
    """Write the tenant's row, new or changed; what is returned has the row's version."""
    tenant = msgspec.structs.replace(tenant, version=max(time.time_ns(), tenant.version + 1))
    await store.insert("tenants", _TENANT_COLUMNS, [_tenant_row(tenant)])
    return tenant


def checked_name(name: str) -> str:
    """The name as it is kept. Raises Invalid."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise invalid("name", f"expected 1 to {MAX_NAME_CHARS} printable characters", name)
    return name


def checked_email(address: str) -> str:
    """The address as it is kept; empty is none. Raises Invalid."""
    address = address.strip()
    if address and (len(address) > MAX_EMAIL_CHARS or not _EMAIL.fullmatch(address)):
        raise invalid("contact_email", "expected an e-mail address", address, "for instance ops@example.com, or leave it out")
    return address


async def find(store: Tables, slug: str) -> Tenant | None:
    """The tenant with this slug, the older one if two took it in the same instant."""
    return await _find(store, "slug = {value:String}", slug)


async def find_id(store: Tables, tenant_id: str) -> Tenant | None:
    return await _find(store, "tenant_id = {value:String}", tenant_id)


async def _find(store: Tables, condition: str, value: str) -> Tenant | None:
    rows = await store.query(
        f"SELECT {_READ_TENANT} FROM tenants FINAL WHERE {condition} ORDER BY created, tenant_id LIMIT 1", {"value": value}
    )
    return _tenant(rows[0]) if rows else None


async def list_all(store: Tables) -> list[Tenant]:
    """Every tenant, oldest first."""
    rows = await store.query(f"SELECT {_READ_TENANT} FROM tenants FINAL ORDER BY created, tenant_id")
    return [_tenant(row) for row in rows]


async def find_key(store: Tables, key_hash: str) -> Key | None:
    """The key with this hash, or None. One statement; raises StoreError."""
    rows = await store.query(
        f"SELECT k.key_id, k.scopes, k.expires_us, k.revoked, {', '.join('t.' + name for name in _JOINED)} "
        "FROM (SELECT key_id, tenant_id, scopes, revoked, toUnixTimestamp64Micro(expires) AS expires_us "
        "FROM api_keys FINAL WHERE key_hash = {key_hash:String}) AS k "
        "INNER JOIN (SELECT tenant_id, slug, name, contact_email, limits, disabled, "
        "toUnixTimestamp64Micro(created) AS created_us, version, origin FROM tenants FINAL) AS t "
        "ON k.tenant_id = t.tenant_id LIMIT 1",
        {"key_hash": key_hash},
    )
    if not rows:
        return None
    key_id, scopes, expires_us, revoked, *tenant = rows[0]
    return Key(key_id, frozenset(scopes), expires_us, bool(revoked), _tenant(tuple(tenant)))


_JOINED = ("tenant_id", "slug", "name", "contact_email", "limits", "disabled", "created_us", "version", "origin")


def _tenant(row: tuple[Any, ...]) -> Tenant:
    tenant_id, slug, name, contact_email, limits, disabled, created_us, version, origin = row
    created = datetime.fromtimestamp(created_us // 1_000_000, UTC)
    return Tenant(tenant_id, slug, name, contact_email, _limits(limits), bool(disabled), created, int(version), origin)


def _tenant_row(tenant: Tenant) -> tuple[Any, ...]:
    limits = msgspec.json.encode(tenant.limits).decode()
    return (
        tenant.tenant_id, tenant.slug, tenant.name, tenant.contact_email, limits, int(tenant.disabled), tenant.created,
        tenant.version, tenant.origin,
    )  # fmt: skip


def _limits(text: str) -> Limits:
    """Limits as a row holds them. Fields of a newer collector are passed over, those it lacks take their default."""
    kept = msgspec.json.decode(text or "{}", type=dict[str, Any])
    known = {name: value for name, value in kept.items() if name in Limits.__struct_fields__}
    return msgspec.convert(known, Limits)
