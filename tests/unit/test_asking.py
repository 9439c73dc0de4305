"""Asking for IDs, and sending what is missing: waits are obeyed, and what cannot go on says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from agent import wire
from agent.config import Source
from agent.shipping.endpoints import Endpoint
from agent.shipping.transport import NoReply, Reply
from agent.verifying.asking import Asker, CannotAsk, TooMuch
from agent.verifying.comparing import Lacking
from agent.verifying.naming import Block
from agent.verifying.patience import Patience
from agent.verifying.repair import Repairer
from agent.verifying.subjects import Job

JSON = {"Content-Type": "application/json"}
OUTCOMES = {"Content-Type": wire.ANSWER_TYPE}
ENDPOINT = Endpoint("http://c")
SUMS = msgspec.json.encode(wire.SumsAnswer([wire.IdSum(0, 2, "00000000000000ff")], 30))


class Answers:
    """A transport that says what it is told to, one after the other; the last one for ever. Time passes only in pauses."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []
        self.now_s = 0.0
        self.pauses: list[float] = []

    async def get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        return self._next(path, dict(query), dict(headers))

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        return self._next(body, dict(headers))

    def _next(self, *asked: Any) -> Reply:
        self.asked.append(asked)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise NoReply(ENDPOINT, OSError("no way"), "a-request")
        status, headers, body = answer
        return Reply(ENDPOINT, status, headers, body)

    def works(self, endpoint: Endpoint) -> None: ...

    def failed(self, endpoint: Endpoint, *, suspicious: bool) -> bool:
        return False

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds


def refused(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = msgspec.json.encode({"error": {"code": code, "message": "as the test says"}})
    return status, {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}, body


def patient(answers: Answers, patience_s: float = 60.0) -> Patience:
    return Patience(patience_s, pause=answers.pause, clock=lambda: answers.now_s, random=Random(1))


def summed(answers: Answers, patience_s: float = 60.0) -> dict[int, tuple[int, int]]:
    asker = Asker(answers, "t-1", patient(answers, patience_s))  # type: ignore[arg-type]
    return asyncio.run(asker.sums("f" * 16, 0, 5, 4096))


def test_sums_are_asked_for_again_when_the_collector_says_so_and_not_before() -> None:
    answers = Answers(refused(429, "too_many_queries", Retry_After="7"), refused(503, "store_unavailable"), (200, JSON, SUMS))
    assert summed(answers) == {0: (2, 255)}
    assert answers.pauses[0] >= 7
    assert [headers for _, _, headers in answers.asked] == [{wire.TENANT_HEADER: "t-1"}] * 3


@pytest.mark.parametrize("answer", [None, refused(503, "store_unavailable", Retry_After="20"), (200, JSON, b"{")])
def test_what_does_not_answer_is_given_up_when_patience_ends(answer: Any) -> None:
    answers = Answers(answer)
    with pytest.raises(CannotAsk, match=r"^the collector cannot be asked: "):
        summed(answers)
    assert answers.now_s <= 60


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (refused(401, "unauthorized"), "HTTP 401 unauthorized"),
        (refused(404, "not_found"), "of a version that does not tell IDs"),
        ((200, {"Content-Type": "text/html"}, b"<html>"), "is a proxy in between"),
        ((302, {}, b""), "HTTP 302"),
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once(answer: Any, text: str) -> None:
    answers = Answers(answer)
    with pytest.raises(CannotAsk, match=text):
        summed(answers)
    assert answers.pauses == []


def test_a_question_that_is_too_much_is_told_apart() -> None:
    with pytest.raises(TooMuch):
        summed(Answers(refused(422, "query_too_expensive")))


def test_pages_are_followed_and_their_prefix_is_put_back() -> None:
    pages = [
        wire.IdsAnswer("ab", ["1"], ["2"], [], True, "ab2", 30),
        wire.IdsAnswer("ab", ["3"], [], ["4"], False, None, 30),
    ]
    answers = Answers(*((200, JSON, msgspec.json.encode(page)) for page in pages))
    asker = Asker(answers, "", patient(answers))  # type: ignore[arg-type]

    async def run() -> list[Any]:
        return [msgspec.structs.astuple(page) async for page in asker.pages("ab", "abz")]

    assert asyncio.run(run()) == [(["ab1"], ["ab2"], []), (["ab3"], [], ["ab4"])]
    assert [query.get("cursor") for _, query, _ in answers.asked] == [None, "ab2"]


def repaired(answers: Answers, times: int = 1) -> Repairer:
    raw = b"one\ntwo\n"
    header = wire.Header(wire.DATA, "", file_id="f" * 16, raw_bytes=len(raw), events=2)
    job = Job(Path("/var/log/a.log"), Source("app", ("*",)), None, "scope")
    repairer = Repairer(answers, "t-1", patient(answers), agent="a", scope="scope")  # type: ignore[arg-type]

    async def run() -> None:
        for _ in range(times):
            await repairer.send(Lacking(job, Block(header, raw, 0, len(raw)), [1], 5))
        await repairer.finish()

    asyncio.run(run())
    return repairer


def test_a_repair_waits_as_long_as_it_is_told_to_and_names_the_record_as_a_replay() -> None:
    class Collector(Answers):
        def _next(self, *asked: Any) -> Reply:
            found = super()._next(*asked)
            (record,) = wire.decode_run(asked[0])
            said = wire.RecordOutcome(record.header.record_id, wire.ACCEPTED, accepted=1)
            body = msgspec.json.encode(wire.Answer("t-1", (said,)))
            return found if found.status != 200 else Reply(ENDPOINT, 200, OUTCOMES, body)

    waits = [refused(429, "monthly_quota", Retry_After="3000")] * 2
    answers = Collector(*waits, None, (200, OUTCOMES, b""))
    sent = repaired(answers).sent
    assert (sent.records, sent.events, sent.accepted, sent.is_well) == (1, 1, 1, True)
    assert answers.pauses[0] >= 3000
    (record,) = wire.decode_run(answers.asked[-1][0])
    assert record.header.flags & wire.REPLAY
    assert (record.header.events, record.header.base_offset, record.header.observed_ns) == (1, 4, 5)
    assert (record.header.source, record.header.service, record.header.path) == ("app", "app", "/var/log/a.log")
    assert answers.asked[-1][1] == {wire.REPLAY_HEADER: "1", wire.TENANT_HEADER: "t-1"}


def test_a_record_that_is_refused_is_counted_and_does_not_end_the_repair() -> None:
    answers = Answers(refused(422, "bad_record"))
    sent = repaired(answers, times=3).sent
    assert (sent.refused_records, sent.is_well) == (3, False)
    assert [len(list(wire.decode_run(body))) for body, _ in answers.asked] == [3, 1, 1, 1]
    assert "bytes 0 to 8 of /var/log/a.log: HTTP 422 bad_record" in sent.reasons[0]


@pytest.mark.parametrize("answer", [None, refused(500, "internal_error"), refused(401, "unauthorized")])
def test_a_repair_that_nobody_answers_ends_and_can_be_run_again(answer: Any) -> None:
    with pytest.raises(CannotAsk, match="nothing can be sent"):
        repaired(Answers(answer))
