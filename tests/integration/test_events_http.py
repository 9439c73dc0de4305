"""Events over HTTP, as a real producer sends them: real collector, real engine, real sockets."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.events import ago, body, event, full, named
from tests.support.producer import BATCH, EVENTS, JSON, Producer, limited, outcomes, refusal
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

FILE_PATTERN = "00c0ffee00c0ffee-000000000064-00000000"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture
def producer(collector: Collector) -> Producer:
    """A tenant of the test's own."""
    return Producer(collector, collector.new_tenant(f"producer {uuid.uuid4()}"))


# The twelve scenarios of a real producer.


def test_scenario_1_an_event_is_accepted_and_named(producer: Producer) -> None:
    said = named()
    answer = producer.send(said)
    assert answer.status == 200, answer
    assert answer.body == {
        "success": True,
        "event_id": said["event_id"],
        "outcome": "accepted",
        "processing_status": "completed",
        "message": "Event accepted",
        "ingested_at": answer.body["ingested_at"],
    }
    assert answer.body["ingested_at"].endswith("Z")


def test_scenario_2_an_event_sent_again_is_a_duplicate_and_the_stored_one_is_untouched(producer: Producer) -> None:
    said = full()
    first = producer.send(said).body
    second = producer.send({**said, "title": "something else", "timestamp": ago(0)})
    assert (second.status, second.body["success"], second.body["duplicate"]) == (200, True, True)
    assert second.body["message"] == "Event already exists (idempotent)"
    assert second.body["ingested_at"] == first["ingested_at"]
    assert second.body["event"]["title"] == said["title"]
    assert [found["title"] for found in producer.found()] == [said["title"]]


def test_scenario_3_one_idempotency_key_is_one_event(producer: Producer) -> None:
    first, second = (producer.send(event(), Idempotency_Key="order-8").body for _ in range(2))
    other = producer.send(event(), Idempotency_Key="order-9").body
    assert first["event_id"] == second["event_id"] != other["event_id"]
    assert (first["outcome"], second["outcome"], other["outcome"]) == ("accepted", "duplicate", "accepted")
    assert producer.count() == 2


def test_scenario_4_fifty_requests_at_once_are_all_answered_and_found(producer: Producer) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(producer.send, [named(title=f"n {n}") for n in range(50)]))
    assert {(answer.status, answer.body["outcome"]) for answer in answers} == {(200, "accepted")}
    assert {found["title"] for found in producer.found()} == {f"n {n}" for n in range(50)}


def test_scenario_5_a_limit_of_100_a_minute_takes_100_of_150_events(collector: Collector) -> None:
    # A burst of its own: a minute may be over before 150 requests are, and more would come in meanwhile.
    producer = limited(collector, events_per_minute=100, events_burst=100)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(producer.send, [named() for _ in range(150)]))
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert 100 <= statuses[200] <= 125
    for answer in answers:
        assert answer.headers["X-RateLimit-Limit"] == "100"
        assert int(answer.headers["X-RateLimit-Remaining"]) <= 100
        assert int(answer.headers["X-RateLimit-Reset"]) >= 0
        if answer.status == 429:
            refusal(answer, 429, "rate_limited")
            assert int(answer.headers["Retry-After"]) >= 1
    assert producer.count() == statuses[200]


def test_scenario_6_a_payload_of_five_megabytes_passes_and_beyond_the_limit_the_number_is_said(collector: Collector) -> None:
    producer = limited(collector, max_event_bytes=6_000_000, max_request_bytes=7_000_000)
    said = named(payload={"blob": "x" * 5_000_000})
    assert producer.send(said).body["outcome"] == "accepted"
    assert producer.get(said["event_id"]).body["payload"] == said["payload"]
    assert producer.batch(named(payload={"blob": "y" * 5_000_000}))["successful_count"] == 1
    assert "6000000 bytes" in refusal(producer.send(named(message="x" * 6_000_000)), 413, "too_large")["message"]
    assert "7000000 bytes" in refusal(producer.send(named(message="x" * 7_000_000)), 413, "too_large")["message"]


