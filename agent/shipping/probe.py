"""Is a collector there, and does it take our key: asked with an empty run, which stores nothing."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agent import wire
from agent.config import Collector
from agent.shipping import retry
from agent.shipping.transport import NoReply, Transport


async def probe(settings: Collector, tenant_id: str) -> list[tuple[str, str]]:
    """Each collector's URL, and what is wrong with it; an empty text when nothing is.

    Args:
        tenant_id: whose the agent's data is, if that is known already.
    """
    found = []
    for url in (settings.url, *settings.urls):
        transport = Transport(msgspec.structs.replace(settings, url=url, urls=()), connections=1)
        async with transport.opened():
            try:
                reply = await transport.post(b"", {})
            except NoReply as error:
                found.append((url, f"{error}; check the URL, the network, and whether a collector runs there"))
                continue
        decision = retry.judge(reply.status, reply.headers, reply.body, {}, tenant_id)
        # A refusal in the collector's own words comes after it has looked at the key.
        well = isinstance(decision, (retry.Delivered, retry.Split)) or reply.status == 429
        found.append((url, "" if well else f"{url}: {_reason(decision)}"))
    return found


class Allowance(NamedTuple):
    """What a collector says of the tenant; 0: no limit, or it does not say."""

    events_per_month: int
    retention_days: int


async def allowances(settings: Collector) -> list[Allowance]:
    """Of each collector."""
    found = []
    for url in (settings.url, *settings.urls):
        transport = Transport(msgspec.structs.replace(settings, url=url, urls=()), connections=1)
        async with transport.opened():
            try:
                reply = await transport.get(wire.RATE_LIMIT_PATH)
                said = msgspec.json.decode(reply.body, type=_Allowance) if reply.status == 200 else _Allowance()
            except (NoReply, msgspec.DecodeError):
                said = _Allowance()
        found.append(Allowance(said.month.limit or 0, said.limits.retention_days))
    return found


class _Month(msgspec.Struct, frozen=True):
    limit: int | None = None


class _Limits(msgspec.Struct, frozen=True):
    retention_days: int = 0


class _Allowance(msgspec.Struct, frozen=True):
    month: _Month = _Month()
    limits: _Limits = _Limits()


def _reason(decision: retry.Decision) -> str:
    return "" if isinstance(decision, retry.Delivered) else decision.reason
