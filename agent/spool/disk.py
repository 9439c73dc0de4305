"""The one door to the disk for everything that must survive a crash, so that a test can put a failing one behind it."""

from __future__ import annotations

import os
from pathlib import Path

FLOOR_PART = 20
"""A floor of free space is not more than this part of a file system."""


class Disk:
    """A handful of operations on files of the state folder; every failure is an OSError."""

    def create(self, path: Path) -> int:
        """A descriptor for appending and reading a file that must not exist yet."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes, at: int) -> None:
        """All of ``data`` at position ``at``, or an OSError."""
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, at)
            view = view[done:]
            at += done

    def read(self, fd: int, length: int, at: int) -> bytes:
        return os.pread(fd, length, at)

    def free(self, place: int | Path) -> tuple[int, int]:
        """Of a file system: what others than root may still write, and its size. ``place``: a descriptor or a path on it."""
        stat = os.statvfs(place)
        return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize

    def missing_to_floor(self, place: int | Path, min_free_bytes: int) -> int:
        """How many bytes less than the floor are free; negative above it. On a small file system the floor is lower."""
        free, size = self.free(place)
        return min(min_free_bytes, size // FLOOR_PART) - free

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync_folder(self, folder: Path) -> None:
        """A new or renamed file survives a power cut only when its folder is synced, too."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, path: Path, to: Path) -> None:
        """Over what is there, in one step."""
        path.rename(to)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def close(self, fd: int) -> None:
        os.close(fd)
