"""Several processes on one port: real ones, on a served engine."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.support.collector import ADMIN_TOKEN, REPOSITORY, Answer, Collector, command
from tests.support.engine import ClickHouseFront
from tests.support.events import body, event, named
from tests.support.processes import children, gone
from tests.support.redis import BINARY, Redis
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]
needs_redis = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")

EVENTS = "/api/v1/ingestion/events"
HEALTH = "/api/v1/ingestion/health"
REGISTER = "/api/v1/auth/register/tenant"
WORKERS = 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


def several(folder: Path, engine: ClickHouseFront, more: str = "", *, workers: int = WORKERS) -> Collector:
    return Collector(folder, store=engine.url, more=f"server: {{workers: {workers}}}\n{more}")


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with several(tmp_path_factory.mktemp("collector"), engine) as running:
        yield running


def post(collector: Collector, key: str, value: Any) -> Answer:
    """On a connection of its own, which ends at any of the workers."""
    return collector.request("POST", EVENTS, key=key, body=body(value), headers={"Content-Type": "application/json"})


def metric(collector: Collector, name: str) -> float:
    text = collector.request("GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split(" ")[0] == name)


ACCEPTED = 'collector_events_total{outcome="accepted"}'


class Sender(threading.Thread):
    """Posts events one after the other until it is told to end, each until it is acknowledged."""

    def __init__(self, collector: Collector, key: str, *, retry: bool) -> None:
        super().__init__()
        self._collector, self._key, self._retry = collector, key, retry
        self.acknowledged: list[str] = []
        self.resets = 0
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            one = named()
            while not self._sent(one):
                self.resets += 1
                if not self._retry:
                    return

    def _sent(self, one: dict[str, Any]) -> bool:
        try:
            answer = post(self._collector, self._key, one)
        except (OSError, http.client.HTTPException):
            return False
        if answer.status == 200:
            self.acknowledged.append(one["event_id"])
        return answer.status == 200


def sending(collector: Collector, key: str, *, retry: bool) -> list[Sender]:
    senders = [Sender(collector, key, retry=retry) for _ in range(4)]
    for sender in senders:
        sender.start()
    until(lambda: all(len(sender.acknowledged) >= 3 for sender in senders), "all of them post")
    return senders


def acknowledged(senders: list[Sender]) -> list[str]:
    for sender in senders:
        sender.enough.set()
        sender.join()
    return [event_id for sender in senders for event_id in sender.acknowledged]


def stored_ids(collector: Collector, key: str) -> list[str]:
    found: list[str] = []
    query: dict[str, object] = {"limit": 1000}
    while True:
        page = collector.search(key, **query)
        found += [event["event_id"] for event in page["events"]]
        if not page["has_more"]:
            return found
        query["cursor"] = page["next_cursor"]


def test_an_embedded_store_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    done = command("serve", "--workers", "2", "--store", f"chdb://{tmp_path}/store", "--port", "0")
    assert done.returncode == 2
    assert "command line: server.workers is 2, but store.url chdb://" in done.stderr
    assert "set server.workers to 1, or use a ClickHouse server" in done.stderr
    assert not (tmp_path / "store").exists()


def test_all_workers_take_requests_when_the_ready_line_comes(collector: Collector) -> None:
    assert collector.ready_line.rstrip().endswith(f", {WORKERS} workers")
    assert len(children(collector.pid)) == WORKERS
    health = collector.request("GET", HEALTH).body
    assert health["components"]["workers"] == {"status": "ok", "detail": f"{WORKERS} of {WORKERS} take requests"}
    assert collector.request("GET", "/readyz").status == 200
    for _ in range(30):
        collector.request("GET", "/healthz")
    assert {f"worker={n}" for n in range(WORKERS)} <= set(collector.stderr.read_text().split())


def test_a_scrape_shows_the_sum_of_all_workers_whichever_is_asked(collector: Collector) -> None:
    key = collector.new_tenant("Scraped")
    before = metric(collector, ACCEPTED)
    for _ in range(30):
        assert post(collector, key, named()).status == 200
    assert {metric(collector, ACCEPTED) - before for _ in range(10)} == {30.0}
    assert metric(collector, "collector_workers") == WORKERS
    assert metric(collector, "collector_store_up") == 1.0
    scrape = collector.request("GET", "/metrics").body.decode()
    assert {f'process_cpu_seconds_total{{worker="{n}"}}' for n in range(WORKERS)} <= set(scrape.split())
    assert "# HELP collector_events_total Events answered, by what became of them." in scrape
    assert len(re.findall("^# TYPE collector_commit_duration_seconds ", scrape, re.MULTILINE)) == 1


def test_the_same_event_posted_fifty_times_over_the_workers_is_one(collector: Collector) -> None:
    key = collector.new_tenant("Fifty")
    one = named()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(collector, key, one), range(50)))
    assert {answer.status for answer in answers} == {200}
    assert stored_ids(collector, key) == [one["event_id"]]
    assert collector.search(key)["total_count"] == 1


def test_a_slug_is_given_once_though_many_workers_are_asked_for_it(collector: Collector) -> None:
    wanted = json.dumps({"name": "Same", "slug": "same-slug"}).encode()
    headers = {"X-Admin-Token": ADMIN_TOKEN}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: collector.request("POST", REGISTER, body=wanted, headers=headers), range(12)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 11


def test_an_agent_heard_by_several_workers_is_one_agent(collector: Collector) -> None:
    key = collector.new_tenant("Heard")
    raw = wire.encode_heartbeat(wire.Heartbeat(version="1", lag_bytes=7))
    for n in range(30):
        header = wire.Header(wire.HEARTBEAT, f"h-{n}", agent="one", scope="here", raw_bytes=len(raw))
        assert collector.post(key, _record(header, raw)).status == 200
    until(lambda: {metric(collector, "collector_agents") for _ in range(6)} == {1.0}, "every worker counts it once")
    assert metric(collector, "collector_agents_lag_bytes") == 7.0


def _record(header: wire.Header, raw: bytes) -> bytes:
    from agent import codec

    return wire.encode_record(header, codec.compress(raw))


def test_without_redis_each_worker_allows_its_part_and_says_so(tmp_path: Path, engine: ClickHouseFront) -> None:
    with several(tmp_path, engine, "quota: {replicas: 2}") as collector:
        health = collector.request("GET", HEALTH).body
        assert health["components"]["limits"]["detail"] == "memory, 0.167 of every rate"
        assert metric(collector, "collector_limits_part") == pytest.approx(1 / 6)
        assert "each of 3 workers allows 1/6 of every rate" in collector.stderr.read_text()
        key = collector.new_tenant("Limited", limits={"events_per_minute": 60})
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: post(collector, key, named()).status, range(120)))
        assert answers.count(200) in range(10, 30 + 5)  # 10 a worker, and what was refilled meanwhile
        assert set(answers) == {200, 429}


@needs_redis
def test_with_redis_the_workers_share_a_limit(tmp_path: Path, engine: ClickHouseFront) -> None:
    with (
        Redis(tmp_path / "redis") as redis,
        several(tmp_path / "c", engine, f"quota: {{redis_url: '{redis.url}', redis_timeout_s: 2}}") as collector,
    ):
        key = collector.new_tenant("Limited by Redis", limits={"events_per_minute": 60})
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: post(collector, key, named()).status, range(120)))
        assert answers.count(200) in range(60, 90)
        assert set(answers) == {200, 429}
        assert collector.request("GET", HEALTH).body["components"]["limits"]["detail"] == "redis"


def test_a_killed_worker_is_replaced_and_every_acknowledged_event_is_there_once(
    tmp_path: Path, engine: ClickHouseFront
) -> None:
    with several(tmp_path, engine) as collector:
        key = collector.new_tenant("Killed")
        senders = sending(collector, key, retry=True)
        seen = 0.0
        for round_ in range(2):
            victim = children(collector.pid)[0]
            counted = metric(collector, ACCEPTED)
            os.kill(victim, signal.SIGKILL)
            told = f"(process {victim}) ended by itself with signal SIGKILL"
            until(lambda t=told: t in collector.stderr.read_text(), "its death is told")  # type: ignore[misc]
            assert metric(collector, ACCEPTED) >= counted >= seen
            seen = counted
            starts = WORKERS + 1 + round_
            until(lambda s=starts: metric(collector, "collector_starts_total") == s, "another takes its place")  # type: ignore[misc]
            until(lambda: metric(collector, "collector_workers") == WORKERS, "and all run")
        sent = acknowledged(senders)
        found = stored_ids(collector, key)
        assert set(sent) == set(found)
        assert len(found) == len(set(found))
        assert metric(collector, ACCEPTED) >= seen
        assert re.search(r" ERROR collector\.serving\.supervisor: worker \d \(process", collector.stderr.read_text())
        again = post(collector, key, event(event_id=sent[0])).body
        assert again["duplicate"]
        assert collector.stop() == 0


def test_a_worker_that_keeps_dying_is_started_again_ever_more_slowly(tmp_path: Path, engine: ClickHouseFront) -> None:
    with several(tmp_path, engine, workers=2) as collector:
        place = _shared_folder(collector) / "running-0"
        for pause in ("0.5 s", "1 s", "2 s"):
            pid = int(until(lambda: place.exists() and place.read_text(), "worker 0 takes requests"))
            os.kill(pid, signal.SIGKILL)
            told = f"worker 0 (process {pid}) ended by itself with signal SIGKILL; it is started again in {pause}"
            until(lambda t=told: t in collector.stderr.read_text(), "its death is told")  # type: ignore[misc]
        health = collector.request("GET", HEALTH)
        assert (health.status, health.body["status"]) == (200, "degraded")
        assert health.body["components"]["workers"]["detail"] == "1 of 2 take requests"


def _shared_folder(collector: Collector) -> Path:
    """Where the workers keep their metrics, from what one of them has mapped."""
    mapped = Path(f"/proc/{children(collector.pid)[0]}/maps").read_text()
    return Path(re.search(r"(/\S*/pulsestream-[^/\s]+)/", mapped)[1])  # type: ignore[index]


def test_sigterm_in_a_stream_of_requests_loses_nothing_that_was_acknowledged(tmp_path: Path, engine: ClickHouseFront) -> None:
    collector = several(tmp_path, engine)
    with collector:
        key = collector.new_tenant("Stopped")
        senders = sending(collector, key, retry=False)
        folder = _shared_folder(collector)
        assert collector.stop() == 0
        sent = acknowledged(senders)
        assert not folder.exists()
        collector.start()
        found = stored_ids(collector, key)
        assert set(sent) <= set(found)
        assert len(found) == len(set(found))


def test_the_workers_end_with_their_parent_however_that_ends(tmp_path: Path, engine: ClickHouseFront) -> None:
    with several(tmp_path, engine) as collector:
        pids, folder = children(collector.pid), _shared_folder(collector)
        collector.kill()
        until(lambda: all(gone(pid) for pid in pids), "no worker is left")
        until(lambda: not folder.exists(), "what they shared is removed")
        collector.start()  # the port is free again


@pytest.mark.parametrize("how", ["plain", "workers"])
def test_a_port_in_use_is_told_and_nothing_is_started(
    tmp_path: Path, engine: ClickHouseFront, collector: Collector, how: str
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1] if how == "plain" else collector.port
        done = command("serve", "--workers", "2", "--store", engine.url, "--port", str(port))
    assert done.returncode == 1
    assert f"server.port: 127.0.0.1:{port} is in use by another program" in done.stderr


def test_workers_that_cannot_start_end_the_collector_and_say_why_once(tmp_path: Path, engine: ClickHouseFront) -> None:
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text("tenants: 5\n")
    config = tmp_path / "c.yaml"
    config.write_text(f"tenants_file: {tenants}\nstore: {{url: '{engine.url}'}}\nserver: {{port: 0, workers: 3}}\n")
    done = command("serve", "--config", str(config))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count(str(tenants)) == 1
    assert "worker 0 could not start (exit code 2); what it said stands above" in done.stderr


def test_a_signal_while_the_workers_start_ends_them(tmp_path: Path, engine: ClickHouseFront) -> None:
    arguments = ["serve", "--workers", "2", "--store", engine.url, "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "collector", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        pids = until(lambda: children(process.pid), "the first worker is there")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b"")
    assert all(gone(pid) for pid in pids)


def test_while_the_engine_is_away_the_workers_start_and_say_so(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "data") as front:
        port = front.port
    away = ClickHouseFront(tmp_path / "data", port)
    with several(tmp_path / "c", away, workers=2) as collector:
        assert "not ready yet: the store does not answer; requests get 503 until then, 2 workers" in collector.ready_line
        assert post(collector, f"ps_{uuid.uuid4().hex}", named()).status in (401, 503)
        with away:
            until(lambda: all(collector.request("GET", "/readyz").status == 200 for _ in range(6)), "both are ready")
