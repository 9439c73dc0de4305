"""Tenants and keys over HTTP, with a real collector: who may what, and when it counts."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from collector.tenants import tenants
from tests.support.collector import ADMIN_TOKEN, Answer, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

ADMIN = {"X-Admin-Token": ADMIN_TOKEN}
COUNTS_WITHIN_S = 5.0
SEARCH = "/api/v1/ingestion/events/search"
RATE_LIMIT = "/api/v1/ingestion/rate-limit"

_names = count(1)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(
        tmp_path_factory.mktemp("collector"), more="default_limits: {retention_days: 14, events_per_minute: 12345}"
    ) as running:
        yield running


class Owner:
    """A tenant of a test's own."""

    def __init__(self, collector: Collector, **more: Any) -> None:
        self.slug = f"owner-{next(_names)}"
        self.path = f"/api/v1/tenants/{self.slug}"
        self.key = collector.new_tenant(self.slug, **more)


@pytest.fixture
def owner(collector: Collector) -> Owner:
    return Owner(collector)


def ask(collector: Collector, method: str, path: str, body: object = None, **how: Any) -> Answer:
    sent = None if body is None else json.dumps(body).encode()
    return collector.request(method, path, body=sent, **how)


def made(answer: Answer) -> Any:
    assert answer.status == 201, answer
    return answer.body


def done(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.body


def refused(answer: Answer, status: int, code: str) -> str:
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
    return str(answer.body["error"]["message"])


def fields(answer: Answer) -> list[str]:
    refused(answer, 422, "invalid")
    return [fault["field"] for fault in answer.body["error"]["errors"]]


def register(collector: Collector, **body: Any) -> Answer:
    return ask(collector, "POST", "/api/v1/auth/register/tenant", body, headers=ADMIN)


# Registration and change.


def test_what_a_registration_leaves_out_comes_from_the_configuration(collector: Collector) -> None:
    limits = made(register(collector, name="plain one", contact_email="ops@example.com"))["tenant"]["limits"]
    assert (limits["retention_days"], limits["events_per_minute"], limits["events_per_month"]) == (14, 12345, 0)


def test_the_short_names_of_limits_are_accepted_beside_limits(collector: Collector) -> None:
    body = made(
        register(
            collector,
            name="short names",
            slug="short-names",
            contact_email="ops@example.com",
            rate_limit_per_minute=100,
            rate_limit_burst=50,
            max_events_per_month=1000,
            limits={"on_limit": "refuse"},
        )
    )
    limits = body["tenant"]["limits"]
    assert (limits["events_per_minute"], limits["events_burst"], limits["events_per_month"]) == (100, 50, 1000)
    assert (limits["on_limit"], limits["retention_days"]) == ("refuse", 14)
    assert tenants.KEY_PATTERN.fullmatch(body["api_key"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "slug": "Not A Slug"}, "slug"),
        ({"name": "x", "contact_email": "nobody"}, "contact_email"),
        ({"name": "x", "rate_limit_per_minute": 0}, "rate_limit_per_minute"),
        ({"name": "x", "limits": {"events_per_minute": "many"}}, "limits.events_per_minute"),
        ({"name": "x", "limits": {"events_per_hour": 1}}, "limits.events_per_hour"),
        ({"name": "x", "rate_limit_burst": 5, "limits": {"events_burst": 6}}, "rate_limit_burst"),
        ({"name": "x", "color": "red"}, "color"),
    ],
)
def test_a_registration_that_is_wrong_names_the_field(collector: Collector, body: dict[str, Any], field: str) -> None:
    assert fields(register(collector, **body)) == [field]


def test_a_slug_that_is_taken_is_a_conflict(collector: Collector, owner: Owner) -> None:
    assert owner.slug in refused(register(collector, name="other", slug=owner.slug), 409, "conflict")


