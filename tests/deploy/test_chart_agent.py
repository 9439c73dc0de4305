"""The chart of the agent: what it renders, that Kubernetes and the agent take it, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from agent import config as configs
from agent.config import Config
from agent.ending import OVERTIME_S
from tests.support import agent_schema, helm, values_table
from tests.support.pods import with_dependencies

CHART = "pulsestream-agent"
NODE: dict[str, Any] = {"collector": {"url": "https://collector:8080"}, "apiKey": {"secretName": "key"}}
KNOWN = {"NODE_NAME": "node-1", "POD_NAME": "shop-1", "POD_NAMESPACE": "shops", "TEAM": "blue"}

NODES: dict[str, dict[str, Any]] = {
    "node": {},
    "node-all": {
        "image": {"registry": "registry.example", "digest": "sha256:" + "0a" * 32},
        "imagePullSecrets": [{"name": "pull"}],
        "collector": {"urls": ["https://other:8080"], "tls": {"secretName": "tls", "client": True}},
        "cluster": "blue",
        "labels": {"team": "${TEAM}"},
        "extraEnv": [{"name": "TEAM", "value": "blue"}],
        "terminationGracePeriodSeconds": 60,
        "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "config": {"spool": {"max_bytes": 1 << 33}, "log": {"format": "json"}},
        "daemonset": {
            "include": ["/var/log/containers/*.log"],
            "excludeNamespaces": ["kube-system"],
            "hostPaths": ["/var/log/pods", "/var/log/containers", "/var/log/audit"],
            "source": {"multiline": {"preset": "java"}, "redact": {"presets": ["email"]}},
            "extraSources": [{"name": "audit", "include": ["/var/log/audit/*.log"], "labels": {"team": "red"}}],
            "priorityClassName": "system-node-critical",
            "podAnnotations": {"a": "b"},
        },
        "serviceAccount": {"create": False},
    },
    "node-bare": {
        "metrics": {"enabled": False},
        "daemonset": {"readiness": None, "tolerations": [], "nodeSelector": None},
        "fullnameOverride": "logs",
    },
}

SIDECARS: dict[str, dict[str, Any]] = {
    "sidecar": {},
    "sidecar-claim": {"logs": {"claim": "shop-logs", "subPathExpr": "$(POD_NAME)"}, "probes": {"sidecarReadiness": True}},
    "sidecar-volumes": {
        "logs": {"volume": "tmp", "subPath": "logs", "mountPath": "/data/logs"},
        "scope": {"from": "storage"},
        "state": {"volume": "data", "subPath": "agent"},
        "allPodLabels": True,
        "service": "till",
    },
    "sidecar-value": {
        "logs": {"claim": "shop-logs"},
        "scope": {"value": "shops/shop-logs/2026"},
        "cluster": "blue",
        "sources": [{"name": "one", "include": ["*.log", "/else/*.log"], "exclude": ["old/*"], "service": "own"}],
        "metrics": {"enabled": False},
        "securityContext": {"runAsUser": 1000},
    },
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with the agent's chart as the dependency that it names."""
    return with_dependencies(helm.CHARTS, tmp_path_factory.mktemp("shop"), "examples/shop")


def node(values: Mapping[str, Any], **more: Any) -> list[helm.Object]:
    return helm.render(CHART, merged(NODE, values), **more)


def beside(shop: Path, values: Mapping[str, Any], **more: Any) -> list[helm.Object]:
    return helm.render(shop, {CHART: values}, **more)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: merged(one[name], other[name]) for name in one.keys() & other.keys() if isinstance(one[name], Mapping)}
    return {**one, **other, **both}


def settings(objects: list[helm.Object]) -> Config:
    """What is rendered for the agent, as the agent itself takes it."""
    (found,) = [item for item in objects if item["kind"] == "ConfigMap"]
    return configs.parse(found["data"]["agent.yaml"], where="agent.yaml", env=KNOWN)


def sidecar(objects: list[helm.Object]) -> Any:
    (found,) = helm.pod_of(helm.one(objects, "Deployment"))["initContainers"]
    return found


def test_both_charts_are_linted_and_say_what_they_are_for(shop: Path) -> None:
    helm.lint(CHART)
    helm.lint(CHART, NODE)
    helm.lint(shop)


@pytest.mark.parametrize("name", NODES)
def test_what_is_made_for_nodes_is_taken_by_kubernetes_and_by_the_agent(name: str) -> None:
    objects = node(NODES[name])
    helm.check(objects)
    helm.golden(f"agent-{name}", objects)
    assert settings(objects).sources


