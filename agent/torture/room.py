"""The disk of the agent's state: a small one of its own where this user may mount one, which can really be full; else it is
called full (`agent.torture.rigged`)."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from agent.torture.rigged import Controls

ROOM_BYTES = 48 << 20
_PIECE = b"\0" * (1 << 20)


class Room:
    """``kind`` says which of the two it is."""

    def __init__(self, folder: Path, controls: Controls) -> None:
        self._folder = folder
        self._controls = controls
        self._filler = folder / "filler"
        self.kind = "injected"

    def open(self) -> None:
        self._folder.mkdir(parents=True)
        options = f"size={ROOM_BYTES},mode=0700"
        if os.geteuid() == 0 and _run("mount", "-t", "tmpfs", "-o", options, "pulsestream-torture", str(self._folder)):
            self.kind = "tmpfs"

    def fill(self) -> None:
        if self.kind == "injected":
            self._controls.full = True
            self._controls.write()
            return
        try:
            with self._filler.open("ab", buffering=0) as file:
                while True:
                    file.write(_PIECE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        self._controls.full = False
        self._controls.write()
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        leave(self._folder)


def leave(folder: Path) -> None:
    """Unmount what an earlier ordeal has left there, if anything."""
    while os.path.ismount(folder) and _run("umount", "--lazy", str(folder)):
        pass


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
