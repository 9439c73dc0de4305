"""Commit order: where in it a reader is, and the statements that read on from there. Pure.

The order is the store's own. The engine numbers its inserts, for all partitions of a table in one sequence, under the lock
under which they become visible: who sees one has seen all with lower numbers, or never will. Rows keep the number of their
insert through merges (`enable_block_number_column`, schema version 4). So it does not matter which collector wrote something,
what its clock says, or how long the insert took. Within an insert the order is that of the IDs.

What is new at a place in that order: a row that is no delete, and of whose ID no earlier insert has a row. IDs of lines are
looked up for that, a range each; those of the JSON API are looked up before they are inserted.

Known limits: the order is that of one engine (as is the schema); what merges removed, or the retention, is not found any more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import msgspec

from collector.search import cursors, filters, query
from collector.search.event import COLUMNS
from collector.search.query import Search, Statement

MAX_TOGETHER = 256
"""Filters in one statement."""
MAX_TOGETHER_BYTES = 6_000
"""Of their values: they travel in a URL."""
_NAMES = ", ".join(COLUMNS)
_LINE_ID = "^[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}$"
_PLACEHOLDER = re.compile(r"\{(\w+):")


class Position(NamedTuple):
    """Behind all that comes before it in commit order."""

    block: int
    after_id: str = ""
    """Of that insert, the last ID that is before it; empty: none is."""


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    version: int
    block: Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
    after_id: Annotated[str, msgspec.Meta(max_length=1000)]


_decode = msgspec.msgpack.Decoder(_Cursor).decode


def cursor_of(position: Position) -> str:
    return cursors.written(_Cursor(cursors.VERSION, *position))


def position_of(cursor: str) -> Position | None:
    """None: this is no cursor."""
    found = cursors.read(cursor, _decode)
    return Position(found.block, found.after_id) if found and found.version == cursors.VERSION else None


def newest(database: str) -> Statement:
    """The number of the last insert (one row)."""
    return Statement(
        "SELECT max(max_block_number) FROM system.parts WHERE database = {database:String} AND table = 'events' AND active",
        {"database": database},
    )


def touched(tenants: Sequence[str], begin: int, end: int) -> Statement:
    """Which of these tenants have rows of inserts from ``begin`` on, before ``end``."""
    return Statement(
        f"SELECT DISTINCT tenant_id FROM events WHERE {_IN_BLOCKS} AND tenant_id IN {{tenants:Array(String)}}",
        {"tenants": list(tenants), "begin": begin, "end_block": end},
    )


def weight_of(search: Search) -> int:
    """What a search's filters cost in a statement: bytes of their values, as they travel, and something for their length."""
    values: dict[str, Any] = {}
    condition = " AND ".join(filters.conditions(search.filters, values))
    return len(condition) // 8 + sum(len(name) + len(quote(str(value))) + 14 for name, value in values.items())


class Size(NamedTuple):
    """Of a page: at most so many rows, and one beyond so many bytes."""

    rows: int
    size: int


LIVE = Size(1_000, 4 << 20)
CATCHING_UP = Size(500, 512 << 10)
"""These wait for their readers."""


def page_after(position: Position, end: int, searches: Sequence[Search], most: Size) -> Statement:
    """Rows of number, `COLUMNS`, and for each search whether it is meant: those behind ``position`` in inserts before ``end``
    that any of the searches means, all of one tenant. The last value of a row is how many there would have been without the
    bound on bytes."""
    hits, where, params = _wanted(position, end, searches)
    order = "block, external_id"
    return Statement(
        f"SELECT block, {', '.join(COLUMNS.values())}, hits, there "
        f"FROM (SELECT block, {_NAMES}, hits, count() OVER () AS there, "
        f"sum(byteSize({_NAMES})) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before "
        f"FROM ({hits} SELECT _block_number AS block, {_NAMES}, hits FROM events WHERE {where} ORDER BY {order} "
        f"LIMIT {most.rows})) WHERE before < {most.size} ORDER BY {order}",
        params,
    )


def count_after(position: Position, end: int, searches: Sequence[Search]) -> Statement:
    """How many events `page_after` would find on all pages (one row)."""
    hits, where, params = _wanted(position, end, searches)
    return Statement(f"{hits} SELECT uniqExact(external_id) FROM events WHERE {where}", params)


def first_inserts(position: Position, end: int, searches: Sequence[Search], most: Size) -> Statement:
    """Of lines among those rows of which several inserts have a row: ID, and number of the first insert."""
    hits, where, params = _wanted(position, end, searches)
    return Statement(
        "SELECT external_id, min(_block_number) AS first FROM events "
        "WHERE tenant_id = {tenant:String} AND _block_number < {end_block:UInt64} AND external_id IN "
        f"({hits} SELECT external_id FROM events WHERE {where} AND match(external_id, '{_LINE_ID}') "
        f"ORDER BY _block_number, external_id LIMIT {most.rows}) GROUP BY external_id HAVING first < max(_block_number)",
        params,
    )


# The numbers of a part's first and last insert are in its name: parts that end before, or begin behind, are not opened. (A list
# of parts that was asked for before would miss those that a merge has made meanwhile.)
_IN_BLOCKS = (
    "toUInt64OrZero(splitByChar('_', _part)[3]) >= {begin:UInt64} AND _block_number >= {begin:UInt64} "
    "AND toUInt64OrZero(splitByChar('_', _part)[2]) < {end_block:UInt64} AND _block_number < {end_block:UInt64} "
    "AND is_deleted = 0"
)


def _wanted(position: Position, end: int, searches: Sequence[Search]) -> tuple[str, str, dict[str, Any]]:
    """What stands before SELECT (`hits`: for each search whether it means the row), conditions, and values."""
    start_us = max(search.start_us for search in searches)
    where, params = query.where_of(msgspec.structs.replace(searches[0], filters=filters.Filters(), start_us=start_us))
    params |= {"begin": position.block, "end_block": end}
    parts = [where, _IN_BLOCKS]
    if position.after_id:
        params["after_id"] = position.after_id
        parts.append("(_block_number > {begin:UInt64} OR external_id > {after_id:String})")
    conditions = [_renamed(n, search, params) for n, search in enumerate(searches)]
    # Of one filter an index may help; many are looked at together, each once.
    parts.append(conditions[0] if len(conditions) == 1 else "has(hits, 1)")
    hits = ", ".join(f"toUInt8({condition})" for condition in conditions) if len(conditions) > 1 else "toUInt8(1)"
    return f"WITH [{hits}] AS hits", " AND ".join(parts), params


def _renamed(n: int, search: Search, params: dict[str, Any]) -> str:
    """The condition of a search's filters, with names of its own for its values. (Texts in it are ours.)"""
    own: dict[str, Any] = {}
    condition = " AND ".join(filters.conditions(search.filters, own)) or "1"
    params.update((f"s{n}_{name}", value) for name, value in own.items())
    return "(" + _PLACEHOLDER.sub(lambda found: f"{{s{n}_{found[1]}:", condition) + ")"
