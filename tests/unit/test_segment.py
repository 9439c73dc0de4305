"""What the bytes of segments prove: which records count, and how far each file was read."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.codec import compress
from agent.files.identity import INSTANCE, RECENT_MARKS, FileState
from agent.spool import segment
from agent.spool.segment import Acked, Checkpoint, Damage, Position, Recovery, SpoolHead, acked_record, encode_checkpoint, scan
from tests.support.spooled import data_record, new_state

LENGTH = 10
"""Bytes of a file that one record of these tests stands for."""


def head(*states: FileState, **fields: object) -> bytes:
    return b"".join(segment.head_records(SpoolHead("scope", "tenant", list(states), **fields)))  # type: ignore[arg-type]


def records(count: int, origin: str = "a") -> list[bytes]:
    """The first records of one file, `LENGTH` bytes each."""
    return [data for _, data, _ in history(count, origin)]


def history(count: int, origin: str = "a") -> list[tuple[str, bytes, FileState]]:
    """The same, each with its ID and the state after it."""
    found, state = [], new_state(origin)
    for _ in range(count):
        found.append(data_record(state, LENGTH))
        state = found[-1][2]
    return found


def recovered(*segments: bytes) -> Recovery:
    """What a spool of these segments proves; the last one is the one that was being written."""
    recovery = Recovery()
    for number, data in enumerate(segments, 1):
        recovery.begin(number)
        for item in scan(data):
            if isinstance(item, wire.Record):
                recovery.feed(item, number)
    return recovery


def newer(payload: bytes = b"") -> bytes:
    """An undamaged record of a newer version, of which nothing but the prefix is known."""
    prefix = b"PSR" + bytes([wire.VERSIONS[-1] + 1]) + (4).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return prefix + zlib.crc32(prefix + b"head" + payload).to_bytes(4, "little") + b"head" + payload


def damaged(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


def spans(items: Iterable[wire.Record | Damage]) -> list[tuple[str, int, int]]:
    return [("damage" if isinstance(item, Damage) else "record", item.start, item.end) for item in items]


# Scanning -------------------------------------------------------------------------------------------------------------


def test_undamaged_records_come_in_order_and_cover_the_segment() -> None:
    written = [head(), *records(3)]
    found = list(scan(b"".join(written)))
    ends = [len(b"".join(written[: n + 1])) for n in range(4)]
    assert spans(found) == [("record", start, end) for start, end in zip([0, *ends], ends, strict=False)]


def test_a_segment_without_bytes_holds_nothing() -> None:
    assert list(scan(b"")) == []


@pytest.mark.parametrize("at", range(len(records(1)[0])))
def test_any_damaged_byte_costs_its_record_and_no_other(at: int) -> None:
    one, two, three = records(3)
    whole = bytearray(one + two + three)
    whole[len(one) + at] ^= 0x10
    start, end = len(one), len(one + two)
    assert spans(scan(whole)) == [("record", 0, start), ("damage", start, end), ("record", end, len(whole))]


def test_a_torn_tail_is_cut_and_earlier_records_survive() -> None:
    one, two = records(2)
    for length in range(1, len(two)):
        assert spans(scan(one + two[:length])) == [
            ("record", 0, len(one)),
            ("damage", len(one), len(one) + length),
        ]


def test_zeros_and_bytes_that_look_like_a_record_by_chance_are_skipped() -> None:
    one, two = records(2)
    rubbish = bytes(5000) + wire.MAGIC + b"\x01 by chance" + wire.MAGIC + one[:20] + bytes(5000)
    assert spans(scan(one + rubbish + two)) == [
        ("record", 0, len(one)),
        ("damage", len(one), len(one + rubbish)),
        ("record", len(one + rubbish), len(one + rubbish + two)),
    ]


def test_several_places_of_damage_are_told_one_by_one() -> None:
    written = records(5)
    written[1], written[3] = damaged(written[1]), damaged(written[3])
    kinds = [kind for kind, _, _ in spans(scan(b"".join(written)))]
    assert kinds == ["record", "damage", "record", "damage", "record"]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([*records(2), head(), wire.MAGIC])), max_size=6))
def test_any_bytes_are_records_and_damage_without_a_hole_between(parts: list[bytes]) -> None:
    data = b"".join(parts)
    at = 0
    for _, start, end in spans(scan(data)):
        assert start == at < end
        at = end
    assert at == len(data)


@pytest.mark.parametrize("payload", [b"", b"x" * 5000], ids=["small", "large"])
def test_a_record_of_a_newer_program_is_never_taken_for_damage(payload: bytes) -> None:
    with pytest.raises(wire.UnknownVersion, match="version 3"):
        list(scan(head() + newer(payload)))


def test_a_record_of_a_newer_program_is_found_behind_damage() -> None:
    with pytest.raises(wire.UnknownVersion):
        list(scan(damaged(records(1)[0]) + newer()))


def test_a_damaged_record_of_a_newer_program_is_damage() -> None:
    assert spans(scan(damaged(newer(b"payload")))) == [("damage", 0, len(newer(b"payload")))]


# Heads ----------------------------------------------------------------------------------------------------------------


def test_a_head_comes_back_as_it_was() -> None:
    state = history(3)[-1][2]
    found = recovered(head(state, tags={"key": 2}))
    assert (found.scope, found.tenant_id, found.tags) == ("scope", "tenant", {"key": 2})
    assert found.states == {"a": state}


def test_a_head_of_many_files_is_several_records() -> None:
    count = 2 * segment.STATES_PER_RECORD + 1
    states = [new_state(f"{number:x}") for number in range(count)]
    found = list(segment.head_records(SpoolHead("scope", "tenant", states, {"key": 3})))
    assert len(found) == 3
    proven = recovered(b"".join(found))
    assert list(proven.states.values()) == states
    assert proven.tags == {"key": 3}


def test_a_head_without_files_is_one_record() -> None:
    assert recovered(head()).scope == "scope"


def test_what_an_earlier_head_knew_stays_when_a_later_one_says_nothing() -> None:
    found = recovered(head(), b"".join(segment.head_records(SpoolHead())))
    assert (found.scope, found.tenant_id) == ("scope", "tenant")


# How far each file was read -------------------------------------------------------------------------------------------


def test_records_without_a_gap_carry_the_offset_to_their_end() -> None:
    written = history(4)
    found = recovered(head() + b"".join(record for _, record, _ in written))
    assert found.states["a"] == written[-1][2]
    assert found.states["a"].offset == 4 * LENGTH
    assert found.states["a"].replay_until == 0


def test_files_do_not_mix() -> None:
    one, two = records(3, "a"), records(2, "b")
    found = recovered(head() + one[0] + two[0] + one[1] + two[1] + one[2])
    assert {origin: state.offset for origin, state in found.states.items()} == {"a": 3 * LENGTH, "b": 2 * LENGTH}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_the_offset_does_not_jump_a_gap(lost: int) -> None:
    """What lies behind the gap may have been shipped: what is read again up to there says so."""
    written = records(4)
    written[lost] = damaged(written[lost])
    found = recovered(head() + b"".join(written), head())
    assert found.states["a"].offset == lost * LENGTH
    assert found.states["a"].replay_until == 4 * LENGTH


def test_what_was_read_again_closes_the_gap() -> None:
    written = history(4)
    data = [record for _, record, _ in written]
    found = recovered(
        head() + data[0] + damaged(data[1]) + data[2] + data[3], head(written[0][2]) + data[1] + data[2] + data[3]
    )
    assert found.states["a"].offset == 4 * LENGTH
    assert found.states["a"].recent == written[-1][2].recent


def test_a_record_that_says_nothing_new_changes_nothing() -> None:
    written = records(3)
    found = recovered(head() + b"".join(written) + written[1])
    assert found.states["a"].offset == 3 * LENGTH


def test_a_record_that_overlaps_what_is_known_carries_on_from_its_end() -> None:
    one, two = history(2)
    _, long, _ = data_record(new_state("a"), 3 * LENGTH)
    assert recovered(head() + one[1] + two[1] + long).states["a"].offset == 3 * LENGTH


def test_a_head_behind_a_gap_does_not_carry_the_offset_over_it() -> None:
    one, two, three = history(3)
    found = recovered(head() + one[1] + damaged(two[1]), head(two[2]) + three[1], head(three[2]))
    assert found.states["a"].offset == LENGTH
    assert found.states["a"].replay_until == 3 * LENGTH


def test_a_head_that_knows_less_than_was_read_has_the_last_word() -> None:
    """It was written after a start that had found a gap; the damage itself may be trimmed by now."""
    one, two, three = history(3)
    found = recovered(head(two[2]) + three[1], head(one[2]))
    assert found.states["a"].offset == LENGTH


def test_a_later_head_tells_what_records_do_not() -> None:
    one = history(1)[0]
    moved = msgspec.structs.replace(one[2], path="/a.1", size=77, gone_ns=5, finished=True)
    assert recovered(head() + one[1], head(moved)).states["a"] == moved


def test_a_file_whose_every_record_is_lost_is_read_from_the_start() -> None:
    one = history(1)[0]
    found = recovered(head() + damaged(one[1]), head(one[2])).states["a"]
    assert (found.offset, found.replay_until, found.marks, found.recent, found.ladder) == (0, LENGTH, {}, [], b"")


def test_the_first_head_of_all_is_believed() -> None:
    """Segments before it were deleted because all in them had been acknowledged."""
    state = history(3)[-1][2]
    assert recovered(head(state), head(state)).states["a"] == state


def test_a_first_segment_without_one_good_byte_proves_nothing_to_the_next_head() -> None:
    """Its records are gone and may have been sent to nobody."""
    state = history(3)[-1][2]
    found = recovered(bytes(5000), head(state)).states["a"]
    assert (found.offset, found.replay_until) == (0, 3 * LENGTH)


def test_with_the_first_head_damaged_a_file_that_was_read_before_starts_over() -> None:
    one, two, three = history(3)
    found = recovered(damaged(head(one[2])) + two[1] + three[1], head(three[2])).states["a"]
    assert (found.offset, found.replay_until) == (0, 3 * LENGTH)


def test_with_the_first_head_damaged_a_file_that_began_behind_it_is_known_in_full() -> None:
    written = history(2)
    found = recovered(damaged(head()) + b"".join(record for _, record, _ in written), head(written[-1][2]))
    assert found.states["a"].offset == 2 * LENGTH


def test_a_state_that_took_over_from_another_begins_where_it_took_over() -> None:
    taken_over = msgspec.structs.replace(new_state("b"), offset=500, base=500)
    _, record, after = data_record(taken_over, LENGTH)
    assert recovered(head() + record).states["b"].offset == after.offset
    _, behind, _ = data_record(after, LENGTH)
    assert recovered(head() + damaged(record) + behind, head()).states["b"].offset == 0


def test_a_state_that_replaces_another_makes_it_void() -> None:
    one, two = history(2)
    again = msgspec.structs.replace(two[2], origin="b", offset=LENGTH, base=LENGTH)
    _, record, _ = data_record(again, LENGTH, replaces="a")
    assert list(recovered(head() + one[1] + two[1] + record).states) == ["b"]


def test_a_state_that_only_a_head_knows_makes_the_one_it_replaces_void() -> None:
    """Its file was cut back, then a segment began: until its first record the head alone tells."""
    one, two = history(2)
    again = msgspec.structs.replace(two[2], origin="b", offset=LENGTH, base=LENGTH, replaces="a")
    found = recovered(head() + one[1] + two[1], head(again)).states
    assert found == {"b": again}


def test_tags_only_rise() -> None:
    state = msgspec.structs.replace(new_state("a"), head="key", tag=3)
    _, record, _ = data_record(state, LENGTH)
    assert recovered(head(tags={"key": 1, "other": 5}) + record, head(tags={"key": 2})).tags == {"key": 3, "other": 5}


def test_the_tag_of_an_instance_is_no_number_that_others_go_on_from() -> None:
    """It is made of the inode: the next look-alike of a source that counts would get one that looks like an instance's."""
    ((_, record, after),) = history(1)
    instance = msgspec.structs.replace(after, tag=INSTANCE + 7, head="of an instance")
    header = wire.decode_record(record).header
    said = msgspec.structs.replace(header, checkpoint=encode_checkpoint(Checkpoint(instance)))
    assert recovered(head(tags={"key": 1}) + wire.encode_record(said, b"x")).tags == {"key": 1}


