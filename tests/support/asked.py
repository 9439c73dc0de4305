"""Events of two tenants as a store comes to have them, and what a person who reads them one by one would count.

Copies lie in parts of their own, some events were deleted, some are older than the retention, and two have bytes that are
no UTF-8. What is counted by hand starts from the pages of a search.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from collector.config import StoreConfig
from collector.search import fields, paging, query
from collector.search.event_by_id import HIGHEST_VERSION
from collector.search.query import DAY_US, Statement
from collector.search.reading import bounded
from collector.store.columns import EVENT_COLUMNS
from collector.store.store import Store
from tests.support.records import NOW_NS

NOW = NOW_NS // 1000
DAYS = 20
"""Of retention; the rows are of the class of 30 days, so that it is the reads that have to hide what is older."""
SERVICES = ("shop", "stock", "größe", "ΟΔΟΣ", "")
SEVERITIES = ("debug", "info", "info", "info", "warning", "error", "critical")
REGIONS = ("eu", "us", "", "a=b", "日本")
Shown = dict[str, Any]
Values = dict[str, str]

FILTERS: tuple[Values, ...] = (
    {},
    {"service": "größe"},
    {"min_severity": "warning"},
    {"q": "word"},
    {"attr.region": "eu"},
    {"tags": "a", "severity": "info"},
    {"status_code": "0,404"},
    {"start_time": "-36h", "end_time": "-2h"},
    {"service": "nowhere"},
    {"q": "(service:größe OR severity:error) NOT tags:a"},
    {"q": "attr.took:>1 OR attr.region:eu", "event_type": "log"},
)


def rows(tenant_id: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of events, by column."""
    some = random.Random(seed)
    made = []
    for n in range(count):
        metrics = some.sample(["status_code", "response_time_ms", "request_size_bytes"], some.randrange(4))
        said = {
            name: some.choice(
                {"status_code": (0, 200, 404, 503), "response_time_ms": (0.0, 1.5, 12.25, 300.0)}.get(name, (0, 7))
            )
            for name in metrics
        }
        attributes = {"region": some.choice(REGIONS)} if n % 3 else {}
        attributes |= {"took": some.choice(("1", "2.5", "x", "", "1e3", "nan"))} if n % 2 else {}
        age_us = some.randrange(DAYS * DAY_US) if n % 4 else some.randrange(3 * DAY_US)
        made.append(
            {
                "tenant_id": tenant_id,
                "external_id": f"event-{n}",
                "timestamp": NOW - age_us,
                "observed_timestamp": NOW,
                "event_type": some.choice(("log", "api_call")),
                "severity": some.choice(SEVERITIES),
                "service": some.choice(SERVICES),
                "message": some.choice(("a word", "other words", "Größe")),
                "attributes": attributes,
                "retention_days": 30,
                "version": 1_000_000 - n,
                "is_deleted": 0,
                "user_id": some.choice(("", "u-1", "u-2")),
                "tags": some.sample(["a", "b", "ü"], some.randrange(4)) + ["a"] * (n % 7 == 0),
                "zero_metrics": [name for name, value in said.items() if value == 0],
                **said,
            }
        )
    return made


async def fill(store: Store, tenant_id: str) -> None:
    """Give the tenant events, and others to a tenant beside it."""
    own, others = rows(tenant_id, 240, 1), rows(f"{tenant_id}-other", 60, 2)
    old = [
        {**row, "external_id": f"old-{n}", "timestamp": NOW - DAYS * DAY_US - 1 - n * DAY_US // 4}
        for n, row in enumerate(own[:20])
    ]
    gone = [{**row, "is_deleted": 1, "version": HIGHEST_VERSION} for row in own[::17]]
    later = [{**row, "version": row["version"] - 500_000} for row in own[::3]]
    for part in (own, [*others, *old], later, gone, own[::5]):
        await store.insert("events", COLUMNS, [[row.get(name, DEFAULTS[name]) for name in COLUMNS] for row in part])
    for n, byte in enumerate(("ff", "fe")):
        changed = {
            "external_id": f"'broken-{n}'",
            "user_id": f"concat('x', unhex('{byte}'))",
            "tags": f"[concat('t', unhex('{byte}'))]",
            "attributes": f"map('region', unhex('{byte}'))",
        }
        values = ", ".join(changed.get(name, name) for name in EVENT_COLUMNS)
        select = f"SELECT {values} FROM events WHERE tenant_id = {{t:String}} AND external_id = 'event-1' LIMIT 1"
        await store.insert_from("events", list(EVENT_COLUMNS), select, {"t": tenant_id})


COLUMNS = (
    "tenant_id", "external_id", "timestamp", "observed_timestamp", "event_type", "severity", "service", "message", "attributes",
    "retention_days", "version", "is_deleted", "user_id", "tags", "zero_metrics", "status_code", "response_time_ms",
    "request_size_bytes",
)  # fmt: skip
DEFAULTS: dict[str, Any] = {
    name: 0 if name in ("status_code", "response_time_ms", "request_size_bytes") else "" for name in COLUMNS
}


class Asking:
    """A tenant that asks at a moment of the test's own."""

    def __init__(self, store: Store, tenant_id: str) -> None:
        self.store = store
        self.tenant_id = tenant_id
        self.context: dict[str, Any] = {"tenant_id": tenant_id, "retention_days": DAYS, "now_us": NOW}
        self._pages: dict[tuple[tuple[str, str], ...], list[Shown]] = {}

    async def run(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Within the bounds of a statement, as a collector would."""
        return await bounded(self.store, StoreConfig(), statement)

    async def events(self, values: Values) -> list[Shown]:
        """All that a search shows, by its pages."""
        kept = self._pages.get(pairs := tuple(values.items()))
        if kept is None:
            kept, cursor = [], {}
            while True:
                asked = query.parse([*pairs, ("limit", "100"), *cursor.items()], **self.context)
                page = await paging.page(self.run, asked)
                kept += [event.shown for event in page.events]
                if not page.has_more:
                    break
                last = page.events[-1]
                cursor = {"cursor": query.cursor_after(asked, last.time_us, last.external_id)}
            self._pages[pairs] = kept
        return kept


def values_of(shown: Shown, name: str) -> list[str]:
    """The values that a shown event has in a field, as texts; none where it does not say."""
    field = fields.field_of(name)
    assert field is not None
    if field.attribute:
        return [shown["attributes"][field.attribute]] if field.attribute in shown["attributes"] else []
    place: Any = shown
    for part in field.place.split("."):
        place = place.get(part, "")
    if field.kind == fields.LIST:
        return sorted(set(place))
    if field.kind == fields.NUMBER:
        return [] if place == "" else [str(place).removesuffix(".0")]
    return [place] if place not in ("", {}) else []


def tally(shown: Iterable[Shown], name: str) -> dict[str | None, int]:
    """How many events have each value; None: none."""
    found: dict[str | None, int] = {}
    for one in shown:
        for value in values_of(one, name) or [None]:
            found[value] = found.get(value, 0) + 1
    return found
