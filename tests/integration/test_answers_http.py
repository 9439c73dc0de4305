"""What holds for every endpoint: the budget headers, and no parameter is passed over. Real collector, real engine."""

from __future__ import annotations

import http.client
import importlib.util
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from collector.api import paths
from collector.api.paths import ADMIN, KEY, Operation
from tests.support.collector import ADMIN_TOKEN, Answer, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.events import body, event, named

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
BATCH = f"{EVENTS}/batch"
TOKEN = {"X-Admin-Token": ADMIN_TOKEN}
JSON = {"Content-Type": "application/json"}
RUN = {"Content-Type": wire.RUN_TYPE}
ALL_SCOPES = ["ingest", "search", "delete", "admin"]
BUDGET = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
FOR_TENANTS = [operation for operation in paths.OPERATIONS if operation.credential == KEY or operation.scope]

_numbers = count(1)


class Owner:
    """A tenant of a test's own, with a key for each set of scopes."""

    def __init__(self, collector: Collector, **limits: Any) -> None:
        self.collector = collector
        self.slug = f"owner-{next(_numbers)}"
        self.first_key = collector.new_tenant(self.slug, slug=self.slug, limits=limits)
        self.key = self.key_for(*ALL_SCOPES)

    def key_for(self, *scopes: str) -> str:
        made = self.collector.request("POST", f"/api/v1/tenants/{self.slug}/keys", body=body({"scopes": scopes}), headers=TOKEN)
        assert made.status == 201, made
        return str(made.body["api_key"])

    def ask(self, method: str, path: str, sent: bytes | None = None, *, key: str = "", **headers: str) -> Answer:
        named_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.collector.request(method, path, key=key or self.key, body=sent, headers=named_headers)

    def path_of(self, operation: Operation) -> str:
        return operation.path.format(slug=self.slug, event_id="an-event", key_id="0badc0de", search_id="0badc0de")


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(collector: Collector) -> Owner:
    return Owner(collector)


def says_budget(answer: Answer, status: int, code: str = "") -> None:
    """The answer is this one, and says what is left of the budget."""
    assert answer.status == status, answer
    if code:
        assert answer.body["error"]["code"] == code, answer
    assert all(int(answer.headers[name]) >= 0 for name in BUDGET), answer