@pytest.mark.parametrize("name", SIDECARS)
def test_what_is_made_beside_an_app_is_taken_by_kubernetes_and_by_the_agent(shop: Path, name: str) -> None:
    objects = beside(shop, SIDECARS[name])
    helm.check(objects)
    helm.golden(f"agent-{name}", objects)
    config = settings(objects)
    mounts = {mount["mountPath"] for mount in sidecar(objects)["volumeMounts"]}
    for path in (config.state_dir, config.collector.api_key_file, *([config.scope_file] if config.scope_file else [])):
        assert any(Path(path).is_relative_to(mount) for mount in mounts), f"{path} lies on the read-only root"
    volumes = {volume["name"] for volume in helm.pod_of(helm.one(objects, "Deployment"))["volumes"]}
    given = {
        value["volume"] for value in (SIDECARS[name].get("logs", {}), SIDECARS[name].get("state", {})) if "volume" in value
    }
    assert {mount["name"] for mount in sidecar(objects)["volumeMounts"]} == volumes | given


def test_the_settings_that_were_given_reach_the_agent(shop: Path) -> None:
    """Large numbers, labels and patterns as they were written; what is nearer goes first."""
    config = settings(node(NODES["node-all"]))
    containers, audit = config.sources
    assert config.spool.max_bytes == 1 << 33
    assert (config.collector.ca_file, config.collector.cert_file) == (
        "/run/secrets/pulsestream-tls/ca.crt",
        "/run/secrets/pulsestream-tls/tls.crt",
    )
    assert containers.labels == {"node": "node-1", "cluster": "blue", "team": "blue"}
    assert audit.labels == {"node": "node-1", "cluster": "blue", "team": "red"}
    assert (containers.multiline.preset, containers.container, containers.format) == ("java", "cri", "auto")
    (one,) = settings(beside(shop, SIDECARS["sidecar-value"])).sources
    assert (one.include, one.exclude) == (("/var/log/app/*.log", "/else/*.log"), ("/var/log/app/old/*",))
    assert one.service == "own"
    assert {"pod": "shop-1", "namespace": "shops", "node": "node-1", "cluster": "blue"}.items() <= one.labels.items()


def test_installed_by_itself_it_reads_nodes_and_as_a_dependency_it_makes_nothing(shop: Path) -> None:
    assert helm.names(node({})) == [
        "ServiceAccount/ps-pulsestream-agent",
        "ConfigMap/ps-pulsestream-agent",
        "DaemonSet/ps-pulsestream-agent",
    ]
    assert node({"mode": "none"}) == []
    assert helm.names(beside(shop, {})) == ["ConfigMap/ps-pulsestream-agent", "Deployment/ps-shop"]
    both = helm.names(beside(shop, {"mode": "daemonset", "fullnameOverride": "other"}))
    assert "DaemonSet/other" in both


def test_two_workloads_have_agents_of_their_own_by_alias(shop: Path, tmp_path: Path) -> None:
    copy = with_dependencies(shop.parents[1], tmp_path, "examples/shop")
    chart = yaml.safe_load((copy / "Chart.yaml").read_text())
    chart["dependencies"][0]["alias"] = "till"
    (copy / "Chart.yaml").write_text(yaml.safe_dump(chart))
    for path in (copy / "templates").iterdir():
        text = path.read_text().replace('include "pulsestream-agent.', 'include "pulsestream-agent.')
        for name in ("configmap", "sidecar", "volumes", "logsMount", "podSecurityContext", "terminationGracePeriodSeconds"):
            text = text.replace(f'"pulsestream-agent.{name}" .', f'"pulsestream-agent.{name}" (dict "root" . "alias" "till")')
        path.write_text(text.replace('(index .Values "pulsestream-agent")', ".Values.till"))
    (copy / "values.schema.json").unlink()
    objects = helm.render(copy, {"till": {**NODE, "service": "till"}})
    assert helm.names(objects) == ["ConfigMap/ps-till", "Deployment/ps-shop"]
    assert settings(objects).sources[0].service == "till"


def test_the_sidecar_goes_on_beside_the_app_and_may_do_nothing_but_read_logs(shop: Path) -> None:
    objects = beside(shop, {})
    container, pod = sidecar(objects), helm.pod_of(helm.one(objects, "Deployment"))
    assert container["restartPolicy"] == "Always"
    assert "startupProbe" not in container, "the app would wait for it"
    assert "readinessProbe" not in container, "the pod would get no requests while a collector is away"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez", "a collector that is away is no reason to restart it"
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"pulsestream-state"}
    assert pod["securityContext"]["fsGroup"] == container["securityContext"]["runAsGroup"]
    (app,) = pod["containers"]
    assert [mount["name"] for mount in app["volumeMounts"]] == ["pulsestream-logs"], "the key is not for the app"


