"""Lines that fit into no block: one event each, cut, with the length it had; the rest is a loss, told once and exactly."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.codec import decompress
from agent.config import Multiline, Redact, Source
from agent.reading import walk
from agent.text import longline, shape
from agent.text.blocks import MAX_LINE_BYTES
from agent.verifying.naming import events
from tests.bench.measure import peak_memory_mb
from tests.support.agent import SCOPE, AgentProcess, App, arrived
from tests.support.reading import Reading, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import open_spool
from tests.support.wait import until

MIB = 1 << 20
LONG = "the beginning " + "x" * (5 * MIB) + " its end"


def named(path: Path, source: Source) -> dict[str, set[str]]:
    plan = shape.plan_of(source)
    return {event.event.decode(): {event.external_id} for event in events(path, scope=SCOPE, source="app", plan=plan)}


CASES: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "as it is": ({}, LONG, LONG[:MAX_LINE_BYTES], len(LONG) - MAX_LINE_BYTES),
    "short": ({"max_line_bytes": 2000}, LONG, LONG[:2000], len(LONG) - 2000),
    "multi-line": (
        {"multiline": Multiline(start="^app", timeout_s=0.2)},
        LONG,
        LONG[:MAX_LINE_BYTES],
        len(LONG) - MAX_LINE_BYTES,
    ),
    "windows": ({}, LONG + "\r", LONG[:MAX_LINE_BYTES], len(LONG) - MAX_LINE_BYTES),
    "utf-16": ({"encoding": "utf-16-le"}, LONG, LONG[: MIB // 2], 2 * len(LONG) - MIB),
    "cri": ({"container": "cri"}, f"t stderr F {LONG}", LONG[: MIB + 1 - 11], len(LONG) + 11 - MIB - 1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_line_longer_than_a_block_is_one_event_and_the_file_goes_on(name: str, tmp_path: Path, logs: Path) -> None:
    settings, line, kept, lost = CASES[name]
    wrap = "t stdout F " * (name == "cri")
    path, encoding = logs / "app.log", settings.get("encoding", "utf-8")
    source = Source("app", (str(path),), **settings)
    path.write_bytes(f"{wrap}app 1\n{line}\n{wrap}app 2\n{wrap}app 3\n{wrap}app".encode(encoding))
    with Reading(tmp_path / "spool", logs, source=settings, segment_bytes=16 * MIB) as reading:
        reading.has_read(3)
    with path.open("ab") as file:
        file.write(f" 4\n{wrap}app 5\n".encode(encoding))
    with Reading(tmp_path / "spool", logs, source=settings, segment_bytes=16 * MIB) as reading:
        tails = reading.reader.catalog.tails
        until(lambda: [tail for tail in tails.copy().values() if tail.state and not tail.unread], "all of it is read")
    found = spooled(tmp_path / "spool")
    texts = ["app 1", kept, "app 2", "app 3", "app 4", "app 5"]
    assert {text: len(ids) for text, ids in found.items()} == dict.fromkeys(texts, 1)
    assert named(path, source).items() <= found.items()
    assert told(tmp_path / "spool") == [("over_long", lost, False)]


def told(folder: Path) -> list[tuple[str, int, bool]]:
    spool = open_spool(folder)
    records = [record for record in shipped(spool) if record.header.kind == wire.LOSS]
    spool.close()
    losses = [loss for record in records for loss in wire.decode_losses(decompress(record.payload, MIB))]
    return [(loss.reason, loss.lost_bytes, loss.at_least) for loss in losses]


@pytest.mark.parametrize("point", ["loss.appended", "append.half:3"])
def test_a_kill_amid_a_long_line_makes_no_second_event_of_it(
    point: str, agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    """The file begins with it: nothing that is known of the file outlives the kill but what the records say."""
    path = logs / "app.log"
    path.write_text(f"{LONG}\nnext\n")
    agent.launch("env", f"PULSESTREAM_CRASH={point}")
    until(agent._gone, "it died", told=agent.log)
    agent.kill()
    agent.start()
    arrived(sink, [LONG[:MAX_LINE_BYTES], "next"], told=agent)
    assert agent.stop() == 0
    seen = sink.seen()
    assert {text: len(ids) for text, ids in seen.texts.items()} == {LONG[:MAX_LINE_BYTES]: 1, "next": 1}
    losses = {loss["loss_id"]: loss["lost_bytes"] for loss in seen.losses}
    assert list(losses.values()) == [len(LONG) - MAX_LINE_BYTES]


def test_a_live_line_is_not_sent_however_long_it_grows_and_its_file_is_not_read_again_and_again(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    app.write(1)
    agent.start()
    arrived(sink, app.lines, told=agent)
    piece = "y" * MIB
    for _ in range(4):
        app.append(piece)
        until(lambda: agent.status()["unread_bytes"] == app.path.stat().st_size - 61, "it is seen", told=agent.log)
    agent.kill()
    agent.start()
    for _ in range(20):
        app.append("z" * 100)
        until(lambda: agent.status()["unread_bytes"] == app.path.stat().st_size - 61, "it is seen", told=agent.log)
    io = Path(f"/proc/{agent.status()['pid']}/io").read_text()
    assert int(io.split("rchar: ")[1].split()[0]) < 40 * MIB
    assert list(sink.seen().texts) == app.lines
    app.append("\n")
    app.write(1)
    arrived(sink, [*app.lines, piece], told=agent)
    assert sorted(sink.seen().texts) == sorted([*app.lines, piece])
    assert [loss["lost_bytes"] for loss in sink.seen().losses] == [3 * MIB + 2000]


def test_memory_and_turns_are_bounded_for_a_line_of_a_gigabyte(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    path = logs / "app.log"
    with path.open("wb") as file:
        file.write(b"x" * (2 * MIB))
        file.truncate(1 << 30)  # NULs behind the first block: they cost no disk, and are part of the line
        file.seek(0, os.SEEK_END)
        file.write(b"\nnext\n")
    agent.start()
    arrived(sink, ["x" * MAX_LINE_BYTES, "next"], told=agent)
    assert [loss["lost_bytes"] for loss in sink.seen().losses] == [(1 << 30) - MAX_LINE_BYTES]
    assert peak_memory_mb(agent.status()["pid"]) < 150


def test_the_last_line_of_a_rotated_file_may_be_a_long_one_too(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "ROTATED_IDLE_S", 0.0)
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs, segment_bytes=16 * MIB) as reading:
        app.write(3)
        app.append("y" * (3 * MIB))
        reading.has_read(3)
        app.rename(logs / "app.log.1")
        reading.has_read(4)
        until(lambda: len(reading.reader.catalog.tails) == 1, "the rotated file is let go")
        assert reading.counts("lost_bytes.over_long") == 2 * MIB
        assert reading.counts("truncated_bytes") == 2 * MIB
    assert set(spooled(tmp_path / "spool")) == {*app.lines, "y" * MAX_LINE_BYTES}


def test_a_long_line_says_its_length_and_the_file_is_known_by_its_marks_behind_it(tmp_path: Path, logs: Path) -> None:
    (logs / "app.log").write_text(f"{LONG}\nnext\n")
    with Reading(tmp_path / "spool", logs, segment_bytes=16 * MIB) as reading:
        reading.has_read(2)
        state = next(iter(reading.reader.catalog.states.values()))
        tail = next(iter(reading.reader.catalog.tails.values()))
        assert len(state.marks) == (len(LONG) // 4096).bit_length()
        assert all(tail.holds(*mark) for mark in (*state.marks.items(), *state.recent))
    spool = open_spool(tmp_path / "spool")
    headers = [record.header for record in shipped(spool) if record.header.kind == wire.DATA]
    spool.close()
    assert isinstance(headers[0], wire.ShapedHeader)
    assert headers[0].marks == ({"truncated": "true", "full_length": str(len(LONG))},)
    assert (headers[0].source_from, headers[0].source_to) == (0, len(LONG) + 1)


SECRET = "4111 1111 1111 1111"


@pytest.mark.parametrize("before", [MAX_LINE_BYTES - 30, MAX_LINE_BYTES - 10, MAX_LINE_BYTES + 4090])
def test_no_half_of_a_secret_is_left_where_a_line_is_cut(before: int) -> None:
    plan = shape.plan_of(Source("app", ("/a",), redact=Redact(("card",))))
    assert plan is not None
    line = f"{SECRET} ".encode() * 1000  # what is redacted here makes room behind
    line += b"x" * (before - len(line) - 1) + b" " + SECRET.encode() + b" " + b"y" * MIB
    shaped = shape.over_long(plan, line, 0, len(line), len(line) + 1, partial=False)
    assert b"4111" not in shaped.payload
    assert len(shaped.payload) > MAX_LINE_BYTES - 16384


def test_the_end_is_looked_for_again_where_the_file_has_changed_meanwhile(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longline, "LOOK_BYTES", MIB)
    path = logs / "app.log"
    path.write_text("first\n" + "x" * (2 * MIB))
    with Reading(tmp_path / "spool", logs, segment_bytes=16 * MIB) as reading:
        reading.has_read(1)
        tail = next(iter(reading.reader.catalog.tails.values()))
        until(lambda: tail.long_line and tail.long_line.looked_to == path.stat().st_size, "it is looked through")
        with path.open("r+b") as file:  # cut in the middle of the line, and grown past it between two looks
            file.seek(6 + MIB + MIB // 2)
            file.write(b"\nsecond\n" + b"z" * (MIB // 2) + b"\nthird\n")
        reading.has_read(5)
    found = spooled(tmp_path / "spool")
    assert set(found) == {"first", "x" * MAX_LINE_BYTES, "second", "z" * (MIB // 2), "third"}
    assert all(len(ids) == 1 for ids in found.values())


@pytest.mark.parametrize("seed", range(3))
def test_however_a_file_grows_and_its_readers_end_the_events_are_the_same(seed: int, tmp_path: Path, logs: Path) -> None:
    """Lines of every length about the limit."""
    chance, most = random.Random(seed), MAX_LINE_BYTES
    sizes = [10, 3000, most - 1, most, most + 1, most + 2, 2 * most + 1, 10, 4097, most // 2]
    chance.shuffle(sizes)
    ends = [chance.choice(("\n", "\r\n")) for _ in sizes]
    lines = [f"{n} ".ljust(size, chance.choice("abc")) for n, size in enumerate(sizes)]
    content = "".join(map(str.__add__, lines, ends)).encode()
    done = [sum(map(len, lines[:n])) + sum(map(len, ends[:n])) for n in range(1, len(lines) + 1)]
    path, written, known = logs / "app.log", 0, 0
    for upto in [*sorted(chance.sample([*range(1, len(content)), *done[:-1]], 6)), len(content)]:
        with Reading(tmp_path / "spool", logs, segment_bytes=16 * MIB) as reading:
            for part in sorted({(written + upto) // 2, upto}):
                with path.open("ab") as file:
                    file.write(content[written:part])
                written = part
                whole = sum(end <= written for end in done)
                reading.has_read(whole - known)
        known = whole
    found = spooled(tmp_path / "spool")
    assert {text: len(ids) for text, ids in found.items()} == {line[:most]: 1 for line in lines}
    assert named(path, Source("app", (str(path),))) == found
    assert sum(lost for _, lost, _ in told(tmp_path / "spool")) == sum(max(0, size - most) for size in sizes)
