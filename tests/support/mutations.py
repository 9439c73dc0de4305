"""Bytes from outside for fuzz tests: valid messages with random damage, which reach deeper than random bytes.

`FUZZ` in the environment multiplies the number of examples: ``FUZZ=50 python -m pytest tests/fuzz`` runs for long.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from agent import wire
from collector.errors import CollectorError, Envelope, answer_of

SCALE = max(1, int(os.environ.get("FUZZ", "1")))
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
MSGPACK_BOMBS = (
    b"\x91" * 5000,
    b"\x81\x01" * 3000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xa1\xff",
    b"\xa3\xed\xa0\x80",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xcb\x7f\xf0\0\0\0\0\0\0",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\0\0\0\0\0\0\0",
    b"\xc1",
    b"\xd6\xff\xff\xff\xff\xff",
)
JSON_BOMBS = (
    b"[" * 5000,
    b'{"a":' * 5000,
    b"1" * 5000,
    b"1e999",
    b"-1e-999",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b"\xff\xfe",
    b'"\xed\xa0\x80"',
    b'"\\u0000"',
    b"NaN",
    b"9223372036854775808",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"\xef\xbb\xbf",
    b"null",
    b'"",',
)


def examples(count: int) -> Callable[[Any], Any]:
    """How many examples a test runs. No deadline: what hangs meets the suite's timeout."""
    return settings(max_examples=max(10, count * SCALE // 2), deadline=None, suppress_health_check=list(HealthCheck))


_places = st.integers(0, 1 << 20)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), _places, st.integers(0, 7)),
        st.tuples(st.just("cut"), _places, st.integers(1, 64)),
        st.tuples(st.just("end"), _places, st.just(0)),
        st.tuples(st.just("insert"), _places, st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("double"), _places, st.integers(1, 64)),
        st.tuples(st.just("splice"), _places, _places),
        st.tuples(
            st.just("number"), _places, st.tuples(st.sampled_from(NUMBERS), st.sampled_from((1, 2, 4, 8)), st.booleans())
        ),
        st.tuples(st.just("bomb"), _places, _places),
    ),
    min_size=1,
    max_size=4,
)


def mutated(*valid: bytes, bombs: tuple[bytes, ...] = MSGPACK_BOMBS) -> st.SearchStrategy[bytes]:
    """One of the valid messages with one to four faults in it."""

    def damaged(drawn: tuple[bytes, list[tuple[str, int, Any]]]) -> bytes:
        data, steps = drawn
        for kind, place, how in steps:
            data = _damaged(data, kind, place % (len(data) + 1), how, valid, bombs)
        return data

    return st.tuples(st.sampled_from(valid), _steps).map(damaged)


def _damaged(data: bytes, kind: str, at: int, how: Any, valid: tuple[bytes, ...], bombs: tuple[bytes, ...]) -> bytes:
    if kind == "flip":
        return data[:at] + bytes(byte ^ 1 << how for byte in data[at : at + 1]) + data[at + 1 :]
    if kind == "cut":
        return data[:at] + data[at + how :]
    if kind == "end":
        return data[:at]
    if kind == "insert":
        return data[:at] + how + data[at:]
    if kind == "double":
        return data[:at] + data[at : at + how] * 2 + data[at + how :]
    if kind == "splice":
        other = valid[how % len(valid)]
        return data[:at] + other[how % (len(other) + 1) :]
    if kind == "bomb":
        return data[:at] + bombs[how % len(bombs)] + data[at:]
    number, size, is_big = how
    packed = (number % (1 << 8 * size)).to_bytes(size, "big" if is_big else "little")
    return data[:at] + packed + data[at + size :]


def sealed(head: bytes, payload: bytes, *, version: int = wire.VERSION) -> bytes:
    """A record with a right checksum, whatever is in it: behind the checksum begins what an attacker can say."""
    prefix = wire.MAGIC + bytes([version]) + len(head).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return prefix + zlib.crc32(payload, zlib.crc32(head, zlib.crc32(prefix))).to_bytes(4, "little") + head + payload


def refused_well(error: CollectorError) -> None:
    """What a caller would be told: a 4xx (or a documented 503) with a reason, that can be written down."""
    reply = answer_of(error)
    assert 400 <= reply.status < 500 or reply.status == 503, (reply, error)
    assert reply.body.message, error
    assert reply.body.code not in ("internal_error", "store_error")
    msgspec.json.encode(Envelope(reply.body))
