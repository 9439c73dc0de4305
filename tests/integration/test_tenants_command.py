"""Tenants and keys on the command line: on the store itself, and through the collector that has it open."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from collector.tenants import tenants
from tests.support.collector import ADMIN_TOKEN, Collector, command, record

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]


def said(*arguments: str, status: int = 0) -> str:
    ended = command("tenant", *arguments)
    assert ended.returncode == status, ended
    return ended.stdout if status == 0 else ended.stderr


@pytest.mark.parametrize("running", [False, True], ids=["store", "collector"])
def test_all_that_can_be_done_over_http_can_be_done_here(tmp_path: Path, running: bool) -> None:
    collector = Collector(tmp_path)
    (tmp_path / "token").write_text(ADMIN_TOKEN)
    how = ["--config", str(collector.config)]
    if running:
        collector.start()
        how = ["--url", collector.url, "--admin-token-file", str(tmp_path / "token")]

    def told(*arguments: str) -> Any:
        return json.loads(said(*arguments, "--json", *how))

    try:
        first = told("create", "Blue Shop", "--retention-days", "7", "--limit", "events_per_minute=100")["api_key"]
        changed = told("set", "blue-shop", "--name", "Bluer", "--limit", "events_burst=50", "--limit", "on_limit=refuse")
        limits = changed["tenant"]["limits"]
        assert (limits["retention_days"], limits["events_per_minute"], limits["events_burst"]) == (7, 100, 50)
        assert (changed["tenant"]["name"], limits["on_limit"]) == ("Bluer", "refuse")

        added = told("key", "add", "blue-shop", "--name", "agents", "--scope", "ingest", "--expires-days", "30")
        rotated = told("key", "rotate", "blue-shop", added["key"]["key_id"], "--overlap", "3600")
        assert rotated["old_key"]["expires"] < added["key"]["expires"]
        assert told("key", "revoke", "blue-shop", first.split("_")[1])["key"]["revoked"] is True
        assert told("disable", "blue-shop")["tenant"]["disabled"] is True
        assert told("set", "blue-shop", "--enable")["tenant"]["disabled"] is False

        shown = told("show", "blue-shop")
        assert [(key["name"], key["revoked"]) for key in shown["keys"]] == [
            ("first key", True), ("agents", False), ("agents", False),
        ]  # fmt: skip
        table = said("show", "blue-shop", *how)
        assert re.search(r"events_per_minute +100\n", table)
        assert re.search(rf"{first.split('_')[1]} +ingest search delete +revoked", table)
        if not running:
            collector.start()
        for key, status in ((first, 401), (added["api_key"], 200), (rotated["api_key"], 200)):
            assert collector.post(key, record(b"a\n")).status == status
    finally:
        collector.kill()


def test_what_cannot_be_done_is_told_with_the_mend(tmp_path: Path) -> None:
    how = ["--config", str(Collector(tmp_path).config)]
    assert "there is no tenant 'nobody'" in said("show", "nobody", *how, status=1)
    assert "--limit: expected NAME=VALUE, got 'many'" in said("set", "nobody", "--limit", "many", *how, status=2)
    said("create", "Blue", *how)
    assert "limits.events_per_hour: there is no such field" in said(
        "set", "blue", "--limit", "events_per_hour=1", *how, status=2
    )
    assert "this tenant has no key 'abc'" in said("key", "revoke", "blue", "abc", *how, status=1)


def test_a_key_for_a_tenants_file_comes_with_its_hash_and_needs_no_store() -> None:
    text = said("key", "make")
    api_key = re.search(r"^API key  (\S+)$", text, re.M)
    assert api_key
    assert f"key_sha256  {tenants.hash_of(api_key[1])}\n" in text


def test_a_user_of_the_engine_is_printed_for_a_tenant_without_its_password(tmp_path: Path) -> None:
    how = ["--config", str(Collector(tmp_path).config)]
    tenant = json.loads(said("create", "Blue Shop", "--json", *how))["tenant"]
    ended = command("sql-user", "create", "blue-shop", *how)
    assert ended.returncode == 0, ended
    assert f"USING tenant_id = '{tenant['tenant_id']}' TO ps_blue_shop;" in ended.stdout
    (password,) = re.findall(r"user ps_blue_shop  password (\S+)", ended.stderr)
    assert hashlib.sha256(password.encode()).hexdigest() in ended.stdout
    assert password not in ended.stdout
    assert "DROP USER IF EXISTS ps_blue_shop;" in command("sql-user", "drop", "blue-shop", *how).stdout
    refused = command("sql-user", "create", "blue-shop", "--run", *how)
    assert refused.returncode == 2
    assert "is the embedded engine, which has no users; name a server" in refused.stderr
