"""What each index and column of `events` costs: CPU of the engine at the insert and in one merge, and bytes on disk.

- The same rows go into a table as the schema makes it, and into one without the index or column: the difference is its cost.
  Rows come from a table in memory; the indexes of words, which inserts leave out, are built afterwards, as the collector does.
- ``compression`` is the same for an access log alone, as lines of a file: text against all that is stored of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from collector.store import schema
from collector.store.columns import EVENT_COLUMNS
from collector.store.schema import TITLE_INDEX, WORD_INDEX
from tests.bench import measure
from tests.bench.accesslog import access_lines
from tests.bench.dataset import COLUMNS, SHARES, Dataset
from tests.bench.load import Load
from tests.bench.measure import MB
from tests.support.engine import ClickHouseFront

DATABASE = "costs"
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
        yield _compression(client, front, load)
        client.close()


def _parts(client: Client, front: ClickHouseFront, load: Load) -> Iterator[dict[str, Any]]:
    made = ", ".join(f"{name} {kind.partition(' CODEC')[0]}" for name, kind in EVENT_COLUMNS.items() if name in COLUMNS)
    client.command(f"CREATE TABLE source ({made}) ENGINE = Memory")
    data = Dataset([f"tenant-{n}" for n, _ in enumerate(SHARES)], load.store_rows, END_US)
    for statement in data.statements("source"):
        client.command(statement)
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
    if not without:
        return text
    of_it = {"attributes": "attribute_items", "message": WORD_INDEX, "title": TITLE_INDEX}.get(without, "\0")
    gone = re.compile(rf"  (INDEX )?({without}|{of_it}|{'items' if without == 'attributes' else without})\b")
    text = "\n".join(line for line in text.split("\n") if not gone.match(line))
    text = re.sub(r",\n\) ENGINE", "\n) ENGINE", text)
    return text.replace(f"exclude_materialize_skip_indexes_on_merge = '{WORD_INDEX}', ", "") if of_it == WORD_INDEX else text


def _compression(client: Client, front: ClickHouseFront, load: Load) -> dict[str, Any]:
    """One file of an access log: names, times and messages, with the index of words."""
    log = b"".join(access_lines(int(load.store_mb * MB)))
    client.command("CREATE TABLE lines (line String, number UInt64) ENGINE = Memory")
    texts = log.decode().splitlines()
    client.insert("lines", [(text, number) for number, text in enumerate(texts)], column_names=("line", "number"))
    client.command(
        "CREATE TABLE log ENGINE = Memory AS SELECT 'tenant' AS tenant_id, concat('0123456789abcdef-', "
        "leftPad(lower(hex(toUInt64(sum(length(line) + 1) OVER (ORDER BY number)))), 12, '0'), '-', "
        "leftPad(lower(hex(CRC32(line))), 8, '0')) AS external_id, "
        f"fromUnixTimestamp64Micro({END_US} + toInt64(number) * 1000, 'UTC') AS timestamp, 'info' AS severity, "
        "'shop' AS service, '/var/log/access.log' AS path, line AS message, toUInt16(30) AS retention_days FROM lines"
    )
    columns = ("tenant_id", "external_id", "timestamp", "severity", "service", "path", "message", "retention_days")
    cost = _cost(client, front, WHOLE, columns, source="log")
    by_column = dict(
        client.query(
            "SELECT column, round(sum(column_data_compressed_bytes) / sum(rows), 2) FROM system.parts_columns "
            f"WHERE active AND database = '{DATABASE}' AND table = 'events' GROUP BY column"
        ).result_rows
    )
    indexes = client.query(
        "SELECT sum(secondary_indices_compressed_bytes) / sum(rows) FROM system.parts "
        f"WHERE active AND database = '{DATABASE}' AND table = 'events'"
    ).result_rows[0][0]
    raw = len(log) / len(texts)
    return {
        "benchmark": "store.compression",
        "events": len(texts),
        "text_bytes": round(raw, 1),
        **cost.shown(),
        **{f"{name}_bytes": by_column[name] for name in ("message", "external_id", "timestamp")},
        "index_bytes": round(indexes, 2),
        "times_smaller": round(raw / cost.bytes, 2),
    }
