"""What the worker processes of one collector share: a folder of the parent's, for as long as it runs.

In it: the values of all metrics (`collector.metrics.share`), a file for each worker that takes requests, the agents that
each has heard, and the lock under which tenants are changed. Nothing in it outlives the parent, and nothing that was
acknowledged depends on it. A collector of one process has none (`ALONE`).
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

LOOK_S = 0.02
"""How often a lock that another worker holds is tried."""
STOPPING = "stopping"


class Peers(msgspec.Struct, frozen=True):
    """One worker among the others."""

    number: int = 0
    """From 0."""
    count: int = 1
    folder: str = ""

    @property
    def alone(self) -> bool:
        return not self.folder

    def running(self) -> dict[int, int]:
        """Number and process of each worker that takes requests."""
        found = {}
        for path in Path(self.folder).glob("running-*"):
            try:
                found[int(path.name.partition("-")[2])] = int(path.read_text())
            except (OSError, ValueError):
                continue  # it ended while we looked
        return found

    def says(self, what: str, content: bytes) -> None:
        """Leave something for the others to read; it replaces what was there."""
        path = Path(self.folder) / f"{what}-{self.number}"
        partial = path.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(path)

    def said(self, what: str) -> Iterator[bytes]:
        """What each worker left, this one's own too."""
        for number in range(self.count):
            try:
                yield (Path(self.folder) / f"{what}-{number}").read_bytes()
            except FileNotFoundError:
                continue

    def lock(self, name: str) -> Lock:
        return Lock(Path(self.folder) / f"{name}.lock" if self.folder else None)


ALONE = Peers()


def entered(folder: Path, number: int, pid: int) -> None:
    """For the parent: this worker takes requests now."""
    (folder / f"running-{number}").write_text(str(pid))


def left(folder: Path, number: int) -> None:
    """For the parent: it has ended. Its counters stay and are counted on by the next in its place, its gauges go."""
    (folder / f"running-{number}").unlink(missing_ok=True)
    for path in folder.glob(f"gauge_live*_{number}.db"):
        path.unlink(missing_ok=True)


def stop_in_order(folder: Path) -> None:
    """For the parent: it stops the workers, and removes the folder when they have ended."""
    (folder / STOPPING).touch()


class Lock:
    """Held by one task of one worker at a time; a worker that dies lets go of it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._here = asyncio.Lock()
        self._file: IO[bytes] | None = None

    async def __aenter__(self) -> None:
        await self._here.acquire()
        if self._path is None:
            return
        file = self._path.open("ab")
        try:
            while not _taken(file):  # noqa: ASYNC110 - the others are processes: no event tells
                await asyncio.sleep(LOOK_S)
        except BaseException:
            file.close()
            self._here.release()
            raise
        self._file = file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._here.release()


def _taken(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
