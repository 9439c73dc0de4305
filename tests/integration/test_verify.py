"""The agent's commands verify and repair, against a real collector and a real engine that lost what it had acknowledged."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
import pytest

from agent.codec import compress
from tests.support.agent import REPOSITORY, AgentProcess
from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

KIND = r"/(?P<kind>[^/]+)\.(?P<service>[^/]+)$"
DEAD_URL = "http://127.0.0.1:9"
COLUMNS = "external_id, message, severity, service, source, path, attributes, parse_error"


class Store(NamedTuple):
    engine: ClickHouseFront
    collector: Collector

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with clickhouse_connect.get_client(host=self.engine.host, port=self.engine.port, database="pulsestream") as client:
            return [tuple(row) for row in client.query(sql).result_rows]

    def run(self, sql: str) -> None:
        with clickhouse_connect.get_client(host=self.engine.host, port=self.engine.port, database="pulsestream") as client:
            client.command(sql)

    def lose(self, tenant: str, ids: list[str]) -> None:
        """Behind the collector's back."""
        names = ", ".join(f"'{name}'" for name in ids)
        where = f"tenant_id = '{tenant}' AND external_id IN ({names})" if ids else f"tenant_id = '{tenant}'"
        self.run(f"ALTER TABLE events DELETE WHERE {where} SETTINGS mutations_sync = 2")

    def rows(self, tenant: str) -> list[tuple[Any, ...]]:
        return self.ask(f"SELECT {COLUMNS} FROM events FINAL WHERE tenant_id = '{tenant}' ORDER BY external_id")


class Shipped(NamedTuple):
    """An agent that has shipped a folder of logs, and stopped."""

    agent: AgentProcess
    logs: Path
    tenant: str
    slug: str


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("verify")
    with ClickHouseFront(folder / "engine") as engine, Collector(folder / "collector", store=engine.url) as collector:
        until(lambda: collector.request("GET", "/readyz").status == 200, "the collector is ready")
        yield Store(engine, collector)


@pytest.fixture
def agent(store: Store, tmp_path: Path) -> Iterator[AgentProcess]:
    """With a key that may do nothing but ingest."""
    slug = f"t{time.monotonic_ns()}"
    store.collector.new_tenant(slug, slug=slug, limits={"retention_days": 30})
    made = store.collector.request(
        "POST", f"/api/v1/tenants/{slug}/keys", body=json.dumps({"name": "agent", "scopes": ["ingest"]}).encode(),
        headers={"X-Admin-Token": ADMIN_TOKEN},
    )  # fmt: skip
    agent = AgentProcess(tmp_path / slug, url=store.collector.url, include=[tmp_path / "logs" / "*.log"])
    agent.configure(collector={"api_key": made.body["api_key"]})
    (tmp_path / "logs").mkdir()
    yield agent
    agent.kill()


def ship(agent: AgentProcess, logs: Path, *, left: int = 0) -> str:
    """Run the agent until all is acknowledged but the last ``left`` bytes, which are no whole event. Returns the tenant."""

    def shipped() -> bool:
        now = agent.status()
        size = sum(path.stat().st_size for path in logs.iterdir())
        return bool(now) and now["drained"] and sum(file["acked_offset"] or 0 for file in now["files"]) == size - left

    agent.start()
    until(shipped, "all is shipped", told=lambda: f"{agent.status()} {agent.log()}")
    tenant = str(agent.status()["tenant_id"])
    assert agent.stop() == 0
    return tenant


def found(agent: AgentProcess, command: str = "verify", *paths: Path, code: int | None = None) -> Any:
    done = agent.command(command, "--json", *map(str, paths))
    assert done.returncode in ((0, 1) if code is None else (code,)), (done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout)


def totals(answer: Any) -> dict[str, int]:
    return {name: count for name, count in answer["totals"].items() if count}