def test_a_change_changes_what_it_names_and_nothing_else(collector: Collector, owner: Owner) -> None:
    before = done(ask(collector, "GET", owner.path, headers=ADMIN))["tenant"]
    after = done(ask(collector, "PATCH", owner.path, {"limits": {"retention_days": 90}, "name": "New"}, headers=ADMIN))[
        "tenant"
    ]
    assert after == {**before, "name": "New", "limits": {**before["limits"], "retention_days": 90}}
    assert done(ask(collector, "GET", owner.path, headers=ADMIN))["tenant"] == after


def test_a_change_that_is_wrong_names_the_field_and_changes_nothing(collector: Collector, owner: Owner) -> None:
    before = done(ask(collector, "GET", owner.path, headers=ADMIN))
    wrong = ask(collector, "PATCH", owner.path, {"name": "New", "limits": {"retention_days": 0}}, headers=ADMIN)
    assert fields(wrong) == ["limits.retention_days"]
    assert done(ask(collector, "GET", owner.path, headers=ADMIN)) == before


def test_a_deleted_tenant_is_disabled_keeps_its_events_and_can_come_back(collector: Collector, owner: Owner) -> None:
    assert collector.post(owner.key, record(b"kept\n")).status == 200
    for _ in range(2):
        assert done(ask(collector, "DELETE", owner.path, headers=ADMIN))["tenant"]["disabled"] is True
    refused(collector.post(owner.key, record(b"late\n")), 403, "tenant_disabled")
    done(ask(collector, "PATCH", owner.path, {"disabled": False}, headers=ADMIN))
    assert [event["message"] for event in collector.search(owner.key)["events"]] == ["kept"]


def test_a_tenant_that_is_not_there_is_said_to_be_so(collector: Collector) -> None:
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("DELETE", "/keys/x"),
    ):
        refused(ask(collector, method, f"/api/v1/tenants/nobody{path}", headers=ADMIN), 404, "not_found")


# Keys.


def test_a_key_may_do_what_its_scopes_say_and_no_more(collector: Collector, owner: Owner) -> None:
    def key_with(*scopes: str) -> str:
        return str(made(ask(collector, "POST", f"{owner.path}/keys", {"scopes": scopes}, headers=ADMIN))["api_key"])

    ingest, search, admin = key_with("ingest"), key_with("search"), key_with("admin")
    assert collector.post(ingest, record(b"a\n")).status == 200
    refused(collector.request("GET", SEARCH, key=ingest), 403, "forbidden")
    assert collector.request("GET", SEARCH, key=search).status == 200
    refused(collector.post(search, record(b"b\n")), 403, "forbidden")
    refused(ask(collector, "GET", owner.path, key=search), 403, "forbidden")
    assert done(ask(collector, "GET", owner.path, key=admin))["tenant"]["slug"] == owner.slug
    refused(collector.post(admin, record(b"c\n")), 403, "forbidden")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "ingest"}, "scopes"),
        ({"expires": "2001-01-01T00:00:00Z"}, "expires"),
        ({"expires": "soon"}, "expires"),
        ({"name": "x" * 201}, "name"),
        ({"scope": "ingest"}, "scope"),
    ],
)
def test_a_key_that_cannot_be_made_names_the_field(
    collector: Collector, owner: Owner, body: dict[str, Any], field: str
) -> None:
    assert fields(ask(collector, "POST", f"{owner.path}/keys", body, headers=ADMIN)) == [field]


def test_a_key_is_shown_once_and_then_only_what_it_may(collector: Collector, owner: Owner) -> None:
    body = {"name": "agents", "scopes": ["ingest"], "expires": "2099-01-31T00:00:00Z"}
    new = made(ask(collector, "POST", f"{owner.path}/keys", body, headers=ADMIN))
    listed = collector.request("GET", f"{owner.path}/keys", headers=ADMIN)
    (shown,) = [key for key in done(listed)["keys"] if key["key_id"] == new["key"]["key_id"]]
    assert (shown["name"], shown["scopes"], shown["expires"]) == ("agents", ["ingest"], "2099-01-31T00:00:00Z")
    assert (shown["revoked"], shown["last_used"]) == (False, None)
    text = json.dumps(listed.body)
    assert new["api_key"] not in text
    assert tenants.hash_of(new["api_key"]) not in text


