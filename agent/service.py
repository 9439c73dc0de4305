"""The agent's life: lock the state, open the spool, read and ship until told to stop, leave nothing unsaid.

Threads: the event loop (shipping, status), the reader, and one that syncs the spool. When the disk fails under the spool, all
of them are taken down and started again from what is on disk, as soon as it can be read and written: a state folder that cannot
be used refuses a start, and never ends an agent that runs. The same happens, in order, for another configuration
(`agent.reload`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from agent import crash
from agent import scope as scopes
from agent.config import Config, runs_in_flight
from agent.ending import Stop, end
from agent.errors import AgentError, StateAway, StateRefused, StorageFailed
from agent.files.holding import Held
from agent.ledger import Ledger
from agent.logs import Fault
from agent.reading.reader import Reader
from agent.reload import Settings
from agent.shipping.heartbeat import Heartbeats
from agent.shipping.retry import backoff
from agent.shipping.ship import Shipper
from agent.spool.spool import Spool
from agent.status import monitor, status

log = logging.getLogger("agent")

LOCK = "lock"
GATHER_S = 0.05
"""Between two syncs at least: a walk over many new files asks for as many."""
STEADY_S = 60.0
"""An agent that ran for so long and fails has not been failing all the time."""
LONGEST_WAIT_S = 10.0
"""Until a disk that failed is tried again."""


async def run(settings: Settings, *, final_status: Path | None = None, watched: Path | None = None) -> int:
    """Run until SIGTERM or SIGINT; a second one of these ends it at once. SIGHUP: read the configuration again.

    Args:
        settings: the configuration, and how to read it again.
        final_status: where to write the last `status.snapshot` as JSON, if anywhere.
        watched: the configuration's file, if it is to be read again when it changes.

    Returns:
        The exit code: 0, also when something is left in the spool (it is said).

    Raises:
        StateRefused: the state folder is in use or cannot be used.
    """
    stop = Stop(asyncio.get_running_loop(), settings.ask)
    ledger, held = Ledger(), Held()
    fault = Fault(log, "the spool")
    state = Path(settings.config.state_dir)
    watching = asyncio.ensure_future(settings.watch(watched)) if watched is not None else None
    with locked(state):
        spool: Spool | None = _opened(settings.config)
        async with contextlib.AsyncExitStack() as answering:
            said = _Said(state, answering)
            attempt = 0
            while not stop.asked.is_set():
                began_s = time.monotonic()
                config = settings.begin()
                try:
                    spool = spool or _opened(config)
                    await _session(config, spool, ledger, stop, settings, said, held)
                except (StorageFailed, StateAway) as error:
                    await said.close()
                    now_s = time.monotonic()
                    attempt = 1 if now_s - began_s >= STEADY_S else attempt + 1
                    fault.seen(f"{error}; starting again from what is on disk", now_s)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.asked.wait(), min(backoff(attempt, Random()), LONGEST_WAIT_S))
                except AgentError as error:
                    if not settings.fails(str(error)):
                        raise
                spool = None
            if final_status is not None and said.now is not None:
                final_status.write_bytes(msgspec.json.encode(said.now()))
        held.close()
    if watching is not None:
        watching.cancel()
    stop.done()
    return 0


class _Said:
    """What `status` answers with: it goes on over a change of the configuration."""

    def __init__(self, state: Path, answering: contextlib.AsyncExitStack) -> None:
        self._state = state
        self._answering = answering
        self._open = False
        self.now: Callable[[], dict[str, Any]] | None = None

    async def tell(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self.now = snapshot
        if not self._open:
            self._open = True
            await self._answering.enter_async_context(status.served(self._state, lambda: self.now() if self.now else {}))

    async def close(self) -> None:
        """The folder may be another one soon: no answer until `tell`."""
        self._open = False
        await self._answering.aclose()


def _opened(config: Config) -> Spool:
    """Raises StateRefused."""
    folder = Path(config.state_dir) / status.SPOOL
    spool = config.spool
    return Spool(
        folder,
        segment_bytes=spool.segment_bytes,
        max_bytes=spool.max_bytes,
        fsync=spool.fsync,
        min_free_bytes=config.min_free_bytes,
    )


async def _session(
    config: Config, spool: Spool, ledger: Ledger, stop: Stop, settings: Settings, said: _Said, held: Held
) -> None:
    """From an open spool to a closed one. ``held``: source files that stay open from one session to the next. Raises
    StorageFailed when the disk fails meanwhile."""
    state = Path(config.state_dir)
    ledger.tenant_id = ledger.tenant_id or spool.recovery.tenant_id
    ledger.keeps(ledger.retention_days or spool.recovery.retention_days)
    if config.scope_file:
        scopes.keep(config.scope_file, spool.recovery.scope)
    scope = scopes.resolve(spool.recovery.scope, config.scope, os.environ, config.scope_file)
    if scope.warning:
        log.warning("%s", scope.warning)
    shipper = Shipper(
        spool,
        ledger,
        state,
        config.collector,
        in_flight=runs_in_flight(config),
    )
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[Any] = loop.create_future()

    waker = _Waker(loop, shipper.wake)
    agent = config.name or socket.gethostname()
    reader = Reader(
        config,
        spool,
        scope=scope.value,
        agent=agent,
        ledger=ledger,
        on_append=waker,
        tenant_id=lambda: ledger.tenant_id,
        held=held,
    )
    try:
        spool.start(reader.head, released=waker)
        log.info("started: %d sources, scope from %s, state in %s", len(config.sources), scope.taken_from, state)

        def snapshot() -> dict[str, Any]:
            return {**status.snapshot(reader, spool, ledger, scope, pid=os.getpid()), "config": settings.said()}

        if config.heartbeat_interval_s:
            shipper.heartbeats = Heartbeats(
                snapshot,
                lambda: {"unsynced_bytes": spool.unsynced_bytes, "quarantined": len(shipper.quarantine.records())},
                agent=agent,
                scope=scope.value,
                interval_s=config.heartbeat_interval_s,
            )
        async with monitor.served(config.metrics.listen, config.metrics.max_lag_s, snapshot):
            await said.tell(snapshot)
            settings.works()
            await _follow(config, spool, reader, shipper, failed, stop, settings.changed)
        if stop.asked.is_set():
            crash.point("stop.drained")
            _say_what_is_left(spool, reader, ledger)
        spool.note_acks(ledger.tenant_id, ledger.retention_days)
    finally:
        reader.release()  # also where it never ran
        with contextlib.suppress(StorageFailed):
            spool.close()


async def _follow(
    config: Config,
    spool: Spool,
    reader: Reader,
    shipper: Shipper,
    failed: asyncio.Future[Any],
    stop: Stop,
    changed: asyncio.Event,
) -> None:
    loop = asyncio.get_running_loop()

    def fail(error: BaseException) -> None:
        loop.call_soon_threadsafe(_set_exception, failed, error)

    syncing = threading.Event()
    threads = [
        _thread("reader", reader.run, fail),
        _thread("sync", lambda: _sync_at_intervals(spool, config.spool.fsync_interval_s, syncing), fail),
    ]
    shipping: asyncio.Future[Any] = asyncio.ensure_future(shipper.run())
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.asked.wait())
    changing: asyncio.Future[Any] = asyncio.ensure_future(changed.wait())
    try:
        await asyncio.wait([failed, stopping, changing, shipping], return_when=asyncio.FIRST_COMPLETED)
        if stopping.done() and not failed.done() and not shipping.done():
            await end(config, reader, threads[0], shipper, (failed, shipping), stop)
    finally:
        reader.stop(within_s=0.0)
        syncing.set()
        spool.sync_wanted.set()
        ending = (shipping, stopping, changing)
        for future in ending:
            future.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for thread in threads:
            await asyncio.to_thread(thread.join)
    _raise_first(failed, shipping)


def _raise_first(failed: asyncio.Future[Any], shipping: asyncio.Future[Any]) -> None:
    """Let the cause out: the reader's, the sync's or the shipper's."""
    if failed.done():
        failed.result()
    failed.cancel()
    if not shipping.cancelled() and (error := shipping.exception()) is not None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error


