"""IDs of what is stored, over HTTP: the same events as a search shows, what was deleted or is too old told apart."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.events import body, named
from tests.support.records import FILE_ID, expected_ids

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

IDS, SUMS = "/api/v1/ingestion/ids", "/api/v1/ingestion/ids/sums"
LINES = b"".join(b"line %d of a few\n" % n for n in range(50))
NAMES = expected_ids(LINES, base_offset=100)
RANGE = {"from": f"{FILE_ID}-", "to": f"{FILE_ID}-g"}
DAY_S = 86_400


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


def ingest_key(collector: Collector, slug: str, **limits: Any) -> tuple[str, str]:
    """A new tenant's first key, and one that may do nothing but ingest."""
    key = collector.new_tenant(slug, slug=slug, limits=limits)
    made = collector.request(
        "POST", f"/api/v1/tenants/{slug}/keys", body=body({"name": "agent", "scopes": ["ingest"]}),
        headers={"X-Admin-Token": ADMIN_TOKEN},
    )  # fmt: skip
    return key, str(made.body["api_key"])


def listed(collector: Collector, key: str, **query: Any) -> tuple[list[str], list[str], list[str]]:
    """All pages of a range: what is there, what was deleted, what is too old."""
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    cursor: dict[str, str] = {}
    while True:
        answer = collector.request("GET", IDS, key=key, query={**RANGE, **query, **cursor})
        assert answer.status == 200, answer
        assert "X-RateLimit-Remaining" in answer.headers
        page = answer.body
        for ids, kind in zip(found, ("ids", "deleted", "expired"), strict=True):
            ids += [page["prefix"] + rest for rest in page[kind]]
        if not page["has_more"]:
            return found
        cursor = {"cursor": page["next_cursor"]}


