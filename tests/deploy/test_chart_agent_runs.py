"""What the agent's chart renders, run: command lines, environment and files as rendered, beside a real collector."""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support import helm
from tests.support.agent import App, arrived
from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.pods import Pod, with_dependencies
from tests.support.ports import free_port
from tests.support.sink import SinkProcess
from tests.support.wait import until

AGENT = "pulsestream-agent"
UID = "5f0b7a52-0c1d-4a5e-9f4e-3d1b2c3d4e5f"
FACTS = {
    "metadata.name": "blue-shop-6d5f-x2x9q",
    "metadata.namespace": "shops",
    "metadata.uid": UID,
    "spec.nodeName": "node-7",
    "status.podIP": "127.0.0.1",
}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    if importlib.util.find_spec("chdb") is None:
        pytest.skip("the engine (chdb) is not installed")
    with Collector(tmp_path_factory.mktemp("collector"), log_level="info") as process:
        until(lambda: process.request("GET", "/readyz").status == 200, "the collector is ready")
        yield process


class Tenant:
    """Two keys of one tenant: one may only ingest, as the charts want it."""

    def __init__(self, collector: Collector, slug: str) -> None:
        self._collector = collector
        self._key = collector.new_tenant(slug, slug=slug)
        body = json.dumps({"name": "agents", "scopes": ["ingest"]}).encode()
        made = collector.request("POST", f"/api/v1/tenants/{slug}/keys", body=body, headers={"X-Admin-Token": ADMIN_TOKEN})
        self.ingest_key = str(made.body["api_key"])

    def events(self) -> list[Any]:
        """All of them: a busy machine may not get to the end of a search in time."""

        def found() -> Any:
            query = {"limit": 1000}
            answer = self._collector.request("GET", "/api/v1/ingestion/events/search", key=self._key, query=query)
            return answer.body if answer.status == 200 and not answer.body["partial"] else None

        return list(
            until(found, "a search is answered whole", told=lambda: self._collector.stderr.read_text()[-2000:])["events"]
        )

    def messages(self) -> list[str]:
        return sorted(event["message"] for event in self.events())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_dependencies(helm.CHARTS, tmp_path_factory.mktemp("shop"), "examples/shop")


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Pods of rendered objects; what runs in them ends with the test."""
    made: list[Pod] = []

    def pod(
        objects: list[helm.Object], kind: str, key: str, *, open_to_all: Path | None = None, log: str = "", **facts: str
    ) -> Pod:
        secrets = {"key": {"api-key": key}}
        workload, root = helm.one(objects, kind), open_to_all or tmp_path / "machine"
        facts, as_users = {**FACTS, **facts}, open_to_all is not None
        made.append(Pod(root, objects, workload, facts=facts, secrets=secrets, as_users=as_users, name=log))
        return made[-1]

    yield pod
    for one in made:
        one.close()


def values(url: str, port: int, **more: Any) -> dict[str, Any]:
    """What the agent needs on this machine: a collector, a port of its own, and little patience."""
    return {
        "collector": {"url": url},
        "apiKey": {"secretName": "key"},
        "metrics": {"host": "127.0.0.1", "port": port},
        "config": {"rescan_interval_s": 0.2, "flush_interval_s": 0.05},
        **more,
    }


def asked(pod: Pod, kind: str) -> int:
    """What the kubelet is told by a probe: a status, 0 while nobody answers."""
    path, port = pod.probe(AGENT, kind)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return 0
    finally:
        connection.close()


def alive(pod: Pod) -> None:
    until(lambda: asked(pod, "livenessProbe") == 200, "the agent is alive", told=lambda: pod.log(AGENT))


def test_every_line_of_the_shop_arrives_also_the_last_that_it_writes_when_it_is_ended(
    shop: Path, collector: Collector, pods: Callable[..., Pod]
) -> None:
    """As the kubelet does it: the agent first, then the shop; SIGTERM to the shop, and to the agent when the shop has ended."""
    tenant = Tenant(collector, "shop")
    more = {"everySeconds": 0.05, "rotateBytes": 3000, AGENT: values(collector.url, free_port())}
    pod = pods(helm.render(shop, more, release="blue", namespace="shops"), "Deployment", tenant.ingest_key)
    checked = pod.run(AGENT, "check", "--config", "/etc/pulsestream/agent.yaml", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["problems"]) == (0, []), checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["scope"] == UID
    pod.start(AGENT)
    alive(pod)
    pod.start("shop")
    log = pod.place("shop", "/var/log/app/shop.log")
    until(log.with_name("shop.log.1").exists, "the log is rotated", told=lambda: pod.log("shop"))
    assert pod.end("shop") == 0
    wrote = [json.loads(line) for path in sorted(log.parent.iterdir()) for line in path.read_text().splitlines()]
    assert pod.is_running(AGENT)
    assert pod.end(AGENT) == 0
    assert "everything that was read is acknowledged" in pod.log(AGENT)
    events = tenant.events()
    orders = [int(event["attributes"]["order"]) for event in events]
    assert sorted(orders) == list(range(1, max(line["order"] for line in wrote) + 1)), "each once, whatever was rotated away"
    last = next(event for event in events if event["message"] == "the shop closes")
    assert last["source"]["service"] == "shop"
    labels = {"pod": FACTS["metadata.name"], "namespace": "shops", "node": "node-7", "app.kubernetes.io/version": "1.0.0"}
    assert labels.items() <= last["attributes"].items()


def test_without_its_secret_the_sidecar_runs_and_waits_so_that_the_app_is_started(
    shop: Path, sink: SinkProcess, pods: Callable[..., Pod]
) -> None:
    """One that ended at once might never be seen running by the kubelet, and the app would wait for it."""
    later = {"secretName": "later"}
    pod = pods(helm.render(shop, {AGENT: values(sink.url, free_port(), apiKey=later)}), "Deployment", "a-key")
    pod.start(AGENT)
    until(lambda: "api-key cannot be read: No such file" in pod.log(AGENT), "it says so", told=lambda: pod.log(AGENT))
    app = App(pod.volume("pulsestream-logs") / "shop.log")
    app.write(3)
    assert pod.is_running(AGENT)
    pod.place(AGENT, "/run/secrets/pulsestream/api-key").write_text("a-key")
    arrived(sink, app.lines)
    assert pod.end(AGENT) == 0


def test_the_next_pod_of_an_update_waits_for_the_state_that_the_one_before_still_has(
    shop: Path, sink: SinkProcess, pods: Callable[..., Pod]
) -> None:
    """On one claim: a sidecar that ended would keep its app from starting, and so the pod before from being ended."""
    logs = {"claim": "shop-logs"}
    before = pods(helm.render(shop, {AGENT: values(sink.url, free_port(), logs=logs)}), "Deployment", "a-key")
    after = pods(helm.render(shop, {AGENT: values(sink.url, free_port(), logs=logs)}), "Deployment", "a-key", log="after")
    before.start(AGENT)
    alive(before)
    after.start(AGENT)
    until(lambda: "another agent" in after.log(AGENT), "it says who has it", told=lambda: after.log(AGENT))
    app = App(before.volume("pulsestream-logs") / "shop.log")
    arrived(sink, app.write(2))
    assert before.end(AGENT) == 0
    arrived(sink, app.write(2))
    assert after.end(AGENT) == 0
    assert set(sink.seen().deliveries.values()) == {1}


def test_on_a_claim_scope_and_state_lie_beside_the_logs_and_outlive_the_pod(
    shop: Path, sink: SinkProcess, pods: Callable[..., Pod]
) -> None:
    """The state is deleted as well: the lines come under the IDs that they had."""
    logs = {"claim": "shop-logs", "subPathExpr": "$(POD_NAMESPACE)"}
    objects = helm.render(shop, {AGENT: values(sink.url, free_port(), logs=logs, allPodLabels=True)})
    pod = pods(objects, "Deployment", "a-key")
    pod.start(AGENT)
    alive(pod)
    app = App(pod.volume("pulsestream-logs") / "shops" / "shop.log")
    arrived(sink, app.write(3))
    assert pod.end(AGENT) == 0
    beside = pod.volume("pulsestream-logs") / "shops" / ".pulsestream"
    assert (beside / "scope").read_text().strip() not in ("", UID)
    shutil.rmtree(beside / "state")
    again = pods(objects, "Deployment", "a-key", **{"metadata.uid": "another", "metadata.name": "blue-shop-2"})
    again.start(AGENT)
    arrived(sink, app.write(1))
    assert again.end(AGENT) == 0
    seen = sink.seen()
    assert {len(names) for names in seen.texts.values()} == {1}
    assert sorted(seen.deliveries.values()) == [1, 2, 2, 2]


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user can reach. Skips where there are no other users."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        command = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", sys.executable, "-c", "import agent"]
        tried = subprocess.run(command, cwd=helm.REPOSITORY, capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"another user cannot start this Python, or read this folder: {tried.stderr.strip()[-200:]}")
        yield folder
    finally:
        shutil.rmtree(folder)


def test_as_the_users_of_the_chart_the_agent_reads_what_the_app_writes_for_its_group(
    shop: Path, sink: SinkProcess, pods: Callable[..., Pod], open_to_all: Path
) -> None:
    """The shop is user 1000, the agent 10001; the volume's group is in both."""
    objects = helm.render(shop, {AGENT: values(sink.url, free_port())})
    pod = pods(objects, "Deployment", "a-key", open_to_all=open_to_all)
    pod.start(AGENT)
    alive(pod)
    pod.start("shop")
    until(lambda: any("the shop opens" in text for text in sink.seen().texts), "it arrives", told=lambda: pod.log(AGENT))
    made = (pod.volume("pulsestream-logs") / "shop.log").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (1000, 10001, 0o640)
    assert pod.end("shop") == 0
    assert pod.end(AGENT) == 0
    assert any("the shop closes" in text for text in sink.seen().texts)
    assert "WARNING" not in pod.log(AGENT)


