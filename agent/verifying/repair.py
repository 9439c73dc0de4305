"""Sending again what the store does not have: records of their own, straight to the collector, a run after the other.

Promises:
- An event keeps its ID, and every record is flagged ``replay``: what is there meanwhile is answered `duplicate`.
- 429 and 503 are waited for as long as they say. What cannot be sent is counted with the reason, and does not stop the rest;
  a refused key, or a collector that nobody reaches for the patience given, ends it (`CannotAsk`).
- Lines that carry no time of their own get that of the file's last change: they are no younger than that.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from agent import wire
from agent.codec import compress_aside
from agent.files.tail import shortened
from agent.reading.recorder import said_of
from agent.shipping import retry
from agent.shipping.transport import NoReply, Transport
from agent.text import pathlabels
from agent.text.picking import picked
from agent.verifying.asking import CannotAsk
from agent.verifying.comparing import Lacking
from agent.verifying.patience import Patience

MAX_REASONS = 20
RUN_RAW_BYTES = 3 << 20
"""Records are sent together up to about so much before compression: each request is an insert, and small ones cost the most."""


class Sent(msgspec.Struct):
    """What came of it."""

    records: int = 0
    events: int = 0
    accepted: int = 0
    duplicate: int = 0
    expired: int = 0
    rejected: int = 0
    refused_records: int = 0
    reasons: list[str] = []

    @property
    def is_well(self) -> bool:
        """Whether the collector has a final word on all that was missing, and refused none of it."""
        return not (self.rejected or self.refused_records)

    def say(self, reason: str) -> None:
        if reason and reason not in self.reasons and len(self.reasons) < MAX_REASONS:
            self.reasons.append(reason)


class Record(NamedTuple):
    header: wire.Header
    data: bytes


class Repairer:
    def __init__(self, transport: Transport, tenant_id: str, patience: Patience, *, agent: str, scope: str) -> None:
        self.sent = Sent()
        self._transport = transport
        self._tenant_id = tenant_id
        self._agent = agent
        self._scope = scope
        self._patience = patience
        self._name = f"repair-{os.urandom(4).hex()}"
        self._run: list[Record] = []

    async def send(self, lacking: Lacking) -> None:
        """Send it, with what comes next; `finish` sends the rest. Raises CannotAsk."""
        job, block = lacking.job, lacking.block
        path = shortened(os.fsencode(job.path).decode("utf-8", "backslashreplace"))
        plain = msgspec.structs.replace(
            block.header,
            record_id=f"{self._name}-{self.sent.records}",
            agent=self._agent,
            scope=self._scope,
            source=job.source.name,
            path=path,
            origin=job.state.origin if job.state else "",
            source_from=block.offset,
            source_to=block.end,
            observed_ns=lacking.mtime_ns,
            flags=block.header.flags | wire.REPLAY,
            **said_of(job.source, pathlabels.of_file(job.source.path_labels, job.path, path)),
        )
        header, payload = picked(plain, block.payload, lacking.positions)
        self.sent.records += 1
        self.sent.events += header.events
        self._run.append(Record(header, wire.encode_record(header, compress_aside(payload))))
        if sum(record.header.raw_bytes for record in self._run) >= RUN_RAW_BYTES:
            await self.finish()

    async def finish(self) -> None:
        """Send what waits. Raises CannotAsk."""
        run, self._run = self._run, []
        if run:
            await self._deliver(run)

    async def _deliver(self, run: list[Record]) -> None:
        silent_since_s: float | None = None
        attempt = 0
        while True:
            attempt += 1
            decision, answered = await self._post(run)
            if isinstance(decision, retry.Delivered):
                self._settle(decision.answer)
                return
            if isinstance(decision, retry.Split) and len(run) > 1:
                for record in run:
                    await self._deliver([record])
                return
            if isinstance(decision, retry.Split):
                header = run[0].header
                self.sent.refused_records += 1
                self.sent.say(f"bytes {header.source_from} to {header.source_to} of {header.path}: {decision.reason}")
                return
            if isinstance(decision, retry.Stop):
                raise CannotAsk(f"nothing can be sent: {decision.reason}")
            now_s = self._patience.now_s()
            silent_since_s = None if answered else now_s if silent_since_s is None else silent_since_s
            if silent_since_s is not None and now_s - silent_since_s > self._patience.seconds:
                raise CannotAsk(f"nothing can be sent: {decision.reason}; run it again, what was sent is not sent twice")
            await self._patience.pause(self._patience.wait_s(decision, attempt))

    async def _post(self, run: list[Record]) -> tuple[retry.Decision, bool]:
        """What became of it, and whether the collector has told to wait."""
        headers = {wire.REPLAY_HEADER: "1"}
        if self._tenant_id:
            headers[wire.TENANT_HEADER] = self._tenant_id
        try:
            reply = await self._transport.post(b"".join(record.data for record in run), headers)
        except NoReply as error:
            self._transport.failed(error.endpoint, suspicious=False)
            return retry.RetryAfter(str(error)), False
        expected = {record.header.record_id: record.header.events for record in run}
        decision = retry.judge(reply.status, reply.headers, reply.body, expected, self._tenant_id)
        if isinstance(decision, retry.RetryAfter) and reply.status != 429:
            self._transport.failed(reply.endpoint, suspicious=False)
        else:
            self._transport.works(reply.endpoint)
        return decision, isinstance(decision, retry.RetryAfter) and decision.seconds is not None

    def _settle(self, answer: wire.Answer) -> None:
        for outcome in answer.records:
            self.sent.accepted += outcome.accepted
            self.sent.duplicate += outcome.duplicate
            self.sent.expired += outcome.expired
            self.sent.rejected += outcome.rejected
            self.sent.say(outcome.reason if outcome.rejected else "")
        self._tenant_id = self._tenant_id or answer.tenant_id
