"""values.schema.json of the chart pulsestream-agent: what the agent's configuration says of itself, and the chart's own values.

``python -m tests.support.agent_schema`` writes it; a test checks that it is there. So a setting that is new to the agent can be
given in the values from then on, and one that is misspelt is refused before anything is installed.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from agent.config import Config, Source
from tests.support.helm import CHARTS

PATH = CHARTS / "pulsestream-agent" / "values.schema.json"
Schema = dict[str, Any]

CHARTS_OWN = frozenset(
    ("sources", "state_dir", "scope", "scope_file", "name", "metrics", "shutdown_timeout_s", "shutdown_quiet_s")
)
"""Settings that have values of their own, or none."""
COLLECTORS_OWN = frozenset(["url", "urls", "api_key", "api_key_file", "ca_file", "cert_file", "key_file"])
NODES_OWN = frozenset(["name", "include", "exclude", "container", "format", "path_labels"])

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {"type": "object"}
"""What Kubernetes checks itself."""
LIST: Schema = {"type": "array"}
TEXTS: Schema = {"type": "array", "items": TEXT}
TEXT_BY_NAME: Schema = {"type": "object", "additionalProperties": TEXT}
PATH_TEXT: Schema = {"type": "string", "pattern": "^/"}
LOG_PATTERN: Schema = {"type": "array", "items": PATH_TEXT, "minItems": 1}
URL: Schema = {"type": "string", "pattern": "^(|https?://.+|.*\\$\\{.+)$"}
BESIDE: Schema = {"type": "string", "pattern": "^([^/].*)?$"}


def names(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def schema() -> Schema:
    _, found = msgspec.json.schema_components([Config, Source], ref_template="#/$defs/{name}")
    defs: dict[str, Schema] = {name: _bare(value) for name, value in found.items()}
    config = _without(defs.pop("Config"), CHARTS_OWN)
    defs["Collector"] = _without(defs["Collector"], COLLECTORS_OWN)
    del defs["Metrics"]
    defs["NodeSource"] = _without(defs["Source"], NODES_OWN)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of pulsestream-agent",
        **_values(config),
        "$defs": defs,
    }


def _values(config: Schema) -> Schema:
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": 86400}
    whole = {"type": "integer", "minimum": 1}
    return names(
        **{"global": ANY},
        mode={"enum": ["auto", "daemonset", "none"]},
        enabled=FLAG,
        image=names(
            registry={"type": "string", "pattern": "^([^/].*[^/])?$"},
            repository={"type": "string", "minLength": 1},
            tag=TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        imagePullSecrets=LIST,
        fullnameOverride={"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 57},
        collector=names(url=URL, urls={"type": "array", "items": URL}, tls=names(secretName=TEXT, ca=FLAG, client=FLAG)),
        apiKey=names(secretName=TEXT, key={"type": "string", "minLength": 1}, optional=FLAG),
        cluster=TEXT,
        labels=TEXT_BY_NAME,
        podLabels=TEXTS,
        allPodLabels=FLAG,
        sources={"type": "array", "items": {"$ref": "#/$defs/Source"}},
        service=TEXT,
        logs=names(mountPath=PATH_TEXT, volume=TEXT, claim=TEXT, subPath=BESIDE, subPathExpr=BESIDE, emptyDir=ANY),
        scope=names(**{"from": {"enum": ["", "pod", "storage"]}}, value={"type": "string", "maxLength": 4096}),
        state=names(volume=TEXT, subPath=BESIDE, emptyDir=ANY),
        shutdown=names(
            timeoutSeconds=seconds, quietSeconds={"type": "number", "minimum": 0, "maximum": 3600}, appSeconds=seconds
        ),
        terminationGracePeriodSeconds={"type": ["integer", "null"], "minimum": 1},
        metrics=names(
            enabled=FLAG,
            host={"type": "string", "minLength": 1},
            port={"type": "integer", "minimum": 1024, "maximum": 65535},
            maxLagSeconds=seconds,
            podMonitor=names(enabled=FLAG, labels=TEXT_BY_NAME, interval={"type": "string", "pattern": "^[0-9]+(ms|s|m)$"}),
        ),
        probes=names(
            liveness=names(
                periodSeconds=whole, timeoutSeconds=whole, failureThreshold=whole, initialDelaySeconds={"type": "integer"}
            ),
            sidecarReadiness=FLAG,
        ),
        config=config,
        extraEnv={"type": "array", "items": {"type": "object", "required": ["name"]}},
        resources=ANY,
        securityContext=ANY,
        podSecurityContext=ANY,
        daemonset=names(
            include=LOG_PATTERN,
            exclude={"type": "array", "items": PATH_TEXT},
            excludeNamespaces=TEXTS,
            hostPaths={"type": "array", "items": PATH_TEXT, "minItems": 1, "uniqueItems": True},
            container={"enum": ["cri", "docker"]},
            format={"$ref": "#/$defs/Source/properties/format"},
            pathLabels=TEXTS,
            source={"$ref": "#/$defs/NodeSource"},
            extraSources={"type": "array", "items": {"$ref": "#/$defs/Source"}},
            state=names(hostPath=PATH_TEXT),
            tolerations=LIST,
            nodeSelector=TEXT_BY_NAME,
            affinity=ANY,
            priorityClassName=TEXT,
            updateStrategy=ANY,
            resources=ANY,
            securityContext=ANY,
            podAnnotations=TEXT_BY_NAME,
            podLabels=TEXT_BY_NAME,
            readiness=names(
                periodSeconds=whole, timeoutSeconds=whole, failureThreshold=whole, initialDelaySeconds={"type": "integer"}
            ),
        ),
        serviceAccount=names(create=FLAG, name=TEXT, annotations=TEXT_BY_NAME),
    )


def _without(kind: Schema, left_out: frozenset[str]) -> Schema:
    missing = left_out - kind["properties"].keys()
    assert not missing, f"the agent has no {', '.join(sorted(missing))} any more"
    kept = {name: value for name, value in kind["properties"].items() if name not in left_out}
    return {**{name: value for name, value in kind.items() if name != "required"}, "properties": kept}


def _bare(value: Any) -> Any:
    """Without texts and defaults: the values.yaml says those."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = value.get("properties", {})
    kept = {name: _bare(item) for name, item in value.items() if name not in ("default", "title", "description", "properties")}
    return {**kept, "properties": {name: _bare(item) for name, item in named.items()}} if named else kept


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
