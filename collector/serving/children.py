"""Processes that a program of ours starts: in sessions of their own, so that Ctrl-C reaches them in order, and never left
behind: they get SIGTERM when the program that started them dies, however it does.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import IO

PR_SET_PDEATHSIG = 1


class Child:
    """``python -m …`` as a child: started, perhaps again and again, and stopped."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = [sys.executable, "-m", *arguments]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *, stdout: IO[bytes] | int, stderr: IO[bytes] | None = None, told: bytes | None = None) -> None:
        """Start it, with ``told`` on its standard input. ``stderr``: None is this program's own."""
        process = self._process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL if told is None else asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_ending_with(os.getpid()),
        )
        if process.stdin is not None:
            process.stdin.write(told or b"")
            process.stdin.close()

    @property
    def pid(self) -> int:
        """Of the process started last."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None: it runs, or was never started."""
        return None if self._process is None else self._process.returncode

    async def line(self) -> bytes:
        """The next line it says, if ``stdout`` was a pipe; empty when it ended."""
        assert self._process is not None, "not started"
        assert self._process.stdout is not None, "stdout is no pipe"
        return await self._process.stdout.readline()

    async def wait(self) -> int:
        """Its exit code, when it has ended; negative: the signal that ended it."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> bool:
        """SIGTERM, and SIGKILL when it has not ended in that time. False: it had to be killed."""
        process = self._process
        if process is None or process.returncode is not None:
            return True
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            return False
        return True


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _ending_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        """In the child, before the program: SIGTERM when the parent dies."""
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be watched
            os._exit(1)

    return prepare
