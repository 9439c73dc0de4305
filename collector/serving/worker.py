"""One of several serving processes of a collector: started by `collector.serving.supervisor`, and by nothing else.

What it is to do comes on its standard input, configuration included, so that no secret stands on a command line, and a
worker that is started again does the same as the others, whatever became of the files meanwhile. When it takes requests it
says so on its standard output, once. SIGTERM stops it as it stops a collector alone; it gets one when its parent dies too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path

import msgspec

from collector import log
from collector.__main__ import reported
from collector.config import Config
from collector.serving.peers import STOPPING, Peers

ORPHAN_S = 2.0
"""How long a worker that stops without its parent's saying so looks whether it has one."""


class Task(msgspec.Struct, frozen=True):
    """What a worker is told. ``config.server`` names the address that the parent holds."""

    config: Config
    peers: Peers
    parent: int


class Ready(msgspec.Struct, frozen=True):
    """What it says once."""

    away: str
    """Why requests are answered 503 for now; empty: they are not."""


def as_replica(config: Config, workers: int) -> Config:
    """What one of so many processes works by: to the tenants' rates each of them is a replica."""
    quota = msgspec.structs.replace(config.quota, replicas=config.quota.replicas * workers)
    return msgspec.structs.replace(config, quota=quota)


def main() -> int:
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    log.start(task.config.log.level, task.config.log.format, worker=task.peers.number)
    return reported(lambda: _serve(task))


def _serve(task: Task) -> int:
    from collector import metrics

    metrics.share(task.peers.folder, task.peers.number)  # before the first of them is made
    from collector.serving.serve import serve

    config = as_replica(task.config, task.peers.count)

    async def run() -> int:
        try:
            return await serve(config, peers=task.peers, ready=lambda sock, away: _say(Ready(away)))
        finally:
            # While SIGTERM is still listened to: of a parent with threads the kernel tells twice.
            _clear_after(task)

    return asyncio.run(run())


def _clear_after(task: Task) -> None:
    """Remove what was shared if the parent died: nobody else does."""
    if not (Path(task.peers.folder) / STOPPING).exists():
        # The kernel tells of its death while threads of it are still ending, and only then is there another parent.
        end_s = time.monotonic() + ORPHAN_S
        while os.getppid() == task.parent and time.monotonic() < end_s:
            time.sleep(0.01)
    if os.getppid() != task.parent:
        shutil.rmtree(task.peers.folder, ignore_errors=True)


def _say(ready: Ready) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
