"""What is answered to questions for figures. Pure types: the API's description is made from them."""

from __future__ import annotations

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    start: str
    end: str
    """Not included."""
    count: int
    partial: bool
    """Not all of it lies within the window, or it is not over yet."""


class Series(msgspec.Struct, frozen=True):
    value: str
    count: int
    counts: list[int]
    """One for each bucket."""


class Rest(msgspec.Struct, frozen=True):
    count: int
    counts: list[int]


class HistogramAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Exact numbers of events over time; buckets without events are there, with 0."""

    interval: str
    interval_seconds: int
    time_zone: str
    start_time: str
    end_time: str
    total_count: int
    buckets: list[Bucket]
    execution_time_ms: float
    by: str | None = None
    series: list[Series] | None = None
    """Those of the values with the most events, the largest first. An event with a list counts in each of its values."""
    other: Rest | None = None
    """All other values together."""
    missing: Rest | None = None
    """Events without a value."""
