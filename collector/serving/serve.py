"""The life of the serving process: bind, start, say so, wait for a signal, stop in order.

- The port is bound before the store is opened: a port in use is said at once, and nothing was touched.
- SIGTERM or SIGINT: no new connections, requests under way end and are committed, the store closes, exit 0. What is not
  done after ``shutdown_timeout_s`` is cut off with exit 1; nothing acknowledged is lost by that, callers retry the rest.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

from aiohttp import web

from collector import app as application
from collector.config import Config, Server
from collector.errors import CollectorError
from collector.parts import METRICS, READINESS
from collector.serving.front import Runner
from collector.serving.peers import ALONE, Peers
from collector.serving.tls import Certificates
from collector.store import schema

log = logging.getLogger(__name__)

BACKLOG = 1024
GC_THRESHOLDS = (50_000, 20, 50)
SWITCH_INTERVAL_S = 0.001
"""How long a thread at work keeps the event loop waiting for the interpreter: a fifth of what is usual."""
HANDLERS_SHARE = 0.6
"""Of the time to stop: for requests under way. The rest is for the last commit and for closing the store."""


class CannotServe(CollectorError):
    """The address cannot be had; the message has the mend."""


async def serve(config: Config, *, peers: Peers = ALONE, ready: Callable[[socket.socket, str], None] | None = None) -> int:
    """Run until a signal; returns the exit code. Raises CollectorError when it cannot start.

    Args:
        peers: the other processes on this port.
        ready: told when requests are taken, with why they get 503 for now; otherwise the ready line is printed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with bind(config.server, shared=not peers.alone) as sock:
        app = application.build(config, peers)
        tls = Certificates(config.server.tls, app[METRICS]) if config.server.tls.cert_file else None
        watching = asyncio.create_task(tls.watch()) if tls else None
        timeout_s = config.server.shutdown_timeout_s
        runner = Runner(app, header_timeout_s=config.server.header_timeout_s, shutdown_timeout_s=timeout_s * HANDLERS_SHARE)
        try:
            await runner.setup()
            # Nothing in the collector hangs in cycles, and batches of thousands of events made the search for some cost a
            # fifth of the CPU: what is there now is left out of it, and it comes seventy times more rarely.
            gc.freeze()
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            gc.set_threshold(*GC_THRESHOLDS)
            await web.SockSite(runner, sock, backlog=BACKLOG, ssl_context=tls.context if tls else None).start()
            away = app[READINESS].reason
            ready(sock, away) if ready else say_ready(config, sock, away)
            await stop.wait()
            log.info("stopping: requests under way are finished and committed")
        finally:
            if watching:
                watching.cancel()
            await _stop(runner, timeout_s)
    log.info("stopped")
    return 0


def bind(server: Server, *, shared: bool = False) -> socket.socket:
    """A bound socket that does not listen yet; ``shared``: others that say so may have the address too. Raises CannotServe."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CannotServe(_why_not(server, error)) from None
    return sock


def _why_not(server: Server, error: OSError) -> str:
    where = f"server.port: {server.host}:{server.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; stop it, or choose another with --port (0: any free one)"
    if error.errno == errno.EACCES:
        return f"{where} may not be used by this user; choose one above 1023 with --port"
    return f"server.host: {server.host}:{server.port} cannot be bound: {error.strerror}; name an address of this machine"


async def _stop(runner: web.AppRunner, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await runner.cleanup()
    except TimeoutError:
        log.error("not done after server.shutdown_timeout_s %g: cut off; callers without an answer send again", timeout_s)
        sys.stderr.flush()
        os._exit(1)  # threads inside the engine would hold an orderly exit up


def say_ready(config: Config, sock: socket.socket, away: str) -> None:
    host, port = sock.getsockname()[:2]
    scheme = "https" if config.server.tls.cert_file else "http"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    state = f"not ready yet: {away}; requests get 503 until then" if away else f"schema {schema.VERSION}"
    workers = f", {config.server.workers} workers" if config.server.workers > 1 else ""
    print(f"pulsestream-collector listens on {url}, store {config.store.url}, {state}{workers}", flush=True)