def test_scenario_7_a_request_that_timed_out_is_sent_again_and_stored_once(producer: Producer) -> None:
    said = named()
    raw = body(said)
    head = (
        f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nX-API-Key: {producer.key}\r\nContent-Type: {JSON}\r\nContent-Length: {len(raw)}"
    )
    with socket.create_connection(("127.0.0.1", producer.collector.port)) as gone:
        gone.sendall(f"{head}\r\n\r\n".encode() + raw)
    answer = producer.send(said)
    assert (answer.status, answer.body["success"]) == (200, True)
    until(lambda: producer.send(said).body["outcome"] == "duplicate", "it is a duplicate")
    assert producer.count() == 1


def test_scenario_8_one_invalid_event_of_ten_costs_itself(producer: Producer) -> None:
    events = [named(title=f"n {n}") for n in range(10)]
    del events[4]["title"]
    answer = producer.batch(*events)
    assert (answer["total_events"], answer["successful_count"], answer["failed_count"]) == (10, 9, 1)
    assert answer["processing_status"] == "partial"
    assert outcomes(answer) == ["accepted"] * 4 + ["rejected"] + ["accepted"] * 5
    assert [result["event_id"] for result in answer["results"]] == [said["event_id"] for said in events]
    (fault,) = answer["results"][4]["errors"]
    assert (fault["field"], fault["error"]) == ("title", "is required")
    assert producer.count() == 9


def test_scenario_9_a_batch_cut_off_by_a_crash_is_whole_after_it_is_sent_again(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        producer = Producer(collector, collector.new_tenant("atomic"))
        batches = [[full(title=f"{b}-{n}") for n in range(200)] for b in range(10)]
        with ThreadPoolExecutor(10) as pool:
            sending = [pool.submit(_answered, producer, batch) for batch in batches]
            until(lambda: any(future.done() for future in sending), "one batch is answered")
            collector.kill()
        acknowledged = [batch for batch, future in zip(batches, sending, strict=True) if future.result()]
        collector.start()
        for batch in acknowledged:
            assert outcomes(producer.batch(*batch)) == ["duplicate"] * 200
        for batch in batches:
            assert producer.batch(*batch)["processing_status"] == "completed"
        assert producer.count() == 2000
        expected = {said["event_id"]: said for batch in batches for said in batch}
        for found in producer.found(limit=1000):
            said = expected[found["event_id"]]
            assert (found["title"], found["payload"], found["error_details"]) == (
                said["title"], said["payload"], said["error_details"],
            )  # fmt: skip


def _answered(producer: Producer, batch: list[Any]) -> bool:
    try:
        return producer.send({"events": batch}, BATCH).status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_scenario_10_a_hundred_events_at_once_each_have_their_result(producer: Producer) -> None:
    events = [named() for _ in range(100)]
    answer = producer.send({"events": events, "batch_id": "mine", "source_application": "till"}, BATCH).body
    assert (answer["batch_id"], answer["processing_status"], answer["total_events"]) == ("mine", "completed", 100)
    assert [result["event_id"] for result in answer["results"]] == [said["event_id"] for said in events]
    assert outcomes(answer) == ["accepted"] * 100
    assert producer.count() == 100
    assert len(producer.found(source="till")) == 100


@pytest.mark.parametrize(
    ("changed", "field", "sent"),
    [
        ({"title": ...}, "title", None),
        ({"severity": "loud"}, "severity", "loud"),
        ({"metrics": {"status_code": "ok"}}, "metrics.status_code", "ok"),
    ],
)
def test_scenario_11_invalid_input_is_422_with_the_field_the_value_and_a_mend(
    producer: Producer, changed: dict[str, Any], field: str, sent: str | None
) -> None:
    error = refusal(producer.send(named(**changed)), 422, "invalid")
    (fault,) = error["errors"]
    assert (fault["field"], fault["value"]) == (field, sent)
    assert fault["error"]
    assert field in error["message"]
    assert producer.count() == 0


def test_scenario_12_what_was_written_is_found_at_once_with_all_it_said(producer: Producer) -> None:
    said = full()
    producer.send(said)
    (found,) = producer.found(q="zoë order")
    assert found == producer.get(said["event_id"]).body
    for name in ("event_id", "event_type", "title", "message", "severity", "context", "metrics", "error_details", "payload"):
        assert found[name] == said[name], name
    assert found["source"] == said["source"]
    assert (found["metadata"], found["trace_id"], found["span_id"]) == (said["metadata"], said["trace_id"], said["span_id"])
    assert found["attributes"] == {"region": "eu", "retries": "3"}
    assert found["timestamp"][:19] == said["timestamp"][:19]


# Duplicates and deletes.


def test_the_same_new_event_in_fifty_requests_at_once_is_accepted_once(producer: Producer) -> None:
    said = named()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: producer.send(said), range(50)))
    assert Counter(answer.body["outcome"] for answer in answers) == {"accepted": 1, "duplicate": 49}
    assert producer.count() == 1