class _Waker:
    """Tells the event loop of new records: once for many, since waking it costs more than reading a block's worth of lines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._called = False

    def __call__(self) -> None:
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._now)

    def _now(self) -> None:
        self._called = False
        self._wake()


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _thread(name: str, target: Callable[[], None], fail: Callable[[BaseException], None]) -> threading.Thread:
    def guarded() -> None:
        try:
            target()
        except BaseException as error:
            fail(error)

    thread = threading.Thread(target=guarded, name=f"agent-{name}", daemon=True)
    thread.start()
    return thread


def _sync_at_intervals(spool: Spool, interval_s: float, stop: threading.Event) -> None:
    """Sooner where something waits for it: the first lines of a new file."""
    gather_s = min(GATHER_S, interval_s)
    while not stop.is_set():
        spool.sync_wanted.wait(interval_s - gather_s)
        spool.sync_wanted.clear()
        if not stop.is_set():
            spool.sync()
            stop.wait(gather_s)


def _say_what_is_left(spool: Spool, reader: Reader, ledger: Ledger) -> None:
    counts = ledger.counts()
    unread_bytes = reader.unread_bytes() - reader.parted_bytes
    if reader.parted_bytes:
        log.info("%d bytes of last lines without their ends were sent as they stand; they may go on", reader.parted_bytes)
    if spool.drained and not unread_bytes:
        log.info("stopped: everything that was read is acknowledged (%d events)", counts.get("acked_events", 0))
    else:
        log.warning(
            "stopped with events that are not acknowledged yet: %d bytes in the spool, %d bytes unread in the sources; "
            "the next start goes on there (sending: %s)",
            spool.size_bytes, unread_bytes, ledger.sending,
        )  # fmt: skip


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold a state folder. Raises StateRefused, which names the agent that has it."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateRefused(f"{state}: {error.strerror}; state_dir must be a folder that the agent can write to") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "unknown"
            raise StateRefused(
                f"{state}: another agent ({holder}) works on this state folder; stop it, or give this one its own state_dir"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, and nobody is named
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
