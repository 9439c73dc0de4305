"""What one tenant's queries may cost: bounds of its own, told by name; what was found before one is shown, marked."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.collector import Collector, record

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

SEARCH = "/api/v1/ingestion/events/search"
DAY_NS = 86_400 * 1_000_000_000
OLD, NEW = 20_000, 3


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


def key_of(collector: Collector, name: str, **limits: Any) -> str:
    """Of a tenant with many old lines and few new ones."""
    key = collector.new_tenant(name, limits=limits)
    for lines, ago_ns in ((b"an old line\n" * OLD, 6 * DAY_NS), (b"a new line\n" * NEW, 0)):
        assert collector.post(key, record(lines, observed_ns=time.time_ns() - ago_ns)).status == 200
    return key


@pytest.mark.parametrize(
    ("limit", "value"), [("max_query_rows", 1000), ("max_query_seconds", 0.0001), ("max_query_memory_bytes", 10_000)]
)
def test_a_query_beyond_a_bound_of_its_tenant_is_422_and_names_the_bound(
    collector: Collector, limit: str, value: float
) -> None:
    key = key_of(collector, limit, **{limit: value})
    answer = collector.request("GET", f"{SEARCH}?q=old+/l.ne/&order=asc", key=key)
    assert (answer.status, answer.body["error"]["code"]) == (422, "query_too_expensive"), answer
    (fault,) = answer.body["error"]["errors"]
    assert (fault["field"], float(fault["value"])) == (limit, value)
    assert fault["suggestion"]


def test_what_was_found_before_a_bound_was_met_is_shown_and_marked_as_partial(collector: Collector) -> None:
    key = key_of(collector, "partial", max_query_rows=5000)
    page = collector.search(key, q="/l.ne/", limit=10)
    assert [shown["message"] for shown in page["events"]] == ["a new line"] * NEW
    assert (page["partial"], page["has_more"], page["total_is_exact"]) == (True, True, False)
    assert "5000 rows read (max_query_rows)" in page["partial_reason"]


def test_a_tenant_without_bounds_of_its_own_sees_all(collector: Collector) -> None:
    page = collector.search(key_of(collector, "all"), q="/l.ne/", limit=10)
    assert (len(page["events"]), page["partial"], page["total_count"]) == (10, False, OLD + NEW)
