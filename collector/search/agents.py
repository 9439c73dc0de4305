"""Agents by their heartbeats: who is there, how far behind, what was lost.

- The last heartbeat of an agent counts; an agent is a name and a scope of a tenant, both said by the agent itself.
- Taking one costs no insert: those of `collector.writing.flusher`'s interval are written together, the newest of each agent.
  What is not written yet is shown from memory; of other collectors' agents the figures are that interval older.
- Times are the collector's: an agent's clock may be wrong, and is not needed.
- The metrics are sums over the agents heard by this collector in the last `HEARD_S`; which agent is meant is in the API.
  An agent's connections may end at several workers: they tell one another whom they heard, and the last time counts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, NamedTuple, Protocol

import msgspec

from agent import wire
from collector.ingest.moments import show_moment
from collector.metrics import Metrics
from collector.search.query import Statement
from collector.search.read_types import AgentShown, FileShown
from collector.serving.peers import ALONE, Peers

HEARD_S = 120.0
MAX_WAITING = 20_000
"""Heartbeats that wait to be written while the store is away; beyond it the oldest are forgotten."""
MAX_WAITING_BYTES = 64 << 20
"""The same, as they were sent: a heartbeat may be large, and one tenant can send them under any number of names."""
TENANT_SHARE = 4
"""One tenant's heartbeats may take a quarter of that; beyond it its own oldest are forgotten, nobody else's."""
MAX_AGENTS = 1000
"""Shown to one tenant, those last heard first."""
_HEARD = "heard"
_COLUMNS = ("tenant_id", "agent", "scope", "seen", "heartbeat")


class Tables(Protocol):
    """The part of the store that is used."""

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...


class Name(NamedTuple):
    tenant_id: str
    agent: str
    scope: str


class Heard(NamedTuple):
    seen_us: int
    heartbeat: wire.Heartbeat
    size_bytes: int = 0


class Sign(NamedTuple):
    """Of an agent's life, for the metrics."""

    seen_us: int
    stopping: bool
    lag_bytes: int
    lag_s: float
    lost_bytes: int


