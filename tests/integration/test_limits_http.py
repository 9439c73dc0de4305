"""Limits over HTTP, with real collectors, a real engine and a real Redis."""

from __future__ import annotations

import http.client
import importlib.util
import json
import math
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from collector.config import Limits
from tests.support.collector import ADMIN_TOKEN, REPOSITORY, Answer, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.processes import children, gone
from tests.support.redis import BINARY, Redis
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]
needs_redis = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")

ADMIN = {"X-Admin-Token": ADMIN_TOKEN}
BATCH = "/api/v1/ingestion/events/batch"
SEARCH = "/api/v1/ingestion/events/search"
RATE_LIMIT = "/api/v1/ingestion/rate-limit"
HEALTH = "/api/v1/ingestion/health"

_numbers = count(1)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


def key_of(collector: Collector, **limits: Any) -> str:
    """The key of a tenant of a test's own."""
    return collector.new_tenant(f"limited {next(_numbers)}", limits=limits)


def lines(events: int) -> bytes:
    """A record of so many lines, in a file of its own."""
    return record(b"line\n" * events, file_id=f"{next(_numbers):016x}", base_offset=4096)


def batch(first: int, events: int) -> bytes:
    return json.dumps(
        {
            "events": [
                {
                    "event_id": f"event-{n}",
                    "event_type": "custom_event",
                    "title": "one of many",
                    "source": {"service": "shop", "endpoint": "/x", "method": "GET"},
                }
                for n in range(first, first + events)
            ]
        }
    ).encode()


def send(collector: Collector, key: str, body: bytes) -> Answer:
    return collector.request("POST", BATCH, key=key, body=body, headers={"Content-Type": "application/json"})


def budget(answer: Answer) -> tuple[int, int, int]:
    """Limit, remaining and reset, which every answer to a tenant has."""
    names = ("Limit", "Remaining", "Reset")
    return tuple(int(answer.headers[f"X-RateLimit-{name}"]) for name in names)  # type: ignore[return-value]


def limited(answer: Answer, code: str = "rate_limited") -> int:
    """Retry-After of an answer that must be this refusal."""
    assert (answer.status, answer.body["error"]["code"]) == (429, code), answer
    return int(answer.headers["Retry-After"])


def left(collector: Collector, key: str) -> Any:
    answer = collector.request("GET", RATE_LIMIT, key=key)
    assert answer.status == 200, answer
    return answer.body


def stored(collector: Collector, key: str) -> int:
    return int(collector.search(key, limit=1)["total_count"])


def test_every_answer_to_a_tenant_says_what_is_left(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=100)
    for answer in (
        collector.request("GET", SEARCH, key=key),
        collector.request("GET", SEARCH, key=key, query={"limit": "x"}),
        collector.request("GET", RATE_LIMIT, key=key),
        collector.request("POST", wire.BLOCKS_PATH, key=key, body=b"?", headers={"Content-Type": "text/plain"}),
    ):
        assert budget(answer) == (100, 100, 0)
    assert budget(collector.post(key, lines(10)))[:2] == (100, 90)
    assert "X-RateLimit-Limit" not in collector.request("GET", SEARCH, key="").headers


def test_record_larger_than_the_burst(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=100)
    answer = collector.post(key, lines(150))
    assert (answer.status, answer.body["records"][0]["accepted"]) == (200, 150)
    assert budget(answer)[1] == 0
    again = collector.post(key, lines(10))
    assert 25 <= limited(again) <= 30
    assert 85 <= budget(again)[2] <= 90
    assert stored(collector, key) == 150


def test_after_the_seconds_that_were_named_it_gets_through(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=600)
    run = lines(5)
    assert collector.post(key, lines(610)).status == 200
    assert limited(collector.post(key, run)) == 1
    until(lambda: collector.post(key, run).status == 200, "the debt is paid", deadline_s=3)


def test_duplicates_are_not_charged(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=60, events_burst=100)
    run = lines(60)
    assert collector.post(key, run).status == 200
    for _ in range(3):
        assert collector.post(key, run, X_PulseStream_Replay="1").body["records"][0]["duplicate"] == 60
    assert left(collector, key)["events"]["remaining"] in range(40, 50)
    assert left(collector, key)["month"]["used"] == 60


