"""Rows of events as the engine takes them: which columns `events` gets from the API, and blocks of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collector.ingest.event_checks import ROW_COLUMNS, Row
from collector.store.columns import EVENT_COLUMNS
from collector.store.native import Block, Pairs, block_of, column, constant

KINDS = {name: kind.partition(" CODEC")[0] for name, kind in EVENT_COLUMNS.items()}
"""Types, as the engine names them."""
INSERTED = ("tenant_id", "version", *ROW_COLUMNS)
"""What an insert names; the engine fills in the defaults of those that a block lacks."""
_EMPTY: dict[str, Any] = {
    "tags": [],
    "zero_metrics": [],
    "status_code": 0,
    "response_time_ms": 0.0,
    "request_size_bytes": 0,
    "response_size_bytes": 0,
}
"""What is stored of a column where an event says nothing; of all others an empty text."""


def rows_block(rows: Iterable[Row]) -> Block:
    """At least one row."""
    return columns_block(dict(zip(ROW_COLUMNS, zip(*rows, strict=True), strict=True)))


def columns_block(columns: Mapping[str, Sequence[Any]]) -> Block:
    """The same by column, in the order of `ROW_COLUMNS`; any but the first may be missing, where nothing is said.

    Columns in which nothing is said are left out: of some forty columns an event mostly uses a dozen.
    """
    told: dict[str, Sequence[Any]] = {}
    for name, values in columns.items():
        if isinstance(values, Pairs):
            if not values.names:
                continue
        elif not all(values):  # much sooner said than that none of them is None
            if not any(values):
                continue
            empty = _EMPTY.get(name, "")
            values = [empty if value is None else value for value in values]
        told[name] = values
    return block_of(told, KINDS)


def sent(block: Block, tenants: str | Sequence[str], version: int) -> bytes:
    """The block with what a commit adds: the tenant of all its rows, or of each, and the version."""
    if isinstance(tenants, str):
        owners = constant("tenant_id", KINDS["tenant_id"], tenants, block.rows)
    else:
        owners = column("tenant_id", KINDS["tenant_id"], tenants)
    return block.sent(owners, constant("version", KINDS["version"], version, block.rows))
