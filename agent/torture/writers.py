"""Apps that log and rotate: each writes numbered lines to a file of its own, in its own way of rotating.

- ``rename``: the file becomes .1, .1 becomes .2, …; a new one begins. Nothing is ever deleted.
- ``copytruncate``: copied to .1, then cut to nothing.
- ``compress``: as rename, and what the agent has read becomes .gz.
- ``gzip``: as rename, and what was rotated becomes .gz at once, slowly, while the agent reads it or before.
- ``delete``: as rename, and what the agent has read is deleted.

Lines come in batches that are cut in the middle of a line, with a pause between the parts. No two lines are equal.
"""

from __future__ import annotations

import gzip
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

STYLES = ("rename", "copytruncate", "compress", "gzip", "delete")
COMPRESSED_AT_ONCE = 1 << 18
PAUSE_S = 0.2
KEPT_FILES = 4
"""Rotated files that are left alone, however they are treated afterwards."""


class Writer(threading.Thread):
    """One app.

    Args:
        is_read: whether the agent has read all there is of a rotated file.
    """

    def __init__(
        self, path: Path, name: str, style: str, seed: int, *, bytes_per_s: float, is_read: Callable[[Path], bool]
    ) -> None:
        super().__init__(daemon=True, name=f"writer-{name}")
        self.path = path
        self.app = name
        self.style = style
        self.written = 0
        """Lines, all of them whole when the thread has ended."""
        self.rotations = 0
        self._random = Random(seed)
        self._bytes_per_s = bytes_per_s
        self._is_read = is_read
        self._ended = threading.Event()
        self._size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def line(self, number: int) -> str:
        """The text of a line, the same whenever it is asked for."""
        return f"{self.app} {number} {'x' * (number * 7919 % 180)}"

    def stop(self) -> None:
        self._ended.set()

    def run(self) -> None:
        rotate_at = self._next_size()
        while not self._ended.is_set():
            batch = "".join(f"{self.line(self.written + n)}\n" for n in range(self._random.randint(1, 400))).encode()
            cut = self._random.randrange(len(batch) + 1)
            self._append(batch[:cut])
            self._ended.wait(len(batch) / self._bytes_per_s)
            self._append(batch[cut:])
            self.written += batch.count(b"\n")
            self._size += len(batch)
            if self._size >= rotate_at:
                self._rotate()
                rotate_at, self._size = self._next_size(), 0
            self._tidy()

    def _next_size(self) -> int:
        return int(self._random.choice((2_000, 50_000, 500_000, 3_000_000)) * self._random.uniform(0.5, 1.5))

    def _append(self, part: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(part)

    def _rotate(self) -> None:
        for number in range(self.rotations, 0, -1):
            for ending in ("", ".gz"):
                old = self._rotated(number, ending)
                if old.exists():
                    old.rename(self._rotated(number + 1, ending))
        if self.style == "copytruncate":
            shutil.copyfile(self.path, self._rotated(1))
            os.truncate(self.path, 0)
        else:
            self.path.rename(self._rotated(1))
            self.path.touch()
        self.rotations += 1

    def _rotated(self, number: int, ending: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{ending}")

    def _tidy(self) -> None:
        """Compress or delete one file, with most styles one that the agent is done with."""
        if self.style == "gzip":
            self._compress_all()
        if self.style not in ("compress", "delete"):
            return
        for number in range(self.rotations, KEPT_FILES, -1):
            old = self._rotated(number)
            if old.exists() and self._is_read(old):
                if self.style == "compress":
                    self._compress(number)
                old.unlink()
                return

    def _compress_all(self) -> None:
        """As logrotate does without ``delaycompress``."""
        for number in range(self.rotations, 0, -1):
            if (old := self._rotated(number)).exists():
                self._compress(number)
                old.unlink()

    def _compress(self, number: int) -> None:
        """The plain file stays until all of it is in the other one."""
        with self._rotated(number).open("rb") as plain, gzip.open(self._rotated(number, ".gz"), "wb", compresslevel=1) as file:
            while part := plain.read(COMPRESSED_AT_ONCE):
                file.write(part)
                self._ended.wait(self._random.uniform(0.0, PAUSE_S))
