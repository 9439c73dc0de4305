"""What the collector's chart says to a cluster's operators, which Kubernetes itself does not know, and to autoscalers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from collector import app
from collector.config import Config
from tests.deploy.test_chart_collector import CHART, MATRIX, NAME, rendered
from tests.support import helm, promql
from tests.support.helm import Object

ALL = "collector-external"
"""The values that ask for everything."""


def rules(values: dict[str, Any] | None = None) -> dict[str, Object]:
    asked = {**MATRIX[ALL], "prometheusRule": {"enabled": True, **(values or {})}}
    [group] = helm.one(helm.render(CHART, asked), "PrometheusRule")["spec"]["groups"]
    return {rule.get("alert", ""): rule for rule in group["rules"]}


@pytest.fixture(scope="module")
def alerts() -> dict[str, Object]:
    return rules()


SCRAPED = {"job", "namespace", "le"}
"""Labels that a scrape adds, and that of a histogram's bounds."""


def faults(expression: str) -> list[str]:
    """What is wrong with it: it does not parse, or it asks for a series or a label that nobody has."""
    try:
        asked = promql.series(expression)
    except ValueError as error:
        return [f"no PromQL: {error}"]
    known = promql.known()
    missing = [f"there is no series {name}" for name in asked if name not in known]
    labels = {label for name in asked for label in known.get(name, ())} | SCRAPED
    bare = [
        f"{name} has no label {label}" for name in asked for label in sorted(asked[name] - known.get(name, set()) - SCRAPED)
    ]
    return missing or bare or [f"nothing has the label {label}" for label in sorted(promql.grouped(expression) - labels)]


def test_every_alert_is_promql_over_series_and_labels_that_the_collector_has(alerts: dict[str, Object]) -> None:
    assert {name: found for name, rule in alerts.items() if (found := faults(rule["expr"]))} == {}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("rate(collector_events[5m])", "there is no series collector_events"),
        ("sum by (resaon) (collector_events_refused_total)", "nothing has the label resaon"),
        ("collector_store_errors_total{kid='away'}", "collector_store_errors_total has no label kid"),
        ("min(collector_store_up", "no PromQL: "),
    ],
)
def test_an_alert_that_could_never_fire_would_be_found(expression: str, said: str) -> None:
    [found] = faults(expression)
    assert found.startswith(said)


def test_every_alert_says_what_it_means_and_what_to_do(alerts: dict[str, Object]) -> None:
    assert len(alerts) >= 13
    for name, rule in alerts.items():
        assert name.startswith("PulseStream"), name
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert re.fullmatch(r"\d+[smh]", rule["for"]), name
        assert len(rule["annotations"]["runbook"]) > 100, name
        assert rule["annotations"]["summary"], name


def test_alerts_look_at_this_release_alone(alerts: dict[str, Object]) -> None:
    for name, rule in alerts.items():
        asked = re.findall(r"collector_\w+\{([^}]*)\}", rule["expr"])
        assert asked, name
        assert all(found.startswith(f'job="{NAME}",namespace="logs"') for found in asked), name
    other = rules({"selector": 'cluster="eu"'})
    assert other["PulseStreamStoreAway"]["expr"] == 'min(collector_store_up{cluster="eu"}) == 0'


def test_series_and_paths_that_runbooks_name_exist(alerts: dict[str, Object]) -> None:
    paths = {resource.canonical for resource in app.build(Config()).router.resources()}
    for name, rule in alerts.items():
        told = rule["annotations"]["runbook"]
        for metric in re.findall(r"collector_\w+", told):
            assert {metric, f"{metric}_bucket"} & promql.known().keys(), (name, metric)
        for path in re.findall(r"GET (/\S+?)[;,. ]", told):
            assert path in paths, (name, path)


def test_routes_left_out_of_the_p99_are_routes(alerts: dict[str, Object]) -> None:
    [pattern] = re.findall(r'route!~"([^"]*)"', alerts["PulseStreamSlowAnswers"]["expr"])
    routes = [resource.canonical for resource in app.build(Config()).router.resources()]
    left_out = [route for route in routes if re.fullmatch(pattern, route)]
    assert left_out == ["/healthz", "/readyz", "/metrics"] + [f"/api/v1/ingestion/events/{name}" for name in ("export", "tail")]