def test_the_last_note_of_acks_counts() -> None:
    notes = acked_record(Acked(1, 10, "of-the-note")) + acked_record(Acked(1, 20))
    found = recovered(head() + notes)
    assert (found.acked, found.tenant_id) == (Position(1, 20), "of-the-note")
    assert recovered(head()).acked is None


def test_the_retention_that_was_told_last_counts() -> None:
    note, silent = acked_record(Acked(1, 10, "tenant", 14)), acked_record(Acked(1, 20, "tenant"))
    assert recovered(head(retention_days=30)).retention_days == 30
    assert recovered(head(retention_days=30) + note + silent, head()).retention_days == 14


def test_a_damaged_record_leaves_a_gap_which_says_what_is_lost_should_its_source_be_gone() -> None:
    written = history(4)
    data = [record for _, record, _ in written]
    found = recovered(head() + data[0] + damaged(data[1]) + data[2] + data[3], head(written[3][2])).states["a"]
    assert (found.offset, found.gaps, found.read_to, found.size) == (LENGTH, [(LENGTH, 2 * LENGTH)], 4 * LENGTH, 4 * LENGTH)


def test_a_gap_at_the_end_of_what_was_read_is_known_by_the_next_head() -> None:
    one, two, three = history(3)
    found = recovered(head() + one[1] + damaged(two[1]) + damaged(three[1]), head(three[2])).states["a"]
    assert (found.gaps, found.size) == ([(LENGTH, 3 * LENGTH)], 3 * LENGTH)


