"""Asking a collector which events it has. Obeys what it says: 429 and 503 are waited for, a refused key ends it.

What nobody answers for the patience given cannot be asked (`CannotAsk`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import msgspec

from agent import wire
from agent.errors import AgentError
from agent.shipping import retry
from agent.shipping.transport import NoReply, Transport
from agent.verifying.patience import Patience

PAGE_IDS = 5_000
_JSON = "application/json"

T = TypeVar("T")


class CannotAsk(AgentError):
    """The store cannot be compared with; why, and the mend."""


class TooMuch(Exception):
    """The collector gave up at a bound of its own; ask for less."""


_ids = msgspec.json.Decoder(wire.IdsAnswer).decode
_sums = msgspec.json.Decoder(wire.SumsAnswer).decode


class Page(msgspec.Struct, frozen=True):
    """IDs, whole."""

    there: list[str]
    deleted: list[str]
    expired: list[str]


class Asker:
    """Questions to the collectors behind an open transport.

    Args:
        tenant_id: whose the agent's data is, if that is known: the key of another one is refused.
    """

    def __init__(self, transport: Transport, tenant_id: str, patience: Patience) -> None:
        self._transport = transport
        self._headers = {wire.TENANT_HEADER: tenant_id} if tenant_id else {}
        self._patience = patience
        self.retention_days = 0
        """As the last answer said; 0: none has."""

    async def pages(self, first: str, last: str) -> AsyncIterator[Page]:
        """The IDs between two bounds, both included, in order. Raises CannotAsk."""
        query = {"from": first, "to": last, "limit": str(PAGE_IDS)}
        while True:
            answer = await self._asked(wire.IDS_PATH, query, _ids)
            self.retention_days = answer.retention_days
            kinds = (answer.ids, answer.deleted, answer.expired)
            yield Page(*([answer.prefix + rest for rest in ids] for ids in kinds))
            if not answer.has_more or not answer.next_cursor:
                return
            query["cursor"] = answer.next_cursor

    async def sums(self, file_id: str, begin: int, end: int, step: int) -> dict[int, tuple[int, int]]:
        """Per step that has any: how many events, and their sum. Raises CannotAsk, TooMuch."""
        query = {"file_id": file_id, "from_offset": str(begin), "to_offset": str(end), "step": str(step)}
        answer = await self._asked(wire.SUMS_PATH, query, _sums)
        self.retention_days = answer.retention_days
        try:
            return {one.offset: (one.events, int(one.sum, 16)) for one in answer.sums}
        except ValueError:
            raise CannotAsk("the collector's sums are no numbers; is a proxy in between?") from None

    async def _asked(self, path: str, query: Mapping[str, str], decode: Callable[[bytes | memoryview], T]) -> T:
        end_s = self._patience.now_s() + self._patience.seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                reply = await self._transport.get(path, query, self._headers)
            except NoReply as error:
                self._transport.failed(error.endpoint, suspicious=False)
                reason, wait_s = f"{error}; check the URL, the network, and whether a collector runs there", None
            else:
                answer = _answer(reply.status, reply.headers, reply.body, decode)
                if not isinstance(answer, retry.RetryAfter):
                    self._transport.works(reply.endpoint)
                    return answer
                if reply.status != 429:
                    self._transport.failed(reply.endpoint, suspicious=False)
                reason, wait_s = answer.reason, answer.seconds
            wait_s = self._patience.wait_s(retry.RetryAfter(reason, wait_s), attempt)
            if self._patience.now_s() + wait_s > end_s:
                raise CannotAsk(f"the collector cannot be asked: {reason}")
            await self._patience.pause(wait_s)


def _answer(
    status: int, headers: Mapping[str, str], body: bytes, decode: Callable[[bytes | memoryview], T]
) -> T | retry.RetryAfter:
    """What was asked for, or that it is to be asked again. Raises CannotAsk, TooMuch."""
    if status == 200:
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON:
            raise CannotAsk("HTTP 200 that is not from a collector: is a proxy in between?")
        try:
            return wire.decoded(decode, body)
        except msgspec.DecodeError as error:
            return retry.RetryAfter(f"HTTP 200 whose body is cut or damaged: {error}")
    decision = retry.judge(status, headers, body, {}, "")
    if isinstance(decision, retry.RetryAfter) and status in (429, 502, 503, 504):
        return decision
    reason = decision.reason if not isinstance(decision, retry.Delivered) else f"HTTP {status}"
    if status == 422 and "query_too_expensive" in reason:
        raise TooMuch(reason)
    if status == 404:
        reason += "; the collector is of a version that does not tell IDs, or the URL is not its own"
    raise CannotAsk(f"the collector does not say what it has: {reason}")
