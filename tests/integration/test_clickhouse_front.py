"""The HTTP front over the embedded engine behaves, towards clickhouse-connect, as a ClickHouse server does."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from tests.support.clickhouse_statements import EngineError, Insert, Query, parse
from tests.support.engine import REPOSITORY, ClickHouseFront

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

# Well above what any step here takes on a busy machine; it ends a test that would otherwise hang.
DEADLINE_S = 30.0
HARD_STRINGS = ["", "it's", 'say "x"', "a\nb\tc\r\0d", "back\\slash\\'", "`tick` -- /* # ;", "żółw 🐢", "{x:String} %s"]
INJECTION = "x'; DROP TABLE t; --"
ENDLESS = "SELECT 'endless', count() FROM system.numbers"
BOUNDED = {"max_execution_time": DEADLINE_S}  # so that a failing test ends as well


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("front") / "data") as running:
        yield running


@pytest.fixture
def database(front: ClickHouseFront, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own, so every test may call its table ``t``."""
    name = re.sub(r"\W", "_", request.node.name)
    with connect(front) as client:
        client.command(f"CREATE DATABASE {name}")
        yield name
        client.command(f"DROP DATABASE {name} SYNC")


@pytest.fixture
def client(front: ClickHouseFront, database: str) -> Iterator[Client]:
    with connect(front, database=database) as connected:
        yield connected


def connect(front: ClickHouseFront, **options: Any) -> Client:
    return clickhouse_connect.get_client(host=front.host, port=front.port, **options)


def http_get(front: ClickHouseFront, target: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(front.host, front.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def wait_for_running(client: Client, marker: str, count: int) -> None:
    """Ask the engine which queries run, until ``count`` of them hold ``marker`` at the same time."""
    deadline = time.monotonic() + DEADLINE_S
    sql = "SELECT count() FROM system.processes WHERE position(query, {m:String}) > 0 AND query NOT LIKE '%processes%'"
    while (running := client.command(sql, parameters={"m": marker})) != count:
        assert time.monotonic() < deadline, f"{running} of {count} queries run side by side"


# ---- clients ------------------------------------------------------------------------------------------------------


def test_the_sync_client_connects(front: ClickHouseFront) -> None:
    with connect(front) as client:
        assert client.ping()
        assert client.server_version == client.command("SELECT version()")
        assert client.query("SELECT number FROM numbers(3)").result_rows == [(0,), (1,), (2,)]


def test_the_async_client_reads_and_writes(front: ClickHouseFront, database: str) -> None:
    async def round_trip() -> tuple[Any, Any, Any]:
        client = await clickhouse_connect.get_async_client(host=front.host, port=front.port, database=database)
        async with client:
            await client.command("CREATE TABLE t (id UInt32, s String) ENGINE = MergeTree ORDER BY id")
            summary = await client.insert("t", list(enumerate(HARD_STRINGS)), column_names=["id", "s"])
            rows = await client.query("SELECT s FROM t ORDER BY id")
            arrow = await client.query_arrow("SELECT s FROM t ORDER BY id")
        return summary, [s for (s,) in rows.result_rows], arrow.column("s").to_pylist()

    summary, rows, arrow = asyncio.run(round_trip())

    assert summary.written_rows == len(HARD_STRINGS)
    assert rows == HARD_STRINGS
    assert arrow == HARD_STRINGS


def test_every_kind_of_value_comes_back_as_it_went_in(client: Client) -> None:
    client.command(
        "CREATE TABLE t (id UInt32, s String, raw FixedString(4), tags Array(String), attrs Map(String, String),"
        " at DateTime64(9), level LowCardinality(String), note Nullable(String)) ENGINE = MergeTree ORDER BY id"
    )
    at = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)
    rows = [
        (n, s, bytes([0, 255, n, 39]), [s, "'"], {s: s, "k": "v"}, at, ["info", "error"][n % 2], s or None)
        for n, s in enumerate(HARD_STRINGS)
    ]

    client.insert("t", rows)

    got = client.query("SELECT * FROM t ORDER BY id", query_tz="UTC", tz_mode="aware").result_rows
    assert got == rows


def test_bytes_that_are_no_text_survive(client: Client) -> None:
    every_byte = bytes(range(256))
    client.command("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s")

    client.insert("t", [[every_byte]], column_type_names=["String"], column_names=["s"])

    assert client.query("SELECT s FROM t", query_formats={"String": "bytes"}).result_rows == [(every_byte,)]


@pytest.mark.parametrize("compression", [None, "gzip", "zstd", "lz4"])
def test_a_compressed_insert_is_understood(client: Client, compression: str | None) -> None:
    lz4_frame = pytest.importorskip("lz4.frame")
    pack = {None: bytes, "gzip": gzip.compress, "zstd": zstd.compress, "lz4": lz4_frame.compress}[compression]
    client.command("CREATE TABLE t (id UInt32, s String) ENGINE = MergeTree ORDER BY id")

    client.raw_insert("t", ["id", "s"], pack(b'1,"a\nb"\n2,c\n'), fmt="CSV", compression=compression)

    assert client.query("SELECT * FROM t ORDER BY id").result_rows == [(1, "a\nb"), (2, "c")]


@pytest.mark.parametrize("compress", [False, "gzip", "zstd", "lz4"])
def test_the_clients_own_compression_is_understood(front: ClickHouseFront, database: str, compress: Any) -> None:
    with connect(front, database=database, compress=compress) as client:
        client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")
        client.insert("t", [[n] for n in range(10_000)])
        assert client.query("SELECT sum(id), count() FROM t").result_rows == [(49_995_000, 10_000)]


def test_an_arrow_table_comes_back_equal(client: Client) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"id": pyarrow.array([1, 2], pyarrow.uint32()), "s": ["it's", "a\nb"]})
    client.command("CREATE TABLE t (id UInt32, s String) ENGINE = MergeTree ORDER BY id")

    client.insert_arrow("t", table)

    assert client.query_arrow("SELECT * FROM t ORDER BY id").to_pylist() == table.to_pylist()


