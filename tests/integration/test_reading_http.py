"""What a tenant reads: filters, pages, NDJSON, stats, outcomes, agents, health. A real collector, a real engine."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from agent import codec, wire
from tests.support.collector import Answer, Collector, record, until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

SEARCH = "/api/v1/ingestion/events/search"
BATCH = "/api/v1/ingestion/events/batch"
NOW_S = int(time.time()) - 600


def event(name: str, **changed: Any) -> dict[str, Any]:
    """An event whose ID is ``name``; ``source``, ``context`` and ``metrics`` are given in full."""
    return {
        "event_id": name,
        "event_type": "api_call",
        "title": f"title of {name}",
        "source": {"service": "shop", "endpoint": "/pay", "method": "POST"},
        "timestamp": NOW_S,
        **changed,
    }


EVENTS = [
    event("plain"),
    event("login", event_type="user_action", severity="warning", context={"user_id": "u-1", "tags": ["web", "eu"]}),
    event("crash", event_type="error_event", severity="critical", metrics={"status_code": 503}),
    event("missing", severity="error", metrics={"status_code": 404}, context={"tags": ["web"]}),
    event("other", source={"service": "stock", "endpoint": "/items/7", "method": "GET", "name": "stock-log"}),
    event("region", attributes={"region": "eu=1, west", "host.name": "node-7"}),
    event("decoy", attributes={"region=eu": "1, west"}),
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    """Of a tenant that has `EVENTS` and one line of a file."""
    made = collector.new_tenant("reader")
    store(collector, made, EVENTS)
    answer = collector.post(made, record(b"a line of a file\n", agent="node-8", observed_ns=NOW_S * 1_000_000_000))
    assert answer.status == 200, answer
    return made


def store(collector: Collector, key: str, events: list[dict[str, Any]]) -> Answer:
    headers = {"Content-Type": "application/json"}
    answer = collector.request("POST", BATCH, key=key, body=json.dumps({"events": events}).encode(), headers=headers)
    assert answer.body["processing_status"] == "completed", answer
    return answer


def get(collector: Collector, key: str, path: str, query: str = "", **headers: str) -> Answer:
    return collector.request("GET", f"{path}?{query}" if query else path, key=key, headers=headers)


def found(collector: Collector, key: str, query: str) -> set[str]:
    answer = get(collector, key, SEARCH, query)
    assert answer.status == 200, answer
    return {shown["event_id"] if len(shown["event_id"]) < 20 else "line" for shown in answer.body["events"]}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("event_type=user_action,error_event", {"login", "crash"}),
        ("event_type=log", {"line"}),
        ("severity=error", {"missing"}),
        ("min_severity=error", {"missing", "crash"}),
        ("min_severity=warning&severity=critical,debug", {"crash"}),
        ("service=stock", {"other"}),
        ("endpoint=/items/7", {"other"}),
        ("method=get", {"other"}),
        ("method=GET", {"other"}),
        ("source=stock-log", {"other"}),
        ("status_code=404", {"missing"}),
        ("status_code=5xx", {"crash"}),
        ("status_code=400-503", {"missing", "crash"}),
        ("status_code=5XX,404", {"missing", "crash"}),
        ("user_id=u-1", {"login"}),
        ("tags=web", {"login", "missing"}),
        ("tags=web&tags=eu", {"login"}),
        ("tags=eu,nothing", {"login"}),
        (f"attr.region={quote('eu=1, west')}", {"region"}),
        (f"attr.{quote('region=eu')}={quote('1, west')}", {"decoy"}),
        ("attr.region=nothing&attr.region=" + quote("eu=1, west"), {"region"}),
        ("attr.region=", set()),
        ("host=node-7", {"region"}),
        ("host=node-7,node-8", {"region", "line"}),
        ("q=title+login", {"login"}),
        ("event_id=crash", {"crash"}),
        ("service=shop&severity=error&status_code=4xx&tags=web&q=missing", {"missing"}),
        ("start_time=-9m", set()),  # all is ten minutes old
        ("start_time=-1h&end_time=now&service=stock", {"other"}),
        ("service=" + quote("\x00';--"), set()),
        (f"attr.{quote('{x:String}')}={quote(chr(92) + chr(39))}", set()),
    ],
)
def test_a_filter_finds_what_it_names_and_nothing_else(collector: Collector, key: str, query: str, names: set[str]) -> None:
    assert found(collector, key, query) == names


def test_pages_by_offset_and_by_cursor_show_every_event_once(collector: Collector, key: str) -> None:
    everything = [shown["id"] for shown in collector.search(key)["events"]]
    assert len(everything) == len(EVENTS) + 1
    by_offset = [collector.search(key, limit=3, offset=at) for at in range(0, len(everything), 3)]
    assert [shown["id"] for page in by_offset for shown in page["events"]] == everything
    assert [page["total_count"] for page in by_offset] == [len(everything)] * len(by_offset)
    assert [page["has_more"] for page in by_offset] == [True, True, False]
    after = collector.search(key, limit=3, cursor=by_offset[0]["next_cursor"])
    assert [shown["id"] for shown in after["events"]] == everything[3:6]


def test_an_offset_beside_a_cursor_is_refused(collector: Collector, key: str) -> None:
    cursor = collector.search(key, limit=3)["next_cursor"]
    answer = get(collector, key, SEARCH, f"cursor={cursor}&offset=3")
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, "offset")


def test_the_total_is_exact_and_says_so(collector: Collector, key: str) -> None:
    page = collector.search(key, limit=2)
    assert (page["total_count"], page["total_is_exact"], page["filtered_count"]) == (len(EVENTS) + 1, True, 2)


@pytest.mark.parametrize(("query", "accept"), [("format=ndjson", "*/*"), ("", "application/x-ndjson")])
def test_ndjson_has_an_event_a_line_and_the_cursor_in_a_header(collector: Collector, key: str, query: str, accept: str) -> None:
    answer = get(collector, key, SEARCH, f"{query}&limit=5", Accept=accept)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert lines == collector.search(key, limit=5)["events"]
    assert answer.headers["X-Has-More"] == "true"
    rest = get(collector, key, SEARCH, f"format=ndjson&limit=10000&cursor={answer.headers['X-Next-Cursor']}")
    assert len(rest.body.splitlines()) == len(EVENTS) + 1 - 5
    assert (rest.headers["X-Has-More"], rest.headers["X-Next-Cursor"]) == ("false", None)


@pytest.mark.parametrize("path", ["search", "stats", "outcomes", "agents", "health"])
def test_a_parameter_that_is_not_known_is_named_everywhere(collector: Collector, key: str, path: str) -> None:
    where = SEARCH if path == "search" else f"/api/v1/ingestion/{path}"
    answer = get(collector, key, where, "colour=red")
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, "colour")


def test_bytes_of_a_url_that_are_no_text_are_refused(collector: Collector, key: str) -> None:
    answer = get(collector, key, SEARCH, "service=%FF&q=%00")
    assert answer.status in (200, 422), answer


def test_stats_sum_up_what_the_filters_leave(collector: Collector, key: str) -> None:
    every = get(collector, key, "/api/v1/ingestion/stats").body["events"]
    assert every["count"] == len(EVENTS) + 1
    assert every["by_severity"] == {"info": 5, "warning": 1, "critical": 1, "error": 1}
    assert every["by_event_type"]["user_action"] == 1
    assert every["by_service"]["stock"] == 1
    some = get(collector, key, "/api/v1/ingestion/stats", "min_severity=error").body["events"]
    assert (some["count"], some["by_service"]) == (2, {"shop": 2})


def test_stats_of_nothing_are_zero(collector: Collector) -> None:
    events = get(collector, collector.new_tenant("empty"), "/api/v1/ingestion/stats").body["events"]
    assert events == {"count": 0, "oldest": None, "newest": None, "by_severity": {}, "by_event_type": {}, "by_service": {}}


def test_outcomes_count_what_became_of_every_event_at_once(collector: Collector) -> None:
    key = collector.new_tenant("outcomes")
    store(collector, key, [event("one"), event("two")])
    store(collector, key, [event("one")])
    headers = {"Content-Type": "application/json"}
    bad = json.dumps({"events": [event("three"), {"event_id": "four"}]}).encode()
    collector.request("POST", BATCH, key=key, body=bad, headers=headers)
    run = record(b"x\ny\n", record_id="r")
    collector.post(key, run)
    collector.post(key, run, **{wire.REPLAY_HEADER: "1"})
    answer = get(collector, key, "/api/v1/ingestion/outcomes").body
    assert answer["total"] == {"accepted": 5, "duplicate": 3, "rejected": 1}
    (hour,) = answer["hours"]
    assert hour["outcomes"] == answer["outcomes"]


def test_outcomes_survive_a_clean_stop_and_are_added_up_over_processes(tmp_path: Any) -> None:
    running = Collector(tmp_path)
    running.start()
    key = running.new_tenant("restarted")
    store(running, key, [event("one")])
    assert running.stop() == 0
    running.start()
    store(running, key, [event("two")])
    assert get(running, key, "/api/v1/ingestion/outcomes").body["total"] == {"accepted": 2}
    running.kill()


def test_outcomes_show_the_losses_that_agents_reported(collector: Collector) -> None:
    key = collector.new_tenant("losses")
    loss = wire.Loss("l-1", "/var/log/a.log", "app", "deleted_before_read", 700, True, 5, "", time.time_ns(), 2)
    raw = wire.encode_losses((loss,))
    header = wire.Header(wire.LOSS, "r-1", agent="node-1", raw_bytes=len(raw), events=1)
    assert collector.post(key, wire.encode_record(header, codec.compress(raw))).status == 200
    answer = get(collector, key, "/api/v1/ingestion/outcomes").body
    assert answer["total"] == {}  # a loss is no event
    losses = answer["losses"]
    assert (losses["count"], losses["bytes"], losses["at_least"]) == (1, 700, True)
    assert losses["by_reason"]["deleted_before_read"]["events"] == 2
    assert [(shown["agent"], shown["path"], shown["offset"]) for shown in losses["newest"]] == [("node-1", "/var/log/a.log", 5)]


@pytest.mark.parametrize("order", ["told, then taken back", "both at once", "taken back first"])
def test_a_loss_that_is_taken_back_counts_no_more(collector: Collector, order: str) -> None:
    key = collector.new_tenant(f"back-{order.split(',')[0].replace(' ', '-')}")
    told = wire.Loss("l-1", "/var/log/a.log", "app", "deleted_before_read", 700, True, 5, "", time.time_ns())
    back = wire.Loss("l-1", "/var/log/a.log", "app", "deleted_before_read", 0, False, 5, "", told.time_ns, 0, True)
    other = wire.Loss("l-2", "/var/log/b.log", "app", "deleted_before_read", 9, False, 0, "", told.time_ns)
    runs = {
        "told, then taken back": [(told, other), (back,), (told,), (back,)],
        "both at once": [(back, other, told)],
        "taken back first": [(back,), (other, told)],
    }
    for number, losses in enumerate(runs[order]):
        raw = wire.encode_losses(losses)
        header = wire.Header(wire.LOSS, f"r-{number}", agent="node-1", raw_bytes=len(raw), events=len(losses))
        assert collector.post(key, wire.encode_record(header, codec.compress(raw))).status == 200
    for path in ("stats", "outcomes"):
        losses = get(collector, key, f"/api/v1/ingestion/{path}").body["losses"]
        assert (losses["count"], losses["bytes"], losses["at_least"]) == (1, 9, False), path
        assert losses["by_reason"]["deleted_before_read"]["came_back"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [("start_time=-200d", "start_time"), ("start_time=now&end_time=-1h", "end_time"), ("end_time=x", "end_time")],
)
def test_a_window_of_outcomes_that_makes_no_sense_is_named(collector: Collector, key: str, query: str, field: str) -> None:
    answer = get(collector, key, "/api/v1/ingestion/outcomes", query)
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, field)


def heartbeat(number: int, **changed: Any) -> bytes:
    raw = wire.encode_heartbeat(wire.Heartbeat(version="1.2", uptime_s=60.0, **changed))
    header = wire.Header(wire.HEARTBEAT, f"h-{number}", agent="node-9", scope="here", raw_bytes=len(raw))
    return wire.encode_record(header, codec.compress(raw))


def test_an_agent_is_known_by_its_last_heartbeat(collector: Collector) -> None:
    key = collector.new_tenant("agents")
    file = wire.FileHealth("/var/log/a.log", "app", 1000, 800, 500, 500, 12.5)
    for number, lag in enumerate((900, 500)):
        answer = collector.post(
            key, heartbeat(number, lag_bytes=lag, lag_s=12.5, lost_bytes=3, recovered_bytes=2, files_total=1, files=(file,))
        )
        assert answer.body["records"] == [wire_outcome(f"h-{number}")]
    (agent,) = get(collector, key, "/api/v1/ingestion/agents").body["agents"]
    assert (agent["agent"], agent["scope"], agent["version"], agent["stopped"]) == ("node-9", "here", "1.2", False)
    assert (agent["lag_bytes"], agent["lag_seconds"], agent["lost_bytes"]) == (500, 12.5, 3)
    assert agent["recovered_bytes"] == 2
    assert agent["silent_seconds"] < 30
    (shown,) = agent["files"]
    assert (shown["path"], shown["acked_bytes"], shown["lag_bytes"], shown["lag_seconds"]) == ("/var/log/a.log", 500, 500, 12.5)
    assert get(collector, key, "/api/v1/ingestion/outcomes").body["total"] == {}


def wire_outcome(record_id: str) -> dict[str, Any]:
    counts = {"accepted": 0, "duplicate": 0, "expired": 0, "rejected": 0}
    return {"record_id": record_id, "outcome": "accepted", **counts, "reason": "", "exceptions": []}


def test_agents_survive_the_collector_and_are_in_the_metrics(tmp_path: Any) -> None:
    running = Collector(tmp_path)
    running.start()
    key = running.new_tenant("kept")
    assert running.post(key, heartbeat(1, lag_bytes=70, lag_s=4.0)).status == 200
    until(lambda: b"collector_agents_lag_bytes 70.0" in running.request("GET", "/metrics").body)
    assert running.stop() == 0
    running.start()
    (agent,) = get(running, key, "/api/v1/ingestion/agents").body["agents"]
    assert agent["lag_bytes"] == 70
    running.kill()


def test_a_heartbeat_with_a_number_that_cannot_be_is_refused(collector: Collector, key: str) -> None:
    assert collector.post(key, heartbeat(1, lag_bytes=-1)).status == 400


def test_health_needs_no_key_and_names_the_parts(collector: Collector) -> None:
    answer = collector.request("GET", "/api/v1/ingestion/health")
    assert (answer.status, answer.body["status"]) == (200, "healthy")
    assert {name: part["status"] for name, part in answer.body["components"].items()} == {
        "store": "ok", "writer": "ok", "limits": "ok",
    }  # fmt: skip
