"""Searches that a tenant keeps: what was saved can be asked, is whole, and is nobody else's. Real collector, real engine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.saved import searches
from collector.saved.searches import PATH, SavedBody
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import Asking
from tests.support.collector import ADMIN_TOKEN, Answer, Collector

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

SAVED = {
    "name": "Größe: refused payments",
    "query": {"q": "payment refused", "service": ["shop", "größe"], "status_code": 404, "start_time": "-1h", "attr.a b": "c"},
    "columns": ["timestamp", "source.service", "attr.region"],
}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    return collector.new_tenant("saver")


def ask(collector: Collector, key: str, method: str, path: str = "", body: Any = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    return collector.request(method, f"{PATH}{path}", key=key, body=data, headers={"Content-Type": "application/json"})


def test_a_saved_search_is_read_changed_and_forgotten_and_survives_a_restart(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    collector.start()
    key = collector.new_tenant("saver")
    assert ask(collector, key, "GET").body == {"searches": []}
    made = ask(collector, key, "POST", body=SAVED)
    assert made.status == 201, made
    search_id = made.body["search"]["id"]
    assert {name: made.body["search"][name] for name in SAVED} == SAVED
    other = ask(collector, key, "POST", body={"name": "All"}).body["search"]
    changed = {**SAVED, "name": "Another", "query": {}}
    put = ask(collector, key, "PUT", f"/{search_id}", changed).body["search"]
    assert {name: put[name] for name in SAVED} == changed
    assert put["created"] == made.body["search"]["created"] < put["updated"]
    collector.kill()
    collector.start()
    assert ask(collector, key, "GET").body == {"searches": [other, put]}
    assert ask(collector, key, "GET", f"/{search_id}").body == {"search": put}
    assert ask(collector, key, "DELETE", f"/{search_id}").body == {"success": True, "id": search_id, "deleted": True}
    for method, body in (("GET", None), ("PUT", SAVED), ("DELETE", None)):
        assert ask(collector, key, method, f"/{search_id}", body).status == 404
    assert ask(collector, key, "GET").body == {"searches": [other]}
    assert ask(collector, key, "POST", body={"name": "Another"}).status == 201  # the name is free again
    collector.kill()


def test_a_name_is_given_once_in_a_tenant(collector: Collector, key: str) -> None:
    first = ask(collector, key, "POST", body={"name": "one"}).body["search"]
    second = ask(collector, key, "POST", body={"name": "two"}).body["search"]
    assert ask(collector, key, "POST", body={"name": " one "}).status == 409
    refused = ask(collector, key, "PUT", f"/{second['id']}", {"name": "one"})
    assert (refused.status, refused.body["error"]["code"]) == (409, "conflict")
    assert ask(collector, key, "PUT", f"/{first['id']}", {"name": "one", "columns": ["service"]}).status == 200
    assert ask(collector, collector.new_tenant("stranger"), "POST", body={"name": "one"}).status == 201


def test_a_strangers_search_is_not_there(collector: Collector, key: str) -> None:
    made = ask(collector, key, "POST", body={"name": "mine"}).body["search"]
    stranger = collector.new_tenant("another stranger")
    for method, body in (("GET", None), ("PUT", SAVED), ("DELETE", None)):
        answer = ask(collector, stranger, method, f"/{made['id']}", body)
        assert (answer.status, "mine" in str(answer.body)) == (404, False)
    assert ask(collector, stranger, "GET").body == {"searches": []}
    assert ask(collector, key, "GET", f"/{made['id']}").body["search"] == made


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"query": {"colour": "red"}}, "query.colour"),
        ({"query": {"severity": "loud"}}, "query.severity"),
        ({"query": {"limit": 0}}, "query.limit"),
        ({"query": {"limit": [1, 2]}}, "query.limit"),
        ({"query": {"cursor": "x"}}, "query.cursor"),
        ({"query": {"service": {"is": "shop"}}}, "query.service"),
        ({"query": {"service": [["shop"]]}}, "query.service"),
        ({"query": {"attr.a": ["x" * 4000] * 5}}, "query"),
        ({"columns": ["service", "sevrity"]}, "columns[1]"),
        ({"columns": ["service"] * 101}, "columns"),
        ({"colour": "red"}, "colour"),
        ({"query": []}, "query"),
    ],
)
def test_what_could_not_be_asked_is_not_saved_and_is_named(
    collector: Collector, key: str, changed: dict[str, Any], field: str
) -> None:
    answer = ask(collector, key, "POST", body={**SAVED, **changed})
    assert (answer.status, [fault["field"] for fault in answer.body["error"]["errors"]]) == (422, [field])


def test_a_key_needs_the_scope_search(collector: Collector) -> None:
    collector.new_tenant("scoped", slug="scoped")
    made = collector.request(
        "POST",
        "/api/v1/tenants/scoped/keys",
        body=b'{"scopes": ["ingest"]}',
        headers={"X-Admin-Token": ADMIN_TOKEN},
    )
    ingesting = made.body["api_key"]
    for method, path, body in (("GET", "", None), ("POST", "", SAVED), ("PUT", "/x", SAVED), ("DELETE", "/x", None)):
        assert ask(collector, ingesting, method, path, body).status == 403


def test_there_is_a_bound_on_their_number(embedded: Home, owner: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "MAX_SEARCHES", 2)

    async def run() -> None:
        async with embedded.store() as store:
            asking = Asking(store, owner.tenant_id)
            rows = [await searches.add(asking.run, store, owner.tenant_id, SavedBody(name)) for name in "ab"]
            with pytest.raises(searches.Conflict, match="2 searches are saved"):
                await searches.add(asking.run, store, owner.tenant_id, SavedBody("c"))
            await searches.remove(asking.run, store, owner.tenant_id, rows[0].search_id)
            await searches.add(asking.run, store, owner.tenant_id, SavedBody("c"))

    asyncio.run(run())


def test_of_two_collectors_at_once_the_last_change_stands_and_no_search_is_lost(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            asking, tenant_id = Asking(store, owner.tenant_id), owner.tenant_id
            row = await searches.add(asking.run, store, tenant_id, SavedBody("first"))
            made = await asyncio.gather(*(searches.add(asking.run, store, tenant_id, SavedBody(f"n{n}")) for n in range(5)))
            bodies = [SavedBody(f"changed {n}", {"q": f"word{n}"}, ["service"] * n) for n in range(4)]
            changed = await asyncio.gather(
                *(searches.change(asking.run, store, tenant_id, row.search_id, body) for body in bodies)
            )
            last = max(changed, key=lambda one: one.version)
            found = {kept.search_id: kept for kept in await searches.all_of(asking.run, tenant_id)}
            assert found == {one.search_id: one for one in (*made, last)}

    asyncio.run(run())
