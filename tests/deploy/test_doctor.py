"""What the doctor sees: each check on a fault that is real, and a collector that has none."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collector import config as configuration
from collector.config import Config
from collector.doctor import around, doctor, inside
from collector.doctor.findings import Finding
from collector.store.store import INSERT_SETTINGS
from collector.tenants.directory import Door
from tests.support.certificates import Authority
from tests.support.collector import ADMIN_TOKEN, Collector, command
from tests.support.engine import ClickHouseFront
from tests.support.redis import BINARY, Redis

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command to make certificates")
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector"), store=engine.url) as running:
        yield running


def settings(text: str) -> Config:
    return configuration.parse(text, where="c.yaml", env={})


def looked(config: Config, path: str = "") -> list[Finding]:
    return asyncio.run(doctor.examine(config, path, Door("", "")))


def bad(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in findings if one.level != "ok"]


def said(findings: list[Finding], check: str, level: str) -> str:
    """What the findings of this kind say; every one of them has a mend."""
    found = [one for one in findings if (one.check, one.level) == (check, level)]
    assert all(one.mend for one in found)
    return "\n".join(f"{one.message} {one.mend}" for one in found)


def statement(engine: ClickHouseFront, sql: str) -> bytes:
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=30)
    connection.request("POST", "/", body=sql.encode())
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text
    return text


def test_a_collector_with_nothing_wrong_is_told_so_while_it_runs(collector: Collector, engine: ClickHouseFront) -> None:
    collector.new_tenant("Well")
    done = command("doctor", "--config", str(collector.config), "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], done.stderr) == (0, True, "")
    checks = {one["check"] for one in told["findings"] if one["level"] == "ok"}
    assert checks >= {"config", "tls", "store", "clock", "disk", "schema", "parts", "keys"}
    assert [one for one in told["findings"] if one["level"] == "error"] == []


def test_tables_that_may_lose_what_they_acknowledged_are_named_with_the_statement(
    collector: Collector, engine: ClickHouseFront
) -> None:
    config = settings(f"store: {{url: '{engine.url}'}}")
    statement(engine, "ALTER TABLE pulsestream.usage MODIFY SETTING fsync_after_insert = 0")
    found = said(looked(config), "schema", "error")
    assert "table pulsestream.usage is missing or may lose acknowledged rows" in found
    assert "ALTER TABLE pulsestream.usage MODIFY SETTING fsync_after_insert = 1" in found
    statement(engine, "ALTER TABLE pulsestream.usage MODIFY SETTING fsync_after_insert = 1")
    assert said(looked(config), "schema", "error") == ""


def test_damaged_parts_are_named(collector: Collector, engine: ClickHouseFront) -> None:
    config = settings(f"store: {{url: '{engine.url}'}}")
    sql = "SELECT path FROM system.parts WHERE database = 'pulsestream' AND table = 'schema_version' AND active FORMAT JSON"
    path = Path(json.loads(statement(engine, sql))["data"][0]["path"])
    broken = path.parent / "detached" / "broken_all_1_1_0"
    shutil.copytree(path, broken)
    try:
        found = said(looked(config), "parts", "error")
        assert "1 damaged parts are set aside" in found
        assert "broken_all_1_1_0" in found
    finally:
        shutil.rmtree(broken)


def test_a_store_of_a_newer_program_and_one_that_is_not_made_yet(engine: ClickHouseFront) -> None:
    statement(engine, "CREATE DATABASE newer")
    statement(engine, "CREATE TABLE newer.schema_version (version UInt32) ENGINE = MergeTree ORDER BY version")
    statement(engine, "INSERT INTO newer.schema_version VALUES (999)")
    found = said(looked(settings(f"store: {{url: '{engine.url}', database: newer}}")), "schema", "error")
    assert "version 999; this program knows up to" in found
    assert "there is no database nowhere yet" in said(
        looked(settings(f"store: {{url: '{engine.url}', database: nowhere}}")), "schema", "warning"
    )
    assert b"nowhere" not in statement(engine, "SHOW DATABASES"), "looking makes nothing"


def test_an_engine_that_is_away_too_old_or_nearly_full(engine: ClickHouseFront, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = looked(settings(f"store: {{url: 'http://127.0.0.1:{free.getsockname()[1]}'}}"))
    assert "Connect" in said(away, "store", "error")
    monkeypatch.setattr(inside, "OLDEST_ENGINE", (99, 1))
    monkeypatch.setitem(INSERT_SETTINGS, "optimize_on_insert", "false")  # which is not what the engine calls it
    config = settings(f"store: {{url: '{engine.url}', min_free_disk_ratio: 1}}")
    found = looked(config)
    assert "99.1 is the oldest that will do" in said(found, "store", "error")
    assert "the engine uses optimize_on_insert = 0 where inserts ask for false" in said(found, "store", "error")
    assert "inserts are refused (503)" in said(found, "disk", "error")


def test_tenants_without_a_key_that_works_and_keys_that_end(collector: Collector, engine: ClickHouseFront) -> None:
    config = settings(f"store: {{url: '{engine.url}'}}")
    headers = {"X-Admin-Token": ADMIN_TOKEN}

    def keys_of(slug: str) -> list[dict[str, Any]]:
        answer = collector.request("GET", f"/api/v1/tenants/{slug}/keys", headers=headers)
        return list(answer.body["keys"])

    def add(slug: str, ends_s: float) -> str:
        body = {"scopes": ["search"], "expires": datetime.fromtimestamp(ends_s, UTC).isoformat()}
        answer = collector.request("POST", f"/api/v1/tenants/{slug}/keys", headers=headers, body=json.dumps(body).encode())
        assert answer.status == 201, answer
        return str(answer.body["key"]["key_id"])

    for slug in ("keyless", "ending"):
        collector.register(slug.title(), slug=slug)
    soon = add("ending", time.time() + 3 * DAY_S)
    (only,) = keys_of("keyless")
    collector.request("DELETE", f"/api/v1/tenants/keyless/keys/{only['key_id']}", headers=headers)
    found = said(looked(config), "keys", "warning")
    assert "tenant keyless: has no key: nobody can send or search" in found
    assert f"tenant ending: the key {soon} ends at" in found
    assert f"tenant key rotate ending {soon}" in found
    known = [({"slug": "ending", "disabled": False}, keys_of("ending"))]
    later = list(inside.keys(known, time.time() + 4 * DAY_S))
    assert f"tenant ending: the key {soon} ended at" in said(later, "keys", "warning")
    assert "there are no tenants" in said(list(inside.keys([])), "keys", "warning")
    done = command("doctor", "--config", str(collector.config), "--strict")
    assert done.returncode == 1
    assert "warning  keys       tenant keyless: has no key" in done.stdout


@needs_openssl
def test_an_embedded_store_is_looked_into_and_its_collector_asked_while_it_runs(tmp_path: Path) -> None:
    """Also where that speaks TLS and wants to see certificates: its own are at hand."""
    authority = Authority(tmp_path / "authority")
    cert, key = authority.issue("server", host="DNS:elsewhere.example")
    tls = {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(authority.ca)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    collector = Collector(tmp_path / "c", more=f"server: {{port: {port}, tls: {json.dumps(tls)}}}")
    collector.port = port
    collector.tls = ssl.create_default_context(cafile=str(authority.ca))
    collector.tls.check_hostname = False
    collector.tls.load_cert_chain(cert, key)
    config = configuration.load(collector.config)
    assert "there is no store yet" in said(looked(config), "store", "warning")
    assert not (tmp_path / "c" / "store").exists(), "looking makes nothing"
    collector.start()
    collector.new_tenant("Asked")
    listed = command("tenant", "list", "--config", str(collector.config))
    assert (listed.returncode, "Asked" in listed.stdout) == (0, True), listed.stderr
    done = command("doctor", "--config", str(collector.config), "--json")
    told = {(one["check"], one["message"]) for one in json.loads(done.stdout)["findings"] if one["level"] == "ok"}
    assert done.returncode == 0
    assert ("collector", "store: answers; settings and schema were checked when it started") in told
    assert any(check == "keys" and message.startswith("1 of 1 tenants") for check, message in told)
    assert any("another collector, pid" in message and collector.url in message for _, message in told)
    # Nobody is where the configuration says: it listens on another port.
    asleep = settings(f"store: {{url: '{collector.store}'}}\nserver: {{port: 1}}")
    assert "at http://127.0.0.1:1 no collector answers" in said(looked(asleep), "collector", "error")
    collector.kill()
    # Killed: looked into for itself, in a process that may have the engine.
    done = command("doctor", "--config", str(collector.config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       schema     10 tables are on disk before they are acknowledged" in done.stdout
    assert "the store was not closed well, and nobody has looked for damage yet" in done.stdout


@needs_openssl
def test_certificates_that_end_that_do_not_fit_and_that_are_not_in_order(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    cert, key = authority.issue("server")
    other = Authority(tmp_path / "other")

    def tls(**files: object) -> Config:
        told = {"cert_file": cert, "key_file": key, "client_ca_file": other.ca, **files}
        return settings(json.dumps({"server": {"tls": {name: str(path) for name, path in told.items()}}}))

    now_s = time.time()
    assert "server.tls.cert_file: 'server' ends in 1 days" in said(list(around.certified(tls())), "tls", "warning")
    later = said(list(around.certified(tls(), now_s + 3 * DAY_S)), "tls", "error")
    assert "server.tls.cert_file: 'server' has ended" in later
    assert "server.tls.client_ca_file: 'authority other' has ended" in later
    assert "begins at" in said(list(around.certified(tls(), now_s - DAY_S)), "tls", "error")
    mixed = tmp_path / "mixed.pem"
    mixed.write_text(cert.read_text() + other.ca.read_text())
    assert "'server' is not by 'authority other'" in said(list(around.certified(tls(cert_file=mixed))), "tls", "error")
    wrong = said(list(around.certified(tls(key_file=other.issue("other")[1]))), "tls", "error")
    assert "the key is of another certificate" in wrong
    assert "cannot be read" in said(list(around.certified(tls(client_ca_file=tmp_path / "none"))), "tls", "error")


def test_secrets_that_everybody_can_read_are_named(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a" * 32)
    file = tmp_path / "c.yaml"
    file.write_text(f"admin_token_file: {token}\nstore: {{url: 'http://127.0.0.1:9', password: secret}}\n")
    for mode, expected in ((0o600, 0), (0o640, 0), (0o644, 2)):
        token.chmod(mode)
        file.chmod(mode)
        found = list(around.secrets(configuration.load(file), str(file)))
        assert len(bad(found)) == expected
    assert f"chmod o-r {token}" in said(found, "secrets", "warning")
    assert "(has store.password): every user of this machine can read" in said(found, "secrets", "warning")
    assert "aaaa" not in said(found, "secrets", "warning")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {host: 0.0.0.0}", "server.host 0.0.0.0: keys and events come as plain HTTP"),
        ("store: {url: 'http://ch:8123', password: p}", "the password goes over the network as it is"),
        ("quota: {replicas: 3}", "without Redis each of 3 processes allows 1/3 of every rate"),
        ("store: {min_free_disk_ratio: 0}", "inserts go on until the disk is full"),
    ],
)
def test_what_is_allowed_and_seldom_meant_is_a_warning(text: str, message: str) -> None:
    assert message in said(list(around.configured(settings(text))), "config", "warning")
    assert bad(list(around.configured(settings("{}")))) == []


def test_a_disk_below_the_floor_is_wrong_and_one_near_it_a_warning(tmp_path: Path) -> None:
    store = settings(f"store: {{url: 'chdb://{tmp_path}', min_free_disk_ratio: 0.1}}").store
    assert [around.disk(store, (free, 100)).level for free in (50, 19, 10, 1)] == ["ok", "warning", "error", "error"]
    full = settings(f"store: {{url: 'chdb://{tmp_path}', min_free_disk_ratio: 1}}").store
    assert around.disk(full).level == "error"


def test_a_file_of_tenants_with_which_no_collector_starts_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    config = settings(f"tenants_file: {file}")
    assert "cannot be read: No such file" in said(list(around.tenants(config)), "tenants", "error")
    file.write_text("tenants: [{slg: shop}]")
    assert "tenants[0].slg: there is no such setting; did you mean slug?" in said(
        list(around.tenants(config)), "tenants", "error"
    )
    file.write_text("tenants: [{slug: shop}]")
    assert bad(list(around.tenants(config))) == []
    file.write_text("tenants: [{slg: shop}]")
    assert ("tenants", "error") in bad(looked(settings(f"tenants_file: {file}\nstore: {{url: 'chdb://{tmp_path}/store'}}")))


def test_a_store_that_this_user_cannot_make_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = settings(f"store: {{url: 'chdb://{tmp_path}/new/store'}}").store
    assert around.disk(store, (50, 100)).level == "ok"
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    assert "cannot be made by this user" in said([around.disk(store, (50, 100))], "disk", "error")


@pytest.mark.parametrize(
    ("ahead_s", "level"), [(0.2, "ok"), (-3.0, "warning"), (3.0, "warning"), (-60.0, "error"), (60.0, "error")]
)
def test_clocks_that_differ_are_told(ahead_s: float, level: str) -> None:
    assert around.clock("clock", "the engine's clock", ahead_s).level == level


@pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")
def test_a_redis_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    def redis(url: str) -> list[Finding]:
        async def found() -> list[Finding]:
            return [one async for one in around.redis(settings(f"quota: {{redis_url: '{url}'}}"))]

        return asyncio.run(found())

    with Redis(tmp_path / "redis") as running:
        url = running.url
        (fine,) = redis(url)
        assert fine.level == "ok", fine
        assert "answers and runs the script" in fine.message
    assert "until it answers each collector allows its part" in said(redis(url), "redis", "error")


def test_a_configuration_that_is_wrong_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("sevrer: {}\n")
    done = command("doctor", "--config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean server?" in done.stderr
