"""Figures over HTTP: the same events as a search has, bounds that are named, faults that are named. A real collector."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent import wire
from tests.support.collector import Answer, Collector, record

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
JSON = {"Content-Type": "application/json"}
MOST_ROWS = 5000
NOW_S = int(time.time()) - 600
FILE_ID = "00c0ffee00c0ffee"
LINES = b"".join(b"line %d\n" % n for n in range(2 * MOST_ROWS))
LINES_SAID: dict[str, Any] = {"file_id": FILE_ID, "base_offset": 4096, "source_from": 4096, "observed_ns": NOW_S * 10**9}
READS = {
    "histogram": f"{EVENTS}/histogram",
    "facets": f"{EVENTS}/facets",
    "fields": f"{EVENTS}/fields",
    "context": f"{EVENTS}/context/first",
}
FILTERS: tuple[dict[str, Any], ...] = (
    {}, {"service": "shop,stock"}, {"severity": "error"}, {"q": "title first"}, {"attr.region": "eu"},
    {"start_time": "-1h", "end_time": "now"}, {"start_time": "-1m"}, {"tags": "a"},
)  # fmt: skip


def event(name: str, **changed: Any) -> dict[str, Any]:
    source = {"service": "shop", "endpoint": "/pay", "method": "POST"}
    said = {"event_id": name, "event_type": "api_call", "title": f"title of {name}", "source": source, "timestamp": NOW_S}
    return {**said, **changed}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector"), bounds=f", max_query_rows: {MOST_ROWS}") as running:
        yield running


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    made = collector.new_tenant("few events")
    events = [
        event("first", severity="error", attributes={"region": "eu"}),
        event("second", source={"service": "stock", "endpoint": "/", "method": "GET"}, context={"tags": ["a", "b"]}),
        event("third", timestamp=NOW_S - 7200, attributes={"region": "eu"}),
        event("größe", source={"service": "größe", "endpoint": "/", "method": "GET"}),
    ]
    answer = collector.request("POST", f"{EVENTS}/batch", key=made, body=json.dumps({"events": events}).encode(), headers=JSON)
    assert answer.body["processing_status"] == "completed", answer
    return made


@pytest.fixture(scope="module")
def lines_key(collector: Collector) -> str:
    """Of a tenant that has a file of more lines than a query may read rows."""
    made = collector.new_tenant("many lines")
    assert collector.post(made, record(LINES, **LINES_SAID)).status == 200
    return made


def get(collector: Collector, key: str, path: str, **query: object) -> Answer:
    return collector.request("GET", path, key=key, query=query)


def aggregate(collector: Collector, key: str, body: Any) -> Answer:
    return collector.request("POST", f"{EVENTS}/aggregate", key=key, body=json.dumps(body).encode(), headers=JSON)


@pytest.mark.parametrize("values", FILTERS, ids=str)
def test_the_same_filters_leave_the_same_events_everywhere(collector: Collector, key: str, values: dict[str, Any]) -> None:
    count = collector.search(key, **values)["total_count"]
    histogram = get(collector, key, READS["histogram"], by="service", **values).body
    assert histogram["total_count"] == sum(bucket["count"] for bucket in histogram["buckets"]) == count
    assert sum(series["count"] for series in histogram["series"]) + histogram["other"]["count"] == count
    facets = get(collector, key, READS["facets"], **values).body
    assert facets["total_count"] == count
    assert {sum(value["count"] for value in facet["values"]) + facet["missing_count"] for facet in facets["facets"]} == {count}
    fields = get(collector, key, READS["fields"], **values).body
    assert (fields["sampled"], fields["sampled_events"]) == (False, count)
    q, rest = values.get("q"), {name: value for name, value in values.items() if name != "q"}
    rows = aggregate(collector, key, {"filter": rest, "q": q}).body["rows"]
    assert rows == [{"group": {}, "time": None, "metrics": {"count": count}}]


def test_a_line_has_the_lines_around_it(collector: Collector) -> None:
    key = collector.new_tenant("few lines")
    raw = LINES[: LINES.index(b"line 900\n")]
    assert collector.post(key, record(raw, **LINES_SAID)).status == 200
    number = raw.count(b"\n")
    path = f"{EVENTS}/context/{wire.event_id(FILE_ID, 4096 + raw.rindex(b'line'), raw[raw.rindex(b'line') : -1])}"
    last = get(collector, key, path, before=3).body
    assert [event["message"] for event in last["before"]] == [f"line {number - n}" for n in (4, 3, 2)]
    assert (last["by"], last["exact"], last["after"], last["after_cursor"]) == ("file", True, [], None)
    further = get(collector, key, path, before=2, cursor=last["before_cursor"]).body
    assert [event["message"] for event in further["before"]] == [f"line {number - n}" for n in (6, 5)]


def test_what_meets_a_bound_is_given_up_and_the_bound_is_named(collector: Collector, lines_key: str) -> None:
    for answer in (
        *(get(collector, lines_key, READS[name]) for name in ("histogram", "facets", "fields")),
        aggregate(collector, lines_key, {"group_by": ["message"]}),
    ):
        error = answer.body["error"]
        assert (answer.status, error["code"]) == (422, "query_too_expensive")
        assert f"at its bound of {MOST_ROWS} rows read" in error["message"]


@pytest.mark.parametrize("name", READS)
def test_a_parameter_that_is_not_known_is_named(collector: Collector, key: str, name: str) -> None:
    answer = get(collector, key, READS[name], colour="red")
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, "colour")


@pytest.mark.parametrize(
    ("name", "query", "field"),
    [
        ("histogram", {"interval": "1s"}, "interval"),
        ("histogram", {"interval": "soon"}, "interval"),
        ("histogram", {"time_zone": "Mars"}, "time_zone"),
        ("histogram", {"by": "sevrity"}, "by"),
        ("histogram", {"by": "timestamp"}, "by"),
        ("histogram", {"by": "service", "top": 51}, "top"),
        ("histogram", {"top": 5}, "top"),
        ("facets", {"fields": "service,sevrity"}, "fields"),
        ("facets", {"fields": ",".join(f"attr.a{n}" for n in range(21))}, "fields"),
        ("facets", {"limit": 0}, "limit"),
        ("facets", {"prefix": ""}, "prefix"),
        ("fields", {"severity": "loud"}, "severity"),
        ("context", {"before": 501}, "before"),
    ],
)
def test_a_value_that_means_nothing_is_named(
    collector: Collector, key: str, name: str, query: dict[str, Any], field: str
) -> None:
    answer = get(collector, key, READS[name], **query)
    assert (answer.status, [fault["field"] for fault in answer.body["error"]["errors"]]) == (422, [field])


def test_a_member_that_is_not_known_is_named_with_the_mend(collector: Collector, key: str) -> None:
    (fault,) = aggregate(collector, key, {"metrics": [{"function": "median"}]}).body["error"]["errors"]
    assert fault["field"] == "metrics[0].function"
    assert fault["suggestion"].startswith("one of count, count_distinct")
    assert aggregate(collector, key, {"group": []}).body["error"]["errors"][0]["field"] == "group"


def test_an_event_that_is_not_there_has_no_context(collector: Collector, key: str, lines_key: str) -> None:
    for event_id in ("nothing", "first"):
        assert get(collector, lines_key, f"{EVENTS}/context/{event_id}").status == 404


def test_every_read_is_counted_and_takes_a_place_at_the_turnstile(collector: Collector, key: str) -> None:
    for path in (*READS.values(), "/api/v1/ingestion/searches"):
        assert get(collector, key, path).status == 200
    assert aggregate(collector, key, {}).status == 200
    metrics = collector.request("GET", "/metrics").body.decode()
    for endpoint in (*READS, "aggregate", "searches"):
        assert f'collector_queries_total{{endpoint="{endpoint}",result="ok"}}' in metrics
