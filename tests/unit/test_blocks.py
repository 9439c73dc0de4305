"""Runs of records become parcels, whole or not at all, and nothing a sender says goes unchecked."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from collector.errors import BadRun, TooLarge, UnsupportedVersion
from collector.ingest import blocks
from collector.writing import parcels
from tests.support.records import (
    FILE_ID,
    NOW_NS,
    Event,
    expected_ids,
    header,
    loss,
    loss_record,
    record,
    shaped_record,
    tenant,
    zstd,
)

RAW = b"GET /\nPOST /cart\n\nGET /end\n"
CRLF = b"one\r\ntwo\r\r\n\r\nthree\nfour"
LINES = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=20)


def opened(body: bytes, **more: Any) -> list[parcels.Parcel]:
    return blocks.open_run(body, tenant=tenant("t1"), now_ns=NOW_NS, **more)


def one(raw: bytes, **changed: Any) -> parcels.Parcel:
    (parcel,) = opened(record(raw, **changed))
    return parcel


def refused(body: bytes) -> BadRun:
    with pytest.raises(BadRun) as caught:
        opened(body)
    return caught.value


def of_version(whole: bytes, version: int) -> bytes:
    """The same record under another version, with a checksum that is right."""
    prefix, body = whole[:3] + bytes([version]) + whole[4:12], whole[wire.PREFIX_BYTES :]
    return prefix + zlib.crc32(body, zlib.crc32(prefix)).to_bytes(4, "little") + body


def packed(distances: list[int]) -> bytes:
    return zstd.compress(np.array(distances, dtype="<u4").tobytes())


def test_a_record_becomes_a_parcel_with_its_lines_and_ids() -> None:
    parcel = one(RAW)
    assert (parcel.tenant_id, parcel.events, parcel.base_offset) == ("t1", 4, 4096)
    assert parcel.lines == RAW[:-1]
    assert parcel.distances is None
    assert parcels.ids_of(parcel) == expected_ids(RAW)


def test_the_parcels_of_a_run_come_in_its_order() -> None:
    body = record(RAW, record_id="a") + record(b"x\n", record_id="b", base_offset=9000) + loss_record(loss("l1"))
    first, second, third = opened(body)
    assert [first.header.record_id, second.header.record_id] == ["a", "b"]
    assert [entry.loss_id for entry in third.losses] == ["l1"]
    assert third.events == 1


def test_a_line_end_of_two_bytes_is_no_part_of_the_event_but_counts_in_offsets() -> None:
    parcel = one(CRLF)
    assert parcel.lines == b"one\ntwo\r\n\nthree\nfour"
    assert parcels.starts_of(parcel).tolist() == [0, 5, 11, 13, 19]
    assert parcels.ids_of(parcel) == expected_ids(CRLF)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_ids_are_those_of_the_wire_contract_for_any_bytes(lines: list[bytes], end: bytes, whole: bool) -> None:
    raw = end.join(lines) + (end if whole or not lines[-1] else b"")
    parcel = one(raw)
    assert parcels.ids_of(parcel) == expected_ids(raw)
    assert (parcels.starts_of(parcel) + parcel.base_offset).tolist() == [int(i[17:29], 16) for i in expected_ids(raw)]


def test_offsets_in_the_header_go_before_those_from_the_bytes() -> None:
    parcel = one(b"a\nb\nc\n", offsets=packed([0, 100, 4_000_000]))
    assert parcels.offsets_of(parcel) == (4096, 4_004_096)
    assert parcels.ids_of(parcel)[1].startswith(f"{FILE_ID}-{4196:012x}-")


def test_a_range_holds_the_ids_of_its_parcel_and_of_no_neighbour() -> None:
    before, parcel, after = parcels.cut(one(b"a\nb\nc\nd\ne\nf\n"), 2)
    low, high = parcels.range_of(parcel)
    assert all(low <= event_id <= high for event_id in parcels.ids_of(parcel))
    assert not any(low <= event_id <= high for event_id in parcels.ids_of(before) + parcels.ids_of(after))


@given(LINES, st.integers(1, 7), st.booleans())
def test_pieces_together_are_the_whole(lines: list[bytes], most: int, explicit: bool) -> None:
    raw = b"".join(line + (b"\r\n" if explicit else b"\n") for line in lines)
    parcel = one(raw)
    pieces = parcels.cut(parcel, most)
    assert all(piece.events <= most for piece in pieces)
    assert [event_id for piece in pieces for event_id in parcels.ids_of(piece)] == parcels.ids_of(parcel)


@given(LINES, st.randoms(use_true_random=False))
def test_picked_events_keep_their_ids(lines: list[bytes], rnd: random.Random) -> None:
    parcel = one(b"".join(line + b"\n" for line in lines))
    which = sorted(rnd.sample(range(parcel.events), rnd.randint(1, parcel.events)))
    ids = parcels.ids_of(parcel)
    assert parcels.ids_of(parcels.picked(parcel, which)) == [ids[n] for n in which]


@pytest.mark.parametrize(
    ("changed", "more", "expected"),
    [
        ({"flags": wire.REPLAY}, {}, True),
        ({"base_offset": 0}, {}, True),
        ({}, {"replay": True}, True),
        ({}, {}, False),
    ],
)
def test_what_may_be_there_already_is_marked(changed: dict[str, Any], more: dict[str, Any], expected: bool) -> None:
    assert opened(record(RAW, **changed), **more)[0].lookup is expected


def test_a_record_without_an_observed_time_takes_the_collectors() -> None:
    assert one(RAW, observed_ns=0).header.observed_ns == NOW_NS


def test_a_record_whose_events_were_all_filtered_is_taken() -> None:
    assert one(b"", file_id="").events == 0


def test_an_empty_run_has_no_parcels() -> None:
    assert opened(b"") == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"events": 5}, "the payload has 4 lines, the header says 5 events"),
        ({"raw_bytes": 28}, "inflates to 27 bytes, the header says 28"),
        ({"kind": 5}, "kind 5 is not one that is shipped"),
        ({"kind": wire.HEARTBEAT}, "a heartbeat has no events"),
        ({"kind": wire.FILES}, "kind 16"),
        ({"file_id": "00C0FFEE00C0FFEE"}, "file_id is not 16 hex digits"),
        ({"file_id": ""}, "file_id is not 16 hex digits"),
        ({"base_offset": -1}, "base_offset -1"),
        ({"base_offset": 1 << 48}, "base_offset"),
        ({"events": -1}, "must not be negative"),
        ({"record_id": ""}, "record_id is not"),
        ({"record_id": "a b"}, "record_id is not"),
        ({"path": "x" * 5000}, "longer than 4096 bytes"),
        ({"labels": {str(n): "" for n in range(65)}}, "65 labels"),
        ({"offsets": packed([0, 1, 2])}, "offsets: inflates to 12 bytes, the header says 16"),
        ({"offsets": packed([0, 2, 1, 3])}, "do not rise"),
        ({"offsets": packed([0, 1, 1, 3])}, "do not rise"),
        ({"offsets": b"junk"}, "offsets: "),
    ],
)
def test_a_record_that_contradicts_itself_refuses_the_run_and_is_named(changed: dict[str, Any], reason: str) -> None:
    good = record(RAW, record_id="good")
    error = refused(good + record(RAW, **{"record_id": "bad", **changed}))
    assert reason in error.message
    assert error.offset == len(good)
    assert error.record_id == ("bad" if "record_id" not in changed else "")


@pytest.mark.parametrize(
    "payload",
    [b"", b"not zstd", zstd.compress(RAW)[:-1], zstd.compress(RAW) + b"x", zstd.compress(RAW) * 2],
    ids=["empty", "junk", "cut", "trailing", "two frames"],
)
def test_a_payload_is_exactly_one_whole_frame(payload: bytes) -> None:
    assert "payload: " in refused(wire.encode_record(header(RAW), payload)).message


def test_a_record_id_used_twice_refuses_the_run() -> None:
    assert "used twice" in refused(record(RAW, record_id="a") * 2).message


def test_damage_names_the_byte() -> None:
    good, bad = record(RAW), bytearray(record(RAW))
    bad[-1] ^= 1
    error = refused(good + bytes(bad))
    assert (error.offset, error.reason) == (len(good), "the checksum does not match")


def test_a_body_that_was_cut_is_refused() -> None:
    assert refused(record(RAW)[:-1]).offset == 0


def test_a_newer_version_is_told_apart_from_damage() -> None:
    with pytest.raises(UnsupportedVersion, match="version 3"):
        opened(of_version(record(RAW), 3))


def test_a_record_that_announces_more_than_four_mib_is_too_large() -> None:
    with pytest.raises(TooLarge, match="at most 4194304"):
        opened(record(RAW, raw_bytes=(4 << 20) + 1))


def test_a_small_frame_cannot_inflate_beyond_what_it_announces() -> None:
    bomb = wire.encode_record(header(RAW), zstd.compress(b"\0" * (64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="at byte 0: its payload inflates beyond the 27 bytes that its header announces"):
            opened(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_wants_a_huge_window_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    payload = zstd.ZstdCompressor(options=options)
    frame = payload.compress(RAW) + payload.flush()
    assert "payload: " in refused(wire.encode_record(header(RAW), frame)).message


def test_a_run_has_a_limit_but_a_single_record_always_fits() -> None:
    with pytest.raises(TooLarge, match="in smaller runs"):
        opened(record(RAW) + record(RAW), max_raw_bytes=40)
    assert len(opened(record(RAW), max_raw_bytes=10)) == 1


def test_a_run_has_few_patterns_since_each_takes_an_insert_of_its_own() -> None:
    bodies = [record(RAW, format="regex", fields=wire.Fields(pattern=f"(?P<a>{n})")) for n in range(33)]
    assert len(opened(b"".join(bodies[:32]))) == 32
    with pytest.raises(TooLarge, match="more than 32 different patterns and time formats; send it in smaller runs"):
        opened(b"".join(bodies))


def test_losses_must_be_whole_and_plausible() -> None:
    assert "losses: " in refused(record(b"\x93\x01", kind=wire.LOSS, events=0)).message
    assert "negative" in refused(loss_record(loss("l", lost_bytes=-1))).message
    assert "without loss_id" in refused(loss_record(loss(""))).message


def completed(*ids: str, **changed: Any) -> bytes:
    raw = wire.encode_completed(ids)
    said = {"kind": wire.COMPLETED, "events": 0, "source_from": 0x20, "source_to": 0x40, **changed}
    return record(raw, **said)


def test_what_is_completed_lies_in_the_bytes_that_are_named() -> None:
    half = f"{FILE_ID}-000000000020-0badc0de"
    (parcel,) = opened(completed(half))
    assert (parcel.completed, parcel.events) == ((half,), 0)
    assert "not one of this file" in refused(completed("00c0ffee00c0fff0-000000000020-0badc0de")).message
    assert "not one of this file" in refused(completed("an-id-of-a-client")).message
    assert "of another place" in refused(completed(f"{FILE_ID}-00000000001f-0badc0de")).message
    assert "of another place" in refused(completed(f"{FILE_ID}-000000000040-0badc0de")).message
    assert "at most 100" in refused(completed(*[half] * 101)).message
    assert "no events itself" in refused(completed(half, events=1)).message
    assert "completed: " in refused(record(b"\x93\x01", kind=wire.COMPLETED, events=0)).message


SHAPED = (
    Event(0, b"first"),
    Event(40, b"Traceback\n  File\nValueError: x", {"stream": "stderr"}, "2026-01-02T03:04:05.678901234Z"),
    Event(2_000_000, b"", {"truncated": "true"}),
    Event(2_000_007, b"\n\nlast\n", {"stream": "stderr"}),
)


def shaped(*events: Event, **changed: Any) -> parcels.Parcel:
    (parcel,) = opened(shaped_record(*(events or SHAPED), **changed))
    return parcel


def test_events_with_newlines_in_them_come_whole_and_are_named_as_the_wire_contract_says() -> None:
    parcel = shaped()
    assert parcels.texts_of(parcel) == [event.text for event in SHAPED]
    assert parcels.ids_of(parcel) == [wire.event_id(FILE_ID, 4096 + event.start, event.text) for event in SHAPED]
    assert (parcel.marks, parcel.times) == ((0, 1, 2, 1), ("", "2026-01-02T03:04:05.678901234Z", "", ""))
    assert parcels.offsets_of(parcel) == (4096, 2_004_103)


@given(st.integers(1, 5))
def test_pieces_of_shaped_events_together_are_the_whole(most: int) -> None:
    parcel = shaped()
    pieces = parcels.cut(parcel, most)
    assert [event_id for piece in pieces for event_id in parcels.ids_of(piece)] == parcels.ids_of(parcel)
    assert [mark for piece in pieces for mark in piece.marks or ()] == list(parcel.marks or ())
    chosen = parcels.picked(parcel, [1, 3])
    assert parcels.ids_of(chosen) == [parcels.ids_of(parcel)[n] for n in (1, 3)]
    assert (chosen.marks, chosen.times) == ((1, 1), ("2026-01-02T03:04:05.678901234Z", ""))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sizes": False}, "its parts take"),
        ({"data_bytes": 3}, "its parts take"),
        ({"data_bytes": -1}, "its parts take"),
        ({"events": 3}, "its parts take"),
        ({"sizes": False, "times_bytes": 50}, "the payload has 9 lines, the header says 4 events"),
        ({"marks": ({},)}, "mark 2 of 1"),
        ({"marks": tuple({"n": str(n)} for n in range(5000))}, "5000 marks"),
        ({"marks": ({str(n): "" for n in range(65)},)}, "a mark of more than 64"),
        ({"base_offset": 1 << 48}, "base_offset"),
        ({"file_id": "x"}, "file_id is not"),
    ],
)
def test_a_shaped_record_that_contradicts_itself_is_refused(changed: dict[str, Any], reason: str) -> None:
    assert reason in refused(shaped_record(*SHAPED, **changed)).message


def test_events_that_do_not_start_one_after_the_other_are_refused() -> None:
    assert "do not rise" in refused(shaped_record(Event(0, b"a"), Event(0, b"b"))).message


def test_a_record_of_which_filters_left_the_first_line_out_is_looked_up_at_the_start_of_a_file() -> None:
    assert shaped(source_from=0, base_offset=77).lookup
    assert not shaped(source_from=9, base_offset=77).lookup