def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(collector: Collector, owner: Owner) -> None:
    key_id = owner.key.split("_")[1]
    assert collector.post(owner.key, record(b"a\n")).status == 200
    for _ in range(2):
        assert done(ask(collector, "DELETE", f"{owner.path}/keys/{key_id}", headers=ADMIN))["key"]["revoked"] is True
    assert "was revoked" in refused(collector.post(owner.key, record(b"b\n")), 401, "unauthorized")
    refused(ask(collector, "POST", f"{owner.path}/keys/{key_id}/rotate", headers=ADMIN), 409, "conflict")


def test_two_keys_work_while_they_overlap_and_the_old_one_ends_by_itself(collector: Collector, owner: Owner) -> None:
    rotation = f"{owner.path}/keys/{owner.key.split('_')[1]}/rotate"
    fresh = made(ask(collector, "POST", rotation, {"overlap_s": 2}, headers=ADMIN))
    assert fresh["key"]["scopes"] == ["ingest", "search", "delete"]
    for key in (owner.key, fresh["api_key"]):
        assert collector.post(key, record(b"a\n")).status == 200
    until(lambda: collector.request("GET", RATE_LIMIT, key=owner.key).status == 401, "the old key has ended")
    assert "has expired" in refused(collector.post(owner.key, record(b"b\n")), 401, "unauthorized")
    assert collector.post(fresh["api_key"], record(b"b\n")).status == 200


def test_a_key_of_a_tenant_manages_its_own_keys_and_name_but_not_its_limits(collector: Collector, owner: Owner) -> None:
    admin = made(ask(collector, "POST", f"{owner.path}/keys", {"scopes": ["admin"]}, headers=ADMIN))["api_key"]
    new = made(ask(collector, "POST", f"{owner.path}/keys", {"scopes": ["search"]}, key=admin))
    assert done(ask(collector, "DELETE", f"{owner.path}/keys/{new['key']['key_id']}", key=admin))["key"]["revoked"]
    assert done(ask(collector, "PATCH", owner.path, {"name": "Mine"}, key=admin))["tenant"]["name"] == "Mine"
    for change in ({"limits": {"events_per_minute": 10**9}}, {"max_events_per_month": 0}, {"disabled": True}):
        refused(ask(collector, "PATCH", owner.path, change, key=admin), 403, "forbidden")
    refused(ask(collector, "DELETE", owner.path, key=admin), 403, "forbidden")
    refused(ask(collector, "GET", "/api/v1/tenants", key=admin), 401, "unauthorized")


def test_to_a_key_another_tenant_is_not_there(collector: Collector, owner: Owner) -> None:
    other = Owner(collector)
    admin = made(ask(collector, "POST", f"{owner.path}/keys", {"scopes": ["admin"]}, headers=ADMIN))["api_key"]
    key_id = other.key.split("_")[1]
    nobody = refused(ask(collector, "GET", "/api/v1/tenants/nobody", key=admin), 404, "not_found")
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "Taken"}),
        ("DELETE", "", None),
        ("GET", "/keys", None),
        ("POST", "/keys", {"scopes": ["admin"]}),
        ("POST", f"/keys/{key_id}/rotate", {}),
        ("DELETE", f"/keys/{key_id}", None),
    ):
        said = refused(ask(collector, method, other.path + path, body, key=admin), 404, "not_found")
        assert said.replace(other.slug, "nobody") == nobody
    refused(ask(collector, "DELETE", f"{owner.path}/keys/{key_id}", key=admin), 404, "not_found")
    assert collector.post(other.key, record(b"a\n")).status == 200


def test_without_a_credential_nothing_is_told(collector: Collector, owner: Owner) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/keys"), ("POST", "/keys")):
        refused(ask(collector, method, owner.path + path, body={"x": 1}), 401, "unauthorized")
        wrong = {"X-Admin-Token": "not the admin token"}
        refused(ask(collector, method, owner.path + path, body={"x": 1}, headers=wrong, key=owner.key), 401, "unauthorized")


