"""compose.yaml: what it names exists and fits together, and its services, started as plain processes, ship and find a line."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.engine import ClickHouseFront
from tests.support.wait import until

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "config" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SHARED = "/run/pulsestream"
OURS = ("pulsestream-agent", "pulsestream-collector")
COMMANDS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Where in the container, and what is there: a volume or a file beside compose.yaml."""
    return {target: source for source, target, *_ in (mount.split(":") for mount in service.get("volumes", ()))}


def test_all_that_is_named_is_there() -> None:
    for name, service in SERVICES.items():
        for source in mounts(service).values():
            assert (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], f"{name}: {source}"
        if build := service.get("build"):
            assert (FOLDER / build["context"] / build["dockerfile"]).is_file(), name
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] != "service_healthy" or "healthcheck" in SERVICES[other], f"{name} waits for {other}"
            assert wanted["condition"] != "service_completed_successfully" or "restart" not in SERVICES[other], other


def test_no_secret_is_written_in_it_and_no_port_is_open_to_others() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        secret = [key for key in service.get("environment", {}) if re.search("PASSWORD|KEY|TOKEN", key)]
        assert all(key.endswith("_FILE") for key in secret), (name, secret)


@pytest.mark.parametrize("name", ["collector", "agent"])
def test_what_runs_all_the_time_may_do_little_and_ends_in_order(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    config = yaml.safe_load(uncommented_value((REPOSITORY / "config" / f"{name}.yaml").read_text(), "shutdown_timeout_s"))
    assert int(service["stop_grace_period"].removesuffix("s")) > config["shutdown_timeout_s"] + 1
    used = set(re.findall(r"\$\{(\w+)", (REPOSITORY / "config" / "images" / f"{name}.yaml").read_text())) | {
        "PULSESTREAM_SCOPE"
    }
    assert set(service["environment"]) <= used, "each is taken from the environment by the image's configuration"


def uncommented_value(text: str, name: str) -> str:
    found = re.search(rf"^[# ]*({name}: \d+)", text, re.MULTILINE)
    assert found, name
    return found[1]


def test_secrets_are_made_once_and_are_for_their_services_only(tmp_path: Path) -> None:
    secrets(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made.keys() == {"ingest", "search", "clickhouse", "grafana", "tenants.yaml"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o440}
    keys = yaml.safe_load(made["tenants.yaml"])["tenants"][0]["keys"]
    assert [key["scopes"] for key in keys] == [["ingest"], ["search"]]
    assert len({made["ingest"], made["search"], made["clickhouse"], made["grafana"]}) == 4
    secrets(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == made


def secrets(folder: Path) -> None:
    script = SERVICES["secrets"]["entrypoint"]
    assert script[1] in mounts(SERVICES["secrets"])
    command = [word.replace("/compose", str(FOLDER)).replace(SHARED, str(folder)) for word in script]
    subprocess.run(command, env={**os.environ, "PATH": COMMANDS}, check=True, timeout=60)


def test_grafana_reads_as_the_user_that_is_made_for_it() -> None:
    source = yaml.safe_load((FOLDER / "datasource.yaml").read_text())["datasources"][0]
    command = SERVICES["analyst"]["command"]
    assert source["jsonData"]["username"] == f"ps_{command[2]}"
    assert f"cat {SHARED}/grafana" in SERVICES["grafana"]["entrypoint"][-1]
    assert f"{SHARED}/grafana" in command
    assert source["secureJsonData"]["password"] == "${PULSESTREAM_SQL_PASSWORD}"
    provided = yaml.safe_load((FOLDER / "dashboards.yaml").read_text())["providers"][0]["options"]["path"]
    assert any(target.startswith(provided) for target in mounts(SERVICES["grafana"]))


class Services:
    """Services of compose.yaml as processes: their commands and environments, with folders for volumes and other addresses."""

    def __init__(self, root: Path, stack: ExitStack, addresses: dict[str, str]) -> None:
        self._root = root
        self._stack = stack
        self._addresses = addresses

    def told(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self._root.glob("*.log"))

    def here(self, text: str, name: str) -> str:
        for old, new in self._addresses.items():
            text = text.replace(old, new)
        places = {target: self._place(source) for target, source in mounts(SERVICES[name]).items()}
        for target in sorted(places, key=len, reverse=True):
            text = text.replace(target, str(places[target]))
        return text

    def _place(self, source: str) -> Path:
        if source.startswith("."):
            return (FOLDER / source).resolve()
        place = self._root / source
        place.mkdir(exist_ok=True)
        return place

    def start(self, name: str) -> subprocess.Popen[bytes]:
        service = SERVICES[name]
        env = {key: self.here(value, name) for key, value in service.get("environment", {}).items()}
        name_of_image = service["image"].partition(":")[0]
        if name_of_image in OURS:
            program = name_of_image.removeprefix("pulsestream-")
            config = self._root / f"{name}.yaml"
            text = (REPOSITORY / "config" / "images" / f"{program}.yaml").read_text()
            # What a container's root would have of its own, the names of files in it, and the port.
            config.write_text(self.here(text.replace("/var/log/app/", self.here("/var/log/app/", name)), name))
            command = [
                sys.executable,
                "-m",
                program,
                *service.get("command", {"agent": ["run"], "collector": ["serve"]}[program]),
            ]
            command += [] if "--config" in command else ["--config", str(config)]
            command = [word.replace(f"/etc/pulsestream/{program}.yaml", str(config)) for word in command]
        else:
            command = [sys.executable if word == "python" else word for word in service["command"]]
        command = [self.here(word, name) for word in command]
        with (self._root / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env={"PATH": COMMANDS, **env}, cwd=REPOSITORY, stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        engine = ClickHouseFront(tmp_path / "engine")
        engine.start()
        stack.callback(engine.stop)
        with socket.socket() as sock, socket.socket() as other:
            sock.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            port, metrics = sock.getsockname()[1], other.getsockname()[1]
        addresses = {
            "http://clickhouse:8123": engine.url,
            "http://collector:8080": f"http://127.0.0.1:{port}",
            "port: 8080": f"port: {port}",
            "0.0.0.0:9184": f"127.0.0.1:{metrics}",
        }
        yield Services(tmp_path, stack, addresses)


@pytest.mark.engine
def test_what_the_app_logs_is_found_with_the_analysts_key(services: Services, tmp_path: Path) -> None:
    shared = tmp_path / "secrets"
    shared.mkdir()
    secrets(shared)
    url = services.here("http://collector:8080", "agent")
    services.start("collector")
    for name in ("app", "agent"):
        services.start(name)
    key = (shared / "search").read_text().strip()

    def found() -> list[Any]:
        request = urllib.request.Request(
            f"{url}/api/v1/ingestion/events/search?q=placed&service=shop", headers={"X-API-Key": key}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                events: list[Any] = json.load(answer)["events"]
        except (urllib.error.URLError, OSError):
            return []
        return events

    (event, *_) = until(found, "a line of the app is found", told=services.told)
    assert event["message"].startswith("order ")
    analyst = services.start("analyst")
    assert analyst.wait(timeout=60) == 1
    # This stand-in lets nobody make users; everything before that worked.
    assert "necessary to have the grant CREATE ROLE" in (tmp_path / "analyst.log").read_text()