def test_on_a_node_root_reads_files_of_others_and_can_write_none(
    sink: SinkProcess, pods: Callable[..., Pod], open_to_all: Path
) -> None:
    pod = pods(helm.render(AGENT, values(sink.url, free_port())), "DaemonSet", "a-key", open_to_all=open_to_all)
    web = Container(pod.root / "node", "shop", "web-0", "nginx")
    web.say("of root")
    web.log.chmod(0o640)
    other = Container(pod.root / "node", "shop", "web-1", "nginx")
    other.say("of somebody else")
    os.chown(other.log, 1000, 1000)
    other.log.chmod(0o600)
    pod.start(AGENT)
    arrived(sink, [*web.wrote, *other.wrote])
    said = Path(f"/proc/{pod.pid(AGENT)}/status").read_text().splitlines()
    rights = dict(line.split(":\t") for line in said if line.startswith("Cap"))
    dac_read_search = f"{1 << 2:016x}"
    assert rights["CapEff"] == rights["CapPrm"] == rights["CapBnd"] == dac_read_search
    assert pod.end(AGENT) == 0
    refused = subprocess.run(
        [*pod.user(AGENT), "sh", "-c", 'echo more >> "$0"', str(other.log)], capture_output=True, text=True, check=False
    )
    assert "Permission denied" in refused.stderr