def write_kinds(logs: Path) -> list[dict[str, Any]]:
    """Logs of every kind, and the sources for them."""
    (logs / "plain.log").write_bytes(b"".join(b"plain %d %s\r\n" % (n, b"x" * (n % 90)) for n in range(12_000)))
    (logs / "long.log").write_bytes(b"before\n" + b"long " * 300_000 + b"\nafter\n")
    (logs / "short.log").write_bytes(b"short 1\nshort 2\n\nshort 4\n")
    now = time.time()
    json_lines = [{"ts": now - n, "level": "warn", "msg": f"mail a{n}@example.org", "n": n} for n in range(300)]
    (logs / "app.json").write_text("".join(json.dumps(line) + "\n" for line in json_lines))
    traces = "".join(f"2026-01-01 error {n}\n  at one\n  at two {n}\n" for n in range(300)) + "2026-01-01 end\n2026-01-02 more"
    (logs / "trace.txt").write_text(traces)
    cri = "".join(f"2026-11-2{n % 3}T10:00:00.{n:09d}Z std{'out' if n % 3 else 'err'} F cri {n}\n" for n in range(300))
    (logs / "cri.pod").write_text(cri)
    return [
        {"name": "plain", "include": [str(logs / "*.log")], "labels": {"team": "a"}},
        {"name": "json", "include": [str(logs / "*.json")], "format": "json", "redact": {"presets": ["email"]}},
        {"name": "trace", "include": [str(logs / "*.txt")], "multiline": {"start": "^\\d{4}-", "timeout_s": 300}},
        {"name": "cri", "include": [str(logs / "*.pod")], "container": "cri", "max_line_bytes": 1024, "path_labels": [KIND]},
    ]


def test_verify_names_exactly_what_is_missing_and_repair_sends_just_that(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    agent.configure(sources=write_kinds(logs))
    tenant = ship(agent, logs, left=len("2026-01-01 end\n2026-01-02 more"))
    (logs / "plain.log").rename(logs / "plain.log.1")  # no source matches it now
    (logs / "long.log.1.gz").write_bytes(gzip.compress((logs / "long.log").read_bytes()))
    (logs / "long.log").unlink()
    (logs / "app.json.zst").write_bytes(compress((logs / "app.json").read_bytes()))
    (logs / "app.json").unlink()
    before = store.rows(tenant)
    clean = found(agent, code=0)
    assert totals(clean) == {"lines": 12_907, "stored": 12_907}
    assert {Path(report["path"]).name for report in clean["files"]} == {
        "plain.log.1",
        "short.log",
        "long.log.1.gz",
        "app.json.zst",
        "trace.txt",
        "cri.pod",
    }

    chance = random.Random(7)
    whole = [row for row in before if "partial" not in row[6]]  # not what the agent sent of the last trace when it ended
    lost = sorted({*chance.sample([row[0] for row in whole], 500), *(row[0] for row in whole if len(row[1]) > 10_000)})
    store.lose(tenant, lost)
    said = found(agent, code=1)
    assert sorted(name for report in said["files"] for name in report["missing_ids"]) == lost
    assert totals(said) == totals(clean) | {"stored": len(whole) - len(lost), "missing": len(lost)}

    sent = found(agent, "repair", code=0)["sent"]
    assert (sent["events"], sent["accepted"], sent["duplicate"], sent["rejected"]) == (len(lost), len(lost), 0, 0)
    assert totals(found(agent, code=0)) == totals(clean)
    after = store.rows(tenant)
    assert [row[:5] + row[6:] for row in after] == [row[:5] + row[6:] for row in before]
    assert found(agent, "repair", code=0)["sent"]["events"] == 0
    shutil.rmtree(agent.state)
    assert found(agent, code=0)["totals"]["missing"] == 0


def test_what_the_agent_has_not_read_or_sent_is_pending_and_not_missing(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    log = logs / "a.log"
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(1000)) + b"begun")
    tenant = ship(agent, logs, left=len(b"begun"))
    assert len(store.rows(tenant)) == 1001, "half a line was sent when the agent ended"
    assert totals(found(agent, code=0)) == {"lines": 1000, "stored": 1000}
    with log.open("ab") as file:
        file.write(b" and ended\n")
    assert totals(found(agent, code=0)) == {"lines": 1001, "stored": 1000, "pending": 1}
    agent.configure(collector={"url": DEAD_URL})
    with log.open("ab") as file:
        file.write(b"".join(b"in the spool %d\n" % n for n in range(10)))
    agent.start()
    until(lambda: agent.status()["counts"].get("read_events"), "it is read", told=agent.log)
    agent.kill()
    with log.open("ab") as file:
        file.write(b"".join(b"not read %d\n" % n for n in range(7)) + b"half a li")
    agent.configure(collector={"url": store.collector.url})
    (logs / "new.log").write_bytes(b"of a new file\n")
    assert totals(found(agent, code=0)) == {"lines": 1019, "stored": 1000, "pending": 19}
    lost = [row[0] for row in store.rows(tenant) if "partial" not in row[6]][::100]
    store.lose(tenant, lost)
    assert found(agent, "repair", log, code=0)["sent"]["events"] == len(lost)
    assert totals(found(agent, "verify", log, code=0)) == {"lines": 1018, "stored": 1000, "pending": 18}
    agent.start()
    until(lambda: totals(found(agent)) == {"lines": 1019, "stored": 1019}, "the agent sends the rest", told=agent.log)
    assert store.ask(f"SELECT count(), uniqExact(message) FROM events FINAL WHERE tenant_id = '{tenant}'") == [(1019, 1019)]


