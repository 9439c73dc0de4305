"""Runs of NULs in log files: they are skipped and counted, every line around them arrives, under the ID of its true place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.files.gaps import GAP_BYTES
from agent.reading import puller, walk
from agent.verifying.naming import events
from tests.support.agent import SCOPE, AgentProcess, App, arrived, exactly_once
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

GIB = 1 << 30
ZEROS = "\0" * 1000


class Keeper(App):
    """An app that opened its log without O_APPEND: it goes on at its position, whatever was cut away before it."""

    def __init__(self, path: Path, name: str = "app") -> None:
        super().__init__(path, name)
        self.position = 0

    def append(self, text: str) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            self.position += os.pwrite(fd, text.encode(), self.position)
        finally:
            os.close(fd)


def named(path: Path) -> dict[str, set[str]]:
    return {event.event.decode(): {event.external_id} for event in events(path, scope=SCOPE, source="app")}


def counted(agent: AgentProcess) -> int:
    return int(agent.status()["counts"].get("nul_gap_bytes", 0))


@pytest.mark.parametrize("lines", [20, 500], ids=["below 4096 bytes", "beyond"])
def test_copytruncate_under_a_writer_that_keeps_its_position(
    agent: AgentProcess, sink: SinkProcess, logs: Path, lines: int
) -> None:
    app = Keeper(logs / "app.log")
    for number in range(3):
        hole = app.position
        new = app.write(lines)
        if not number:
            agent.start()
        arrived(sink, new, told=agent)
        agent.settle()
        if number < 2:
            os.truncate(app.path, 0)
    exactly_once(sink.seen(), app.lines)
    assert counted(agent) == hole + hole // 2
    assert sink.seen().losses == []
    ids = {text: set(names) for text, names in sink.seen().texts.items()}
    assert named(app.path) == {text: ids[text] for text in new}
    agent.kill()
    agent.state.rename(agent.state.with_name("lost"))
    before = sink.seen().events
    agent.start()
    until(lambda: sink.seen().events == before + lines, "what is left is sent again", told=agent.log)
    exactly_once(sink.seen(), app.lines)


def test_zeros_that_a_power_cut_left_are_between_lines_not_in_them(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(200)
    app.append(ZEROS)
    app.write(200)
    app.append("half of a li" + ZEROS)
    agent.start()
    arrived(sink, app.lines, told=agent)
    assert "half of a li" not in sink.seen().texts
    app.write(100)
    exactly_once(arrived(sink, [*app.lines, "half of a li"], told=agent), [*app.lines, "half of a li"])
    agent.settle()
    assert counted(agent) == 2 * len(ZEROS)
    assert {text: set(ids) for text, ids in sink.seen().texts.items()} == named(app.path)
    assert f"{app.path}: {len(ZEROS)} NUL bytes from byte {200 * 61} on" in agent.log()


def test_a_hole_of_ten_gigabytes_is_leapt_over(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    os.truncate(app.path, 10 * GIB)
    if app.path.stat().st_blocks * 512 > GIB:
        pytest.skip("this file system has no sparse files")
    app.write(100)
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    io = Path(f"/proc/{agent.status()['pid']}/io").read_text()
    assert int(io.split("rchar: ")[1].split()[0]) < 200 << 20
    assert counted(agent) == 10 * GIB - 6100


def test_a_file_that_was_given_its_size_in_advance_is_read_as_it_fills(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    app = App(logs / "app.log")
    with app.path.open("wb") as file:
        file.write(bytes(3 << 20))
    agent.start()
    with app.path.open("r+b") as file:
        for number in range(5):
            lines = [f"line {number}-{n} of a file that had its size before its content" for n in range(100)]
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            app.lines += lines
            arrived(sink, lines, told=agent)
    exactly_once(sink.seen(), app.lines)
    agent.settle()
    assert counted(agent) == 0
    assert agent.status()["unread_bytes"] == 0


def test_what_changes_lines_sees_no_nuls_either(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    source = {"name": "app", "include": [f"{logs}/*.log"], "multiline": {"start": "^app", "timeout_s": 600}}
    agent.configure(sources=[source])
    app = App(logs / "app.log")
    app.write(10)
    app.append(" goes on\n" + ZEROS)
    app.write(10)
    agent.start()
    wanted = [*app.lines[:9], f"{app.lines[9]}\n goes on", *app.lines[10:19]]
    exactly_once(arrived(sink, wanted, told=agent), wanted)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_in_wide_characters_a_run_ends_where_a_character_begins(
    tmp_path: Path, logs: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puller, "GAP_SETTLE_S", 0.0)
    lines = [f"line {number} with an umlaut: ü" for number in range(20)]
    texts = ["".join(f"{line}\n" for line in half).encode(encoding) for half in (lines[:10], lines[10:])]
    (logs / "app.log").write_bytes(bytes(1000) + texts[0] + bytes(1000) + texts[1])
    with Reading(tmp_path / "spool", logs, source={"encoding": encoding}) as reading:
        reading.has_read(20)
    assert {line: len(ids) for line, ids in spooled(tmp_path / "spool").items()} == dict.fromkeys(lines, 1)


def test_a_few_nuls_belong_to_their_line(tmp_path: Path, logs: Path) -> None:
    lines = [f"padded {number}" + "\0" * number for number in range(GAP_BYTES)]
    (logs / "app.log").write_text("".join(f"{line}\n" for line in lines))
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(GAP_BYTES)
        assert reading.counts("nul_gap_bytes") == 0
    assert set(spooled(tmp_path / "spool")) == set(lines)


def test_zeros_that_are_filled_while_they_are_looked_at_are_lines(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers that each fill a place of their own, not in order."""
    monkeypatch.setattr(puller, "GAP_SETTLE_S", 3600.0)
    app = App(logs / "app.log")
    app.write(2)
    app.append("\0" * 61 * 50)
    app.lines = [*app.lines, *[f"app line {number:06d} ".ljust(60, ".") for number in range(2, 52)]]
    app.write(2)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(2)
        tail = next(iter(reading.reader.catalog.tails.values()))
        until(lambda: tail.gap is not None and tail.gap.since_s, "the gap is seen, with data behind it")
        with app.path.open("r+b") as file:
            file.seek(61 * 2)
            file.write("".join(f"{line}\n" for line in app.lines[2:52]).encode())
        reading.has_read(54)
        assert reading.counts("nul_gap_bytes") == 0
    assert {line: len(ids) for line, ids in spooled(tmp_path / "spool").items()} == dict.fromkeys(app.lines, 1)


