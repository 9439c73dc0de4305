"""Saved searches as they are kept: checked when they are saved, one row each, the newest version counts.

- ``query`` has the parameters of a search by name and is checked by the search's own parser, so that what was saved can be
  asked. Relative times stay relative.
- A name is given once in a tenant. It is looked up before it is taken, under a lock of the collector; two collectors that take
  one name in the same instant both keep their search.
- Of two changes at once the one with the higher version stands, whole. A search that was deleted leaves an empty row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Protocol

import msgspec

from collector.errors import Conflict, FieldError, Invalid, NotFound, invalid, shown
from collector.ingest.moments import show_moment
from collector.search import fields, query
from collector.search.members import Members, faults_within, pairs_of, refuse
from collector.search.query import Search, Statement
from collector.search.reading import Run

PATH = "/api/v1/ingestion/searches"
MAX_SEARCHES = 500
"""Of a tenant."""
MAX_NAME_CHARS = 200
MAX_QUERY_BYTES = 16 << 10
MAX_COLUMNS = 100
PARAMETERS = tuple(name for name in query.PARAMETERS if name != "cursor")
"""What a saved query may have: all that a search takes, without the place where a page of it ended."""
_COLUMNS = ("tenant_id", "search_id", "name", "query", "columns", "created", "updated", "deleted", "version")


class Tables(Protocol):
    """The part of the store that is written."""

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...


class SavedBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A search to be kept."""

    name: str
    """One that no other search of the tenant has."""
    query: Members = {}
    """Parameters of a search by name; a list is a parameter given several times."""
    columns: list[str] = []
    """Fields to show, in this order."""


class SavedSearch(msgspec.Struct, frozen=True):
    id: str
    name: str
    query: dict[str, Any]
    columns: list[str]
    created: str
    updated: str


class Row(msgspec.Struct, frozen=True):
    search_id: str
    name: str
    query: dict[str, Any]
    columns: list[str]
    created_us: int
    updated_us: int
    version: int

    @property
    def shown(self) -> SavedSearch:
        created, updated = show_moment(self.created_us), show_moment(self.updated_us)
        return SavedSearch(self.search_id, self.name, self.query, self.columns, created, updated)


def checked(body: SavedBody, *, tenant_id: str, retention_days: int, now_us: int) -> tuple[SavedBody, Search]:
    """The search as it is kept, and what it asks for now. Raises Invalid, which names all that is wrong but patterns that only
    the engine can judge."""
    faults: list[FieldError] = []
    name = body.name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        faults += invalid("name", f"expected 1 to {MAX_NAME_CHARS} printable characters", body.name).errors
    if len(body.columns) > MAX_COLUMNS:
        faults += invalid("columns", f"expected at most {MAX_COLUMNS} fields", len(body.columns)).errors
    for n, column in enumerate(body.columns[:MAX_COLUMNS]):
        if fields.field_of(column) is None:
            faults += invalid(f"columns[{n}]", "there is no such field", column, fields.suggestion(column)).errors
    kept: Members = {}
    search = Search(tenant_id, 0, 0)
    try:
        pairs = pairs_of(body.query, "query")
        kept = {name: value for name, value in body.query.items() if name in dict(pairs)}
        if (size := len(msgspec.json.encode(kept))) > MAX_QUERY_BYTES:
            raise invalid("query", f"is larger than {MAX_QUERY_BYTES} bytes", f"{size} bytes", "fewer or shorter values")
        with faults_within("query", kept):
            search = query.parse(pairs, tenant_id=tenant_id, retention_days=retention_days, now_us=now_us, known=PARAMETERS)
    except Invalid as error:
        faults += error.errors
    refuse(faults)
    return SavedBody(name, kept, body.columns), search


async def all_of(run: Run, tenant_id: str) -> list[Row]:
    """By name."""
    return sorted([_row(found) for found in await run(_rows(tenant_id, ""))], key=lambda row: (row.name, row.search_id))


async def one_of(run: Run, tenant_id: str, search_id: str) -> Row:
    """Raises NotFound."""
    found = await run(_rows(tenant_id, search_id))
    if not found:
        raise NotFound(f"there is no saved search {shown(search_id)!r}; GET {PATH} lists those there are")
    return _row(found[0])


async def add(run: Run, store: Tables, tenant_id: str, body: SavedBody) -> Row:
    """Keep a checked search. Raises Conflict: the name is taken, or there are as many as there may be."""
    there = await all_of(run, tenant_id)
    _check_name(there, body.name)
    if len(there) >= MAX_SEARCHES:
        raise Conflict(f"{MAX_SEARCHES} searches are saved, which is as many as there may be; delete one that is not used")
    now_us = time.time_ns() // 1000
    return await _write(store, tenant_id, Row(token_hex(8), body.name, body.query, body.columns, now_us, now_us, 0))


async def change(run: Run, store: Tables, tenant_id: str, search_id: str, body: SavedBody) -> Row:
    """Put a checked search in the place of one. Raises NotFound, Conflict."""
    row = await one_of(run, tenant_id, search_id)
    _check_name([other for other in await all_of(run, tenant_id) if other.search_id != search_id], body.name)
    changed = {"name": body.name, "query": body.query, "columns": body.columns, "updated_us": time.time_ns() // 1000}
    return await _write(store, tenant_id, msgspec.structs.replace(row, **changed))


async def remove(run: Run, store: Tables, tenant_id: str, search_id: str) -> Row:
    """Raises NotFound."""
    return await _write(store, tenant_id, await one_of(run, tenant_id, search_id), deleted=True)


def _check_name(others: Sequence[Row], name: str) -> None:
    if any(other.name == name for other in others):
        raise Conflict(f"name: {shown(name)!r} is that of another saved search; choose another, or change that one")


async def _write(store: Tables, tenant_id: str, row: Row, *, deleted: bool = False) -> Row:
    row = msgspec.structs.replace(row, version=max(time.time_ns(), row.version + 1))
    said = ("", "", "") if deleted else (row.name, _json(row.query), _json(row.columns))
    values = (tenant_id, row.search_id, *said, row.created_us, row.updated_us, int(deleted), row.version)
    await store.insert("saved_searches", _COLUMNS, [values])
    return row


def _rows(tenant_id: str, search_id: str) -> Statement:
    """Of one search, or of all."""
    one = " AND search_id = {id:String}" if search_id else ""
    return Statement(
        "SELECT search_id, name, query, columns, toUnixTimestamp64Micro(created), toUnixTimestamp64Micro(updated), version "
        f"FROM saved_searches FINAL WHERE tenant_id = {{tenant:String}}{one} AND deleted = 0",
        {"tenant": tenant_id, "id": search_id},
    )


def _row(found: Sequence[Any]) -> Row:
    search_id, name, asked, columns, created_us, updated_us, version = found
    return Row(
        search_id,
        name,
        msgspec.json.decode(asked),
        msgspec.json.decode(columns),
        int(created_us),
        int(updated_us),
        int(version),
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