def test_another_tenants_event_of_the_same_id_is_another_event(collector: Collector, producer: Producer) -> None:
    said = named(title="mine")
    producer.send(said)
    other = Producer(collector, collector.new_tenant("somebody else"))
    assert other.get(said["event_id"]).status == 404
    assert other.delete(said["event_id"]).status == 404
    assert other.send({**said, "title": "theirs"}).body["outcome"] == "accepted"
    assert other.delete(said["event_id"]).status == 200
    assert producer.get(said["event_id"]).body["title"] == "mine"


def test_deleted_then_re_sent(producer: Producer) -> None:
    said = named(message="a needle")
    producer.batch(said, named(message="hay"))
    for message in ("Event deleted", "Event was deleted before"):
        answer = producer.delete(said["event_id"])
        assert (answer.status, answer.body["deleted"], answer.body["message"]) == (200, True, message)
    assert producer.get(said["event_id"]).status == 404
    assert [found["message"] for found in producer.found()] == ["hay"]
    assert producer.found(q="needle") == []
    again = producer.send(said).body
    assert (again["success"], again["duplicate"], again["deleted"], again.get("event")) == (True, True, True, None)
    (result,) = producer.batch(said)["results"]
    assert (result["outcome"], result["deleted"]) == ("duplicate", True)
    assert producer.found(q="needle") == []


def test_a_line_of_a_file_can_be_read_and_deleted_by_its_id(producer: Producer) -> None:
    assert producer.collector.post(producer.key, record(b"one\ntwo\n", base_offset=100)).status == 200
    event_id = wire.event_id("00c0ffee00c0ffee", 104, b"two")
    assert producer.get(event_id).body["message"] == "two"
    assert producer.delete(event_id).status == 200
    assert [found["message"] for found in producer.found()] == ["one"]
    again = producer.collector.post(producer.key, record(b"one\ntwo\n", base_offset=100))
    assert again.status == 200
    assert [found["message"] for found in producer.found()] == ["one"]


def test_an_event_that_never_was_cannot_be_read_or_deleted(producer: Producer) -> None:
    refusal(producer.get("never"), 404, "not_found")
    refusal(producer.delete("never"), 404, "not_found")


def test_an_id_may_hold_any_character_that_can_be_shown(producer: Producer) -> None:
    for event_id in ("o'Brien \\ {id:String} ;--", "größe/8?x=1#y", "%2e%2e", "a,b", "'); DROP"):
        assert producer.send(event(event_id=event_id)).body["outcome"] == "accepted"
        assert producer.send(event(event_id=event_id)).body["outcome"] == "duplicate"
        assert producer.get(event_id).body["event_id"] == event_id
        assert producer.delete(event_id).status == 200
    assert producer.count() == 0


