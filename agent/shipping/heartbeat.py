"""Heartbeats: what the agent tells the collector of itself, so that somebody notices when it falls behind or falls silent.

- A heartbeat is a run of its own with one record, on a connection of its own. It is never in the spool and never tried
  again: the next one says more. So it holds no data up, and a collector too old to know it only refuses it.
- The first leaves soon after the start, one each interval after that, and one at the end that says so.
- Lag is measured against acknowledgements. In seconds it is the age of the first look at which the file was longer than
  what is acknowledged now: right to `LOOK_S` (more with thousands of files), and for what was there at the start counted
  from the start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from agent import wire
from agent.codec import compress_aside
from agent.release import version

log = logging.getLogger("agent.heartbeat")

FIRST_S = 2.0
LOOK_S = 5.0
LOOK_COST_FACTOR = 500
"""A look at thousands of files waits for so many times the CPU time of the last one."""
MAX_FILES = 500
MAX_LOOKS = 128
"""Kept per file; beyond it every other one is forgotten."""


class Lags:
    """How old the oldest unacknowledged byte of each file is. Pure: told sizes and times."""

    def __init__(self) -> None:
        self._looks: dict[str, deque[tuple[float, int]]] = {}

    def look(self, files: Iterable[tuple[str, int, int]], now_s: float) -> None:
        """Note the state of all files: name, size, acknowledged bytes."""
        before, self._looks = self._looks, {}
        for name, size, acked in files:
            looks = self._looks[name] = before.get(name, deque())
            if looks and looks[-1][1] > size:
                looks.clear()  # other content
            if not looks or looks[-1][1] < size:
                looks.append((now_s, size))
            while looks and looks[0][1] <= acked:
                looks.popleft()
            if len(looks) > MAX_LOOKS:
                self._looks[name] = deque(look for n, look in enumerate(looks) if n % 2 == 0)

    def seconds(self, name: str, now_s: float) -> float:
        looks = self._looks.get(name)
        return max(0.0, now_s - looks[0][0]) if looks else 0.0


class Heartbeats:
    """Makes them and sends them at intervals.

    Args:
        snapshot: what `agent.status.status` says.
        more: what it does not: ``unsynced_bytes`` and ``quarantined``.
    """

    def __init__(
        self,
        snapshot: Callable[[], Mapping[str, Any]],
        more: Callable[[], Mapping[str, int]],
        *,
        agent: str,
        scope: str,
        interval_s: float,
    ) -> None:
        self._snapshot = snapshot
        self._more = more
        self._agent = agent
        self._scope = scope
        self._interval_s = interval_s
        self._lags = Lags()
        self._began_s = time.monotonic()
        self._boot = os.urandom(4).hex()
        self._number = 0
        self._stopping = asyncio.Event()
        self._done = asyncio.Event()

    async def run(self, post: Callable[[bytes], Awaitable[None]]) -> None:
        """Send them by ``post`` until `goodbye`. Nothing that goes wrong here ends anything."""
        next_s = self._began_s + min(FIRST_S, self._interval_s)
        stopping, look_s = False, LOOK_S
        while not stopping:
            stopping = await self._stops_within(min(look_s, next_s - time.monotonic()))
            began_s = time.thread_time()
            try:
                due = stopping or time.monotonic() >= next_s
                record = self.record(stopping=stopping) if due else b""
                if not due:
                    self._look(self._snapshot())
                look_s = max(LOOK_S, LOOK_COST_FACTOR * (time.thread_time() - began_s))
                if due:
                    next_s = time.monotonic() + self._interval_s
                    await post(record)
            except Exception as error:
                log.debug("a heartbeat was not sent: %s: %s", type(error).__name__, error)
        self._done.set()

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def goodbye(self, within_s: float) -> None:
        """Send the last one, if that works in time."""
        self._stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._done.wait()

    def record(self, *, stopping: bool = False) -> bytes:
        """One heartbeat as a run."""
        said = self._snapshot()
        self._look(said)
        raw = wire.encode_heartbeat(self._heartbeat(said, stopping=stopping))
        self._number += 1
        header = wire.Header(
            kind=wire.HEARTBEAT,
            record_id=f"heartbeat-{self._boot}-{self._number}",
            agent=self._agent,
            scope=self._scope,
            raw_bytes=len(raw),
            observed_ns=time.time_ns(),
        )
        return wire.encode_record(header, compress_aside(raw))

    def _look(self, said: Mapping[str, Any]) -> None:
        files = [(file["path"], file["size_bytes"], done(file, said)) for file in said["files"]]
        self._lags.look(files, time.monotonic())

    def _heartbeat(self, said: Mapping[str, Any], *, stopping: bool) -> wire.Heartbeat:
        now_s = time.monotonic()
        files = [self._file(file, said, now_s) for file in said["files"]]
        counts = said["counts"]
        prefix = "lost_bytes."
        heartbeat = wire.Heartbeat(
            version=version(),
            uptime_s=round(now_s - self._began_s, 1),
            stopping=stopping,
            sending=said["sending"][:500],
            reading=said["reading"],
            spool_bytes=said["spool_bytes"],
            held_bytes=sum(max(0, file.read - file.acked) for file in files if file.acked is not None),
            lag_bytes=sum(file.lag_bytes for file in files),
            lag_s=max((file.lag_s for file in files), default=0.0),
            rejected_events=counts.get("rejected_events", 0),
            lost_bytes=said["lost_bytes"],
            losses={name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)},
            files_total=len(files),
            recovered_bytes=counts.get("recovered_bytes", 0),
        )
        heartbeat = msgspec.structs.replace(heartbeat, **self._more())
        return _with_files(heartbeat, sorted(files, key=lambda file: (-file.lag_bytes, file.path))[:MAX_FILES])

    def _file(self, file: Mapping[str, Any], said: Mapping[str, Any], now_s: float) -> wire.FileHealth:
        return wire.FileHealth(
            path=file["path"][:4096],
            source=file["source"],
            size=file["size_bytes"],
            read=file["read_offset"],
            acked=_acked(file, said),
            lag_bytes=max(0, file["size_bytes"] - done(file, said)),
            lag_s=round(self._lags.seconds(file["path"], now_s), 1),
            state=file["state"],
            error=file["error"] or "",
        )


def _acked(file: Mapping[str, Any], said: Mapping[str, Any]) -> int | None:
    """How far a file is acknowledged. With nothing in the spool, all that was read is."""
    if file["acked_offset"] is not None and not said["drained"]:
        return int(file["acked_offset"])
    return int(file["read_offset"]) if said["drained"] and file["state"] == "followed" else None


def done(file: Mapping[str, Any], said: Mapping[str, Any]) -> int:
    """What of a file no longer counts as lag."""
    acked = _acked(file, said)
    return int(file["read_offset"]) if acked is None else acked


def _with_files(heartbeat: wire.Heartbeat, files: list[wire.FileHealth]) -> wire.Heartbeat:
    """With as many of the files, from the front, as fit."""
    while True:
        whole = msgspec.structs.replace(heartbeat, files=tuple(files))
        if len(wire.encode_heartbeat(whole)) <= wire.MAX_HEARTBEAT_BYTES:
            return whole
        files = files[: len(files) // 2]
