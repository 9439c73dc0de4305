"""A shipper in the test's own process, on a spool with records of one line each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.codec import compress
from agent.config import Collector
from agent.ledger import Ledger
from agent.shipping import retry
from agent.shipping.ship import Shipper
from tests.support.agent import exactly_once
from tests.support.sink import Seen
from tests.support.spooled import Written, open_spool
from tests.support.wait import until

ONE_EACH = 1
"""``run_bytes`` with which each record is a run."""


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait that the agent chooses itself is short."""
    monkeypatch.setattr(retry, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(retry, "BACKOFF_CAP_S", 0.02)
    monkeypatch.setattr(retry, "STOPPED_RETRY_S", 0.02)


def each_once(seen: Seen, lines: Iterable[bytes]) -> None:
    """These lines and no others were received, each under one ID, and no loss was made up."""
    exactly_once(seen, [line.decode() for line in lines])
    assert seen.losses == []


def ship_until(
    folder: Path,
    url: str,
    condition: Callable[[], object],
    what: str,
    *,
    lines: Iterable[bytes] = (),
    in_flight: int = 2,
    **settings: Any,
) -> Ledger:
    """Run a shipper until a condition holds. Fails when it ends by itself. ``settings`` are the collector section's."""
    folder.mkdir(parents=True, exist_ok=True)
    spool, ledger = open_spool(folder / "spool"), Ledger()
    written = Written(spool)
    for line in lines:
        written.append("a", len(line) + 1, payload=compress(line + b"\n"))
    collector = Collector(**{"url": url, "api_key": "a-key", "request_timeout_s": 9.0, **settings})
    shipper = Shipper(spool, ledger, folder, collector, in_flight=in_flight)

    async def run() -> None:
        shipping = asyncio.ensure_future(shipper.run())
        waiting = asyncio.ensure_future(asyncio.to_thread(until, condition, what, told=ledger.counts))
        await asyncio.wait([shipping, waiting], return_when=asyncio.FIRST_COMPLETED)
        assert not shipping.done(), shipping.exception()
        shipping.cancel()
        await asyncio.gather(shipping, return_exceptions=True)
        await waiting

    try:
        asyncio.run(run())
    finally:
        spool.close()
    return ledger
