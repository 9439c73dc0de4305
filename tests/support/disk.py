"""Disks that fail as real ones do, and one that forgets what was not synced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.spool.disk import Disk


class FakeDisk(Disk):
    """Writes for real but never waits for the hardware. ``room_bytes`` limits what may still be written, what is removed
    or cut off gives room back; ``failing_syncs`` is how many syncs fail before they work again; ``refuses`` is the errno of
    everything that would write, as on a disk that is read-only, away, or somebody else's."""

    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self.failing_syncs = 0
        self.refuses = 0
        self.free_bytes: int | None = None
        """What a file system of a TiB says is free."""
        self.refused = 0
        """Writes that failed."""
        self.done: list[str] = []
        """Operations that matter for their order, oldest first."""
        self.synced: dict[int, int] = {}
        """inode -> length that a power cut leaves at least."""

    def free(self, place: int | Path) -> tuple[int, int]:
        return super().free(place) if self.free_bytes is None else (self.free_bytes, 1 << 40)

    def create(self, path: Path) -> int:
        self._may()
        self.done.append(f"create {path.name}")
        return super().create(path)

    def open(self, path: Path) -> int:
        self._may()
        return super().open(path)

    def write(self, fd: int, data: bytes, at: int) -> None:
        self._may()
        if self.room_bytes is not None and len(data) > self.room_bytes:
            self.refused += 1
            super().write(fd, data[: self.room_bytes], at)
            self.room_bytes = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.room_bytes is not None:
            self.room_bytes -= len(data)
        super().write(fd, data, at)

    def sync(self, fd: int) -> None:
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.done.append("sync")
        stat = os.fstat(fd)
        self.synced[stat.st_ino] = stat.st_size

    def sync_folder(self, folder: Path) -> None:
        self.done.append("sync_folder")

    def truncate(self, fd: int, length: int) -> None:
        self._may()
        self._free(os.fstat(fd).st_size - length)
        super().truncate(fd, length)

    def remove(self, path: Path) -> None:
        self._may()
        self.done.append(f"remove {path.name}")
        self._free(path.stat().st_size if path.exists() else 0)
        super().remove(path)

    def _may(self) -> None:
        if self.refuses:
            self.refused += 1
            raise OSError(self.refuses, os.strerror(self.refuses))

    def _free(self, length: int) -> None:
        if self.room_bytes is not None:
            self.room_bytes += length