def test_the_critical_disk_alert_comes_above_the_floor_where_inserts_are_refused() -> None:
    def bound(ratio: float | None) -> float:
        config = {} if ratio is None else {"store": {"min_free_disk_ratio": ratio}}
        objects = helm.render(CHART, {"prometheusRule": {"enabled": True}, "config": config})
        [group] = helm.one(objects, "PrometheusRule")["spec"]["groups"]
        [rule] = [rule for rule in group["rules"] if rule["alert"] == "PulseStreamDiskFloor"]
        return float(rule["expr"].rpartition("< ")[2])

    assert bound(None) == pytest.approx(Config().store.min_free_disk_ratio + 0.03)
    assert bound(0.1) == pytest.approx(0.13)


def test_thresholds_are_those_of_the_values() -> None:
    asked = {"refusedRatio": 0.5, "lagSeconds": 77, "freeDiskRatio": 0.25, "p99Seconds": 3, "errorRatio": 0.125}
    found = rules({"thresholds": asked})
    names = ("RejectsRising", "AgentsLag", "DiskFilling", "SlowAnswers", "Errors")
    bounds = [float(re.split("[<>] ", found[f"PulseStream{name}"]["expr"])[-1]) for name in names]
    assert bounds == list(asked.values())


def test_an_alert_can_be_left_out_and_others_added() -> None:
    found = rules({"without": ["PulseStreamErrors"], "extraRules": [{"alert": "Mine", "expr": "vector(1)"}]})
    assert "PulseStreamErrors" not in found
    assert found["Mine"] == {"alert": "Mine", "expr": "vector(1)"}


def test_prometheus_finds_the_service_and_its_port() -> None:
    objects = rendered(ALL)
    monitor, service = helm.one(objects, "ServiceMonitor"), helm.one(objects, "Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert (endpoint["path"], endpoint["interval"], endpoint["scheme"]) == ("/metrics", "30s", "https")
    assert endpoint["tlsConfig"] == {
        "serverName": f"{NAME}.logs.svc",
        "ca": {"secret": {"name": "our-tls", "key": "ca.crt"}},
    }
    bundled = rendered("collector-bundled")
    wanted = helm.one(bundled, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert not wanted.items() <= helm.one(bundled, "Service", f"{NAME}-clickhouse")["metadata"]["labels"].items()


def test_a_gateway_sends_everything_to_the_service_and_cuts_no_answer_off() -> None:
    route, service = helm.one(rendered(ALL), "HTTPRoute"), helm.one(rendered(ALL), "Service")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"] == {
        "parentRefs": [{"name": "public"}],
        "hostnames": ["logs.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "timeouts": {"request": "0s"},
                "backendRefs": [{"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}],
            }
        ],
    }


def test_an_ingress_sends_everything_of_its_host_to_the_service() -> None:
    ingress, service = helm.one(rendered(ALL), "Ingress"), helm.one(rendered(ALL), "Service")
    backend = {"service": {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}}
    assert ingress["spec"] == {
        "tls": [{"secretName": "t", "hosts": ["logs.example.com"]}],
        "rules": [{"host": "logs.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
    }


def test_an_autoscaler_goes_by_metrics_that_exist() -> None:
    spec = helm.one(rendered(ALL), "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == helm.one(rendered(ALL), "Deployment")["metadata"]["name"]
    assert "replicas" not in helm.one(rendered(ALL), "Deployment")["spec"]  # else every upgrade would undo what it did
    assert [metric["type"] for metric in spec["metrics"]] == ["Resource", "Pods"]
    assert spec["metrics"][1]["pods"]["metric"]["name"] in promql.known()


def test_a_policy_lets_out_what_the_collector_asks_and_lets_in_the_test() -> None:
    def ports(name: str) -> list[Any]:
        egress = helm.one(rendered(name), "NetworkPolicy", NAME)["spec"]["egress"]
        return [port["port"] for rule in egress for port in rule["ports"]]

    assert ports(ALL) == [53, 53, 8443, 6380]
    assert ports("collector-embedded") == [53, 53]
    assert ports("collector-bundled") == [53, 53, 8123]
    assert ports("collector-schema-job") == [53, 53, 8123]
    [rule] = helm.one(rendered(ALL), "NetworkPolicy")["spec"]["ingress"]
    test = helm.one(rendered(ALL), "Pod")["metadata"]["labels"]
    assert any(peer.get("podSelector", {}).get("matchLabels", {"-": ""}).items() <= test.items() for peer in rule["from"])
