"""Events over HTTP, as a real producer sends them: real collector, real engine, real sockets."""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import json
import socket
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agent import wire
from tests.support.collector import ADMIN_TOKEN, Answer, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.events import ago, body, event, full, named
from tests.support.wait import until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
BATCH = f"{EVENTS}/batch"
JSON = "application/json"
FILE_PATTERN = "00c0ffee00c0ffee-000000000064-00000000"


class Producer:
    """A tenant's key and the requests made with it."""

    def __init__(self, collector: Collector, key: str) -> None:
        self.collector = collector
        self.key = key

    def send(self, value: Any, path: str = EVENTS, *, query: str = "", **headers: str) -> Answer:
        sent = {"Content-Type": JSON, **{name.replace("_", "-"): text for name, text in headers.items()}}
        raw = value if isinstance(value, bytes) else body(value)
        return self.collector.request("POST", path + query, key=self.key, body=raw, headers=sent)

    def batch(self, *events: Any, query: str = "", **headers: str) -> Any:
        """The answer to a batch that must be one."""
        answer = self.send({"events": events}, BATCH, query=query, **headers)
        assert answer.status == 200, answer
        return answer.body

    def get(self, event_id: str) -> Answer:
        return self.collector.request("GET", f"{EVENTS}/{quote(event_id, safe='')}", key=self.key)

    def delete(self, event_id: str) -> Answer:
        return self.collector.request("DELETE", f"{EVENTS}/{quote(event_id, safe='')}", key=self.key)

    def found(self, **query: object) -> list[Any]:
        return list(self.collector.search(self.key, **query)["events"])

    def count(self) -> int:
        return int(self.collector.search(self.key, limit=1)["total_count"])


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture
def producer(collector: Collector) -> Producer:
    """A tenant of the test's own."""
    return Producer(collector, collector.new_tenant(f"producer {uuid.uuid4()}"))


def limited(collector: Collector, **limits: Any) -> Producer:
    return Producer(collector, collector.new_tenant(f"limited {uuid.uuid4()}", limits=limits))


def outcomes(answer: Any) -> list[str]:
    return [result["outcome"] for result in answer["results"]]


def refusal(answer: Answer, status: int, code: str) -> Any:
    """The error of an answer that must be one."""
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
    return answer.body["error"]


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


# Times.


def test_hundred_and_fifty_days_in_one_batch(collector: Collector) -> None:
    producer = limited(collector, retention_days=90)
    neighbour = limited(collector, retention_days=365)
    events = [named(timestamp=ago(days * 86_400 + 60)) for days in range(150)]
    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(producer.batch, *events)
        theirs = pool.submit(neighbour.batch, *[named(timestamp=ago(days * 86_400)) for days in range(364)])
    assert mine.result()["outcomes"] == {"accepted": 90, "expired": 60}
    assert outcomes(mine.result())[89:91] == ["accepted", "expired"]
    assert theirs.result()["outcomes"] == {"accepted": 364}
    assert (producer.count(), neighbour.count()) == (90, 364)


def test_year_1970_and_2299(producer: Producer) -> None:
    refusal(producer.send(named(timestamp="1970-01-01T00:00:00Z")), 422, "expired")
    ahead = named(timestamp="2299-12-31T00:00:00Z")
    assert producer.send(ahead).body["clock_ahead"] is True
    answer = producer.batch(named(timestamp=0), named(timestamp="2299-01-01"), named())
    assert outcomes(answer) == ["expired", "accepted", "accepted"]
    assert answer["results"][0]["errors"][0]["field"] == "timestamp"
    found = producer.get(ahead["event_id"]).body
    assert found["timestamp"] == found["observed_timestamp"]
    assert found["attributes"] == {"original_timestamp": "2299-12-31T00:00:00Z"}
    assert producer.count() == 3