def test_a_file_that_grows_and_rotates_meanwhile_has_nothing_missing_and_nothing_extra(
    agent: AgentProcess, tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "a.log"
    log.touch()
    ended = threading.Event()

    def write() -> None:
        for number in count(0, 20):
            with log.open("ab", buffering=0) as file:
                file.write(b"".join(b"line %d of the app\n" % line for line in range(number, number + 20)))
            if number % 2000 == 1980:
                log.rename(log.with_name(f"a.log.{number}"))
            if ended.wait(0.02):
                return

    writing = threading.Thread(target=write)
    writing.start()
    try:
        agent.start()
        until(lambda: agent.status()["counts"].get("acked_events", 0) > 1000, "it ships", told=agent.log)
        answers = [found(agent)["totals"] for _ in range(3)]
    finally:
        ended.set()
        writing.join()
    assert [(said["missing"], said["extra"], said["changed"]) for said in answers] == [(0, 0, 0)] * 3
    until(lambda: not found(agent)["totals"]["pending"], "all is shipped", told=agent.log)
    said = totals(found(agent, code=0))
    assert said == {"lines": said["lines"], "stored": said["lines"]}


def test_what_was_deleted_is_too_old_or_is_no_longer_in_the_file_is_told_apart(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    log = logs / "a.log"
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(1000)))
    old = logs / "old.json"
    agent.configure(sources=[
        {"name": "app", "include": [str(log)]}, {"name": "json", "include": [str(old)], "format": "json"},
    ])  # fmt: skip
    old.write_text("".join(json.dumps({"time": f"2026-0{1 + n % 3}-01T00:00:00Z", "n": n}) + "\n" for n in range(20)))
    agent.start()
    until(lambda: agent.status()["counts"].get("expired_events") == 20, "the old lines are refused", told=agent.log)
    until(lambda: agent.status()["counts"].get("accepted_events") == 1000, "the new ones are stored", told=agent.log)
    tenant = str(agent.status()["tenant_id"])
    assert agent.stop() == 0
    names = [row[0] for row in sorted(store.rows(tenant), key=lambda row: int(row[1].split()[1]))]
    deleted = f"SELECT * REPLACE (1 AS is_deleted, {2**64 - 1} AS version) FROM events WHERE external_id = '{names[5]}'"
    store.run(f"INSERT INTO events {deleted}")
    log.write_bytes(log.read_bytes()[: -len(b"line 998\nline 999\n")])
    said = found(agent, code=1)
    assert totals(said) == {"lines": 1018, "stored": 997, "deleted": 1, "expired": 20, "extra": 2}
    assert [name for report in said["files"] for name in report["extra_ids"]] == names[-2:]
    sent = found(agent, "repair", code=0)["sent"]
    assert sent["records"] == 0


