"""The collector's chart: what it renders is what Kubernetes and the collector take, and what cannot work is refused before."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector import config
from collector.tenants import tenants_file
from tests.support import collector_values, helm, values_table
from tests.support.certificates import Authority
from tests.support.collector_pod import Pod
from tests.support.helm import CHARTS, Object

CHART = "pulsestream-collector"
NAME = "ps-pulsestream-collector"
TOKEN = "0123456789abcdef0123"
KEY_HASH = "5f2b" * 16
TENANT = {"slug": "blue-shop", "limits": {"retention_days": 90}, "keys": [{"name": "agents", "key_sha256": KEY_HASH}]}
KEYS = ("adminToken", "clickhousePassword", "clickhouseCa", "redisPassword", "redisCa")

MATRIX: dict[str, dict[str, Any]] = {
    "collector-defaults": {},
    "collector-embedded": {
        "secrets": {"adminToken": TOKEN},
        "tenants": [TENANT],
        "store": {"embedded": {"existingClaim": "old-store"}},
        "config": {"server": {"shutdown_timeout_s": 40}, "default_limits": {"bytes_per_minute": 17179869184}},
        "networkPolicy": {"enabled": True},
        "terminationGracePeriodSeconds": 90,
        "security": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
    },
    "collector-external": {
        "replicaCount": 3,
        "image": {"registry": "registry.example", "digest": f"sha256:{'a' * 64}"},
        "store": {"mode": "external", "external": {"url": "https://clickhouse.db:8443", "user": "pulsestream"}},
        "redis": {"url": "rediss://redis:6380/0"},
        "existingSecret": {"name": "ours", **{key: f"our-{key.lower()}" for key in KEYS}},
        "tenantsExistingSecret": "our-tenants",
        "tls": {"secretName": "our-tls", "clientCaKey": "ca.crt"},
        "config": {"server": {"workers": 2}},
        "service": {"type": "LoadBalancer", "port": 443},
        "ingress": {
            "enabled": True,
            "hosts": ["logs.example.com"],
            "tls": [{"secretName": "t", "hosts": ["logs.example.com"]}],
        },
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["logs.example.com"]},
        "autoscaling": {"enabled": True, "targetQueueBytes": 33554432},
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}], "redis": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "schemaJob": {"enabled": True},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "test": {"existingSecret": "test-key"},
    },
    "collector-bundled": {
        "replicaCount": 2,
        "store": {"mode": "bundled", "bundled": {"storageClass": "fast"}},
        "secrets": {"adminToken": TOKEN, "clickhousePassword": "s3cret"},
        "networkPolicy": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "test": {"existingSecret": "test-key"},
    },
    "collector-schema-job": {
        "store": {"mode": "external", "external": {"url": "http://clickhouse:8123"}},
        "secrets": {"clickhousePassword": "s3cret"},
        "tenants": [TENANT],
        "schemaJob": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]},
    },
}


@cache
def rendered(name: str) -> list[Object]:
    return helm.render(CHART, MATRIX[name])


@pytest.fixture(params=MATRIX)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Authority(tmp_path_factory.mktemp("certificates") / "ours").ca.read_text()


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for item in objects:
        if pod := helm.pod_of(item):
            yield f"{item['kind']}/{item['metadata']['name']}", pod


def test_helm_has_nothing_to_say_about_it(name: str) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.lint(CHART, MATRIX[name])


def test_kubernetes_takes_every_object_from_the_oldest_version_to_the_newest(name: str) -> None:
    helm.check(rendered(name))


def test_what_matters_of_a_rendering_is_as_it_was(name: str) -> None:
    helm.golden(name, rendered(name))


def test_the_collector_takes_its_configuration_with_the_secrets_and_tenants_it_names(
    name: str, tmp_path: Path, pem: str
) -> None:
    ours = {f"our-{key.lower()}": pem if key.endswith("Ca") else TOKEN for key in KEYS}
    given = {
        "ours": ours,
        "our-tls": {"tls.crt": pem, "tls.key": "", "ca.crt": pem},
        "our-tenants": {"tenants.yaml": yaml.safe_dump({"tenants": [TENANT]})},
    }
    pod = Pod(rendered(name), helm.one(rendered(name), "Deployment"), tmp_path, given)
    found = config.load(pod.run("collector").arguments[-1], {})
    assert (found.server.host, found.server.port) == ("0.0.0.0", 8080)
    if name in ("collector-embedded", "collector-external"):
        assert found.admin_token == TOKEN
        assert [tenant.slug for tenant in tenants_file.load(found.tenants_file, found.default_limits, {})] == ["blue-shop"]
    if name == "collector-external":
        assert (found.store.password, found.quota.redis_password) == (TOKEN, TOKEN)
        assert (found.store.user, found.quota.replicas) == ("pulsestream", 6)  # as many as autoscaling may make
        assert all(map(Path.is_file, map(Path, (found.store.ca_file, found.quota.redis_ca_file, found.server.tls.key_file))))
    if name == "collector-embedded":
        assert found.default_limits.bytes_per_minute == 17179869184


def test_no_secret_lies_in_a_config_map_or_an_argument(name: str) -> None:
    told = [item for item in rendered(name) if item["kind"] != "Secret"]
    assert not any(secret in json.dumps(told) for secret in (TOKEN, "s3cret", KEY_HASH))


def test_no_pod_may_do_more_than_it_needs(name: str) -> None:
    for what, pod in pods(rendered(name)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"], what
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, what
        assert pod["automountServiceAccountToken"] is False, what
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }, what
            assert {"requests", "limits"} <= container["resources"].keys(), what


def test_every_volume_that_is_mounted_is_there_and_none_is_mounted_inside_another(name: str) -> None:
    for what, pod in pods(rendered(name)):
        claimed = {"data"} if what.startswith("StatefulSet") else set()
        there = {volume["name"] for volume in pod.get("volumes", ())} | claimed
        for container in pod["containers"]:
            mounts = container.get("volumeMounts", ())
            assert {mount["name"] for mount in mounts} == there, what
            paths = sorted(f"{mount['mountPath']}/" for mount in mounts)
            assert not any(b.startswith(a) for a, b in pairwise(paths)), what


def test_selectors_find_their_pods_and_nobody_elses(name: str) -> None:
    objects = rendered(name)
    labels = {
        what: item["spec"]["template"]["metadata"]["labels"] if item["kind"] != "Pod" else item["metadata"]["labels"]
        for item in objects
        if helm.pod_of(item)
        for what in [f"{item['kind']}/{item['metadata']['name']}"]
    }
    for item in objects:
        wanted = {
            "Service": lambda item: item["spec"]["selector"],
            "Deployment": lambda item: item["spec"]["selector"]["matchLabels"],
            "StatefulSet": lambda item: item["spec"]["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda item: item["spec"]["selector"]["matchLabels"],
            "NetworkPolicy": lambda item: item["spec"]["podSelector"]["matchLabels"],
        }.get(item["kind"])
        if wanted is None:
            continue
        found = [what for what, has in labels.items() if wanted(item).items() <= has.items()]
        kind = "StatefulSet" if item["metadata"]["name"].endswith("clickhouse") else "Deployment"
        assert found == [f"{kind}/{item['metadata']['name']}"], item["kind"]


def test_a_selector_is_the_same_in_every_version_of_the_chart(name: str) -> None:
    """Kubernetes lets nobody change that of a Deployment."""
    for item in rendered(name):
        if item["kind"] in ("Deployment", "StatefulSet", "Service"):
            selector = item["spec"]["selector"]
            assert set(selector.get("matchLabels", selector)) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_services_probes_and_policies_name_ports_that_their_pods_have(name: str) -> None:
    objects = rendered(name)
    for kind in ("Deployment", "StatefulSet"):
        for workload in (item for item in objects if item["kind"] == kind):
            [container] = helm.pod_of(workload)["containers"]
            there = {port["name"] for port in container["ports"]}
            asked = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
            own = [item for item in objects if item["metadata"]["name"] == workload["metadata"]["name"]]
            asked |= {port["targetPort"] for port in helm.one(own, "Service")["spec"]["ports"]}
            policies = [item["spec"]["ingress"] for item in own if item["kind"] == "NetworkPolicy"]
            asked |= {port["port"] for rules in policies for rule in rules for port in rule["ports"]}
            assert asked <= there, workload["metadata"]["name"]


def test_there_is_time_to_be_taken_out_of_the_lists_and_to_end_in_order(name: str) -> None:
    pod = helm.pod_of(helm.one(rendered(name), "Deployment"))
    server = MATRIX[name].get("config", {}).get("server", {})
    needed = 5 + server.get("shutdown_timeout_s", 20) + (5 if server.get("workers", 1) > 1 else 0)
    assert pod["terminationGracePeriodSeconds"] > needed
    assert "time.sleep(5)" in pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]


@pytest.mark.parametrize("names", [{}, {"nameOverride": "n" * 63}, {"fullnameOverride": "f" * 63}])
def test_the_longest_names_still_fit_where_kubernetes_puts_them(names: dict[str, Any]) -> None:
    values = {**MATRIX["collector-bundled"], "tenants": [TENANT], **names}
    jobs = {**MATRIX["collector-schema-job"], **names}
    objects = helm.render(CHART, values, release="r" * 53) + helm.render(CHART, jobs, release="r" * 53)
    for item in objects:
        behind = len("-0123456789") if item["kind"] == "StatefulSet" else 0
        assert len(item["metadata"]["name"]) + behind <= 63, item["kind"]
        made = item["spec"]["template"] if helm.pod_of(item) and item["kind"] != "Pod" else item
        for labels in (item["metadata"]["labels"], made["metadata"]["labels"]):
            assert max(map(len, labels.values())) <= 63, item["kind"]


def test_an_embedded_store_is_given_to_the_next_collector_by_the_one_before() -> None:
    spec = helm.one(rendered("collector-defaults"), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert helm.one(rendered("collector-defaults"), "PersistentVolumeClaim")["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep"
    }


@pytest.mark.parametrize(
    ("changed", "rolls"),
    [
        ({"config": {"log": {"level": "debug"}}}, True),
        ({"secrets": {"adminToken": TOKEN[::-1]}}, True),
        ({"tenants": []}, True),  # the file is not named any more
        ({"tenants": [TENANT, {"slug": "red-shop"}]}, False),
        ({"commonLabels": {}}, False),
    ],
)
def test_pods_roll_for_what_is_read_at_the_start_only(changed: dict[str, Any], rolls: bool) -> None:
    def template(values: dict[str, Any]) -> Any:
        return helm.one(helm.render(CHART, values), "Deployment")["spec"]["template"]

    before = {"secrets": {"adminToken": TOKEN}, "tenants": [TENANT]}
    assert (template(before) != template({**before, **changed})) is rolls


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ({}, "there is no admin token. Give it one first", "come from"),
        ({"secrets": {"adminToken": TOKEN}}, 'tenant create "Blue Shop"', "no admin token"),
        ({"tenants": [TENANT]}, "Its tenants come from the values", "tenant create"),
        (MATRIX["collector-external"], "come from the Secret our-tenants", "no admin token"),
        (MATRIX["collector-external"], "curl -sk --cert client.pem", "http://"),
        (MATRIX["collector-bundled"], "each of the 2 collectors allows its part", "no admin token"),
        (MATRIX["collector-bundled"], "helm -n logs test ps sends an event", "which stays when the release"),
    ],
)
def test_the_notes_name_the_next_command(values: dict[str, Any], said: str, unsaid: str, tmp_path: Path) -> None:
    notes = helm.notes(CHART, values, tmp_path)
    assert said in notes
    assert unsaid not in notes


def test_the_schema_says_of_settings_and_tenants_what_the_collector_says() -> None:
    mend = "run python -m tests.support.collector_values"
    assert collector_values.SCHEMA.read_text() == collector_values.written(), mend


def test_the_readme_has_every_value() -> None:
    mend = f"run python -m tests.support.values_table {CHART}"
    assert (CHARTS / CHART / "README.md").read_text() == values_table.readme(CHART), mend


def test_the_readmes_example_is_taken() -> None:
    [example] = (CHARTS / CHART / "README.md").read_text().split("```yaml\n")[1:]
    objects = helm.render(CHART, yaml.safe_load(example.partition("```")[0]))
    helm.check(objects)
    assert {"PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"} <= {item["kind"] for item in objects}


def test_the_values_are_those_of_the_schema() -> None:
    def same(schema: dict[str, Any], values: Any, at: str) -> Iterator[str]:
        if "properties" in schema and isinstance(values, dict):
            owned = schema["properties"].keys() - {"global", "claims"}
            if values.keys() != owned and not at.endswith(("resources", "affinity", "behavior")):  # Kubernetes' own
                yield f"{at}: {sorted(values.keys() ^ owned)}"
            for key in owned & values.keys():
                yield from same(schema["properties"][key], values[key], f"{at}.{key}")

    schema = json.loads(collector_values.SCHEMA.read_text())
    assert list(same(schema, yaml.safe_load((CHARTS / CHART / "values.yaml").read_text()), "")) == []


def test_its_version_is_the_projects() -> None:
    project = tomllib.loads((CHARTS.parent / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHARTS / CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["version"]
