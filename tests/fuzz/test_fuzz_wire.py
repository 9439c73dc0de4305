"""Runs of records from outside, whatever their bytes: parcels that can be written, or a refusal with its reason."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from agent import wire
from collector.errors import CollectorError
from collector.ingest import blocks
from collector.metrics import Metrics
from collector.search.agents import Agents
from collector.writing import parcels, rows
from tests.support.mutations import MSGPACK_BOMBS, examples, mutated, refused_well, sealed
from tests.support.records import NOW_NS, Event, header, loss, loss_record, record, shaped_record, tenant

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TENANT = tenant()
METRICS = Metrics()
LINES = b"one line\nand\r\nanother\n"
HEALTH = wire.FileHealth("/var/log/a", "app", 10, 5, 3, 7, 1.5)
HEARTBEAT = wire.Heartbeat("1.0", 12.5, sending="ok", losses={"quarantined": 3}, files_total=1, files=(HEALTH,))
HEARTBEAT_RAW = wire.encode_heartbeat(HEARTBEAT)
LOSSES_RAW = wire.encode_losses((loss("a"), loss("b")))
HEADERS = tuple(
    msgspec.msgpack.encode(header(raw, **changed))
    for raw, changed in (
        (LINES, {"labels": {"region": "eu"}, "flags": wire.REPLAY}),
        (LINES, {"offsets": zstd.compress(np.array([0, 9, 14], "<u4").tobytes())}),
        (LOSSES_RAW, {"kind": wire.LOSS, "events": 2, "file_id": ""}),
        (HEARTBEAT_RAW, {"kind": wire.HEARTBEAT, "events": 0, "file_id": ""}),
    )
)
PAYLOADS = (LINES, LOSSES_RAW, HEARTBEAT_RAW, b"")
RUNS = (
    record(LINES),
    record(LINES) + record(b"x\n" * 100) + loss_record(loss("a")),
    record(HEARTBEAT_RAW, kind=wire.HEARTBEAT, events=0, file_id=""),
    shaped_record(Event(0, b"two\nlines", {"stream": "stderr"}, "2026-01-02T03:04:05Z"), Event(20, b"one")),
)


def opened(run: bytes) -> None:
    """Open a run as the collector does, and make of every parcel all that is made of it."""
    try:
        found = blocks.open_run(run, tenant=TENANT, now_ns=NOW_NS)
    except CollectorError as error:
        refused_well(error)
        return
    agents: Any = Agents(None, METRICS)  # type: ignore[arg-type]
    for parcel in found:
        if parcel.heartbeat is not None:
            agents.take("t", parcel.header, parcel.heartbeat)
            msgspec.json.encode(agents.shown("t", []))
            msgspec.json.encode(parcel.heartbeat)
        elif parcel.losses:
            for row in rows.loss_rows(parcel, list(parcel.losses), NOW_NS):
                assert all(0 <= value < 1 << 64 for value in row if isinstance(value, int))
        elif parcel.events:
            assert len(parcels.ids_of(parcel)) == parcel.events
            assert parcels.range_of(parcel)[0] <= parcels.range_of(parcel)[1]
            row = rows.block_row(parcel, commit_id=1, record=1, now_ns=NOW_NS)
            assert all(0 <= value < 1 << 64 for value in row if isinstance(value, int))


@given(mutated(*RUNS))
@examples(400)
def test_a_damaged_run_is_opened_or_refused(run: bytes) -> None:
    opened(run)


@given(mutated(*HEADERS), st.sampled_from(PAYLOADS), st.sampled_from((1, 1, 1, 0, 2, 255)))
@examples(300)
@example(b"\x92\x01\xa1\xff", b"", 1)
@example(HEADERS[0][:-2] + b"\x91" * 5000, b"", 1)
def test_any_header_behind_a_right_checksum_is_opened_or_refused(head: bytes, raw: bytes, version: int) -> None:
    opened(sealed(head, zstd.compress(raw), version=version))


@given(
    st.sampled_from(((wire.LOSS, LOSSES_RAW), (wire.HEARTBEAT, HEARTBEAT_RAW))).flatmap(
        lambda kind: st.tuples(st.just(kind[0]), mutated(kind[1]))
    ),
    st.integers(0, 3),
)
@examples(300)
@example((wire.HEARTBEAT, b"\x91\xa1\xff"), 0)
@example((wire.LOSS, b"\x91" * 5000), 0)
def test_any_payload_of_losses_or_of_a_heartbeat_is_opened_or_refused(kind: tuple[int, bytes], events: int) -> None:
    number, raw = kind
    said = header(raw, kind=number, events=events if number == wire.LOSS else 0, file_id="")
    opened(sealed(msgspec.msgpack.encode(said), zstd.compress(raw)))


@given(
    mutated(zstd.compress(LINES), zstd.compress(b"\0" * (4 << 20)), b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8),
    st.integers(0, 5 << 20),
)
@examples(250)
def test_a_frame_that_lies_about_its_size_is_refused_and_nothing_inflates_beyond_the_header(frame: bytes, size: int) -> None:
    opened(sealed(msgspec.msgpack.encode(header(LINES, raw_bytes=size)), frame))


@given(mutated(zstd.compress(np.array([0, 9, 14], "<u4").tobytes()), zstd.compress(b"\xff" * 12), zstd.compress(b"\0" * 12)))
@examples(250)
def test_any_packed_offsets_are_taken_or_refused(packed: bytes) -> None:
    opened(sealed(msgspec.msgpack.encode(header(LINES, offsets=packed)), zstd.compress(LINES)))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{
                name: st.integers(-(1 << 63), (1 << 64) - 1) for name in ("kind", "base_offset", "events", "raw_bytes", "flags")
            },
            **{name: st.integers(-(1 << 63), (1 << 64) - 1) for name in ("observed_ns", "source_from", "source_to")},
            **{name: st.text(max_size=20) for name in ("record_id", "file_id", "path", "service", "format", "agent", "scope")},
            "labels": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        },
    )
)
@examples(250)
def test_any_values_in_a_header_are_taken_or_refused(changed: dict[str, Any]) -> None:
    opened(record(LINES, **changed))


def test_a_header_may_not_ask_for_memory_it_does_not_bring() -> None:
    for bomb in MSGPACK_BOMBS:
        for head in HEADERS:
            opened(sealed(head[:1] + bomb, b""))
