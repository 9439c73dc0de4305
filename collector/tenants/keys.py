"""API keys of a tenant: made, listed, given an end, rotated, revoked; and when each was used last.

- Any number of keys may be valid at once, so a new one can be rolled out before the old one ends.
- A key is never taken away by a row's absence: a revoked key stays, and says so to who still uses it.
- `last used` is kept in memory and written every minute or so: rough, and lost for a minute in a crash.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.errors import NotFound, invalid
from collector.tenants.tenants import SCOPES, Key, Tables, hash_of, new_key

MAX_NAME_CHARS = 200
MAX_KEYS = 1000
"""Of one tenant, revoked ones included."""

_COLUMNS = (
    "key_hash", "key_id", "tenant_id", "scopes", "name", "created", "expires", "revoked", "version", "origin",
)  # fmt: skip


class KeyRow(msgspec.Struct, frozen=True):
    """A key as its owner may see it, and its hash, which nobody sees."""

    key_hash: str
    key_id: str
    tenant_id: str
    scopes: tuple[str, ...]
    name: str = ""
    created_us: int = 0
    expires_us: int | None = None
    revoked: bool = False
    version: int = 0
    origin: str = ""
    used_us: int | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """As JSON, over HTTP and on the command line."""
        return {
            "key_id": self.key_id,
            "name": self.name,
            "scopes": list(self.scopes),
            "created": _moment(self.created_us),
            "expires": _moment(self.expires_us),
            "revoked": self.revoked,
            "last_used": _moment(self.used_us),
        }


async def add(
    store: Tables, tenant_id: str, *, scopes: Sequence[str], name: str = "", expires_us: int | None = None
) -> tuple[str, KeyRow]:
    """One more key; returns the key itself, which is not kept, and what is. Raises Invalid."""
    if len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise invalid("name", f"expected at most {MAX_NAME_CHARS} printable characters", name)
    api_key, key_id = new_key()
    row = KeyRow(hash_of(api_key), key_id, tenant_id, checked_scopes(scopes), name, now_us(), expires_us)
    return api_key, await write(store, row)


def checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """The scopes, each once, in order. Raises Invalid."""
    for scope in scopes:
        if scope not in SCOPES:
            raise invalid("scopes", f"expected of {', '.join(SCOPES)}", scope)
    if not scopes:
        raise invalid("scopes", "expected at least one", "[]", f"there are {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in scopes)


async def write(store: Tables, row: KeyRow) -> KeyRow:
    """Write the key's row, new or changed."""
    row = msgspec.structs.replace(row, version=max(time.time_ns(), row.version + 1))
    expires = None if row.expires_us is None else datetime_of(row.expires_us)
    values = (
        row.key_hash, row.key_id, row.tenant_id, list(row.scopes), row.name, datetime_of(row.created_us), expires,
        int(row.revoked), row.version, row.origin,
    )  # fmt: skip
    await store.insert("api_keys", _COLUMNS, [values])
    return row


async def list_all(store: Tables, tenant_id: str) -> list[KeyRow]:
    """Every key of a tenant, oldest first."""
    rows = await store.query(
        "SELECT key_hash, key_id, scopes, name, toUnixTimestamp64Micro(created), toUnixTimestamp64Micro(expires), "
        "revoked, version, origin FROM api_keys FINAL WHERE tenant_id = {tenant_id:String} "
        f"ORDER BY created, key_id LIMIT {MAX_KEYS}",
        {"tenant_id": tenant_id},
    )
    used = await store.query(
        "SELECT key_id, toUnixTimestamp64Micro(used) FROM key_uses FINAL WHERE tenant_id = {tenant_id:String}",
        {"tenant_id": tenant_id},
    )
    last_used = {key_id: int(moment) for key_id, moment in used}
    return [
        KeyRow(
            key_hash, key_id, tenant_id, tuple(scopes), name, int(created_us),
            None if expires_us is None else int(expires_us), bool(revoked), int(version), origin, last_used.get(key_id),
        )
        for key_hash, key_id, scopes, name, created_us, expires_us, revoked, version, origin in rows
    ]  # fmt: skip


async def find(store: Tables, tenant_id: str, key_id: str) -> KeyRow:
    """The tenant's key with this id. Raises NotFound."""
    for row in await list_all(store, tenant_id):
        if row.key_id == key_id:
            return row
    raise NotFound(f"this tenant has no key {key_id!r}; list its keys to see which there are")


async def rotate(store: Tables, row: KeyRow, overlap_s: float) -> tuple[str, KeyRow]:
    """A key that may do the same, and the old one's end after ``overlap_s``: both work until then."""
    api_key, fresh = await add(store, row.tenant_id, scopes=row.scopes, name=row.name)
    ends_us = now_us() + int(overlap_s * 1e6)
    if row.expires_us is None or row.expires_us > ends_us:
        await write(store, msgspec.structs.replace(row, expires_us=ends_us))
    return api_key, fresh


async def revoke(store: Tables, row: KeyRow) -> KeyRow:
    """Ends the key now; a second time changes nothing."""
    return row if row.revoked else await write(store, msgspec.structs.replace(row, revoked=True))


class KeyUses:
    """When keys were used last, collected until `write`."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], int] = {}

    def note(self, key: Key, moment_us: int) -> None:
        self._used[key.tenant.tenant_id, key.key_id] = moment_us

    async def write(self, store: Tables) -> None:
        """Raises StoreError; what is not written then is written the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        rows = [(tenant_id, key_id, datetime_of(moment_us)) for (tenant_id, key_id), moment_us in used.items()]
        try:
            await store.insert("key_uses", ("tenant_id", "key_id", "used"), rows)
        except BaseException:
            self._used = {**used, **self._used}
            raise


def now_us() -> int:
    return time.time_ns() // 1000


def datetime_of(moment_us: int) -> datetime:
    return datetime.fromtimestamp(moment_us / 1e6, UTC)


def _moment(moment_us: int | None) -> str | None:
    return None if moment_us is None else datetime_of(moment_us).strftime("%Y-%m-%dT%H:%M:%SZ")
