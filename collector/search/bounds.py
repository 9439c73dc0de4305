"""What one query of a caller may cost: the least of the collector's bound, the tenant's, and the statement's own. Pure."""

from __future__ import annotations

from typing import NamedTuple

from collector.config import Limits, StoreConfig
from collector.errors import FieldError, QueryTooExpensive
from collector.search.query import Statement

GIVEN_UP_CODES = {158: "rows", 159: "time", 160: "time", 241: "memory", 307: "rows", 396: "rows"}
"""The engine's codes for a query that met one of its bounds (rows, time, slowness, memory, bytes, result), and which."""

NO_LIMITS = Limits()
"""Of nobody: the collector's bounds count."""

_MEND = "narrow it: a shorter time range (start_time, end_time), a service, or a rarer word"


class Bound(NamedTuple):
    value: float
    """0: none."""
    name: str
    """Of the setting or limit that it comes from."""


class Bounds(NamedTuple):
    time: Bound
    memory: Bound
    rows: Bound

    def settings(self) -> dict[str, str]:
        """Of the engine; the time goes another way."""
        return {"max_memory_usage": str(int(self.memory.value)), "max_rows_to_read": str(int(self.rows.value))}

    def given_up(self, code: int) -> QueryTooExpensive:
        """What the caller is told when the engine gave up with one of `GIVEN_UP_CODES`."""
        bound: Bound = getattr(self, GIVEN_UP_CODES[code])
        amount = {
            "rows": f"{bound.value:.0f} rows read",
            "time": f"{bound.value:g} s",
            "memory": f"{int(bound.value) >> 20} MiB of memory",
        }[GIVEN_UP_CODES[code]]
        fault = FieldError(bound.name, "is reached", f"{bound.value:.15g}", _MEND)
        return QueryTooExpensive(f"the query was given up at its bound of {amount} ({bound.name}); {_MEND}", errors=(fault,))


def bounds_of(store: StoreConfig, limits: Limits, statement: Statement) -> Bounds:
    """The bounds of one statement.

    Args:
        limits: of the tenant; 0 in them means the collector's.
    """
    return Bounds(
        _least(
            Bound(store.query_timeout_s, "store.query_timeout_s"),
            Bound(limits.max_query_seconds, "max_query_seconds"),
            Bound(statement.timeout_s or 0, "time for this step"),
        ),
        _least(
            Bound(store.max_query_memory_bytes, "store.max_query_memory_bytes"),
            Bound(limits.max_query_memory_bytes, "max_query_memory_bytes"),
        ),
        _least(
            Bound(store.max_query_rows, "store.max_query_rows"),
            Bound(limits.max_query_rows, "max_query_rows"),
            Bound(statement.max_rows or 0, "rows for this step"),
        ),
    )


def _least(*bounds: Bound) -> Bound:
    return min((bound for bound in bounds if bound.value), default=bounds[0])