def test_prefix_admitted_then_retried(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=300, events_burst=50)
    body = batch(0, 70)
    first = send(collector, key, body)
    assert first.status == 200, first
    accepted = first.body["successful_count"]
    assert accepted in range(50, 60)  # and what was refilled meanwhile
    assert [result["outcome"] for result in first.body["results"]] == ["accepted"] * accepted + ["rate_limited"] * (
        70 - accepted
    )
    # Sent again as it is: what is stored costs nothing, so all that the budget has by then goes to the rest.
    until(lambda: send(collector, key, body).body.get("failed_count") == 0, "the tail got through")
    assert stored(collector, key) == 70
    assert left(collector, key)["month"]["used"] == 70


def test_a_batch_that_is_refused_whole_leaves_nothing(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=60, on_limit="refuse")
    assert send(collector, key, batch(0, 50)).status == 200
    assert 35 <= limited(send(collector, key, batch(100, 50))) <= 40
    assert stored(collector, key) == 50


def test_bytes_are_limited_too(collector: Collector) -> None:
    key = key_of(collector, bytes_per_minute=6000)
    assert collector.post(key, lines(2000)).status == 200
    answer = collector.post(key, lines(1))
    assert 35 <= limited(answer) <= 40
    assert "bytes a minute" in answer.body["error"]["message"]
    assert left(collector, key)["bytes"]["remaining"] < 0


def test_a_limit_that_is_raised_counts_at_once_where_it_was_raised(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=60)
    slug = f"limited-{next(_numbers) - 1}"
    assert collector.post(key, lines(61)).status == 200
    limited(collector.post(key, lines(2)))
    change = json.dumps({"limits": {"events_per_minute": 600_000}}).encode()
    assert collector.request("PATCH", f"/api/v1/tenants/{slug}", body=change, headers=ADMIN).status == 200
    assert collector.post(key, lines(2)).status == 200


def test_a_tenant_has_so_many_requests_at_once_and_no_more(collector: Collector) -> None:
    key, other = key_of(collector, concurrent_requests=1), key_of(collector)
    waiting = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=30)
    waiting.putrequest("POST", wire.BLOCKS_PATH)
    for name, value in (("X-API-Key", key), ("Content-Type", wire.RUN_TYPE), ("Content-Length", "1000")):
        waiting.putheader(name, value)
    waiting.endheaders(b"half")
    until(lambda: collector.request("GET", RATE_LIMIT, key=key).status == 429, "the first request is under way")
    assert limited(collector.request("GET", RATE_LIMIT, key=key), "too_many_requests") == 1
    assert collector.request("GET", RATE_LIMIT, key=other).status == 200
    waiting.close()
    until(lambda: collector.request("GET", RATE_LIMIT, key=key).status == 200, "the place is free again")


def test_rate_limit_tells_all_limits_and_what_is_left_of_them(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=100, events_per_month=1000)
    collector.post(key, lines(40))
    told = left(collector, key)
    assert told["events"]["limit"] == 100
    assert told["events"]["remaining"] in range(60, 70)
    assert (told["month"]["limit"], told["month"]["used"], told["month"]["remaining"]) == (1000, 40, 960)
    assert told["bytes"]["limit"] == told["limits"]["bytes_per_minute"] == Limits().bytes_per_minute
    assert (told["limits"]["max_batch_events"], told["counted_in"]) == (10_000, "memory")


