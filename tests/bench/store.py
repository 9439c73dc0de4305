"""What each index and column of `events` costs: CPU of the engine at the insert and in one merge, and bytes on disk.

- The same rows go into a table as the schema makes it, and into one without the index or column: the difference is its cost.
  Rows come from a table in memory; the indexes of words, which inserts leave out, are built afterwards, as the collector does.
- Then the same for access logs alone (`weblog`), each kept as raw lines and taken apart: text against all that is stored of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client

from collector.store import formats, schema
from collector.store.columns import EVENT_COLUMNS
from collector.store.formats import access
from collector.store.schema import TITLE_INDEX, WORD_INDEX
from tests.bench import measure
from tests.bench.dataset import COLUMNS, SHARES, Dataset
from tests.bench.load import Load
from tests.bench.weblog import web_log
from tests.support.engine import ClickHouseFront

DATABASE, TAKEN_APART = "costs", "taken_apart"
BLOCK_BYTES = 1 << 20
COMMIT_BYTES = 16 << 20
END_US = 1_790_000_000_000_000
"""The data is older than any retention: tables here have no TTL."""
WHOLE = ""
_WORDS = (WORD_INDEX, TITLE_INDEX)
KEY = {"tenant_id", "external_id", "timestamp", "retention_days", "version", "is_deleted"}


class Cost(NamedTuple):
    insert_us: float
    merge_us: float
    index_us: float
    """To build the indexes of words, once."""
    bytes: float

    def above(self, other: Cost) -> Cost:
        return Cost(*(mine - others for mine, others in zip(self, other, strict=True)))

    def shown(self) -> dict[str, float]:
        return {
            "insert_us": round(self.insert_us, 2),
            "merge_us": round(self.merge_us, 2),
            "word_index_us": round(self.index_us, 2),
            "bytes": round(self.bytes, 2),
        }


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=folder) as work, ClickHouseFront(Path(work) / "engine") as front:
        client = clickhouse_connect.get_client(host=front.host, port=front.port)
        client.command(f"CREATE DATABASE {DATABASE}")
        client.database = DATABASE
        yield from _parts(client, front, load)
        yield from _logs(client, front, load)
        client.close()


def _parts(client: Client, front: ClickHouseFront, load: Load) -> Iterator[dict[str, Any]]:
    made = ", ".join(f"{name} {kind.partition(' CODEC')[0]}" for name, kind in EVENT_COLUMNS.items() if name in COLUMNS)
    client.command(f"CREATE TABLE source ({made}) ENGINE = Memory")
    data = Dataset([f"tenant-{n}" for n, _ in enumerate(SHARES)], load.store_rows, END_US)
    for statement in data.statements("source"):
        client.command(statement)
    _cost(client, front, WHOLE, COLUMNS)  # the first insert of all also pays for what the engine does once
    whole = _cost(client, front, WHOLE, COLUMNS)
    yield {"benchmark": "store.whole", "events": load.store_rows, **whole.shown()}
    indexes = re.findall(r"INDEX (\w+)", _table(WHOLE))
    for name in (*indexes, *[column for column in COLUMNS if column not in KEY][: load.store_columns]):
        columns = tuple(column for column in COLUMNS if column != name)
        yield {"benchmark": f"store.{name}", **whole.above(_cost(client, front, name, columns)).shown()}


def _cost(client: Client, front: ClickHouseFront, without: str, columns: tuple[str, ...], source: str = "source") -> Cost:
    """Of a row, in a table that lacks the index or column ``without``."""
    client.command("DROP TABLE IF EXISTS events SYNC")
    client.command(_table(without))
    client.command("SYSTEM STOP MERGES events")
    rows = int(client.query(f"SELECT count() FROM {source}").result_rows[0][0])
    names = ", ".join(columns)
    words = [index for index in _WORDS if index != without and not _needs(index, without)]
    left_out = f"exclude_materialize_skip_indexes_on_insert = '{', '.join(_WORDS)}'"
    before_s = measure.cpu_s(front.pid)
    client.command(
        f"INSERT INTO events ({names}) SELECT {names} FROM {source} SETTINGS {left_out}, optimize_on_insert = 0, "
        "max_insert_threads = 1, max_partitions_per_insert_block = 1000"
    )
    inserted_s = measure.cpu_s(front.pid)
    client.command("SYSTEM START MERGES events")
    client.command("OPTIMIZE TABLE events FINAL")
    merged_s = measure.cpu_s(front.pid)
    for index in words:
        client.command(f"ALTER TABLE events MATERIALIZE INDEX {index} SETTINGS mutations_sync = 2")
    built_s = measure.cpu_s(front.pid)
    size = client.query(
        f"SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND database = '{DATABASE}' AND table = 'events'"
    ).result_rows[0][0]
    spent = (inserted_s - before_s, merged_s - inserted_s, built_s - merged_s)
    return Cost(*(seconds / rows * 1e6 for seconds in spent), bytes=float(size))


def _needs(index: str, column: str) -> bool:
    return bool(column) and column in index


def _table(without: str) -> str:
    """The statement that makes `events`, without an index or a column, and without an end to its rows."""
    (text,) = [text for text in schema.statements(DATABASE) if f"{DATABASE}.events (" in text]
    text = re.sub(r"TTL .*\n", "", text).replace("ttl_only_drop_parts = 1, ", "")
    text = re.sub(r"min_bytes_for_wide_part = \d+", "min_bytes_for_wide_part = 0", text)  # which tell the bytes of each column
    if not without:
        return text
    of_it = {"attributes": "attribute_items", "message": WORD_INDEX, "title": TITLE_INDEX}.get(without, "\0")
    gone = re.compile(rf"  (INDEX )?({without}|{of_it}|{'items' if without == 'attributes' else without})\b")
    text = "\n".join(line for line in text.split("\n") if not gone.match(line))
    text = re.sub(r",\n\) ENGINE", "\n) ENGINE", text)
    return text.replace(f"exclude_materialize_skip_indexes_on_merge = '{WORD_INDEX}', ", "") if of_it == WORD_INDEX else text


def _logs(client: Client, front: ClickHouseFront, load: Load) -> Iterator[dict[str, Any]]:
    """Access logs of the common and the combined format, kept as raw lines and taken apart by the collector's own views."""
    client.command(f"CREATE DATABASE {TAKEN_APART}")
    for text in (text for text in schema.statements(TAKEN_APART) if not text.startswith("CREATE VIEW")):
        client.command(_in_memory(text) if f"{TAKEN_APART}.events (" in text else text)
    for combined, table in product((False, True), (formats.RAW, access.NAME)):
        text = "".join(f"{line}\n" for line in web_log(load.store_lines, combined=combined)).encode()
        client.command(f"TRUNCATE TABLE {TAKEN_APART}.events")
        for at in range(0, len(text), COMMIT_BYTES):
            _commit(client, table, text, at)
        stored = client.query(f"SELECT count(), countIf(parse_error != '') FROM {TAKEN_APART}.events").result_rows[0]
        assert stored == (load.store_lines, 0), stored
        kept = "raw" if table == formats.RAW else "parsed"
        yield {
            "benchmark": f"store.{'combined' if combined else 'common'}_{kept}",
            **_compression(client, front, load, len(text)),
        }