def test_when_a_key_was_used_last_is_known_after_a_restart(tmp_path: Path) -> None:
    with Collector(tmp_path) as first:
        owner = Owner(first)
        assert first.post(owner.key, record(b"a\n")).status == 200
        assert first.stop() == 0
        first.start()
        (key,) = done(ask(first, "GET", f"{owner.path}/keys", headers=ADMIN))["keys"]
        assert key["last_used"] >= key["created"]


# Several collectors, and the file.


def test_what_changes_on_one_collector_counts_on_the_other_within_seconds(tmp_path: Path) -> None:
    with (
        ClickHouseFront(tmp_path / "engine") as engine,
        Collector(tmp_path / "one", store=engine.url) as one,
        Collector(tmp_path / "two", store=engine.url) as two,
    ):
        owner = Owner(one)
        key_id = owner.key.split("_")[1]
        assert done(ask(two, "GET", RATE_LIMIT, key=owner.key))["limits"]["retention_days"] == 30

        done(ask(one, "PATCH", owner.path, {"limits": {"retention_days": 7}}, headers=ADMIN))
        began = time.monotonic()
        until(
            lambda: done(ask(two, "GET", RATE_LIMIT, key=owner.key))["limits"]["retention_days"] == 7,
            "the limit counts on the other collector",
        )
        assert time.monotonic() - began < COUNTS_WITHIN_S

        done(ask(one, "DELETE", f"{owner.path}/keys/{key_id}", headers=ADMIN))
        began = time.monotonic()
        until(lambda: two.request("GET", RATE_LIMIT, key=owner.key).status == 401, "the key is refused by the other collector")
        assert time.monotonic() - began < COUNTS_WITHIN_S


def test_tenants_of_the_file_are_what_the_file_says(tmp_path: Path) -> None:
    first, second = tenants.new_key()[0], tenants.new_key()[0]

    def write(text: str) -> None:
        (tmp_path / "tenants.new").write_text(text)
        (tmp_path / "tenants.new").rename(tmp_path / "tenants.yaml")

    def entry(slug: str, key: str, days: int) -> str:
        limits, hashed = f"{{retention_days: {days}}}", tenants.hash_of(key)
        return f"  - {{slug: {slug}, limits: {limits}, keys: [{{scopes: [ingest, search], key_sha256: {hashed}}}]}}\n"

    write("tenants:\n" + entry("blue", first, 7))
    with Collector(tmp_path / "c", more=f"tenants_file: {tmp_path}/tenants.yaml") as running:

        def status(key: str) -> int:
            return running.request("GET", RATE_LIMIT, key=key).status

        assert done(ask(running, "GET", RATE_LIMIT, key=first))["limits"]["retention_days"] == 7
        refused(ask(running, "PATCH", "/api/v1/tenants/blue", {"name": "x"}, headers=ADMIN), 409, "conflict")

        write("tenants:\n" + entry("blue", second, 9))
        until(lambda: status(second) == 200, "the new key works")
        until(lambda: status(first) == 401, "the key that left the file is revoked")
        assert done(ask(running, "GET", RATE_LIMIT, key=second))["limits"]["retention_days"] == 9

        write("tenants: [{slug: NO}]\n")
        until(lambda: "is not applied" in running.stderr.read_text(), "the fault is told")
        assert status(second) == 200

        write("tenants:\n" + entry("green", first.replace("a", "b"), 9))
        until(lambda: status(second) == 403, "the tenant that left the file is disabled")


def test_a_tenants_file_with_a_fault_ends_the_start_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text("tenants:\n  - {slug: blue, keys: [{key_sha256: abc}]}\n")
    with pytest.raises(RuntimeError, match=r"tenants\[0\].keys"):
        Collector(tmp_path / "c", more=f"tenants_file: {tmp_path}/tenants.yaml").start()
