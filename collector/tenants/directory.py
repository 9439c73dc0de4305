"""Tenants and schema from the command line: through the store itself, or through the collector that has it open.

The embedded store belongs to one process. When another has it, the collector that runs is asked over HTTP with the
admin token; its address is ``--url``, else the one in the configuration.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from collector.config import Config, Tls
from collector.errors import CollectorError, StoreLocked
from collector.ingest import small_bodies
from collector.serving import tls
from collector.store import schema
from collector.store.store import Store
from collector.tenants import administration, tenants
from collector.tenants.administration import REGISTER_PATH, TENANTS_PATH, Change, NewKey, Registration, Rotation
from collector.tenants.auth import ADMIN_HEADER

TIMEOUT_S = 30.0


class Door(msgspec.Struct, frozen=True):
    """How to ask a running collector; either may be empty."""

    url: str
    token: str
    tls: Tls = Tls()
    """What the collector at ``url`` shows, if it is the one of this configuration."""


class Refused(CollectorError):
    """The running collector did not do it."""


async def create(config: Config, door: Door, wanted: dict[str, Any]) -> dict[str, Any]:
    """Make a tenant: ``{"tenant": …, "api_key": …}``. Raises CollectorError, as all of these."""

    async def here(store: Store) -> dict[str, Any]:
        return await administration.register(store, config.default_limits, _read(wanted, Registration))

    return await _done(config, door, here, "POST", REGISTER_PATH, wanted)


async def list_all(config: Config, door: Door) -> list[dict[str, Any]]:
    """Every tenant as JSON."""

    async def here(store: Store) -> dict[str, Any]:
        return {"tenants": [administration.describe(tenant) for tenant in await tenants.list_all(store)]}

    found: list[dict[str, Any]] = (await _done(config, door, here, "GET", TENANTS_PATH))["tenants"]
    return found


async def show(config: Config, door: Door, slug: str) -> dict[str, Any]:
    """``{"tenant": …, "keys": […]}``"""

    async def here(store: Store) -> dict[str, Any]:
        return {"tenant": administration.describe(await administration.found(store, slug))}

    async def keys_here(store: Store) -> dict[str, Any]:
        return await administration.list_keys(store, await administration.found(store, slug))

    return {
        **await _done(config, door, here, "GET", _path(slug)),
        **await _done(config, door, keys_here, "GET", _path(slug, "keys")),
    }


async def change(config: Config, door: Door, slug: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """``{"tenant": …}`` as it is then."""

    async def here(store: Store) -> dict[str, Any]:
        now = await administration.found(store, slug)
        return {"tenant": administration.describe(await administration.change(store, now, _read(wanted, Change)))}

    return await _done(config, door, here, "PATCH", _path(slug), wanted)


async def add_key(config: Config, door: Door, slug: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """``{"key": …, "api_key": …}``"""

    async def here(store: Store) -> dict[str, Any]:
        return await administration.add_key(store, await administration.found(store, slug), _read(wanted, NewKey))

    return await _done(config, door, here, "POST", _path(slug, "keys"), wanted)


async def rotate_key(config: Config, door: Door, slug: str, key_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """``{"key": …, "api_key": …, "old_key": …}``"""

    async def here(store: Store) -> dict[str, Any]:
        tenant = await administration.found(store, slug)
        return await administration.rotate_key(store, tenant, key_id, _read(wanted, Rotation))

    return await _done(config, door, here, "POST", _path(slug, "keys", key_id, "rotate"), wanted)


async def revoke_key(config: Config, door: Door, slug: str, key_id: str) -> dict[str, Any]:
    """``{"key": …}``"""

    async def here(store: Store) -> dict[str, Any]:
        return await administration.revoke_key(store, await administration.found(store, slug), key_id)

    return await _done(config, door, here, "DELETE", _path(slug, "keys", key_id))


async def apply_schema(config: Config) -> int:
    """Bring the store to the schema of this program; returns the version it had."""
    store = await Store.open(config.store)
    try:
        return await schema.apply(store)
    finally:
        await store.close()


async def run(config: Config, statements: Sequence[str]) -> None:
    """Run statements on the store, one after the other. Raises StoreError, StoreAway."""
    async with _opened(config) as store:
        for statement in statements:
            await store.command(statement)


Body = TypeVar("Body", bound=msgspec.Struct)


def _read(wanted: dict[str, Any], kind: type[Body]) -> Body:
    """Checked as the body of a request would be."""
    return small_bodies.read(msgspec.json.encode(wanted), kind)


def _path(*parts: str) -> str:
    return "/".join((TENANTS_PATH, *(quote(part, safe="") for part in parts)))


async def _done(
    config: Config,
    door: Door,
    here: Callable[[Store], Awaitable[dict[str, Any]]],
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """``here`` on the store itself, or the same asked of the collector that has it open."""
    if not door.url:
        try:
            async with _opened(config) as store:
                return await here(store)
        except StoreLocked as locked:
            door = door_of_the_running(config, door, locked)
    return await ask(door, method, path, body)


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Store]:
    store = await Store.open(config.store)
    try:
        await schema.apply(store)
        yield store
    finally:
        await store.close()


def door_of_the_running(config: Config, door: Door, locked: StoreLocked) -> Door:
    if not door.token:
        raise StoreLocked(
            f"{locked.message}; to ask that collector instead, give its admin token: set admin_token_file in the "
            "configuration of both, or use --admin-token-file (and --url, if it listens elsewhere)"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.server.host, config.server.host)
    scheme = "https" if config.server.tls.cert_file else "http"
    return Door(url=f"{scheme}://{host}:{config.server.port}", token=door.token, tls=config.server.tls)


async def ask(door: Door, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    if not door.token:
        raise Refused(f"{door.url} wants the admin token; name the file that holds it with --admin-token-file")
    data = None if body is None else msgspec.json.encode(body)
    headers = {ADMIN_HEADER: door.token, "Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.request(
                method, door.url.rstrip("/") + path, data=data, headers=headers, ssl=tls.to_ourselves(door.tls)
            ) as response,
        ):
            text = await response.read()
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Refused(f"{door.url} cannot be asked: {error}; is the collector there? name it with --url") from None
    return _answer(door, status, text)


def _answer(door: Door, status: int, text: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
        if status < 300:
            return answer
        raise Refused(f"{door.url} answered {status}: {answer['error']['message']}")
    except (msgspec.DecodeError, KeyError, TypeError):
        raise Refused(f"{door.url} answered {status}, and not as a collector does; check --url") from None