def test_two_inserts_add_up(client: Client) -> None:
    client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")

    written = [client.insert("t", [[n] for n in range(size)]).written_rows for size in (3, 4)]

    assert written == [3, 4]
    assert client.command("SELECT count() FROM t") == 7


def test_a_raw_query_has_the_format_it_asks_for(front: ClickHouseFront, client: Client) -> None:
    assert json.loads(client.raw_query("SELECT 1 AS x", fmt="JSON"))["data"] == [{"x": 1}]
    _, headers, body = http_get(front, "/?query=SELECT+1+AS+format,2")
    assert (headers["X-ClickHouse-Format"], headers["X-ClickHouse-Timezone"], body) == ("TabSeparated", "UTC", b"1\t2\n")


# ---- parameters and settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*HARD_STRINGS, INJECTION, "'; SELECT 1 --", "x" * 100_000])
def test_a_bound_string_is_only_ever_a_value(client: Client, text: str) -> None:
    client.command("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s")
    client.insert("t", [[text], [text + "!"]])

    result = client.query("SELECT s FROM t WHERE s = {x:String}", parameters={"x": text})

    assert result.result_rows == [(text,)]


def test_bound_values_keep_their_types(client: Client) -> None:
    values = {"a": ["it's", "b"], "n": -5, "d": datetime(2026, 1, 2, 3, 4, 5, 678000), "i": "t"}
    client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")

    rows = client.query(
        "SELECT {a:Array(String)}, {n:Int64}, {d:DateTime64(3)}, (SELECT count() FROM {i:Identifier})", values
    ).result_rows

    assert rows == [(values["a"], values["n"], values["d"], 0)]


def test_settings_reach_one_request_and_not_the_next(client: Client) -> None:
    ask = "SELECT getSetting('max_block_size'), getSetting('log_comment')"
    before = client.query(ask).result_rows

    inside = client.query(ask, settings={"max_block_size": 1234, "log_comment": INJECTION}).result_rows

    assert inside == [(1234, INJECTION)]
    assert all(client.query(ask).result_rows == before for _ in range(10))


def test_a_set_statement_ends_with_its_request(client: Client) -> None:
    client.command("SET max_block_size = 77")
    client.command("USE system")
    assert client.command("SELECT getSetting('max_block_size')") != 77
    assert client.command("SELECT currentDatabase()") == client.database


def test_the_time_limit_of_a_request_is_the_engines(client: Client) -> None:
    with pytest.raises(DatabaseError, match="Timeout exceeded") as raised:
        client.query("SELECT count() FROM system.numbers", settings={"max_execution_time": 0.2})
    assert raised.value.code == 159


def test_settings_reach_an_insert(client: Client) -> None:
    client.command(
        "CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100"
    )
    counts = []
    for settings in (
        {"async_insert": 0},
        {"async_insert": 0},
        {"async_insert": 0, "deduplicate_insert": "disable"},
        {"async_insert": 0, "insert_deduplication_token": "a"},
        {"async_insert": 0, "insert_deduplication_token": "a"},
    ):
        client.insert("t", [[1], [2]], settings=settings)
        counts.append(client.command("SELECT count() FROM t"))

    assert counts == [2, 2, 4, 6, 6]