def test_gaps_are_closed_one_by_one_as_they_are_read_again() -> None:
    written = history(5)
    data = [record for _, record, _ in written]
    broken = head() + data[0] + damaged(data[1]) + data[2] + damaged(data[3]) + data[4]
    known = recovered(broken).states["a"]
    assert known.gaps == [(LENGTH, 2 * LENGTH), (3 * LENGTH, 4 * LENGTH)]
    assert recovered(broken, head(known) + data[1]).states["a"].gaps == [(3 * LENGTH, 4 * LENGTH)]
    assert recovered(broken, head(known) + b"".join(data[1:4])).states["a"].gaps == []


def test_what_another_state_had_read_is_no_gap_of_the_one_that_took_over() -> None:
    taken_over = msgspec.structs.replace(new_state("b"), offset=500, base=500)
    _, record, after = data_record(taken_over, LENGTH)
    _, behind, _ = data_record(after, LENGTH)
    assert recovered(head() + damaged(record) + behind, head()).states["b"].gaps == [(500, 500 + LENGTH)]


@pytest.mark.parametrize("kind", [wire.FILES, wire.ACKED, wire.DATA, 99])
@pytest.mark.parametrize("payload", [b"", b"\xc1", compress(b"\xc1"), compress(b"\x93\x01\x02\x03")])
def test_a_payload_that_nobody_can_read_is_ignored(kind: int, payload: bytes) -> None:
    strange = wire.encode_record(wire.Header(kind, "r", origin="a", checkpoint=payload), payload)
    written = history(2)
    found = recovered(head() + written[0][1] + strange + written[1][1])
    assert found.states == {"a": written[1][2]}