def says_no_budget(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert [name for name in BUDGET if name in answer.headers] == []


# The budget of every answer.


@pytest.mark.parametrize("operation", [op for op in FOR_TENANTS if op.scope], ids=lambda operation: operation.name)
def test_a_key_without_the_scope_is_told_its_tenants_budget_all_the_same(operation: Operation, owner: Owner) -> None:
    key = owner.key_for(*(scope for scope in ALL_SCOPES if scope != operation.scope))
    says_budget(owner.ask(operation.method.upper(), owner.path_of(operation), b"{}", key=key, **JSON), 403, "forbidden")


@pytest.mark.parametrize("operation", FOR_TENANTS, ids=lambda operation: operation.name)
def test_a_wrong_parameter_is_named_beside_the_budget(operation: Operation, owner: Owner) -> None:
    path = f"{owner.path_of(operation)}?colour=red"
    says_budget(owner.ask(operation.method.upper(), path, b"{}", **JSON), 422, "invalid")


@pytest.mark.parametrize("operation", FOR_TENANTS, ids=lambda operation: operation.name)
def test_who_has_no_key_is_told_nothing(operation: Operation, owner: Owner) -> None:
    path = f"{owner.path_of(operation)}?colour=red"
    for key in ("none", "ps_00000000_" + "A" * 43):
        says_no_budget(owner.ask(operation.method.upper(), path, b"{}", key=key, **JSON), 401)


@pytest.mark.parametrize("operation", FOR_TENANTS, ids=lambda operation: operation.name)
def test_a_disabled_tenant_is_told_its_budget(operation: Operation, collector: Collector) -> None:
    owner = Owner(collector)
    assert collector.request("DELETE", f"/api/v1/tenants/{owner.slug}", headers=TOKEN).status == 200
    answer = owner.ask(operation.method.upper(), owner.path_of(operation), b"{}", **JSON)
    says_budget(answer, 403, "tenant_disabled")


@pytest.mark.parametrize(
    ("method", "path", "sent", "headers", "status", "code"),
    [
        ("POST", EVENTS, b"{", JSON, 400, "bad_request"),
        ("POST", BATCH, b"{", JSON, 400, "bad_request"),
        ("POST", wire.BLOCKS_PATH, b"x", RUN, 400, "bad_record"),
        ("POST", EVENTS, b"{}", JSON, 422, "invalid"),
        ("POST", EVENTS, body(named(timestamp=0)), JSON, 422, "expired"),
        ("POST", EVENTS, body(event()), {**JSON, "Idempotency-Key": "x" * 256}, 422, "invalid"),
        ("POST", BATCH, b'{"events": []}', JSON, 422, "invalid"),
        ("POST", BATCH, b'{"events": [{}]}', JSON, 200, ""),
        ("POST", EVENTS, body(named(message="x" * 2000)), JSON, 413, "too_large"),
        ("POST", EVENTS, b" " * 9000, JSON, 413, "too_large"),
        ("POST", BATCH, body({"events": [event()] * 4}), JSON, 413, "too_large"),
        ("POST", BATCH, b" " * 9000, JSON, 413, "too_large"),
        ("POST", wire.BLOCKS_PATH, b" " * 9000, RUN, 413, "too_large"),
        ("PATCH", "/api/v1/tenants/{slug}", b" " * 100_000, JSON, 413, "too_large"),
        ("POST", EVENTS, b"", {"Content-Type": "text/xml"}, 415, "unsupported_content_type"),
        ("POST", BATCH, b"", {"Content-Type": "text/xml"}, 415, "unsupported_content_type"),
        ("POST", BATCH, b"{}", {**JSON, "Content-Encoding": "br"}, 415, "unsupported_content_type"),
        ("POST", wire.BLOCKS_PATH, b"", JSON, 415, "unsupported_content_type"),
        ("POST", wire.BLOCKS_PATH, record(b"x\n"), {**RUN, wire.TENANT_HEADER: "another"}, 403, "forbidden"),
        ("GET", f"{EVENTS}/never", None, {}, 404, "not_found"),
        ("DELETE", f"{EVENTS}/never", None, {}, 404, "not_found"),
        ("GET", "/api/v1/tenants/another", None, {}, 404, "not_found"),
        ("DELETE", "/api/v1/tenants/{slug}/keys/0badc0de", None, {}, 404, "not_found"),
        ("DELETE", "/api/v1/tenants/{slug}", None, {}, 403, "forbidden"),
        ("PATCH", "/api/v1/tenants/{slug}", b'{"nickname": 1}', JSON, 422, "invalid"),
        ("GET", f"{EVENTS}/types", None, {}, 200, ""),
    ],
)
def test_every_kind_of_answer_says_what_is_left(
    collector: Collector, method: str, path: str, sent: bytes | None, headers: dict[str, str], status: int, code: str
) -> None:
    owner = Owner(collector, max_event_bytes=1500, max_request_bytes=8000, max_batch_events=3)
    answer = collector.request(method, path.format(slug=owner.slug), key=owner.key, body=sent, headers=headers)
    says_budget(answer, status, code)


def test_a_used_up_budget_is_told_to_every_kind_of_sender(collector: Collector) -> None:
    owner = Owner(collector, events_per_minute=1, events_burst=1)
    assert owner.ask("POST", EVENTS, body(named()), **JSON).status == 200
    says_budget(owner.ask("POST", EVENTS, body(named()), **JSON), 429, "rate_limited")
    says_budget(owner.ask("POST", BATCH, body({"events": [named(), named()]}), **JSON), 429, "rate_limited")
    assert collector.post(owner.key, record(b"a\nb\n")).status == 200  # on credit
    says_budget(collector.post(owner.key, record(b"c\n", base_offset=4096)), 429, "rate_limited")


def test_a_used_up_month_is_told_beside_the_budget(collector: Collector) -> None:
    owner = Owner(collector, events_per_month=1)
    assert owner.ask("POST", EVENTS, body(named()), **JSON).status == 200
    answer = owner.ask("POST", EVENTS, body(named()), **JSON)
    says_budget(answer, 429, "monthly_quota")
    assert answer.headers["X-RateLimit-Remaining"] == "0"


def test_one_request_too_many_at_once_is_told_the_budget(collector: Collector) -> None:
    owner = Owner(collector, concurrent_requests=1)
    under_way = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=30)
    raw = body(named())
    under_way.putrequest("POST", EVENTS)
    for name, value in {"X-API-Key": owner.key, **JSON, "Content-Length": str(len(raw)), "Expect": "100-continue"}.items():
        under_way.putheader(name, value)
    under_way.endheaders()
    assert under_way.sock.recv(12) == b"HTTP/1.1 100"  # its handler has begun, and waits for the body
    try:
        says_budget(owner.ask("GET", f"{EVENTS}/types"), 429, "too_many_requests")
    finally:
        under_way.close()


