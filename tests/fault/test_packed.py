"""Rotated files that were compressed: read on where the plain file was left, and nothing of them twice."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest

from agent import wire
from agent.codec import compress_aside, decompress
from agent.files import expand
from agent.reading import walk
from agent.verifying.naming import events
from tests.support.agent import SCOPE, AgentProcess, App, arrived, exactly_once
from tests.support.disk import FakeDisk
from tests.support.reading import Reading, shipped, spooled
from tests.support.sink import SinkProcess
from tests.support.spooled import abandon, open_spool
from tests.support.wait import until

FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1),
    "zst": compress_aside,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bz2": lambda data: bz2.compress(data, 1),
}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated files are looked at for their end at once."""
    monkeypatch.setattr(walk, "ROTATED_IDLE_S", 0.0)


ROTATED = ("app.log.1", "app.log-20261125")


def packed(path: Path, form: str = "gz") -> Path:
    """As a rotation does: the file becomes a compressed one beside it."""
    made = path.with_name(f"{path.name}.{form}")
    made.write_bytes(FORMATS[form](path.read_bytes()))
    path.unlink()
    return made


def write_much(app: App, count: int) -> None:
    """Lines that do not compress well."""
    random, first = Random(count), len(app.lines)
    new = [f"{app.name} line {first + number:06d} {random.randbytes(20).hex()}" for number in range(count)]
    app.append("".join(f"{line}\n" for line in new))
    app.lines += new


def losses(folder: Path) -> list[tuple[str, int, int, bool]]:
    """Reason, first byte, bytes, at least: of each loss record in the spool."""
    spool = open_spool(folder)
    try:
        return [
            (loss.reason, loss.offset, loss.lost_bytes, loss.at_least)
            for record in shipped(spool)
            if record.header.kind == wire.LOSS
            for loss in wire.decode_losses(decompress(record.payload, record.header.raw_bytes))
        ]
    finally:
        abandon(spool)


def once(folder: Path, lines: Iterable[str]) -> None:
    """These lines and no others are in the spool, each under one ID, and nothing is told to be lost."""
    found = spooled(folder)
    assert sorted(found.keys() - set(lines)) == []
    assert {line: len(found.get(line, ())) for line in lines} == dict.fromkeys(lines, 1)
    assert losses(folder) == []


def quiet(reading: Reading) -> None:
    """Wait until it has walked once more, with nothing left to do."""
    walks = reading.reader.catalog._contents.walks
    until(
        lambda: (
            reading.error
            or (
                reading.reader.catalog._contents.walks > walks + 2
                and not reading.reader.turns.due
                and not reading.reader.catalog.searching
            )
        ),
        "it has nothing to do",
        told=lambda: [(tail.name, tail.size, tail.state) for tail in reading.reader.catalog.tails.values()],
    )
    assert reading.error is None, reading.error


@pytest.mark.parametrize(("form", "rotated"), list(zip(FORMATS, ROTATED * 2, strict=True)))
@pytest.mark.parametrize("include", ["app.log", "app.log*"])
def test_rotated_and_compressed_while_down(tmp_path: Path, logs: Path, form: str, rotated: str, include: str) -> None:
    """rotated_out_of_the_glob_while_down, read to 40 %."""
    app, include = App(logs / "app.log"), f"{logs}/{include}"
    app.write(400)
    with Reading(tmp_path / "spool", logs, include=[include]) as reading:
        reading.has_read(400)
    app.write(600)
    app.rename(logs / rotated)
    packed(logs / rotated, form)
    app.write(10)
    with Reading(tmp_path / "spool", logs, include=[include]) as reading:
        reading.has_read(610)
        quiet(reading)
    once(tmp_path / "spool", app.lines)


