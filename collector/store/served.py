"""A ClickHouse server over HTTP.

- Opening needs no server. The first call connects, and so does every later one until it succeeded; calls that come at
  the same time share one attempt, and for a moment after a failed one the answer is its error.
- Requests are independent of each other: no sessions, so a server that comes back is simply used again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import lz4.frame
from clickhouse_connect.driver.asyncclient import AsyncClient

from collector.config import StoreConfig

AGAIN_S = 0.5
"""After a failed attempt to connect, its error answers for so long."""
INSERT_TIMEOUT_S = 60.0
"""For a commit: an answer later than this no longer finds its callers."""
INLINE_BYTES = 512 << 10
"""So much is packed in less time than a thread needs to take over."""


class Served:
    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self.unclean = False
        self._readers = asyncio.Semaphore(config.readers)
        self._client: AsyncClient | None = None
        self._attempt: asyncio.Task[AsyncClient] | None = None
        self._failed_at = 0.0

    async def open(self) -> None:
        """Nothing to do: see the module head."""

    async def settings(self) -> Mapping[str, str]:
        """The engine's settings and their values."""
        return {name: setting.value for name, setting in (await self._connected()).server_settings.items()}

    async def query(self, sql: str, params: Mapping[str, Any] | None, settings: Mapping[str, str]) -> list[tuple[Any, ...]]:
        client = await self._connected()
        async with self._readers:
            result = await client.query(sql, parameters=dict(params or {}), settings=dict(settings))
            return [tuple(row) for row in result.result_rows]

    async def query_plain(self, sql: str, settings: Mapping[str, str]) -> bytes:
        client = await self._connected()
        async with self._readers:
            return await client.raw_query(sql, settings=dict(settings))

    async def insert(
        self,
        table: str,
        columns: Sequence[str],
        types: Sequence[str],
        data: Sequence[Sequence[Any]],
        settings: Mapping[str, str],
    ) -> None:
        client = await self._connected()
        async with asyncio.timeout(INSERT_TIMEOUT_S):
            await client.insert(
                table,
                data,
                column_names=columns,
                column_type_names=types,
                settings=dict(settings),
            )

    async def insert_native(
        self, table: str, columns: Sequence[str], blocks: Sequence[bytes], settings: Mapping[str, str]
    ) -> None:
        client = await self._connected()
        body = b"".join(blocks)
        packed = lz4.frame.compress(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(lz4.frame.compress, body)
        async with asyncio.timeout(INSERT_TIMEOUT_S):
            await client.raw_insert(table, columns, packed, settings=dict(settings), fmt="Native", compression="lz4")

    async def command(self, sql: str, params: Mapping[str, Any] | None) -> None:
        client = await self._connected()
        async with asyncio.timeout(INSERT_TIMEOUT_S):
            await client.command(sql, parameters=dict(params or {}))

    async def close(self) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connected(self) -> AsyncClient:
        if self._client is not None:
            return self._client
        stale = self._attempt is None or (self._attempt.done() and time.monotonic() - self._failed_at >= AGAIN_S)
        if stale:
            self._attempt = asyncio.create_task(self._connect())
            # Its error is for those who wait for it; nobody may be left when it comes.
            self._attempt.add_done_callback(lambda attempt: attempt.cancelled() or attempt.exception())
        assert self._attempt is not None
        return await asyncio.shield(self._attempt)

    async def _connect(self) -> AsyncClient:
        try:
            self._client = await self._made()
        except BaseException:
            self._failed_at = time.monotonic()
            raise
        return self._client

    async def _made(self) -> AsyncClient:
        config, url = self._config, urlsplit(self._config.url)
        client = await clickhouse_connect.get_async_client(
            interface=url.scheme,
            host=url.hostname,
            port=url.port or (8443 if url.scheme == "https" else 8123),
            username=config.user,
            password=config.password,
            ca_cert=config.ca_file or None,
            connect_timeout=config.connect_timeout_s,
            send_receive_timeout=max(config.query_timeout_s, INSERT_TIMEOUT_S) + config.connect_timeout_s,
            client_name="pulsestream-collector",
            connector_limit=config.readers + 4,
            connector_limit_per_host=config.readers + 4,
        )
        try:
            await _use(client, config.database)
        except BaseException:
            await client.close()
            raise
        return client


async def _use(client: AsyncClient, database: str) -> None:
    """Make the database if it is not there. Looked for first: the user need not be allowed to make one."""
    found = await client.query(
        "SELECT count() FROM system.databases WHERE name = {database:String}", parameters={"database": database}
    )
    if not found.result_rows[0][0]:
        await client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.database = database
