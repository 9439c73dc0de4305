"""What a question for figures says and is answered. Pure types: the API's description is made from them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from collector.search.members import Members

MAX_GROUP_FIELDS = 4
MAX_METRICS = 20
MAX_HAVING = 10
DEFAULT_ROWS = 100
MAX_ROWS = 10_000

Function = Literal["count", "count_distinct", "sum", "avg", "min", "max", "p50", "p90", "p95", "p99", "percentiles"]
Value = int | float | str | None


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure over the events of a group."""

    function: Function
    field: str | None = None
    """What it is taken of; `count` without a field counts events, with one the events that have it."""
    percentiles: Annotated[list[Annotated[float, Meta(ge=0, le=100)]], Meta(max_length=MAX_METRICS)] = []
    """For the function `percentiles`."""
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """What it is called in the answer; else the function and the field."""


class Having(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which groups are shown."""

    metric: str
    """A metric by its name."""
    op: Literal[">", ">=", "<", "<=", "=", "!="]
    value: float


class AggregateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events are meant, how they are grouped, and what of each group is asked."""

    filter: Members = {}
    """Parameters of a search by name; a list is a parameter given several times."""
    q: str | None = None
    start_time: str | int | float | None = None
    end_time: str | int | float | None = None
    group_by: Annotated[list[str], Meta(max_length=MAX_GROUP_FIELDS)] = []
    """Fields; attributes as attr.NAME."""
    interval: str | None = None
    """Groups are parted over time, too: as in the histogram."""
    time_zone: str | None = None
    metrics: Annotated[list[Metric], Meta(max_length=MAX_METRICS)] = []
    """Not given: the number of events."""
    having: Annotated[list[Having], Meta(max_length=MAX_HAVING)] = []
    """All must hold."""
    order_by: Annotated[list[str], Meta(max_length=MAX_GROUP_FIELDS + MAX_METRICS)] = []
    """Metrics, grouped fields or `time`, each with - in front for falling order. Not given: by time, then the first
    metric, falling."""
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = DEFAULT_ROWS


class AggregateRow(msgspec.Struct, frozen=True):
    group: dict[str, Value]
    """Null: the events have no value there."""
    time: str | None
    """Where the bucket begins, if there is an interval."""
    metrics: dict[str, Value]
    """Null: there was nothing to take it of."""


class AggregateAnswer(msgspec.Struct, frozen=True):
    """Exact figures over the events that match; buckets without events have no row."""

    start_time: str
    end_time: str
    interval: str | None
    time_zone: str
    rows: list[AggregateRow]
    group_count: int
    """Groups there are, whether `having` and `limit` leave them or not."""
    has_more: bool
    not_numbers: dict[str, int]
    """By metric: values that were said and are no numbers, in all groups together."""
    execution_time_ms: float
