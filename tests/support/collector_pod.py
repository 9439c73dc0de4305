"""A rendered pod of collectors, on this machine: its files in a folder, its command line and environment as they stand.

Volumes that hold something (ConfigMaps, Secrets, projections of both) are written below the folder; empty ones and claims
are made there. Every path that begins with a mount is led into the folder, in files, arguments and variables alike. What is
not tried: the image and its root.

With ``as_user`` (root may do that) it is what the pod may be: its user and group without capabilities, in files with the modes
and the group that the kubelet would give them.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.helm import Object, one, pod_of

BIN = Path(sys.executable).parent


class Run(NamedTuple):
    """What to start."""

    arguments: list[str]
    env: dict[str, str]


class Pod:
    """The pod of the workload ``item`` among ``objects``.

    Args:
        folder: where its files go.
        given: contents of Secrets that are not part of the chart.
        as_user: run as the pod's user.
    """

    def __init__(
        self,
        objects: Sequence[Object],
        item: Object,
        folder: Path,
        given: Mapping[str, Mapping[str, str]] | None = None,
        *,
        as_user: bool = False,
    ) -> None:
        self._objects = objects
        self._given = given or {}
        self._pod = pod_of(item)
        self._folder = folder
        self._as_user = as_user
        mounts = {
            mount["name"]: mount["mountPath"] for made in self._pod["containers"] for mount in made.get("volumeMounts", ())
        }
        paths = sorted(map(re.escape, mounts.values()), key=len, reverse=True)
        self._mounted = re.compile(rf"(?<![\w.-])(?:{'|'.join(paths)})(?=/|$|\W)") if paths else None
        for volume in self._pod.get("volumes", ()):
            place = Path(self.here(mounts[volume["name"]]))
            place.mkdir(parents=True, exist_ok=True)
            for path, text in self._files(volume):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_text(self.here(text))
            if as_user:
                self._give(place, volume)

    def here(self, text: str) -> str:
        """``text`` with the pod's paths as they are on this machine."""
        return self._mounted.sub(lambda found: f"{self._folder}{found[0]}", text) if self._mounted else text

    def run(self, container: str) -> Run:
        """How to start it; its programs are those of this environment."""
        [made] = [made for made in self._pod["containers"] if made["name"] == container]
        command, *rest = [*made["command"], *made.get("args", ())]
        env = {variable["name"]: self._value(variable) for variable in made.get("env", ())}
        whole = {"PATH": f"{BIN}:/usr/bin:/bin", "TMPDIR": self.here("/tmp"), **env}
        return Run([*(self.user if self._as_user else ()), str(BIN / command), *map(self.here, rest)], whole)

    @property
    def user(self) -> list[str]:
        """What makes a command that of the pod's user."""
        who = self._pod["securityContext"]
        ids = [f"--reuid={who['runAsUser']}", f"--regid={who['runAsGroup']}", f"--groups={who['fsGroup']}"]
        return ["setpriv", *ids, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]

    def _give(self, place: Path, volume: Object) -> None:
        """As the kubelet does: root's, readable by the pod's group; what is empty is the group's to write to."""
        mode = volume.get("projected", {}).get("defaultMode")
        for path in (place, *place.rglob("*")):
            os.chown(path, 0, self._pod["securityContext"]["fsGroup"])
            path.chmod((0o755 if mode else 0o2770) if path.is_dir() else mode or 0o660)

    def _value(self, variable: Object) -> str:
        if "valueFrom" not in variable:
            return self.here(variable.get("value", ""))
        wanted = variable["valueFrom"]["secretKeyRef"]
        return self._secret(wanted["name"])[wanted["key"]]

    def _files(self, volume: Object) -> Iterator[tuple[str, str]]:
        if "projected" in volume:
            for source in volume["projected"]["sources"]:
                yield from self._of(source)
        else:
            yield from self._of({kind: source for kind, source in volume.items() if kind in ("configMap", "secret")})

    def _of(self, source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for kind, wanted in source.items():
            name = wanted.get("name") or wanted["secretName"]
            data = one(self._objects, "ConfigMap", name)["data"] if kind == "configMap" else self._secret(name)
            items = wanted.get("items") or [{"key": key, "path": key} for key in data]
            yield from (
                (item["path"], data[item["key"]]) for item in items if item["key"] in data or not wanted.get("optional")
            )

    def _secret(self, name: str) -> Mapping[str, str]:
        if name in self._given:
            return self._given[name]
        found = one(self._objects, "Secret", name)
        coded = {key: base64.b64decode(value).decode() for key, value in found.get("data", {}).items()}
        return {**coded, **found.get("stringData", {})}
