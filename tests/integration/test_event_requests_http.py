"""What an ingest request may be: its times, bodies, parameters and limits. Real collector, real engine, real sockets."""

from __future__ import annotations

import gzip
import importlib.util
import sys
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.collector import Collector
from tests.support.events import ago, body, event, named
from tests.support.producer import BATCH, EVENTS, Producer, limited, outcomes, refusal
from tests.support.wait import until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture
def producer(collector: Collector) -> Producer:
    """A tenant of the test's own."""
    return Producer(collector, collector.new_tenant(f"producer {uuid.uuid4()}"))


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