class Container:
    """What a runtime and the kubelet do with the log of a container: CRI lines, a link, rotation."""

    _ticks = count(1)

    def __init__(self, node: Path, namespace: str, pod: str, name: str) -> None:
        self.namespace, self.pod, self.name = namespace, pod, name
        self.folder = node / "var/log/pods" / f"{namespace}_{pod}_{'0b' * 16}" / name
        self.folder.mkdir(parents=True)
        self.log = self.folder / "0.log"
        self.log.touch()
        links = node / "var/log/containers"
        links.mkdir(exist_ok=True)
        (links / f"{pod}_{namespace}_{name}-{'0c' * 32}.log").symlink_to(self.log)
        self.wrote: list[str] = []

    def say(self, text: str, *, stream: str = "stdout", parts: int = 1) -> None:
        """A line, in as many pieces."""
        text = f"{self.namespace}/{self.pod}/{self.name}: {text}"
        self.wrote.append(text)
        step = -(-len(text) // parts)
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        with self.log.open("a") as file:
            for piece in pieces:
                time_ns = f"{next(self._ticks):09d}"  # no two lines of a node have one time
                file.write(f"2026-11-25T10:00:00.{time_ns}Z {stream} {'F' if piece is pieces[-1] else 'P'} {piece}\n")

    def rotate(self) -> None:
        """Renamed, and a new one; the one before is packed: written as .tmp, renamed, then its plain form deleted."""
        for old in self.folder.glob("0.log.*[0-9]"):
            packed = Path(f"{old}.tmp")
            packed.write_bytes(gzip.compress(old.read_bytes()))
            packed.rename(f"{old}.gz")
            old.unlink()
        self.log.rename(self.folder / f"0.log.20261125-10000{len(list(self.folder.iterdir()))}")
        self.log.touch()


HALF_PACKED = b"\x1f\x8b\x08\0\0\0\0\0\2\xff what the kubelet\nhas packed so far\n"
BY_PODS: dict[str, Any] = {}
BY_LINKS = {"include": ["/var/log/containers/*.log"], "hostPaths": ["/var/log/pods", "/var/log/containers"]}


@pytest.mark.parametrize("daemonset", [BY_PODS, BY_LINKS], ids=["pods", "links"])
def test_on_a_node_every_line_of_every_container_is_found_once_with_what_its_path_says(
    collector: Collector, pods: Callable[..., Pod], daemonset: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    tenant = Tenant(collector, f"node-{request.node.callspec.id}")
    more = values(collector.url, free_port(), daemonset={**daemonset, "excludeNamespaces": ["quiet"]}, cluster="blue")
    pod = pods(helm.render(AGENT, more, namespace="logging", release="logs"), "DaemonSet", tenant.ingest_key)
    node = pod.root / "node"
    web, side = Container(node, "shop", "web-0", "nginx"), Container(node, "shop", "web-0", "side-car")
    other = Container(node, "bank", "web-0", "nginx")
    own = Container(node, "logging", "logs-pulsestream-agent-x7k2p", AGENT)
    quiet = Container(node, "quiet", "batch-1", "main")
    containers = [web, side, other, own, quiet]

    def written() -> int:
        return len([*web.wrote, *side.wrote, *other.wrote])

    for container in containers:
        container.say("before any agent")
    if not daemonset:  # links lead to the newest file only: what was rotated before is out of sight
        for _ in range(2):
            web.rotate()
            web.say("after a rotation that no agent saw")
    (web.folder / "0.log.20261125-100009.tmp").write_bytes(HALF_PACKED)
    pod.start(AGENT)
    until(lambda: asked(pod, "readinessProbe") == 200, "the agent is ready", told=lambda: pod.log(AGENT))
    until(lambda: len(tenant.events()) >= len(web.wrote) + 2, "the first lines are found", told=lambda: pod.log(AGENT))
    for number in range(3):
        for container in containers:
            container.say(f"line {number}", stream="stderr")
            container.say(f"a long line {number} in pieces", parts=3)
        if daemonset:
            until(lambda: len(tenant.events()) >= written(), "they are found", told=lambda: pod.log(AGENT))
        web.rotate()
    web.say("the last")
    shipped = [*web.wrote, *side.wrote, *other.wrote]
    until(lambda: len(tenant.events()) >= len(shipped), "every line is found", told=lambda: pod.log(AGENT))
    assert pod.end(AGENT) == 0
    assert tenant.messages() == sorted(shipped), pod.log(AGENT)
    for container in (web, side, other):
        path = {"namespace": container.namespace, "pod": container.pod, "container": container.name}
        labels = {**path, "node": "node-7", "cluster": "blue"}
        found = [event for event in tenant.events() if event["message"] in container.wrote]
        assert [{name: event["attributes"].get(name) for name in labels} for event in found] == [labels] * len(container.wrote)
        assert {event["source"]["service"] for event in found} == {container.name}
    assert (node / "var/lib/pulsestream-agent/logging-logs-pulsestream-agent/lock").exists(), "the state is the node's"
    assert "ERROR" not in pod.log(AGENT), pod.log(AGENT)


def test_a_node_agent_ended_for_an_update_leaves_its_state_to_the_next(sink: SinkProcess, pods: Callable[..., Pod]) -> None:
    """Also what was written and rotated between the two is shipped, and nothing twice."""
    objects = helm.render(AGENT, values(sink.url, free_port()))
    pod = pods(objects, "DaemonSet", "a-key")
    web = Container(pod.root / "node", "shop", "web-0", "nginx")
    web.say("one")
    pod.start(AGENT)
    arrived(sink, web.wrote)
    assert pod.end(AGENT, signal.SIGTERM) == 0
    web.say("two")
    web.rotate()
    web.say("three")
    following = pods(objects, "DaemonSet", "a-key", **{"metadata.name": "another"})
    following.start(AGENT)
    seen = arrived(sink, web.wrote)
    assert following.end(AGENT) == 0
    assert set(seen.deliveries.values()) == {1}


def test_the_notes_of_an_installation_name_commands_that_work(
    sink: SinkProcess, pods: Callable[..., Pod], tmp_path: Path
) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(helm.CHARTS / AGENT, chart)
    notes = (chart / "templates" / "NOTES.txt").read_text().replace("\n", "\n    ")
    said = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  said: |\n    "
    (chart / "templates" / "notes.yaml").write_text(said + notes)
    objects = helm.render(chart, values(sink.url, free_port()), namespace="logging", release="logs")
    text = str(helm.one(objects, "ConfigMap", "notes")["data"]["said"])
    assert "kubectl -n logging create secret generic key --from-literal=api-key=KEY" in text
    assert f"rollout status daemonset/{helm.one(objects, 'DaemonSet')['metadata']['name']}\n" in text
    pod = pods([item for item in objects if item["metadata"]["name"] != "notes"], "DaemonSet", "a-key")
    pod.start(AGENT)
    alive(pod)
    commands = [line.partition(" -- pulsestream-agent ")[2].split() for line in text.splitlines() if " exec " in line]
    assert [command[0] for command in commands] == ["check", "status"]
    for command in commands:
        done = pod.run(AGENT, *command)
        assert done.returncode == 0, done.stdout + done.stderr
