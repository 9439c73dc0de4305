"""The tables and views, and the check that they are as durable as the acks say.

- `statements` is the whole schema as text, for `apply` and for ``schema print``: what a person reads is what runs.
- Every statement can be run again and does nothing the second time; `VERSION` is recorded in `schema_version` when all
  have run. A store with a newer version is refused: an older program would write rows the newer one misreads.
- Any change to a statement comes with a new `VERSION` and with the statements that lead there from the one before: what
  is new is made by its own statement, what changed by `_steps`. Either way ends at the same tables.
- `check` reads back what the engine really does with our durability settings, and refuses to go on otherwise: without
  them acknowledged rows sit in the page cache only, and a power cut takes them.

`events` is a ReplacingMergeTree, the one deduplicator: all copies of (tenant_id, external_id) are one event, the one
with the highest ``version`` (that is, the first written). Reads use FINAL. Weekly partitions per class of retention
expire whole. The word index is built for closed weeks only: in every merge it would cost more than all else together.

`collector.store.cluster` makes the same schema for the servers of a cluster.

What an access log takes, bytes a line, merged and with its words indexed (`python -m tests.bench store`; logs of `weblog`):

| | text | message | external_id | columns found in it | words | other indexes | all | times smaller |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| common, raw | 102 | 12.7 | 7.9 | - | 19.5 | 1.2 | 41.5 | 2.5 (without words 4.6) |
| common, taken apart | 102 | 12.7 | 7.9 | 11.3 | 19.5 | 1.3 | 52.9 | 1.9 (3.1) |
| combined, raw | 256 | 19.8 | 7.9 | - | 31.2 | 1.2 | 60.4 | 4.2 (8.8) |
| combined, taken apart | 256 | 19.8 | 8.0 | 16.9 | 31.2 | 1.4 | 77.4 | 3.3 (5.6) |

Of the columns: attributes (referer, protocol) 5.6, endpoint 5.2, ip_address 2.6, response_size_bytes 2.1, user_agent 0.8,
status_code 0.2, every other one about 0.1 or less.

Indexes of mixed logs: message_words 25.9, id_bloom 1.2, attribute_items 0.6, timestamp_minmax 0.01. CPU, µs a line: to insert
1.2 to 1.3 raw, 1.4 to 1.8 in columns; in one merge 1.5 to 1.7, 1.9 to 2.5; to index the words 1.3 to 2.4, once. Of
mixed logs, whole, 4.8 and 4.7 (insert and one merge), of that attributes 1.3 and 0.6, id_bloom 1.0 and 0.4, attribute_items
0.7 and 0.4, message 0.7 and 1.0, message_words without their index 0.6 and 1.1; every other column or index at most 0.6 and
0.8, which is about what two runs differ by.

What bounds it: the engine keeps the rows of a word uncompressed, 30 of the 31 bytes for combined lines, where 16 would do by
the words' frequencies alone. 4 bytes of an ID are a checksum. Tried and left: `posting_list_codec = 'bitpacking'`
takes 18 % off the words of common lines, 4 % off those of combined ones, adds 23 % to those of stack traces, and finds several
words together at two to four times the CPU; other sizes of its blocks and dictionary, 1 %. Messages at ZSTD(6) take 3 bytes
less for 3 µs more in every merge, at ZSTD(9) with blocks of 4 MiB 5 less, and one row then costs 10 ms to read instead of 3.
Endpoints and addresses as LowCardinality take a third less where they repeat, and a fifth more, at twice the CPU, where not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from collector.errors import ConfigError
from collector.store import cluster, formats
from collector.store.columns import (
    AGENT_COLUMNS,
    EVENT_COLUMNS,
    EXCEPTION_COLUMNS,
    KEY_COLUMNS,
    KEY_USE_COLUMNS,
    LINE_COLUMNS,
    LOSS_COLUMNS,
    OUTCOME_COLUMNS,
    REQUEST_COLUMNS,
    SAVED_SEARCH_COLUMNS,
    TENANT_COLUMNS,
    TIME,
    TRACED,
    USAGE_COLUMNS,
    WORD,
)

if TYPE_CHECKING:
    from collector.store.store import Store

VERSION = 4
"""2 added the tables and views of events that transforms have made; 3 a column to `events`: which metrics were said to be 0;
4 an index of the words of titles, a view for analysts, the table of saved searches, the order of commits, kept through
merges, the tables and views of more formats, with more columns on the way of lines, and codecs that take less room."""

CHANGED = ("ingest_json_view", "ingest_raw_shaped_view", "ingest_json_shaped_view", "ingest_stored")
"""Views of lines that version 4 made otherwise."""

SMALLER = ("attributes", "endpoint", "user_agent")
"""Columns of events that version 4 stores otherwise."""

RETENTION_CLASSES = (7, 14, 30, 90, 365)
"""Days. Each class has weekly partitions of its own, so there must be few; beyond the last, whole years."""

OUTCOME_DAYS = 400
AGENT_DAYS = 90
"""How long hourly outcomes, and agents that are silent, are remembered."""

DURABLE = {
    "fsync_after_insert": "1",
    "fsync_part_directory": "1",
    "min_rows_to_fsync_after_merge": "1",
    "min_compressed_bytes_to_fsync_after_merge": "1",
    "old_parts_lifetime": "480",
    "max_suspicious_broken_parts": "1000000000",
    "max_suspicious_broken_parts_bytes": "1000000000000000",
}
"""Settings of every table that keeps what was acknowledged. The last two: a broken part is set aside and reported,
and the others stay readable, instead of a table that does not open."""

_ITEMS = "arrayMap((k, v) -> concat(k, '=', v), mapKeys(attributes), mapValues(attributes))"
_INDEXES = (
    f"items Array(String) ALIAS {_ITEMS}",
    "INDEX timestamp_minmax timestamp TYPE minmax GRANULARITY 1",
    "INDEX id_bloom external_id TYPE bloom_filter(0.01) GRANULARITY 1",
    f"INDEX attribute_items {_ITEMS} TYPE bloom_filter(0.01) GRANULARITY 1",
    "INDEX message_words lower(message) TYPE text(tokenizer = 'splitByNonAlpha')",
    "INDEX title_words lower(title) TYPE text(tokenizer = 'splitByNonAlpha')",
)
WORD_INDEX = "message_words"
"""Built for closed weeks (`collector.store.sealing`)."""
TITLE_INDEX = "title_words"
"""Built in merges: lines have no title, so it costs next to nothing. Without it the words of a search, which may stand in the
title or in the message, would be looked for in every row: no index serves one half of an OR alone."""

COMMIT_ORDER = "enable_block_number_column = 1"
"""Each row keeps the number of its insert: what tails go by (`collector.streams.commits`). About a byte a row."""

PACKED = "default_compression_codec = 'ZSTD(1)'"
"""For columns that name no codec, and the indexes: the engine's own, LZ4, takes twice as much for words that repeat."""

