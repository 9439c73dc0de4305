"""Heartbeats: how far behind an agent says it is, and that sending them never holds anything up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent import wire
from agent.codec import decompress
from agent.shipping import heartbeat
from agent.shipping.heartbeat import Heartbeats, Lags

PATH = "/var/log/a.log"


def file(**changed: Any) -> dict[str, Any]:
    said = {
        "path": PATH, "source": "app", "file_id": "f", "size_bytes": 1000, "read_offset": 900, "acked_offset": 600,
        "unread_bytes": 100, "state": "followed", "error": None,
    }  # fmt: skip
    return {**said, **changed}


def snapshot(*files: dict[str, Any], **changed: Any) -> dict[str, Any]:
    said = {
        "sending": "ok", "reading": "ok", "spool_bytes": 70, "unread_bytes": 0, "drained": False, "lost_bytes": 9,
        "counts": {"lost_bytes": 9, "lost_bytes.deleted_before_read": 9, "rejected_events": 2}, "files": list(files),
    }  # fmt: skip
    return {**said, **changed}


def beats(said: dict[str, Any], interval_s: float = 30.0) -> Heartbeats:
    more = {"unsynced_bytes": 5, "quarantined": 1}
    return Heartbeats(lambda: said, lambda: more, agent="node-1", scope="here", interval_s=interval_s)


def decoded(run: bytes) -> tuple[wire.Header, wire.Heartbeat]:
    (record,) = wire.decode_run(run)
    return record.header, wire.decode_heartbeat(decompress(record.payload, record.header.raw_bytes))


def test_a_file_that_is_acknowledged_has_no_lag() -> None:
    lags = Lags()
    lags.look([(PATH, 100, 100)], 10.0)
    assert lags.seconds(PATH, 99.0) == 0.0


def test_lag_is_the_age_of_the_first_look_that_saw_a_byte_not_acknowledged() -> None:
    lags = Lags()
    lags.look([(PATH, 100, 100)], 10.0)
    lags.look([(PATH, 150, 100)], 15.0)
    lags.look([(PATH, 200, 100)], 20.0)
    assert lags.seconds(PATH, 30.0) == 15.0
    lags.look([(PATH, 200, 150)], 35.0)
    assert lags.seconds(PATH, 40.0) == 20.0
    lags.look([(PATH, 200, 200)], 45.0)
    assert lags.seconds(PATH, 50.0) == 0.0


def test_a_file_cut_short_begins_anew() -> None:
    lags = Lags()
    lags.look([(PATH, 1000, 500)], 10.0)
    lags.look([(PATH, 50, 0)], 20.0)
    assert lags.seconds(PATH, 25.0) == 5.0


def test_looks_stay_few_and_the_oldest_is_kept() -> None:
    lags = Lags()
    for n in range(10_000):
        lags.look([(PATH, n + 1, 0)], float(n))
    assert lags.seconds(PATH, 10_000.0) == 10_000.0
    assert len(lags._looks[PATH]) <= heartbeat.MAX_LOOKS + 1


def test_a_heartbeat_is_a_run_of_one_record_without_events() -> None:
    header, beat = decoded(beats(snapshot(file())).record())
    assert (header.kind, header.events, header.agent, header.scope) == (wire.HEARTBEAT, 0, "node-1", "here")
    assert (beat.held_bytes, beat.lag_bytes, beat.unsynced_bytes, beat.quarantined, beat.rejected_events) == (300, 400, 5, 1, 2)
    assert beat.losses == {"deleted_before_read": 9}
    assert (beat.files[0].path, beat.files[0].acked, beat.files[0].lag_bytes) == (PATH, 600, 400)


def test_with_an_empty_spool_all_that_was_read_is_acknowledged() -> None:
    _, beat = decoded(beats(snapshot(file(acked_offset=None), drained=True)).record())
    assert (beat.files[0].acked, beat.files[0].lag_bytes, beat.held_bytes) == (900, 100, 0)


def test_before_the_first_acknowledgement_only_what_is_not_read_counts() -> None:
    _, beat = decoded(beats(snapshot(file(acked_offset=None))).record())
    assert (beat.files[0].acked, beat.files[0].lag_bytes) == (None, 100)


def test_of_very_many_files_those_furthest_behind_are_named() -> None:
    files = [file(path=f"/{n}/{'x' * 3000}", acked_offset=n) for n in range(600)]
    run = beats(snapshot(*files)).record()
    _, beat = decoded(run)
    assert beat.files_total == 600
    assert beat.files[0].path.startswith("/0/")
    assert len(wire.encode_heartbeat(beat)) <= wire.MAX_HEARTBEAT_BYTES


def test_a_heartbeat_that_cannot_be_sent_is_forgotten_and_the_next_one_goes() -> None:
    async def run() -> None:
        sent = 0
        enough = asyncio.Event()

        async def post(run: bytes) -> None:
            nonlocal sent
            sent += 1
            if sent == 1:
                raise ConnectionError("no collector")
            enough.set()

        made = beats(snapshot(file()), interval_s=0.001)
        task = asyncio.create_task(made.run(post))
        async with asyncio.timeout(10):
            await enough.wait()
        await made.goodbye(10)
        await task

    asyncio.run(run())


def test_the_last_heartbeat_says_goodbye() -> None:
    sent: list[bytes] = []

    async def post(run: bytes) -> None:
        sent.append(run)

    async def run() -> None:
        made = beats(snapshot())
        task = asyncio.create_task(made.run(post))
        await made.goodbye(10)
        await task

    asyncio.run(run())
    assert [decoded(beat)[1].stopping for beat in sent] == [True]


def test_a_collector_that_hangs_holds_no_stop_up() -> None:
    async def run() -> None:
        made = beats(snapshot(), interval_s=0.001)
        posting = asyncio.Event()

        async def post(run: bytes) -> None:
            posting.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(made.run(post))
        await posting.wait()
        await made.goodbye(0.001)
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(
    "changed", [{"lag_bytes": -1}, {"uptime_s": float("nan")}, {"lag_s": float("inf")}, {"lost_bytes": 1 << 63}]
)
def test_a_number_that_cannot_be_is_not_decoded(changed: dict[str, Any]) -> None:
    raw = wire.encode_heartbeat(wire.Heartbeat(version="1", **changed))
    with pytest.raises(Exception, match="Expected"):
        wire.decode_heartbeat(raw)