def _commit(client: Client, table: str, text: bytes, at: int) -> None:
    """What lies from ``at`` on, to the end of a line, as one insert of blocks; lines that begin before it are left."""
    end = text.index(b"\n", min(at + COMMIT_BYTES, len(text)) - 1) + 1
    start = 0 if at == 0 else text.index(b"\n", at - 1) + 1
    rows = []
    while start < end:
        last = text.rindex(b"\n", start, min(start + BLOCK_BYTES, end)) + 1
        row = {
            "tenant_id": "5b0c54d2-1f3e-4c55-9d67-0d3c4a1fb0a1", "file_id": "0123456789abcdef", "base_offset": start,
            "data": text[start : last - 1].decode(), "observed_us": END_US + start, "newest_us": END_US * 2, "service": "shop",
            "source": "access", "path": "/var/log/access.log", "agent": "web-1", "labels": {"region": "eu", "cluster": "main"},
            "retention_days": 30, "version": END_US - start,
        }  # fmt: skip
        rows.append(row)
        start = last
    if not rows:
        return
    body = b"\n".join(msgspec.json.encode(row) for row in rows)
    client.raw_insert(f"{TAKEN_APART}.{formats.table_of(table)}", list(rows[0]), body, fmt="JSONEachRow")


def _in_memory(table: str) -> str:
    """A table of the same stored columns, without anything else."""
    return table[: table.index(",\n  items ")] + "\n) ENGINE = Memory"


def _compression(client: Client, front: ClickHouseFront, load: Load, text_bytes: int) -> dict[str, Any]:
    cost = _cost(client, front, WHOLE, tuple(EVENT_COLUMNS), source=f"{TAKEN_APART}.events")
    named = ("message", "external_id")
    columns = dict(
        client.query(
            f"SELECT if(column IN {named}, column, 'other') AS name, sum(column_bytes_on_disk) / {load.store_lines} "
            f"FROM system.parts_columns WHERE active AND database = '{DATABASE}' AND table = 'events' GROUP BY name"
        ).result_rows
    )
    indexes = dict(
        client.query(
            f"SELECT if(name = '{WORD_INDEX}', 'word', 'other'), sum(data_compressed_bytes) / {load.store_lines} "
            f"FROM system.data_skipping_indices WHERE database = '{DATABASE}' AND table = 'events' GROUP BY 1"
        ).result_rows
    )
    text = text_bytes / load.store_lines
    return {
        "events": load.store_lines,
        "text_bytes": round(text, 1),
        **cost.shown(),
        **{f"{name}_bytes": round(columns[name], 2) for name in (*named, "other")},
        "word_index_bytes": round(indexes["word"], 2),
        "other_index_bytes": round(indexes["other"], 2),
        "times_smaller": round(text / cost.bytes, 2),
        "times_smaller_without_words": round(text / (cost.bytes - indexes["word"]), 2),
    }
