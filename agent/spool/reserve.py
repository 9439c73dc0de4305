"""A little room on the spool's disk that is kept for what has to be written when there is none.

States of files are less than a kilobyte each: should the agent be killed while its disk is full, they say which contents it had
met. The reserve is a file that is cut by as much as they need, no more, or data would take the rest; with the next segment it
is whole again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from agent.spool.disk import Disk

log = logging.getLogger("agent.spool")

NAME = "reserve"
RESERVE_BYTES = 256 << 10
"""Some hundred files' states."""
_BLOCK_BYTES = 4096
"""A file system has less to give in no case."""


class Reserve:
    """Of one folder, behind the disk's door."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._path = folder / NAME
        self._disk = disk

    def hold(self) -> None:
        """Have all of it, if there is room for it now. Bytes by chance: a file system that compresses stores them all."""
        try:
            size = self._path.stat().st_size if self._path.exists() else 0
            if size >= RESERVE_BYTES:
                return
            fd = self._disk.open(self._path) if self._path.exists() else self._disk.create(self._path)
            try:
                self._fill(fd, size)
            finally:
                self._disk.close(fd)
        except OSError as error:
            log.debug("%s: cannot be kept whole: %s", self._path, error.strerror)

    def _fill(self, fd: int, size: int) -> None:
        try:
            self._disk.write(fd, os.urandom(RESERVE_BYTES - size), size)
        except OSError:
            self._disk.truncate(fd, size)  # the last of a disk is the apps'
            raise

    def give(self, length: int) -> bool:
        """Give up room for so many bytes. Whether there was any."""
        try:
            fd = self._disk.open(self._path)
            try:
                size = self._disk.size(fd)
                self._disk.truncate(fd, max(0, size - length) // _BLOCK_BYTES * _BLOCK_BYTES)
            finally:
                self._disk.close(fd)
        except OSError:
            return False
        return size > 0
