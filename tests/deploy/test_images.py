"""The images: what their files name exists, and their steps, done in a plain folder, make programs that work.

Building them for real needs a Docker engine; where none answers that one test is skipped and says so.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import docker_engine
from tests.support.agent import App, arrived, exactly_once
from tests.support.dockerfile import REPOSITORY, NoIndex, Stage, build, ignored_patterns, is_sent, stages
from tests.support.engine import ClickHouseFront
from tests.support.processes import children
from tests.support.sink import SinkProcess
from tests.support.wait import until

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PROGRAMS = ("agent", "collector")
STATE = "/var/lib/pulsestream"
# The first process of a namespace of its own, as in a container; it ends with the test.
AS_FIRST = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc") if os.geteuid() == 0 else ()


def dockerfile(program: str) -> list[Stage]:
    return stages((REPOSITORY / program / "Dockerfile").read_text())


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_is_slim_not_root_and_says_what_it_is(program: str) -> None:
    first, last = dockerfile(program)
    assert first.base == last.base == "python:3.13-slim-bookworm"
    assert not any("apt-get" in command for command in last.all("RUN")), "nothing is installed beside the packages"
    assert last.one("USER") == "10001:10001"
    assert last.one("STOPSIGNAL") == "SIGTERM"
    assert last.one("VOLUME") == STATE
    assert last.pairs("ENV")["PULSESTREAM_HEALTH_URL"] == f"http://127.0.0.1:{last.one('EXPOSE')}/healthz"
    assert last.command("ENTRYPOINT") == [f"pulsestream-{program}"]
    assert f"pulsestream-{program}" in PROJECT["scripts"]
    assert last.pairs("ARG")["VERSION"] == PROJECT["version"]
    labels = last.pairs("LABEL")
    names = {"title", "description", "version", "revision", "licenses"}
    assert labels.keys() >= {f"org.opencontainers.image.{name}" for name in names}
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    taken = [source for rest in last.all("COPY") for source in rest.split()[:-1] if not source.startswith("--")]
    assert all((REPOSITORY / source).is_file() for source in taken if not source.startswith("/opt/")), taken


def test_a_build_is_sent_nothing_that_it_does_not_need() -> None:
    patterns = ignored_patterns()
    sent = {name for name in (".git", "var", ".venv", "tests", "charts") if is_sent(REPOSITORY / name / "file", patterns)}
    assert not sent
    assert is_sent(REPOSITORY / "agent" / "files" / "tail.py", patterns)
    assert not is_sent(REPOSITORY / "agent" / "files" / "__pycache__" / "tail.pyc", patterns)


class Image:
    """A program as its image has it, in a plain folder: ``root`` is where /opt and /src lie."""

    def __init__(self, root: Path, program: str, **arguments: str) -> None:
        first, self._last = dockerfile(program)
        self._root = root
        self._program = program
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        try:
            build(first, root, python=str(base), **arguments)
        except NoIndex as error:
            pytest.skip(f"the packages of the image cannot be had here: {error}")
        self.bin = root / "opt" / "pulsestream" / "bin"
        self.config = root / f"{program}.yaml"
        self.log = root / f"{program}.log"

    def configured(self, state: Path, **changes: str) -> None:
        """The configuration that the image brings, with another state folder and what ``changes`` replaces."""
        copied = next(rest for rest in self._last.all("COPY") if rest.endswith(f"/etc/pulsestream/{self._program}.yaml"))
        text = (REPOSITORY / copied.split()[0]).read_text().replace(STATE, str(state))
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        self.config.write_text(text)

    def packages(self) -> set[str]:
        code = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
        done = subprocess.run([self.bin / "python", "-c", code], capture_output=True, text=True, check=True)
        return {name.lower().replace("_", "-") for name in json.loads(done.stdout)}

    def run(self, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Its ENTRYPOINT with its CMD, as the first process where this user may make one; outside of the repository."""
        command = [*self._last.command("ENTRYPOINT"), *self._last.command("CMD")]
        command = [word.replace(f"/etc/pulsestream/{self._program}.yaml", str(self.config)) for word in command]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*AS_FIRST, str(self.bin / command[0]), *command[1:]],
                cwd=self._root, env={"PATH": f"{self.bin}:{os.environ['PATH']}", **env}, stdout=log, stderr=log,
            )  # fmt: skip

    def healthy(self, port: str) -> Callable[[], bool]:
        """Its HEALTHCHECK, with the port that it listens on here."""
        command = json.loads(self._last.one("HEALTHCHECK").partition("CMD ")[2])
        url = re.sub(r":\d+/", f":{port}/", self._last.pairs("ENV")["PULSESTREAM_HEALTH_URL"])
        env = {"PATH": os.environ["PATH"], "PULSESTREAM_HEALTH_URL": url}
        return lambda: subprocess.run([self.bin / command[0], *command[1:]], env=env, capture_output=True).returncode == 0


