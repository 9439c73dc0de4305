"""The part of the collector chart's values.schema.json that says what the collector itself says: its settings and tenants.

``python -m tests.support.collector_values`` writes it anew when the collector has got another setting; a test checks that it
is current.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from collector.config import Config, Limits
from collector.tenants.tenants_file import Entry

SCHEMA = Path(__file__).resolve().parents[2] / "charts" / "pulsestream-collector" / "values.schema.json"

OWNED = {
    "Config": ("tenants_file", "admin_token", "admin_token_file"),
    "Server": ("host", "port"),
    "Tls": ("cert_file", "key_file", "client_ca_file"),
    "StoreConfig": ("url", "database", "user", "password", "password_file", "ca_file"),
    "QuotaConfig": ("redis_url", "redis_password", "redis_password_file", "redis_ca_file"),
}
"""What the chart sets itself, from values of its own: an address, a secret or a path in `config` would go past them."""


def definitions() -> dict[str, Any]:
    """``$defs`` of the schema, as the collector's types have it."""
    _, found = msgspec.json.schema_components([Config, Entry, Limits], ref_template="#/$defs/{name}")
    for name, owned in OWNED.items():
        for field in owned:
            del found[name]["properties"][field]
    found["Entry"]["properties"]["limits"] = {"$ref": "#/$defs/Limits"}
    plain: dict[str, Any] = _plain(dict(sorted(found.items())))
    return plain


def _plain(value: Any) -> Any:
    """Without titles and defaults, and with ends of patterns as every engine of regular expressions knows them."""
    if isinstance(value, dict):
        if "properties" in value:
            kept = {name: _plain(item) for name, item in value["properties"].items()}
            return {"type": "object", "additionalProperties": False, "properties": kept, "required": value.get("required", [])}
        return {key: _plain(item) for key, item in value.items() if key not in ("title", "default", "description")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.replace(r"\Z", "$") if isinstance(value, str) else value


def written() -> str:
    """The schema's text as it must be."""
    schema = json.loads(SCHEMA.read_text())
    return json.dumps({**schema, "$defs": definitions()}, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(written())
