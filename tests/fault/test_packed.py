"""Rotated files that were compressed: read on where the plain file was left, and nothing of them twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agent.verifying.naming import events
from tests.support.agent import SCOPE, AgentProcess, App, arrived, exactly_once
from tests.support.archives import FORMATS, losses, once, packed, quiet, write_much
from tests.support.disk import FakeDisk
from tests.support.lives import Lives, clock_of_the_agent
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

ROTATED = ("app.log.1", "app.log-20261125")


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


def test_an_archive_that_ends_without_a_newline_is_read_once_and_let_go(tmp_path: Path, logs: Path) -> None:
    app = App(logs / "app.log")
    lives = Lives(tmp_path / "spool", (f"{logs}/app.log",), segment_bytes=3000, max_open_files=50)
    with clock_of_the_agent(lives.clock):
        app.write(5)
        lives.start()
        lives.turns()
        app.append("and no newline at its end")
        app.copytruncate(logs / "app.log.1")
        packed(logs / "app.log.1")
        lives.finish(6.0, 70.0, 6.0, 6.0)
    lines = [*app.lines, "and no newline at its end"]
    assert {line: len(lives.store.lines[line.encode()]) for line in lines} == dict.fromkeys(lines, 1)


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
