"""What is refused for good is kept: events with their reason, records byte for byte, and never more than there is room."""

from __future__ import annotations

import base64
import errno
import json
import struct
from pathlib import Path

import msgspec
import pytest

from agent import wire
from agent.codec import compress
from agent.shipping import deadletter
from agent.shipping.deadletter import DeadLetters, Quarantine
from agent.spool.disk import Disk
from agent.spool.segment import Position
from agent.spool.spool import Entry

FILE_ID = "00c0ffee00c0ffee"
LINES = [b"one", b"two\r", b"", b"caf\xe9"]
OFFSETS = [4096, 4100, 4105, 4106]


class Watched(Disk):
    """Remembers the order of writes and syncs; fails from the operation named in ``fails``."""

    def __init__(self, fails: str = "") -> None:
        self.done: list[str] = []
        self._fails = fails

    def write(self, fd: int, data: bytes, at: int) -> None:
        self._do("write")
        super().write(fd, data, at)

    def sync(self, fd: int) -> None:
        self._do("sync")
        super().sync(fd)

    def sync_folder(self, folder: Path) -> None:
        self._do("sync_folder")
        super().sync_folder(folder)

    def _do(self, name: str) -> None:
        if name == self._fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.done.append(name)


def entry(record_id: str = "r-1", lines: list[bytes] = LINES) -> Entry:
    raw = b"".join(line + b"\n" for line in lines)
    header = wire.Header(
        wire.DATA, record_id, file_id=FILE_ID, path="/a.log", source="app", base_offset=4096, raw_bytes=len(raw), events=4
    )
    return Entry(Position(1, 0), header, wire.encode_record(header, compress(raw)))


def letters(state: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (state / deadletter.DEAD_LETTERS).read_text().splitlines()]


def test_a_refused_record_leaves_every_event_with_its_id_and_bytes(tmp_path: Path) -> None:
    refused = wire.RecordOutcome("r-1", wire.REJECTED, rejected=4, reason="too_large")
    assert DeadLetters(tmp_path).add(entry(), refused, "tenant-1") == 4
    kept = letters(tmp_path)
    events = [line.removesuffix(b"\r") for line in LINES]
    assert [base64.b64decode(letter["data_base64"]) for letter in kept] == events
    assert [letter["event_id"] for letter in kept] == [
        wire.event_id(FILE_ID, offset, event) for offset, event in zip(OFFSETS, events, strict=True)
    ]
    assert {(letter["reason"], letter["path"], letter["source"], letter["tenant_id"]) for letter in kept} == {
        ("too_large", "/a.log", "app", "tenant-1")
    }


def test_of_a_mixed_record_only_the_rejected_events_are_kept(tmp_path: Path) -> None:
    exceptions = (
        wire.EventOutcome(OFFSETS[1], wire.REJECTED, "store_error_1"),
        wire.EventOutcome(OFFSETS[2], wire.EXPIRED, "older_than_retention"),
        wire.EventOutcome(OFFSETS[3], wire.REJECTED, "store_error_2"),
    )
    mixed = wire.RecordOutcome("r-1", wire.MIXED, accepted=1, expired=1, rejected=2, exceptions=exceptions)
    assert DeadLetters(tmp_path).add(entry(), mixed, "tenant-1") == 2
    kept = [(letter["reason"], base64.b64decode(letter["data_base64"])) for letter in letters(tmp_path)]
    assert kept == [("store_error_1", b"two"), ("store_error_2", b"caf\xe9")]


def test_later_letters_come_after_earlier_ones(tmp_path: Path) -> None:
    refused = wire.RecordOutcome("r-1", wire.REJECTED, rejected=4, reason="first")
    again = wire.RecordOutcome("r-2", wire.REJECTED, rejected=4, reason="second")
    DeadLetters(tmp_path).add(entry(), refused, "")
    DeadLetters(tmp_path).add(entry("r-2"), again, "")
    assert [letter["reason"] for letter in letters(tmp_path)] == ["first"] * 4 + ["second"] * 4


def test_letters_are_synced_with_their_folder_before_they_count(tmp_path: Path) -> None:
    disk = Watched()
    dead_letters = DeadLetters(tmp_path, disk)
    refused = wire.RecordOutcome("r-1", wire.REJECTED, rejected=4, reason="r")
    dead_letters.add(entry(), refused, "")
    assert disk.done == ["write", "sync", "sync_folder"]
    dead_letters.add(entry(), refused, "")
    assert disk.done[3:] == ["write", "sync", "sync_folder"], "the folder's sync may have failed the first time"


