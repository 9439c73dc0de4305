"""The end of the agent's life: what the signals ask for, and how it goes.

On SIGTERM the files are watched until nothing was added for ``shutdown_quiet_s``, since an app that ends beside the agent still
writes its last lines; what has no end yet is sent as it stands (`agent.reading.recorder`); then acks are waited for. Both end
in time (`last_look_s`), and the process with them, whatever hangs: what is left is in the spool, or still in the files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.config import Config
from agent.reading.reader import Reader
from agent.shipping.ship import Shipper

log = logging.getLogger("agent")

GOODBYE_S = 1.0
"""How long a stop may take for the last heartbeat's sake."""
ACKS_S = 5.0
"""How much of the time for an end is kept for acks; of a short time its half."""
OVERTIME_S = 0.7
"""Beyond `shutdown_timeout_s` for what is between the last ack and the end: a sync, threads, the last words."""


class Stop:
    """What the signals ask for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reload: Callable[[], None]) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        """Asked for twice: whoever did so has no patience for acks."""
        self._limit: threading.Timer | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        loop.add_signal_handler(signal.SIGHUP, reload)

    def _signal(self) -> None:
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()

    def out_within(self, seconds: float) -> None:
        """The process ends then, whatever hangs: a kill is safe at any time, and whoever asked for the end counts on it."""
        self._limit = threading.Timer(seconds, _out)
        self._limit.daemon = True
        self._limit.start()

    def done(self) -> None:
        """It ended by itself."""
        if self._limit is not None:
            self._limit.cancel()


def _out() -> None:
    log.warning("the end takes longer than it may: ending now; the next start goes on from what is on disk")
    os._exit(0)


async def end(
    config: Config,
    reader: Reader,
    reading: threading.Thread,
    shipper: Shipper,
    troubles: tuple[asyncio.Future[Any], asyncio.Future[Any]],
    stop: Stop,
) -> None:
    """Read to the end, also what apps that end now still write, and wait for the acks. See `last_look_s`."""
    failed, shipping = troubles
    timeout_s = config.shutdown_timeout_s
    log.info("stopping: reading to the end, then waiting for acks, at most %g s", timeout_s)
    stop.out_within(timeout_s + OVERTIME_S)
    deadline_s = time.monotonic() + timeout_s
    hurry: asyncio.Future[Any] = asyncio.ensure_future(stop.at_once.wait())
    try:
        reader.stop(within_s=last_look_s(timeout_s), quiet_s=config.shutdown_quiet_s, parting=config.shutdown_partial)
        read: asyncio.Future[Any] = asyncio.ensure_future(asyncio.to_thread(reading.join))
        await asyncio.wait([failed, hurry, read], return_when=asyncio.FIRST_COMPLETED)
        if hurry.done():
            reader.stop(within_s=0.0)
        await read
        drained: asyncio.Future[Any] = asyncio.ensure_future(shipper.drained())
        left_s = max(0.0, deadline_s - time.monotonic())
        await asyncio.wait([failed, shipping, drained, hurry], timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if drained.done() and shipper.heartbeats is not None and not shipping.done():
            await shipper.heartbeats.goodbye(max(0.0, min(GOODBYE_S, deadline_s - time.monotonic())))
        drained.cancel()
    finally:
        hurry.cancel()


def last_look_s(timeout_s: float) -> float:
    """How long after SIGTERM the files are still read: what acks need is left of the time that an end may take."""
    return timeout_s - min(ACKS_S, timeout_s / 2)
