"""What the collector's chart renders, run: command lines, configuration and secrets as processes, and its test against them."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from collector.tenants import tenants
from tests.support import helm
from tests.support.certificates import Authority
from tests.support.collector import START_DEADLINE_S, Collector
from tests.support.collector_pod import Pod, Run
from tests.support.engine import ClickHouseFront
from tests.support.helm import Object

pytestmark = pytest.mark.engine

CHART = "pulsestream-collector"
TOKEN = "an-admin-token-for-tests"
KEY, _ = tenants.new_key()
TENANT = {
    "slug": "red-shop",
    "keys": [{"scopes": ["ingest", "search"], "key_sha256": tenants.hash_of(KEY)}],
}
PRE_STOP_S = 5
"""The pause before SIGTERM is part of the grace period."""
TEST = {"test": {"existingSecret": "test-key", "key": "key"}}
GIVEN = {"test-key": {"key": KEY}}


class Running:
    """The collector of a rendering. It listens where the system says: many tests share this machine."""

    def __init__(
        self,
        objects: list[Object],
        folder: Path,
        given: Mapping[str, Mapping[str, str]] = GIVEN,
        *,
        as_user: bool = False,
    ) -> None:
        self.objects = objects
        self._given = given
        self._folder = folder
        self.deployment = helm.one(objects, "Deployment")
        self.run = Pod(objects, self.deployment, folder / "pod", given, as_user=as_user).run("collector")
        config = Path(self.run.arguments[-1])
        tree = yaml.safe_load(config.read_text())
        assert (tree["server"]["host"], tree["server"]["port"]) == ("0.0.0.0", 8080)
        tree["server"] |= {"host": "127.0.0.1", "port": 0}
        config.write_text(yaml.safe_dump(tree))
        self.stderr = folder / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Running:
        with self.stderr.open("wb") as stderr:
            self._process = subprocess.Popen(self.run.arguments, env=self.run.env, stdout=subprocess.PIPE, stderr=stderr)
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_DEADLINE_S)
        line = self._process.stdout.readline().decode() if readable else ""
        found = re.search(r"https?://127\.0\.0\.1:\d+", line)
        assert found, f"{line}{self.stderr.read_text()}"
        self.url = found[0]
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process is not None
        with self._process:
            self._process.kill()

    @property
    def user_id(self) -> int:
        assert self._process is not None
        return os.stat(f"/proc/{self._process.pid}").st_uid

    def asked(self) -> Collector:
        """To ask it with."""
        client = Collector(self._folder / "client")
        client.port = int(self.url.rpartition(":")[2])
        return client

    def terminate(self, within_s: float) -> int:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGTERM)
        return self._process.wait(within_s)

    def tested(self, **env: str) -> subprocess.CompletedProcess[str]:
        """``helm test``: the pod's program, asking here."""
        pod = helm.one(self.objects, "Pod")
        run = Pod(self.objects, pod, self._folder / "test", self._given).run("test")
        assert run.env["PULSESTREAM_URL"].endswith(f"://{pod['metadata']['name'].removesuffix('-test')}.logs.svc:8080")
        return done(run, PULSESTREAM_URL=self.url, **env)


def done(run: Run, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        run.arguments, env={**run.env, **env}, capture_output=True, text=True, timeout=START_DEADLINE_S, check=False
    )


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    values = {"secrets": {"adminToken": TOKEN}, "tenants": [TENANT], **TEST}
    with Running(helm.render(CHART, values), tmp_path_factory.mktemp("embedded")) as running:
        yield running


def test_the_probes_ask_what_the_collector_answers(embedded: Running) -> None:
    container = helm.pod_of(embedded.deployment)["containers"][0]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert embedded.asked().request("GET", container[probe]["httpGet"]["path"]).status == 200, probe


def test_helm_test_sends_an_event_and_finds_it(embedded: Running) -> None:
    said = embedded.tested()
    assert said.returncode == 0, said.stderr
    sent, found = (re.search(rf"{word} (helm-test-\S+?)[,:]", said.stdout) for word in ("sent", "found"))
    assert sent, said.stdout
    assert found, said.stdout
    assert sent[1] == found[1]
    shown = embedded.asked().search(KEY, service="helm-test")
    assert [event["event_id"] for event in shown["events"]] == [sent[1]]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PULSESTREAM_API_KEY": "ps_nobodys_key"}, "answered 401"),
        ({"PULSESTREAM_URL": "http://127.0.0.1:9", "DEADLINE_S": "0"}, "/readyz answered <urlopen error"),
    ],
)
def test_helm_test_fails_when_nothing_can_be_sent(embedded: Running, env: dict[str, str], said: str) -> None:
    pod = helm.one(embedded.objects, "Pod")
    run = Pod(embedded.objects, pod, embedded.stderr.parent / "failing", GIVEN).run("test")
    failed = done(run, **{"PULSESTREAM_URL": embedded.url, **env})
    assert failed.returncode == 1
    assert said in failed.stderr