def test_on_nodes_it_is_root_without_the_rights_of_root_and_changes_nothing_but_its_state() -> None:
    pod = helm.pod_of(helm.one(node({}), "DaemonSet"))
    (container,) = pod["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"pulsestream-state"}
    (state,) = [volume for volume in pod["volumes"] if volume["name"] == "pulsestream-state"]
    assert state["hostPath"] == {"path": "/var/lib/pulsestream-agent/logs-ps-pulsestream-agent", "type": "DirectoryOrCreate"}
    assert not pod.get("hostNetwork")
    assert not pod.get("hostPID")
    strategy = helm.one(node({}), "DaemonSet")["spec"]["updateStrategy"]
    assert strategy["rollingUpdate"]["maxSurge"] == 0, "a second agent would find the state in use"


@pytest.mark.parametrize(
    ("values", "scope"),
    [
        ({}, "metadata.uid"),
        ({"logs": {"claim": "c"}}, "file"),
        ({"logs": {"volume": "v"}, "scope": {"from": "pod"}}, "metadata.uid"),
        ({"logs": {"volume": "v"}, "scope": {"from": "storage"}}, "file"),
        ({"logs": {"claim": "c"}, "scope": {"value": "mine"}}, "mine"),
    ],
)
def test_the_scope_lives_as_long_as_the_logs(shop: Path, values: dict[str, Any], scope: str) -> None:
    objects = beside(shop, values)
    env = {variable["name"]: variable for variable in sidecar(objects)["env"]}.get("PULSESTREAM_SCOPE")
    file = settings(objects).scope_file
    if env is None:
        assert (file, scope) == ("/var/lib/pulsestream-logs/scope", "file")
        (mount,) = [one for one in sidecar(objects)["volumeMounts"] if one["mountPath"] == "/var/lib/pulsestream-logs"]
        assert (mount["name"], mount["subPath"]) == (values["logs"].get("volume", "pulsestream-logs"), ".pulsestream")
    else:
        assert (file, env.get("value") or env["valueFrom"]["fieldRef"]["fieldPath"]) == ("", scope)


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({}, 28),
        ({"shutdown": {"timeoutSeconds": 60, "appSeconds": 90}}, 153),
        ({"shutdown": {"timeoutSeconds": 0.5, "appSeconds": 0.2}}, 5),
        ({"terminationGracePeriodSeconds": 28}, 28),
        ({"terminationGracePeriodSeconds": 600}, 600),
    ],
)
def test_the_grace_period_is_long_enough_for_the_app_and_then_for_the_agent(
    shop: Path, values: dict[str, Any], needed: int
) -> None:
    objects = beside(shop, values)
    found = helm.pod_of(helm.one(objects, "Deployment"))["terminationGracePeriodSeconds"]
    assert found == needed
    app_s = values.get("shutdown", {}).get("appSeconds", 5)
    assert app_s + settings(objects).shutdown_timeout_s + OVERTIME_S < found


SHORT = "terminationGracePeriodSeconds is 27, below 28: 5 s for the app (shutdown.appSeconds), then 23 s for the agent "


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"terminationGracePeriodSeconds": 27}, SHORT),
        ({"collector": {"url": ""}}, "collector.url is empty; say where the collector is"),
        ({"apiKey": {"secretName": ""}}, "apiKey.secretName is empty; name a Secret that holds a key with the scope ingest"),
        ({"logs": {"volume": "v"}}, "logs.volume is v, and nobody can tell here how long it lives; say scope.from: pod"),
        ({"logs": {"volume": "v", "claim": "c"}}, "logs.volume and logs.claim are both set; keep one"),
        ({"logs": {"subPath": "v", "subPathExpr": "c"}}, "logs.subPath and logs.subPathExpr are both set; keep one"),
        (
            {"logs": {"claim": "c"}, "scope": {"from": "pod"}},
            "the next pod would send every line again; say scope.from: storage",
        ),
        ({"sources": []}, "sources is empty; name at least one"),
    ],
)
def test_what_cannot_work_is_refused_with_the_mend(shop: Path, values: dict[str, Any], said: str) -> None:
    assert said in helm.refusal(shop, {CHART: values})


def test_refused_are_a_short_grace_period_of_nodes_an_old_kubernetes_and_a_dependency_that_is_not_there(shop: Path) -> None:
    short = helm.refusal(CHART, merged(NODE, {"terminationGracePeriodSeconds": 22}))
    assert "is 22, below 23: 23 s for the agent" in short
    with pytest.raises(helm.Refused, match=r"chart requires kubeVersion: >=1\.29\.0-0"):
        node({}, kube_version="1.28.15")
    with pytest.raises(helm.Refused, match=r"Kubernetes v1\.28\.15 has no sidecars by default"):
        beside_old(shop)


