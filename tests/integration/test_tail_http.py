"""Tails: every event as it is committed, in the store's order, over deaths, slow readers and several collectors."""

from __future__ import annotations

import importlib.util
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.events import named
from tests.support.tails import TAIL, TailReader
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

BATCH = "/api/v1/ingestion/events/batch"
MORE = "streams: {heartbeat_s: 0.2, max_tails: 500}"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("one"), store=engine.url, more=MORE) as running:
        yield running


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("two"), store=engine.url, more=MORE) as running:
        yield running


@pytest.fixture(autouse=True)
def _readers_leave() -> Iterator[None]:
    yield
    TailReader.all_leave()


_names = iter(range(1_000))


@pytest.fixture
def key(one: Collector) -> str:
    return one.new_tenant(f"tailer {next(_names)}")


def store(collector: Collector, key: str, *names: str, **changed: Any) -> None:
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"events": [named(event_id=name, **changed) for name in names]}).encode()
    answer = collector.request("POST", BATCH, key=key, body=body, headers=headers)
    assert answer.body["processing_status"] == "completed", answer


def metric(collector: Collector, name: str) -> float:
    text = collector.request("GET", "/metrics").body.decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def test_what_is_committed_from_now_on_is_told_as_a_search_shows_it(one: Collector, key: str) -> None:
    store(one, key, "before")
    tail = TailReader(one.port, key).reading()
    store(one, key, "first")
    store(one, key, "second", severity="error")
    assert tail.wait_for(2) == ["first", "second"]
    assert tail.events == one.search(key, limit=2)["events"][::-1]
    assert tail.told[0].data == {"cursor": tail.told[0].cursor}


def test_filters_choose_and_other_tenants_are_not_there(one: Collector, key: str) -> None:
    other = one.new_tenant(f"stranger {next(_names)}")
    errors = TailReader(one.port, key, severity="error").reading()
    words = TailReader(one.port, key, q="level:>=info needle -/ha+y/").reading()
    theirs = TailReader(one.port, other).reading()
    store(one, other, "theirs", severity="error", message="a needle")
    store(one, key, "plain", message="haay needle")
    store(one, key, "bad", severity="error")
    store(one, key, "found", message="a Needle in it")
    assert words.wait_for(1) == ["found"]
    assert errors.wait_for(1) == ["bad"]
    assert theirs.wait_for(1) == ["theirs"]


def test_what_was_stored_already_is_not_told_again(one: Collector, key: str) -> None:
    run = record(b"one\ntwo\n", base_offset=8192, source_from=8192, source_to=8200)
    assert one.post(key, run).status == 200
    tail = TailReader(one.port, key).reading()
    assert one.post(key, run).status == 200
    outcomes = one.request("GET", "/api/v1/ingestion/outcomes", key=key).body["total"]
    assert outcomes == {"accepted": 4}, "nobody said that they may be there: copies are stored"
    store(one, key, "new")
    assert tail.wait_for(1) == ["new"]
    assert one.request("DELETE", "/api/v1/ingestion/events/new", key=deleter(one, key)).status == 200
    assert one.post(key, record(b"three\n", file_id="00c0ffee00c0ffe0")).status == 200
    tail.wait_for(2)
    assert [event["message"] for event in tail.events][1:] == ["three"]


def slug_of(collector: Collector, key: str) -> str:
    """Of the tenant of a key."""
    headers = {"X-Admin-Token": ADMIN_TOKEN}
    for tenant in collector.request("GET", "/api/v1/tenants", headers=headers).body["tenants"]:
        kept = collector.request("GET", f"/api/v1/tenants/{tenant['slug']}/keys", headers=headers).body["keys"]
        if any(key.startswith(f"ps_{one['key_id']}_") for one in kept):
            return str(tenant["slug"])
    raise AssertionError("no tenant has this key")


def deleter(collector: Collector, key: str) -> str:
    """A key of the same tenant that may delete."""
    path, headers = f"/api/v1/tenants/{slug_of(collector, key)}/keys", {"X-Admin-Token": ADMIN_TOKEN}
    return str(collector.request("POST", path, body=b'{"name": "d", "scopes": ["delete"]}', headers=headers).body["api_key"])


class Writing(threading.Thread):
    """Stores events through some collectors in turn, one commit after the other, lines and JSON."""

    def __init__(self, collectors: list[Collector], key: str, name: str, count: int) -> None:
        super().__init__(daemon=True)
        self._collectors, self._key, self._name, self._count = collectors, key, name, count
        self.start()

    def run(self) -> None:
        for n in range(self._count):
            collector = self._collectors[n % len(self._collectors)]
            if n % 3:
                store(collector, self._key, f"{self._name}-{n}-a", f"{self._name}-{n}-b")
            else:
                lines = b"".join(b"%s %d %d\n" % (self._name.encode(), n, m) for m in range(5))
                assert (
                    collector.post(self._key, record(lines, file_id=f"{abs(hash((self._name, n))):016x}"[-16:])).status == 200
                )


