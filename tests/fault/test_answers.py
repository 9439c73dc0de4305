"""Histories of requests and answers: what was stored and not heard of, waits that never end, connections cut anywhere."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from agent.ledger import MAX_RETENTION_DAYS
from agent.shipping import retry
from agent.spool.spool import Spool
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.shipping import ONE_EACH, each_once, quick, ship_until
from tests.support.sink import TENANT, SinkProcess
from tests.support.wait import until

LINES = [b"line %d" % n for n in range(4)]


def test_killed_after_insert_before_ack(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The collector has stored the run; its answer never reaches the agent, which is killed while it waits."""
    sink.script({"hang": True, "store": True})
    app = App(logs / "app.log")
    app.write(5)
    agent.start()
    arrived(sink, app.lines, told=agent)
    assert agent.status()["counts"].get("acked_events", 0) == 0
    agent.kill()
    agent.start()
    agent.settle()
    seen = sink.seen()
    assert set(seen.deliveries.values()) == {2}
    assert seen.replays == 1, "the second delivery says that it may be one"
    exactly_once(seen, app.lines)


def test_429_longer_than_the_spool_lasts(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The spool is full, reading waits, files are rotated away meanwhile: nothing is dropped."""
    agent.configure(spool={"max_bytes": 4 << 20, "segment_bytes": 1 << 20})
    sink.rules({"status": 429, "headers": {"Retry-After": "1"}})
    app = App(logs / "app.log")
    agent.start()
    wide = [f"{n} {os.urandom(30_000).hex()}" for n in range(150)]
    app.append("".join(f"{line}\n" for line in wide))
    until(lambda: agent.status()["reading"] != "ok", "the spool is full", told=agent.log)
    app.rename(logs / "app.1")
    late = app.write(3)
    sink.rules()
    seen = arrived(sink, [*wide, *late], told=agent)
    exactly_once(seen, [*wide, *late])
    assert seen.losses == []
    assert not list((agent.state / "quarantine").glob("*"))


def test_dead_letter_not_yet_synced_when_its_record_is_trimmed(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order on disk: the letter and its folder are synced, then the record may go."""
    quick(monkeypatch)
    order: list[str] = []
    fdatasync, fsync, ack = os.fdatasync, os.fsync, Spool.ack

    def noted(name: str, sync: object) -> object:
        def synced(fd: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            if path.endswith("dead-letters.ndjson") or path == str(tmp_path):
                order.append(name)
            sync(fd)  # type: ignore[operator]

        return synced

    monkeypatch.setattr(os, "fdatasync", noted("letter", fdatasync))
    monkeypatch.setattr(os, "fsync", noted("folder", fsync))
    monkeypatch.setattr(Spool, "ack", lambda self, entries: (order.append("trim"), ack(self, entries))[1])
    sink.rules({"refuse": "event_too_large"})
    ship_until(tmp_path, sink.url, lambda: "trim" in order, "it is trimmed", lines=LINES[:1])
    assert order == ["letter", "folder", "trim"]


def test_two_answers_in_flight_of_which_one_fails(tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that worked acknowledges its own run only."""
    quick(monkeypatch)
    sink.rules({"contains": "line 0", "status": 429, "headers": {"Retry-After": "0"}})
    ledger = ship_until(
        tmp_path, sink.url, lambda: sink.seen().events == 3 and sink.seen().runs > 6, "the others have passed",
        lines=LINES, in_flight=2, run_bytes=ONE_EACH,
    )  # fmt: skip
    each_once(sink.seen(), LINES[1:])
    assert ledger.counts()["acked_events"] == 3
    assert ledger.acked_to("a") == 0, "the mark stays in front of the one that failed"


def test_what_a_collector_asks_to_wait_is_waited_though_others_pass(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    sink.rules({"contains": "it waits", "status": 429, "headers": {"Retry-After": "3600"}})
    lines = [b"it waits", *(b"other line %d" % n for n in range(20))]
    ship_until(
        tmp_path, sink.url, lambda: sink.seen().events == 20, "the others have passed", lines=lines, in_flight=2,
        run_bytes=ONE_EACH,
    )  # fmt: skip
    assert sink.seen().runs == 21, "the first one was sent once"
    each_once(sink.seen(), lines[1:])


def test_every_run_after_the_first_contact_says_whose_it_is(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector then refuses what came with another tenant's key by mistake, before it is stored."""
    quick(monkeypatch)
    ship_until(
        tmp_path, sink.url, lambda: sink.seen().events == len(LINES), "all has arrived", lines=LINES, in_flight=1,
        run_bytes=ONE_EACH,
    )  # fmt: skip
    assert sink.seen().tenants == {"": 1, TENANT: len(LINES) - 1}


def test_408_and_a_date_to_wait_for(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    soon = {"Date": email.utils.formatdate(0, usegmt=True), "Retry-After": email.utils.formatdate(1, usegmt=True)}
    sink.script({"status": 408}, {"status": 503, "headers": soon}, {"status": 429, "headers": soon})
    app = App(logs / "app.log")
    app.write(5)
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert "HTTP 408" in agent.log()


def test_hours_of_failures_end_in_pauses_that_are_bounded_and_never_in_giving_up() -> None:
    """Ten hours on a fake clock: the agent asks rarely, and it asks to the end."""
    random, now_s, attempt = Random(1), 0.0, 0
    while now_s < 36_000.0:
        attempt += 1
        wait_s = retry.wait_for(retry.RetryAfter("away"), attempt, random)
        assert 0 < wait_s <= retry.BACKOFF_CAP_S
        now_s += wait_s
    assert attempt < 36_000.0 / (retry.BACKOFF_CAP_S / 4) + 20
    for status in (404, 408, 429, 500, 502, 503, 504):
        assert isinstance(retry.judge(status, {}, b"", {"r": 1}, ""), retry.RetryAfter)


class Cutter:
    """A server that cuts each connection at another stage, until it has gone through all; then it passes bytes to the sink."""

    STAGES = ("accepted", "half_the_head", "half_the_body", "all_read", "garbage", "half_the_status", "half_the_answer")
    ANSWERS: ClassVar = {
        "garbage": b"\x15\x03\x01 this is not HTTP\r\n\r\n\0\0",
        "half_the_status": b"HTTP/1.1 20",
        "half_the_answer": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    }

    def __init__(self, target: int) -> None:
        self.cut: list[str] = []
        self._target = target
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stage = self.STAGES[len(self.cut)] if len(self.cut) < len(self.STAGES) else ""
        try:
            if stage:
                self.cut.append(stage)
                await self._until(stage, reader, writer)
                return
            to, out = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_pipe(reader, out), _pipe(to, writer))
        finally:
            writer.transport.abort()

    async def _until(self, stage: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stage == "accepted":
            return
        if stage == "half_the_head":
            await reader.readexactly(20)
            return
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length // 2 if stage == "half_the_body" else length)
        writer.write(self.ANSWERS.get(stage, b""))
        await writer.drain()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def cutter(sink: SinkProcess) -> Iterator[Cutter]:
    server = Cutter(sink.port)
    yield server
    server.stop()


def test_a_connection_cut_at_every_stage(
    tmp_path: Path, sink: SinkProcess, cutter: Cutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    ledger = ship_until(
        tmp_path, cutter.url, lambda: sink.seen().events >= len(LINES), "all has arrived", lines=LINES, in_flight=1
    )
    assert cutter.cut == list(Cutter.STAGES)
    each_once(sink.seen(), LINES)
    assert "quarantined_events" not in ledger.counts()


def test_how_long_events_are_kept_is_learnt_from_answers_and_known_after_a_restart(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    def told() -> Any:
        return json.loads(agent.command("status", "--json").stdout)["retention_days"]

    app = App(logs / "a.log")
    agent.start()
    assert told() is None
    for days, known in ((30, 30), (0, 30), (-5, 30), (10**30, MAX_RETENTION_DAYS), (14, 14)):
        sink.script({"retention_days": days})
        arrived(sink, app.write(1))
        agent.settle()
        assert told() == known
    assert agent.stop() == 0
    assert told() == 14
    agent.start()
    assert told() == 14
