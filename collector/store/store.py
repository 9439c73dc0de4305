"""The store: one set of calls for the engine inside this process (``chdb:///folder``) and for a server (``http://…``).

- Every error of the engine or of the way to it becomes `StoreAway` (try again: nothing is wrong with the statement) or
  `StoreError` (with the engine's code); `away` decides. The engine's text stays inside the error, for the log.
- Every insert carries `insert_settings`: synchronous, not deduplicated by the engine (the table does that), without
  building the indexes of words, refused while the disk is nearly full. What an older engine does not know is left out; that
  the engine really uses them is checked by `collector.store.schema.check`.
- Every query has bounds on time, memory, rows and threads, and prunes under FINAL by `schema.READ_SETTINGS`. What a
  caller passes in ``settings`` goes over them.
- Until the schema is applied (`ready`), a missing table or database means that the store is not there yet: `StoreAway`.

Times come back as naive datetimes in UTC. Text that is not UTF-8 comes back as hex digits: select ``toValidUTF8(…)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, OperationalError

from collector.config import StoreConfig
from collector.errors import StoreAway, StoreError
from collector.store import schema
from collector.store.embedded import Embedded
from collector.store.served import Served

INSERT_SETTINGS = {
    "async_insert": "0",
    "distributed_foreground_insert": "1",
    # Copies inside one insert are left to FINAL like all others: looking for them took half of an insert's CPU.
    "optimize_on_insert": "0",
    "exclude_materialize_skip_indexes_on_insert": f"{schema.WORD_INDEX}, {schema.TITLE_INDEX}",
    # Smaller blocks between the steps of a view: a fifth less memory, for the same time.
    "max_block_size": "8192",
    # To join the steps of a view costs as much as all else of an insert of one line, and no row is made sooner for it.
    "query_plan_merge_expressions": "0",
    # Times are bounded before, to the tenant's retention; this is for many classes of it in one commit.
    "max_partitions_per_insert_block": "1000",
}
NO_ENGINE_DEDUPLICATION = ({"deduplicate_insert": "disable"}, {"insert_deduplicate": "0"})
"""The first that the engine knows."""

ENGINES_QUERY_SIZE = 262_144
"""The engine's own limit on the bytes of a statement."""

GRACE_S = 5.0
"""The engine ends a query at its time limit by itself; this much later it is taken for dead."""

_AWAY = frozenset(
    {
        3,  # unexpected end of file on the connection
        159,  # time limit
        202,  # too many queries at once
        209, 210, 279,  # connections
        225, 999,  # the cluster's keeper
        236,  # the server is stopping
        242,  # table is read-only: replica without its keeper
        241,  # memory limit of the server
        243,  # disk nearly full
        285, 286, 319,  # quorum
        439, 1000,  # no threads
    }
)  # fmt: skip
_AWAY_TEXTS = ("No space left on device", "Too many open files", "Read-only file system", "Too many parts")
_BOUNDS = frozenset({159, 241})
"""Limits of one query when reading: the query is too dear, the store is there."""
_MISSING = frozenset({60, 81})
"""Unknown table, unknown database."""
_CONNECTION = (OSError, asyncio.TimeoutError, EOFError)

Row = tuple[Any, ...]


class _Compact(msgspec.Struct):
    """The engine's format JSONCompact, as far as it is read."""

    data: list[list[Any]]


_compact = msgspec.json.Decoder(_Compact)
T = TypeVar("T")


class Home(Protocol):
    """Where the engine is."""

    unclean: bool

    async def open(self) -> None: ...

    async def settings(self) -> Mapping[str, str]: ...

    async def query(self, sql: str, params: Mapping[str, Any] | None, settings: Mapping[str, str]) -> list[Row]: ...

    async def insert(
        self,
        table: str,
        columns: Sequence[str],
        types: Sequence[str],
        data: Sequence[Sequence[Any]],
        settings: Mapping[str, str],
    ) -> None: ...

    async def insert_native(
        self, table: str, columns: Sequence[str], blocks: Sequence[bytes], settings: Mapping[str, str]
    ) -> None: ...

    async def query_plain(self, sql: str, settings: Mapping[str, str]) -> bytes: ...

    async def command(self, sql: str, params: Mapping[str, Any] | None) -> None: ...

    async def close(self) -> None: ...


