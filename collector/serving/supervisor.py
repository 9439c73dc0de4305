"""Several serving processes on one port (``server.workers``): started, watched over, stopped.

- The port is taken first, by the parent, which never listens on it; each worker listens with a socket of its own
  (SO_REUSEPORT), and the kernel spreads connections over them. One that dies takes no new ones.
- The first worker is started alone: it finds what is wrong with the start, once, and applies the schema. The ready line is
  printed when all take requests. A worker that does not get there ends the start: the others are stopped, exit code not 0.
- Afterwards a worker that ends by itself is started again, after a pause that doubles up to `MAX_PAUSE_S` while it keeps
  dying. What it had acknowledged is stored; its other callers get a reset, and send again.
- SIGTERM, SIGINT: every worker is told, each stops as a collector alone does; exit 0 when all did, 1 when one was cut off.
  When the parent itself is killed, the kernel tells the workers.

Known limit: a worker that hangs without ending keeps its share of the connections.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from pathlib import Path

import msgspec

from collector.config import Config
from collector.errors import CollectorError
from collector.serving import peers
from collector.serving.children import Child, ending
from collector.serving.peers import Peers
from collector.serving.serve import CannotServe, bind, say_ready
from collector.serving.worker import Ready, Task

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
STEADY_S = 60.0
"""A worker that lived so long did not die of its start: the next pause is the first again."""
STOP_GRACE_S = 5.0
"""Beyond ``shutdown_timeout_s``, after which a worker ends itself."""


class StartFailed(CollectorError):
    """Workers that cannot start: they said why themselves."""


class Worker:
    """One place among the workers, and the process that has it."""

    def __init__(self, number: int, task: bytes, folder: Path) -> None:
        self.number = number
        self._task = task
        self._folder = folder
        self._child = Child(["collector.serving.worker"])
        self._began = 0.0

    async def start(self) -> str:
        """Start it, until it takes requests. Returns why the store is away, if it is. Raises StartFailed."""
        peers.left(self._folder, self.number)
        self._began = time.monotonic()
        await self._child.start(stdout=subprocess.PIPE, told=self._task)
        line = await self._child.line()
        if not line:
            code = await self._child.wait()
            raise StartFailed(f"worker {self.number} could not start ({ending(code)}); what it said stands above")
        peers.entered(self._folder, self.number, self._child.pid)
        return msgspec.json.decode(line, type=Ready).away

    async def keep(self) -> None:
        """Start it again whenever it ends by itself, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            code = await self._child.wait()
            peers.left(self._folder, self.number)
            if time.monotonic() - self._began >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error(
                "worker %d (process %d) ended by itself with %s; it is started again in %g s, its callers send again",
                self.number, self._child.pid, ending(code), pause_s,
            )  # fmt: skip
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            try:
                await self.start()
            except StartFailed:
                continue  # said with its exit code, above
            log.info("worker %d takes requests again (process %d)", self.number, self._child.pid)

    async def stop(self, timeout_s: float) -> bool:
        """Whether it ended as it should."""
        ran = self._child.exit_code is None
        in_time = await self._child.stop(timeout_s)
        peers.left(self._folder, self.number)
        # One that was told before it could listen to that ends by the signal.
        return not ran or (in_time and self._child.exit_code in (None, 0, -signal.SIGTERM))


async def supervise(config: Config) -> int:
    """Run the workers until a signal; returns the exit code. Raises CollectorError when they cannot start."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with reserved(config) as sock, _folder() as folder:
        workers = _workers(config, sock, folder)
        signalled = asyncio.create_task(stop.wait())
        working = asyncio.create_task(_work(config, sock, workers))
        try:
            await asyncio.wait({signalled, working}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working  # it only ends by an error
            log.info("stopping: %d workers finish the requests under way", len(workers))
        finally:
            for task in (signalled, working):
                task.cancel()
            await asyncio.gather(signalled, working, return_exceptions=True)
            peers.stop_in_order(folder)
            timeout_s = config.server.shutdown_timeout_s + STOP_GRACE_S
            ended = await asyncio.gather(*(worker.stop(timeout_s) for worker in workers))
    if not all(ended):
        log.error("%d workers did not stop in order; callers without an answer send again", ended.count(False))
        return 1
    log.info("stopped")
    return 0


async def _work(config: Config, sock: socket.socket, workers: list[Worker]) -> None:
    away = await workers[0].start()
    async with asyncio.TaskGroup() as others:
        for worker in workers[1:]:
            others.create_task(worker.start())
    _say_limits(config)
    say_ready(config, sock, away)
    async with asyncio.TaskGroup() as kept:
        for worker in workers:
            kept.create_task(worker.keep())


def _workers(config: Config, sock: socket.socket, folder: Path) -> list[Worker]:
    host, port = sock.getsockname()[:2]
    count = config.server.workers
    here = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, host=host, port=port))

    def task(number: int) -> bytes:
        return msgspec.msgpack.encode(Task(here, Peers(number, count, str(folder)), getpid()))

    return [Worker(number, task(number), folder) for number in range(count)]


def _say_limits(config: Config) -> None:
    parts = config.quota.replicas * config.server.workers
    when = "while Redis is away" if config.quota.redis_url else "quota.redis_url is empty:"
    log.info("limits: %s each of %d workers allows 1/%d of every rate", when, config.server.workers, parts)


@contextmanager
def reserved(config: Config) -> Iterator[socket.socket]:
    """The address, bound so that nobody but the workers can have it. Raises CannotServe."""
    with bind(config.server) as sock:
        # Set only now: the bind itself fails while another program, or another collector's workers, are there.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield sock


@contextmanager
def _folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="pulsestream-"))
    except OSError as error:
        raise CannotServe(
            f"server.workers: no folder for what the workers share can be made in {tempfile.gettempdir()}: {error.strerror}; "
            "set TMPDIR to a folder that can be written to"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
