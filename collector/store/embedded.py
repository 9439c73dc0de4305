"""The engine inside this process: one folder, one process, one handle per thread.

- The folder is locked with a `flock` of our own for as long as the store is open. The engine has one too, but what it
  says about it is obscure; ours names the process that has the store.
- Inserts and statements that change something run on two threads, one for each lane of the writer, queries on
  ``readers`` others. The engine releases the GIL, so they run side by side. A call that was given up by its caller still
  runs to its end in its thread.
- A handle that saw an error is closed and never used again. The engine keeps the output that a failed query had already
  made, and puts it in front of the next result on the same handle: one tenant's rows in another tenant's answer.

Known limit: the engine allows one folder per process, also after the first was closed while handles are open.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from clickhouse_connect.driver.client import Client

from collector.errors import ConfigError, StoreLocked

WRITERS = 2
LOCK_FILE = "pulsestream.lock"
OPEN_FILE = "pulsestream.open"
"""There while the store is open: found at a start, the one before did not end well."""

ENGINE_OPTIONS = {
    # The defaults are those of a server that has its machine to itself: caches of 5 GiB each, nine tenths of the memory.
    "max_server_memory_usage_to_ram_ratio": "0.5",
    "mark_cache_size": str(128 << 20),
    "index_mark_cache_size": str(32 << 20),
    "primary_index_cache_size": str(128 << 20),
    "uncompressed_cache_size": "0",
}

T = TypeVar("T")


class Embedded:
    def __init__(self, folder: Path, database: str, readers: int) -> None:
        self._folder = folder
        self._database = database
        self._readers = readers
        self._lock_fd = -1
        self.unclean = True
        self._writing = _Handles(self._connect, WRITERS, "store-write")
        self._reading = _Handles(self._connect, readers, "store-read")

    async def open(self) -> None:
        """Lock the folder and start the engine. Raises ConfigError, StoreLocked, or the engine's own error."""
        _need_engine()
        self._lock_fd = _lock(self._folder)
        try:
            unclean = _marked(self._folder / OPEN_FILE)
            await self._writing.run(lambda client: client.query("SELECT 1"))
            self.unclean = unclean
        except BaseException:
            await self.close()
            raise

    async def settings(self) -> Mapping[str, str]:
        """The engine's settings and their values."""
        return await self._writing.run(lambda client: {k: v.value for k, v in client.server_settings.items()})

    async def query(self, sql: str, params: Mapping[str, Any] | None, settings: Mapping[str, str]) -> list[tuple[Any, ...]]:
        def work(client: Client) -> list[tuple[Any, ...]]:
            result = client.query(sql, parameters=dict(params or {}), settings=dict(settings))
            return [tuple(row) for row in result.result_rows]

        return await self._reading.run(work)

    async def query_plain(self, sql: str, settings: Mapping[str, str]) -> bytes:
        return await self._reading.run(lambda client: client.raw_query(sql, settings=dict(settings)))

    async def insert(
        self,
        table: str,
        columns: Sequence[str],
        types: Sequence[str],
        data: Sequence[Sequence[Any]],
        settings: Mapping[str, str],
    ) -> None:
        def work(client: Client) -> None:
            client.insert(
                table,
                data,
                column_names=columns,
                column_type_names=types,
                settings=dict(settings),
            )

        await self._writing.run(work)

    async def insert_native(
        self, table: str, columns: Sequence[str], blocks: Sequence[bytes], settings: Mapping[str, str]
    ) -> None:
        body = b"".join(blocks)
        await self._writing.run(lambda client: client.raw_insert(table, columns, body, settings=dict(settings), fmt="Native"))

    async def command(self, sql: str, params: Mapping[str, Any] | None) -> None:
        await self._writing.run(lambda client: client.command(sql, parameters=dict(params or {})))

    async def close(self) -> None:
        """Wait for what runs, end the engine, give the folder free."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reading.close()
        self._writing.close()
        if self._lock_fd >= 0:
            if not self.unclean:  # else nobody has looked for damage yet
                (self._folder / OPEN_FILE).unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _connect(self) -> Client:
        import clickhouse_connect

        client = clickhouse_connect.get_client(interface="chdb", path=str(self._folder), chdb_options=ENGINE_OPTIONS)
        client.command(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        client.database = self._database
        return client


class _Handles:
    """Threads, and a client for each that is at work."""

    def __init__(self, connect: Callable[[], Client], threads: int, name: str) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(threads, name)
        self._free: SimpleQueue[Client] = SimpleQueue()

    async def run(self, work: Callable[[Client], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def _run(self, work: Callable[[Client], T]) -> T:
        client = self._connect() if self._free.empty() else self._free.get()
        try:
            result = work(client)
        except BaseException:
            _discard(client)
            raise
        self._free.put(client)
        return result

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._free.empty():
            _discard(self._free.get())


def _discard(client: Client) -> None:
    with suppress(Exception):
        client.close()


def _need_engine() -> None:
    try:
        import chdb  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"store.url: the embedded engine is not installed ({error}); install pulsestream[embedded], or name a "
            "server with http://host:8123"
        ) from None


def _marked(path: Path) -> bool:
    """Mark the folder as open. Returns whether it was so."""
    was = path.exists()
    with path.open("w") as file:
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    return was


def _lock(folder: Path) -> int:
    """Lock the folder, which is made if missing. Returns the descriptor that holds the lock while it is open."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(
            f"store.url: {folder}: {error.strerror}; name a folder that this user may write, or give it to the user"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StoreLocked(f"another collector, pid {holder}, has this store open: {folder}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
