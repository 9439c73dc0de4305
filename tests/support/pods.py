"""A rendered pod on this machine: its containers as processes, with the command line, environment and files that are rendered.

What the kubelet would do is done here in small: volumes are folders below ``root``, what they hold comes from the rendered
objects; a container has a folder of its own in which each mount is a link to its volume, and a path of a mount, wherever it is
said (arguments, environment, configuration), is one in that folder. What is not mounted is not there.

With ``as_users`` (root may do so) containers run as the users, groups and with the capabilities that are rendered, volumes
belong to the pod's group, and what a container makes is for its user and group only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.helm import HELM, REPOSITORY, Object, one, pod_of

PROGRAMS = {"pulsestream-agent": [sys.executable, "-m", "agent"]}
"""Entry points of images, by repository."""
_END_S = 40.0
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def with_dependencies(charts: Path, to: Path, chart: str) -> Path:
    """A copy of ``charts`` below ``to`` in which this chart has its dependencies: without a network, as they lie beside it."""
    copy = to / "charts"
    if not copy.exists():
        shutil.copytree(charts, copy)
    done = subprocess.run(
        [str(HELM), "dependency", "build", str(copy / chart)],
        env={"PATH": os.defpath, **{f"HELM_{kind}_HOME": str(to / "none") for kind in ("CACHE", "CONFIG", "DATA")}},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return copy / chart


class Pod:
    """``facts``: by field path, what Kubernetes' downward API says. ``secrets``: by name and key."""

    def __init__(
        self,
        root: Path,
        objects: Sequence[Object],
        workload: Object,
        *,
        facts: Mapping[str, str],
        secrets: Mapping[str, Mapping[str, str]],
        as_users: bool = False,
        name: str = "",
    ) -> None:
        """``name``: tells two pods apart that have volumes in common."""
        self.root = root
        self._as_users = as_users
        self._name = name
        self.spec = pod_of(workload)
        self.facts = {**facts, **_labels(workload)}
        self._objects = objects
        self._secrets = secrets
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for name, volume in self._volumes.items():
            self.volume(name).mkdir(parents=True, exist_ok=True)
            if as_users and (group := self.spec.get("securityContext", {}).get("fsGroup")) and "hostPath" not in volume:
                os.chown(self.volume(name), 0, group)
                self.volume(name).chmod(0o2777)

    def volume(self, name: str) -> Path:
        """The folder of a volume. A hostPath is the same folder for all pods below one ``root``."""
        host = self._volumes[name].get("hostPath")
        return self.root / "node" / host["path"].lstrip("/") if host else self.root / "volumes" / name

    def container(self, name: str) -> Object:
        found = [one for one in (*self.spec.get("initContainers", ()), *self.spec["containers"]) if one["name"] == name]
        assert len(found) == 1, f"no container {name}"
        return dict(found[0])

    def place(self, name: str, path: str) -> Path:
        """A path in a container, on this machine."""
        return Path(self._mapped(name, path))

    def environment(self, name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for variable in self.container(name).get("env", ()):
            if "valueFrom" in variable:
                value = self.facts.get(variable["valueFrom"]["fieldRef"]["fieldPath"], "")
            else:
                value = _VARIABLE.sub(lambda match: found.get(match[1], match[0]), variable.get("value", ""))
            found[variable["name"]] = self._mapped(name, value)
        return found

    def command(self, name: str, arguments: Iterable[str] | None = None) -> list[str]:
        """Command line of a container; with ``arguments`` in place of its own."""
        container = self.container(name)
        program = container.get("command") or PROGRAMS[container["image"].rpartition(":")[0].rpartition("/")[2]]
        return [
            *program,
            *(self._mapped(name, text) for text in (container.get("args", ()) if arguments is None else arguments)),
        ]

    def start(self, name: str) -> None:
        self._mount(name)
        with self.log_file(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*self.user(name), *self.command(name)],
                cwd=REPOSITORY,
                env=self._whole_environment(name),
                stdout=log,
                stderr=log,
                umask=0o027 if self._as_users else -1,
            )

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As ``kubectl exec``: the container's program with other arguments, to its end."""
        self._mount(name)
        return subprocess.run(
            self.command(name, arguments), cwd=REPOSITORY, env=self._whole_environment(name),
            capture_output=True, text=True, check=False, timeout=_END_S,
        )  # fmt: skip

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def is_running(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        process = self._running.pop(name)
        process.send_signal(number)
        try:
            return process.wait(_END_S)
        finally:
            process.kill()

    def close(self) -> None:
        for name in list(self._running):
            self.end(name, signal.SIGKILL)

    def log_file(self, name: str) -> Path:
        return self.root / f"{self._name}{name}.out"

    def log(self, name: str) -> str:
        return self.log_file(name).read_text()

    def probe(self, name: str, kind: str) -> tuple[str, int]:
        """Path and port number that a probe asks."""
        container = self.container(name)
        asked = container[kind]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        return asked["path"], int(ports.get(asked["port"], asked["port"]))

    def user(self, name: str) -> list[str]:
        """In front of a command: who it is."""
        if not self._as_users:
            return []
        who, group = self.container(name)["securityContext"], self.spec.get("securityContext", {}).get("fsGroup")
        user = who["runAsUser"]
        groups = [f"--groups={group}"] if group else ["--clear-groups"]
        kept = "".join(f",+{capability.lower()}" for capability in who["capabilities"].get("add", ()))
        rights = ["--no-new-privs", f"--bounding-set=-all{kept}", "--inh-caps=-all"]
        return ["setpriv", f"--reuid={user}", f"--regid={who.get('runAsGroup', user)}", *groups, *rights]

    # Inside ------------------------------------------------------------------------------------------------------------

    def _whole_environment(self, name: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **self.environment(name)}

    def _home(self, name: str) -> Path:
        return self.root / f"{self._name}of-{name}"

    def _mapped(self, name: str, text: str) -> str:
        """A text in which each path of a mount is one on this machine."""
        paths = sorted((mount["mountPath"] for mount in self.container(name).get("volumeMounts", ())), key=len, reverse=True)
        pattern = "|".join(f"(?<![\\w/.-]){re.escape(path)}(?![\\w.-])" for path in paths)
        return re.sub(pattern, lambda match: f"{self._home(name)}{match[0]}", text) if paths else text

    def _mount(self, name: str) -> None:
        for mount in self.container(name).get("volumeMounts", ()):
            part = mount.get("subPath") or _VARIABLE.sub(lambda m: self.environment(name)[m[1]], mount.get("subPathExpr", ""))
            folder = self.volume(mount["name"]) / part
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in self._content(mount["name"]).items():
                (folder / file).write_text(self._mapped(name, text))
            link = Path(f"{self._home(name)}{mount['mountPath']}")
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(folder)

    def _content(self, name: str) -> dict[str, str]:
        volume = self._volumes[name]
        if "configMap" in volume:
            return dict(one(self._objects, "ConfigMap", volume["configMap"]["name"])["data"])
        if "secret" in volume:
            secret, kept = volume["secret"], self._secrets.get(volume["secret"]["secretName"])
            assert kept is not None or secret.get("optional"), f"no Secret {secret['secretName']}: the pod does not start"
            items = secret.get("items") or [{"key": key, "path": key} for key in kept or ()]
            return {item["path"]: kept[item["key"]] for item in items} if kept else {}
        if "downwardAPI" in volume:
            return {item["path"]: self.facts[item["fieldRef"]["fieldPath"]] for item in volume["downwardAPI"]["items"]}
        return {}


def _labels(workload: Object) -> dict[str, str]:
    labels = workload["spec"]["template"]["metadata"].get("labels", {})
    lines = "".join(f"{name}={json.dumps(value)}\n" for name, value in labels.items())
    return {"metadata.labels": lines, **{f"metadata.labels['{name}']": value for name, value in labels.items()}}


def settings_of(objects: Sequence[Object], name: str) -> Any:
    """The text of agent.yaml in a ConfigMap."""
    return one(objects, "ConfigMap", name)["data"]["agent.yaml"]
