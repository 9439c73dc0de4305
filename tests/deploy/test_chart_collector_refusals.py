"""Values of the collector's chart that are misspelt, of the wrong type, or cannot work: refused by name, with the mend."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.test_chart_collector import CHART, TENANT, TOKEN
from tests.support import helm

WRONG = {
    "imag": ({"imag": {}}, "Additional property imag is not allowed"),
    "replicaCount": ({"replicaCount": "3"}, "replicaCount: Invalid type. Expected: integer, given: string"),
    "store.mode": ({"store": {"mode": "cloud"}}, 'store.mode must be one of the following: "embedded", "external", "bundled"'),
    "store.url": ({"store": {"external": {"url": "http://user:pw@h"}}}, "store.external.url: Does not match pattern"),
    "store.size": ({"store": {"embedded": {"size": "20 GB"}}}, "store.embedded.size: Does not match pattern"),
    "store.typo": ({"store": {"bundled": {"sise": "1Gi"}}}, "store.bundled: Additional property sise is not allowed"),
    "redis.url": ({"redis": {"url": "redis://:pw@h"}}, "redis.url: Does not match pattern"),
    "secrets": ({"secrets": {"token": "x"}}, "secrets: Additional property token is not allowed"),
    "adminToken": ({"secrets": {"adminToken": "short"}}, "secrets.adminToken: Does not match pattern"),
    "clickhouseCa": ({"secrets": {"clickhouseCa": "/etc/ca.pem"}}, "secrets.clickhouseCa: Does not match pattern"),
    "existingSecret": ({"existingSecret": "ours"}, "existingSecret: Invalid type. Expected: object, given: string"),
    "config.typo": ({"config": {"server": {"prot": 1}}}, "config.server: Additional property prot is not allowed"),
    "config.host": ({"config": {"server": {"host": "h"}}}, "config.server: Additional property host is not allowed"),
    "config.url": ({"config": {"store": {"url": "u"}}}, "config.store: Additional property url is not allowed"),
    "config.token": ({"config": {"admin_token": "t"}}, "config: Additional property admin_token is not allowed"),
    "config.level": ({"config": {"log": {"level": "loud"}}}, "config.log.level must be one of the following"),
    "config.readers": ({"config": {"store": {"readers": 1}}}, "config.store.readers: Must be greater than or equal to 2"),
    "tenants.slug": ({"tenants": [{"slug": "A b"}]}, "tenants.0.slug: Does not match pattern"),
    "tenants.limits": ({"tenants": [{"slug": "a", "limits": {"evnts": 1}}]}, "tenants.0.limits: Additional property evnts"),
    "resources": ({"resources": {"limit": {}}}, "resources: Additional property limit is not allowed"),
    "root": ({"security": {"runAsUser": 0}}, "security.runAsUser: Must be greater than or equal to 1"),
    "preStop": ({"preStopSeconds": -1}, "preStopSeconds: Must be greater than or equal to 0"),
    "service": ({"service": {"type": "Cluster"}}, "service.type must be one of the following"),
    "autoscaling": ({"autoscaling": {"maxReplica": 3}}, "autoscaling: Additional property maxReplica is not allowed"),
    "pdb": ({"podDisruptionBudget": {"maxUnavailable": "a few"}}, "podDisruptionBudget.maxUnavailable: Must validate"),
    "policy": ({"networkPolicy": {"from": [{"podselector": {}}]}}, "networkPolicy.from.0: Additional property podselector"),
    "interval": ({"serviceMonitor": {"interval": "often"}}, "serviceMonitor.interval: Does not match pattern"),
    "ratio": ({"prometheusRule": {"thresholds": {"errorRatio": 5}}}, "thresholds.errorRatio: Must be less than or equal to 1"),
}


def merged(into: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        into[key] = (
            merged(dict(into.get(key, {})), value) if isinstance(value, dict) and isinstance(into.get(key), dict) else value
        )
    return into


@pytest.mark.parametrize("name", ["autoscaling", "secrets", "existingSecret", "config", "ingress", "store"])
def test_a_section_that_was_taken_away_is_named(name: str) -> None:
    assert f"(root): {name} is required" in helm.refusal("pulsestream-collector", {name: None})


def test_misspelt_and_wrong_values_are_refused_by_name() -> None:
    values: dict[str, Any] = {}
    for wrong, _ in WRONG.values():
        lists = {key: values.get(key, []) + value for key, value in wrong.items() if isinstance(value, list)}
        merged(values, {**wrong, **lists})
    said = helm.refusal(CHART, values)
    missing = [text.replace("tenants.0.limits", "tenants.1.limits") for _, text in WRONG.values()]
    assert [text for text in missing if text not in said] == [], said


EXTERNAL = {"mode": "external", "external": {"url": "http://h"}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicaCount": 2}, "replicaCount is 2, but an embedded store belongs to exactly one collector; set it to 1, or"),
        ({"autoscaling": {"enabled": True}}, "autoscaling.enabled: an embedded store belongs to exactly one collector"),
        ({"podDisruptionBudget": {"enabled": True}}, "podDisruptionBudget.enabled: with an embedded store there is one"),
        ({"config": {"server": {"workers": 2}}}, "config.server.workers: an embedded store is one process"),
        ({"store": {"mode": "external"}}, "store.external.url: store.mode is external; name the server"),
        ({"store": {"mode": "bundled"}}, "secrets.clickhousePassword (or existingSecret.clickhousePassword): the bundled"),
        (
            {"store": {"mode": "bundled", "bundled": {"image": {"tag": "25.8.1"}}}, "secrets": {"clickhousePassword": "p"}},
            "store.bundled.image.tag: the collector needs ClickHouse 26.2 or newer, not 25.8.1",
        ),
        (
            {"store": {"mode": "bundled"}, "secrets": {"clickhousePassword": "a<b"}},
            "secrets.clickhousePassword: has one of < > &, which the image of ClickHouse writes into its configuration",
        ),
        ({"schemaJob": {"enabled": True}}, "schemaJob.enabled: only for store.mode external"),
        ({"existingSecret": {"name": "s"}, "secrets": {"adminToken": TOKEN}}, "secrets.adminToken: existingSecret.name is set"),
        ({"tenants": [TENANT], "tenantsExistingSecret": "s"}, "tenants and tenantsExistingSecret are both set; keep one"),
        ({"tls": {"clientCaKey": "ca.crt"}}, "tls.clientCaKey is set, but no tls.secretName"),
        ({"terminationGracePeriodSeconds": 24}, "terminationGracePeriodSeconds is 24, but the collector may need 25"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: name the gateway"),
        (
            {"store": EXTERNAL, "autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "autoscaling.targetCPUUtilizationPercentage: is a share of resources.requests.cpu, which is not set",
        ),
        ({"store": EXTERNAL, "autoscaling": {"enabled": True, "minReplicas": 9}}, "autoscaling.minReplicas is above"),
        (
            {"store": EXTERNAL, "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}},
            "autoscaling.enabled: nothing is said to scale by",
        ),
        ({"service": {"nodePort": 30080}}, "service.nodePort: a Service of type ClusterIP has none"),
        ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "commonLabels: app.kubernetes.io/name is the chart's own"),
        ({"podLabels": {"app.kubernetes.io/component": "x"}}, "podLabels: app.kubernetes.io/component is there already"),
        ({"commonLabels": {"team": "a"}, "podLabels": {"team": "b"}}, "podLabels: team is there already"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_mend(values: dict[str, Any], said: str) -> None:
    assert said in helm.refusal(CHART, values)