# Bodies.


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_a_packed_body_is_taken_in_every_encoding(producer: Producer, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstd.compress, "deflate": zlib.compress}[encoding]
    assert producer.send(pack(body(named())), Content_Encoding=encoding).body["outcome"] == "accepted"
    lines = b"\n".join(body(named()) for _ in range(300))
    answer = producer.send(pack(lines), BATCH, Content_Encoding=encoding, Content_Type="application/x-ndjson")
    assert answer.body["successful_count"] == 300
    assert producer.count() == 301


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_thirty_two_kilobytes_of_zstd_become_one_gigabyte(producer: Producer, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstd.compress, "deflate": zlib.compress}[encoding]
    bomb = pack(bytes(256 << 20))
    assert len(bomb) < 300_000
    before = _memory_kib(producer.collector.pid)
    for path in (EVENTS, BATCH):
        error = refusal(producer.send(bomb, path, Content_Encoding=encoding), 413, "too_large")
        assert "16777216 bytes" in error["message"]
    assert _memory_kib(producer.collector.pid) - before < 120_000


def _memory_kib(pid: int) -> int:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_lines_that_are_not_json_cost_themselves(producer: Producer) -> None:
    raw = body(named()) + b"\nnot json\n\n" + body(named()) + b"\n"
    answer = producer.send(raw, BATCH, Content_Type="application/x-ndjson").body
    assert outcomes(answer) == ["accepted", "rejected", "accepted"]
    assert "not JSON: line 1, column 5" in answer["results"][1]["errors"][0]["error"]