def test_the_notes_commands_make_a_tenant_send_an_event_and_find_nothing_wrong(embedded: Running, tmp_path: Path) -> None:
    said = helm.notes(CHART, {"secrets": {"adminToken": TOKEN}}, tmp_path)
    tenant, doctor = re.findall(r"exec deployment/\S+ -- \\\n +pulsestream-collector (.*)", said)
    [event] = re.findall(r"-d '([^']*)'", said)
    answers: list[str] = []
    pod = Pod(embedded.objects, embedded.deployment, embedded.stderr.parent / "pod", GIVEN)
    for command in (tenant, doctor):
        arguments = [*map(pod.here, shlex.split(command)), "--url", embedded.url]
        made = done(Run([embedded.run.arguments[0], *arguments], embedded.run.env))
        assert made.returncode == 0, made.stdout + made.stderr
        answers.append(made.stdout)
    [key] = re.findall(r"\bps_\S+", answers[0])
    assert embedded.asked().request("POST", "/api/v1/ingestion/events", key=key, body=event.encode()).status in (200, 201)
    assert [event["title"] for event in embedded.asked().search(key)["events"]] == ["Hello"]


def test_a_scrape_has_what_only_the_store_knows(embedded: Running) -> None:
    text = embedded.asked().request("GET", "/metrics").body.decode()
    assert re.search(r"^collector_agents_silent 0\.0$", text, re.MULTILINE)
    assert re.search(r"^collector_store_free_disk_ratio 0\.\d+$", text, re.MULTILINE)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where another user gets to: pytest's own folders are its user's."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_it_needs_its_user_and_its_mounts_alone_and_ends_within_its_grace_period(open_folder: Path) -> None:
    """Also while somebody reads a tail, which would go on for ever."""
    objects = helm.render(CHART, {"secrets": {"adminToken": TOKEN}, "tenants": [TENANT], **TEST})
    deployment = helm.one(objects, "Deployment")
    as_user = (
        os.geteuid() == 0
        and not done(
            Run([*Pod(objects, deployment, open_folder / "try").user, sys.executable, "-c", "import collector"], {})
        ).returncode
    )
    with Running(objects, open_folder, as_user=as_user) as running:
        assert (os.stat(running.run.arguments[-1]).st_mode & 0o777 == 0o440) is as_user
        assert running.user_id == (10001 if as_user else os.geteuid())
        grace_s = helm.pod_of(deployment)["terminationGracePeriodSeconds"]
        tail = ["curl", "-sN", "-H", f"X-API-Key: {KEY}", f"{running.url}/api/v1/ingestion/events/tail"]
        with subprocess.Popen(tail, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline()  # it is open
            assert running.terminate(grace_s - PRE_STOP_S) == 0
        if not as_user:
            pytest.skip("it ran and ended, but not as its user: only root may change it, for one who can read this environment")


def test_a_served_store_with_tls_and_certificates_of_our_own(tmp_path: Path) -> None:
    """The Job makes the schema with the secrets that are there; the collector speaks TLS; the test trusts its authority."""
    authority = Authority(tmp_path / "certificates")
    cert, key = authority.issue("collector")
    given = {
        **GIVEN,
        "ours": {"password": "s3cret"},
        "our-tls": {"tls.crt": cert.read_text(), "tls.key": key.read_text(), "ca.crt": authority.ca.read_text()},
    }
    with ClickHouseFront(tmp_path / "engine") as front:
        values: dict[str, Any] = {
            "store": {"mode": "external", "external": {"url": front.url}},
            "existingSecret": {"name": "ours", "clickhousePassword": "password"},
            "tenants": [TENANT],
            "tls": {"secretName": "our-tls"},
            "schemaJob": {"enabled": True},
            **TEST,
        }
        objects = helm.render(CHART, values)
        job = Pod(objects, helm.one(objects, "Job"), tmp_path / "job", given).run("schema")
        applied = [done(job) for _ in range(2)]  # a Job that failed in the middle is run again
        assert [run.returncode for run in applied] == [0, 0], applied
        assert [" (it was 0)" in run.stdout for run in applied] == [True, False], applied
        with Running(objects, tmp_path, given) as running:
            assert running.url.startswith("https://")
            said = running.tested()
            assert said.returncode == 0, said.stderr
            assert "found helm-test-" in said.stdout
