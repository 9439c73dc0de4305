"""A ClickHouse server as operators run it, from its own image, keeps the promises of the served home.

Every test runs twice: against the HTTP front over the embedded engine, which is always there, and against a container, where a
Docker engine answers (``pytest -m docker`` runs these alone). ``PULSESTREAM_CLICKHOUSE_IMAGE`` names another image. The Docker
engine has to be on this machine: the server's port is published on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import random
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import docker
import pytest
from docker.errors import DockerException
from docker.models.containers import Container
from docker.types import Ulimit
from msgspec.structs import replace

from agent import wire
from collector.config import StoreConfig
from collector.errors import StoreAway
from collector.store import schema
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from tests.integration.conftest import SERVED, Home, rows_of, submit
from tests.support import docker_engine
from tests.support.clickhouse_front import PORTS
from tests.support.collector import ADMIN_TOKEN, Answer, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.records import FILE_ID, expected_ids
from tests.support.records import record as record_at
from tests.support.wait import until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

FRONT, DOCKER = "front", "docker"
IMAGE = os.environ.get("PULSESTREAM_CLICKHOUSE_IMAGE", "clickhouse/clickhouse-server:latest")
PASSWORD = "of-the-tests"
HTTP_PORT = 8123
START_DEADLINE_S = 120.0
STOP_DEADLINE_S = 30
LINES = b"first line\nsecond LINE\r\n\xff not text\n"
JSON_LINES = b'{"msg":"paid","level":"error","order":7}\nnot json\n'
BATCH = 500


class Server(Protocol):
    """An engine behind HTTP that keeps its data and its port over `kill` or `stop`, and `start`."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class DockerServer:
    """A container of the server's image; its data live as long as it does."""

    def __init__(self, client: docker.DockerClient) -> None:
        if not client.images.list(IMAGE):
            client.images.pull(IMAGE)
        self._port = _free_port()
        self._container: Container = client.containers.create(
            IMAGE,
            ports={f"{HTTP_PORT}/tcp": ("127.0.0.1", self._port)},
            environment={"CLICKHOUSE_PASSWORD": PASSWORD, "TZ": "UTC"},
            ulimits=[Ulimit(name="nofile", soft=262_144, hard=262_144)],
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._container.start()
        until(self._pings, "the server answers", deadline_s=START_DEADLINE_S, told=self._container.logs)

    def _pings(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().read() == b"Ok.\n"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        self._container.stop(timeout=STOP_DEADLINE_S)

    def kill(self) -> None:
        self._container.kill()
        self._container.wait(timeout=STOP_DEADLINE_S)

    def remove(self) -> None:
        """With its data."""
        self._container.remove(force=True, v=True)


def _free_port() -> int:
    """Below the range for outgoing connections: it must still be free when the container starts again."""
    for port in random.sample(PORTS, 50):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port in {PORTS}")


class Engine(NamedTuple):
    server: Server
    config: StoreConfig
    """Names a database of the test's own."""

    def home(self) -> Home:
        return Home(SERVED, self.config)


@pytest.fixture(scope="module", params=[FRONT, pytest.param(DOCKER, marks=pytest.mark.docker)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == DOCKER:
        yield from _in_docker()
        return
    if importlib.util.find_spec("chdb") is None:
        pytest.skip("the engine (chdb) is not installed")
    front = ClickHouseFront(tmp_path_factory.mktemp("docker") / "data")
    front.start()
    yield front
    front.stop()


def _in_docker() -> Iterator[Server]:
    client = docker_engine.client()
    if isinstance(client, str):
        pytest.skip(client)
    try:
        try:
            server = DockerServer(client)
        except (DockerException, OSError) as error:
            pytest.skip(f"the Docker engine cannot run {IMAGE}: {error}")
        try:
            server.start()
            yield server
        finally:
            server.remove()
    finally:
        client.close()


@pytest.fixture
def served_engine(server: Server, request: pytest.FixtureRequest) -> Engine:
    is_docker = isinstance(server, DockerServer)
    name = f"test_{zlib.crc32(request.node.nodeid.encode()):x}"
    return Engine(server, StoreConfig(url=server.url, database=name, password=PASSWORD if is_docker else "", readers=2))


@pytest.fixture
def collector(served_engine: Engine, tmp_path: Path) -> Iterator[Collector]:
    """A collector process on the engine, ready."""
    process = Collector(tmp_path / "collector", store=served_engine.server.url)
    config = served_engine.config
    store = {name: getattr(config, name) for name in ("url", "database", "user", "password")}
    process.config.write_text(json.dumps({"admin_token": ADMIN_TOKEN, "store": store}))  # JSON is YAML
    with process:
        until(lambda: process.request("GET", "/readyz").status == 200, "the collector is ready", told=process.stderr.read_text)
        yield process
        process.stop()


def outcome(answer: Answer) -> Any:
    """The one record's outcome in an answer that must be an ack."""
    assert (answer.status, answer.headers["Content-Type"]) == (200, wire.ANSWER_TYPE), answer
    (only,) = answer.body["records"]
    return only


def test_the_schema_is_applied_and_the_durability_it_asks_for_is_what_the_engine_does(served_engine: Engine) -> None:
    async def run() -> None:
        store = await Store.open(served_engine.config)
        try:
            assert await schema.apply(store) == 0
            assert await schema.apply(store) == schema.VERSION
            await schema.check(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_blocks_become_rows_with_the_ids_of_the_wire_contract(served_engine: Engine, owner: Tenant) -> None:
    async def run() -> None:
        async with served_engine.home().writer() as (writer, store):
            (plain,) = await submit(writer, owner, record_at(LINES))
            (parsed,) = await submit(writer, owner, record_at(JSON_LINES, format="json", base_offset=1 << 20))
            assert (plain.accepted, parsed.accepted) == (3, 2)
            rows = await rows_of(store, owner, "external_id, hex(message), severity, parse_error")
            ids = expected_ids(LINES) + expected_ids(JSON_LINES, base_offset=1 << 20)
            texts = [b"first line", b"second LINE", b"\xff not text", b"paid", b"not json"]
            assert [row[:2] for row in rows] == [(a, b.hex().upper()) for a, b in zip(ids, texts, strict=True)]
            assert [row[2:] for row in rows[3:]] == [("error", ""), ("info", "json")]

    asyncio.run(run())


def test_what_was_written_before_is_a_duplicate_and_one_row_in_a_final_read(served_engine: Engine, owner: Tenant) -> None:
    async def run() -> None:
        async with served_engine.home().writer() as (writer, store):
            await submit(writer, owner, record_at(LINES))
            (again,) = await submit(writer, owner, record_at(LINES), replay=True)
            (unflagged,) = await submit(writer, owner, record_at(LINES))
            assert (again.outcome, again.duplicate) == (wire.DUPLICATE, 3)
            assert unflagged.accepted + unflagged.duplicate == 3
            assert len(await rows_of(store, owner, "external_id")) == 3

    asyncio.run(run())


def test_a_search_finds_what_was_posted_once(collector: Collector) -> None:
    key = collector.new_tenant("search")
    run = record(LINES)
    assert outcome(collector.post(key, run))["accepted"] == 3
    assert outcome(collector.post(key, run, X_PulseStream_Replay="1"))["duplicate"] == 3
    (event,) = collector.search(key, q="second line")["events"]
    assert (event["message"], event["id"]) == ("second LINE", wire.event_id(FILE_ID, 11, b"second LINE"))
    assert collector.search(key)["total_count"] == 3
    assert collector.search(collector.new_tenant("another"))["total_count"] == 0


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_over_a_restart_of_the_engine_nothing_acknowledged_is_lost_or_doubled(
    served_engine: Engine, collector: Collector, owner: Tenant, way: str
) -> None:
    key = collector.new_tenant("restart")
    first, second = (b"".join(b"line %d of part %d\n" % (n, part) for n in range(BATCH)) for part in (1, 2))
    assert outcome(collector.post(key, record(first)))["accepted"] == BATCH
    later = record(second, base_offset=len(first))

    getattr(served_engine.server, way)()
    away = collector.post(key, later)
    assert (away.status, away.body["error"]["code"]) == (503, wire.CODE_STORE_AWAY)
    assert int(away.headers["Retry-After"]) >= 1

    served_engine.server.start()
    until(lambda: collector.request("GET", "/readyz").status == 200, "the collector is ready", told=collector.stderr.read_text)
    sent = until(lambda: _acked(collector.post(key, later, X_PulseStream_Replay="1")), "the second part is acknowledged")
    assert outcome(sent)["accepted"] == BATCH
    assert outcome(collector.post(key, record(first), X_PulseStream_Replay="1"))["duplicate"] == BATCH
    assert collector.search(key, limit=1)["total_count"] == 2 * BATCH


def _acked(answer: Answer) -> Answer | None:
    assert answer.status in (200, 503), answer
    return answer if answer.status == 200 else None


def test_a_store_that_is_away_says_so_and_works_again_when_it_is_back(served_engine: Engine) -> None:
    async def run() -> None:
        config = replace(served_engine.config, connect_timeout_s=1.0)
        store = await Store.open(config)
        try:
            await schema.apply(store)
            served_engine.server.stop()
            with pytest.raises(StoreAway):
                await store.ping()
            await asyncio.to_thread(served_engine.server.start)
            await store.ping()
        finally:
            await store.close()

    asyncio.run(run())