@pytest.mark.parametrize(
    ("path", "raw", "status", "text"),
    [
        (EVENTS, b'{"title": "x"\n,}', 400, "line 2, column 2"),
        (BATCH, b'{"events":\n [}', 400, "line 2, column 3"),
        (BATCH, b'{"events": [{"title": "a\xff"}, ', 400, "not JSON"),
        (EVENTS, b"[" * 100_000, 400, "nested too deeply"),
        (EVENTS, b"", 400, "the body is empty"),
        (EVENTS, b"[]", 422, "expected an object, got a list"),
        (BATCH, b"[]", 422, "expected object, got array"),
        (BATCH, b'{"events": []}', 422, "send at least one event"),
        (BATCH, b'{"events": {}}', 422, "expected array, got object"),
        (BATCH, b"{}", 422, "required field events"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_with_a_sentence(
    producer: Producer, path: str, raw: bytes, status: int, text: str
) -> None:
    answer = producer.send(raw, path)
    assert answer.status == status
    assert text in answer.body["error"]["message"].replace("`", "")


def test_limits_of_a_tenant_are_said_with_their_number(collector: Collector) -> None:
    producer = limited(collector, max_batch_events=10, max_event_bytes=2000)
    assert "10 events at most" in refusal(producer.send({"events": [event()] * 11}, BATCH), 413, "too_large")["message"]
    lines = b"\n".join([body(event())] * 11)
    refusal(producer.send(lines, BATCH, Content_Type="application/x-ndjson"), 413, "too_large")
    answer = producer.batch(named(), named(message="x" * 2000))
    assert outcomes(answer) == ["accepted", "rejected"]
    assert "at most 2000" in answer["results"][1]["errors"][0]["error"]


def test_half_a_surrogate_pair_does_not_cost_the_batch(producer: Producer) -> None:
    raw = body({"events": [event(event_id="a", title="cut HALF"), named()]}).replace(b"HALF", rb"\ud83d")
    assert outcomes(producer.send(raw, BATCH).body) == ["accepted", "accepted"]
    assert producer.get("a").body["title"] == "cut \ufffd"


def test_another_content_type_is_refused(producer: Producer) -> None:
    for path in (EVENTS, BATCH):
        refusal(producer.send(b"<xml/>", path, Content_Type="text/xml"), 415, "unsupported_content_type")
        refusal(producer.send(b"{}", path, Content_Encoding="br"), 415, "unsupported_content_type")
    refusal(producer.send(b"{}", EVENTS, Content_Type="application/x-ndjson"), 415, "unsupported_content_type")


# Parameters.


def test_only_failures_are_listed_when_only_they_are_asked_for(producer: Producer) -> None:
    answer = producer.batch(named(), event(title=7), named(), query="?results=failures")
    assert [(result["index"], result["outcome"]) for result in answer["results"]] == [(1, "rejected")]
    assert (answer["total_events"], answer["successful_count"]) == (3, 2)


def test_a_dry_run_gives_the_same_answer_and_stores_nothing(producer: Producer) -> None:
    kept = named()
    producer.send(kept)
    said = named()
    events = [kept, said, said, event(title=7), named(timestamp=0)]
    dry = producer.batch(*events, query="?dry_run=true")
    assert dry["dry_run"] is True
    one = producer.send(said, query="?dry_run=1").body
    assert (one["outcome"], one["dry_run"]) == ("accepted", True)
    assert producer.count() == 1
    wet = producer.batch(*events)
    assert outcomes(wet) == outcomes(dry) == ["duplicate", "accepted", "duplicate", "rejected", "expired"]
    assert producer.count() == 2


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [(BATCH, "?results=some", "results"), (BATCH, "?dry_run=perhaps", "dry_run"), (EVENTS, "?results=all", "results")],
)
def test_a_parameter_that_means_nothing_is_refused_by_name(producer: Producer, path: str, query: str, field: str) -> None:
    assert refusal(producer.send(event(), path, query=query), 422, "invalid")["errors"][0]["field"] == field


def test_an_idempotency_key_names_every_event_of_a_batch_that_has_no_id(producer: Producer) -> None:
    own = named()
    for expected in ("accepted", "duplicate"):
        assert outcomes(producer.batch(event(), own, event(), Idempotency_Key="k")) == [expected] * 3
    assert producer.count() == 3
    assert refusal(producer.send(event(), Idempotency_Key="x" * 256), 422, "invalid")["errors"][0]["field"] == "Idempotency-Key"


def test_events_without_an_id_get_ids_that_rise(producer: Producer) -> None:
    ids = [result["event_id"] for result in producer.batch(*[event()] * 20)["results"]]
    assert ids == sorted(set(ids))
    assert all(uuid.UUID(event_id).version == 7 for event_id in ids)


# Limits.


def test_prefix_admitted_then_retried(collector: Collector) -> None:
    producer = limited(collector, events_per_minute=600, events_burst=20)
    events = [named() for _ in range(60)]
    first = producer.batch(*events)
    taken = first["outcomes"]["accepted"]
    assert 20 <= taken < 60
    assert outcomes(first) == ["accepted"] * taken + ["rate_limited"] * (60 - taken)
    assert first["processing_status"] == "partial"
    assert first["retry_after_s"] >= 1
    assert "send it again" in first["results"][-1]["errors"][0]["suggestion"]
    rounds = 0

    def all_there() -> bool:
        nonlocal rounds, taken
        rounds += 1
        answer = producer.batch(*events)
        assert outcomes(answer)[:taken] == ["duplicate"] * taken
        taken = answer["successful_count"]
        return taken == 60

    until(all_there, "the tail got through", deadline_s=30)
    assert producer.count() == 60


def test_a_tenant_that_wants_all_or_nothing_is_refused_whole(collector: Collector) -> None:
    producer = limited(collector, events_per_minute=60, events_burst=5, on_limit="refuse")
    kept = [named() for _ in range(50)]
    assert producer.batch(*kept)["successful_count"] == 50  # on credit
    error = producer.send({"events": [*kept, *[named() for _ in range(50)]]}, BATCH)
    refusal(error, 429, "rate_limited")
    assert int(error.headers["Retry-After"]) >= 1
    assert producer.batch(*kept)["outcomes"] == {"duplicate": 50}  # what is there costs nothing
    assert producer.count() == 50


def test_a_batch_of_which_nothing_is_taken_is_429(collector: Collector) -> None:
    producer = limited(collector, events_per_minute=1, events_burst=1)
    assert producer.send(named()).status == 200
    answer = producer.send({"events": [named(), named()]}, BATCH)
    refusal(answer, 429, "rate_limited")
    assert int(answer.headers["Retry-After"]) >= 1


def test_duplicates_rejected_and_expired_events_cost_no_budget(collector: Collector) -> None:
    producer = limited(collector, events_per_minute=1, events_burst=3)
    kept = named()
    assert producer.send(kept).status == 200
    for _ in range(5):
        assert producer.send(kept).body["outcome"] == "duplicate"
        refusal(producer.send(event(title=7)), 422, "invalid")
        assert producer.batch(kept, event(title=7), named(timestamp=0))["outcomes"] == {
            "duplicate": 1, "rejected": 1, "expired": 1,
        }  # fmt: skip
    assert producer.send(named()).body["outcome"] == "accepted"


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
