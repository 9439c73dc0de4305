"""Tenants and schema from the command line: through the store itself, or through the collector that has it open.

The embedded store belongs to one process. When another has it, the collector that runs is asked over HTTP with the
admin token; its address is ``--url``, else the one in the configuration.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from collector import registration, schema, tenants
from collector.auth import ADMIN_HEADER
from collector.config import Config
from collector.errors import CollectorError, StoreLocked
from collector.store import Store

REGISTER_PATH = "/api/v1/auth/register/tenant"
TENANTS_PATH = "/api/v1/tenants"
TIMEOUT_S = 30.0


class Door(msgspec.Struct, frozen=True):
    """How to ask a running collector; either may be empty."""

    url: str
    token: str


class Refused(CollectorError):
    """The running collector did not do it."""


async def create(config: Config, door: Door, wanted: dict[str, Any]) -> dict[str, Any]:
    """Make a tenant: ``{"tenant": …, "api_key": …}``. Raises CollectorError."""
    if not door.url:
        try:
            async with _opened(config) as store:
                limits = registration.limits_with(config.default_limits, wanted["limits"])
                tenant, api_key = await tenants.create(
                    store, wanted["name"], slug=wanted["slug"], contact_email=wanted["contact_email"], limits=limits
                )
                return {"tenant": registration.shown(tenant), "api_key": api_key}
        except StoreLocked as locked:
            door = _door_of_the_running(config, door, locked)
    return await _ask(door, "POST", REGISTER_PATH, wanted)


async def list_all(config: Config, door: Door) -> list[dict[str, Any]]:
    """Every tenant as JSON. Raises CollectorError."""
    if not door.url:
        try:
            async with _opened(config) as store:
                return [registration.shown(tenant) for tenant in await tenants.list_all(store)]
        except StoreLocked as locked:
            door = _door_of_the_running(config, door, locked)
    found: list[dict[str, Any]] = (await _ask(door, "GET", TENANTS_PATH))["tenants"]
    return found


async def apply_schema(config: Config) -> int:
    """Bring the store to the schema of this program; returns the version it had."""
    store = await Store.open(config.store)
    try:
        return await schema.apply(store)
    finally:
        await store.close()


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Store]:
    store = await Store.open(config.store)
    try:
        await schema.apply(store)
        yield store
    finally:
        await store.close()


def _door_of_the_running(config: Config, door: Door, locked: StoreLocked) -> Door:
    if not door.token:
        raise StoreLocked(
            f"{locked.message}; to ask that collector instead, give its admin token: set admin_token_file in the "
            "configuration of both, or use --admin-token-file (and --url, if it listens elsewhere)"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.server.host, config.server.host)
    return Door(url=f"http://{host}:{config.server.port}", token=door.token)


async def _ask(door: Door, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    if not door.token:
        raise Refused(f"{door.url} wants the admin token; name the file that holds it with --admin-token-file")
    data = None if body is None else msgspec.json.encode(body)
    headers = {ADMIN_HEADER: door.token, "Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.request(method, door.url.rstrip("/") + path, data=data, headers=headers) as response,
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
