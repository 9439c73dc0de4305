"""A little room on the spool's disk that is kept for what has to be written when there is none.

States of files are less than a kilobyte each: should the agent be killed while disk or spool are full, they say which contents
it had met. The reserve is a file that is given up for them, and made again with the next segment.
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


class Reserve:
    """Of one folder, behind the disk's door."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._path = folder / NAME
        self._disk = disk

    def hold(self) -> None:
        """Have it, if there is room for it now. Bytes by chance: a file system that compresses stores them all."""
        if self._path.exists():
            return
        try:
            fd = self._disk.create(self._path)
            try:
                self._disk.write(fd, os.urandom(RESERVE_BYTES), 0)
            finally:
                self._disk.close(fd)
        except OSError as error:
            log.debug("%s: cannot be kept: %s", self._path, error.strerror)
            self.give()

    def give(self) -> bool:
        """Give it up. Whether there was any."""
        try:
            there = self._path.exists()
            self._disk.remove(self._path)
        except OSError:
            return False
        return there
