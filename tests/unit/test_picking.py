"""Some events of a block, sent alone, are the same events: names, bytes, attributes, times."""

from __future__ import annotations

from typing import Any

import pytest

from agent import wire
from agent.codec import compress, decompress
from agent.text import picking
from collector.ingest.blocks import open_run
from collector.writing.parcels import ids_of, texts_of
from tests.support.records import NOW_NS, Event, record, shaped_record, tenant

PLAIN = b"one\r\n\ntwo\nthree\r\nlast"
SHAPED = [
    Event(0, b"first\nof two", {"stream": "stdout"}, "2026-01-01T00:00:00Z"),
    Event(20, b"second", {}, ""),
    Event(31, b"", {"stream": "stderr", "truncated": "true"}, "2026-01-02"),
    Event(77, b"fourth", {"stream": "stdout"}, "2026-01-03"),
]


def events(run: bytes) -> list[tuple[Any, ...]]:
    """What a collector makes of a record."""
    (parcel,) = open_run(run, tenant=tenant(), now_ns=NOW_NS)
    marks = parcel.header.marks if isinstance(parcel.header, wire.ShapedHeader) else ()
    return list(
        zip(
            ids_of(parcel),
            texts_of(parcel),
            [marks[n] for n in parcel.marks] if parcel.marks is not None else [None] * parcel.events,
            parcel.times or [None] * parcel.events,
            strict=True,
        )
    )


@pytest.mark.parametrize("whole", [record(PLAIN), record(PLAIN + b"\n"), shaped_record(*SHAPED)])
def test_every_choice_of_events_keeps_what_they_are(whole: bytes) -> None:
    found = wire.decode_record(whole)
    payload = decompress(found.payload, found.header.raw_bytes)
    all_of_them = events(whole)
    for bits in range(1, 1 << len(all_of_them)):
        chosen = [n for n in range(len(all_of_them)) if bits >> n & 1]
        header, made = picking.picked(found.header, payload, chosen)
        assert events(wire.encode_record(header, compress(made))) == [all_of_them[n] for n in chosen]


def test_only_the_last_line_can_be_partial() -> None:
    found = wire.decode_record(record(PLAIN, flags=wire.PARTIAL | wire.REPLAY))
    flags = [picking.picked(found.header, PLAIN, chosen)[0].flags for chosen in ([0], [4], [1, 4], [1, 3])]
    assert flags == [wire.REPLAY, wire.REPLAY | wire.PARTIAL, wire.REPLAY | wire.PARTIAL, wire.REPLAY]