def test_client_sends_an_id_of_the_file_pattern(producer: Producer) -> None:
    error = refusal(producer.send(event(event_id=FILE_PATTERN)), 422, "invalid")
    assert error["errors"][0]["field"] == "event_id"
    assert outcomes(producer.batch(event(event_id=FILE_PATTERN), named())) == ["rejected", "accepted"]


def test_a_key_that_may_only_ingest_is_not_told_what_is_stored_and_cannot_read_or_delete(collector: Collector) -> None:
    slug = f"sidecar-{uuid.uuid4()}"
    owner = Producer(collector, collector.new_tenant("sidecar", slug=slug))
    path, headers = f"/api/v1/tenants/{slug}/keys", {"X-Admin-Token": ADMIN_TOKEN}
    made = collector.request("POST", path, body=body({"scopes": ["ingest"]}), headers=headers)
    assert made.status == 201, made
    sidecar = Producer(collector, made.body["api_key"])
    said = named()
    assert owner.send(said).status == 200
    answer = sidecar.send(said).body
    assert (answer["duplicate"], answer["ingested_at"], answer.get("event")) == (True, None, None)
    assert owner.send(said).body["event"]["event_id"] == said["event_id"]
    refusal(sidecar.get(said["event_id"]), 403, "forbidden")
    refusal(sidecar.delete(said["event_id"]), 403, "forbidden")


# More than one process.


def test_one_event_posted_to_two_collectors_at_once_is_one_event(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "data") as front:
        first = Collector(tmp_path / "one", store=front.url)
        second = Collector(tmp_path / "two", store=front.url)
        with first, second:
            key = first.new_tenant("shared")
            producers = [Producer(first, key), Producer(second, key)]
            events = [named() for _ in range(20)]
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda n: producers[n % 2].send(events[n // 2]), range(40)))
            assert {answer.body["success"] for answer in answers} == {True}
            assert [producer.count() for producer in producers] == [20, 20]
            assert {producers[1].get(said["event_id"]).status for said in events} == {200}


def test_without_the_engine_events_are_503_within_two_seconds_and_taken_when_it_is_back(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "data") as front, Collector(tmp_path / "one", store=front.url) as collector:
        producer = Producer(collector, collector.new_tenant("patient"))
        said = named()
        assert producer.send(said).status == 200
        front.kill()
        began = time.monotonic()
        for path, value in ((EVENTS, named()), (BATCH, {"events": [named(), said]})):
            answer = producer.send(value, path)
            refusal(answer, 503, "store_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() - began < 4
        front.start()
        until(lambda: producer.send(said).status == 200, "the engine is used again")
        assert producer.send(said).body["outcome"] == "duplicate"
        assert producer.count() == 1


# Words.


def test_the_words_of_events_are_told(producer: Producer) -> None:
    types = producer.collector.request("GET", f"{EVENTS}/types", key=producer.key)
    assert types.body["event_types"] == ["api_call", "user_action", "system_event", "error_event", "custom_event", "log"]
    severities = producer.collector.request("GET", f"{EVENTS}/severities", key=producer.key)
    assert severities.body["severities"] == ["debug", "info", "warning", "error", "critical"]
    assert producer.collector.request("GET", f"{EVENTS}/types").status == 401


def test_every_type_and_severity_is_taken(producer: Producer) -> None:
    types = producer.collector.request("GET", f"{EVENTS}/types", key=producer.key).body["event_types"]
    severities = producer.collector.request("GET", f"{EVENTS}/severities", key=producer.key).body["severities"]
    events = [named(event_type=kind) for kind in types] + [named(severity=word) for word in severities]
    assert producer.batch(*events)["processing_status"] == "completed"


def test_nothing_an_event_says_reaches_the_log(producer: Producer) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    producer.send(named(title=secret, message=secret, payload={"x": secret}))
    producer.send(named(severity=secret))
    producer.send(json.dumps(secret).encode())
    producer.batch(named(message=secret), named(event_type=secret))
    assert secret not in producer.collector.stderr.read_text()
