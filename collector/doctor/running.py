"""What a running collector says of itself, where it has the embedded store and nobody else can open that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agent.release import version
from collector.doctor import inside
from collector.doctor.findings import Finding, error, ok, warning
from collector.errors import CollectorError
from collector.serving import tls
from collector.tenants import directory
from collector.tenants.administration import TENANTS_PATH
from collector.tenants.directory import Door

_HEALTH = "/api/v1/ingestion/health"


async def asked(door: Door, locked: str) -> AsyncIterator[Finding]:
    """Args: ``locked``: who has the store, in words."""
    import aiohttp

    try:
        limits = aiohttp.ClientTimeout(total=directory.TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=limits) as session,
            session.get(door.url.rstrip("/") + _HEALTH, ssl=tls.to_ourselves(door.tls)) as response,
        ):
            health: dict[str, Any] = await response.json()
            parts = health["components"]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as problem:
        mend = "name it with --url, or stop it and run this again"
        yield error("collector", f"{locked}; at {door.url} no collector answers ({problem})", mend)
        return
    yield ok("collector", f"{locked}; it is asked at {door.url}")
    if health["version"] != version():
        mend = "start the collector again"
        yield warning("collector", f"it runs version {health['version']}, this program is {version()}", mend)
    for name, part in sorted(parts.items()):
        for finding in _part(name, str(part["status"]), str(part.get("detail", ""))):
            yield finding
    async for finding in _keys(door):
        yield finding


def _part(name: str, status: str, detail: str) -> list[Finding]:
    if name == "parts":
        return [inside.parts([detail])]
    if status == "ok":
        said = "answers; settings and schema were checked when it started" if name == "store" else detail or "works"
        return [ok("collector", f"{name}: {said}")]
    level = error if status == "down" else warning
    return [level("collector", f"{name}: {detail or status}", "the collector's log says more")]


async def _keys(door: Door) -> AsyncIterator[Finding]:
    if not door.token:
        mend = "set admin_token_file in the configuration of both, or use --admin-token-file"
        yield warning("keys", "not looked at: the running collector wants the admin token", mend)
        return
    try:
        tenants = (await directory.ask(door, "GET", TENANTS_PATH))["tenants"]
        known = [(one, (await directory.ask(door, "GET", f"{TENANTS_PATH}/{one['slug']}/keys"))["keys"]) for one in tenants]
    except CollectorError as problem:
        yield error("keys", str(problem), "look at admin_token_file: is it the running collector's?")
        return
    for finding in inside.keys(known):
        yield finding
