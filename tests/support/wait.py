"""Waiting for a condition, with a deadline. The one way in which tests wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_S = 60.0
"""Generous: a machine under load must not fail a test. What is slow shows in ``--durations``."""
_LOOK_S = 0.02

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, deadline_s: float = DEADLINE_S, told: Callable[[], object] = str) -> T:
    """The first true value of ``condition``. Fails with ``what`` was waited for, and with what ``told`` says then."""
    end_s = time.monotonic() + deadline_s
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {deadline_s:g} s in vain until {what}; {told()}")
        pause.wait(_LOOK_S)
    return value
