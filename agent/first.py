"""The first process of a container (PID 1) gets no signal that it has no handler for: a SIGTERM that comes while it still
imports would be lost, and the container stay until it is killed. Here it ends then, as any other process would."""

from __future__ import annotations

import os
import signal
from types import FrameType


def obey() -> None:
    """Until the program has handlers of its own. Nothing is changed for any other process."""
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
