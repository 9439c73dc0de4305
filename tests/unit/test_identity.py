"""Same file or not: every rule by itself, on files that are byte strings."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.files import identity
from agent.files.identity import (
    BODY_AT,
    HEAD_BYTES,
    RECENT_MARKS,
    RUNG_BYTES,
    Candidate,
    Continue,
    FileState,
    Fork,
    Holds,
    New,
    NewContent,
    Rewind,
    Same,
    Standing,
    Wait,
)

LINE = 64


def a_log(lines: int, name: str = "app") -> bytes:
    """Lines of `LINE` bytes each, all different; the first one is the same in every log."""
    body = [f"{name} {number}".ljust(LINE - 1, ".") for number in range(lines)]
    return "".join(f"{line}\n" for line in ["# header".ljust(LINE - 1), *body][:lines]).encode()


def holds_in(content: bytes) -> Holds:
    """As `Tail.holds` says it of a file with this content."""

    def holds(position: int, crc: int) -> bool:
        window = content[max(0, position - identity.MARK_BYTES) : position]
        return position <= len(content) and zlib.crc32(window) == crc

    return holds


def known(content: bytes, offset: int, *, step: int = 1024, path: str = "/logs/app.log", tag: int = 0) -> FileState:
    """The state of a file after it was read up to ``offset`` in records of ``step`` bytes."""
    head = identity.head_of(content) or b""
    body = identity.body_of(content)
    state = FileState(
        origin=f"{path}-{tag}",
        source="app",
        path=path,
        born_path=path,
        inode=1,
        generation=1,
        size=len(content),
        offset=0,
        head=identity.head_key("app", head),
        tag=tag,
        head_id=identity.file_id("scope", "app", head, tag),
        body_id=identity.file_id("scope", "app", body, 0) if body and offset >= BODY_AT else "",
    )
    while state.offset < offset:
        window_at = max(0, state.offset - identity.MARK_BYTES)
        to = min(state.offset + step, offset)
        identity.advance(state, memoryview(content)[window_at:to], window_at, to)
    return state


def candidate(content: bytes, path: str = "/logs/new.log") -> Candidate:
    body = identity.body_of(content)
    return Candidate(
        path,
        len(content),
        identity.head_key("app", identity.head_of(content) or b""),
        identity.file_id("scope", "app", body, 0) if body is not None else "",
        holds_in(content),
    )


def resumed(state: FileState, content: bytes) -> Continue | Rewind | NewContent:
    return identity.resume(state, len(content), holds_in(content))


def judged(
    new: Candidate,
    *states: FileState,
    standing: Standing = Standing.ALIVE,
    settled: bool = False,
    begins: bool | None = None,
) -> Same | Fork | Wait | New:
    return identity.judge(new, states, lambda _: standing, settled=settled, begins=lambda *_: begins)


# Names ----------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=3), st.binary(max_size=3), st.integers(0, 300))
def test_the_same_content_has_the_same_id_and_another_anchor_or_tag_another(anchor: bytes, other: bytes, tag: int) -> None:
    name = identity.file_id("scope", "app", anchor, tag)
    assert name == identity.file_id("scope", "app", anchor, tag)
    assert (name == identity.file_id("scope", "app", other, tag)) == (anchor == other)
    assert name != identity.file_id("scope", "app", anchor, tag + 1)


def test_the_parts_of_a_name_do_not_run_into_each_other() -> None:
    assert identity.file_id("ab", "c", b"d", 1) != identity.file_id("a", "bc", b"d", 1)
    assert identity.file_id("a", "b", b"c1", 1) != identity.file_id("a", "b", b"c", 11)


def test_the_name_of_a_file_is_kept_for_ever() -> None:
    """A change of these is a second copy of every line there is."""
    assert identity.file_id("scope", "app", b"first line", 0) == "4dbbaec112551be5"
    assert identity.head_key("app", b"first line") == "68437bd8f5b891ee"


@pytest.mark.parametrize(
    ("front", "head"),
    [
        (b"", None),
        (b"incomplete", None),
        (b"first\nsecond\n", b"first"),
        (b"\n", b""),
        (b"windows\r\n", b"windows\r"),
        (b"\0\0\0after a hole\nx", b"after a hole"),
        (b"\0" * 5000, None),
        (b"x" * (HEAD_BYTES - 1), None),
        (b"x" * HEAD_BYTES, b"x" * HEAD_BYTES),
        (b"x" * HEAD_BYTES + b"\n", b"x" * HEAD_BYTES),
        (b"x" * (HEAD_BYTES - 1) + b"\n", b"x" * (HEAD_BYTES - 1)),
        (b"\0\0" + b"x" * HEAD_BYTES, b"x" * HEAD_BYTES),
    ],
)
def test_the_head_is_the_first_line_up_to_a_limit_once_it_is_complete(front: bytes, head: bytes | None) -> None:
    assert identity.head_of(front) == head


@given(st.binary(max_size=2 * HEAD_BYTES), st.binary(max_size=HEAD_BYTES))
def test_a_head_stays_what_it_is_however_the_file_grows(front: bytes, more: bytes) -> None:
    head = identity.head_of(front)
    assert head is None or identity.head_of(front + more) == head


def test_the_body_needs_4096_bytes() -> None:
    content = a_log(100)
    assert identity.body_of(content[: BODY_AT - 1]) is None
    assert identity.body_of(content) == content[:BODY_AT]


# Marks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "positions"),
    [
        (0, 4095, []),
        (0, 4096, [4096]),
        (4095, 4096, [4096]),
        (4096, 8191, []),
        (0, 70_000, [4096, 8192, 16384, 32768, 65536]),
        (10_000, 70_000, [16384, 32768, 65536]),
    ],
)
def test_the_fixed_marks_lie_at_powers_of_two(low: int, high: int, positions: list[int]) -> None:
    assert list(identity.power_marks(low, high)) == positions


@pytest.mark.parametrize("step", [1, 7, 1000, 4096, 1 << 20])
def test_the_fixed_marks_and_the_ladder_do_not_depend_on_the_reading_pace(step: int) -> None:
    content = a_log(300)
    state, whole = known(content, len(content), step=step), known(content, len(content), step=1 << 20)
    assert (state.marks, state.ladder, state.recent[-1]) == (whole.marks, whole.ladder, whole.recent[-1])
    assert len(state.ladder) == BODY_AT // RUNG_BYTES * 4
    assert all(holds_in(content)(*mark) for mark in [*state.marks.items(), *state.recent])


def test_only_the_last_record_ends_are_kept() -> None:
    content = a_log(200)
    state = known(content, len(content), step=100)
    assert len(state.recent) == RECENT_MARKS
    assert state.recent[-1][0] == state.offset == len(content)


# Rules 1 to 3: an inode that is known ---------------------------------------------------------------------------------


def test_rule_1_the_mark_at_the_offset_holds() -> None:
    content = a_log(200)
    assert resumed(known(content, 6400), content) == Continue()
    assert resumed(known(content, 640), content) == Continue()


def test_nothing_was_read_so_nothing_can_differ() -> None:
    assert resumed(known(a_log(5), 0), a_log(5, "other")) == Continue()


def test_rule_2_a_file_cut_back_is_read_again_from_the_last_mark_that_holds() -> None:
    content = a_log(300)
    state = known(content, 16_384, step=1000)
    assert resumed(state, content[:10_000]) == Rewind(10_000, line_start=True)
    assert resumed(state, content[:9_999] + b"new\n") == Rewind(9_000, line_start=True)


def test_rule_2_beyond_the_recent_marks_a_fixed_one_serves() -> None:
    content = a_log(3000)
    state = known(content, 150_000, step=1000)
    assert resumed(state, content[:70_000]) == Rewind(65_536, line_start=False)


def test_rule_2_needs_a_mark_at_4096_or_beyond() -> None:
    content = a_log(200)
    state = known(content, 6400, step=1000)
    assert resumed(state, content[:4095]) == NewContent()
    assert resumed(state, content[:4096]) == Rewind(4096, line_start=False)


def test_rule_3_no_mark_holds() -> None:
    assert resumed(known(a_log(200), 6400), a_log(400, "other")) == NewContent()
    assert resumed(known(a_log(200), 640), a_log(400, "other")) == NewContent()
    assert resumed(known(a_log(200), 6400), b"") == NewContent()


def test_a_mark_beyond_the_offset_is_not_a_place_to_go_back_to() -> None:
    content = a_log(200)
    state = known(content, 6400)
    state.offset = 5000
    state.recent = [(4500, 0)]
    assert resumed(state, content) == Rewind(4096, line_start=False)


def test_marks_beyond_a_rewind_are_forgotten() -> None:
    content = a_log(300)
    state = known(content, 16_384, step=1000)
    identity.drop_marks_beyond(state, 9000)
    assert list(state.marks) == [4096, 8192]
    assert state.recent[-1][0] == 9000
    identity.drop_marks_beyond(state, 100)
    assert (state.marks, state.recent, len(state.ladder)) == ({}, [], 3 * 4)


# Rules 4 and 5: an inode that is not known ----------------------------------------------------------------------------


@pytest.mark.parametrize("standing", Standing)
@pytest.mark.parametrize("size", [BODY_AT, 5000, 6400, 9000])
def test_rule_4_a_copy_of_4096_bytes_or_more_is_the_same_content_at_once(standing: Standing, size: int) -> None:
    """Shorter, as long as what was read, or longer; whatever became of the first one, and where it lies."""
    content = a_log(200)
    state = known(content, 6400)
    for path in ("/logs/new.log", state.path):
        assert judged(candidate(content[:size], path), state, standing=standing, begins=True) == Same(state)


@pytest.mark.parametrize(
    ("begins", "verdict"), [(True, Same), (False, New), (None, Fork)], ids=["the known one says so", "says no", "is gone"]
)
def test_rule_4_what_ends_between_two_marks_of_a_known_file_is_not_taken_for_its_beginning_without_proof(
    begins: bool | None, verdict: type
) -> None:
    """They may part behind the last mark that is within both."""
    state = known(a_log(200), 12800, step=4000)
    shorter = candidate(a_log(200)[:9000] + b"another end\n")
    found = judged(shorter, state, begins=begins)
    assert isinstance(found, verdict)
    if isinstance(found, Fork):
        assert found == Fork(state, Rewind(8192, line_start=False))
    assert judged(candidate(a_log(200)[:8000]), state, begins=None) == Same(state), "there is a mark where it ends"
    assert judged(msgspec.structs.replace(shorter, damaged=True), state, begins=None) == Same(state), "its end is not there"


def test_rule_4_is_for_equal_bytes_only() -> None:
    state = known(a_log(200), 6400)
    differs_early = a_log(200)[:LINE] + a_log(200, "other")[LINE:]
    differs_late = a_log(200)[:5000] + b"!" + a_log(200)[5001:]
    assert judged(candidate(differs_early), state) == New()
    assert judged(candidate(differs_late), state) == New()


def test_rule_5_below_4096_what_has_just_gone_is_back_at_another_path() -> None:
    content = a_log(10)
    state = known(content, 640)
    assert judged(candidate(content), state, standing=Standing.JUST_GONE) == Same(state)


def test_rule_5_at_the_same_path_it_is_a_new_instance() -> None:
    content = a_log(10)
    moved = msgspec.structs.replace(known(content, 640), path="/logs/app.log.1")
    for standing in Standing:
        assert judged(candidate(content, "/logs/app.log"), known(content, 640), standing=standing) == New()
        assert judged(candidate(content, "/logs/app.log"), moved, standing=standing) == New()


def test_rule_5_what_is_long_gone_is_not_what_came() -> None:
    content = a_log(10)
    assert judged(candidate(content), known(content, 640), standing=Standing.LONG_GONE) == New()


def test_rule_5_while_both_are_there_nothing_is_decided_until_they_have_settled() -> None:
    content = a_log(10)
    assert judged(candidate(content), known(content, 640)) == Wait()
    assert judged(candidate(content), known(content, 640), settled=True) == New()


@pytest.mark.parametrize("settled", [True, False])
def test_a_possible_copy_of_a_file_that_has_not_been_read_waits_until_it_has_been(settled: bool) -> None:
    """What is known of it then proves a copy or not; a copy taken for a file of its own is every line twice."""
    content = a_log(100)
    assert judged(candidate(content), known(content, 0), settled=settled) == Wait()


def test_a_short_look_alike_of_a_file_that_has_not_been_read_waits_no_longer_than_others() -> None:
    """That file may stay as it is for ever, a first line without its end for instance."""
    content = a_log(10)
    assert judged(candidate(content), known(content, 0)) == Wait()
    assert judged(candidate(content), known(content, 0), settled=True) == New()
    assert judged(candidate(a_log(100)), known(content, 0), settled=True) == New()


def test_short_files_are_told_apart_as_soon_as_they_differ() -> None:
    """By the ladder, although neither has a mark where the shorter one ends."""
    content = a_log(10)
    other = content[: 3 * LINE] + b"B" + content[3 * LINE + 1 :]
    state = known(content, 10 * LINE, step=10 * LINE)
    assert judged(candidate(other[: 5 * LINE]), state) == New()
    assert judged(candidate(content[: 5 * LINE]), state) == Wait()


def test_another_first_line_is_another_file() -> None:
    assert judged(candidate(b"other header\n" + a_log(9)), known(a_log(10), 640)) == New()


def test_of_several_known_files_the_one_read_furthest_is_the_one() -> None:
    content = a_log(300)
    short, long = known(content, 5000, path="/logs/a"), known(content, 9000, path="/logs/b")
    assert judged(candidate(content), short, long) == Same(long)


def test_one_of_several_that_has_just_gone_goes_before_waiting() -> None:
    content = a_log(10)
    here, gone = known(content, 640, path="/logs/a"), known(content, 320, path="/logs/b")
    verdict = identity.judge(
        candidate(content), [here, gone], lambda state: Standing.JUST_GONE if state is gone else Standing.ALIVE, settled=False
    )
    assert verdict == Same(gone)


@given(st.binary(max_size=9000), st.integers(0, 9000), st.integers(1, 5000))
def test_a_file_always_agrees_with_itself(content: bytes, offset: int, step: int) -> None:
    state = known(content, min(offset, len(content)), step=step)
    assert resumed(state, content + b"more") == Continue()
    assert judged(candidate(content), state, standing=Standing.JUST_GONE) == Same(state)


@pytest.mark.parametrize(
    ("there", "size", "damaged", "verdict"),
    [
        (Standing.ALIVE, 100, False, Same),
        (Standing.LONG_GONE, 100, False, Same),
        (Standing.PACKED, 100, False, New),
        (Standing.ALIVE, 60, False, New),
        (Standing.ALIVE, 60, True, Same),
        (Standing.ALIVE, 140, False, Wait),
        (Standing.LONG_GONE, 140, False, New),
        (Standing.JUST_GONE, 140, False, Same),
    ],
)
def test_a_short_compressed_file_is_a_copy_where_it_is_equal_as_a_whole(
    there: Standing, size: int, damaged: bool, verdict: type[Same] | type[New] | type[Wait]
) -> None:
    """Unless another compressed file has that content; one that goes on waits while its original has unread bytes."""
    known = FileState("origin", "app", "/app.log", "/app.log", 1, 0, 120, 100, "head", 0, "head-id", recent=[(100, 7)])
    new = identity.Candidate("/app.log.1.gz", size, "head", "", lambda position, crc: True, copy=True, damaged=damaged)
    assert isinstance(identity.judge(new, [known], lambda state: there, settled=True), verdict)
