"""Shipping: runs of records out of the spool, over HTTP, until each has a final outcome.

Promises:
- The bytes of a run are those of the spool, and the same on every try. What may have been received before says so.
- Only `agent.retry` decides what an answer means; this module obeys. A run leaves the spool with its ack, never before.
- A few requests are in flight; none of them waits for another. A success wakes those that wait to try again.
- Heartbeats go on a connection of their own and wait for nothing.
- A refused key stops the sending and is tried again at intervals; reading goes on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random

import aiohttp

from agent import crash, retry, wire
from agent.codec import ZstdError
from agent.deadletter import RETRY_S, DeadLetters, Quarantine
from agent.heartbeat import Heartbeats
from agent.ledger import Ledger
from agent.logs import Fault
from agent.segment import Position
from agent.spool import Entry, Spool

log = logging.getLogger("agent.ship")

MAX_ANSWER_BYTES = 16 << 20
MAX_RUN_RAW_BYTES = 7 << 19
"""What one request may be when inflated: a fraction of what a collector lets one tenant keep waiting."""
CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_TIMEOUT_S = 10.0


class Shipper:
    """Sends what the spool holds. Owned by the event loop."""

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        state: Path,
        *,
        url: str,
        api_key: str,
        ca_file: str,
        in_flight: int,
        run_bytes: int,
        request_timeout_s: float,
        random: Random | None = None,
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._dead_letters = DeadLetters(state)
        self.quarantine = Quarantine(state)
        self._url = url.rstrip("/") + wire.BLOCKS_PATH
        self._headers = {"X-API-Key": api_key, "Content-Type": wire.RUN_TYPE}
        self._ca_file = ca_file
        self._in_flight = in_flight
        self._run_bytes = run_bytes
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._random = random or Random()
        self._wake = asyncio.Event()
        self._passed = asyncio.Event()
        self._passes = 0
        self._fault = Fault(log, "sending")
        self._idle = asyncio.Event()
        self.heartbeats: Heartbeats | None = None
        """Sent beside the runs, if there are any."""

    def wake(self) -> None:
        """The spool has something new."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        context = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True
        connector = aiohttp.TCPConnector(limit=self._in_flight + 2, ssl=context, keepalive_timeout=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=self._timeout, auto_decompress=True) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._in_flight):
                group.create_task(self._work(session))
            group.create_task(self._retry_quarantined(session))
            if self.heartbeats is not None:
                group.create_task(self.heartbeats.run(partial(self._post_heartbeat, session)))

    async def drained(self) -> None:
        """Return when everything in the spool has its outcome."""
        while not self._spool.drained:
            self._idle.clear()
            self._wake.set()
            await self._idle.wait()

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            run = self._spool.next_run(max_bytes=self._run_bytes, max_raw_bytes=MAX_RUN_RAW_BYTES)
            if run is None:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._deliver(session, run.entries, replay=run.replay)
            self._idle.set()

    async def _deliver(self, session: aiohttp.ClientSession, entries: tuple[Entry, ...], *, replay: bool) -> None:
        """Until every record of the run has its outcome, or is in the quarantine."""
        attempt, passes = 0, self._passes
        while True:
            decision = await self._post(session, entries, replay=replay or attempt > 0)
            attempt += 1
            poisoned = (
                isinstance(decision, retry.RetryAfter)
                and decision.suspicious
                and attempt >= retry.ATTEMPTS_BEFORE_SPLIT
                and (len(entries) > 1 or self._passes > passes)
            )
            if isinstance(decision, retry.Delivered):
                if not (trouble := self._settle(entries, decision.answer)):
                    return
                decision = retry.RetryAfter(trouble)
            if isinstance(decision, retry.Split) or poisoned:
                if await self._set_apart(session, entries, decision.reason):
                    return
                decision = retry.RetryAfter(decision.reason)
            self._report(decision.reason)
            if isinstance(decision, retry.RetryAfter):
                await self._pause(retry.wait_for(decision, attempt, self._random), eager=decision.seconds is None)
            else:
                await self._pause(retry.STOPPED_RETRY_S, eager=True)

    async def _set_apart(self, session: aiohttp.ClientSession, entries: tuple[Entry, ...], reason: str) -> bool:
        """Send the records of a refused run one by one; keep one alone in the quarantine. False: no room for it."""
        if len(entries) > 1:
            for entry in entries:
                await self._deliver(session, (entry,), replay=True)
            return True
        try:
            kept = self.quarantine.add(entries[0])
        except OSError as error:
            reason, kept = f"{reason}; quarantine: {error.strerror}", False
        if not kept:
            return False
        header = entries[0].header
        log.error(
            "record %s (%s, bytes %d to %d) was refused and is in the quarantine, tried again every %d minutes: %s",
            header.record_id, header.path, header.source_from, header.source_to, RETRY_S // 60, reason,
        )  # fmt: skip
        self._ledger.add("quarantined_events", header.events)
        crash.point("quarantine.acked")
        self._spool.ack(entries)
        return True

    async def _post(self, session: aiohttp.ClientSession, entries: tuple[Entry, ...], *, replay: bool) -> retry.Decision:
        body = entries[0].data if len(entries) == 1 else b"".join(entry.data for entry in entries)
        headers = {**self._headers, wire.REPLAY_HEADER: "1"} if replay else dict(self._headers)
        if self._ledger.tenant_id:
            headers[wire.TENANT_HEADER] = self._ledger.tenant_id
        expected = {entry.header.record_id: entry.header.events for entry in entries}
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                answer = await _read(response)
                crash.point("answer.read")
                found: Mapping[str, str] = response.headers
                return retry.judge(response.status, found, answer, expected, self._ledger.tenant_id)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return retry.RetryAfter(f"{self._url}: {type(error).__name__}: {error}".rstrip(": "))

    async def _post_heartbeat(self, session: aiohttp.ClientSession, run: bytes) -> None:
        """Once, whatever becomes of it."""
        timeout = aiohttp.ClientTimeout(total=HEARTBEAT_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        async with session.post(self._url, data=run, headers=self._headers, allow_redirects=False, timeout=timeout) as response:
            await _read(response)
            if response.status != 200:
                log.debug("a heartbeat was answered HTTP %d", response.status)

    def _settle(self, entries: tuple[Entry, ...], answer: wire.Answer) -> str:
        """Keep what was refused, then let go of the run. Returns why that was not possible, if it was not."""
        outcomes = {outcome.record_id: outcome for outcome in answer.records}
        for entry in entries:
            if trouble := self._keep_refused(entry, outcomes[entry.header.record_id], answer.tenant_id):
                return trouble
        for entry in entries:
            self._ledger.acked(entry.header, outcomes[entry.header.record_id])
        if not self._ledger.tenant_id:
            log.info("first contact: this agent's data belongs to tenant %s", answer.tenant_id)
            self._ledger.tenant_id = answer.tenant_id
            crash.point("tenant.first")
        crash.point("ack.before")
        self._spool.ack(entries)
        crash.point("ack.after")
        self._passes += 1
        self._passed.set()
        self._fault.over()
        self._ledger.sending = "ok"
        return ""

    def _keep_refused(self, entry: Entry, outcome: wire.RecordOutcome, tenant_id: str) -> str:
        """Put a record's rejected events into the dead letters. Returns why that was not possible, if it was not."""
        if not outcome.rejected or entry.header.kind != wire.DATA:
            return ""
        try:
            count = self._dead_letters.add(entry, outcome, tenant_id)
        except OSError as error:
            return f"the dead letters cannot be kept: {error.strerror}"
        log.error("%s: %d events were refused (%s); they are in the dead letters", entry.header.path, count, outcome.reason)
        return ""

    def _report(self, reason: str) -> None:
        self._ledger.sending = reason
        self._fault.seen(reason, time.monotonic())

    async def _pause(self, seconds: float, *, eager: bool) -> None:
        """Wait; ``eager``: not longer than until another run has passed."""
        if not eager:
            await asyncio.sleep(seconds)
            return
        self._passed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._passed.wait()
        except TimeoutError:
            pass

    async def _retry_quarantined(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            for path in self.quarantine.records():
                try:
                    await self._retry_one(session, path)
                except (OSError, wire.BadRecord, ZstdError) as error:
                    log.error("%s: this record of the quarantine cannot be read: %s", path, error)

    async def _retry_one(self, session: aiohttp.ClientSession, path: Path) -> None:
        data = path.read_bytes()
        entry = Entry(Position(0, 0), wire.decode_record(data).header, data)
        decision = await self._post(session, (entry,), replay=True)
        if not isinstance(decision, retry.Delivered):
            return
        outcome = decision.answer.records[0]
        if trouble := self._keep_refused(entry, outcome, decision.answer.tenant_id):
            log.error("record %s stays in the quarantine: %s", entry.header.record_id, trouble)
            return
        self._ledger.acked(entry.header, outcome)
        self.quarantine.remove(path)
        crash.point("quarantine.removed")
        log.info("record %s left the quarantine: delivered", entry.header.record_id)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, at most `MAX_ANSWER_BYTES` of it: a longer one is no answer of a collector, and does not decode."""
    chunks, size = [], 0
    async for chunk in response.content.iter_chunked(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            break
    return b"".join(chunks)