def test_a_get_request_may_only_read(front: ClickHouseFront, client: Client) -> None:
    client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")

    status, headers, _ = http_get(front, f"/?database={client.database}&query=INSERT+INTO+t+VALUES+(1)")

    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    assert client.command("SELECT count() FROM t") == 0


# ---- errors -------------------------------------------------------------------------------------------------------


def test_an_error_is_a_database_error_with_its_code_and_name(client: Client) -> None:
    with pytest.raises(DatabaseError, match=r"Code: 60\. DB::Exception: .*nosuch") as raised:
        client.query("SELECT * FROM nosuch")
    assert (raised.value.code, raised.value.name) == (60, "UNKNOWN_TABLE")


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/?query=SELEC+1", 400, "62"),
        ("/?query=SELECT+1;SELECT+2", 400, "62"),
        ("/?query=SELECT+*+FROM+nosuch", 404, "60"),
        ("/?query=SELECT+1&nosuch=1", 404, "115"),
        ("/?query=SELECT+1&max_threads%3D1,max_block_size=1", 404, "115"),
        ("/?query=SELECT+1&database=nosuch", 404, "81"),
        ("/?query=SELECT+throwIf(1)", 500, "395"),
    ],
)
def test_an_error_has_status_code_and_text(front: ClickHouseFront, target: str, status: int, code: str) -> None:
    got, headers, body = http_get(front, target)

    assert (got, headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert re.fullmatch(rf"Code: {code}\. DB::Exception: .* \([A-Z_]+\) \(version [\d.]+\)\n", body.decode(), re.DOTALL)


def test_a_broken_insert_is_refused_whole(client: Client) -> None:
    client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")
    block = client.raw_query("SELECT toUInt32(number) AS id FROM numbers(10)", fmt="Native")

    with pytest.raises(DatabaseError) as raised:
        client.raw_insert("t", ["id"], block + block[:-3], fmt="Native")

    assert raised.value.name == "CANNOT_READ_ALL_DATA"
    assert client.command("SELECT count() FROM t") == 0


# ---- tables the product uses --------------------------------------------------------------------------------------


def test_a_materialized_view_on_a_null_table_is_fed_by_an_insert(client: Client) -> None:
    client.command("CREATE TABLE incoming (id UInt32, s String) ENGINE = Null")
    client.command("CREATE TABLE t (id UInt32, s String) ENGINE = MergeTree ORDER BY id")
    client.command("CREATE MATERIALIZED VIEW mv TO t AS SELECT id, upper(s) AS s FROM incoming WHERE id > 1")

    client.insert("incoming", [[1, "a"], [2, "b"], [3, "c"]])

    assert client.query("SELECT * FROM t ORDER BY id").result_rows == [(2, "B"), (3, "C")]


def test_final_reads_the_last_version_only(client: Client) -> None:
    client.command(
        "CREATE TABLE t (id UInt32, s String, version UInt64, INDEX words s TYPE tokenbf_v1(256, 2, 0) GRANULARITY 1)"
        " ENGINE = ReplacingMergeTree(version) ORDER BY id"
    )
    client.command("SYSTEM STOP MERGES t")
    client.insert("t", [[1, "old words", 1], [2, "other words", 1]])
    client.insert("t", [[1, "new words", 2]])

    sql = "SELECT id, s FROM t FINAL WHERE hasToken(s, 'words') ORDER BY id"
    rows = client.query(f"{sql} SETTINGS use_skip_indexes_if_final_exact_mode = 0").result_rows

    assert rows == [(1, "new words"), (2, "other words")]
    assert client.command("SELECT count() FROM t") == 3


# ---- side by side -------------------------------------------------------------------------------------------------


def test_eight_queries_run_side_by_side(front: ClickHouseFront, client: Client) -> None:
    def sleep(n: int) -> Any:
        with connect(front) as own:
            return own.query(f"SELECT {n}, sleep(2), 'eight_sleepers'").result_rows

    with ThreadPoolExecutor(8) as threads:
        sleepers = [threads.submit(sleep, n) for n in range(8)]
        wait_for_running(client, "eight_sleepers", 8)
        ping = http_get(front, "/ping")
        running = [sleeper for sleeper in sleepers if not sleeper.done()]
        rows = [sleeper.result(DEADLINE_S) for sleeper in sleepers]

    assert ping[2] == b"Ok.\n"
    assert len(running) == 8
    assert rows == [[(n, 0, "eight_sleepers")] for n in range(8)]


def test_writing_goes_on_beside_a_query_that_computes(front: ClickHouseFront, client: Client) -> None:
    client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")
    with ThreadPoolExecutor(1) as threads, connect(front) as own:
        endless: Future[Any] = threads.submit(own.query, ENDLESS, settings=BOUNDED)
        try:
            wait_for_running(client, "endless", 1)
            client.insert("t", [[n] for n in range(1000)])
            assert client.command("SELECT count() FROM t") == 1000
            assert not endless.done()
        finally:
            client.command("KILL QUERY WHERE query LIKE 'SELECT ''endless%' SYNC")
        with pytest.raises(DatabaseError) as raised:
            endless.result(DEADLINE_S)
    assert raised.value.name == "QUERY_WAS_CANCELLED"


# ---- the process --------------------------------------------------------------------------------------------------


def test_acked_rows_are_there_after_kill_9(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path) as front:
        with connect(front) as client:
            client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS fsync_after_insert = 1")
            for start in range(0, 50, 10):
                client.insert("t", [[n] for n in range(start, start + 10)])
        port = front.port

        front.kill()
        with pytest.raises(OperationalError):
            connect(front)
        front.start()

        assert front.port == port
        with connect(front) as client:
            assert client.query("SELECT id FROM t ORDER BY id").result_columns == [list(range(50))]
            client.insert("t", [[50]])
            assert client.command("SELECT count() FROM t") == 51


def test_sigterm_ends_it_cleanly_even_beside_a_running_query(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path) as front, ThreadPoolExecutor(1) as threads:
        with connect(front) as client:
            client.command("CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id")
            client.insert("t", [[1]])
            own = connect(front, query_retries=0)
            endless: Future[Any] = threads.submit(own.query, ENDLESS, settings=BOUNDED)
            wait_for_running(client, "endless", 1)

        front.stop()

        assert (front.exit_status, front.stderr) == (0, "")
        with pytest.raises((DatabaseError, OperationalError)):
            endless.result(DEADLINE_S)
        own.close()
        front.start()
        with connect(front) as client:
            assert client.command("SELECT count() FROM t") == 1


def test_a_front_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RuntimeError, match="FileExistsError"):
        ClickHouseFront(tmp_path / "file").start()