# What a record adds to a state ----------------------------------------------------------------------------------------


def test_marks_add_up_and_only_the_last_record_ends_are_kept() -> None:
    before = msgspec.structs.replace(
        new_state("a"), marks={4096: 1}, recent=[(n, n) for n in range(RECENT_MARKS)], ladder=b"abcd", replay_until=7
    )
    change = msgspec.structs.replace(new_state("a"), offset=9000, marks={8192: 2}, recent=[(9000, 3)])
    after = segment.merge(before, change)
    assert after.marks == {4096: 1, 8192: 2}
    assert after.recent == [*before.recent[1:], (9000, 3)]
    assert (after.offset, after.ladder, after.replay_until) == (9000, b"abcd", 7)


def test_a_longer_ladder_takes_the_place_of_the_shorter_one() -> None:
    before = msgspec.structs.replace(new_state("a"), ladder=b"abcd")
    assert segment.merge(before, msgspec.structs.replace(before, ladder=b"abcdefgh")).ladder == b"abcdefgh"


def test_a_checkpoint_is_as_small_as_its_record_needs() -> None:
    """Marks that earlier records told are not told again: a record's overhead must not grow with its file."""
    written = history(200)
    sizes = [len(record) for _, record, _ in written]
    assert max(sizes) - min(sizes) < 20
    assert len(encode_checkpoint(Checkpoint(new_state("a")))) < 100
