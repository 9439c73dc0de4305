"""``spool.policy: drop_oldest``: what is given up is told, exactly, and in the same step; all the rest arrives once."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from agent import crash, wire
from agent.codec import decompress
from agent.spool.spool import Spool, loss_record
from tests.support.agent import AgentProcess, App
from tests.support.disk import FakeDisk
from tests.support.reading import shipped
from tests.support.sink import Seen, SinkProcess
from tests.support.spooled import Written, abandon, open_spool, segments
from tests.support.wait import until

MIB = 1 << 20
DROPPING = {"segment_bytes": MIB, "max_bytes": 4 * MIB, "policy": "drop_oldest"}


def record_of(losses: tuple[wire.Loss, ...]) -> bytes:
    return loss_record(losses, record_id=f"loss of {losses[0].loss_id}", agent="agent", scope="scope", observed_ns=1)


def filled(folder: Path, disk: FakeDisk | None = None) -> Written:
    """Four records in a segment of their own each: of a, b, a, b."""
    written = Written(open_spool(folder, disk, segment_bytes=0))
    for origin in "abab":
        written.append(origin, payload=b"x" * 3000)
    return written


def ranges(spool: Spool) -> dict[str, list[tuple[int, int]]]:
    """What a spool would ship: bytes of files, and those of losses."""
    found: dict[str, list[tuple[int, int]]] = {}
    for record in shipped(spool):
        if record.header.kind == wire.LOSS:
            for loss in wire.decode_losses(decompress(record.payload, record.header.raw_bytes)):
                key = f"lost {loss.path[1:]}"
                found.setdefault(key, []).append((loss.offset, loss.offset + loss.lost_bytes))
        else:
            found.setdefault(record.header.origin, []).append((record.header.source_from, record.header.source_to))
    return found


def test_the_oldest_that_was_not_taken_is_given_up_and_told(folder: Path) -> None:
    written = filled(folder)
    before = written.spool.size_bytes
    run = written.spool.next_run(max_bytes=1, max_raw_bytes=1)
    assert run is not None
    taken = run.entries[0].header.source_to
    losses = written.spool.drop_oldest(record_of)
    assert [(loss.path, loss.offset, loss.lost_bytes, loss.events, loss.at_least) for loss in losses] == [
        ("/b", 0, 10, 1, False)
    ]
    assert {loss.reason for loss in losses} == {"spool_full_dropped"}
    assert written.spool.size_bytes < before - 2000
    assert (taken, ranges(written.spool)) == (10, {"a": [(10, 20)], "lost b": [(0, 10)], "b": [(10, 20)]})
    abandon(written.spool)


@pytest.mark.parametrize("drops", [1, 2, 3])
def test_the_next_start_knows_what_was_given_up_and_reads_none_of_it_again(folder: Path, drops: int) -> None:
    written = filled(folder)
    written.append("a")
    for _ in range(drops):
        assert written.spool.drop_oldest(record_of)
    abandon(written.spool)
    again = open_spool(folder)
    assert {origin: state.offset for origin, state in again.recovery.states.items()} == {"a": 30, "b": 20}
    assert {origin: state.gaps for origin, state in again.recovery.states.items()} == {"a": [], "b": []}
    found = ranges(again)
    for origin, end in (("a", 30), ("b", 20)):
        parts = sorted(found.get(origin, []) + found.get(f"lost {origin}", []))
        assert [start for start, _ in parts] == [0, *(part_end for _, part_end in parts[:-1])]
        assert parts[-1][1] == end
    abandon(again)


def test_what_was_given_up_is_not_given_up_again_and_there_is_an_end(folder: Path) -> None:
    written = filled(folder)
    dropped = 0
    while written.spool.drop_oldest(record_of):
        dropped += 1
    assert dropped == 3
    abandon(written.spool)


@pytest.mark.parametrize("failure", ["room", "sync", "rename"])
def test_a_segment_that_cannot_be_replaced_is_kept_whole(folder: Path, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk()
    written = filled(folder, disk)
    before = {path: path.read_bytes() for path in segments(folder)}
    with monkeypatch.context() as patched:
        if failure == "room":
            disk.room_bytes = 10
        elif failure == "sync":
            disk.failing_syncs = 1
        else:

            def fails(*_: Any) -> None:
                raise OSError(28, "No space left on device")

            patched.setattr(disk, "rename", fails)
        assert written.spool.drop_oldest(record_of) == ()
    assert {path: path.read_bytes() for path in segments(folder)} == before
    disk.room_bytes = None
    assert written.spool.drop_oldest(record_of)
    abandon(written.spool)


def big_lines(app: App, count: int) -> None:
    new = [f"{len(app.lines) + n} {base64.b64encode(os.urandom(50_000)).decode()}" for n in range(count)]
    app.lines += new
    app.append("".join(f"{line}\n" for line in new))


def accounted_for(app: App, seen: Seen) -> int:
    """Every line arrived under one ID, or all its bytes are in the losses, which hold no others. Returns the bytes lost."""
    losses = {loss["loss_id"]: loss for loss in seen.losses}.values()
    assert {loss["reason"] for loss in losses} <= {"spool_full_dropped"}
    ranges = sorted((loss["offset"], loss["offset"] + loss["lost_bytes"]) for loss in losses)
    at, total = 0, 0
    for line in app.lines:
        end = at + len(line) + 1
        gone = any(start <= at and end <= stop for start, stop in ranges)
        assert gone != (line in seen.texts), f"line at {at}: lost {gone}"
        assert gone or len(seen.texts[line]) == 1
        total += (end - at) * gone
        at = end
    assert total == sum(stop - start for start, stop in ranges)
    return total


def test_a_spool_that_drops_goes_on_reading_while_the_collector_is_away(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    agent.configure(spool=DROPPING, collector={"max_in_flight": 1, "run_bytes": 65536})
    sink.stop()
    app = App(logs / "app.log")
    big_lines(app, 150)
    agent.start()
    until(lambda: agent.status()["lost_bytes"], "something is given up", told=agent.log)
    until(lambda: not agent.status()["unread_bytes"], "all is read", told=agent.log)
    told = agent.status()["lost_bytes"]
    app.path.rename(logs / "app.away")
    agent.kill()
    sink.start()
    agent.start()
    agent.settle()
    assert accounted_for(app, sink.seen()) == told
    assert agent.stop() == 0
    agent.start()
    agent.settle()
    assert accounted_for(app, sink.seen()) == told


@pytest.mark.parametrize("point", [point for point in crash.POINTS if point.startswith("drop.")])
def test_killed_while_dropping(point: str, agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(spool=DROPPING, collector={"max_in_flight": 1, "run_bytes": 65536})
    sink.stop()
    app = App(logs / "app.log")
    big_lines(app, 150)
    for _ in range(3):
        agent.launch("env", f"{crash.ENV}={point}")
        assert agent.wait() == -9, agent.log()
    agent.start()
    until(lambda: not agent.status()["unread_bytes"], "all is read", told=agent.log)
    sink.start()
    agent.settle()
    assert accounted_for(app, sink.seen())