def test_without_the_engine_a_known_key_is_told_the_budget_and_an_unknown_one_nothing(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "data") as front, Collector(tmp_path / "one", store=front.url) as collector:
        owner = Owner(collector)
        assert owner.ask("GET", f"{EVENTS}/types").status == 200
        front.kill()
        says_budget(owner.ask("POST", EVENTS, body(named()), **JSON), 503, "store_unavailable")
        says_budget(owner.ask("GET", f"{EVENTS}/search"), 503, "store_unavailable")
        says_no_budget(owner.ask("GET", f"{EVENTS}/search", key="ps_00000000_" + "A" * 43), 503)


# Parameters that are not there.


@pytest.mark.parametrize("operation", paths.OPERATIONS, ids=lambda operation: operation.name)
def test_a_parameter_that_is_not_known_is_named_everywhere(operation: Operation, owner: Owner) -> None:
    headers = {ADMIN: TOKEN, KEY: {"X-API-Key": owner.key}}.get(operation.credential, {})
    path = owner.path_of(operation)
    for query in ("colour=red", "colour", "Limit=1", "limit%00=1", "dry-run=1&dry-run=1"):
        answer = owner.collector.request(operation.method.upper(), f"{path}?{query}", body=b"{}", headers={**JSON, **headers})
        assert (answer.status, answer.body["error"]["code"]) == (422, "invalid"), answer
        field = answer.body["error"]["errors"][0]["field"]
        assert field == query.partition("=")[0].replace("%00", "\ufffd")
        assert field in answer.body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("POST", f"{EVENTS}?dry_run=perhaps", "dry_run"),
        ("POST", f"{EVENTS}?dry_run=", "dry_run"),
        ("POST", f"{EVENTS}?results=all", "results"),
        ("POST", f"{BATCH}?results=some", "results"),
        ("POST", f"{BATCH}?dry_run=true&dry_run=false", "dry_run"),
        ("GET", f"{EVENTS}/search?limit=%FF", "limit"),
        ("GET", "/api/v1/ingestion/stats?limit=5", "limit"),
        ("GET", "/api/v1/ingestion/stats?status_code=x", "status_code"),
        ("GET", "/api/v1/ingestion/outcomes?start_time=x", "start_time"),
        ("GET", "/api/v1/ingestion/outcomes?service=shop", "service"),
    ],
)
def test_a_parameter_that_means_nothing_is_named(owner: Owner, method: str, path: str, field: str) -> None:
    answer = owner.ask(method, path, b"{}", **JSON)
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{EVENTS}/%FF"),
        ("DELETE", f"{EVENTS}/%FF%00"),
        ("GET", f"{EVENTS}/{'x' * 5000}"),
        ("GET", "/api/v1/tenants/%FF"),
        ("DELETE", "/api/v1/tenants/{slug}/keys/%FF"),
        ("POST", "/api/v1/tenants/{slug}/keys/%FF/rotate"),
    ],
)
def test_a_name_in_a_path_that_nothing_can_have_is_not_found(owner: Owner, method: str, path: str) -> None:
    sent = {"sent": b"{}"} if method == "POST" else {}
    says_budget(owner.ask(method, path.format(slug=owner.slug), **sent, **JSON), 404, "not_found")  # type: ignore[arg-type]
    if "tenants" in path:
        answer = owner.collector.request(method, path.format(slug=owner.slug), headers={**TOKEN, **JSON})
        assert answer.status == 404, answer


@pytest.mark.parametrize("raw", [b'{"name": "\xff"}', b'{"limits": {"x": ' + b"[" * 60_000, b'{"name": "\\ud83d"}', b"\xff"])
def test_a_body_about_tenants_that_is_no_json_is_refused(owner: Owner, raw: bytes) -> None:
    answer = owner.ask("PATCH", f"/api/v1/tenants/{owner.slug}", raw, **JSON)
    says_budget(answer, 400, "bad_request")
