"""Both homes of the engine keep the store's promises: errors by kind, bounds, isolation, durability, one process."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from collector.config import StoreConfig, WriterConfig
from collector.errors import ConfigError, StoreAway, StoreError
from collector.metrics import Metrics
from collector.search.event import COLUMNS, event_of
from collector.store import schema
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from collector.writing.writer import Writer
from tests.integration.conftest import EMBEDDED, Home, rows_of, submit
from tests.support.engine import REPOSITORY, ClickHouseFront
from tests.support.records import NOW_NS, Event, record, shaped_record

pytestmark = pytest.mark.engine

HARD_STRINGS = ["", "it's", "a\nb\tc\\", "{x:String}", "żółw 🐢", "'; DROP TABLE events; --"]
GOLDEN = Path(__file__).parents[1] / "golden"
SLOW = "SELECT {mark:String}, sleepEachRow(0.02) FROM numbers(500)"
DEADLINE_S = 60.0


async def caught(call: Any) -> StoreError:
    with pytest.raises(StoreError) as error:
        await call
    return error.value


def test_parameters_are_values_never_statements(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            got = await store.query("SELECT {one:String}, {all:Array(String)}", {"one": HARD_STRINGS[5], "all": HARD_STRINGS})
            assert got == [(HARD_STRINGS[5], HARD_STRINGS)]

    asyncio.run(run())


def test_rows_come_back_as_they_went_in(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            rows = [(owner.tenant_id, f"id-{n}", NOW_NS // 1000, text, 30) for n, text in enumerate(HARD_STRINGS)]
            await store.insert("events", ("tenant_id", "external_id", "timestamp", "message", "retention_days"), rows)
            assert await rows_of(store, owner, "message") == [(text,) for text in HARD_STRINGS]

    asyncio.run(run())


def test_a_refused_statement_has_the_engines_code(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            for sql, code in (("SELEKT", 62), ("SELECT * FROM nowhere", 60), ("SELECT throwIf(1)", 395)):
                error = await caught(store.query(sql))
                assert (type(error), error.code) == (StoreError, code)
            assert (await caught(store.command("DROP TABLE nowhere"))).code == 60
            assert (await caught(store.insert("nowhere", ("a",), [(1,)]))).code == 60
            assert (await store.query("SELECT 1")) == [(1,)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sql", "settings", "code"),
    [
        ("SELECT sleepEachRow(0.05) FROM numbers(200)", {"max_block_size": 1}, 159),
        ("SELECT groupArray(number) FROM numbers(50000000)", {"max_memory_usage": 20_000_000}, 241),
        ("SELECT sum(number) FROM numbers(50000000)", {"max_rows_to_read": 1000}, 158),
    ],
)
def test_a_query_at_its_bounds_is_given_up_with_its_code(home: Home, sql: str, settings: dict[str, Any], code: int) -> None:
    async def run() -> None:
        async with home.store() as store:
            error = await caught(store.query(sql, settings=settings, timeout_s=0.4))
            assert (type(error), error.code) == (StoreError, code)

    asyncio.run(run())


def test_a_query_may_bring_settings_of_its_own(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            sql = (
                "SELECT getSetting('max_threads'), getSetting('use_skip_indexes_if_final_exact_mode') SETTINGS max_threads = 3"
            )
            assert await store.query(sql) == [(3, False)]

    asyncio.run(run())


def test_what_a_failed_query_had_already_read_reaches_nobody(home: Home) -> None:
    """The embedded engine would put it in front of the next answer on the same handle."""

    async def run() -> None:
        async with home.store() as store:
            for _ in range(3):
                failing = store.query(SLOW, {"mark": "secret"}, settings={"max_block_size": 1}, timeout_s=0.2)
                assert (await caught(failing)).code == 159
            for _ in range(6):
                assert await store.query("SELECT 'own', 0") == [("own", 0)]

    asyncio.run(run())


def test_queries_run_beside_each_other(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            slow = asyncio.create_task(store.query("SELECT sleepEachRow(0.1) FROM numbers(10)"))
            assert await store.query("SELECT 1") == [(1,)]
            assert not slow.done()
            await slow

    asyncio.run(run())


def test_a_caller_that_gives_up_leaves_the_store_usable(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            tasks = [asyncio.create_task(store.query("SELECT sleepEachRow(0.01) FROM numbers(10)")) for _ in range(4)]
            await store.query("SELECT 1")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await store.query("SELECT 2") == [(2,)]

    asyncio.run(run())


def test_the_schema_is_applied_once_and_can_be_applied_again(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            assert await schema.apply(store) == schema.VERSION
            assert await store.query("SELECT version FROM schema_version FINAL") == [(schema.VERSION,)]

    asyncio.run(run())


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_an_older_version_wrote_is_found_after_the_upgrade(home: Home, owner: Tenant, version: int) -> None:
    async def run() -> None:
        made = (GOLDEN / f"schema-v{version}.sql").read_text().removesuffix(";\n").replace("pulsestream", "upgraded")
        async with other_database(home, "upgraded") as store:
            for statement in made.split(";\n\n"):
                await store.command(statement)
            await store.insert("schema_version", ("version", "applied"), [(version, 1)])
            columns = ("tenant_id", "external_id", "timestamp", "message", "retention_days", "request_size_bytes", "user_agent")
            row = (owner.tenant_id, "id-1", NOW_NS // 1000, "of before", 30, 5, "curl/8")
            await store.insert("events", columns, [row])
            # Collectors may start together.
            assert version in await asyncio.gather(schema.apply(store), schema.apply(store))
            assert await schema.apply(store) == schema.VERSION
            assert await _tables(store) == await _tables(store, "pulsestream")
            assert await _indexes(store) == await _indexes(store, "pulsestream")
            assert await _settings(store) == await _settings(store, "pulsestream")
            (found,) = await store.query(f"SELECT {', '.join(COLUMNS.values())} FROM upgraded.events FINAL")
            shown = event_of(found).shown
            assert shown["metrics"] == {"request_size_bytes": 5}  # its other zeros were not said
            assert shown["context"] == {"user_agent": "curl/8"}
            writer = Writer(store, WriterConfig(commit_interval_s=0.0), Metrics(), clock_ns=lambda: NOW_NS)
            await writer.start()
            (outcome,) = await submit(writer, owner, shaped_record(Event(0, b"two\nlines")))
            traced = {"json": b'{"message":"traced","trace_id":"t1"}\n', "logfmt": b"message=logfmt trace_id=t1\n"}
            for n, (format, line) in enumerate(traced.items()):
                await submit(writer, owner, record(line, format=format, base_offset=9000 + n))
            await writer.stop()
            assert outcome.accepted == 1
            found = await store.query("SELECT message, zero_metrics FROM upgraded.events_live ORDER BY message")
            assert found == [("logfmt", []), ("of before", []), ("traced", []), ("two\nlines", [])]
            assert await store.query("SELECT count() FROM upgraded.events WHERE trace_id = 't1'") == [(2,)]

    asyncio.run(run())


def test_a_newer_schema_is_refused_with_the_mend(home: Home) -> None:
    async def run() -> None:
        async with other_database(home, "newer") as store:
            await schema.apply(store)
            await store.insert("schema_version", ("version", "applied"), [(99, 1)])
            with pytest.raises(ConfigError, match=r"schema version 99, this program knows up to 4; start the version"):
                await schema.apply(store)

    asyncio.run(run())


def test_a_table_that_may_lose_acknowledged_rows_is_refused_with_the_mend(home: Home) -> None:
    async def run() -> None:
        async with other_database(home, "lossy") as store:
            await schema.apply(store)
            await store.command("ALTER TABLE lossy.events MODIFY SETTING fsync_after_insert = 0")
            with pytest.raises(ConfigError, match=r"ALTER TABLE lossy\.events MODIFY SETTING fsync_after_insert = 1"):
                await schema.apply(store)

    asyncio.run(run())


def test_inserts_are_synchronous_and_not_deduplicated_by_the_engine(home: Home) -> None:
    async def run() -> None:
        async with home.store() as store:
            wanted = await store.insert_settings()
            sql = "SELECT name, value FROM system.settings WHERE name IN {names:Array(String)}"
            got = dict(await store.query(sql, {"names": list(wanted)}, settings=wanted))
            assert got == wanted
            assert {"async_insert": "0", "distributed_foreground_insert": "1"}.items() <= got.items()
            assert got.get("deduplicate_insert") == "disable" or got.get("insert_deduplicate") == "0"

    asyncio.run(run())


def test_copies_in_one_part_are_one_event_in_every_read(home: Home, owner: Tenant) -> None:
    """Inserts leave copies in: this is what lets them."""

    async def run() -> None:
        async with home.store() as store:
            columns = ("tenant_id", "external_id", "timestamp", "message", "retention_days", "version", "is_deleted")
            rows = [(owner.tenant_id, f"id-{n % 3}", NOW_NS // 1000, str(n), 30, 100 - n, n == 8) for n in range(9)]
            await store.insert("events", columns, rows)
            assert await rows_of(store, owner, "message") == [("0",), ("1",), ("2",)]
            gone = [(owner.tenant_id, "id-1", NOW_NS // 1000, "", 30, 1000, 1)]
            await store.insert("events", columns, gone)
            assert await rows_of(store, owner, "message") == [("0",), ("2",)]

    asyncio.run(run())


def test_a_nearly_full_disk_is_a_store_that_is_away(embedded: Home) -> None:
    """Embedded only: what stands for a server in these tests inserts without the request's settings."""

    async def run() -> None:
        async with embedded.store() as store:
            columns = ("tenant_id", "external_id", "timestamp", "retention_days")
            full = store.insert(
                "events", columns, [("t", "i", NOW_NS // 1000, 30)], settings={"min_free_disk_ratio_to_perform_insert": "1.0"}
            )
            assert isinstance(await caught(full), StoreAway)

    asyncio.run(run())


def test_a_server_need_not_be_there_when_the_store_is_opened(tmp_path: Path) -> None:
    async def run() -> None:
        front = ClickHouseFront(tmp_path / "data", port=_free_port())
        store = await Store.open(StoreConfig(url=front.url, connect_timeout_s=1.0))
        try:
            assert isinstance(await caught(store.ping()), StoreAway)
            assert isinstance(await caught(store.query("SELECT 1 FROM tenants")), StoreAway)
            await asyncio.to_thread(front.start)
            await _until(store.ping)
            assert isinstance(await caught(store.query("SELECT 1 FROM tenants")), StoreAway)  # not ready yet
            await schema.apply(store)
            assert await store.query("SELECT 1 FROM tenants") == []
            await asyncio.to_thread(front.kill)
            assert isinstance(await caught(store.query("SELECT 1")), StoreAway)
            assert isinstance(await caught(store.insert("tenants", ("tenant_id",), [("x",)])), StoreAway)
            await asyncio.to_thread(front.start)
            await _until(store.ping)
            assert await store.query("SELECT version FROM schema_version") == [(schema.VERSION,)]
        finally:
            await store.close()
            front.stop()

    asyncio.run(run())


def test_an_address_without_a_server_is_away_at_once() -> None:
    async def run() -> None:
        store = await Store.open(StoreConfig(url=f"http://127.0.0.1:{_free_port()}"))
        async with asyncio.timeout(5):
            errors = await asyncio.gather(*(caught(store.query("SELECT 1")) for _ in range(20)))
        await store.close()
        assert all(isinstance(error, StoreAway) for error in errors)
        assert "password" not in str(errors[0])

    asyncio.run(run())


WORKER = """
import asyncio, sys
from collector.ingest.blocks import open_run
from collector.config import StoreConfig, WriterConfig
from collector.metrics import Metrics
from collector.store import schema
from collector.store.store import Store
from collector.writing.writer import Writer
from tests.support.records import NOW_NS, record, tenant

async def main():
    store = await Store.open(StoreConfig(url="chdb://" + sys.argv[1]))
    await schema.apply(store)
    writer = Writer(store, WriterConfig(commit_interval_s=0), Metrics())
    await writer.start()
    for n in range(10**9):
        raw = b"".join(b"%d %d\\n" % (n, k) for k in range(100))
        body = record(raw, base_offset=4096 + n * 10_000) + record(
            raw.replace(b" ", b"0"), base_offset=4096 + n * 10_000, file_id="f" * 16, format="json")
        outcomes = await writer.submit(open_run(body, tenant=tenant(), now_ns=NOW_NS))
        print(n, sum(outcome.accepted for outcome in outcomes), flush=True)

asyncio.run(main())
"""

COUNT = """
import asyncio, sys
from collector.config import StoreConfig, WriterConfig
from collector.metrics import Metrics
from collector.store.store import Store

async def main():
    store = await Store.open(StoreConfig(url="chdb://" + sys.argv[1]))
    print((await store.query("SELECT count(), uniqExact(external_id) FROM events FINAL"))[0])
    await store.close()

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    acked = 0
    for round_ in range(2):
        worker = _python(WORKER, folder)
        assert worker.stdout is not None
        for n in range(5 + round_):
            assert worker.stdout.readline() == f"{n} 200\n"
        acked = max(acked, 5 + round_)
        worker.kill()
        rest = worker.stdout.read()
        acked = max(acked, rest.count(" 200\n") + 5 + round_)
        worker.wait()
        worker.stdout.close()
    count, unique = eval(_output(COUNT, folder))
    assert count == unique
    assert count >= acked * 200


def test_a_second_process_is_refused_and_told_who_has_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    worker = _python(WORKER, folder)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline()
        error = _output(COUNT, folder, fails=True)
        assert f"StoreLocked: another collector, pid {worker.pid}, has this store open: {folder}" in error
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


def test_a_folder_that_cannot_be_made_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def run() -> None:
        with pytest.raises(ConfigError, match=r"file/store: .*name a folder that this user may write"):
            await Store.open(StoreConfig(url=f"chdb://{tmp_path}/file/store"))

    asyncio.run(run())


@asynccontextmanager
async def other_database(home: Home, database: str) -> AsyncIterator[Store]:
    """A store of its own in a running engine. The embedded folder is locked, so there its home is borrowed."""
    config = replace(home.config, database=database)
    async with home.store() as store:
        if home.name != EMBEDDED:
            other = await Store.open(config)
        else:
            await store.command(f"CREATE DATABASE IF NOT EXISTS {database}")
            other = Store(_Renamed(store._home, database), config)  # type: ignore[arg-type]
        try:
            yield other
        finally:
            await store.command(f"DROP DATABASE {database}")
            if home.name != EMBEDDED:
                await other.close()


class _Renamed:
    """The embedded home with another database than the one its handles use."""

    def __init__(self, home: Any, database: str) -> None:
        self._home = home
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._home, name)

    async def insert(self, table: str, *more: Any, **named: Any) -> None:
        await self._home.insert(f"{self._database}.{table}", *more, **named)


async def _tables(store: Store, database: str = "") -> list[tuple[Any, ...]]:
    """Every column of every table and view."""
    return await store.query(
        "SELECT table, position, name, type, default_expression, compression_codec FROM system.columns "
        "WHERE database = {database:String} AND NOT startsWith(table, '.') ORDER BY table, position",
        {"database": database or store.database},
    )


async def _indexes(store: Store, database: str = "") -> list[tuple[Any, ...]]:
    return await store.query(
        "SELECT table, name, type_full, expr, granularity FROM system.data_skipping_indices "
        "WHERE database = {database:String} ORDER BY table, name",
        {"database": database or store.database},
    )


async def _settings(store: Store, database: str = "") -> set[str]:
    """Of the table of events; the order in which they were given does not matter."""
    ((engine,),) = await store.query(
        "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = 'events'",
        {"database": database or store.database},
    )
    return set(engine.partition(" SETTINGS ")[2].split(", "))


async def _until(call: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await call()
            except StoreAway:
                await asyncio.sleep(0.05)
            else:
                return


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _python(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def _output(program: str, folder: Path, *, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S,
        check=False,
    )  # fmt: skip
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr if fails else done.stdout