def every(collector: Collector, key: str) -> list[str]:
    return sorted(event["event_id"] for event in collector.search(key, limit=1000)["events"])


def test_two_collectors_on_one_store_tell_the_same_in_the_same_order(one: Collector, two: Collector, key: str) -> None:
    tails = [TailReader(collector.port, key).reading() for collector in (one, two)]
    writers = [Writing([one, two], key, name, 12) for name in ("x", "y")]
    for writer in writers:
        writer.join()
    there = every(one, key)
    assert [sorted(tail.wait_for(len(there))) for tail in tails] == [there, there]
    assert tails[0].ids == tails[1].ids


def test_a_reader_that_is_killed_again_and_again_misses_nothing_and_gets_nothing_twice(
    one: Collector, two: Collector, key: str, engine: ClickHouseFront
) -> None:
    tail = TailReader(one.port, key)
    told: list[str] = []
    writers = [Writing([one, two], key, name, 15) for name in ("x", "y")]
    for n in range(6):
        tail.reading()
        tail.wait_for(3)
        tail.leave()
        told += tail.ids
        by = {"headers": {"Last-Event-ID": tail.cursor}} if n % 2 else {"cursor": tail.cursor}
        tail = TailReader((one, two)[n % 2].port, key, **by)  # type: ignore[arg-type]
    for writer in writers:
        writer.join()
    there = every(one, key)
    tail.reading()
    until(lambda: len(told) + len(tail.ids) >= len(there), "all are told")
    assert sorted(told + tail.ids) == there


def test_a_cursor_leads_through_merged_parts_to_what_is_live(tmp_path: Path) -> None:
    """What was written meanwhile has been merged, and there is more of it than a page."""
    with ClickHouseFront(tmp_path / "data") as engine, Collector(tmp_path / "c", store=engine.url) as collector:
        key = collector.new_tenant("away")
        store(collector, key, *(f"earlier-{n}" for n in range(5)))
        first = TailReader(collector.port, key)
        cursor = first.cursor
        first.leave()
        for n in range(6):
            store(collector, key, *(f"e-{n}-{m:03}" for m in range(150)))
        command(engine, "OPTIMIZE TABLE events FINAL")
        tail = TailReader(collector.port, key, cursor=cursor).reading()
        assert tail.wait_for(900) == [f"e-{n}-{m:03}" for n in range(6) for m in range(150)]
        store(collector, key, "live")
        assert tail.wait_for(901)[900:] == ["live"]
        middle = TailReader(collector.port, key, cursor=tail.of("message")[444].cursor).reading()
        assert middle.wait_for(901 - 445) == tail.ids[445:]


def test_a_slow_reader_is_told_how_many_it_missed_and_can_have_them(tmp_path: Path, engine: ClickHouseFront) -> None:
    more = "streams: {tail_buffer_bytes: 1000000, tail_grace_s: 1}"
    with Collector(tmp_path, store=engine.url, more=more) as collector:
        key = collector.new_tenant(f"slow {next(_names)}")
        slow, quick = TailReader(collector.port, key), TailReader(collector.port, key, event_type="api_call").reading()
        count = 0
        while not metric(collector, "collector_tail_missed_events_total"):  # the sockets take some megabytes first
            store(collector, key, *(f"e-{count + n}" for n in range(100)), message="x" * 5_000)
            count += 100
            quick.wait_for(count)
        slow.reading()
        until(lambda: slow.of("gap"), "the gap is told")
        store(collector, key, "after")
        until(lambda: "after" in slow.ids, "it goes on")
        (gap,) = slow.of("gap")
        missed = sorted(set(quick.ids) - set(slow.ids))
        assert gap.data["missed"] == len(missed) == count - (len(slow.ids) - 1)
        assert gap.data["at_least"] is False
        assert quick.of("gap") == []
        again = TailReader(collector.port, key, cursor=gap.data["cursor"]).reading()
        since = [told.data["event_id"] for told in slow.told[slow.told.index(gap) + 1 :]]
        assert sorted(again.wait_for(len(missed) + len(since))) == sorted([*missed, *since])
        assert sorted(again.ids[: len(missed)]) == missed


def command(engine: ClickHouseFront, sql: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(f"{engine.url}/?database=pulsestream", data=sql.encode())) as answer:
        answer.read()


def lines_of_a_file(collector: Collector, key: str, n: int, lines: bytes) -> None:
    assert collector.post(key, record(lines, file_id=f"00c0ffee0000{n:04x}")).status == 200


