"""How much a benchmark is given to do."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    size_mb: float = 400
    """Of the access log; JSON lines are half of it."""
    idle_s: float = 10.0
    """How long an idle process is watched."""
    lines: int = 50
    """How many lines are timed on their way, one by one."""
    quiet_s: float = 0.5
    """Between two of them."""
    merge_s: float = 60.0
    """How long the engine may merge after the last event, at most."""


QUICK = Load(size_mb=1, idle_s=0.2, lines=3, quiet_s=0.05, merge_s=0.5)
"""To see that it works."""
