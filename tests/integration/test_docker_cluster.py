"""Two shards of ClickHouse servers, where a Docker engine is at hand: the schema for a cluster, made as it is printed.

A collector on each server takes copies of the same events; whichever is asked shows each of them once, and they lie on both
shards. Skipped with the reason where no Docker engine answers; the text itself is held by `tests.unit.test_cluster`, and that
the engine takes it apart by `tests.integration.test_statements`.
"""

from __future__ import annotations

import http.client
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import docker
import pytest
from docker.errors import DockerException
from docker.models.networks import Network

from collector.store import cluster, schema
from tests.integration.test_docker_server import IMAGE, PASSWORD, DockerServer
from tests.support import docker_engine
from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.wait import until

pytestmark = [pytest.mark.engine, pytest.mark.docker, pytest.mark.timeout(600)]

NAME = "main"
SHARDS = ("ps-shard-1", "ps-shard-2")
CONFIG = """
<clickhouse>
  <macros><shard>{number}</shard><replica>a</replica></macros>
  <remote_servers><main>{shards}</main></remote_servers>
  <zookeeper><node><host>ps-shard-1</host><port>9181</port></node></zookeeper>
  <distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>
  {keeper}
</clickhouse>
"""
SHARD = (
    "<shard><internal_replication>true</internal_replication><replica><host>{host}</host><port>9000</port>"
    f"<user>default</user><password>{PASSWORD}</password></replica></shard>"
)
KEEPER = """
  <keeper_server>
    <tcp_port>9181</tcp_port><server_id>1</server_id>
    <log_storage_path>/var/lib/clickhouse/coordination/log</log_storage_path>
    <snapshot_storage_path>/var/lib/clickhouse/coordination/snapshots</snapshot_storage_path>
    <raft_configuration><server><id>1</id><hostname>ps-shard-1</hostname><port>9234</port></server></raft_configuration>
  </keeper_server>
"""
FILES = 40
LINES = 5


class ClusterServer(DockerServer):
    """One of the servers: known to the others by its name in a network of their own."""

    def __init__(self, client: docker.DockerClient, network: Network, number: int) -> None:
        super().__init__(client)
        host = SHARDS[number - 1]
        network.connect(self._container, aliases=[host])
        shards = "".join(SHARD.format(host=name) for name in SHARDS)
        text = CONFIG.format(number=number, shards=shards, keeper=KEEPER if number == 1 else "")
        self._container.put_archive("/etc/clickhouse-server/config.d", _archive("cluster.xml", text))

    def run(self, sql: str) -> str:
        """The answer to one statement, as text."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            query = urlencode({"user": "default", "password": PASSWORD})
            connection.request("POST", f"/?{query}", body=sql.encode())
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == 200, f"{sql[:200]}: {text}"
        return text


def _archive(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(text.encode()), 0o644
        archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[ClusterServer]]:
    client = docker_engine.client()
    if isinstance(client, str):
        pytest.skip(client)
    made: list[ClusterServer] = []
    network = client.networks.create("pulsestream-test-cluster", check_duplicate=True)
    try:
        try:
            made.extend(ClusterServer(client, network, number) for number in (1, 2))
        except (DockerException, OSError) as error:
            pytest.skip(f"the Docker engine cannot run {IMAGE}: {error}")
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.remove()
        network.remove()
        client.close()


def test_copies_that_come_in_anywhere_are_one_event_everywhere(servers: list[ClusterServer], tmp_path: Path) -> None:
    statements = cluster.clustered(schema.statements("pulsestream"), "pulsestream", NAME, schema.VERSION)
    until(lambda: servers[0].run("SELECT count() FROM system.zookeeper WHERE path = '/'"), "the keeper answers")
    for statement in [*statements, *statements]:  # each can be run again
        servers[0].run(statement)
    collectors = [_collector(tmp_path / name, server) for name, server in zip(SHARDS, servers, strict=True)]
    try:
        for collector in collectors:
            collector.start()
        key = collectors[0].new_tenant("cluster")
        runs = [
            record(b"".join(b"line %d of file %d\n" % (n, number) for n in range(LINES)), file_id=f"{number:016x}")
            for number in range(FILES)
        ]
        for run in runs:
            for collector in collectors:
                answer = until(lambda c=collector, r=run: _acked(c, key, r), "it is acknowledged")  # type: ignore[misc]
                assert answer
        for collector in collectors:
            assert collector.search(key, limit=1, count="exact")["total_count"] == FILES * LINES
        parts = [int(server.run("SELECT uniqExact(external_id) FROM pulsestream.events_local")) for server in servers]
        assert sum(parts) == FILES * LINES
        assert min(parts) > 0
    finally:
        for collector in collectors:
            collector.kill()


def _acked(collector: Collector, key: str, run: bytes) -> bool:
    """A key that was made elsewhere, and a quorum, may take a moment."""
    return collector.post(key, run).status == 200


def _collector(folder: Path, server: ClusterServer) -> Collector:
    made = Collector(folder, store=server.url)
    store = {"url": server.url, "database": "pulsestream", "user": "default", "password": PASSWORD}
    made.config.write_text(json.dumps({"admin_token": ADMIN_TOKEN, "store": store}))  # JSON is YAML
    return made