def test_a_front_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.support.engine import ClickHouseFront\n"
        "front = ClickHouseFront(Path(sys.argv[1])); front.start(); print(front.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        front = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            ended, _, _ = select.select([front], [], [], DEADLINE_S)
            if not ended:
                signal.pidfd_send_signal(front, signal.SIGKILL)
        finally:
            os.close(front)
    assert ended


# ---- where SQL ends and data begins -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"INSERT INTO t (a) FORMAT CSV\n1\n", Insert("INSERT INTO t (a) ", "CSV", b"1\n")),
        (b"insert into t format Native\r\n\n;x", Insert("insert into t ", "Native", b"\n;x")),
        (b"INSERT INTO t FORMAT CSV; \n'", Insert("INSERT INTO t ", "CSV", b"'")),
        (b"INSERT INTO t FORMAT JSONEachRow {}", Insert("INSERT INTO t ", "JSONEachRow", b"{}")),
        (b"/* FORMAT */INSERT INTO `FORMAT x` FORMAT TSV\n", Insert("/* FORMAT */INSERT INTO `FORMAT x` ", "TSV", b"")),
        (b"INSERT INTO t VALUES (1)", Query(b"INSERT INTO t VALUES (1)", "TSV", None)),
        (b"INSERT INTO t SELECT 1 FORMAT Null", Query(b"INSERT INTO t SELECT 1 FORMAT Null", "TSV", None)),
        (b"SELECT ';', 1 -- ; x\n;  ", Query(b"SELECT ';', 1 -- ; x\n;  ", "TSV", "TSV")),
        (b"SELECT 1 FORMAT JSON SETTINGS x = 1", Query(b"SELECT 1 FORMAT JSON SETTINGS x = 1", "TSV", "JSON")),
        (b"SELECT format FROM t", Query(b"SELECT format FROM t", "TSV", "TSV")),
        (b"DROP TABLE t;", Query(b"DROP TABLE t;", "TSV", None)),
    ],
)
def test_sql_and_data_are_told_apart(sql: bytes, expected: Query | Insert) -> None:
    assert parse(sql, default_format="TSV") == expected


@pytest.mark.parametrize("sql", [b"SELECT 1; SELECT 2", b"SELECT 'it''s \\'; x'; DROP TABLE t", b"SELECT 1;;"])
def test_a_second_statement_is_refused(sql: bytes) -> None:
    with pytest.raises(EngineError, match="Multi-statements"):
        parse(sql)