def test_a_line_that_is_written_amid_zeros_while_they_are_watched_is_not_leapt_over(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were looked through before: there was nothing but zeros then."""
    monkeypatch.setattr(puller, "GAP_SETTLE_S", 3600.0)
    app, late = App(logs / "app.log"), App(tmp_path / "late", "late")
    app.write(2)
    app.append("\0" * 61 * 50)
    app.write(2)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(2)
        tail = next(iter(reading.reader.catalog.tails.values()))
        until(lambda: tail.gap is not None and tail.gap.since_s, "the gap is seen, with data behind it")
        late.write(2)
        with app.path.open("r+b") as file:
            file.seek(61 * 20)
            file.write(late.path.read_bytes())
        monkeypatch.setattr(puller, "GAP_SETTLE_S", 0.0)
        reading.has_read(6)
        assert reading.counts("nul_gap_bytes") == 48 * 61
    wanted = [*app.lines, *late.lines]
    assert {line: len(ids) for line, ids in spooled(tmp_path / "spool").items()} == dict.fromkeys(wanted, 1)


def test_zeros_at_the_end_of_a_rotated_file_end_with_it(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "ROTATED_IDLE_S", 0.0)
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs) as reading:
        app.write(3)
        app.append("without its end" + ZEROS)
        reading.has_read(3)
        app.rename(logs / "app.log.1")
        reading.has_read(4)
        until(lambda: reading.counts("nul_gap_bytes") == len(ZEROS), "the zeros are passed over", told=reading.ledger.counts)
        until(lambda: len(reading.reader.catalog.tails) == 1, "the rotated file is let go")
    assert set(spooled(tmp_path / "spool")) == {*app.lines, "without its end"}