def terminate(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM to the program itself; its exit code."""
    (pid,) = children(process.pid) if AS_FIRST else (process.pid,)
    os.kill(pid, signal.SIGTERM)
    return process.wait(timeout=40)


@pytest.fixture
def port() -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number = sock.getsockname()[1]
    return str(number)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(tmp_path_factory.mktemp("image-of-the-agent"), "agent")


def test_the_agents_image_has_its_own_packages_and_no_others(agent: Image) -> None:
    found = agent.packages()
    named = {name.partition(">=")[0].partition("[")[0] for name in PROJECT["dependencies"]}
    assert named - found <= {"backports.zstd"}, "Python 3.14 has it"
    collectors = {name.partition(">=")[0].partition("[")[0] for part in ("collector", "embedded", "redis", "dev")
                  for name in PROJECT["optional-dependencies"][part]}  # fmt: skip
    assert not found & (collectors | {"pip"})
    assert not (agent.bin / "pulsestream-collector").exists()
    assert subprocess.run([agent.bin / "python", "-c", "import collector"], cwd=agent.bin, capture_output=True).returncode == 1


def test_the_agents_image_ships_a_line_as_the_first_process_and_ends_in_order(
    agent: Image, sink: SinkProcess, tmp_path: Path, logs: Path, port: str
) -> None:
    key = tmp_path / "key"
    key.write_text("a-key")
    agent.configured(tmp_path / "state")
    env = {
        "PULSESTREAM_URL": sink.url, "PULSESTREAM_API_KEY_FILE": str(key), "PULSESTREAM_LOGS": f"{logs}/*.log",
        "PULSESTREAM_SCOPE": "an-image", "PULSESTREAM_METRICS": f"127.0.0.1:{port}",
    }  # fmt: skip
    app = App(logs / "app.log")
    app.write(10)
    process = agent.run(env)
    try:
        arrived(sink, app.lines)
        until(agent.healthy(port), "it is healthy", told=agent.log.read_text)
        app.write(5)
        assert terminate(process) == 0, agent.log.read_text()
    finally:
        process.kill()
    exactly_once(arrived(sink, app.lines), app.lines)
    assert '"stopped' in agent.log.read_text(), "JSON, for whoever gathers the logs of containers"


@pytest.mark.engine
def test_the_collectors_image_without_the_engine_serves_and_ends_in_order(tmp_path: Path, port: str) -> None:
    image = Image(tmp_path / "image", "collector", EXTRAS="collector,redis")
    assert "chdb" not in image.packages()
    assert "redis" in image.packages()
    image.configured(tmp_path / "state", **{"port: 8080": f"port: {port}"})
    engine = ClickHouseFront(tmp_path / "engine")
    engine.start()
    process = image.run({"PULSESTREAM_STORE_URL": engine.url})
    try:
        until(image.healthy(port), "it is healthy", told=image.log.read_text)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert answer.status == 200
        assert terminate(process) == 0, image.log.read_text()
    finally:
        process.kill()
        engine.stop()


@pytest.mark.skipif(not AS_FIRST, reason="a PID namespace needs root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_first_process_still_imports_ends_it(number: signal.Signals) -> None:
    code = "from agent import first; first.obey(); import os; print(os.getpid(), flush=True); import signal; signal.pause()"
    process = subprocess.Popen([*AS_FIRST, sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    (pid,) = children(process.pid)
    os.kill(pid, number)
    assert process.wait(timeout=20) == 128 + number
    process.stdout.close()


@pytest.mark.docker
@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_is_built_and_runs(program: str) -> None:
    client = docker_engine.client()
    if isinstance(client, str):
        pytest.skip(client)
    image, _ = client.images.build(
        path=str(REPOSITORY), dockerfile=f"{program}/Dockerfile", tag=f"pulsestream-{program}:test", rm=True
    )
    assert b"usage: pulsestream-" in client.containers.run(image, ["--help"], remove=True, read_only=True, network_mode="none")
