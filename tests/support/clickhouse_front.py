"""ClickHouse's HTTP interface with the real engine (chDB) behind it, in a process of its own.

What it promises to a test:
- The SQL, storage, settings and errors are the engine's own; only the HTTP side is written here.
- Every request gets its own engine connection. Settings and database are set on it and go away with it, so nothing
  leaks into the next request. Requests run side by side: one worker thread each, and the engine releases the GIL.
- A database folder outlives the process: after ``kill -9`` the next start opens the same data.
- SIGTERM ends it cleanly: running queries get a moment, then they are killed in the engine, and the engine closes.

How it differs from a server:
- Sessions, roles, users, external data and block compression (``compress=1``) are not there; a session id and
  credentials are accepted and ignored.
- A result is built whole before it is sent, so an error never arrives in the middle of one, and it is not compressed.
- Inserts are always synchronous: ``async_insert=1`` is accepted and has no effect.
- A query goes on when its client hangs up, until ``max_execution_time`` or ``KILL QUERY`` ends it.
- There is no ``system.query_log``, and ``query_id`` is echoed but not given to the engine.

``tests.support.engine`` starts it for a test; by hand it is
``python -m tests.support.clickhouse_front --data DIR --port 8123``.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import gzip
import importlib
import io
import json
import os
import random
import re
import signal
import socket
import sys
import uuid
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
from aiohttp import web

from tests.support.clickhouse_statements import EngineError, Insert, Query, parse

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Running queries get this long to end after SIGTERM, then they are killed in the engine.
DRAIN_DEADLINE_S = 1.0
# Requests that run at the same time; more wait for a free worker.
WORKERS = 64
MAX_BODY_BYTES = 1 << 30

# Below Linux's ephemeral range. A port inside it could be taken by an outgoing connection between kill() and start(),
# even by a client's own retry to that very port (TCP lets a loopback socket connect to itself).
PORTS = range(20000, 32000)

# URL parameters that are the interface's own; every other one is a setting (src/Server/HTTPHandler.cpp).
RESERVED_PARAMETERS = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "user",
        "wait_end_of_query",
    }
)

# Of the X-ClickHouse-Summary header; a count the engine does not give is 0.
SUMMARY_FIELDS = (
    "read_rows",
    "read_bytes",
    "written_rows",
    "written_bytes",
    "total_rows_to_read",
    "result_rows",
    "result_bytes",
    "elapsed_ns",
)

# As src/Server/HTTP/exceptionCodeToHTTPStatus.cpp has it; an error not listed is a 500.
STATUS_OF_ERROR: dict[str, int] = {
    name: status
    for status, names in {
        400: """BAD_ARGUMENTS CANNOT_COMPILE_REGEXP CANNOT_PARSE_TEXT CANNOT_PARSE_ESCAPE_SEQUENCE
            CANNOT_PARSE_QUOTED_STRING CANNOT_PARSE_DATE CANNOT_PARSE_DATETIME CANNOT_PARSE_NUMBER
            CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING CANNOT_PARSE_IPV4 CANNOT_PARSE_IPV6 CANNOT_PARSE_UUID
            CANNOT_PARSE_INPUT_ASSERTION_FAILED DUPLICATE_COLUMN ILLEGAL_COLUMN THERE_IS_NO_COLUMN
            UNKNOWN_ELEMENT_IN_AST UNKNOWN_TYPE_OF_AST_NODE TOO_DEEP_AST TOO_BIG_AST UNEXPECTED_AST_STRUCTURE
            SYNTAX_ERROR INCORRECT_DATA TYPE_MISMATCH VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE""",
        403: "ACCESS_DENIED SET_NON_GRANTED_ROLE",
        404: """UNKNOWN_TABLE UNKNOWN_FUNCTION UNKNOWN_IDENTIFIER UNKNOWN_TYPE UNKNOWN_STORAGE UNKNOWN_DATABASE
            UNKNOWN_SETTING UNKNOWN_DIRECTION_OF_SORTING UNKNOWN_AGGREGATE_FUNCTION UNKNOWN_FORMAT
            UNKNOWN_DATABASE_ENGINE UNKNOWN_TYPE_OF_QUERY UNKNOWN_ROLE""",
        408: "TIMEOUT_EXCEEDED",
        413: "QUERY_IS_TOO_LARGE",
        501: "NOT_IMPLEMENTED",
        503: "SOCKET_TIMEOUT CANNOT_OPEN_FILE CANNOT_SCHEDULE_TASK",
    }.items()
    for name in names.split()
}


# The engine.


@dataclass(frozen=True, slots=True)
class Call:
    """One request, free of HTTP."""

    statement: Query | Insert
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    result_format: str | None
    summary: dict[str, str]


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _identifier(text: str) -> str:
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Engine:
    """The one chDB engine of this process. Methods are safe to call from several threads."""

    def __init__(self, path: Path, backups: Path | None = None) -> None:
        """``backups``: a folder that BACKUP and RESTORE may use."""
        chdb: Any = importlib.import_module("chdb")  # here: the tests' own process never loads the engine

        if "?" in str(path):
            raise ValueError(f"{path}: chDB takes what follows '?' for options; choose another folder")
        self._connect = chdb.connect
        self._path = f"{path}?backups.allowed_path={backups}/" if backups else str(path)
        self._keep_open = self._connect(self._path)  # the engine shuts down with its last connection
        version, self.time_zone = self._keep_open.query("SELECT version(), timezone()", "TSV").bytes().decode().split()
        self.version_note = f" (version {version})"

    def run(self, call: Call) -> Answer:
        """Run one statement on a connection of its own.

        Raises:
            EngineError: the engine refused the statement, a setting or the database.
        """
        connection = self._connect(self._path)
        try:
            if call.database:
                connection.query(f"USE {_identifier(call.database)}", "TSV")
            if call.settings:
                pairs = ", ".join(f"{name} = {_literal(value)}" for name, value in call.settings.items())
                connection.query(f"SET {pairs}", "TSV")
            if isinstance(call.statement, Insert):
                return _insert(connection, call.statement, call.parameters)
            return _query(connection, call.statement, call.parameters)
        except EngineError:
            raise
        except Exception as error:  # chDB raises ChdbError and plain RuntimeError
            raise EngineError.of(error) from error
        finally:
            connection.close()

    def kill_queries(self) -> None:
        self._keep_open.query("KILL QUERY WHERE query NOT LIKE 'KILL QUERY%' ASYNC", "TSV")

    def close(self) -> None:
        self._keep_open.close()


def _query(connection: Any, query: Query, parameters: Mapping[str, str]) -> Answer:
    result = connection.query(query.sql, query.default_format, params=dict(parameters))
    summary = _summary(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        elapsed_s=result.elapsed(),
    )
    return Answer(result.bytes() or b"", query.result_format, summary)


def _insert(connection: Any, insert: Insert, parameters: Mapping[str, str]) -> Answer:
    for name, value in parameters.items():
        connection.query(f"SET param_{name} = {_literal(value)}", "TSV")
    with connection.send_insert(insert.head, insert.format) as stream:
        if insert.data:
            stream.append(insert.data)
        done = stream.finish()
    summary = _summary(
        read_rows=done.rows_written,
        read_bytes=done.bytes_written,
        written_rows=done.rows_written,
        written_bytes=done.bytes_written,
        elapsed_s=done.elapsed,
    )
    return Answer(b"", None, summary)


def _summary(*, elapsed_s: float, **counts: int) -> dict[str, str]:
    counts["elapsed_ns"] = int(elapsed_s * 1_000_000_000)
    return {name: str(counts.get(name, 0)) for name in SUMMARY_FIELDS}


# HTTP.


def _decompress(body: bytes, encoding: str) -> bytes:
    try:
        match encoding:
            case "" | "identity":
                return body
            case "gzip":
                return gzip.decompress(body)
            case "deflate":
                return zlib.decompress(body)
            case "lz4":
                with lz4.frame.open(io.BytesIO(body)) as frames:
                    return bytes(frames.read())
            case "zstd":
                return bytes(zstd.decompress(body))
    except (OSError, EOFError, RuntimeError, zlib.error, zstd.ZstdError) as error:
        raise EngineError.refused("CANNOT_DECOMPRESS", f"Cannot decompress the {encoding} body: {error}") from error
    raise EngineError.refused("UNKNOWN_COMPRESSION_METHOD", f"Unknown compression method: {encoding}")


def _settings(arguments: Mapping[str, str], *, read_only: bool) -> dict[str, str]:
    settings = {k: v for k, v in arguments.items() if k not in RESERVED_PARAMETERS and not k.startswith("param_")}
    for name in settings:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
            raise EngineError.refused("UNKNOWN_SETTING", f"Unknown setting '{name}'")
    if read_only:
        settings.setdefault("readonly", "2")
    return settings


def _call(request: web.BaseRequest, body: bytes, form: Mapping[str, str]) -> Call:
    arguments = dict(request.query) | dict(form)
    for name in ("compress", "decompress"):
        if arguments.get(name, "0") not in ("0", "false"):
            raise EngineError.refused("NOT_IMPLEMENTED", f"{name}=1 is not there; use Content-Encoding")
    head = arguments.get("query", "").encode("utf-8", "surrogateescape")
    data = _decompress(body, request.headers.get("Content-Encoding", ""))
    sql = head + b"\n" + data if head and data else head or data
    default_format = request.headers.get("X-ClickHouse-Format") or arguments.get("default_format") or "TabSeparated"
    statement = parse(sql, default_format=default_format)
    parameters = {k.removeprefix("param_"): v for k, v in arguments.items() if k.startswith("param_")}
    for name in parameters:
        if not re.fullmatch(r"\w+", name):
            raise EngineError.refused("BAD_ARGUMENTS", f"Bad parameter name '{name}'")
    database = str(arguments.get("database") or request.headers.get("X-ClickHouse-Database", ""))
    return Call(statement, database, _settings(arguments, read_only=request.method == "GET"), parameters)


class Front:
    """Turns HTTP requests into engine calls. One instance per process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="query")

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/ping", self._ping)
        app.router.add_route("*", "/", self._run)
        return app

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _run(self, request: web.Request) -> web.Response:
        if request.method == "GET" and "query" not in request.query:
            return web.Response(text="Ok.\n")
        headers = {
            "X-ClickHouse-Query-Id": request.query.get("query_id") or str(uuid.uuid4()),
            "X-ClickHouse-Timezone": self._engine.time_zone,
        }
        body, form = b"", {}
        if request.content_type == "multipart/form-data":
            form = {name: field for name, field in (await request.post()).items() if isinstance(field, str)}
        else:
            body = await request.read()

        def work() -> Answer:  # in a worker: decompressing and scanning a large body takes long as well
            return self._engine.run(_call(request, body, form))

        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._workers, work)
        except EngineError as error:
            note = "" if "(version " in error.message else self._engine.version_note
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            status = STATUS_OF_ERROR.get(error.name, 500)
            return web.Response(status=status, text=f"{error.message}{note}\n", headers=headers)
        headers["X-ClickHouse-Summary"] = json.dumps(answer.summary)
        if answer.result_format is not None:
            headers["X-ClickHouse-Format"] = answer.result_format
        headers["Content-Type"] = "text/plain; charset=UTF-8"
        return web.Response(body=answer.body, headers=headers)

    def close(self) -> None:
        self._workers.shutdown(wait=True)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 means a free one of ``PORTS``."""
    choices = [port] if port else random.sample(PORTS, 50)
    for choice in choices:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, choice))
            sock.listen(512)
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"{host}: no free port among {choices}")


async def serve(data: Path, host: str, port: int, *, backups: Path | None, until_stdin_closes: bool) -> None:
    """Open the engine, answer requests until SIGTERM, then close the engine."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    engine = Engine(data, backups)
    sock = _listen(host, port)  # after the engine: until it is open, connections are refused, as by a starting server
    # After the engine: it may install handlers of its own when it opens.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), stop.set)  # nobody writes to it: readable means the parent is gone
    front = Front(engine)
    app = front.application()
    runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=DRAIN_DEADLINE_S)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    print(json.dumps({"port": sock.getsockname()[1], "pid": os.getpid()}), flush=True)
    await stop.wait()
    await runner.cleanup()
    engine.kill_queries()
    front.close()
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="ClickHouse's HTTP interface over chDB, for tests")
    parser.add_argument("--data", type=Path, required=True, help="database folder; created when missing")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--backups", type=Path, help="folder for BACKUP and RESTORE")
    parser.add_argument("--until-stdin-closes", action="store_true", help="also stop when the parent goes away")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    serving = serve(
        options.data, options.host, options.port, backups=options.backups, until_stdin_closes=options.until_stdin_closes
    )
    asyncio.run(serving)


if __name__ == "__main__":
    main()