class Agents:
    """Heartbeats taken by this process.

    Args:
        peers: the other workers.
        wall_us: µs since 1970.
    """

    def __init__(
        self,
        store: Tables,
        metrics: Metrics,
        peers: Peers = ALONE,
        *,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._peers = peers
        self._wall_us = wall_us
        self._waiting: dict[Name, Heard] = {}
        self._waiting_bytes: Counter[str] = Counter()
        """By tenant."""
        self._heard: dict[Name, Sign] = {}
        self._writing = asyncio.Lock()

    def take(self, tenant_id: str, header: wire.Header, heartbeat: wire.Heartbeat) -> None:
        name = Name(tenant_id, header.agent, header.scope)
        seen_us = self._wall_us()
        self._forget(name)
        self._make_room(tenant_id, header.raw_bytes)
        self._waiting[name] = Heard(seen_us, heartbeat, header.raw_bytes)
        self._waiting_bytes[tenant_id] += header.raw_bytes
        self._heard.pop(name, None)
        if len(self._heard) >= MAX_WAITING:
            del self._heard[next(iter(self._heard))]
        lag_s = heartbeat.lag_s if isfinite(heartbeat.lag_s) else 0.0
        self._heard[name] = Sign(seen_us, heartbeat.stopping, heartbeat.lag_bytes, lag_s, heartbeat.lost_bytes)
        self._metrics.heartbeats.inc()

    async def write(self) -> None:
        """Write what was taken since the last time. Raises StoreError; it is written the next time then."""
        if self._peers.alone:
            self.measure()
        else:
            with suppress(OSError):  # for the metrics only
                self._peers.says(_HEARD, _encode_signs(list(self._signs().items())))
        async with self._writing:
            taken = dict(self._waiting)
            if not taken:
                return
            rows = [(*name, heard.seen_us, msgspec.json.encode(heard.heartbeat).decode()) for name, heard in taken.items()]
            await self._store.insert("agents", _COLUMNS, rows)
            for name, heard in taken.items():
                if self._waiting.get(name) is heard:
                    self._forget(name)

    def _make_room(self, tenant_id: str, size: int) -> None:
        own = MAX_WAITING_BYTES // TENANT_SHARE
        while self._waiting_bytes[tenant_id] + size > own and self._waiting_bytes[tenant_id]:
            self._forget(next(name for name in self._waiting if name.tenant_id == tenant_id))
        while self._waiting and (len(self._waiting) >= MAX_WAITING or self._waiting_bytes.total() + size > MAX_WAITING_BYTES):
            self._forget(next(iter(self._waiting)))

    def _forget(self, name: Name) -> None:
        heard = self._waiting.pop(name, None)
        if heard is not None:
            self._waiting_bytes[name.tenant_id] -= heard.size_bytes
            if not self._waiting_bytes[name.tenant_id]:
                del self._waiting_bytes[name.tenant_id]

    def statement(self, tenant_id: str) -> Statement:
        """Rows for `shown`."""
        return Statement(
            "SELECT toValidUTF8(agent), toValidUTF8(scope), toUnixTimestamp64Micro(seen), heartbeat FROM agents FINAL "
            f"WHERE tenant_id = {{tenant:String}} ORDER BY seen DESC LIMIT {MAX_AGENTS}",
            {"tenant": tenant_id},
        )

    def shown(self, tenant_id: str, rows: Iterable[Sequence[Any]]) -> list[AgentShown]:
        """The tenant's agents, those furthest behind first."""
        found: dict[Name, Heard] = {}
        for agent, scope, seen_us, text in rows:
            found[Name(tenant_id, agent, scope)] = Heard(seen_us, _decode(text))
        for name, heard in self._waiting.items():
            if name.tenant_id == tenant_id and (name not in found or found[name].seen_us < heard.seen_us):
                found[name] = heard
        now_us = self._wall_us()
        agents = [_shown(name, heard, now_us) for name, heard in found.items()]
        return sorted(agents, key=lambda agent: (-agent.lag_bytes, agent.agent, agent.scope))

    def measure(self) -> None:
        """Set the metrics."""
        signs = self._signs()
        if not self._peers.alone:
            for text in self._peers.said(_HEARD):
                for name, sign in _decode_signs(text):
                    if name not in signs or signs[name].seen_us < sign.seen_us:
                        signs[name] = sign
        oldest_us = self._oldest_us()
        alive = [sign for sign in signs.values() if sign.seen_us >= oldest_us and not sign.stopping]
        self._metrics.agents.set(len(alive))
        self._metrics.agents_lag_bytes.set(sum(sign.lag_bytes for sign in alive))
        self._metrics.agents_lag_seconds.set(max((sign.lag_s for sign in alive), default=0.0))
        self._metrics.agents_lost_bytes.set(sum(sign.lost_bytes for sign in alive))

    def _signs(self) -> dict[Name, Sign]:
        """Of whom this process has heard lately."""
        oldest_us = self._oldest_us()
        for name in [name for name, sign in self._heard.items() if sign.seen_us < oldest_us]:
            del self._heard[name]
        return dict(self._heard)

    def _oldest_us(self) -> int:
        return self._wall_us() - int(HEARD_S * 1e6)


_encode_signs = msgspec.json.Encoder().encode
_decode_signs = msgspec.json.Decoder(list[tuple[Name, Sign]]).decode


def _decode(text: str) -> wire.Heartbeat:
    try:
        return msgspec.json.decode(text, type=wire.Heartbeat)
    except msgspec.DecodeError:
        return wire.Heartbeat(version="unknown")  # of a newer collector's


def _shown(name: Name, heard: Heard, now_us: int) -> AgentShown:
    heartbeat = heard.heartbeat
    return AgentShown(
        agent=name.agent,
        scope=name.scope,
        version=heartbeat.version,
        started=show_moment(max(0, heard.seen_us - int(heartbeat.uptime_s * 1e6))),
        last_seen=show_moment(heard.seen_us),
        silent_seconds=max(0.0, round((now_us - heard.seen_us) / 1e6, 1)),
        stopped=heartbeat.stopping,
        sending=heartbeat.sending,
        reading=heartbeat.reading,
        lag_bytes=heartbeat.lag_bytes,
        lag_seconds=heartbeat.lag_s,
        spool_bytes=heartbeat.spool_bytes,
        unsynced_bytes=heartbeat.unsynced_bytes,
        held_bytes=heartbeat.held_bytes,
        quarantined_records=heartbeat.quarantined,
        rejected_events=heartbeat.rejected_events,
        lost_bytes=heartbeat.lost_bytes,
        losses=heartbeat.losses,
        recovered_bytes=heartbeat.recovered_bytes,
        files_total=heartbeat.files_total,
        files=[
            FileShown(
                path=file.path,
                source=file.source,
                size_bytes=file.size,
                read_bytes=file.read,
                acked_bytes=file.acked,
                lag_bytes=file.lag_bytes,
                lag_seconds=file.lag_s,
                state=file.state,
                error=file.error,
            )
            for file in heartbeat.files
        ],
    )
