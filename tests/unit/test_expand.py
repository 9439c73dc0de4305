"""Decompressed bytes from any position: any way of compressing, cutting, writing and seeking gives the same ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.codec import compress_aside
from agent.files import expand
from agent.files.expand import Expansion, NotYet, Slots, looks_plain
from agent.files.identity import MARK_BYTES

FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": compress_aside,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
LINES = b"".join(b"line %06d of a log that has some words in it\n" % number for number in range(40_000))
"""Longer than the window that is kept."""


class File:
    """A file to expand, and what may be done to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        self.expansion = Expansion(lambda: self.fd, Slots())

    def append(self, data: bytes) -> None:
        os.pwrite(self.fd, data, os.fstat(self.fd).st_size)
        self.noticed()

    def noticed(self) -> Expansion:
        stat = os.fstat(self.fd)
        self.expansion.notice(stat.st_size, stat.st_mtime_ns)
        return self.expansion


@contextmanager
def a_file(data: bytes = b"") -> Iterator[File]:
    with tempfile.TemporaryDirectory() as folder:
        file = File(Path(folder) / "app.log.gz")
        try:
            file.append(data)
            yield file
        finally:
            os.close(file.fd)


def crc(content: bytes, position: int) -> int | None:
    return zlib.crc32(content[max(0, position - MARK_BYTES) : position]) if position <= len(content) else None


@settings(max_examples=60, deadline=None)
@given(data=st.data(), form=st.sampled_from(sorted(FORMATS)), seed=st.integers(0, 1 << 30))
def test_any_split_into_members_any_chunks_and_any_seeks_give_the_same_bytes(data: st.DataObject, form: str, seed: int) -> None:
    random = Random(seed)
    content = LINES[: data.draw(st.sampled_from([0, 1, 4095, 4096, 4097, 70_000, len(LINES)]))]
    cuts = sorted(random.randrange(len(content) + 1) for _ in range(data.draw(st.integers(0, 4))))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    packed = b"".join(map(FORMATS[form], pieces))
    with a_file() as file:
        for at in [*sorted(random.randrange(len(packed)) for _ in range(data.draw(st.integers(0, 3)))), len(packed)]:
            file.append(packed[os.fstat(file.fd).st_size : at])
            for _ in range(data.draw(st.integers(1, 4))):
                look_somewhere(file.expansion, content, random)
        assert file.expansion.reach(len(content) + 1) == len(content)
        assert file.expansion.whole
        assert not file.expansion.damage
        for _ in range(4):
            look_somewhere(file.expansion, content, random)