class Store:
    """Made by `open`; the calls may be used from many tasks at once."""

    def __init__(self, home: Home, config: StoreConfig) -> None:
        self._home = home
        self._config = config
        self._types: dict[str, dict[str, str]] = {}
        self._known: Mapping[str, str] | None = None
        self.database = config.database
        self.place = config.url
        """For messages; carries no credentials."""
        self.ready = False
        """The schema is applied; set by `collector.store.schema.apply`."""
        self.cluster = ""
        """Whose tables these are, replicated and sharded; empty: those of one server. Set by `collector.store.schema.check`."""
        self.tried: dict[Hashable, bool] = {}
        """What `collector.writing.trials` has found out about it."""

    @property
    def unclean(self) -> bool:
        """It was open when its process, or its machine, ended. A server knows that of itself."""
        return self._home.unclean

    def examined(self) -> None:
        """What an end like that may have damaged was looked for."""
        self._home.unclean = False

    @classmethod
    async def open(cls, config: StoreConfig) -> Store:
        """Open the store that ``config.url`` names. A server need not be up; see `collector.store.served`.

        Raises:
            StoreLocked: another process has the embedded store open.
            ConfigError: the folder cannot be used, or the embedded engine is not installed.
            StoreError: the embedded engine does not start.
        """
        home = _home(config)
        store = cls(home, config)
        await store._called(home.open())
        return store

    async def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> list[Row]:
        """The rows of a SELECT. ``{name:Type}`` in it is bound from ``params``.

        Raises:
            StoreError: the engine refused it, or gave it up at a bound (159 time, 241 memory, 158 rows).
            StoreAway: it cannot be answered now.
        """
        limit_s = self._config.query_timeout_s if timeout_s is None else timeout_s
        async with _deadline(limit_s + GRACE_S):
            return await self._called(self._home.query(sql, params, self._bounds(limit_s, settings)), reading=True)

    async def query_plain(self, sql: str, *, settings: Mapping[str, Any] | None = None) -> list[list[Any]]:
        """The rows of a SELECT that is sent as it is: for statements of some hundred KB, which the client would search
        for placeholders and comments again and again. Texts, numbers and lists only. Raises as `query`."""
        limit_s = self._config.query_timeout_s
        async with _deadline(limit_s + GRACE_S):
            # In the statement: the embedded engine's client sets and resets each setting that is passed beside a plain one,
            # which takes four times as long as the query. The size of the statement cannot be said inside it.
            using = ", ".join(f"{name} = '{value}'" for name, value in self._bounds(limit_s, settings).items())
            plain = f"{sql} SETTINGS {using} FORMAT JSONCompact"
            size = len(plain) * 4
            beside = {"max_query_size": str(size)} if size > ENGINES_QUERY_SIZE else {}
            answer = await self._called(self._home.query_plain(plain, beside), reading=True)
        return _compact.decode(answer).data

    def _bounds(self, limit_s: float, settings: Mapping[str, Any] | None) -> dict[str, str]:
        bounds = {
            **schema.READ_SETTINGS,
            "max_execution_time": str(limit_s),
            "max_memory_usage": str(self._config.max_query_memory_bytes),
            "max_rows_to_read": str(self._config.max_query_rows),
            "max_threads": str(self._config.max_query_threads),
        }
        bounds.update((name, str(value)) for name, value in (settings or {}).items())
        return bounds

    async def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Insert rows; returns when the engine has them on disk. Raises StoreError, StoreAway."""
        using = await self.insert_settings()
        using.update((name, str(value)) for name, value in (settings or {}).items())
        types = await self._types_of(table, columns)
        try:
            await self._called(self._home.insert(table, columns, types, rows, using))
        except StoreError:
            self._types.pop(table, None)
            raise

    async def insert_blocks(self, table: str, names: Sequence[str], blocks: Sequence[bytes]) -> None:
        """As `insert`, of blocks in the engine's own format (`collector.store.native`): for many rows at a time.

        Args:
            names: all columns that a block may have.
        """
        await self._called(self._home.insert_native(table, names, blocks, await self.insert_settings()))

    async def insert_from(self, table: str, columns: Sequence[str], select: str, params: Mapping[str, Any]) -> None:
        """Insert what a SELECT finds; returns when the engine has it on disk. Raises StoreError, StoreAway."""
        using = ", ".join(f"{name} = '{value}'" for name, value in (await self.insert_settings()).items())
        await self.command(f"INSERT INTO {table} ({', '.join(columns)}) SETTINGS {using} {select}", params)

    async def command(self, sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Run a statement that answers no rows. Raises StoreError, StoreAway."""
        await self._called(self._home.command(sql, params))

    async def ping(self) -> None:
        """Raises StoreAway or StoreError when the engine does not answer a trivial query."""
        await self.query("SELECT 1", timeout_s=self._config.connect_timeout_s)

    async def close(self) -> None:
        """Wait for what the embedded engine is doing, and end it."""
        await self._home.close()

    async def insert_settings(self) -> dict[str, str]:
        """What every insert carries, as far as this engine knows it."""
        if self._known is None:
            self._known = await self._called(self._home.settings())
        ratio = {"min_free_disk_ratio_to_perform_insert": f"{self._config.min_free_disk_ratio:g}"}
        quorum = {"insert_quorum": "auto"} if self.cluster else {}
        wanted = {name: value for name, value in {**INSERT_SETTINGS, **ratio, **quorum}.items() if name in self._known}
        plain = next((option for option in NO_ENGINE_DEDUPLICATION if option.keys() <= self._known.keys()), {})
        return {**wanted, **plain}

    async def _types_of(self, table: str, columns: Sequence[str]) -> list[str]:
        known = self._types.get(table)
        if known is None:
            sql = "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}"
            known = dict(await self.query(sql, {"database": self.database, "table": table}))
            if not known:
                raise (StoreError if self.ready else StoreAway)(60, f"there is no table {self.database}.{table}")
            self._types[table] = known
        return [known[column] for column in columns]

    async def _called(self, call: Awaitable[T], *, reading: bool = False) -> T:
        try:
            return await call
        except Error as error:
            raise self._translated(error, reading) from error
        except (ClickHouseError, *_CONNECTION) as error:
            raise StoreAway(message=f"{self.place}: {_text(error)}") from error

    def _translated(self, error: Error, reading: bool) -> StoreError:
        code, text = error.code or 0, f"{self.place}: {_text(error)}"
        if away(code, text, reading=reading) or (code in _MISSING and not self.ready):
            return StoreAway(code, text)
        if code == 0 and isinstance(error, OperationalError):
            return StoreAway(0, text)
        return StoreError(code, text)


def away(code: int, text: str, *, reading: bool) -> bool:
    """Whether an engine's error says that it cannot work now, rather than that the statement is wrong.

    A time or memory limit met while reading is the query's own; met by an insert it is a store that is too busy.
    """
    if reading and code in _BOUNDS:
        return code == 241 and "(total)" in text
    return code in _AWAY or any(part in text for part in _AWAY_TEXTS)


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StoreAway(message=f"no answer within {seconds:g} s") from None


def _home(config: StoreConfig) -> Home:
    url = urlsplit(config.url)
    if url.scheme == "chdb":
        return Embedded(Path(url.path), config.database, config.readers)
    return Served(config)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
