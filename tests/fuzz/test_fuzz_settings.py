"""Configuration and tenants files, whatever is in them: settings, or every fault in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import config as agent_config
from agent.errors import ConfigError as AgentConfigError
from agent.files import discover
from agent.scope import resolve
from collector import config as collector_config
from collector.config import Limits
from collector.errors import ConfigError
from collector.tenants import tenants_file
from tests.support.mutations import examples, mutated

CONFIG = Path(__file__).resolve().parents[2] / "config"
TENANTS = b"""
tenants:
  - slug: blue-shop
    name: Blue Shop
    contact_email: a@example.com
    limits: {retention_days: 30, events_per_minute: 60000, on_limit: refuse}
    keys:
      - {name: agents, scopes: [ingest], key_sha256: "%s", expires: 2031-01-31T00:00:00Z}
  - {slug: red, disabled: true}
""" % (b"5f" * 32)
AGENT = b"""
sources:
  - {name: app, include: [/var/log/*.log, "/srv/**/x"], exclude: ["*.tmp"], labels: {a: b}, fields: {time: [ts]}}
collector: {url: "http://c:8080", api_key: "${KEY:-x}", max_in_flight: 3}
spool: {max_bytes: 100000000, fsync_interval_s: 0.5}
flush_interval_s: 0.1
"""
COLLECTOR = b"""
server: {host: 0.0.0.0, port: 8080}
store: {url: "http://u:8123", database: d, readers: 3}
quota: {redis_url: "redis://r:6379/0", replicas: 2}
default_limits: {retention_days: 3, on_limit: partial}
admin_token: "0123456789abcdef0123"
"""
YAML_BOMBS = (
    b"&a [*a]",
    b"[" * 400,
    b"2026-99-99",
    b"!!int x",
    b"!!float x",
    b"!!timestamp x",
    b"!!bool x",
    b"!!python/object:os.system x",
    b".nan",
    b".inf",
    b"0x_",
    b"${",
    b"${NOBODY}",
    b"$${",
    b"!!binary x",
    b"\\0",
    b'"\\ud800"',
    b'"\\0"',
    b"\xff",
    b"{<<: 1}",
    b"? [a]\n",
    b"http://[",
    b"1" * 5000,
    b"1:61:99",
    b"\xe2\x84\x80",
    b"~",
    b"%YAML 9.9\n---\n",
    b"---\n",
    b"...\n",
    b"!!set {a}",
    b"!!omap [a: 1]",
)
LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (97 + n, 97 + n, b",".join([b"*%c" % (96 + n)] * 10)) for n in range(1, 12)
)


def read(parse: Callable[..., Any], text: str) -> Any:
    """The settings; None after an error that says what is wrong, and where."""
    try:
        found = parse(text, where="the-file.yaml", env={"KEY": "1"})
    except (ConfigError, AgentConfigError) as error:
        lines = str(error).splitlines()
        assert lines
        assert all("the-file.yaml" in line for line in lines), lines
        return None
    msgspec.json.encode(found)
    return found


@given(mutated(AGENT, (CONFIG / "agent.yaml").read_bytes(), bombs=YAML_BOMBS))
@examples(100)
@example(LAUGHS)
@example(b"sources: [{name: a, include: ['/a', '${KEY}'], labels: {node: '${KEY}'}}]")
@example(b"sources: [{name: a, include: ['/a']}]\ncollector: {url: 'http://['}")
def test_any_configuration_of_an_agent_is_taken_or_every_fault_is_said(raw: bytes) -> None:
    read(agent_config.parse, raw.decode("utf-8", "replace"))


@given(mutated(COLLECTOR, bombs=YAML_BOMBS))
@examples(100)
@example(LAUGHS)
@example(b"store: {url: 'http://['}\nquota: {redis_url: 'redis://['}")
def test_any_configuration_of_a_collector_is_taken_or_every_fault_is_said(raw: bytes) -> None:
    read(collector_config.parse, raw.decode("utf-8", "replace"))


@given(raw=mutated(TENANTS, bombs=YAML_BOMBS))
@examples(150)
@example(raw=LAUGHS)
@example(raw=b'tenants: [{slug: "red\\n"}]')
@example(raw=b'tenants: [{slug: red, contact_email: "a\\ud800@b"}]')
@example(raw=b'tenants: [{slug: red, limits: {"\\ud800": 1}}]')
def test_any_tenants_file_is_applied_or_every_fault_is_said(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "tenants.yaml"
    path.write_bytes(raw)
    try:
        found = tenants_file.load(str(path), Limits(), {})
    except ConfigError as error:
        assert str(error)
        return
    for tenant, keys in found.items():
        assert "\n" not in tenant.slug
        msgspec.json.encode((tenant, keys))


PATTERN = st.text(alphabet=st.one_of(st.sampled_from("*?[]!-/.ab\\\0"), st.characters(codec=None)), max_size=20)


@given(PATTERN, PATTERN)
@examples(400)
def test_any_pattern_finds_files_or_none(include: str, exclude: str) -> None:
    sources = [discover.Globs("app", ["/nowhere-at-all/" + include.replace("..", "")], [exclude])]
    assert list(discover.find(sources)) == []
    assert discover.folders(sources)
    discover.excluded("/var/log/a.log", [exclude])
    list(discover.siblings("/nowhere-at-all/" + include))


@given(st.text(), st.text(), st.text())
@examples(100)
def test_any_scope_is_taken_from_the_first_place_that_has_one(recorded: str, configured: str, said: str) -> None:
    found = resolve(recorded, configured, {"PULSESTREAM_SCOPE": said, "KUBERNETES_SERVICE_HOST": "k"})
    assert found.value == (recorded or configured or said or found.value)
