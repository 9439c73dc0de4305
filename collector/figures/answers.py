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
    """The beginning of it, if it is long."""
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


class FacetValue(msgspec.Struct, frozen=True):
    value: str
    count: int
    truncated: bool
    """Only the beginning of the value is shown."""


class Facet(msgspec.Struct, frozen=True):
    field: str
    values: list[FacetValue]
    """Those with the most events, the largest first; of equal ones the lesser value first."""
    distinct_count: int
    """Values there are, listed or not."""
    other_count: int
    """Events with values that are not listed; of a list each of these values counts."""
    missing_count: int
    """Events without a value."""


class FacetsAnswer(msgspec.Struct, frozen=True):
    """Exact numbers of events by the values of fields, for the current filter."""

    start_time: str
    end_time: str
    total_count: int
    facets: list[Facet]
    """In the order asked for."""
    execution_time_ms: float


class FieldShown(msgspec.Struct, frozen=True):
    name: str
    """As it is asked for in facets, histograms and aggregates."""
    place: str
    """Where it is in an event."""
    type: str
    """text, number, time or list."""
    count: int
    """Events that have it."""
    examples: list[str]
    """Some of the most frequent values, their beginnings; of times the first and the last."""


class FieldsAnswer(msgspec.Struct, frozen=True):
    """The fields that events have, those of attributes by the number of events."""

    start_time: str
    end_time: str
    sampled: bool
    """The numbers are of the newest events that match; otherwise they are exact."""
    sampled_events: int
    """Events that were looked at."""
    fields: list[FieldShown]
    more_attributes: bool
    """There are more names of attributes than are shown."""
    execution_time_ms: float
