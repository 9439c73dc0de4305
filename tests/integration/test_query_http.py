"""The query language over HTTP: events of files and of the API found by it, and what is wrong with a query, told in place."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.support.collector import Answer, Collector, record

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

INGESTION = "/api/v1/ingestion"
NOW_NS = time.time_ns() - 600 * 1_000_000_000


def event(name: str, **changed: Any) -> dict[str, Any]:
    source = {"service": "shop", "endpoint": "/pay", "method": "POST"}
    return {"event_id": name, "event_type": "api_call", "title": f"title of {name}", "source": source, **changed}


EVENTS = [
    event(
        "refused",
        severity="error",
        message="Payment refused by the bank",
        metrics={"status_code": 402, "response_time_ms": 812.5},
    ),
    event("paid", metrics={"status_code": 200, "response_time_ms": 40}, context={"user_id": "u-1", "tags": ["web", "eu west"]}),
    event("crash", severity="critical", error_details={"error_code": "E42", "stack_trace": "at main (shop.py:7)"}),
    event("pod", attributes={"k8s.pod.name": "web-1", "user.id": 42, "region": "eu=1, west"}, trace_id="t-1"),
]
LINES = b'{"level":"warn","msg":"slow query","status":500,"took.ms":1250}\n'


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    made = collector.new_tenant("queries")
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"events": EVENTS}).encode()
    answer = collector.request("POST", f"{INGESTION}/events/batch", key=made, body=body, headers=headers)
    assert answer.body["processing_status"] == "completed", answer
    line = record(LINES, agent="node-8", observed_ns=NOW_NS, format="json", source="app-log")
    assert collector.post(made, line).status == 200
    return made


def get(collector: Collector, key: str, path: str, **parameters: str) -> Answer:
    return collector.request("GET", f"{INGESTION}/{path}?{urlencode(parameters, quote_via=quote)}", key=key)


def post(collector: Collector, key: str, path: str, body: dict[str, Any]) -> Answer:
    headers = {"Content-Type": "application/json"}
    return collector.request("POST", f"{INGESTION}/{path}", key=key, body=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize(
    ("q", "names"),
    [
        ("level:>=error", {"refused", "crash"}),
        ("level:>=warning -crash", {"refused", "line"}),
        ("status:>=400", {"refused", "line"}),
        ("status_code:[200 TO 402}", {"paid"}),
        ("response_time_ms:>100 OR took.ms:>100", {"refused", "line"}),
        ('"refused by the bank"', {"refused"}),
        ('"refused bank"', set()),
        ("message:/(?i)PAYMENT|slow/", {"refused", "line"}),
        ("pay* AND NOT paid", {"refused"}),
        ("k8s.pod.name:web-? AND user.id:42", {"pod"}),
        (r"region:eu\=1*", {"pod"}),
        ('tags:"eu west" user_id:u-1', {"paid"}),
        ("_exists_:trace_id OR error_details.error_code:E42", {"pod", "crash"}),
        ("stack_trace:shop.py", {"crash"}),
        ("source:app-log host:node-8 agent:*", {"line"}),
        ("event_type:log timestamp:[now-1h TO now]", {"line"}),
        ("title:* -(refused OR paid OR pod)", {"crash"}),
        ("method:post AND endpoint:/pay AND id:(paid OR pod)", {"paid", "pod"}),
    ],
)
def test_a_query_finds_what_it_names_and_nothing_else(collector: Collector, key: str, q: str, names: set[str]) -> None:
    answer = get(collector, key, "events/search", q=q)
    assert answer.status == 200, answer
    found = {"line" if shown["event_type"] == "log" else shown["id"] for shown in answer.body["events"]}
    assert found == names
    assert get(collector, key, "stats", q=q).body["events"]["count"] == len(names)


FAULTS = pytest.mark.parametrize(
    ("q", "column", "said"),
    [
        ("level:error AND (refused OR", 17, "the parenthesis is never closed"),
        ("x level:loud", 9, "'loud' is no severity"),
        ("refused /a{2000}/", 9, "the regular expression repeats too often"),
        ("/ok/ OR service:/[z-a]/", 17, "a range that runs backwards"),
    ],
)


@pytest.mark.parametrize(
    "path", ["events/search", "stats", "events/histogram", "events/facets", "events/export", "events/tail"]
)
@FAULTS
def test_a_fault_is_told_with_its_column_a_caret_and_a_mend(
    collector: Collector, key: str, path: str, q: str, column: int, said: str
) -> None:
    answer = get(collector, key, path, q=q, **({"fields": "service"} if path.endswith("facets") else {}))
    check_told(answer, "q", q, column, said)


@pytest.mark.parametrize(
    ("path", "within"),
    [("events/aggregate", "filter"), ("events/aggregate", ""), ("searches", "query"), ("searches", "query of nothing")],
)
@FAULTS
def test_a_fault_in_a_body_is_told_as_well(
    collector: Collector, key: str, path: str, within: str, q: str, column: int, said: str
) -> None:
    """Also where nothing is looked at for it: a search is saved only if it can be asked."""
    within, _, of_nothing = within.partition(" ")
    asked: dict[str, Any] = {"q": [q], "end_time": "-29d"} if of_nothing else {"q": q}
    body = {within: asked} if within else asked
    told = post(collector, key, path, {"name": "faulty", **body} if path == "searches" else body)
    check_told(told, f"{within}.q" if within else "q", q, column, said)
    assert get(collector, key, "searches").body == {"searches": []}


def check_told(answer: Answer, field: str, q: str, column: int, said: str) -> None:
    assert answer.status == 422, answer
    (fault,) = answer.body["error"]["errors"]
    assert (fault["field"], fault["value"]) == (field, q)
    assert said in fault["error"]
    assert fault["error"].endswith(f" at column {column}\n{q}\n{' ' * (column - 1)}^")
    assert fault["suggestion"]
    assert "Exception" not in str(answer.body)


@pytest.mark.parametrize("q", ["\x00", "a\x00'b", "{x:String}", "{tenant:String} OR 1", "'; DROP TABLE events; --", "`",
                               "a\\'b", "a:{b}", 'a:"\\', "\\\\' OR 1=1 --", "%' OR '%'='", "a:'b", "/'/", "/{x:String}/",
                               "*'*",
                               "日本'*", "\\"])  # fmt: skip
def test_odd_text_finds_nothing_or_is_told(collector: Collector, key: str, q: str) -> None:
    answer = get(collector, key, "events/search", q=q)
    assert answer.status in (200, 422), answer
    if answer.status == 422:
        assert [fault["field"] for fault in answer.body["error"]["errors"]] == ["q"]
    else:
        assert answer.body["events"] == []


def test_a_page_by_cursor_means_the_same_now_as_the_first(collector: Collector, key: str) -> None:
    q = "timestamp:>now-1h"
    first = get(collector, key, "events/search", q=q, limit="2").body
    second = get(collector, key, "events/search", q=q, limit="10", cursor=first["next_cursor"]).body
    assert first["total_count"] == len(EVENTS) + 1
    assert len({shown["id"] for shown in first["events"] + second["events"]}) == len(EVENTS) + 1
