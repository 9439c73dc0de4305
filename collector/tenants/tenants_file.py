"""Tenants from a YAML file, for those who keep them in Git: what the file says is what is.

    tenants:
      - slug: blue-shop
        name: Blue Shop
        limits: {retention_days: 30, events_per_minute: 60000}
        keys:
          - {name: agents, scopes: [ingest], key_sha256: 5f2b…}

- The file holds hashes of keys, no keys; `pulsestream-collector tenant key make` prints a fresh key and its hash.
- Applying it writes only what differs. A tenant that has left the file is disabled, a key that has left it is revoked;
  tenants and keys made in other ways are not touched. A slug that such a tenant has already is a fault.
- Limits that are not given are the configured ``default_limits``.
- Read at the start, where a fault ends it, and again when it changed, where a fault leaves everything as it was.

Collectors with different files would undo each other's work: roll a new file out to all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent import settings
from collector.config import Limits
from collector.errors import CollectorError, ConfigError
from collector.ingest.moments import parse_moment
from collector.tenants import administration, keys, tenants
from collector.tenants.keys import KeyRow
from collector.tenants.tenants import FROM_FILE, Tables, Tenant


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key_sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    name: str = ""
    scopes: tuple[str, ...] = (tenants.INGEST,)
    expires: str = ""
    """ISO 8601; empty: no end."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slug: Annotated[str, msgspec.Meta(pattern=rf"^{tenants.SLUG_PATTERN.pattern}\Z")]
    name: str = ""
    contact_email: str = ""
    disabled: bool = False
    limits: dict[str, Any] = {}
    keys: list[KeyEntry] = []


class TenantsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenants: list[Entry] = []


def load(path: str, defaults: Limits, env: Mapping[str, str]) -> dict[Tenant, list[KeyRow]]:
    """What the file describes: tenants and their keys, as their rows should be. Raises ConfigError, with every fault."""
    try:
        text = settings.read_text(path)
        found = settings.parse(TenantsFile, text, where=path, env=env, rules=_rules)
    except settings.SettingsError as error:
        raise ConfigError(str(error).replace("; name a readable file with --config", "; see tenants_file")) from None
    described: dict[Tenant, list[KeyRow]] = {}
    faults: list[str] = []
    for n, entry in enumerate(found.tenants):
        try:
            tenant = _tenant(entry, defaults)
            described[tenant] = [_key(key, tenant) for key in entry.keys]
        except CollectorError as error:
            faults.append(f"{path}: tenants[{n}] ({entry.slug}): {error.message}")
    if faults:
        raise ConfigError("\n".join(faults))
    return described


async def apply(store: Tables, described: Mapping[Tenant, list[KeyRow]]) -> list[str]:
    """Make the store say what the file says.

    Returns:
        The ids of the tenants of which something was written.

    Raises:
        ConfigError: a slug of the file belongs to a tenant that was made in another way.
        StoreError: it can be applied again.
    """
    there = {tenant.slug: tenant for tenant in reversed(await tenants.list_all(store))}
    changed: list[str] = []
    for wanted, wanted_keys in described.items():
        now = there.get(wanted.slug)
        if now is not None and now.origin != FROM_FILE:
            raise ConfigError(
                f"tenants_file: the slug {wanted.slug} belongs to a tenant that was made over HTTP or on the command line; "
                "choose another slug, or take the entry out"
            )
        if now is None or not _same(now, wanted):
            created = now.created if now else wanted.created
            await tenants.write(store, msgspec.structs.replace(wanted, created=created, version=now.version if now else 0))
            changed.append(wanted.tenant_id)
        if await _apply_keys(store, wanted.tenant_id, wanted_keys):
            changed.append(wanted.tenant_id)
    slugs = {tenant.slug for tenant in described}
    for now in there.values():
        if now.origin == FROM_FILE and now.slug not in slugs and not now.disabled:
            await tenants.write(store, msgspec.structs.replace(now, disabled=True))
            changed.append(now.tenant_id)
    return changed


async def _apply_keys(store: Tables, tenant_id: str, wanted: list[KeyRow]) -> bool:
    there = {row.key_hash: row for row in await keys.list_all(store, tenant_id)}
    changed = False
    for row in wanted:
        now = there.get(row.key_hash)
        if now is None or (now.name, now.scopes, now.expires_us, now.revoked) != (row.name, row.scopes, row.expires_us, False):
            version, created_us = (now.version, now.created_us) if now else (0, row.created_us)
            await keys.write(store, msgspec.structs.replace(row, version=version, created_us=created_us))
            changed = True
    hashes = {row.key_hash for row in wanted}
    for now in there.values():
        if now.origin == FROM_FILE and now.key_hash not in hashes and not now.revoked:
            await keys.revoke(store, now)
            changed = True
    return changed


def _same(now: Tenant, wanted: Tenant) -> bool:
    return msgspec.structs.replace(now, created=None, version=0) == msgspec.structs.replace(wanted, created=None, version=0)


def _tenant(entry: Entry, defaults: Limits) -> Tenant:
    return Tenant(
        # The same on every collector, so that two of them that start at once write the same row.
        tenant_id=hashlib.blake2b(f"tenants file {entry.slug}".encode(), digest_size=8).hexdigest(),
        slug=entry.slug,
        name=tenants.checked_name(entry.name or entry.slug),
        contact_email=tenants.checked_email(entry.contact_email),
        limits=administration.limits_with(defaults, entry.limits),
        disabled=entry.disabled,
        created=keys.datetime_of(keys.now_us() // 1_000_000 * 1_000_000),
        origin=FROM_FILE,
    )


def _key(entry: KeyEntry, tenant: Tenant) -> KeyRow:
    expires_us = parse_moment(entry.expires, keys.now_us()) if entry.expires else None
    if entry.expires and expires_us is None:
        raise ConfigError(f"keys: expires: {entry.expires!r} is no moment; write for instance 2031-01-31T00:00:00Z")
    return KeyRow(
        key_hash=entry.key_sha256,
        key_id=entry.key_sha256[:8],
        tenant_id=tenant.tenant_id,
        scopes=keys.checked_scopes(entry.scopes),
        name=entry.name,
        created_us=keys.now_us(),
        expires_us=expires_us,
        origin=FROM_FILE,
    )


def _rules(found: TenantsFile) -> list[str]:
    slugs = [entry.slug for entry in found.tenants]
    hashes = [key.key_sha256 for entry in found.tenants for key in entry.keys]
    return [f"tenants: the slug {slug} is used twice" for slug in sorted({s for s in slugs if slugs.count(s) > 1})] + [
        f"tenants: the key_sha256 {found[:8]}… is used twice" for found in sorted({h for h in hashes if hashes.count(h) > 1})
    ]


def stamp_of(path: str) -> tuple[int, int, int] | None:
    """Changes when the file does; None while there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
