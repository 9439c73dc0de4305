"""No way from one tenant to another: every operation, with a stranger's key and all it could know or make up.

Alpha keeps something that no request ever says (`SECRET`) wherever a tenant can keep anything. Beta, with a key of every
scope, knows Alpha's slug, tenant ID, key ID, event IDs, agents and cursors. Nothing Beta is answered has the secret in it,
and nothing Beta does changes what Alpha sees.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import codec, wire
from collector.api import paths
from collector.api.paths import Operation
from collector.search import query
from tests.support.collector import ADMIN_TOKEN, Answer, Collector, record

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

SECRET = "zanzibar-7731"
EXAMPLES = 25
SHARED = "an-id-of-both"
INGESTION = "/api/v1/ingestion"
REGISTER = "/api/v1/auth/register/tenant"
SEARCHES = f"{INGESTION}/searches"
BATCH = f"{INGESTION}/events/batch"
OPERATIONS = [operation for operation in paths.OPERATIONS if operation.credential]
LIMITS = {"events_per_minute": 10_000_000, "concurrent_queries": 100, "concurrent_requests": 1000}


class World(NamedTuple):
    collector: Collector
    alpha: str
    """Alpha's key; Beta never uses it."""
    beta: str
    known: tuple[str, ...]
    """What Beta knows of Alpha."""


class Request(NamedTuple):
    path: str
    body: bytes | None
    headers: dict[str, str]


def secret_event(event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "event_type": "api_call",
        "title": SECRET,
        "message": f"words of {SECRET}",
        "source": {"service": SECRET, "endpoint": f"/{SECRET}", "method": "GET", "name": SECRET},
        "context": {"user_id": SECRET, "tags": [SECRET]},
        "attributes": {SECRET: SECRET},
        "payload": {SECRET: SECRET},
    }


def admin(collector: Collector, method: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    answer = collector.request(method, path, body=data, headers={"X-Admin-Token": ADMIN_TOKEN})
    assert answer.status < 300, answer
    return answer.body


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Collector(tmp_path_factory.mktemp("collector")) as collector:
        email = f"a@{SECRET}.example"
        alpha = admin(collector, "POST", REGISTER, {"name": "Alpha", "contact_email": email, "limits": LIMITS})
        admin(collector, "POST", REGISTER, {"name": "Beta", "limits": LIMITS})
        scopes = ["ingest", "search", "delete", "admin"]
        beta = admin(collector, "POST", "/api/v1/tenants/beta/keys", {"name": "all", "scopes": scopes})["api_key"]
        admin(collector, "POST", "/api/v1/tenants/alpha/keys", {"name": SECRET, "scopes": ["ingest"]})
        yield World(collector, alpha["api_key"], beta, fill(collector, alpha))


def fill(collector: Collector, alpha: Any) -> tuple[str, ...]:
    """Give Alpha something to keep; returns what Beta knows of it."""
    key = alpha["api_key"]
    names = ["alpha-1", "alpha-2", SHARED]
    body = json.dumps({"events": [secret_event(name) for name in names]}).encode()
    assert collector.request("POST", BATCH, key=key, body=body, headers={"Content-Type": "application/json"}).status == 200
    line = f"a line of {SECRET}".encode()
    assert collector.post(key, record(line, path=f"/{SECRET}", labels={SECRET: SECRET}, agent=SECRET)).status == 200
    loss = wire.Loss("alpha-loss", f"/{SECRET}", SECRET, "quarantined", 5, False, 0, "", time.time_ns())
    for kind, raw, events in (
        (wire.LOSS, wire.encode_losses((loss,)), 1),
        (wire.HEARTBEAT, wire.encode_heartbeat(wire.Heartbeat(version=SECRET, sending=SECRET)), 0),
    ):
        header = wire.Header(kind, f"alpha-{kind}", agent="alpha-agent", scope=SECRET, raw_bytes=len(raw), events=events)
        assert collector.post(key, wire.encode_record(header, codec.compress(raw))).status == 200
    saved = json.dumps({"name": SECRET, "query": {"q": SECRET}, "columns": [f"attr.{SECRET}"]}).encode()
    made = collector.request("POST", SEARCHES, key=key, body=saved, headers={"Content-Type": "application/json"})
    assert made.status == 201, made
    found = collector.search(key, limit=1)
    ids = [shown["event_id"] for shown in collector.search(key)["events"]]
    key_ids = [kept["key_id"] for kept in admin(collector, "GET", "/api/v1/tenants/alpha/keys")["keys"]]
    return (alpha["tenant"]["tenant_id"], "alpha", found["next_cursor"], made.body["search"]["id"], *key_ids, *ids)


def seen_by_alpha(world: World) -> Any:
    """All that Alpha sees of itself that does not move by itself."""
    collector = world.collector
    stats = collector.request("GET", f"{INGESTION}/stats", key=world.alpha).body
    outcomes = collector.request("GET", f"{INGESTION}/outcomes", key=world.alpha).body
    agents = collector.request("GET", f"{INGESTION}/agents", key=world.alpha).body["agents"]
    keys = admin(collector, "GET", "/api/v1/tenants/alpha/keys")["keys"]
    return (
        collector.search(world.alpha)["events"],
        stats["events"],
        stats["losses"],
        outcomes["outcomes"],
        outcomes["losses"],
        [(agent["agent"], agent["version"]) for agent in agents],
        collector.request("GET", SEARCHES, key=world.alpha).body,
        collector.request("GET", f"{INGESTION}/rate-limit", key=world.alpha).body["month"]["used"],
        admin(collector, "GET", "/api/v1/tenants/alpha"),
        [(kept["key_id"], kept["revoked"], kept["expires"]) for kept in keys],
    )


def forged(cursor: str, check: bytes) -> str:
    """Alpha's cursor with another check."""
    fields = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([*fields[:-1], check])).rstrip(b"=").decode()


