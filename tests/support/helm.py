"""Helm charts, rendered and looked at as the machines that take them would. No network, no cluster.

- `helm` is the one of this environment (`helm-binary`), with caches and settings of its own.
- `render` gives the objects; YAML that says a key twice is refused, which Kubernetes' own tools let pass.
- `check` holds every object against Kubernetes' own schemas, strictly, for the oldest and the newest version that the charts
  are for. Custom resources have no schema there: tests look at those by hand.
- `summary` is what a golden file keeps of a rendering: short, what matters when it runs.
  ``GOLDEN=write`` writes the files anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHARTS = REPOSITORY / "charts"
GOLDEN = REPOSITORY / "tests" / "golden" / "charts"
HELM = Path(sys.executable).parent / "helm"

OLDEST = "1.29.0"
"""From here on sidecars (init containers that go on) are there by default."""
NEWEST = kubernetes_validate.latest_version()
CUSTOM = frozenset(("HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule"))
"""Kinds that Kubernetes itself does not have."""

DEADLINE_S = 60.0

Object = dict[str, Any]


class Refused(Exception):
    """Helm did not take the chart with these values; the text is what it said."""


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that says a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        assert not twice, f"said twice: {', '.join(twice)}{node.start_mark}"
        return super().construct_mapping(node, deep)


def helm(*arguments: str, stdin: str = "") -> str:
    """What ``helm …`` prints. Raises Refused."""
    home = {f"HELM_{name}_HOME": f"/nonexistent/helm/{name.lower()}" for name in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run(
        [str(HELM), *arguments],
        input=stdin,
        env={"PATH": os.defpath, "HOME": "/nonexistent", **home},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode:
        raise Refused(f"{done.stderr}{done.stdout}")
    return done.stdout


def render(
    chart: str | Path,
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "ps",
    namespace: str = "logs",
    kube_version: str = OLDEST,
    more: Sequence[str] = (),
) -> list[Object]:
    """The objects of ``charts/<chart>``, hooks and tests included, in helm's order. Raises Refused."""
    place = ["--namespace", namespace, "--kube-version", kube_version]
    text = helm(
        "template", release, str(CHARTS / chart), "--values", "-", *place, *more, stdin=yaml.safe_dump(dict(values or {}))
    )
    return [loaded for loaded in yaml.load_all(text, _Loader) if loaded]


def notes(chart: str, values: Mapping[str, Any], folder: Path) -> str:
    """What the chart says after an install, which ``helm template`` keeps to itself: shown by a copy of it in ``folder``."""
    copy = folder / chart
    shutil.copytree(CHARTS / chart, copy)
    (copy / "templates" / "NOTES.txt").rename(copy / "NOTES.txt")
    (copy / "templates" / "notes.yaml").write_text(
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata: {said: {{ tpl (.Files.Get "NOTES.txt") . | toJson }}}'
    )
    return str(one(render(copy, values), "ConfigMap", "notes")["data"]["said"])


def refusal(chart: str | Path, values: Mapping[str, Any]) -> str:
    """What helm says to values that it must not take."""
    try:
        render(chart, values)
    except Refused as refused:
        return str(refused)
    raise AssertionError(f"taken: {values}")


def lint(chart: str | Path, values: Mapping[str, Any] | None = None) -> str:
    """What ``helm lint --strict`` prints. Raises Refused: for warnings, too."""
    arguments = ("--strict", "--values", "-", "--kube-version", OLDEST)
    return helm("lint", str(CHARTS / chart), *arguments, stdin=yaml.safe_dump(dict(values or {})))


def one(objects: Sequence[Object], kind: str, name: str = "") -> Object:
    """The only object of this kind (and name)."""
    found = [item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name} in {names(objects)}"
    return found[0]


def names(objects: Sequence[Object]) -> list[str]:
    return [f"{item['kind']}/{item['metadata']['name']}" for item in objects]


def check(objects: Sequence[Object], versions: Sequence[str] = (OLDEST, NEWEST)) -> None:
    """Every object is one that these versions of Kubernetes take as it stands."""
    faults = [fault for item in objects for version in versions for fault in _faults(item, version)]
    assert not faults, "\n".join(faults)


