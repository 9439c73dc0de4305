"""Compressed files that are cut, damaged, huge or many: what they cost, in losses and in work."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from random import Random

import pytest

from agent.codec import compress_aside
from agent.files import expand
from agent.reading import walk
from agent.verifying.naming import events
from tests.support.agent import SCOPE, App
from tests.support.archives import losses, once, packed, quiet
from tests.support.reading import Reading, spooled
from tests.support.wait import until


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated files are looked at for their end at once."""
    monkeypatch.setattr(walk, "ROTATED_IDLE_S", 0.0)


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
