"""Columns in the engine's own format, as another reads them; that the engine does is seen in the integration tests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.store import native
from collector.store.native import TEXT, WORD, block_of, column, constant
from tests.support.native import rows_of

TEXTS = ("", "a", "é" * 100, "x" * 127, "x" * 128, "y" * 1023, "y" * 1024, "z" * 20_000)
COLUMNS: list[tuple[str, list[Any]]] = [
    (TEXT, list(TEXTS)),
    (TEXT, ["short", "ascii"]),
    (WORD, ["a", "b", "a", ""]),
    (WORD, [str(n % 300) for n in range(1000)]),
    (WORD, [str(n) for n in range(70_000)]),
    ("UInt8", [0, 255]),
    ("UInt16", [0, 65535]),
    ("UInt64", [0, (1 << 64) - 1]),
    ("Float64", [0.0, 12.5, 1e300]),
    (f"Array({WORD})", [["a", "b"], [], ["a"]]),
    (f"Array({WORD})", [[], []]),
    (f"Map({WORD}, {TEXT})", [{"a": "1", "b": ""}, {}, {"a": "2"}]),
    (f"Map({WORD}, {TEXT})", [{}]),
]


@pytest.mark.parametrize(("kind", "values"), COLUMNS)
def test_what_is_written_is_read(kind: str, values: list[Any]) -> None:
    block = block_of({"first": values, "last": ["end"] * len(values)}, {"first": kind, "last": TEXT})
    assert rows_of([block.sent()]) == [{"first": value, "last": "end"} for value in values]


def test_a_time_is_its_microseconds() -> None:
    block = block_of({"t": [1_790_000_000_123_456]}, {"t": "DateTime64(6, 'UTC')"})
    assert rows_of([block.sent()]) == [{"t": 1_790_000_000_123_456}]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=300), min_size=1, max_size=20))
def test_any_texts_are_read_as_they_were(texts: list[str]) -> None:
    block = block_of({"text": texts, "word": texts}, {"text": TEXT, "word": WORD})
    assert rows_of([block.sent()]) == [{"text": text, "word": text} for text in texts]


@pytest.mark.parametrize(("kind", "value"), [(TEXT, "x" * 300), (WORD, "shop"), (WORD, ""), ("UInt64", 7)])
def test_a_constant_column_is_one_of_equal_values(kind: str, value: Any) -> None:
    block = block_of({"n": [1, 2, 3]}, {"n": "UInt8"})
    rows = rows_of([block.sent(constant("c", kind, value, 3))])
    assert rows == rows_of([block.sent(column("c", kind, [value] * 3))]) == [{"c": value, "n": n} for n in (1, 2, 3)]


def test_zeros_of_either_sign_are_told_apart() -> None:
    assert column("f", "Float64", [0.0, -0.0]) != column("f", "Float64", [0.0, 0.0])


def test_a_value_that_its_type_cannot_hold_is_refused() -> None:
    with pytest.raises(OverflowError):
        block_of({"n": [65536]}, {"n": "UInt16"})


def test_lengths_have_as_many_bytes_as_they_need() -> None:
    assert [native._length(n) for n in (127, 128, 1023, 1024, 16_384, 300_000)] == [
        b"\x7f", b"\x80\x01", b"\xff\x07", b"\x80\x08", b"\x80\x80\x01", b"\xe0\xa7\x12",
    ]  # fmt: skip
