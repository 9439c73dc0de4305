"""Columns in the engine's own format, Native: what an insert of many events sends. Pure.

A block is a number of columns and of rows, then per column its name, its type and its values. An insert may have several
blocks one after the other, each with columns of its own: the engine fills in the defaults of those that a block lacks,
and makes one part of all.

Values by type:
- Numbers and times: as they lie in memory, little-endian. Times are µs since 1970.
- ``String``: per value its length (LEB128) and its bytes.
- ``LowCardinality(String)``: the distinct values, then per row the number of its value.
- ``Array(…)``, ``Map(…)``: per row where its members end, then the members of all rows as one column, or two.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Any, TypeAlias, overload

import msgspec

Values: TypeAlias = Sequence[Any]

TEXT = "String"
WORD = "LowCardinality(String)"
_LENGTHS = [bytes([length]) for length in range(128)] + [bytes([n & 127 | 128, n >> 7]) for n in range(128, 1024)]
"""Lengths as they are written, of most texts."""
_SHORT = [chr(length) for length in range(128)]
_COMPARABLE = frozenset((TEXT, WORD, "UInt8", "UInt16", "UInt64"))
"""Types of which equal values are written equally: 0.0 and -0.0 are not."""
_CODES = {"UInt8": "B", "UInt16": "H", "UInt64": "Q", "Float64": "d"}
_DICTIONARY_VERSION = (1).to_bytes(8, "little")
_NEW_DICTIONARY = 1 << 9 | 1 << 10
"""All of its values stand in the block itself."""


class Pairs(Sequence[Mapping[str, str]]):
    """A column of maps, with the members of all rows as two lists."""

    def __init__(self, ends: Sequence[int], names: Sequence[str], texts: Sequence[str]) -> None:
        self.ends = ends
        """Per row, where its members end."""
        self.names = names
        self.texts = texts

    @classmethod
    def of(cls, maps: Sequence[dict[str, str]]) -> Pairs:
        names = list(chain.from_iterable(maps))
        return cls(list(accumulate(map(len, maps))), names, list(chain.from_iterable(map(dict.values, maps))))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, row: int) -> Mapping[str, str]: ...

    @overload
    def __getitem__(self, row: slice) -> list[Mapping[str, str]]: ...

    def __getitem__(self, row: int | slice) -> Mapping[str, str] | list[Mapping[str, str]]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        part = slice(self.ends[row - 1] if row else 0, self.ends[row])
        return dict(zip(self.names[part], self.texts[part], strict=True))


class Block(msgspec.Struct, frozen=True):
    """Some rows, without their count: columns that all rows share can be added when they are sent."""

    rows: int
    names: tuple[str, ...]
    columns: bytes
    """One after the other, as `column` makes them."""

    def sent(self, *more: bytes) -> bytes:
        """The whole block, with more columns of as many rows."""
        return b"".join((_length(len(self.names) + len(more)), _length(self.rows), *more, self.columns))


def block_of(columns: Mapping[str, Values], kinds: Mapping[str, str]) -> Block:
    """Columns of equal length as a block. Raises OverflowError, UnicodeEncodeError for values that their types cannot hold.

    Args:
        kinds: types by name.
    """
    parts = [column(name, kinds[name], values) for name, values in columns.items()]
    return Block(len(next(iter(columns.values()))), tuple(columns), b"".join(parts))


def column(name: str, kind: str, values: Values) -> bytes:
    """One column with its head."""
    if kind in _COMPARABLE and len(values) > 1 and values[0] == values[-1] and values.count(values[0]) == len(values):
        return constant(name, kind, values[0], len(values))
    return b"".join((_head(name, kind), *_written(kind, values)))


def constant(name: str, kind: str, value: Any, rows: int) -> bytes:
    """A column of one number, text or word, and its head."""
    if kind == WORD:
        return b"".join((_head(name, kind), _DICTIONARY_VERSION, _dictionary([value], 0, rows), bytes(rows)))
    return b"".join((_head(name, kind), b"".join(_written(kind, [value])) * rows))


@cache
def _head(name: str, kind: str) -> bytes:
    named, typed = name.encode(), kind.encode()
    return b"".join((_length(len(named)), named, _length(len(typed)), typed))


def _written(kind: str, values: Values) -> Iterable[bytes]:
    if (write := _WRITERS.get(kind)) is not None:
        return write(values)
    if kind.startswith("DateTime64("):
        return (_numbers("q", values),)
    return (_numbers(_CODES[kind], values),)


def _numbers(code: str, values: Values) -> bytes:
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _texts(values: Values) -> bytes:
    # Most columns hold short ASCII, of which the characters are the bytes: one text is made, and encoded at once.
    try:
        text = "".join([_SHORT[len(value)] + value for value in values])
        if text.isascii():
            return text.encode()
    except IndexError:
        pass
    return b"".join([_length(len(value)) + value for value in map(str.encode, values)])


def _length(length: int) -> bytes:
    """As LEB128."""
    if length < len(_LENGTHS):
        return _LENGTHS[length]
    groups = []
    while length > 127:
        groups.append(length & 127 | 128)
        length >>= 7
    return bytes((*groups, length))


def _words(values: Values) -> bytes:
    """A dictionary and the rows' numbers in it, without the version; of no rows nothing."""
    if not values:
        return b""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    size = 0 if len(numbers) <= 1 << 8 else 1 if len(numbers) <= 1 << 16 else 2
    rows = map(numbers.__getitem__, values)
    keys = bytes(rows) if not size else _numbers("HI"[size - 1], list(rows))
    return _dictionary(list(numbers), size, len(values)) + keys


def _dictionary(words: Values, size: int, rows: int) -> bytes:
    """All that comes before the rows' numbers. ``size``: 2 to this power bytes each of them has."""
    return b"".join(
        (
            (_NEW_DICTIONARY | size).to_bytes(8, "little"),
            len(words).to_bytes(8, "little"),
            _texts(words),
            rows.to_bytes(8, "little"),
        )
    )


def _ends(values: Values) -> bytes:
    return _numbers("Q", list(accumulate(map(len, values))))


def _lists(values: Values) -> Iterable[bytes]:
    return _DICTIONARY_VERSION, _ends(values), _words(list(chain.from_iterable(values)))


def _maps(values: Values) -> Iterable[bytes]:
    pairs = values if isinstance(values, Pairs) else Pairs.of(values)
    return _DICTIONARY_VERSION, _numbers("Q", pairs.ends), _words(pairs.names), _texts(pairs.texts)


_WRITERS: dict[str, Callable[[Values], Iterable[bytes]]] = {
    TEXT: lambda values: (_texts(values),),
    WORD: lambda values: (_DICTIONARY_VERSION, _words(values)),
    f"Array({WORD})": _lists,
    f"Map({WORD}, {TEXT})": _maps,
}
