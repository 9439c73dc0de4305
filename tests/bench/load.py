"""How much a benchmark is given to do."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    size_mb: float = 400
    """Of the access log; JSON lines are half of it."""
    idle_s: float = 10.0
    """How long an idle process is watched."""
    many_files: int = 10_000
    lines: int = 50
    """How many lines are timed on their way, one by one."""
    quiet_s: float = 0.5
    """Between two of them."""
    merge_s: float = 60.0
    """How long the engine may merge after the last event, at most."""
    api_events: int = 200_000
    """In batches."""
    api_single_events: int = 20_000
    api_rate: float = 500.0
    """Single events a second at a fixed pace."""
    api_s: float = 10.0
    """How long a pace is kept."""
    api_quiet_rate: float = 50.0
    """Single events a second of the tenant beside the flood."""
    api_flood: int = 3_000
    """Batches made for the flood: enough that it lasts."""
    steady_rate: float = 10_000.0
    """Lines a second, one file."""
    steady_s: float = 60.0
    search_rows: int = 2_000_000
    """Events to search in; before, the same with a tenth of them."""
    search_rounds: int = 20
    """How often each question is asked."""
    store_rows: int = 500_000
    """Into tables that lack an index or a column."""
    store_columns: int = 100
    """Of how many columns the cost is looked at."""
    store_lines: int = 1_000_000
    """Of access logs, to see how small they get."""


QUICK = Load(
    size_mb=1,
    idle_s=0.2,
    many_files=300,
    lines=3,
    quiet_s=0.05,
    merge_s=0.5,
    api_events=2_000,
    api_single_events=200,
    api_rate=50.0,
    api_s=0.5,
    api_flood=80,
    steady_rate=500.0,
    steady_s=1.0,
    search_rows=20_000,
    search_rounds=2,
    store_columns=1,
    store_rows=3_000,
    store_lines=3_000,
)
"""To see that it works."""