def beside_old(shop: Path) -> None:
    chart = shop / "Chart.yaml"
    text = chart.read_text()
    chart.write_text(text.replace('kubeVersion: ">=1.29.0-0"', ""))
    try:
        beside(shop, {}, kube_version="1.28.15")
    finally:
        chart.write_text(text)


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ({"imgae": {"tag": "1"}}, "imgae"),
        ({"image": {"tag": 1.2}}, "image.tag"),
        ({"image": {"digest": "latest"}}, "image.digest"),
        ({"mode": "sidecar"}, "mode"),
        ({"collector": {"api_key": "secret"}}, "collector"),
        ({"collector": {"url": "collector:8080"}}, "collector.url"),
        ({"apiKey": {"secret": "key"}}, "apiKey"),
        ({"sources": [{"name": "a"}]}, "sources.0"),
        ({"sources": [{"name": "a", "include": ["*"], "fromat": "json"}]}, "sources.0"),
        ({"sources": [{"name": "a", "include": ["*"], "format": "jsno"}]}, "sources.0.format"),
        ({"sources": [{"name": "a", "include": ["*"], "multiline": {"preset": "cobol"}}]}, "sources.0.multiline.preset"),
        ({"config": {"state_dir": "/x"}}, "config"),
        ({"config": {"collector": {"api_key": "secret"}}}, "config.collector"),
        ({"config": {"spool": {"max_byte": 1}}}, "config.spool"),
        ({"config": {"max_open_files": 1}}, "config.max_open_files"),
        ({"logs": {"mountPath": "var/log"}}, "logs.mountPath"),
        ({"logs": {"subPath": "/abs"}}, "logs.subPath"),
        ({"scope": {"from": "node"}}, "scope.from"),
        ({"shutdown": {"timeoutSeconds": 0}}, "shutdown.timeoutSeconds"),
        ({"terminationGracePeriodSeconds": "60"}, "terminationGracePeriodSeconds"),
        ({"metrics": {"port": 80}}, "metrics.port"),
        ({"labels": {"team": 7}}, "labels.team"),
        ({"daemonset": {"include": []}}, "daemonset.include"),
        ({"daemonset": {"include": ["containers/*.log"]}}, "daemonset.include.0"),
        ({"daemonset": {"hostPaths": ["/a", "/a"]}}, "daemonset.hostPaths"),
        ({"daemonset": {"source": {"include": ["/x"]}}}, "daemonset.source"),
        ({"daemonset": {"toleration": []}}, "daemonset"),
        ({"serviceAccount": {"name": 1}}, "serviceAccount.name"),
    ],
)
def test_values_that_are_misspelt_or_of_another_kind_are_refused(values: dict[str, Any], at: str) -> None:
    said = helm.refusal(CHART, merged(NODE, values))
    assert "values don't meet the specifications of the schema" in said
    assert f"- {at}:" in said or f"- (root): Additional property {at} is not allowed" in said, said


def test_every_value_is_described_and_in_the_readme() -> None:
    """``python -m tests.support.values_table pulsestream-agent`` writes the table, ``… agent_schema`` the schema."""
    assert (helm.CHARTS / CHART / "README.md").read_text() == values_table.readme(CHART)
    values_table.rows((helm.CHARTS / "examples" / "shop" / "values.yaml").read_text())
    written = agent_schema.PATH.read_text() == agent_schema.text()
    assert written, "the agent's settings are others now: python -m tests.support.agent_schema writes the schema"


def test_names_fit_however_long_the_releases_is(shop: Path) -> None:
    """The pods' own logs are known by the DaemonSet's name: Kubernetes must not cut it."""
    release = "a" * 53
    objects = node({}, release=release)
    helm.check(objects)
    name = helm.one(objects, "DaemonSet")["metadata"]["name"]
    assert len(f"{name}-x7k2p") <= 63
    assert f"/var/log/pods/logs_{name}-*/pulsestream-agent/*" in settings(objects).sources[0].exclude
    helm.check(beside(shop, {}, release=release))
    assert helm.one(beside(shop, {}, release=release), "ConfigMap")["metadata"]["name"] == f"{release}-pulsestream-agent"


def test_the_version_of_the_application_is_the_projects() -> None:
    project = (helm.REPOSITORY / "pyproject.toml").read_text()
    chart = yaml.safe_load((helm.CHARTS / CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["appVersion"]}"\n' in project


def test_the_chart_gives_every_setting_of_a_source(shop: Path) -> None:
    """What the agent can do with lines it can do in a cluster, too."""
    source = msgspec.to_builtins(configs.Source("app", ("*.log",), labels={"a": "b"}, path_labels=("(?P<x>a)",)))
    (found,) = settings(beside(shop, {"sources": [source]})).sources
    assert msgspec.structs.replace(found, labels={"a": "b"}, include=("*.log",), service="") == configs.Source(
        "app", ("*.log",), labels={"a": "b"}, path_labels=("(?P<x>a)",)
    )
