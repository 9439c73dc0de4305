"""All copies of an event have one time: reads rely on it (`tests/integration/test_every_read.py`). Every way in which the same
event may come with another time, one after the other and at once, to one collector and to two on one store.
"""

from __future__ import annotations

import importlib.util
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from agent import wire
from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.events import named
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
JSON = {"Content-Type": "application/json"}
HOUR_S = 3600
DAY_S = 24 * HOUR_S
NOW_S = int(time.time())
_numbers = count(1)

Send = Callable[[Collector, str, str, int], Any]
"""Sends one event, or lines, named by a text, as of the n-th time; the answer."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[list[Collector]]:
    with (
        Collector(tmp_path_factory.mktemp("one"), store=engine.url) as one,
        Collector(tmp_path_factory.mktemp("two"), store=engine.url) as other,
    ):
        yield [one, other]


@pytest.fixture
def key(two: list[Collector]) -> str:
    slug = f"timed-{next(_numbers)}"
    two[0].register(slug, slug=slug)
    made = two[0].request(
        "POST",
        f"/api/v1/tenants/{slug}/keys",
        body=b'{"scopes": ["ingest", "search", "delete"]}',
        headers={"X-Admin-Token": ADMIN_TOKEN},
    )
    return str(made.body["api_key"])


def asked(engine: ClickHouseFront, sql: str) -> list[list[Any]]:
    url = f"{engine.url}/?{urllib.parse.urlencode({'database': 'pulsestream'})}"
    with urllib.request.urlopen(urllib.request.Request(url, data=sql.encode())) as answer:
        text = answer.read()
    return json.loads(text)["data"] if text else []


def copies_of(engine: ClickHouseFront, name: str) -> tuple[int, int]:
    """How many rows there are of what a text names, at most of one event, and how many times of it, at most."""
    ((rows, times),) = asked(
        engine,
        "SELECT max(n), max(times) FROM (SELECT count() AS n, uniqExact(timestamp) AS times FROM events "
        f"WHERE message LIKE '{name} %' GROUP BY tenant_id, external_id) FORMAT JSONCompact",
    )
    return int(rows), int(times)


def event(collector: Collector, key: str, name: str, **changed: Any) -> Any:
    body = json.dumps(named(event_id=name, message=f"{name} happened", **changed)).encode()
    return collector.request("POST", EVENTS, key=key, body=body, headers=JSON)


def lines(collector: Collector, key: str, name: str, n: int, *, text: bytes = b"%s one\n%s two\n", **changed: Any) -> Any:
    """As after the loss of an agent's state."""
    data = text % (name.encode(), name.encode())
    said = {"base_offset": 8192, "source_from": 8192, "file_id": f"{sum(name.encode()):08x}{len(name):08x}", **changed}
    observed_ns = said.pop("observed_ns", (NOW_S - n * HOUR_S) * 1_000_000_000)
    return collector.post(key, record(data, flags=wire.REPLAY, observed_ns=observed_ns, **said))


def without_time(collector: Collector, key: str, name: str, n: int) -> Any:
    return event(collector, key, name)


def of_another_time(collector: Collector, key: str, name: str, n: int) -> Any:
    return event(collector, key, name, timestamp=NOW_S - n * 3 * DAY_S)


def of_a_clock_ahead(collector: Collector, key: str, name: str, n: int) -> Any:
    return event(collector, key, name, timestamp=NOW_S + (n + 2) * DAY_S)


def raw_lines(collector: Collector, key: str, name: str, n: int) -> Any:
    return lines(collector, key, name, n)


def raw_lines_of_a_clock_ahead(collector: Collector, key: str, name: str, n: int) -> Any:
    return lines(collector, key, name, n, observed_ns=(NOW_S + (n + 2) * DAY_S) * 1_000_000_000)


def json_lines_without_time(collector: Collector, key: str, name: str, n: int) -> Any:
    return lines(collector, key, name, n, text=b'{"msg":"%s one"}\n{"msg":"%s two"}\n', format="json")


