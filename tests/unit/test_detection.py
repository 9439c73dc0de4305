"""What ``auto`` takes a block for, and that nothing but the block decides it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.text.detection import format_of
from collector.ingest.blocks import open_run
from collector.writing.parcels import cut, picked
from collector.writing.readings import table_of
from tests.support.records import NOW_NS, record, tenant


@pytest.mark.parametrize(
    ("line", "format"),
    [
        (b'{"level":"info","msg":"x"}', wire.JSON), (b'  { "a": 1 }', wire.JSON), (b"{}", wire.JSON),
        (b"{not json}", wire.RAW), (b"[1,2]", wire.RAW),
        (b"I1125 00:15:15.525108       1 controller_utils.go:116] x", wire.KLOG),
        (b"<34>1 2026-10-11T22:14:15.003Z host app 1 - - x", wire.SYSLOG),
        (b"<34>Oct 11 22:14:15 host su: x", wire.SYSLOG), (b"Oct  1 22:14:15 host su: x", wire.SYSLOG),
        (b"2026-10-11T22:14:15.003+02:00 host app[1]: x", wire.SYSLOG),
        (b"2026-10-11T22:14:15.003Z INFO main: x", wire.SYSLOG),  # it is written as rsyslog would
        (b"2026-10-11T22:14:15.003Z INFO x y", wire.RAW),
        (b'1.2.3.4 - - [10/Oct/2026:13:55:36 -0700] "GET / HTTP/1.0" 200 1', wire.COMBINED),
        (b'shop:80 ::1 - bob [10/Oct/2026:13:55:36 -0700] "GET / HTTP/1.0" 200 1 "-" "-"', wire.COMBINED),
        (b'level=info msg="a b" c=d', wire.LOGFMT), (b"a=b", wire.LOGFMT), (b"a=b words follow", wire.RAW),
        (b"plain words", wire.RAW), (b"\xff\xfe", wire.RAW),
    ],
)  # fmt: skip
def test_a_line_of_a_format_is_known(line: bytes, format: str) -> None:
    assert format_of(line) == format


def test_most_of_the_first_lines_decide_and_empty_ones_do_not_count() -> None:
    json, trace = b'{"a":1}\n', b"\tat a.b.C\n"
    assert format_of(b"\n\n\n" + json) == wire.JSON
    assert format_of((json * 2 + trace) * 5) == wire.JSON
    assert format_of((json + trace) * 5) == wire.RAW
    assert format_of(b"") == format_of(b"\n\n") == wire.RAW


@given(st.lists(st.sampled_from([b'{"a":1}', b"a=b", b"x", b""]), min_size=1, max_size=30), st.integers(1, 5))
def test_pieces_of_a_record_are_what_the_whole_was(lines: list[bytes], most: int) -> None:
    raw = b"".join(line + b"\n" for line in lines)
    (parcel,) = open_run(record(raw, format="auto"), tenant=tenant(), now_ns=NOW_NS)
    pieces = [*cut(parcel, most), picked(parcel, [0])]
    assert {table_of(piece) for piece in pieces} == {table_of(parcel)}