def summed(names: list[str], step: int) -> dict[int, tuple[int, int]]:
    """Events and their sum, in the plainest way."""
    sums: dict[int, tuple[int, int]] = {}
    for name in names:
        _, offset, check = (int(part, 16) for part in name.split("-"))
        events, total = sums.get(offset // step * step, (0, 0))
        sums[offset // step * step] = events + 1, (total + check * (2 * offset + 1)) % 2**64
    return sums


def test_a_key_that_may_only_ingest_is_told_ids_and_nothing_else(collector: Collector) -> None:
    key, ingest = ingest_key(collector, "ids-ingest")
    assert collector.post(ingest, record(LINES, base_offset=100)).status == 200
    assert listed(collector, ingest) == (NAMES, [], [])
    assert collector.request("GET", "/api/v1/ingestion/events/search", key=ingest).status == 403
    assert collector.request("GET", IDS, key="unknown", query=RANGE).status == 401
    assert {event["id"] for event in collector.search(key, limit=100)["events"]} == set(NAMES)


def test_pages_name_every_id_once_in_order_also_where_copies_lie(collector: Collector) -> None:
    _, key = ingest_key(collector, "ids-pages")
    for _ in range(3):
        assert collector.post(key, record(LINES, base_offset=100, source_from=1)).status == 200  # not looked up: copies
    for limit in (1, 7, 50, 150, 20_000):
        assert listed(collector, key, limit=limit)[0] == NAMES
    assert listed(collector, key, **{"from": NAMES[3], "to": NAMES[9]})[0] == NAMES[3:10]
    assert listed(collector, key, **{"from": "0", "to": "1"})[0] == NAMES
    assert listed(collector, key, **{"from": NAMES[49] + "0", "to": "z"}) == ([], [], [])


def test_what_was_deleted_and_what_is_too_old_is_told_apart(collector: Collector) -> None:
    key, ingest = ingest_key(collector, "ids-apart", retention_days=30)
    old_ns = time.time_ns() - 10 * DAY_S * 10**9
    assert collector.post(ingest, record(LINES[:200], base_offset=100)).status == 200
    later = record(LINES, base_offset=100 + 1_000_000, observed_ns=old_ns, record_id="later")
    assert collector.post(ingest, later).status == 200
    old = expected_ids(LINES, base_offset=100 + 1_000_000)
    headers = {"X-Admin-Token": ADMIN_TOKEN}
    for name in (NAMES[2], old[5]):
        assert collector.request("DELETE", f"/api/v1/ingestion/events/{name}", key=key).status == 200
    there = [name for name in expected_ids(LINES[:200], base_offset=100) if name != NAMES[2]]
    kept = [name for name in old if name != old[5]]
    assert listed(collector, ingest, limit=9) == ([*there, *kept], [NAMES[2], old[5]], [])
    body_ = body({"limits": {"retention_days": 7}})
    assert collector.request("PATCH", "/api/v1/tenants/ids-apart", body=body_, headers=headers).status == 200
    assert listed(collector, ingest, limit=9) == (there, [NAMES[2], old[5]], kept)
    sums = collector.request("GET", SUMS, key=ingest, query={"file_id": FILE_ID}).body
    assert sums["retention_days"] == 7
    assert [one["events"] for one in sums["sums"]] == [len(there)]


def test_sums_are_of_the_lines_that_start_in_each_step(collector: Collector) -> None:
    _, key = ingest_key(collector, "ids-sums")
    many = b"".join(b"line %d\n" % n for n in range(3000))
    for _ in range(2):
        assert collector.post(key, record(many, base_offset=4096, source_from=1)).status == 200
    event = named(event_id=f"{FILE_ID}-00000000200x", title="not a line")
    sent = {"Content-Type": "application/json"}
    assert collector.request("POST", "/api/v1/ingestion/events", key=key, body=body(event), headers=sent).status == 200
    names = expected_ids(many)
    for query in ({"step": 4096}, {}, {"step": 8192, "from_offset": 8192, "to_offset": 20_000}):
        answer = collector.request("GET", SUMS, key=key, query={"file_id": FILE_ID, **query})
        assert answer.status == 200, answer
        step, begin, end = query.get("step", 1 << 20), query.get("from_offset", 0), query.get("to_offset", 1 << 40)
        wanted = summed([name for name in names if begin <= int(name.split("-")[1], 16) < end], step)
        assert {one["offset"]: (one["events"], int(one["sum"], 16)) for one in answer.body["sums"]} == wanted


def test_another_tenants_ids_are_not_there(collector: Collector) -> None:
    _, mine = ingest_key(collector, "ids-mine")
    _, other = ingest_key(collector, "ids-other")
    assert collector.post(mine, record(LINES, base_offset=100)).status == 200
    assert listed(collector, other) == listed(collector, other, **{"from": "\x01", "to": "\U0010ffff"}) == ([], [], [])
    assert collector.request("GET", SUMS, key=other, query={"file_id": FILE_ID}).body["sums"] == []
    assert collector.request("GET", IDS, key=other, query={**RANGE, "cursor": NAMES[0]}).body["ids"] == []


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        (IDS, {}, "from"),
        (IDS, {"from": "a"}, "to"),
        (IDS, {"from": "b", "to": "a"}, "to"),
        (IDS, {**RANGE, "limit": 20_001}, "limit"),
        (IDS, {**RANGE, "cursor": "z"}, "cursor"),
        (IDS, {**RANGE, "from": "a" * 201}, "from"),
        (IDS, {**RANGE, "tenant": "x"}, "tenant"),
        (SUMS, {}, "file_id"),
        (SUMS, {"file_id": FILE_ID.upper()}, "file_id"),
        (SUMS, {"file_id": FILE_ID, "step": 1}, "step"),
        (SUMS, {"file_id": FILE_ID, "step": 1 << 20, "from_offset": 5}, "from_offset"),
        (SUMS, {"file_id": FILE_ID, "to_offset": 1 << 40}, "to_offset"),
        (SUMS, {"file_id": FILE_ID, "q": "x"}, "q"),
    ],
)
def test_a_bad_parameter_is_named(collector: Collector, path: str, query: dict[str, Any], field: str) -> None:
    key = ingest_key(collector, f"ids-bad-{time.monotonic_ns()}")[1]
    answer = collector.request("GET", path, key=key, query=query)
    assert (answer.status, answer.body["error"]["code"]) == (422, "invalid")
    assert field in [fault["field"] for fault in answer.body["error"]["errors"]]