def look_somewhere(expansion: Expansion, content: bytes, random: Random) -> None:
    """Whatever is asked, what is answered is so, also while the file is not there to its end."""
    position, length = random.randrange(len(content) + 10), random.choice((1, 1000, 1 << 20))
    what = random.randrange(6)
    if what == 0:
        expansion.rest()
    elif what == 1:
        expansion.want(random.randrange(len(content) + 10) for _ in range(3))
    elif what == 2:
        assert expansion.mark(position) in (crc(content, position), *([] if expansion.whole else [None]))
    elif what == 3:
        assert content.startswith(expansion.front(length))
    elif what == 4:
        assert expansion.reach(position) <= len(content)
    else:
        found = expansion.read(position, length)
        assert content[position : position + length].startswith(found)
        assert not expansion.whole or found == content[position : position + length]


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_without_time_it_goes_on_where_it_was(form: str) -> None:
    now = iter(range(1 << 30))
    with a_file(FORMATS[form](LINES)) as file:
        slots = file.expansion._slots = Slots(clock=lambda: next(now))
        waits, found = 0, b""
        while not found:
            slots.grant(0)
            try:
                found = file.expansion.read(len(LINES) - 100, 100)
            except NotYet:
                waits += 1
        assert found == LINES[-100:]
        assert 0 < waits < 20
        assert file.expansion._at == len(LINES)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_stream_that_just_ends_waits_for_the_rest_of_it(form: str) -> None:
    packed = FORMATS[form](LINES)
    with a_file(packed[: len(packed) // 2]) as file:
        size = file.expansion.reach(len(LINES))
        assert size < len(LINES)
        assert not file.expansion.ended
        file.append(packed[len(packed) // 2 :])
        assert file.expansion.reach(len(LINES)) == len(LINES)
        assert not file.expansion.reach(len(LINES) + 1) > len(LINES)
        assert file.expansion.whole


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_what_was_cut_short_long_ago_is_damaged_and_goes_on_if_it_grows_after_all(form: str) -> None:
    packed = FORMATS[form](LINES)
    with a_file(packed[: len(packed) // 2]) as file:
        size = file.expansion.reach(len(LINES))
        os.utime(file.path, (0, 0))
        file.noticed().reach(len(LINES))
        assert "ends in the middle" in file.noticed().damage
        assert file.expansion.size == size
        file.append(packed[len(packed) // 2 :])
        assert file.expansion.reach(len(LINES)) == len(LINES)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_all_before_damage_is_had_and_what_is_behind_it_is_not(form: str) -> None:
    """Twice the same content, so that whole blocks lie before the damage in every format."""
    first, second = FORMATS[form](LINES), bytearray(FORMATS[form](LINES))
    second[len(second) // 2 : len(second) * 3 // 4] = b"\xff" * (len(second) * 3 // 4 - len(second) // 2)
    with a_file(first + bytes(second) + first) as file:
        size = file.expansion.reach(1 << 40)
        assert file.expansion.damage
        assert size >= len(LINES)
        assert file.expansion.read(len(LINES) - 1000, 1000) == LINES[-1000:]
        assert file.expansion.reach(1 << 40) == size
        file.expansion.rest()
        assert file.expansion.read(size - 10, 100) == file.expansion.read(size - 10, 10)


def test_a_changed_checksum_at_the_end_costs_nothing_of_the_content() -> None:
    packed = bytearray(gzip.compress(LINES, 1))
    packed[-8] ^= 0xFF
    with a_file(bytes(packed)) as file:
        assert file.expansion.reach(1 << 40) == len(LINES)
        assert file.expansion.damage


def test_a_file_that_was_replaced_in_place_is_another_one() -> None:
    with a_file(gzip.compress(LINES)) as file:
        file.expansion.reach(1 << 40)
        os.truncate(file.fd, 0)
        file.append(gzip.compress(b"other\n" * 3000))
        assert file.expansion.resets == 1
        assert file.expansion.front(6) == b"other\n"
        assert file.expansion.reach(1 << 40) == 18_000


def test_a_bomb_is_expanded_no_further_than_asked() -> None:
    bomb = compress_aside(bytes(1 << 28))
    with a_file(bomb) as file:
        assert file.expansion.read(0, 1 << 20) == bytes(1 << 20)
        assert file.expansion._at < 3 << 20
        assert len(file.expansion._data) <= expand.KEPT_BYTES + 2 * expand.STEP_BYTES


def test_more_files_than_slots_take_turns_and_keep_what_little_is_needed() -> None:
    slots = Slots()
    with a_file(gzip.compress(LINES)) as file:
        many = [Expansion(lambda: file.fd, slots) for _ in range(expand.SLOTS + 2)]
        for one in many:
            one.reach(1 << 40)
        assert [bool(one._data) for one in many] == [False, False, *[True] * expand.SLOTS]
        assert [one.mark(len(LINES)) for one in many] == [crc(LINES, len(LINES))] * len(many)
        assert [bool(one._data) for one in many] == [False, False, *[True] * expand.SLOTS]


def test_text_and_compressed_bytes_are_told_apart_by_what_they_are() -> None:
    assert looks_plain(b"a line\nand \xc3\xa4nother\n") is True
    assert looks_plain(b"\x1f\x8b") is None
    assert [looks_plain(make(b"a line\n")) for make in FORMATS.values()] == [False] * len(FORMATS)
    assert looks_plain(Random(1).randbytes(4096)) is False
    assert looks_plain(bytes(100)) is False