def test_collector_restarts_in_the_middle_of_the_month(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        key = key_of(collector, events_per_month=100)
        assert collector.post(key, lines(60)).status == 200
        assert collector.stop() == 0  # at once: what was not written yet is written now
        collector.start()
        assert left(collector, key)["month"]["remaining"] == 40
        assert collector.post(key, lines(60)).status == 200  # on credit, like all of agents
        answer = collector.post(key, lines(1))
        assert limited(answer, "monthly_quota") == 3600
        assert budget(answer)[1] == 0
        assert left(collector, key)["month"]["used"] == 120


PATIENT = "from collector.limits import usage\nusage.KEPT_S = 3600.0\n"
"""On a machine that is overloaded the count takes longer than an answer may wait for it: then a crash forgets it."""


@pytest.mark.parametrize("workers", [1, 2])
def test_collector_killed_in_the_middle_of_the_month(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered is counted, also when nothing could be written afterwards."""
    (tmp_path / "sitecustomize.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
    more = f"server: {{workers: {workers}}}"
    with (
        ClickHouseFront(tmp_path / "engine") as engine,
        Collector(tmp_path / "c", store=engine.url, more=more) as collector,
    ):
        key = key_of(collector, events_per_month=100)
        used = 0
        for n in range(3):
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda m: send(collector, key, batch(100 * n + 5 * m, 5)), range(4)))  # noqa: B023
            assert {answer.status for answer in answers} == {200}
            used += 5 * 4
            pids = children(collector.pid)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            collector.kill()
            until(lambda p=pids: all(gone(pid) for pid in p), "the port is free")  # type: ignore[misc]
            collector.start()
            assert left(collector, key)["month"]["used"] == used
        assert send(collector, key, batch(1000, 60)).body["successful_count"] == 40
        assert stored(collector, key) == 100


def test_a_failed_insert_costs_nothing(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "engine") as engine, Collector(tmp_path / "c", store=engine.url) as collector:
        key = key_of(collector, events_per_minute=1, events_burst=100)
        run = lines(50)
        assert left(collector, key)["events"]["remaining"] == 100
        engine.kill()
        for _ in range(3):
            answer = collector.post(key, run)
            assert (answer.status, budget(answer)[1]) == (503, 100)
        engine.start()
        until(lambda: collector.post(key, run).status == 200, "the engine is used again")
        assert left(collector, key)["events"]["remaining"] in range(50, 53)


@needs_redis
def test_two_collectors_share_limits_through_one_redis_and_divide_them_without_it(tmp_path: Path) -> None:
    with (
        Redis(tmp_path / "redis") as redis,
        ClickHouseFront(tmp_path / "engine") as engine,
        Collector(tmp_path / "one", store=engine.url, more=_quota(redis)) as one,
        Collector(tmp_path / "two", store=engine.url, more=_quota(redis)) as two,
    ):
        key = key_of(one, events_per_minute=60, events_burst=100)
        both = [one, two] * 10
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: send(both[n], key, batch(10 * n, 10)), range(20)))
        accepted = sum(answer.body["successful_count"] for answer in answers if answer.status == 200)
        assert 100 <= accepted <= 100 + 30  # and what was refilled meanwhile
        assert stored(one, key) == accepted
        for collector in (one, two):
            assert budget(collector.request("GET", RATE_LIMIT, key=key))[1] < 15
            assert collector.request("GET", HEALTH).body["components"]["limits"] == {"status": "ok", "detail": "redis"}

        redis.kill()
        fresh = key_of(one, events_per_minute=60, events_burst=100)
        for collector in (one, two):
            answer = send(collector, fresh, batch(0 if collector is one else 1000, 100))
            assert answer.body["successful_count"] in range(50, 60)
            health = collector.request("GET", HEALTH).body
            assert health["status"] == "degraded"
            assert "1/2 of every rate" in health["components"]["limits"]["detail"]
            assert b"collector_limits_shared 0.0" in collector.request("GET", "/metrics").body

        redis.start()
        until(
            lambda: (
                budget(one.request("GET", RATE_LIMIT, key=fresh)) and one.request("GET", HEALTH).body["status"] == "healthy"
            ),
            "budgets are shared again",
        )


def test_two_collectors_count_one_month_together(tmp_path: Path) -> None:
    with (
        ClickHouseFront(tmp_path / "engine") as engine,
        Collector(tmp_path / "one", store=engine.url) as one,
        Collector(tmp_path / "two", store=engine.url) as two,
    ):
        key = key_of(one, events_per_month=100)
        for collector in (one, two):
            assert collector.post(key, lines(60)).status == 200
        for collector in (one, two):
            until(lambda c=collector: left(c, key)["month"]["used"] == 120, "each knows what the other took")  # type: ignore[misc]
            limited(collector.post(key, lines(1)), "monthly_quota")


def _quota(redis: Redis) -> str:
    return f"quota: {{redis_url: '{redis.url}', replicas: 2, redis_timeout_s: 2}}"


def test_retry_after_is_whole_seconds(collector: Collector) -> None:
    key = key_of(collector, events_per_minute=7, events_burst=10)
    answer = send(collector, key, batch(0, 15))
    assert answer.body["failed_count"] == 5
    waits = {result["errors"][0]["suggestion"] for result in answer.body["results"] if not result["success"]}
    assert waits == {f"send it again in {math.ceil(5 * 60 / 7)} s"}
    assert limited(send(collector, key, batch(20, 5))) == math.ceil(5 * 60 / 7)
