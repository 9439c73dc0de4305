"""Shipping: runs of records out of the spool, over HTTP, until each has a final outcome.

Promises:
- The bytes of a run are those of the spool, and the same on every try. What may have been received before says so.
- Only `agent.shipping.retry` decides what an answer means, and `agent.shipping.suspects` what becomes of a run that
  keeps failing; this module obeys. A run leaves the spool with its ack, never before.
- A few requests are in flight; none of them waits for another, and none for a run that fails by itself: that one is set
  aside, and what is behind it goes on. When everything fails, the pauses grow.
- A fault of this program that shows on one run costs that run its turn, not the agent its life: it is logged, counted and
  treated as a failure of the run.
- Heartbeats go on a connection of their own and wait for nothing.
- A refused key stops the sending and is tried again at intervals; reading goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from random import Random

import msgspec

from agent import crash, wire
from agent.codec import ZstdError
from agent.config import Collector
from agent.errors import StorageFailed
from agent.ledger import Ledger
from agent.logs import Fault, fields
from agent.shipping import retry, suspects
from agent.shipping.deadletter import KEPT_COMPLETED_S, RETRY_S, DeadLetters, Quarantine
from agent.shipping.endpoints import Endpoint
from agent.shipping.heartbeat import Heartbeats
from agent.shipping.suspects import Apart, Parcel, Suspects, Verdict, Wait
from agent.shipping.transport import NoReply, Transport
from agent.spool.segment import Position
from agent.spool.spool import Entry, Spool

log = logging.getLogger("agent.ship")
Refusal = retry.RetryAfter | retry.Split
_decode_answer = msgspec.json.Decoder(wire.Answer).decode

MAX_RUN_RAW_BYTES = 7 << 19
"""What one request may be when inflated: a fraction of what a collector lets one tenant keep waiting."""


LOOK_S = 10.0
"""How often the quarantine is looked through for records that are due."""
KEY_LOOK_S = 1.0
ORDER_S = 0.2
"""How soon it is looked again whether what a record speaks of has arrived."""


class Shipper:
    """Sends what the spool holds. Owned by the event loop."""

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        state: Path,
        collector: Collector,
        *,
        in_flight: int,
        random: Random | None = None,
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        ledger.begin()
        self._dead_letters = DeadLetters(state)
        self.quarantine = Quarantine(state)
        self._transport = Transport(collector, connections=in_flight + 2)
        self._in_flight = in_flight
        self._run_bytes = collector.run_bytes
        self._random = random or Random()
        self._suspects = Suspects()
        self._wake = asyncio.Event()
        self._passed = asyncio.Event()
        self._passes = 0
        self._failures = 0
        """Since something passed."""
        self._halves_said = False
        self._fault = Fault(log, "sending")
        self._idle = asyncio.Event()
        self.heartbeats: Heartbeats | None = None
        """Sent beside the runs, if there are any."""

    def wake(self) -> None:
        """The spool has something new."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises StorageFailed when the spool has to be opened anew."""
        async with self._transport.opened(), asyncio.TaskGroup() as group:
            for _ in range(self._in_flight):
                group.create_task(self._work())
            group.create_task(self._retry_quarantined())
            if self.heartbeats is not None:
                group.create_task(self.heartbeats.run(self._post_heartbeat))

    async def drained(self) -> None:
        """Return when everything in the spool has its outcome."""
        self._wake.set()
        while not self._spool.drained:
            self._idle.clear()
            await self._idle.wait()

    async def _work(self) -> None:
        suspect_before = False
        while True:
            try:
                parcel, entries = self._next(suspect_before)
            except OSError as error:  # too many open files, for instance
                self._report(f"the spool cannot be read: {error.strerror}")
                await self._pause(retry.BACKOFF_CAP_S / 4, eager=True)
                continue
            if parcel is None:
                suspect_before = False
                await self._rest()
                continue
            suspect_before = not entries
            await self._deliver(parcel, entries)
            self._idle.set()

    def _next(self, suspect_before: bool) -> tuple[Parcel | None, tuple[Entry, ...]]:
        """What to send next: a suspect that is due and what is fresh take turns. A suspect is read again when it is sent."""
        suspect = None if suspect_before else self._suspects.take(time.monotonic())
        if suspect is None:
            run = self._spool.next_run(max_bytes=self._run_bytes, max_raw_bytes=MAX_RUN_RAW_BYTES)
            if run is not None:
                for entry in run.entries:
                    self._ledger.taken(entry.header)
                places = tuple(entry.position for entry in run.entries)
                return Parcel(places, replay=run.replay, passes=self._passes), run.entries
            suspect = self._suspects.take(time.monotonic())
        return suspect, ()

    async def _rest(self) -> None:
        """Until the spool has something new, or a suspect is due."""
        due_s = self._suspects.due_s
        self._idle.set()
        self._wake.clear()
        await _within(None if due_s is None else max(0.0, due_s - time.monotonic()), self._wake)

    async def _deliver(self, parcel: Parcel, entries: tuple[Entry, ...]) -> None:
        """Until every record of the parcel has its outcome, or it is among the suspects."""
        while True:
            try:
                entries = entries or tuple(self._spool.entry(place) for place in parcel.places)
                if self._is_early(entries):
                    self._suspects.add(parcel, time.monotonic() + ORDER_S)
                    return
                again = parcel.replay or parcel.tries > 0
                decision = await self._post(entries, replay=again)
                parcel.tries += 1
                if isinstance(decision, retry.Delivered):
                    if trouble := self._settle(entries, decision.answer, again=again):
                        self._report(trouble)
                        self._put_off(parcel, parcel.tries)
                    return
            except (StorageFailed, asyncio.CancelledError):
                raise
            except Exception as error:
                log.exception("%s: a fault of this program while sending; please report it", _named(entries))
                self._ledger.add("internal_errors", 1)
                decision = retry.RetryAfter(f"internal error: {type(error).__name__}", suspicious=True)
            if not (isinstance(decision, retry.Split) and _completes(entries)):
                self._report(decision.reason, decision.request_id)
            if isinstance(decision, retry.Split):
                self._sentence(parcel, entries, suspects.refused(parcel, self._passes), decision)
                return
            self._failures += 1
            if isinstance(decision, retry.Stop):
                await self._pause_until_another_key()
                continue
            attempt = parcel.tries
            if decision.suspicious:
                parcel.failures += 1
                attempt = suspects.attempt(parcel, self._passes, self._failures, self._in_flight)
            wait_s = retry.wait_for(decision, attempt, self._random)
            if decision.suspicious:
                self._sentence(parcel, entries, suspects.judge(parcel, self._passes), decision)
                await self._pause(wait_s, eager=True)
                return
            await self._pause(wait_s, eager=decision.seconds is None)

    def _is_early(self, entries: tuple[Entry, ...]) -> bool:
        """Whether these records speak of others that may still be on their way: what is to be deleted has to be there first.
        Nobody waits for them here: a worker may be needed for those others."""
        return _completes(entries) and self._spool.low_water < entries[0].position

    def _sentence(self, parcel: Parcel, entries: tuple[Entry, ...], verdict: Verdict, why: Refusal) -> None:
        """A parcel failed, and it may be its own fault: set it aside, so that what is behind it goes on."""
        if isinstance(verdict, Apart):
            for part in verdict.parcels:
                self._suspects.add(part, 0.0)
        elif isinstance(verdict, Wait) or not self._set_aside(entries[0], why):
            self._put_off(parcel, parcel.failures)

    def _put_off(self, parcel: Parcel, times: int) -> None:
        self._suspects.add(parcel, time.monotonic() + retry.backoff(max(1, times), self._random))

    def _set_aside(self, entry: Entry, why: Refusal) -> bool:
        """Keep a record in the quarantine. False: no room for it."""
        header, reason = entry.header, why.reason
        completes = _completes((entry,))
        try:
            if not self.quarantine.add(entry) and not completes:
                self._report(f"{reason}; the quarantine is full")
                return False
        except OSError as error:
            self._report(f"{reason}; quarantine: {error.strerror}")
            return False
        if completes:
            self._say_halves_stay(reason)
        else:
            log.error(
                "record %s (%s, bytes %d to %d) was refused and is in the quarantine, tried again every %d minutes: %s",
                header.record_id, header.path, header.source_from, header.source_to, RETRY_S // 60, reason,
                extra=fields(request_id=why.request_id),
            )  # fmt: skip
        self._ledger.set_aside(header)
        crash.point("quarantine.acked")
        self._spool.ack((entry,))
        self._failures = 0  # they were this one's
        self._look_well()
        return True

    def _say_halves_stay(self, reason: str) -> None:
        """A collector of a version that does not know `wire.COMPLETED` refuses it, each time: that is said once."""
        if not self._halves_said:
            log.warning(
                "the collector does not take away the half of a line that was sent before its end (%s): until it is updated, "
                "such halves are shown beside their wholes; it is asked again every %d minutes, for %d days",
                reason, RETRY_S // 60, KEPT_COMPLETED_S // 86_400,
            )  # fmt: skip
        self._halves_said = True

    async def _post(self, entries: tuple[Entry, ...], *, replay: bool) -> retry.Decision:
        body = entries[0].data if len(entries) == 1 else b"".join(entry.data for entry in entries)
        headers = {wire.REPLAY_HEADER: "1"} if replay else {}
        if self._ledger.tenant_id:
            headers[wire.TENANT_HEADER] = self._ledger.tenant_id
        expected = {entry.header.record_id: entry.header.events for entry in entries}
        try:
            reply = await self._transport.post(body, headers)
        except NoReply as error:
            decision: retry.Decision = retry.RetryAfter(str(error), suspicious=error.reached, request_id=error.request_id)
            return self._noted(error.endpoint, decision, 0)
        crash.point("answer.read")
        decision = retry.judge(reply.status, reply.headers, reply.body, expected, self._ledger.tenant_id)
        if isinstance(decision, retry.Delivered):
            self._ledger.keeps(decision.answer.retention_days)
        else:
            decision = msgspec.structs.replace(decision, request_id=reply.request_id)
        return self._noted(reply.endpoint, decision, reply.status)

    def _noted(self, endpoint: Endpoint, decision: retry.Decision, status: int) -> retry.Decision:
        """Tell good collectors from others. What one cannot take now another may: then there is nothing to wait for."""
        if not isinstance(decision, retry.RetryAfter) or status == 429:
            self._transport.works(endpoint)
        elif self._transport.failed(endpoint, suspicious=decision.suspicious):
            return msgspec.structs.replace(decision, seconds=0.0)
        return decision

    async def _post_heartbeat(self, run: bytes) -> None:
        """Once, whatever becomes of it."""
        reply = await self._transport.post_heartbeat(run)
        if reply.status != 200:
            log.debug("a heartbeat was answered HTTP %d", reply.status)
            return
        answer = wire.decoded(_decode_answer, reply.body)
        if answer.tenant_id == (self._ledger.tenant_id or answer.tenant_id):
            self._ledger.keeps(answer.retention_days)

    def _settle(self, entries: tuple[Entry, ...], answer: wire.Answer, *, again: bool) -> str:
        """Keep what was refused, then let go of the run. Returns why that was not possible, if it was not."""
        outcomes = {outcome.record_id: outcome for outcome in answer.records}
        for entry in entries:
            if trouble := self._keep_refused(entry, outcomes[entry.header.record_id], answer.tenant_id, again=again):
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
        if self._failures >= retry.ATTEMPTS_BEFORE_SPLIT:
            self._suspects.hasten(time.monotonic())
            self._wake.set()
        self._failures = 0
        self._passes += 1
        self._passed.set()
        self._look_well()
        return ""

    def _look_well(self) -> None:
        """Sending works, unless something waits because it did not."""
        if not self._suspects and not self._failures:
            self._fault.over()
            self._ledger.sending = "ok"

    def _keep_refused(self, entry: Entry, outcome: wire.RecordOutcome, tenant_id: str, *, again: bool) -> str:
        """Put a record's rejected events into the dead letters. Returns why that was not possible, if it was not."""
        if not outcome.rejected or entry.header.kind != wire.DATA:
            return ""
        try:
            count = self._dead_letters.add(entry, outcome, tenant_id, again=again)
        except OSError as error:
            return f"the dead letters cannot be kept: {error.strerror}"
        if dropped := self._dead_letters.dropped:
            self._dead_letters.dropped = 0
            self._ledger.add("dropped_dead_letters", dropped)
        log.error("%s: %d events were refused (%s); they are in the dead letters", entry.header.path, count, outcome.reason)
        return ""

    def _report(self, reason: str, request_id: str = "") -> None:
        self._ledger.sending = reason
        self._fault.seen(reason, time.monotonic(), **({"request_id": request_id} if request_id else {}))

    async def _pause_until_another_key(self) -> None:
        """Or until the one there is may work again."""
        end_s = time.monotonic() + retry.STOPPED_RETRY_S
        key, passes = self._transport.key, self._passes
        while (left_s := end_s - time.monotonic()) > 0 and self._transport.key == key and self._passes == passes:
            await self._pause(min(KEY_LOOK_S, left_s), eager=True)
            self._transport.refresh()

    async def _pause(self, seconds: float, *, eager: bool) -> None:
        """Wait; ``eager``: not longer than until another run has passed."""
        if not eager:
            await asyncio.sleep(seconds)
            return
        self._passed.clear()
        await _within(seconds, self._passed)

    async def _retry_quarantined(self) -> None:
        while True:
            for path in self.quarantine.due(time.time()):
                try:
                    await self._retry_one(path)
                except (OSError, wire.BadRecord, ZstdError) as error:
                    log.error("%s: this record of the quarantine cannot be read: %s", path, error)
                except Exception:
                    log.exception("%s: a fault of this program while sending; please report it", path)
                    self._ledger.add("internal_errors", 1)
                with contextlib.suppress(OSError):
                    self.quarantine.tried(path, time.time())
            await asyncio.sleep(LOOK_S)

    async def _retry_one(self, path: Path) -> None:
        data = path.read_bytes()
        entry = Entry(Position(0, 0), wire.decode_record(data).header, data)
        decision = await self._post((entry,), replay=True)
        if not isinstance(decision, retry.Delivered):
            if isinstance(decision, retry.Split) and self.quarantine.is_over(entry, time.time()):
                self.quarantine.remove(path)
            return
        outcome = decision.answer.records[0]
        if trouble := self._keep_refused(entry, outcome, decision.answer.tenant_id, again=True):
            log.error("record %s stays in the quarantine: %s", entry.header.record_id, trouble)
            return
        self._ledger.acked(entry.header, outcome)
        self.quarantine.remove(path)
        crash.point("quarantine.removed")
        log.info("record %s left the quarantine: delivered", entry.header.record_id)


def _completes(entries: tuple[Entry, ...]) -> bool:
    """Whether one of them takes away what was sent before its end."""
    return any(entry.header.kind == wire.COMPLETED for entry in entries)


def _named(entries: tuple[Entry, ...]) -> str:
    return ", ".join(sorted({entry.header.path for entry in entries})) or "a run"


async def _within(seconds: float | None, event: asyncio.Event) -> None:
    """Wait for an event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
