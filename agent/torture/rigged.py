"""The agent on a wall clock that steps and a disk that is full, when told: ``python -m agent.torture.rigged FILE run …``.

FILE holds `CONTROLS`, which whoever started this may change at any time (`Controls`). The program itself knows nothing of it:
the clock is replaced under it, and the one door to the disk.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import sys
import time
from pathlib import Path

from agent import __main__
from agent.spool.disk import Disk

CONTROLS = struct.Struct("<d?")
"""By how many seconds the wall clock is wrong; whether the disk of the state is full."""


class Controls:
    """The file, for whoever turns the knobs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock_s = 0.0
        self.full = False
        self.write()

    def write(self) -> None:
        """Let the present values hold."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(CONTROLS.pack(self.clock_s, self.full))


def rig(path: Path) -> None:
    """From now on this process is under these controls."""
    with path.open("rb") as file:
        knobs = mmap.mmap(file.fileno(), CONTROLS.size, access=mmap.ACCESS_READ)
    real_s, real_ns, real_write = time.time, time.time_ns, Disk.write

    def write(self: Disk, fd: int, data: bytes, at: int) -> None:
        if CONTROLS.unpack_from(knobs)[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_write(self, fd, data, at)

    time.time = lambda: real_s() + CONTROLS.unpack_from(knobs)[0]
    time.time_ns = lambda: real_ns() + int(CONTROLS.unpack_from(knobs)[0] * 1e9)
    Disk.write = write  # type: ignore[method-assign]


if __name__ == "__main__":
    rig(Path(sys.argv[1]))
    sys.exit(__main__.main(sys.argv[2:]))