READ_SETTINGS = {"use_skip_indexes_if_final_exact_mode": "0", "defer_partition_pruning_after_final": "0"}
"""With every FINAL read: time ranges prune. Right as long as all copies of an ID agree in time and filtered columns."""

DURABLE_TABLES = (
    "events", "losses", "tenants", "api_keys", "key_uses", "usage", "outcomes", "agents", "saved_searches", "schema_version",
)  # fmt: skip


def retention_class(days: int) -> int:
    """The class that keeps at least ``days``; queries hide what is beyond the tenant's own number."""
    for kept in RETENTION_CLASSES:
        if days <= kept:
            return kept
    return -(-days // 365) * 365


def statements(database: str) -> list[str]:
    """The schema, in the order in which it has to be made. Each can be run again."""
    return [
        f"CREATE DATABASE IF NOT EXISTS {database}",
        _kept(database, "schema_version", {"version": "UInt32", "applied": TIME}, "(applied)", "version"),
        _events(database),
        _kept(
            database,
            "losses",
            LOSS_COLUMNS,
            "",
            "(tenant_id, loss_id)",
            "TTL toDateTime(time) + toIntervalDay(retention_days)",
        ),
        _kept(database, "tenants", TENANT_COLUMNS, "(version)", "tenant_id"),
        _kept(database, "api_keys", KEY_COLUMNS, "(version)", "key_hash"),
        _kept(database, "key_uses", KEY_USE_COLUMNS, "(used)", "(tenant_id, key_id)"),
        _kept(database, "usage", USAGE_COLUMNS, "(version)", "(month, tenant_id, writer)"),
        _kept(
            database,
            "outcomes",
            OUTCOME_COLUMNS,
            "(version)",
            "(tenant_id, hour, outcome, reason, writer)",
            f"TTL hour + toIntervalDay({OUTCOME_DAYS})",
        ),
        _kept(
            database,
            "agents",
            AGENT_COLUMNS,
            "(seen)",
            "(tenant_id, agent, scope)",
            f"TTL toDateTime(seen) + toIntervalDay({AGENT_DAYS})",
        ),
        _kept(database, "saved_searches", SAVED_SEARCH_COLUMNS, "(version)", "(tenant_id, search_id)"),
        *(_passing(database, formats.table_of(name), formats.columns_of(name), "Null") for name in formats.TABLES),
        _passing(database, "ingest_lines", _passed(LINE_COLUMNS), "Null"),
        _passing(database, "ingest_requests", _passed(REQUEST_COLUMNS), "Null"),
        _passing(
            database,
            "ingest_exceptions",
            EXCEPTION_COLUMNS,
            "Memory SETTINGS min_rows_to_keep = 1000, max_rows_to_keep = 100000",
        ),
        *(_view(database, *view) for view in _line_views(database)),
        f"CREATE VIEW IF NOT EXISTS {_events_live(database)}",
        f"CREATE VIEW IF NOT EXISTS {_search(database)}",
    ]


def _line_views(database: str) -> list[tuple[str, str, str]]:
    """Name, target and SELECT of the views that lines go through."""
    ways = (("", "ingest_lines", LINE_COLUMNS), ("_requests", "ingest_requests", REQUEST_COLUMNS))
    return [
        *((f"ingest_{name}_view", formats.target_of(name), text.strip()) for name, text in formats.views(database).items()),
        *(
            (f"ingest{way}_stored", "events", f"SELECT {', '.join(columns)} FROM {database}.{table} WHERE reason = ''")
            for way, table, columns in ways
        ),
        *(
            (
                f"ingest{way}_excepted",
                "ingest_exceptions",
                "SELECT commit_id, record, reason, note, parse_error, count() AS events,\n"
                "    groupArrayIf(offset, reason != '') AS offsets\n"
                f"FROM {database}.{table} WHERE reason != '' OR note != '' OR parse_error != ''\n"
                "GROUP BY commit_id, record, reason, note, parse_error",
            )
            for way, table, _ in ways
        ),
    ]


def _way(database: str, statements: Sequence[str], found: int) -> list[str]:
    """All that leads from version ``found`` to `VERSION`, in order: tables have their columns before views look for them."""
    tables = [text for text in statements if text.startswith("CREATE TABLE")]
    others = [text for text in statements if text not in tables]
    return [*tables, *_since(found, _new_columns(database)), *others, *_since(found, _steps(database))]


def _since(found: int, steps: Mapping[int, list[str]]) -> list[str]:
    return [statement for version, statements in steps.items() if found < version for statement in statements]


def _new_columns(database: str) -> dict[int, list[str]]:
    """Per version, the columns that it added to tables of older ones, or changed. Each statement can be run again."""
    column = "zero_metrics"
    before = list(EVENT_COLUMNS)[list(EVENT_COLUMNS).index(column) - 1]
    traced = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {_passed(LINE_COLUMNS)[name]}" for name in TRACED)
    return {
        # Takes no row apart: rows from before have the default, and a 0 of theirs stays "not said".
        3: [f"ALTER TABLE {database}.events ADD COLUMN IF NOT EXISTS {column} {EVENT_COLUMNS[column]} AFTER {before}"],
        4: [
            f"ALTER TABLE {database}.ingest_lines {traced}",
            # Codecs are for parts to come; user agents of before are written again at once, about one byte for each event.
            *(f"ALTER TABLE {database}.events MODIFY COLUMN {name} {EVENT_COLUMNS[name]}" for name in SMALLER),
        ],
    }


def _steps(database: str) -> dict[int, list[str]]:
    """Per version, what else it changed of what a store may have, once all is there. Each statement can be run again."""
    return {
        3: [
            # A view knows the columns there were when it was made.
            f"CREATE OR REPLACE VIEW {_events_live(database)}",
        ],
        4: [
            f"ALTER TABLE {database}.events ADD INDEX IF NOT EXISTS {_INDEXES[-1].removeprefix('INDEX ')}",
            f"ALTER TABLE {database}.events MATERIALIZE INDEX {TITLE_INDEX} SETTINGS mutations_sync = 0",
            *(f"CREATE OR REPLACE VIEW {view(database)}" for view in (_events_live, _search)),
            # What was merged before has lower numbers than what comes, which is all that matters.
            f"ALTER TABLE {database}.events MODIFY SETTING {COMMIT_ORDER}, {PACKED}",
            # In place: without its view a table would take lines and keep nothing of them.
            *(
                f"ALTER TABLE {database}.{name} MODIFY QUERY {select}"
                for name, _, select in _line_views(database)
                if name in CHANGED
            ),
        ],
    }


async def apply(store: Store) -> int:
    """Bring the store to `VERSION`, check its durability, and let it take inserts.

    Returns:
        The version found: 0 for a new store.

    Raises:
        ConfigError: the store is newer than this program, or does not keep what it acknowledges; with the mend.
        StoreError, StoreAway: as `Store.command`.
    """
    make = statements(store.database)
    await store.command(make[1])  # the database is there: opening the store made it
    found = int((await store.query(f"SELECT max(version) FROM {store.database}.schema_version"))[0][0])
    if found > VERSION:
        raise ConfigError(
            f"{store.place}: the store has schema version {found}, this program knows up to {VERSION}; "
            "start the version that made it, or a newer one"
        )
    if found < VERSION:
        for statement in _way(store.database, make[2:], found):
            await store.command(statement)
        now = (await store.query("SELECT toUnixTimestamp64Micro(now64(6, 'UTC'))"))[0][0]
        await store.insert("schema_version", ("version", "applied"), [(VERSION, int(now))])
    await check(store)
    store.ready = True
    return found


async def check(store: Store) -> None:
    """Read back that tables sync what they acknowledge and that inserts are not buffered. Raises ConfigError."""
    if faults := [*await table_faults(store), *await insert_faults(store)]:
        raise ConfigError(f"{store.place}: {faults[0]}")


async def table_faults(store: Store) -> list[str]:
    """Tables that are missing, or that may lose what they acknowledged; each with the mend."""
    tables: dict[str, str] = dict(
        await store.query(
            "SELECT name, engine_full FROM system.tables WHERE database = {database:String}",
            {"database": store.database},
        )
    )
    store.cluster = cluster.name_in(tables.get(cluster.EVENTS, ""))
    found = []
    for table in (cluster.LOCAL if store.cluster and name == cluster.EVENTS else name for name in DURABLE_TABLES):
        missing = {k: v for k, v in DURABLE.items() if f"{k} = {v}" not in tables.get(table, "")}
        if missing:
            found.append(
                f"table {store.database}.{table} is missing or may lose acknowledged rows in a power "
                f"cut; run: ALTER TABLE {store.database}.{table} MODIFY SETTING {_settings(missing)}"
            )
    return found


async def insert_faults(store: Store) -> list[str]:
    """Settings of inserts that the engine does not use as it is asked to; each with the mend."""
    wanted = await store.insert_settings()
    names = ", ".join(f"'{name}'" for name in wanted)
    sql = f"SELECT name, value FROM system.settings WHERE name IN ({names})"
    got: dict[str, str] = dict(await store.query(sql, settings=wanted))
    return [
        f"the engine uses {name} = {got.get(name, 'nothing')} where inserts ask for {value}; "
        "let the collector's user change this setting (see its settings profile and constraints)"
        for name, value in wanted.items()
        if got.get(name) != value
    ]


def _events(database: str) -> str:
    columns = ",\n  ".join([*(f"{name} {kind}" for name, kind in EVENT_COLUMNS.items()), *_INDEXES])
    return f"""CREATE TABLE IF NOT EXISTS {database}.events (
  {columns}
) ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY (retention_days, toMonday(timestamp))
ORDER BY (tenant_id, external_id)
TTL toDateTime(timestamp) + toIntervalDay(retention_days)
SETTINGS index_granularity = 2048, ttl_only_drop_parts = 1, min_bytes_for_wide_part = 134217728, {COMMIT_ORDER},
  {PACKED},
  exclude_materialize_skip_indexes_on_merge = '{WORD_INDEX}', {_settings(DURABLE)}"""


def _events_live(database: str) -> str:
    return f"{database}.events_live AS SELECT *, items FROM {database}.events FINAL\nSETTINGS {_settings(READ_SETTINGS)}"


def _search(database: str) -> str:
    """For analysts: each event once, none that its retention is over for, without the table's own columns."""
    return (
        f"{database}.search SQL SECURITY INVOKER AS SELECT * EXCEPT (version, is_deleted, retention_days), items\n"
        f"FROM {database}.events FINAL WHERE timestamp >= now64(6, 'UTC') - toIntervalDay(retention_days)\n"
        f"SETTINGS {_settings(READ_SETTINGS)}"
    )


def _kept(database: str, table: str, columns: Mapping[str, str], version: str, order: str, more: str = "") -> str:
    engine = f"ENGINE = ReplacingMergeTree{version or '()'}"
    rest = "\n".join(part for part in (engine, f"ORDER BY {order}", more, f"SETTINGS {_settings(DURABLE)}") if part)
    return f"CREATE TABLE IF NOT EXISTS {database}.{table} ({_columns(columns)}\n) {rest}"


def _passing(database: str, table: str, columns: Mapping[str, str], engine: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {database}.{table} ({_columns(columns)}\n) ENGINE = {engine}"


def _view(database: str, name: str, target: str, select: str) -> str:
    return f"CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{name} TO {database}.{target} AS\n{select.strip()}"


def _passed(columns: Mapping[str, str]) -> dict[str, str]:
    """Columns of events on their way: no codecs, and what says which line of which commit it is."""
    plain = {name: kind.partition(" CODEC")[0] for name, kind in columns.items()}
    return {"commit_id": "UInt64", "record": "UInt32", "offset": "UInt64", "reason": WORD, "note": WORD, **plain}


def _columns(columns: Mapping[str, str]) -> str:
    return "".join(f"\n  {name} {kind}," for name, kind in columns.items()).rstrip(",")


def _settings(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())