def lines_of_another_zone(collector: Collector, key: str, name: str, n: int) -> Any:
    """The source's settings were changed since."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW_S - 5 * DAY_S)).encode()
    text = b'{"msg":"%s one","time":"' + when + b'"}\n{"msg":"%s two","time":"' + when + b'"}\n'
    fields = wire.Fields(time_zone=("", "Asia/Tokyo", "America/Lima")[n % 3])
    return lines(collector, key, name, n, text=text, format="json", fields=fields)


WAYS = [
    without_time,
    of_another_time,
    of_a_clock_ahead,
    raw_lines,
    raw_lines_of_a_clock_ahead,
    json_lines_without_time,
    lines_of_another_zone,
]


@pytest.mark.parametrize("send", WAYS, ids=[way.__name__ for way in WAYS])
def test_what_comes_again_with_another_time_is_not_written(
    two: list[Collector], engine: ClickHouseFront, key: str, send: Send
) -> None:
    """First one after the other, also to another collector; then many at once, to one of them."""
    name = f"{send.__name__}-again"
    for n in range(3):
        assert send(two[n % 2], key, name, n).status in (200, 201)
    assert copies_of(engine, name) == (1, 1)
    at_once = f"{send.__name__}-at-once"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: send(two[0], key, at_once, n), range(8)))
    assert {answer.status for answer in answers} <= {200, 201}
    assert copies_of(engine, at_once) == (1, 1)


class Together:
    """Two collectors that are sent something in the same instant."""

    def __init__(self, two: list[Collector]) -> None:
        self._two = two

    def send(self, *sends: Callable[[Collector], Any]) -> list[Any]:
        barrier = threading.Barrier(len(sends))

        def one(n: int) -> Any:
            barrier.wait(30)
            return sends[n](self._two[n % 2])

        with ThreadPoolExecutor(len(sends)) as threads:
            return list(threads.map(one, range(len(sends))))


def fixed_event(collector: Collector, key: str, name: str, n: int) -> Any:
    return event(collector, key, name, timestamp=NOW_S - DAY_S)


def fixed_lines(collector: Collector, key: str, name: str, n: int) -> Any:
    return lines(collector, key, name, 0)


@pytest.mark.parametrize("send", [fixed_event, fixed_lines])
def test_two_collectors_at_once_write_copies_of_one_time(
    two: list[Collector], engine: ClickHouseFront, key: str, send: Send
) -> None:
    for n in range(8):
        name = f"{send.__name__}-{n}"
        answers = Together(two).send(*(lambda collector, name=name: send(collector, key, name, 0) for _ in range(4)))
        assert {answer.status for answer in answers} <= {200, 201}
        assert copies_of(engine, name)[1] == 1
    found = [shown["message"] for shown in two[0].search(key, limit=100)["events"]]
    assert len(set(found)) == len(found) == 8 * (1 if send is fixed_event else 2)


@pytest.mark.parametrize("send", [without_time, of_another_time, raw_lines])
def test_copies_of_other_times_that_two_collectors_write_at_once_are_one_event_once_merged(
    two: list[Collector], engine: ClickHouseFront, key: str, send: Send
) -> None:
    """The known limit: neither finds what the other is writing. What is counted is right, and what comes later is told."""
    name = f"{send.__name__}-race"
    events = 2 if send is raw_lines else 1
    Together(two).send(*(lambda collector, n=n: send(collector, key, name, n) for n in range(2)))
    assert two[0].request("GET", "/api/v1/ingestion/stats", key=key).body["events"]["count"] == events
    before = copies_of(engine, name)[0]
    assert send(two[0], key, name, 2).status == 200
    assert copies_of(engine, name)[0] <= before, "fewer, if they were merged meanwhile"
    if send is not of_another_time:  # those may lie in partitions of their own, which are never merged
        until(lambda: asked(engine, "OPTIMIZE TABLE events FINAL") or copies_of(engine, name) == (1, 1), "they are merged")


def test_a_delete_at_one_collector_beats_what_comes_again_at_the_other(
    two: list[Collector], engine: ClickHouseFront, key: str
) -> None:
    for n in range(5):
        name = f"deleted-{n}"
        assert event(two[0], key, name, timestamp=NOW_S - DAY_S).status == 200
        Together(two).send(
            lambda collector, name=name: collector.request("DELETE", f"{EVENTS}/{name}", key=key),
            lambda collector, name=name: event(collector, key, name),
            lambda collector, name=name: event(collector, key, name, timestamp=NOW_S - 9 * DAY_S),
        )
        assert copies_of(engine, name)[1] == 1
        assert [collector.request("GET", f"{EVENTS}/{name}", key=key).status for collector in two] == [404, 404]
    assert two[1].search(key, start_time="-20d")["events"] == []