def test_an_event_that_is_stored_in_another_form_is_not_sent_unless_that_is_wanted(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    (logs / "a.log").write_bytes(b"".join(b"line %d of a%d@example.org\n" % (n, n) for n in range(500)))
    tenant = ship(agent, logs)
    source = agent.settings["sources"][0]
    agent.configure(sources=[{**source, "redact": {"presets": ["email"]}}])
    assert totals(found(agent, code=1)) == {"lines": 500, "changed": 500, "extra": 500}
    assert found(agent, "repair")["sent"]["events"] == 0
    assert len(store.rows(tenant)) == 500
    agent.configure(sources=[source])
    assert totals(found(agent, code=0)) == {"lines": 500, "stored": 500}


OLD_LINES: dict[str, tuple[dict[str, Any], str]] = {
    "json": ({}, '{{"ts": "{0:%Y-%m-%dT%H:%M:%S}Z", "n": {1}}}'),
    "logfmt": ({}, 'ts="{0:%Y-%m-%d %H:%M:%S}" n={1}'),
    "combined": ({}, '::1 - - [{0:%d/%b/%Y:%H:%M:%S} +0000] "GET /{1} HTTP/1.1" 200 1 "-" "-"'),
    "syslog": ({"time_zone": "Europe/Paris"}, "{0:%b %e %H:%M:%S} host app[{1}]: words"),
    "klog": ({}, "I{0:%m%d %H:%M:%S}.000000       1 a.go:{1}] words"),
    "auto": ({}, "<34>1 {0:%Y-%m-%dT%H:%M:%S}Z host app {1} - - words"),
}


def test_lines_of_every_format_that_are_older_than_the_retention_are_expired_and_not_missing(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    """Their files were written to just now; what the collector answered decides."""
    logs, now = tmp_path / "logs", datetime.now(UTC)
    sources = []
    for name, (said, line) in OLD_LINES.items():
        lines = [line.format(now - timedelta(days=40 if n % 4 else 1), n) for n in range(40)]
        (logs / f"{name}.log").write_text("".join(f"{text}\n" for text in lines))
        sources.append({"name": name, "include": [str(logs / f"{name}.log")], "format": name, **said})
    cri = [f"{now - timedelta(days=40 if n % 4 else 1):%Y-%m-%dT%H:%M:%S}Z stdout F words {n}\n" for n in range(40)]
    (logs / "cri.log").write_text("".join(cri))
    agent.configure(sources=[*sources, {"name": "cri", "include": [str(logs / "cri.log")], "container": "cri"}])
    tenant = ship(agent, logs)
    counts = 10 * (len(sources) + 1)
    for report in found(agent, code=0)["files"]:
        assert {name: report[name] for name in ("lines", "stored", "expired")} == {"lines": 40, "stored": 10, "expired": 30}, (
            report
        )
    store.run(f"ALTER TABLE events DELETE WHERE tenant_id = '{tenant}' SETTINGS mutations_sync = 2")
    assert totals(found(agent, code=1)) == {"lines": 4 * counts, "expired": 3 * counts, "missing": counts}
    assert found(agent, "repair", code=0)["sent"]["accepted"] == counts


def test_a_file_too_old_to_be_opened_is_expired_and_not_pending(agent: AgentProcess, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "new.log").write_bytes(b"new\n")
    ship(agent, logs)  # and learns how long its events are kept
    (logs / "old.log").write_bytes(b"old\n" * 7)
    days_ago = time.time() - 40 * 86_400
    os.utime(logs / "old.log", (days_ago, days_ago))
    assert totals(found(agent, code=0)) == {"lines": 8, "stored": 1, "expired": 7}


def test_files_that_begin_alike_are_told_apart_by_what_the_agent_knows(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    (logs / "a.log").write_bytes(b"banner\n" + b"".join(b"a %d\n" % n for n in range(50)))
    (logs / "b.log").write_bytes(b"banner\n" + b"".join(b"b %d\n" % n for n in range(100)))
    (logs / "copy.log").write_bytes(b"x" * 50 + b"\n" + b"c\n" * 5000)
    tenant = ship(agent, logs)
    shutil.copy(logs / "copy.log", logs / "copy2.log")
    with (logs / "copy2.log").open("r+b") as file:
        file.truncate(5001)
    said = found(agent, code=0)
    assert totals(said) == {"lines": 51 + 101 + 5001 + 2476, "stored": 51 + 101 + 5001 + 2476}
    shutil.rmtree(agent.state)  # now nobody knows which of two banners is whose
    sent = found(agent, "repair")["sent"]
    assert sent["events"] == 0
    assert len(store.rows(tenant)) == 51 + 101 + 5001


def test_equal_files_that_are_instances_are_compared_each_and_left_alone_without_state(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    agent.configure(sources=[{**agent.settings["sources"][0], "identity": "instance"}])
    for name in ("a.log", "b.log"):
        (logs / name).write_bytes(b"".join(b"line %d\n" % n for n in range(1000)))
    tenant = ship(agent, logs)
    assert totals(found(agent, code=0)) == {"lines": 2000, "stored": 2000}
    lost = [row[0] for row in store.rows(tenant)][::100]
    store.lose(tenant, lost)
    assert found(agent, "repair", code=0)["sent"]["accepted"] == len(lost)
    assert len(store.rows(tenant)) == 2000
    shutil.rmtree(agent.state)
    assert found(agent, "repair")["sent"]["events"] == 0


def test_a_repair_that_is_killed_is_repeated_and_nothing_is_there_twice(
    agent: AgentProcess, store: Store, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    (logs / "a.log").write_bytes(b"".join(b"line %06d %s\n" % (n, b"x" * 200) for n in range(20_000)))
    tenant = ship(agent, logs)
    store.lose(tenant, [])
    agent.configure(collector={"bandwidth_limit_bytes_per_s": 1000})  # its second request waits for minutes
    command = [sys.executable, "-m", "agent", "repair", "--config", str(agent.config)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as repair:
        until(lambda: store.ask(f"SELECT count() FROM events WHERE tenant_id = '{tenant}'")[0][0], "some is sent")
        repair.kill()
    agent.configure(collector={"bandwidth_limit_bytes_per_s": 0})
    left = found(agent, code=1)["totals"]["missing"]
    assert 0 < left < 20_000
    agent.start()  # beside it
    sent = found(agent, "repair", code=0)["sent"]
    assert sent["accepted"] + sent["duplicate"] == sent["events"] <= left
    assert totals(found(agent, code=0)) == {"lines": 20_000, "stored": 20_000}
    sql = f"SELECT count(), uniqExact(message) FROM events FINAL WHERE tenant_id = '{tenant}'"
    assert store.ask(sql) == [(20_000, 20_000)]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"api_key": "wrong"}, "HTTP 401 unauthorized"),
        ({"url": DEAD_URL}, "check the URL, the network, and whether a collector"),
    ],
)
def test_a_store_that_cannot_be_asked_is_said_with_the_mend(
    agent: AgentProcess, tmp_path: Path, settings: dict[str, str], text: str
) -> None:
    (tmp_path / "logs" / "a.log").write_bytes(b"one\n")
    agent.configure(collector=settings)
    for command in ("verify", "repair"):
        done = agent.command(command, "--patience", "0.1")
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr


def test_another_tenants_key_compares_and_sends_nothing(agent: AgentProcess, store: Store, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "a.log").write_bytes(b"one\n")
    ship(agent, logs)
    other = store.collector.new_tenant(f"other{time.monotonic_ns()}")
    agent.configure(collector={"api_key": other})
    for command in ("verify", "repair"):
        done = agent.command(command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "belongs to another tenant" in done.stderr
    assert store.collector.search(other)["total_count"] == 0


def test_a_path_that_no_source_has_is_a_fault_of_the_command_line(agent: AgentProcess, tmp_path: Path) -> None:
    done = agent.command("verify", os.devnull, str(tmp_path / "logs" / "none.log"))
    assert done.returncode == 2
    assert "no source has this file" in done.stderr


def test_what_start_has_skipped_is_not_missing(agent: AgentProcess, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    log.write_bytes(b"of before\n" * 1000)
    agent.configure(start="end")
    agent.start()
    until(lambda: agent.status()["files"], "it is read", told=agent.log)
    with log.open("ab") as file:
        file.write(b"one\ntwo\n")
    until(lambda: agent.status()["counts"].get("accepted_events") == 2, "what is new is stored", told=agent.log)
    assert agent.stop() == 0
    assert totals(found(agent, code=0)) == {"lines": 1002, "stored": 2, "skipped": 1000}
    assert found(agent, "repair", code=0)["sent"]["events"] == 0