def test_a_tail_keeps_to_the_bounds_of_its_tenant(one: Collector, key: str) -> None:
    narrow = one.new_tenant(f"narrow {next(_names)}", limits={"max_query_rows": 100})
    narrow_tail, tail = TailReader(one.port, narrow, q="/l.ne/").reading(), TailReader(one.port, key, q="/l.ne/").reading()
    for owner in (narrow, key):
        lines_of_a_file(one, owner, 1, b"a line\n" * 200)
    until(lambda: narrow_tail.of("error"), "its end is told")
    error = narrow_tail.of("error")[0].data["error"]
    assert (error["code"], error["errors"][0]["field"]) == ("query_too_expensive", "max_query_rows")
    assert len(tail.wait_for(200)) == 200


def test_what_is_too_much_for_one_look_is_read_in_several(one: Collector, key: str, engine: ClickHouseFront) -> None:
    bounded = one.new_tenant(f"bounded {next(_names)}", limits={"max_query_rows": 5_000})
    first = TailReader(one.port, bounded)
    first.leave()
    command(engine, "SYSTEM STOP MERGES events")  # of one part all is read or nothing
    try:
        for n in range(5):
            lines_of_a_file(one, bounded, n, b"a line\n" * 2_000 + b"the needle %d\n" % n)
        tail = TailReader(one.port, bounded, q="needle", cursor=first.cursor).reading()
        tail.wait_for(5)
        assert [event["message"] for event in tail.events] == [f"the needle {n}" for n in range(5)]
    finally:
        command(engine, "SYSTEM START MERGES events")


def test_two_hundred_tails_with_filters_of_their_own(one: Collector, two: Collector, key: str) -> None:
    other = one.new_tenant(f"other {next(_names)}")
    tails = [TailReader(one.port, (key, other)[n % 2], user_id=f"u-{n}") for n in range(198)]
    tails += [TailReader(one.port, key), TailReader(one.port, other, q="refused")]
    assert metric(one, "collector_tails") >= 200
    for tail in tails:
        tail.reading()
    for owner, first in ((key, 0), (other, 1)):
        body = [named(event_id=f"e-{n}", context={"user_id": f"u-{n}"}, message="refused") for n in range(first, 198, 2)]
        answer = two.request(
            "POST", BATCH, key=owner, body=json.dumps({"events": body}).encode(), headers={"Content-Type": "application/json"}
        )
        assert answer.body["successful_count"] == 99
    for n, tail in enumerate(tails[:198]):
        assert tail.wait_for(1) == [f"e-{n}"]
    assert [len(tail.wait_for(99)) for tail in tails[198:]] == [99, 99]
    TailReader.all_leave()
    until(lambda: metric(one, "collector_tails") == 0, "all have left")


def test_heartbeats_carry_the_place_and_a_key_that_ends_ends_its_tail(one: Collector, key: str) -> None:
    tail = TailReader(one.port, key, severity="critical").reading()
    store(one, key, "passed over")
    until(lambda: tail.comments >= 3 and tail.cursor != tail.told[0].cursor, "the place moves")
    store(one, key, "wanted", severity="critical")
    again = TailReader(one.port, key, severity="critical", cursor=tail.cursor).reading()
    assert again.wait_for(1) == ["wanted"]
    headers = {"X-Admin-Token": ADMIN_TOKEN}
    key_id = key.split("_")[1]
    assert one.request("DELETE", f"/api/v1/tenants/{slug_of(one, key)}/keys/{key_id}", headers=headers).status == 200
    until(lambda: tail.of("error"), "its end is told")
    assert tail.of("error")[0].data["error"]["code"] == "unauthorized"
    tail.join(30)
    assert not tail.is_alive()


def test_the_engine_may_die_and_come_back(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "data") as engine, Collector(tmp_path / "c", store=engine.url, more=MORE) as collector:
        key = collector.new_tenant("steady")
        tail = TailReader(collector.port, key).reading()
        store(collector, key, "before")
        tail.wait_for(1)
        engine.kill()
        engine.start()
        until(lambda: collector.request("GET", "/readyz").status == 200, "the engine is used again")
        store(collector, key, "after")
        assert tail.wait_for(2) == ["before", "after"]
        assert collector.stop() == 0, "tails do not hold a stop up"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("q=%2F(%3F%3Cx%2F", "q"),
        ("cursor=x", "cursor"),
        ("start_time=-1h", "start_time"),
        ("severity=x", "severity"),
        ("q=", "q"),
    ],
)
def test_what_makes_no_sense_is_named(one: Collector, key: str, query: str, field: str) -> None:
    answer = one.request("GET", f"{TAIL}?{query}", key=key)
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, field)


def test_more_tails_than_allowed_are_refused_and_take_no_place_of_requests(tmp_path: Path, engine: ClickHouseFront) -> None:
    with Collector(tmp_path, store=engine.url, more="streams: {max_tails: 4}") as collector:
        key = collector.new_tenant(f"many {next(_names)}", limits={"concurrent_requests": 1})
        for _ in range(2):
            TailReader(collector.port, key)
        answer = collector.request("GET", TAIL, key=key)
        assert (answer.status, answer.body["error"]["code"]) == (429, "too_many_streams")
        TailReader(collector.port, collector.new_tenant(f"other {next(_names)}"))
