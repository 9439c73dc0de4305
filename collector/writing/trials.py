"""Patterns that callers bring are tried in the engine before anybody's lines meet them.

One line goes the whole way through the view, dated so that it is set aside as beyond any retention. Only if the engine
takes the insert, and tells of that line, is the pattern used: one that the engine refuses would fail the commit of everybody,
and an engine that does not give a view the rows of its insert, from which the pattern comes, would lose them without a word.
Each pattern is tried once per process.
"""

from __future__ import annotations

from secrets import randbits
from typing import Any

from collector.errors import StoreAway, StoreError
from collector.store import formats
from collector.store.columns import READ_COLUMNS
from collector.store.refusals import NOT_CONTENT
from collector.store.store import Store
from collector.writing.readings import Group

MAX_KNOWN = 10_000
_EMPTY = {"Array": [], "Map": {}, "UInt": 0, "Int": 0}


async def takes(store: Store, group: Group) -> bool:
    """Whether the engine can use the patterns of a group. Raises StoreAway, StoreError."""
    if not (group.pattern or group.time_pattern or group.table.endswith(formats.TIMED)):
        return True
    if group not in store.tried:
        if len(store.tried) >= MAX_KNOWN:
            store.tried.clear()
        store.tried[group] = await _tried(store, group)
    return store.tried[group]


async def _tried(store: Store, group: Group) -> bool:
    commit_id = randbits(63)
    row: dict[str, Any] = {name: _nothing(kind) for name, kind in READ_COLUMNS.items()}
    row |= {"commit_id": commit_id, "data": b"-", "oldest_us": 1, "newest_us": 1, "retention_days": 7, "version": 1}
    row |= {"file_id": "0" * 16, "pattern": group.pattern, "time_pattern": group.time_pattern}
    try:
        await store.insert(formats.table_of(group.table), tuple(row), [list(row.values())])
    except StoreAway:
        raise
    except StoreError as error:
        if error.code in NOT_CONTENT or not error.code:
            raise
        return False
    sql = "SELECT count() FROM ingest_exceptions WHERE commit_id = {id:UInt64} AND reason != ''"
    return bool((await store.query(sql, {"id": commit_id}))[0][0])


def _nothing(kind: str) -> Any:
    return next((value for name, value in _EMPTY.items() if kind.startswith(name)), "")
