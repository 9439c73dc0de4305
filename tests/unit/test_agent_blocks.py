"""Which events a file has does not depend on how its bytes were read."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.files.identity import BODY_AT
from agent.text import blocks
from agent.text.blocks import Cut, cut_block

SMALL_LINE = 48
"""Stands for `MAX_LINE_BYTES` in tests, so that long lines are short."""


class Block(NamedTuple):
    offset: int
    data: bytes
    events: int
    partial: bool


@pytest.fixture
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_LINE_BYTES", SMALL_LINE)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", SMALL_LINE + 1)


def blocks_of(content: bytes, sizes: list[int], *, final: bool = False, start: int = 0) -> list[Block]:
    """Cut a file as it grows to each of these sizes, as the reader does: as much as there is, at most a block at a time."""
    found, offset = [], start
    for size in [*sizes, len(content)]:
        while (end := min(size, offset + blocks.BLOCK_BYTES)) > offset:
            cut = cut_block(content, offset, end, offset, final=final and size == len(content) and end == size)
            if cut is None and blocks.is_too_long(end - offset):  # a line of its own, once its end is there
                newline = content.find(b"\n", offset, size)
                if newline < 0 and not (final and size == len(content)):
                    break
                cut = Cut((newline + 1 if newline >= 0 else size) - offset, 1, partial=newline < 0)
            if cut is None:
                break
            found.append(Block(offset, content[offset : offset + cut.length], cut.events, cut.partial))
            offset += cut.length
    return found


def events_of(found: list[Block]) -> list[tuple[int, bytes]]:
    """Every event with its offset, as the collector takes a block apart."""
    events = []
    for block in found:
        lines = block.data.split(b"\n")
        if not block.partial:
            assert lines.pop() == b"", "a block ends with a newline, or says that it does not"
        assert len(lines) == block.events
        at = block.offset
        for line in lines:
            events.append((at, line))
            at += len(line) + 1
    return events


def test_the_complete_lines_are_one_block_and_the_unfinished_one_stays() -> None:
    assert cut_block(b"one\ntwo\nthr", 0, 11, 0) == Cut(8, 2)


def test_no_complete_line_is_no_block() -> None:
    assert cut_block(b"thr", 0, 3, 0) is None
    assert cut_block(b"", 0, 0, 0) is None


def test_an_unfinished_line_counts_when_the_file_is_final() -> None:
    assert cut_block(b"thr", 0, 3, 0, final=True) == Cut(3, 1, partial=True)
    assert cut_block(b"one\nthr", 0, 7, 0, final=True) == Cut(4, 1)
    assert cut_block(b"", 0, 0, 0, final=True) is None


def test_what_lies_around_the_range_does_not_count() -> None:
    assert cut_block(b"\n\nab\ncd\n\n", 2, 7, 100) == Cut(3, 1)


def test_a_line_longer_than_the_limit_is_no_block() -> None:
    limit = blocks.MAX_LINE_BYTES
    for final in (False, True):
        assert cut_block(b"x" * (limit + 1), 0, limit + 1, 0, final=final) is None
    assert blocks.is_too_long(limit + 1)
    assert cut_block(b"x" * limit, 0, limit, 0) is None
    assert not blocks.is_too_long(limit)
    assert cut_block(b"x" * limit + b"\n", 0, limit + 1, 0) == Cut(limit + 1, 1)


@pytest.mark.parametrize("last", [BODY_AT - 2, BODY_AT - 1, BODY_AT, BODY_AT + 1, BODY_AT + 500])
def test_no_block_straddles_the_end_of_the_head(last: int) -> None:
    """Whatever byte a line ends at: a block's events all start below 4096, or none does."""
    content = b"a" * 99 + b"\n" + b"b" * (last - 100) + b"\n" + b"c\nd\ne\n"
    for block in blocks_of(content, []):
        offsets = [offset for offset, _ in events_of([block])]
        assert all(offset < BODY_AT for offset in offsets) or all(offset >= BODY_AT for offset in offsets)


def test_an_event_that_begins_at_the_last_byte_of_the_head_belongs_to_it() -> None:
    content = b"a" * (BODY_AT - 2) + b"\n" + b"begins at 4095\n" + b"next\n"
    assert [block.offset for block in blocks_of(content, [])] == [0, BODY_AT + 14]


lines_around_every_limit = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.integers(SMALL_LINE - 2, SMALL_LINE + 2).map(lambda size: b"x" * size),
        st.integers(0, 4 * SMALL_LINE).map(lambda size: b"y" * size),
        st.just(b"\r"),
    ),
    max_size=12,
).map(b"\n".join)


@pytest.mark.usefixtures("_short_limits")
@given(st.data(), lines_around_every_limit, st.booleans(), st.sampled_from([0, BODY_AT - 100, BODY_AT - 20, BODY_AT]))
def test_any_split_gives_the_same_events(data: st.DataObject, content: bytes, final: bool, start: int) -> None:
    whole = b"#" * start + content
    sizes = sorted(data.draw(st.lists(st.integers(start, len(whole)), max_size=20)))
    assert events_of(blocks_of(whole, sizes, final=final, start=start)) == events_of(
        blocks_of(whole, [], final=final, start=start)
    )


@pytest.mark.usefixtures("_short_limits")
@given(lines_around_every_limit, st.sampled_from([0, BODY_AT - 100, BODY_AT - 20]))
def test_byte_by_byte_gives_the_same_events(content: bytes, start: int) -> None:
    whole = b"#" * start + content
    growing = blocks_of(whole, list(range(start, len(whole))), start=start)
    assert events_of(growing) == events_of(blocks_of(whole, [], start=start))


@pytest.mark.usefixtures("_short_limits")
@given(lines_around_every_limit)
def test_a_final_file_is_covered_to_its_last_byte(content: bytes) -> None:
    found = blocks_of(content, [], final=True)
    assert b"".join(block.data for block in found) == content


@pytest.mark.parametrize("seed", range(3))
def test_real_limits_give_the_same_events_however_the_file_grows(seed: int) -> None:
    chance = random.Random(seed)
    lines = [chance.randbytes(chance.choice((3, 80, 5000))).replace(b"\n", b" ") for _ in range(400)]
    lines.insert(200, b"long" * (blocks.MAX_LINE_BYTES // 3))
    content = b"\n".join(lines)
    sizes = sorted(chance.sample(range(len(content)), 50))
    assert events_of(blocks_of(content, sizes)) == events_of(blocks_of(content, []))


@pytest.mark.parametrize("block", [b"", b"plain\n", "größer 🐢\n".encode(), b"\x00\n"])
def test_what_is_utf_8_is_not_counted(block: bytes) -> None:
    assert blocks.invalid_lines(block) == 0


@given(st.lists(st.sampled_from([b"plain", "größer".encode(), b"gr\xf6\xdfer", b"\xff", b"half \xc3", b"\xed\xa0\x80"])))
def test_each_line_that_is_not_utf_8_is_counted(lines: list[bytes]) -> None:
    wrong = [line for line in lines if line not in (b"plain", "größer".encode())]
    assert blocks.invalid_lines(memoryview(b"\n".join(lines))) == len(wrong)
