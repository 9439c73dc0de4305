"""What a tenants file may say, and how its faults are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.config import Limits
from collector.errors import ConfigError
from collector.tenants import tenants, tenants_file

HASH = tenants.hash_of("ps_a")
DEFAULTS = Limits(retention_days=14)


def loaded(folder: Path, text: str) -> list[tuple[tenants.Tenant, list[tenants_file.KeyRow]]]:
    file = folder / "tenants.yaml"
    file.write_text(text)
    return list(tenants_file.load(str(file), DEFAULTS, {"HASH": HASH}).items())


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return caught.value.message


def test_what_is_left_out_comes_from_the_configuration(tmp_path: Path) -> None:
    text = "tenants: [{slug: blue, limits: {events_per_month: 5}, keys: [{key_sha256: '${HASH}', name: agents}]}]"
    ((tenant, (key,)),) = loaded(tmp_path, text)
    assert (tenant.slug, tenant.name, tenant.origin) == ("blue", "blue", "file")
    assert (tenant.limits.retention_days, tenant.limits.events_per_month) == (14, 5)
    assert (key.key_hash, key.scopes, key.name, key.expires_us) == (HASH, ("ingest",), "agents", None)


def test_the_same_slug_is_the_same_tenant_on_every_collector(tmp_path: Path) -> None:
    ids = [tenant.tenant_id for tenant, _ in loaded(tmp_path, "tenants: [{slug: a}, {slug: b}]")]
    assert ids == [tenant.tenant_id for tenant, _ in loaded(tmp_path, "tenants: [{slug: a, name: A}, {slug: b}]")]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tenants: [{name: x}]", "tenants[0].slug: is missing; it has no default"),
        ("tenants: [{slug: NoT}]", "tenants[0].slug: expected `str` matching regex"),
        ("tenants: [{slug: a, limit: {}}]", "tenants[0].limit: there is no such setting; did you mean limits?"),
        ("tenants: [{slug: a, limits: {retention_days: 0}}]", "tenants[0] (a): limits.retention_days: Expected `int` >= 1"),
        ("tenants: [{slug: a, limits: {days: 1}}]", "tenants[0] (a): limits.days: there is no such field"),
        ("tenants: [{slug: a, keys: [{key_sha256: abc}]}]", "keys[0].key_sha256: expected `str` matching regex"),
        (f"tenants: [{{slug: a, keys: [{{key_sha256: {HASH}, scopes: [root]}}]}}]", "(a): scopes: expected of ingest"),
        (f"tenants: [{{slug: a, keys: [{{key_sha256: {HASH}, expires: soon}}]}}]", "expires: 'soon' is no moment"),
        ("tenants: [{slug: a}, {slug: a}]", "the slug a is used twice"),
        (
            f"tenants: [{{slug: a, keys: [{{key_sha256: {HASH}}}]}}, {{slug: b, keys: [{{key_sha256: {HASH}}}]}}]",
            f"the key_sha256 {HASH[:8]}… is used twice",
        ),
        ("tenants: [", "not YAML"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/no/such: cannot be read: No such file or directory; see tenants_file"):
        tenants_file.load("/no/such", DEFAULTS, {})
