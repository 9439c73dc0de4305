"""How long a command waits for a collector, and how: the same for all that it asks and sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from agent.shipping import retry

PATIENCE_S = 60.0
"""A command is run by people and by jobs, which want to know: after so long without an answer it gives up."""


class Patience:
    """``seconds``: without an answer. The rest is for tests."""

    def __init__(
        self,
        seconds: float = PATIENCE_S,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.seconds = seconds
        self.pause = pause
        self.now_s = clock
        self._random = random or Random()

    def wait_s(self, decision: retry.RetryAfter, attempt: int) -> float:
        """How long to wait before it is tried again."""
        return retry.wait_for(decision, attempt, self._random)
