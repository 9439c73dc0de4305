"""What a running agent says of itself: over a socket in its state folder, to the ``status`` command and to scripts.

The answer is one JSON object, shaped as `snapshot` says. Nothing is written to disk for it, so an idle agent stays idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent import wire
from agent.ledger import Ledger
from agent.logs import Fault
from agent.reading.reader import Reader
from agent.scope import Scope
from agent.spool.spool import Spool

log = logging.getLogger("agent.status")

SOCKET = "agent.sock"
SPOOL = "spool"
"""The spool's folder in the state folder."""
RETRY_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_RUN_BYTES = 1 << 20
_decode_answer = msgspec.json.Decoder(dict[str, Any]).decode


def snapshot(reader: Reader, spool: Spool, ledger: Ledger, scope: Scope, *, pid: int) -> dict[str, Any]:
    """Counts since the start and the state of every file; bytes are bytes of the source files unless named otherwise."""
    files = []
    for tail in list(reader.catalog.tails.values()):
        state = tail.state
        offset = state.offset if state else tail.size * tail.is_copy
        unread = tail.unread if state else tail.size - offset
        files.append(
            {
                "path": tail.name,
                "source": tail.source,
                "file_id": (state.body_id or state.head_id) if state else None,
                "size_bytes": offset + unread if tail.packed else tail.size,
                "read_offset": offset,
                "acked_offset": ledger.acked_to(state.origin) if state else None,
                "unread_bytes": unread,
                "skipped_bytes": state.skipped if state else 0,
                "state": "followed" if state else "copy" if tail.is_copy else "undecided",
                "compressed_bytes": tail.disk_size if tail.packed else None,
                "error": tail.error or None,
            }
        )
    counts = ledger.counts()
    return {
        "pid": pid,
        "tenant_id": ledger.tenant_id or None,
        "retention_days": ledger.retention_days or None,
        "scope": scope.value,
        "scope_from": scope.taken_from,
        "warnings": [scope.warning] if scope.warning else [],
        "sending": ledger.sending,
        "reading": "waiting for room in the spool" if reader.blocked else "ok",
        "spool_bytes": spool.size_bytes,
        "unread_bytes": reader.unread_bytes(),
        "drained": reader.has_looked and spool.drained,
        "lost_bytes": counts.get("lost_bytes", 0),
        "losses": ledger.losses(),
        "held_bytes": reader.bounds.held_bytes,
        "ignored_files": sum(files for files, _ in reader.walk.ages.ignored.values()),
        "ignored_bytes": sum(size for _, size in reader.walk.ages.ignored.values()),
        "counts": counts,
        "files": sorted(files, key=lambda file: str(file["path"])),
    }


def kept_state(state: Path) -> Spool | None:
    """The spool as it lies in a state folder, if there is one; it is only read. Raises StateRefused."""
    folder = state / SPOOL
    return Spool(folder, segment_bytes=1, max_bytes=1, read_only=True) if folder.is_dir() else None


def resting(state: Path) -> dict[str, Any]:
    """What the state folder says while no agent runs on it. Raises StateRefused."""
    spool = kept_state(state)
    known = spool.recovery.states.values() if spool else ()
    unsent = [header for header in waiting(spool) if header.kind in (wire.DATA, wire.LOSS)] if spool else []
    return {
        "pid": None,
        "tenant_id": (spool and spool.recovery.tenant_id) or None,
        "retention_days": (spool and spool.recovery.retention_days) or None,
        "scope": (spool and spool.recovery.scope) or None,
        "warnings": [],
        "spool_bytes": spool.size_bytes if spool else 0,
        "unread_bytes": sum(max(0, file.size - file.offset) for file in known if not file.finished),
        "unsent_events": sum(header.events for header in unsent if header.kind == wire.DATA),
        "unsent_losses": sum(header.kind == wire.LOSS for header in unsent),
        "files": [
            {
                "path": file.path,
                "source": file.source,
                "file_id": file.body_id or file.head_id,
                "size_bytes": file.size,
                "read_offset": file.offset,
            }
            for file in known
            if not file.finished
        ],
    }


def waiting(spool: Spool) -> Iterator[wire.Header]:
    """The heads of the records that are not acknowledged, as far as they can be read."""
    with contextlib.suppress(OSError), contextlib.closing(spool):
        yield from _taken(spool)


def _taken(spool: Spool) -> Iterator[wire.Header]:
    while (run := spool.next_run(max_bytes=_RUN_BYTES, max_raw_bytes=_RUN_BYTES * 4)) is not None:
        for entry in run.entries:
            yield entry.header


@contextlib.asynccontextmanager
async def served(state: Path, answer: Callable[[], dict[str, Any]]) -> AsyncIterator[None]:
    """Answer on the socket of a state folder. The folder's lock is held, so a socket that is there is a leftover."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(msgspec.json.encode(answer()))
            await writer.drain()
        writer.close()

    listening = asyncio.create_task(_listen(state, serve))
    await asyncio.sleep(0)  # where nothing is wrong it listens now
    try:
        yield
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def _listen(state: Path, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Until cancelled. A disk that is full or cannot be written delays answers; it ends nothing."""
    path = state / SOCKET
    fault = Fault(log, "answering `status`")
    while True:
        try:
            path.unlink(missing_ok=True)
            with _short(state) as folder:
                server = await asyncio.start_unix_server(serve, f"{folder}/{SOCKET}")
            path.chmod(0o600)
            break
        except OSError as error:
            fault.seen(f"{path}: {error.strerror}", time.monotonic())
            await asyncio.sleep(RETRY_S)
    fault.over()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def ask(state: Path) -> dict[str, Any] | None:
    """What the agent that runs on a state folder says; None when none runs. Raises OSError, msgspec.DecodeError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_CONNECT_TIMEOUT_S)
        try:
            with _short(state) as folder:
                connection.connect(f"{folder}/{SOCKET}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        chunks = []
        while chunk := connection.recv(1 << 16):
            chunks.append(chunk)
    answer: dict[str, Any] = wire.decoded(_decode_answer, b"".join(chunks))
    return answer


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name for a folder: a socket's path has at most 107 bytes, a state folder may be longer. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