def requests(operation: Operation, known: tuple[str, ...]) -> st.SearchStrategy[Request]:
    tenant_id, slug, cursor = known[:3]
    knows = st.sampled_from(known)
    made_up = st.sampled_from(["*", "%", "", "' OR 1=1 --", f"{tenant_id}' OR '1'='1", "{tenant:String}", "../alpha", "\x00"])
    useful = st.sampled_from(["service", "message,title", "attr.tenant_id", "1d", "20"])
    value = st.one_of(knows, made_up, useful, st.binary(min_size=8, max_size=8).map(lambda check: forged(cursor, check)))
    own = [parameter.name for parameter in operation.parameters if parameter.place == "query"]
    name = st.sampled_from([*query.PARAMETERS, *own, "attr.tenant_id", "tenant", "tenant_id", "slug", "api_key"])
    pairs = st.lists(st.tuples(name, value), max_size=4)
    headers = st.dictionaries(
        st.sampled_from(["X-Tenant-Id", "X-Tenant", "X-Forwarded-User", "X-Original-URL", "X-Admin-Token", "Idempotency-Key"]),
        st.sampled_from([tenant_id, slug, *known[3:]]),
        max_size=3,
    )
    event_id = st.sampled_from([*known, SHARED, f"{tenant_id}/{SHARED}", f"{SHARED}%00"])
    path = st.builds(
        lambda event, key_id: operation.path.format(
            event_id=quote(event, safe=""), slug=slug, key_id=quote(key_id, safe=""), search_id=quote(key_id, safe="")
        ),
        event_id,
        knows,
    )
    url = st.builds(lambda where, found: f"{where}?{urlencode(found)}" if found else where, path, pairs)
    return st.builds(Request, url, bodies(operation, tenant_id, slug, event_id), headers)


def bodies(
    operation: Operation, tenant_id: str, slug: str, event_id: st.SearchStrategy[str]
) -> st.SearchStrategy[bytes | None]:
    """A body that tries to speak for Alpha."""
    extra = {"tenant_id": tenant_id, "tenant": slug, "slug": slug}
    if operation.path == wire.BLOCKS_PATH:
        return st.just(record(b"beta\n", agent="alpha-agent", scope=slug, path="/beta", labels={"tenant_id": tenant_id}))
    if operation.body is None:
        return st.just(None)
    event = event_id.map(lambda name: {**paths.OPERATIONS[0].body_example, "event_id": name, **extra})
    if operation.name == "ingestEvent":
        return event.map(lambda value: json.dumps(value).encode())
    if operation.name == "ingestBatch":
        return st.lists(event, min_size=1, max_size=3).map(lambda some: json.dumps({"events": some, **extra}).encode())
    example = operation.body_example
    return st.sampled_from([example, {**example, **extra}]).map(lambda value: json.dumps(value).encode())


def send(world: World, operation: Operation, request: Request) -> Answer:
    media = wire.RUN_TYPE if operation.path == wire.BLOCKS_PATH else "application/json"
    headers = {"Content-Type": media, **request.headers}
    return world.collector.request(operation.method.upper(), request.path, key=world.beta, body=request.body, headers=headers)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_stranger_learns_nothing_and_changes_nothing(operation: Operation, world: World) -> None:
    before = seen_by_alpha(world)
    statuses = set()

    @given(request=requests(operation, world.known))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def tried(request: Request) -> None:
        answer = send(world, operation, request)
        statuses.add(answer.status)
        assert answer.status < 500, (request, answer)
        assert SECRET not in json.dumps(str(answer.body)), (request, answer)
        assert SECRET not in str(answer.headers), (request, answer)

    tried()
    for_operators = operation.credential == paths.ADMIN and not operation.scope
    assert (statuses == {401}) is for_operators
    assert seen_by_alpha(world) == before


def test_an_id_of_both_is_two_events(world: World) -> None:
    body = json.dumps({**paths.OPERATIONS[0].body_example, "event_id": SHARED, "title": "of beta"}).encode()
    headers = {"Content-Type": "application/json"}
    assert world.collector.request("POST", f"{INGESTION}/events", key=world.beta, body=body, headers=headers).status == 200
    shown = [world.collector.request("GET", f"{INGESTION}/events/{SHARED}", key=key) for key in (world.alpha, world.beta)]
    assert shown[0].body["title"] == SECRET
    assert shown[1].status == 404 or shown[1].body["title"] != SECRET
    world.collector.request("DELETE", f"{INGESTION}/events/{SHARED}", key=world.beta)
    assert world.collector.request("GET", f"{INGESTION}/events/{SHARED}", key=world.alpha).status == 200