def _faults(item: Object, version: str) -> Iterator[str]:
    what = f"{item['kind']}/{item['metadata']['name']}"
    if item["kind"] in CUSTOM:
        return
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{what}, {version}: {'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{what}, {version}: {error.message}"


def pod_of(item: Object) -> Object:
    """The pod's spec in a workload; empty in anything else."""
    if item["kind"] == "Pod":
        return dict(item["spec"])
    spec = item.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return dict(spec.get("template", {}).get("spec", {})) if isinstance(spec.get("template"), dict) else {}


def containers_of(item: Object) -> list[Object]:
    pod = pod_of(item)
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def summary(objects: Sequence[Object]) -> Object:
    """What matters when it runs: names, and of each container command line, environment, mounts, probes."""
    return {f"{item['kind']}/{item['metadata']['name']}": _summed(item) for item in objects}


def _summed(item: Object) -> Any:
    annotations = item["metadata"].get("annotations", {})
    kept: Object = {key.partition("/")[2]: value for key, value in annotations.items() if key.startswith("helm.sh/hook")}
    if item["kind"] in ("ConfigMap", "Secret"):
        kept["keys"] = sorted({**item.get("data", {}), **item.get("stringData", {})})
    spec, pod = item.get("spec", {}), pod_of(item)
    kept |= {key: spec[key] for key in ("replicas", "type", "minReplicas", "maxReplicas", "minAvailable") if key in spec}
    if "strategy" in spec:
        kept["strategy"] = spec["strategy"]["type"]
    if "ports" in spec:
        kept["ports"] = [f"{port.get('name', '')}:{port['port']}" for port in spec["ports"]]
    if "groups" in spec:
        kept["rules"] = [rule.get("alert") or rule["record"] for group in spec["groups"] for rule in group["rules"]]
    if pod:
        kept["volumes"] = [_volume(volume) for volume in pod.get("volumes", ())]
        kept |= {key: pod[key] for key in ("serviceAccountName", "terminationGracePeriodSeconds") if key in pod}
    kept |= {f"container {container['name']}": _container(container) for container in containers_of(item)}
    return kept or "-"


def _volume(volume: Object) -> str:
    kind = next(key for key in volume if key != "name")
    source = volume[kind] or {}
    if kind == "projected":
        return f"{volume['name']}: {', '.join(_source(part) for part in source['sources'])}"
    name = source.get("name") or source.get("secretName") or source.get("claimName") or source.get("path") or ""
    return f"{volume['name']}: {kind} {name}".rstrip()


def _source(part: Object) -> str:
    [(kind, source)] = part.items()
    return " ".join([kind, source.get("name", ""), *(item["path"] for item in source.get("items", ()))]).replace("  ", " ")


def _container(container: Object) -> Object:
    kept: Object = {"image": container["image"]}
    for key in ("command", "args"):
        if key in container:
            kept[key] = [
                text if len(text) < 120 else f"{text[:60]}… ({len(text.splitlines())} lines)" for text in container[key]
            ]
    if "restartPolicy" in container:
        kept["restartPolicy"] = container["restartPolicy"]
    if container.get("env"):
        kept["env"] = [_variable(variable) for variable in container["env"]]
    if container.get("volumeMounts"):
        kept["mounts"] = [
            f"{mount['name']} at {mount['mountPath']}{' ro' if mount.get('readOnly') else ''}"
            for mount in container["volumeMounts"]
        ]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            asked = container[probe]
            kept[probe] = asked.get("httpGet", {}).get("path") or " ".join(asked.get("exec", {}).get("command", ["?"]))
    return kept


def _variable(variable: Object) -> str:
    if "valueFrom" not in variable:
        return f"{variable['name']}={variable.get('value', '')}"
    kind, source = next(iter(variable["valueFrom"].items()))
    return f"{variable['name']} from {kind} {source.get('name', '')} {source.get('key') or source.get('fieldPath', '')}"


def golden(name: str, objects: Sequence[Object]) -> None:
    """The summary of ``objects`` is what ``tests/golden/charts/<name>.yaml`` keeps."""
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(summary(objects), sort_keys=False, width=120, allow_unicode=True)
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, (
        f"{path} says otherwise; if this is meant: GOLDEN=write python -m pytest {' '.join(sys.argv[1:])}"
    )
