"""What is done with every block, whatever its format: cut into lines, or into the events that transforms have made of
them, each with the place where it starts, and so with its name. Python has counted the lines."""

from __future__ import annotations

SHAPED, TIMED = "_shaped", "_timed"
"""End the names of a format's further tables: see `collector.store.formats`."""

OF_BLOCK = "tenant_id, service, source, path, agent, retention_days, version"
"""Columns that all events of a block share, handed on unchanged."""

LINES = r"""
    splitByChar('\n', data) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts
"""

# For events that transforms have made: lines are put together again, and each event's own time and attributes go before
# those of the record. Nothing here looks at a block from inside a lambda: that would copy it for every event.
EVENTS = r"""
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times
"""
JOINED = "ARRAY JOIN parts AS line, starts AS start"
JOINED_EVENTS = f"{JOINED}, own_marks AS mark, own_times AS own_time"

EXTERNAL_ID = """
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
"""
"""Written through the bytes, because hex() of an integer drops leading zero bytes."""


def table_of(name: str) -> str:
    """Where blocks go in, by one of `collector.store.formats.TABLES`."""
    return f"ingest_{name}"


def literal(text: str) -> str:
    """Our own text, for instance a pattern, as the engine reads it in a statement."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def literals(texts: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(literal, texts))


def constant(column: str, table: str) -> str:
    """What a text column of a view's own table holds in all rows of an insert, as a constant of the view."""
    return f"ifNull((SELECT any({column}) FROM {table}), '')"


def pattern(column: str, table: str) -> str:
    """The same for a pattern; one that matches everything while the engine only looks at types, and has no rows yet."""
    return f"if({constant(column, table)} = '', '()', {constant(column, table)})"
