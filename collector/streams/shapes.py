"""The forms of an export: pages of rows in, bytes out. Pure; pyarrow is loaded when it is first used.

- NDJSON: an event a line as the search shows it; with columns a flat object a line.
- CSV: RFC 4180 (CRLF, quotes doubled), one header row, UTF-8. Lists and maps are JSON in a cell. With ``guard`` a text that
  a spreadsheet would take for a formula gets an apostrophe in front.
- Arrow: an IPC stream, a record batch a page. Parquet: row groups of `GROUP_ROWS`, not of a page, because the footer has an
  entry for each and must not grow with the file; zstd. Their schemas depend on the columns alone, never on the data.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from collector.ingest.moments import show_moment
from collector.search import event
from collector.streams import columns as flat
from collector.streams.columns import Column

NDJSON, CSV, PARQUET, ARROW = "ndjson", "csv", "parquet", "arrow"
FORMATS = (NDJSON, CSV, PARQUET, ARROW)
GROUP_ROWS = 64_000
GROUP_BYTES = 16 << 20
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes a cell for that begins so."""

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
Rows = Sequence[Sequence[Any]]


class Shape(Protocol):
    content_type: str
    packed: bool
    """Not worth packing once more."""
    selected: dict[str, str]
    """What to select; rows are of these."""

    def begin(self) -> bytes: ...

    def page(self, rows: Rows) -> bytes:
        """At least one row."""
        ...

    def end(self) -> bytes: ...


def shape_of(form: str, columns: Sequence[Column], *, guard: bool = False) -> Shape:
    """The shape of a format; ``columns`` empty: all, for NDJSON as the search shows them."""
    if form == NDJSON:
        return FlatLines(columns) if columns else Lines()
    if form == CSV:
        return Table(columns, guard=guard)
    return Parquet(columns) if form == PARQUET else Arrow(columns)


TYPES = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream")
"""Content types, in the order of `FORMATS`."""


class Lines:
    content_type = "application/x-ndjson"
    packed = False

    def __init__(self) -> None:
        self.selected = dict(event.COLUMNS)

    def begin(self) -> bytes:
        return b""

    def page(self, rows: Rows) -> bytes:
        return _encode_lines([event.event_of(tuple(row)).shown for row in rows])

    def end(self) -> bytes:
        return b""


class _Flat:
    """What all shapes of flat columns share."""

    packed = False

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.names = [column.name for column in columns]
        self.selected = flat.selected(columns)

    def values(self, rows: Rows) -> list[flat.Values]:
        stored = flat.stored_of(list(self.selected), rows)
        return [column.values(stored) for column in self.columns]

    def begin(self) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""


class FlatLines(_Flat):
    content_type = "application/x-ndjson"

    def page(self, rows: Rows) -> bytes:
        values = [_as_json(column.kind, some) for column, some in zip(self.columns, self.values(rows), strict=True)]
        return _encode_lines([dict(zip(self.names, row, strict=True)) for row in zip(*values, strict=True)])


class Table(_Flat):
    content_type = "text/csv"

    def __init__(self, columns: Sequence[Column], *, guard: bool) -> None:
        super().__init__(columns)
        self._guard = guard

    def begin(self) -> bytes:
        return self._written([self._guarded(self.names)])

    def page(self, rows: Rows) -> bytes:
        cells = [self._cells(column.kind, some) for column, some in zip(self.columns, self.values(rows), strict=True)]
        return self._written(zip(*cells, strict=True))

    def _cells(self, kind: str, values: flat.Values) -> flat.Values:
        if kind == flat.TIME:
            return [show_moment(value) for value in values]
        if kind in (flat.WORDS, flat.PAIRS):
            return [_encode(value).decode() if value else "" for value in values]
        return self._guarded(values) if kind in (flat.TEXT, flat.JSON) else values

    def _guarded(self, texts: flat.Values) -> flat.Values:
        if not self._guard:
            return texts
        return ["'" + text if text and text.startswith(FORMULAS) else text for text in texts]

    def _written(self, rows: Any) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\r\n").writerows(rows)
        return out.getvalue().encode()


class _Columnar(_Flat):
    """Record batches with one schema."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        import pyarrow as pa

        kinds = {
            flat.TEXT: pa.string(),
            flat.JSON: pa.string(),
            flat.TIME: pa.timestamp("us", tz="UTC"),
            flat.WORDS: pa.list_(pa.string()),
            flat.PAIRS: pa.map_(pa.string(), pa.string()),
            flat.SMALL: pa.uint16(),
            flat.LARGE: pa.uint64(),
            flat.REAL: pa.float64(),
        }
        self._pa = pa
        self._sink = _Sink()
        self.schema = pa.schema([(column.name, kinds[column.kind]) for column in columns])

    def batch(self, rows: Rows) -> Any:
        arrays = []
        for column, field, values in zip(self.columns, self.schema, self.values(rows), strict=True):
            given = [list(pairs.items()) for pairs in values] if column.kind == flat.PAIRS else values
            arrays.append(self._pa.array(given, type=field.type))
        return self._pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class Arrow(_Columnar):
    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self._writer = self._pa.ipc.new_stream(self._pa.PythonFile(self._sink, mode="w"), self.schema)

    def begin(self) -> bytes:
        return self._sink.taken()

    def page(self, rows: Rows) -> bytes:
        self._writer.write_batch(self.batch(rows))
        return self._sink.taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.taken()


class Parquet(_Columnar):
    content_type = "application/vnd.apache.parquet"
    packed = True

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        from pyarrow import parquet

        self._writer = parquet.ParquetWriter(self._pa.PythonFile(self._sink, mode="w"), self.schema, compression="zstd")
        self._waiting: list[Any] = []

    def begin(self) -> bytes:
        return self._sink.taken()

    def page(self, rows: Rows) -> bytes:
        self._waiting.append(self.batch(rows))
        if sum(batch.num_rows for batch in self._waiting) >= GROUP_ROWS or sum(b.nbytes for b in self._waiting) >= GROUP_BYTES:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        if self._waiting:
            self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        table = self._pa.Table.from_batches(self._waiting, schema=self.schema)
        self._waiting = []
        self._writer.write_table(table, row_group_size=table.num_rows)


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _as_json(kind: str, values: flat.Values) -> flat.Values:
    if kind == flat.TIME:
        return [show_moment(value) for value in values]
    if kind == flat.JSON:
        return [event.decoded(value) for value in values]
    return values