@pytest.mark.parametrize("operation", ["write", "sync", "sync_folder"])
def test_letters_that_are_not_on_disk_are_an_error(tmp_path: Path, operation: str) -> None:
    refused = wire.RecordOutcome("r-1", wire.REJECTED, rejected=4, reason="r")
    with pytest.raises(OSError, match="No space left"):
        DeadLetters(tmp_path, Watched(operation)).add(entry(), refused, "")


REFUSED = wire.RecordOutcome("r-1", wire.REJECTED, rejected=4, reason="r")


class Torn(Disk):
    """Writes half of what it is given, and fails; ``cut_works``: whether cutting it off again does."""

    def __init__(self, *, cut_works: bool) -> None:
        self._cut_works = cut_works

    def write(self, fd: int, data: bytes, at: int) -> None:
        super().write(fd, data[: len(data) // 2 + 20], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    def truncate(self, fd: int, length: int) -> None:
        if not self._cut_works:
            raise OSError(errno.EIO, "Input/output error")
        super().truncate(fd, length)


def test_a_letter_that_could_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    DeadLetters(tmp_path).add(entry(), REFUSED, "")
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            DeadLetters(tmp_path, Torn(cut_works=True)).add(entry("r-2"), REFUSED, "")
    DeadLetters(tmp_path).add(entry("r-2"), REFUSED, "")
    assert len(letters(tmp_path)) == 8


def test_a_torn_letter_does_not_damage_the_next(tmp_path: Path) -> None:
    """As a kill in the middle leaves it."""
    with pytest.raises(OSError, match="No space left"):
        DeadLetters(tmp_path, Torn(cut_works=False)).add(entry(), REFUSED, "")
    DeadLetters(tmp_path).add(entry("r-2"), REFUSED, "")
    texts = (tmp_path / deadletter.DEAD_LETTERS).read_text().splitlines()
    assert [json.loads(text)["reason"] for text in texts[-4:]] == ["r"] * 4
    whole = list(deadletter.read_one(tmp_path / deadletter.DEAD_LETTERS))
    assert len(whole) == len(texts) - 1


def test_dead_letters_take_bounded_room_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    dead_letters = DeadLetters(tmp_path, max_bytes=4000)
    for number in range(20):
        lines = [b"%d.%d" % (number, n) for n in range(4)]
        dead_letters.add(entry(lines=lines), msgspec.structs.replace(REFUSED, reason=f"reason {number}"), "")
        assert sum(path.stat().st_size for path in tmp_path.glob("dead-letters*.ndjson")) <= 4000
    kept = [letter["reason"] for letter in deadletter.read(tmp_path)]
    assert kept[-1] == "reason 19"
    assert kept == sorted(kept, key=lambda reason: int(reason.split()[1]))
    assert dead_letters.dropped == 80 - len(kept) > 0


def test_a_record_that_is_refused_again_adds_only_letters_that_are_not_there(tmp_path: Path) -> None:
    partly = msgspec.structs.replace(
        REFUSED, outcome=wire.MIXED, rejected=1, exceptions=(wire.EventOutcome(OFFSETS[1], wire.REJECTED, "r"),)
    )
    DeadLetters(tmp_path).add(entry(), partly, "")
    disk = Watched()
    dead_letters = DeadLetters(tmp_path, disk)
    assert dead_letters.add(entry(), REFUSED, "", again=True) == 4
    there = [letter["event_id"] for letter in letters(tmp_path)]
    assert len(there) == len(set(there)) == 4
    disk.done.clear()
    assert dead_letters.add(entry("r-2"), REFUSED, "", again=True) == 4
    assert len(letters(tmp_path)) == 4
    assert "sync" in disk.done, "they may be there, and not on disk"
    (tmp_path / deadletter.DEAD_LETTERS).write_text("")
    dead_letters.add(entry(), REFUSED, "", again=True)
    assert len(letters(tmp_path)) == 4, "one that was dropped meanwhile is there again"


def test_letters_that_moved_to_the_old_file_are_there_too_and_those_that_fell_out_of_it_are_not(tmp_path: Path) -> None:
    dead_letters = DeadLetters(tmp_path, max_bytes=4000)
    records = [entry(f"r-{number}", [b"%d.%d" % (number, n) for n in range(4)]) for number in range(3)]
    for record in records:
        dead_letters.add(record, REFUSED, "", again=True)
    dead_letters.add(records[1], REFUSED, "", again=True)
    assert (len(letters(tmp_path)), dead_letters.dropped) == (4, 4)
    dead_letters.add(records[0], REFUSED, "", again=True)
    assert dead_letters.dropped == 8
    assert [letter["event_id"][17:] for letter in deadletter.read(tmp_path)] == [
        wire.event_id(FILE_ID, offset, b"%d.%d" % (number, n))[17:]
        for number in (2, 0) for n, offset in enumerate((4096, 4100, 4104, 4108))
    ]  # fmt: skip


def test_what_an_older_agent_has_written_twice_is_read_once_as_it_was_last(tmp_path: Path) -> None:
    for reason in ("first", "second"):
        DeadLetters(tmp_path).add(entry(), msgspec.structs.replace(REFUSED, reason=reason), "")
    assert len(letters(tmp_path)) == 8
    assert [letter["reason"] for letter in deadletter.read(tmp_path)] == ["second"] * 4


def test_letters_larger_than_the_room_are_kept_all_the_same(tmp_path: Path) -> None:
    DeadLetters(tmp_path, max_bytes=10).add(entry(), REFUSED, "")
    assert len(list(deadletter.read(tmp_path))) == 4


@pytest.mark.parametrize(
    "outcome",
    [
        wire.RecordOutcome("r-1", wire.MIXED, accepted=3, rejected=1, exceptions=(wire.EventOutcome(at, wire.REJECTED, "r"),))
        for at in (0, 4097, 5000)
    ],
)
def test_an_answer_that_names_no_event_of_the_record_is_an_error(tmp_path: Path, outcome: wire.RecordOutcome) -> None:
    with pytest.raises(OSError, match="no event of the record begins"):
        DeadLetters(tmp_path).add(entry(), outcome, "")


def test_offsets_that_the_record_brings_along_count(tmp_path: Path) -> None:
    given = entry()
    offsets = compress(struct.pack("<4I", 0, 10, 20, 30))
    header = msgspec.structs.replace(given.header, offsets=offsets)
    packed = Entry(given.position, header, wire.encode_record(header, wire.decode_record(given.data).payload.tobytes()))
    DeadLetters(tmp_path).add(packed, REFUSED, "")
    assert [int(letter["event_id"].split("-")[1], 16) for letter in letters(tmp_path)] == [4096, 4106, 4116, 4126]


def test_a_quarantined_record_is_due_by_its_age_and_not_by_how_long_the_agent_runs(tmp_path: Path) -> None:
    Quarantine(tmp_path).add(entry("r-1"))
    (path,) = Quarantine(tmp_path).records()
    born_s = path.stat().st_mtime
    assert Quarantine(tmp_path).due(born_s + deadletter.RETRY_S - 1) == []
    restarted = Quarantine(tmp_path)
    assert restarted.due(born_s + deadletter.RETRY_S) == [path]
    restarted.tried(path, born_s + deadletter.RETRY_S)
    assert Quarantine(tmp_path).due(born_s + 2 * deadletter.RETRY_S - 1) == []
    assert Quarantine(tmp_path).due(born_s - 100) == [path], "a clock that was set back holds nothing up"


def test_a_quarantined_record_is_kept_byte_for_byte_until_it_is_removed(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    assert quarantine.add(entry("r-1"))
    assert quarantine.add(entry("r-2"))
    paths = quarantine.records()
    assert [path.read_bytes() for path in paths] == [entry("r-1").data, entry("r-2").data]
    assert quarantine.size_bytes() == 2 * len(entry().data)
    quarantine.remove(paths[0])
    assert quarantine.records() == paths[1:]


def test_a_record_that_is_in_the_quarantine_is_not_kept_twice(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    assert quarantine.add(entry())
    assert quarantine.add(entry())
    assert len(quarantine.records()) == 1


def test_a_full_quarantine_takes_nothing_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletter, "MAX_QUARANTINE_BYTES", len(entry().data) + 1)
    quarantine = Quarantine(tmp_path)
    assert quarantine.add(entry("r-1"))
    assert not quarantine.add(entry("r-2"))
    assert len(quarantine.records()) == 1


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_half_a_quarantined_record_does_not_count(tmp_path: Path, operation: str) -> None:
    with pytest.raises(OSError, match="No space left"):
        Quarantine(tmp_path, Watched(operation)).add(entry())
    assert Quarantine(tmp_path).records() == []
    assert Quarantine(tmp_path).add(entry()), "what a failure left behind is no obstacle"


def test_a_quarantined_record_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    disk = Watched()
    Quarantine(tmp_path, disk).add(entry())
    assert disk.done == ["write", "sync", "sync_folder"]