def test_a_short_file_goes_on_in_its_compressed_successor(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(4)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        reading.has_read(4)
    app.write(6)
    app.append("and no newline at its end")
    app.rename(logs / "app.log.1")
    packed(logs / "app.log.1")
    app.write(3)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        reading.has_read(9)
        quiet(reading)
    once(tmp_path / "spool", app.lines)


@pytest.mark.parametrize("original", ["is there", "is gone"])
@pytest.mark.parametrize("lines", [40, 3000], ids=["below 4096 bytes", "beyond"])
@pytest.mark.parametrize("include", ["app.log", "app.log*"])
def test_gzip_in_progress(tmp_path: Path, logs: Path, original: str, lines: int, include: str) -> None:
    app, include = App(logs / "app.log"), f"{logs}/{include}"
    app.write(lines // 4)
    with Reading(tmp_path / "spool", logs, include=[include]) as reading:
        reading.has_read(lines // 4)
    app.write(lines - lines // 4)
    data = gzip.compress(app.path.read_bytes(), 1)
    app.rename(logs / "app.log.1")
    half = logs / "app.log.1.gz"
    half.write_bytes(b"")
    if original == "is gone":
        (logs / "app.log.1").unlink()
    with Reading(tmp_path / "spool", logs, include=[include]) as reading:
        for part in (data[: len(data) // 2], data[len(data) // 2 : -3], data[-3:]):
            quiet(reading)
            with half.open("ab") as file:
                file.write(part)
        (logs / "app.log.1").unlink(missing_ok=True)
        reading.has_read(lines - lines // 4)
        quiet(reading)
    once(tmp_path / "spool", app.lines)


def test_gzip_in_progress_over_a_restart(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(20_000)
    data = gzip.compress(app.path.read_bytes(), 1)
    app.path.unlink()
    half = logs / "app.log.1.gz"
    half.write_bytes(data[: len(data) // 2])
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        reading.has_read(5000)
        quiet(reading)
    half.write_bytes(data)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        until(lambda: not reading.reader.unread_bytes() and reading.counts("read_events"), "it is read")
        quiet(reading)
    once(tmp_path / "spool", app.lines)


@pytest.mark.parametrize(("form", "include"), [("gz", "app.log"), ("zst", "app.log*"), ("xz", "app.log*"), ("bz2", "app.log")])
def test_killed_in_the_middle_of_an_archive(tmp_path: Path, logs: Path, form: str, include: str) -> None:
    """The rest is read on from there; also when the archive was renamed meanwhile, as the next rotation does."""
    app, include = App(logs / "app.log"), f"{logs}/{include}"
    app.write(100)
    with Reading(tmp_path / "spool", logs, include=[include]) as reading:
        reading.has_read(100)
    write_much(app, 40_000)
    app.rename(logs / "app.log.1")
    packed(logs / "app.log.1", form)
    disk = FakeDisk()
    disk.room_bytes = 900_000
    with Reading(tmp_path / "spool", logs, disk, include=[include], segment_bytes=1 << 20) as reading:
        reading.has_read(1)
        until(lambda: reading.reader.blocked, "there is no room for more")
    with Reading(tmp_path / "spool", logs, include=[include], segment_bytes=1 << 20) as reading:
        read = reading.counts("read_events")
        assert read < 40_000
        (logs / f"app.log.1.{form}").rename(logs / f"app.log.2.{form}")
        until(lambda: not reading.reader.unread_bytes() and reading.counts("read_events"), "it is read")
        quiet(reading)
    once(tmp_path / "spool", app.lines)


def test_a_killed_agent_goes_on_in_an_archive(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The same with a real agent, killed wherever it is."""
    app = App(logs / "app.log")
    write_much(app, 30_000)
    agent.start()
    until(lambda: sink.seen().texts, "some of it has arrived")
    agent.kill()
    write_much(app, 30_000)
    app.rename(logs / "app.log.1")
    packed(logs / "app.log.1")
    agent.start()
    until(lambda: len(sink.seen().texts) > 35_000, "it goes on in the archive", told=agent.log)
    agent.kill()
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert sink.seen().losses == []


def test_archives_that_were_read_as_plain_files_ship_nothing(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        for count in (5, 500, 20):
            reading.has_read(len(app.lines) + len(app.write(count)))
            for number in (3, 2, 1):
                if (old := logs / f"app.log.{number}.gz").exists():
                    old.rename(logs / f"app.log.{number + 1}.gz")
            app.rename(logs / "app.log.1")
            packed(logs / "app.log.1")
            quiet(reading)
        assert reading.counts("read_events") == len(app.lines)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        quiet(reading)
        assert reading.counts("read_events") == 0
    once(tmp_path / "spool", app.lines)


def test_state_lost_with_archives_that_match(tmp_path: Path, logs: Path) -> None:
    """All is sent again, and every line of it has the ID it had."""
    app = App(logs / "app.log")
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        for number, form in enumerate(FORMATS):
            reading.has_read(len(app.lines) + len(app.write(300)))
            app.rename(logs / f"app.log.{number}")
            packed(logs / f"app.log.{number}", form)
            quiet(reading)
    with Reading(tmp_path / "another", logs, include=[f"{logs}/*"]) as reading:
        reading.has_read(len(app.lines))
        quiet(reading)
    once(tmp_path / "spool", app.lines)
    found = spooled(tmp_path / "spool")
    assert spooled(tmp_path / "another") == found
    for form in FORMATS:
        (path,) = logs.glob(f"*.{form}")
        named = {event.event.decode(): {event.external_id} for event in events(path, scope=SCOPE, source="app")}
        assert len(named) == 300
        assert {line: found[line] for line in named} == named


def test_copytruncate_and_compress(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(200)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(200)
    app.write(100)
    app.copytruncate(logs / "app.log.1")
    packed(logs / "app.log.1")
    app.write(50)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(150)
        quiet(reading)
    found = spooled(tmp_path / "spool")
    assert {line: len(found.get(line, ())) for line in app.lines} == dict.fromkeys(app.lines, 1)


def test_an_archive_replaced_by_other_content_under_its_name(tmp_path: Path, logs: Path) -> None:
    """In its place, and in the same inode."""
    first, second, third = (App(logs / "app.log", name) for name in ("first", "second", "third"))
    archive = logs / "app.log.1.gz"
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*.gz"]) as reading:
        for number, app in enumerate((first, second, third), 1):
            app.write(300)
            data = gzip.compress(app.path.read_bytes(), 1)
            app.path.unlink()
            if app is second:
                archive.unlink()
            archive.write_bytes(data)
            reading.has_read(300 * number)
            quiet(reading)
    once(tmp_path / "spool", [*first.lines, *second.lines, *third.lines])


@pytest.mark.usefixtures("_impatient")
def test_a_cut_archive_gives_what_it_has_and_the_rest_is_a_loss(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    app.write(100)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(100)
    app.write(3000)
    size = app.path.stat().st_size
    app.rename(logs / "app.log.1")
    archive = packed(logs / "app.log.1")
    os.truncate(archive, archive.stat().st_size // 2)
    os.utime(archive, (0, 0))
    content = expand_all(archive)
    with Reading(tmp_path / "spool", logs) as reading:
        until(lambda: reading.counts("losses.compressed_file_damaged"), "the loss is told")
        quiet(reading)
    found = spooled(tmp_path / "spool")
    whole = content[: content.rindex(b"\n")].decode().split("\n")
    assert found.keys() - {content[content.rindex(b"\n") + 1 :].decode()} == set(whole)
    assert 0 < len(whole) < 3100
    assert losses(tmp_path / "spool") == [("compressed_file_damaged", len(content), 1, True)]
    assert size > len(content)


def expand_all(path: Path) -> bytes:
    """As much as zlib makes of it."""
    import zlib

    return zlib.decompressobj(wbits=31).decompress(path.read_bytes())


def test_an_archive_damaged_in_the_middle_is_told_once_and_holds_nothing_up(tmp_path: Path, logs: Path) -> None:
    app, other = App(logs / "app.log"), App(logs / "other.log", "other")
    app.write(3000)
    archive = packed(app.path)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = b"\xff" * 50
    archive.write_bytes(data)
    (logs / "garbage.log.gz").write_bytes(Random(7).randbytes(5000))
    (logs / "header.log.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"\xff" * 5000)
    (logs / "empty.log.gz").touch()
    other.write(10)
    for _ in range(2):
        with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
            quiet(reading)
            quiet(reading)
    told = losses(tmp_path / "spool")
    assert [(reason, at_least) for reason, _, _, at_least in told] == [("compressed_file_damaged", True)] * 3
    assert sorted(offset > 0 for _, offset, _, _ in told) == [False, False, True]
    found = spooled(tmp_path / "spool")
    assert set(other.lines) <= found.keys()
    assert 500 < len(found.keys() & set(app.lines)) < 3000


def test_a_name_that_promises_a_compressed_file_and_plain_lines_in_it(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log.gz")
    app.write(100)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        reading.has_read(100)
        app.write(100)
        reading.has_read(200)
        quiet(reading)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"]) as reading:
        quiet(reading)
        assert reading.counts("read_events") == 0
    once(tmp_path / "spool", app.lines)


@pytest.mark.parametrize("olddir", ["old", "{logs}/old"])
@pytest.mark.parametrize("form", ["", "gz"])
def test_rotated_into_another_folder(tmp_path: Path, logs: Path, olddir: str, form: str) -> None:
    (logs / "old").mkdir()
    source = {"olddir": olddir.format(logs=logs)}
    app = App(logs / "app.log")
    app.write(200)
    with Reading(tmp_path / "spool", logs, source=source) as reading:
        reading.has_read(200)
    app.write(100)
    app.rename(logs / "old" / "app.log.1")
    if form:
        packed(logs / "old" / "app.log.1", form)
    app.write(10)
    with Reading(tmp_path / "spool", logs, source=source) as reading:
        reading.has_read(110)
        quiet(reading)
    once(tmp_path / "spool", app.lines)


def test_what_is_settled_is_not_expanded_again(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each walk, nor at the next start, and at a start in its middle once."""
    steps: list[int] = []
    step = expand.Expansion._step
    monkeypatch.setattr(expand.Expansion, "_step", lambda self, fd: steps.append(1) or step(self, fd))
    app = App(logs / "app.log")
    other = App(logs / "b.log", "b")
    app.write(60_000)
    packed(app.path)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], segment_bytes=1 << 20) as reading:
        reading.has_read(60_000)
        quiet(reading)
        once_through = len(steps)
        other.write(10)
        quiet(reading)
        assert len(steps) == once_through
    for expected in (once_through, 0):
        steps.clear()
        with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], segment_bytes=1 << 20) as reading:
            quiet(reading)
            assert len(steps) <= expected
    once(tmp_path / "spool", [*app.lines, *other.lines])


def test_many_archives_and_few_handles(tmp_path: Path, logs: Path) -> None:
    apps = [App(logs / f"{number:02}.log", f"app {number}") for number in range(30)]
    for app in apps:
        app.write(100)
        packed(app.path)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], max_open_files=8) as reading:
        reading.has_read(3000)
        quiet(reading)
        assert sum(tail.is_open for tail in reading.reader.catalog.tails.values()) <= 8
    once(tmp_path / "spool", [line for app in apps for line in app.lines])


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("byte", [b"\0", b"x"], ids=["NULs", "one endless line"])
def test_a_bomb_fills_neither_memory_nor_spool(
    tmp_path: Path, logs: Path, byte: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the time: it is gone through once to be read."""
    made: list[int] = []
    take = expand.Expansion._take
    monkeypatch.setattr(expand.Expansion, "_take", lambda self, data: made.append(len(data)) or take(self, data))
    size = (1 << 27) + 6
    (logs / "bomb.log.zst").write_bytes(compress_aside(b"bomb!\n" + byte * (1 << 27)))
    app = App(logs / "app.log")
    app.write(10)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], segment_bytes=1 << 20) as reading:
        reading.has_read(11 + (byte == b"x"))
        quiet(reading)
        assert reading.spool.size_bytes < 1 << 19
        (tail,) = [tail for tail in reading.reader.catalog.tails.values() if tail.packed]
        assert tail.size == size
        assert sum(made) < 2 * size
    lost = [] if byte == b"\0" else [("over_long", 6 + (1 << 20), (1 << 27) - (1 << 20), False)]
    assert losses(tmp_path / "spool") == lost


def test_lines_longer_than_a_block_are_gone_through_once(tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file has no way back: its first block is kept while the end of such a line is looked for."""
    made: list[int] = []
    take = expand.Expansion._take
    monkeypatch.setattr(expand.Expansion, "_take", lambda self, data: made.append(len(data)) or take(self, data))
    lines = [f"{number} {'x' * (number * (1 << 20) // 2)}" for number in range(8)]
    content = bytes(1 << 22) + "".join(f"{line}\n" for line in lines).encode()
    (logs / "app.log.gz").write_bytes(gzip.compress(content, 1))
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], segment_bytes=1 << 20) as reading:
        reading.has_read(len(lines))
        quiet(reading)
        assert sum(made) < 2 * len(content)
    assert {line[:4] for line in spooled(tmp_path / "spool")} == {line[:4] for line in lines}
    named = {event.event.decode(): {event.external_id} for event in events(logs / "app.log.gz", scope=SCOPE, source="app")}
    assert spooled(tmp_path / "spool") == named


def test_archives_that_are_there_at_first_are_skipped_where_start_says_so(tmp_path: Path, logs: Path) -> None:
    """And stay so under other names and after a restart, without being expanded; what comes later is read."""
    old, app = App(logs / "old.log", "old"), App(logs / "app.log")
    old.write(20_000)
    packed(old.path)
    app.write(100)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], start="end") as reading:
        quiet(reading)
        app.lines.clear()
        reading.has_read(len(app.write(10)))
        assert reading.reader.unread_bytes() == 0
    (logs / "old.log.gz").rename(logs / "old.log.1.gz")
    new = App(logs / "new.log", "new")
    new.write(500)
    packed(new.path)
    with Reading(tmp_path / "spool", logs, include=[f"{logs}/*"], start="end") as reading:
        reading.has_read(500)
        quiet(reading)
        assert reading.reader.unread_bytes() == 0
    found = spooled(tmp_path / "spool")
    assert found.keys() - {line for line in found if line.startswith("app")} == set(new.lines)
    assert losses(tmp_path / "spool") == []


def test_the_commands_know_compressed_files(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/app.log*"]}])
    app = App(logs / "app.log")
    app.write(500)
    size = app.path.stat().st_size
    plain = agent.command("ids", str(app.path)).stdout
    archive = logs / "app.log.1.gz"
    archive.write_bytes(gzip.compress(app.path.read_bytes()))
    assert agent.command("ids", str(archive)).stdout == plain
    assert len(plain.splitlines()) == 500
    checked = json.loads(agent.command("check", "--json").stdout)
    assert [file["ships_bytes"] for file in checked["files"]] == [size, size]
    with agent:
        arrived(sink, app.lines, told=agent)

        def files() -> list[dict[str, object]] | None:
            said = agent.status()["files"]
            return said if [file["state"] for file in said] == ["followed", "copy"] else None

        said = until(files, "the archive is known to be a copy", told=agent.status)
        assert [file["unread_bytes"] for file in said] == [0, 0]
        assert said[1]["compressed_bytes"] == archive.stat().st_size
        assert "a copy of another file that is known" in agent.command("explain", str(archive)).stdout
    exactly_once(sink.seen(), app.lines)
