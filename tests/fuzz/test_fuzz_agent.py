"""What an agent reads back: its state folder with any bytes in it, and whatever a collector, or a proxy, answers."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import wire
from agent.codec import ZstdError, compress
from agent.config import Collector
from agent.errors import AgentError
from agent.files import identity
from agent.ledger import Ledger
from agent.shipping import retry
from agent.shipping.deadletter import DeadLetters, Quarantine
from agent.shipping.ship import Shipper
from agent.spool import segment
from agent.spool.segment import Acked, Checkpoint, Damage, Recovery, SpoolHead, acked_record, encode_checkpoint, scan
from agent.spool.spool import Spool
from agent.status import status
from tests.support.mutations import JSON_BOMBS, MSGPACK_BOMBS, examples, mutated, sealed
from tests.support.records import header
from tests.support.spooled import data_record, new_state

STATE = new_state("a")
FIRST = data_record(STATE, 10)
SECOND = data_record(FIRST[2], 10)
HEAD = SpoolHead("scope", "tenant", [FIRST[2], new_state("b")], {"f" * 16: 3})
SEGMENT = b"".join(segment.head_records(HEAD)) + FIRST[1] + SECOND[1] + acked_record(Acked(1, 20, "tenant"))
HEAD_RAW = msgspec.msgpack.encode(HEAD)
ACKED_RAW = msgspec.msgpack.encode(Acked(1, 20, "tenant"))
CHECKPOINT_RAW = encode_checkpoint(Checkpoint(FIRST[2], "b"))
BEHIND_CHECKSUM = st.one_of(
    mutated(HEAD_RAW).map(lambda raw: sealed(msgspec.msgpack.encode(wire.Header(wire.FILES, "files")), compress(raw))),
    mutated(compress(HEAD_RAW)).map(lambda raw: sealed(msgspec.msgpack.encode(wire.Header(wire.FILES, "files")), raw)),
    mutated(ACKED_RAW).map(lambda raw: sealed(msgspec.msgpack.encode(wire.Header(wire.ACKED, "acked")), raw)),
    mutated(CHECKPOINT_RAW).map(lambda raw: sealed(msgspec.msgpack.encode(header(b"x\n", checkpoint=raw)), compress(b"x\n"))),
    mutated(msgspec.msgpack.encode(header(b"x\n", checkpoint=CHECKPOINT_RAW))).map(lambda raw: sealed(raw, compress(b"x\n"))),
)
EXPECTED = {"r1": 3, "r2": 1}
ANSWER = msgspec.json.encode(
    wire.Answer(
        "t",
        (
            wire.RecordOutcome("r1", "mixed", 1, 1, 0, 1, "", (wire.EventOutcome(0, "rejected", "x"),)),
            wire.RecordOutcome("r2", "accepted", 1),
        ),
    )
)
REFUSAL = json.dumps({"error": {"code": "rate_limited", "message": "wait"}}).encode()


@given(st.one_of(mutated(SEGMENT), st.binary(max_size=200)))
@examples(300)
def test_any_segment_is_cut_into_records_and_damage_without_a_gap(data: bytes) -> None:
    at = 0
    recovery = Recovery()
    recovery.begin(1)
    try:
        for item in scan(data):
            assert item.start == at
            at = item.end
            if not isinstance(item, Damage):
                recovery.feed(item, 1)
    except wire.UnknownVersion as error:
        assert error.offset == at
        return
    assert at == len(data)
    list(segment.head_records(SpoolHead("s", "t", list(recovery.states.values()), recovery.tags)))


@given(st.lists(st.one_of(BEHIND_CHECKSUM, st.just(FIRST[1])), min_size=1, max_size=3))
@examples(250)
@example([sealed(msgspec.msgpack.encode(wire.Header(wire.ACKED, "acked")), b"\x93\x01\x02\xa1\xff")])
@example([sealed(msgspec.msgpack.encode(wire.Header(wire.ACKED, "acked")), b"\x94\x01\x02\xa0" + MSGPACK_BOMBS[0])])
def test_any_payload_behind_a_right_checksum_is_recovered_or_passed_over(records: list[bytes]) -> None:
    recovery = Recovery()
    for number in (1, 2):
        recovery.begin(number)
        for item in scan(b"".join(records)):
            if isinstance(item, wire.Record):
                recovery.feed(item, number)
    list(segment.head_records(SpoolHead(recovery.scope, recovery.tenant_id, list(recovery.states.values()), recovery.tags)))
    for state in recovery.states.values():
        identity.agrees(state, 10, lambda position, crc: False)


@given(
    st.lists(st.one_of(mutated(SEGMENT), BEHIND_CHECKSUM, st.just(SEGMENT)), min_size=1, max_size=3), st.sampled_from((0, 1, 5))
)
@examples(120)
def test_a_spool_of_any_segments_opens_or_says_why_and_takes_new_records(
    tmp_path_factory: pytest.TempPathFactory, segments: list[bytes], gap: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    for number, data in enumerate(segments, 1):
        (folder / f"{number + gap * (number > 1):08d}.seg").write_bytes(data)
    try:
        spool = Spool(folder, segment_bytes=4096, max_bytes=1 << 30)
        spool.start(lambda: SpoolHead("s", "t", list(spool.recovery.states.values()), spool.recovery.tags))
        fresh = data_record(new_state("fresh"), 10)
        spool.append(fresh[1])
        seen = []
        while run := spool.next_run(max_bytes=1 << 20, max_raw_bytes=1 << 62):
            seen += [entry.header.record_id for entry in run.entries]
            spool.ack(run.entries)
        spool.close()
    except AgentError as error:
        assert "newer agent" in str(error) or "damaged" in str(error), error
        return
    assert fresh[0] in seen


@given(
    st.one_of(mutated(ANSWER, REFUSAL, b"<html>502</html>", bombs=JSON_BOMBS), st.binary(max_size=40)),
    st.one_of(
        st.sampled_from((200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 413, 422, 429, 500, 503)), st.integers(0, 999)
    ),
    st.fixed_dictionaries(
        {"Content-Type": st.sampled_from((wire.ANSWER_TYPE, "application/json", "text/html", "", f"{wire.ANSWER_TYPE}; a=b"))},
        optional={
            name: st.one_of(
                st.text(max_size=30),
                st.sampled_from(
                    (
                        "9" * 400,
                        "-1",
                        "1.5",
                        "Mon, 01 Jan 2024 00:00:00 +99999999999999",
                        "Mon, 01 Jan 0001 00:00:00",
                        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
                        "Fri, 31 Dec 9999 23:59:59 -2359",
                        "٣",
                    )
                ),
            )
            for name in ("Retry-After", "Date")
        },
    ),
    st.sampled_from(("", "t", "u")),
)
@examples(300)
@example(b'{"tenant_id":"\xff"}', 200, {"Content-Type": wire.ANSWER_TYPE}, "t")
@example(b'{"x":' + b"[" * 5000, 200, {"Content-Type": wire.ANSWER_TYPE}, "t")
@example(b'{"error":"\xff"}', 400, {"Content-Type": "application/json"}, "t")
@example(b"[" * 5000, 503, {"Content-Type": "application/json"}, "t")
def test_any_answer_is_a_decision(body: bytes, code: int, headers: dict[str, str], tenant_id: str) -> None:
    decision = retry.judge(code, headers, body, EXPECTED, tenant_id)
    if isinstance(decision, retry.Delivered):
        assert code == 200
        assert {outcome.record_id for outcome in decision.answer.records} == set(EXPECTED)
        assert tenant_id in ("", decision.answer.tenant_id)
        return
    assert decision.reason
    if isinstance(decision, retry.RetryAfter):
        assert 0 <= retry.wait_for(decision, 3, Random(1)) <= 2 * retry.LONGEST_RETRY_AFTER_S


@given(st.one_of(mutated(b'{"pid":1,"files":[]}', bombs=JSON_BOMBS), st.binary(max_size=20)))
@examples(40)
def test_whatever_answers_on_the_status_socket_is_a_status_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, said: bytes
) -> None:
    folder = tmp_path_factory.mktemp("s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / status.SOCKET))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert isinstance(status.ask(folder), dict)
        except msgspec.DecodeError as error:
            assert str(error)
        finally:
            thread.join()


# A whole answer from a socket ------------------------------------------------------------------------------------------

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: " + wire.ANSWER_TYPE.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
    b"HTTP/1.1 503 Away\r\nRetry-After: 3\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + REFUSAL,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\n\r\n5\r\nhello\r\n0\r\n\r\n",  # noqa: E501
    b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nSet-Cookie: a=\x01; expires=never\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\n\r\n",
)


@given(st.lists(st.one_of(mutated(*ANSWERS, bombs=JSON_BOMBS), st.binary(max_size=30)), min_size=10, max_size=10))
@examples(12)
def test_any_bytes_instead_of_an_answer_are_a_decision_and_the_agent_goes_on(
    tmp_path_factory: pytest.TempPathFactory, answers: list[bytes]
) -> None:
    state = tmp_path_factory.mktemp("state")
    decisions = asyncio.run(_asked(state, answers))
    assert len(decisions) == len(answers)
    assert all(isinstance(decision, retry.Decision) for decision in decisions)


async def _asked(state: Path, answers: list[bytes]) -> list[retry.Decision]:
    waiting = iter(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(waiting))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        collector = Collector(url=url, api_key="k", request_timeout_s=20)
        shipper = Shipper(Any, Ledger(), state, collector, in_flight=1)  # type: ignore[arg-type]
        async with shipper._transport.opened():
            return [await shipper._post((_entry(FIRST[1]),), replay=False) for _ in answers]


def _entry(record: bytes) -> Any:
    from agent.spool.segment import Position
    from agent.spool.spool import Entry

    return Entry(Position(0, 0), wire.decode_record(record).header, record)


LINES = b"one\ntwo\r\nthree"


@given(
    st.lists(
        st.tuples(st.integers(-(1 << 40), 1 << 40), st.sampled_from(("rejected", "expired", "x")), st.text(max_size=5)),
        max_size=4,
    ),
    st.sampled_from(("mixed", "rejected", "accepted")),
)
@examples(80)
def test_whatever_a_collector_says_is_rejected_the_dead_letters_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, exceptions: list[tuple[int, str, str]], outcome: str
) -> None:
    folder = tmp_path_factory.mktemp("dead")
    entry = _entry(wire.encode_record(header(LINES), compress(LINES)))
    said = wire.RecordOutcome("r", outcome, rejected=1, exceptions=tuple(wire.EventOutcome(*one) for one in exceptions))
    try:
        count = DeadLetters(folder).add(entry, said, "t")
    except OSError as error:
        assert "where no event of the record begins" in str(error)
        return
    path = folder / "dead-letters.ndjson"
    letters = [json.loads(line) for line in path.read_bytes().splitlines()] if count else []
    assert len(letters) == count
    assert all(base64.b64decode(letter["data_base64"]) in LINES for letter in letters)


@given(st.one_of(mutated(FIRST[1], SECOND[1]), BEHIND_CHECKSUM))
@examples(60)
def test_a_damaged_record_in_the_quarantine_stays_there_and_ends_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    state = tmp_path_factory.mktemp("quarantine")
    (state / "quarantine").mkdir()
    path = state / "quarantine" / "r.rec"
    path.write_bytes(data)
    assert Quarantine(state).records() == [path]
    shipper = Shipper(Any, Ledger(), state, Collector(url="http://127.0.0.1:1"), in_flight=1)  # type: ignore[arg-type]

    async def delivered(entries: tuple[Any, ...], *, replay: bool) -> retry.Decision:
        outcome = wire.RecordOutcome(entries[0].header.record_id, "rejected", rejected=entries[0].header.events)
        return retry.Delivered(wire.Answer("t", (outcome,)))

    shipper._post = delivered  # type: ignore[assignment]
    try:
        asyncio.run(shipper._retry_one(path))
    except (OSError, wire.BadRecord, ZstdError):  # what the loop around it takes
        assert path.exists()
