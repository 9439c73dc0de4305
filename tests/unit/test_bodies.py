"""Bodies of JSON requests: unpacked within a bound, cut into events, their faults placed."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import BadRequest, CollectorError, Invalid, TooLarge, UnsupportedType
from collector.ingest import bodies

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b'{"events": [{"title": "' + b"x" * 5000 + b'"}]}'
PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": zlib.compress(TEXT, wbits=-15),
    "zstd": zstd.compress(TEXT, 19),
    " ZSTD ": zstd.compress(TEXT[:7]) + zstd.compress(TEXT[7:]),
    "identity": TEXT,
    "": TEXT,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_a_packed_body_is_unpacked(encoding: str) -> None:
    assert bodies.unpacked(PACKED[encoding], encoding, most=len(TEXT)) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_nothing_is_unpacked_beyond_the_bound(encoding: str) -> None:
    with pytest.raises(TooLarge, match=f"at most after unpacking|{len(TEXT) - 1} bytes"):
        bodies.unpacked(PACKED[encoding], encoding, most=len(TEXT) - 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_thirty_two_kilobytes_of_zstd_become_one_gigabyte(encoding: str) -> None:
    zeros = bytes(64 << 20)
    bomb = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}[encoding](zeros)
    with pytest.raises(TooLarge):
        bodies.unpacked(bomb, encoding, most=1 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_packed_body_that_is_cut_or_damaged_is_refused(encoding: str) -> None:
    for body in (PACKED[encoding][:-5], b"not packed at all", b"\0" * 20, b""):
        with pytest.raises(BadRequest):
            bodies.unpacked(body, encoding, most=1 << 20)


def test_an_encoding_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedType, match="gzip, zstd, deflate, got br"):
        bodies.unpacked(b"x", "br", most=100)


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b'{"events": [}]}', 1, 13),
        (b'{\n "events":\n  [1,]}', 3, 6),
        ('{"ü": "ß", x}'.encode(), 1, 12),
        (b'{"events": [', 1, 13),
        (b'{\n"events": ["a\xff"]}', 2, 14),
    ],
)
def test_what_is_not_json_is_refused_with_line_and_column(body: bytes, line: int, column: int) -> None:
    with pytest.raises(BadRequest, match=f"not JSON: line {line}, column {column}: "):
        bodies.decoded(body, msgspec.json.Decoder(Any))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[]", "body"),
        (b"3", "body"),
        (b"{}", "events"),
        (b'{"events": 3}', "events"),
        (b'{"events": null}', "events"),
        (b'{"events": [], "batch_id": 7}', "batch_id"),
    ],
)
def test_json_that_is_no_batch_is_refused_with_what_was_expected(body: bytes, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        bodies.envelope_of(body, most=10)
    (fault,) = refused.value.errors
    assert fault.field == field
    assert "NDJSON" in fault.suggestion


def test_a_batch_is_cut_into_its_events_as_they_were_sent() -> None:
    envelope = bodies.envelope_of(b'{"events": [{"a":  1.50}, 7], "batch_id": "b", "more": []}', most=2)
    assert [bytes(memoryview(raw)) for raw in envelope.events] == [b'{"a":  1.50}', b"7"]
    assert envelope.batch_id == "b"


def test_a_batch_of_too_many_events_is_refused_with_the_number() -> None:
    with pytest.raises(TooLarge, match="2 events at most, this one has 3"):
        bodies.envelope_of(b'{"events": [1, 2, 3]}', most=2)
    with pytest.raises(TooLarge, match="2 events at most"):
        bodies.lines_of(b"1\n2\n3\n", most=2)


def test_millions_of_tiny_events_are_counted_before_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "decoded", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(TooLarge):
        bodies.envelope_of(b'{"events": [' + b"1," * (bodies.SUSPICIOUS_COMMAS + 1) + b"1]}", most=10_000)


def test_many_commas_inside_few_events_are_no_fault() -> None:
    body = b'{"events": [{"payload": [' + b"1," * (bodies.SUSPICIOUS_COMMAS + 1) + b"1]}]}"
    assert len(bodies.envelope_of(body, most=1).events) == 1


def test_lines_may_end_in_any_way_and_blank_ones_do_not_count() -> None:
    assert bodies.lines_of(b'{"a":1}\r\n\n  \n{"b":2}', most=2) == [b'{"a":1}', b'{"b":2}']


def test_half_a_surrogate_pair_does_not_cost_the_batch() -> None:
    body = rb'{"events": ["\ud83d\ude00", "cut \ud83d", "\\ud83d", "\udc00 \uD83d\u0041", "\\\ud83d"]}'
    texts = json.loads(bodies.clean(body))["events"]
    assert texts == ["\U0001f600", "cut \ufffd", "\\ud83d", "\ufffd \ufffdA", "\\\ufffd"]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert bodies.clean(b"\xef\xbb\xbf{}") == b"{}"


@pytest.mark.parametrize(
    ("content_type", "media"),
    [
        ("application/json", "json"),
        ("application/vnd.api+json", "json"),
        ("application/x-ndjson", "lines"),
        ("text/plain", "json"),
    ],
)
def test_the_content_type_says_how_a_body_is_read(content_type: str, media: str) -> None:
    assert bodies.media_of(content_type) == media


def test_another_content_type_is_refused() -> None:
    with pytest.raises(UnsupportedType, match="got text/xml"):
        bodies.media_of("text/xml")


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "zstd", "identity"]))
def test_any_bytes_are_unpacked_or_refused(body: bytes, encoding: str) -> None:
    with suppress(CollectorError):
        assert len(bodies.unpacked(body, encoding, most=1000)) <= 1000


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,\\ud8e0123events\n ', max_size=200).map(str.encode))
def test_any_bytes_are_a_batch_or_refused(body: bytes) -> None:
    with suppress(CollectorError):
        bodies.envelope_of(bodies.clean(body), most=10)


@pytest.mark.parametrize(("encoding", "empty"), [("gzip", gzip.compress(b"", mtime=0)), ("zstd", b"\x50\x2a\x4d\x18\0\0\0\0")])
def test_a_body_of_very_many_empty_streams_is_refused(encoding: str, empty: bytes) -> None:
    """Each stream was once cut off the front of all that follows: a few MiB of them took a thread for hours."""
    assert bodies.unpacked(empty * bodies.MAX_STREAMS, encoding, most=10) == b""
    with pytest.raises(BadRequest, match="more than 10000 streams"):
        bodies.unpacked(empty * (bodies.MAX_STREAMS + 1), encoding, most=10)
