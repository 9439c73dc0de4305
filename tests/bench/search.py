"""What analysts ask, of a store of many events: through the API, and beside it the same question as SQL written by hand.

- The collector and the SQL ask one engine, in turn: an own process that is served over HTTP. What the API adds is the
  difference; ``over_ms`` is that of the medians, ``times`` their ratio.
- The SQL is that of somebody who knows the table: FINAL with the settings that let it prune, bound to the tenant and to the
  time that the question is about. It answers what the API shows.
- Every question is asked several times, each time with other values (another service, another word, another moment), of the
  largest tenant; the first round warms caches and does not count.
- All of it is done twice, the first time with a tenth of the events: ``growth`` is the median here over the median there.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from collector.config import StoreConfig
from collector.metrics import Metrics
from collector.store.schema import READ_SETTINGS, TITLE_INDEX, WORD_INDEX
from collector.store.sealing import Sealer
from collector.store.store import Store
from tests.bench import measure
from tests.bench.dataset import DAY_US, DAYS, RARE_WORD, SHARES, Dataset
from tests.bench.load import Load
from tests.support.collector import Collector
from tests.support.engine import ClickHouseFront

SEARCH = "/api/v1/ingestion/events/search"
EVENTS = "/api/v1/ingestion/events"
SEED = 1
MINUTE_US = 60_000_000
_JSON = {"Content-Type": "application/json"}
SERVICES = ("sessions", "auth", "mail", "stock", "search", "payments")
_LIMITS = {"retention_days": 30}
_SHOWN = (
    "external_id, timestamp, observed_timestamp, event_type, severity, service, source, path, agent, message, attributes, "
    "endpoint, method, status_code, ip_address, response_time_ms"
)


class Asked(NamedTuple):
    """One question with its values: what the API is sent, and what is sent to the engine."""

    path: str
    query: Mapping[str, object]
    sql: str
    values: Mapping[str, object]
    body: bytes = b""
    """If there is one, it is a POST."""


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    small = _asked_of(folder, load, load.search_rows // 10)
    for name, result in _asked_of(folder, load, load.search_rows).items():
        if name != "load":
            result["growth"] = round(result["api_p50_ms"] / small[name]["api_p50_ms"], 2)
        yield {"benchmark": f"search.{name}", **result}


def _asked_of(folder: Path, load: Load, rows: int) -> dict[str, dict[str, Any]]:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        front = stack.enter_context(ClickHouseFront(work / "engine"))
        collector = stack.enter_context(Collector(work / "collector", store=front.url, log_level="info"))
        client = stack.enter_context(_client(front))
        made = [collector.register(f"shop {share}", limits=_LIMITS) for share in SHARES]
        data = Dataset([tenant["tenant"]["tenant_id"] for tenant in made], rows, time.time_ns() // 1000, SEED)
        loaded = _load(client, front, data, load)
        questions = Questions(data, client)
        key = made[0]["api_key"]
        found = {name: _measured(collector, client, key, ask, load) for name, ask in questions.all().items()}
        return {"load": loaded, **found}


def _client(front: ClickHouseFront) -> Client:
    return clickhouse_connect.get_client(host=front.host, port=front.port, database="pulsestream", settings=dict(READ_SETTINGS))


def _load(client: Client, front: ClickHouseFront, data: Dataset, load: Load) -> dict[str, Any]:
    """Put the events in, let the engine come to rest, and have the index of words built where the collector does."""
    left_out = f"exclude_materialize_skip_indexes_on_insert = '{WORD_INDEX}, {TITLE_INDEX}', optimize_on_insert = 0"
    before_s = measure.cpu_s(front.pid)
    for statement in data.statements("events"):
        client.command(f"{statement} SETTINGS {left_out}, max_partitions_per_insert_block = 1000")
    measure.pause(min(load.merge_s, 5.0))
    loaded_s = measure.cpu_s(front.pid)
    asyncio.run(_sealed(front))
    size, parts, there = client.query(
        "SELECT sum(bytes_on_disk), count(), sum(rows) FROM system.parts WHERE active AND table = 'events'"
    ).result_rows[0]
    text = client.query("SELECT sum(length(message) + 1) FROM events").result_rows[0][0]
    return {
        "events": data.rows,
        "rows": there,
        "parts": parts,
        "bytes_per_row": round(size / there, 1),
        "times_smaller_than_its_text": round(text / size, 2),
        "index_cpu_us_per_row": round((measure.cpu_s(front.pid) - loaded_s) / there * 1e6, 2),
        "cpu_us_per_row": round((loaded_s - before_s) / there * 1e6, 2),
    }


async def _sealed(front: ClickHouseFront) -> None:
    """The index of words, as the collector has it built in the course of minutes."""
    store = await Store.open(StoreConfig(url=front.url))
    sealer = Sealer(store, Metrics())
    while await sealer.look():
        await asyncio.to_thread(measure.pause, 0.5)
    await store.close()


def _measured(collector: Collector, client: Client, key: str, ask: Callable[[Random], Asked], load: Load) -> dict[str, Any]:
    random = Random(SEED)
    api_s, sql_s, read = [], [], []
    for number in range(load.search_rounds + 1):
        asked = ask(random)
        began_s = time.perf_counter()
        answer = collector.request(
            "POST" if asked.body else "GET", asked.path, key=key, query=asked.query, body=asked.body or None, headers=_JSON
        )
        between_s = time.perf_counter()
        result = client.query(asked.sql, parameters=dict(asked.values))
        ended_s = time.perf_counter()
        assert answer.status == 200, answer
        if number:
            api_s.append(between_s - began_s)
            sql_s.append(ended_s - between_s)
            read.append(int(result.summary["read_rows"]))
    api, sql = median(api_s), median(sql_s)
    return {
        "api_p50_ms": _ms(api),
        "api_p95_ms": _ms(_p95(api_s)),
        "sql_p50_ms": _ms(sql),
        "sql_p95_ms": _ms(_p95(sql_s)),
        "over_ms": _ms(api - sql),
        "times": round(api / sql, 2),
        "sql_rows_read": round(median(read)),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[-(-len(seconds) * 95 // 100) - 1]


class Questions:
    """What is asked, with values drawn anew each time."""

    def __init__(self, data: Dataset, client: Client) -> None:
        self._data = data
        self._client = client
        self._tenant = data.tenants[0]

    def all(self) -> dict[str, Callable[[Random], Asked]]:
        return {
            "newest_100": self._newest,
            "newest_100_of_a_service": self._newest_of_a_service,
            "rare_word": self._rare_word,
            "common_word": self._common_word,
            "phrase": self._phrase,
            "regex": self._regex,
            "attribute": self._attribute,
            "by_id": self._by_id,
            "context": self._context,
            "histogram_24h": self._histogram,
            "facets_24h": self._facets,
            "count_with_three_filters": self._count,
        }

    def _sql(self, where: str, minutes: float = DAYS * 1440.0, what: str = _SHOWN, rest: str = "") -> str:
        start_us = self._data.end_us - int(minutes * MINUTE_US)
        newest = rest or "ORDER BY timestamp DESC, external_id DESC LIMIT 100"
        return (
            f"SELECT {what} FROM events FINAL WHERE tenant_id = '{self._tenant}' "
            f"AND timestamp >= fromUnixTimestamp64Micro({start_us}, 'UTC') AND {where} {newest}"
        )

    def _newest(self, random: Random) -> Asked:
        return Asked(SEARCH, {"count": "none"}, self._sql("1", self._minutes(100)), {})

    def _newest_of_a_service(self, random: Random) -> Asked:
        service = random.choice(SERVICES)
        sql = self._sql("service = {service:String}", self._minutes(100 * 16))
        return Asked(SEARCH, {"count": "none", "service": service}, sql, {"service": service})

    def _rare_word(self, random: Random) -> Asked:
        sql = self._sql("hasAllTokens(lower(message), [{word:String}])")
        return Asked(SEARCH, {"count": "none", "q": RARE_WORD}, sql, {"word": RARE_WORD})

    def _common_word(self, random: Random) -> Asked:
        word = random.choice(("get", "authorised", "traceback", "chrome"))
        sql = self._sql("hasAllTokens(lower(message), [{word:String}])", self._minutes(100 * 32))
        return Asked(SEARCH, {"count": "none", "q": word}, sql, {"word": word})

    def _phrase(self, random: Random) -> Asked:
        words = ("connection", "to", "db", str(random.randrange(9)), "lost")
        values = {"words": list(words), "pattern": rf"\b{'[^a-z0-9]+'.join(words)}\b"}
        sql = self._sql("hasAllTokens(lower(message), {words:Array(String)}) AND match(lower(message), {pattern:String})",
                        self._minutes(100 * 128))  # fmt: skip
        return Asked(SEARCH, {"count": "none", "q": f'"connection to db-{words[3]} lost"'}, sql, values)

    def _regex(self, random: Random) -> Asked:
        pattern = f"order [0-9]+{random.randrange(10)} shipped to"
        sql = self._sql("match(message, {pattern:String})", self._minutes(100 * 128))
        return Asked(SEARCH, {"count": "none", "q": f"/{pattern}/"}, sql, {"pattern": pattern})

    def _attribute(self, random: Random) -> Asked:
        item = self._one("attributes['request_id']", "mapContains(attributes, 'request_id')", random)
        sql = self._sql("has(items, {item:String})")
        return Asked(SEARCH, {"count": "none", "attr.request_id": item}, sql, {"item": f"request_id={item}"})

    def _by_id(self, random: Random) -> Asked:
        name = self._one("external_id", "1", random)
        sql = self._sql("external_id = {id:String}", rest="LIMIT 1")
        return Asked(f"{EVENTS}/{name}", {}, sql, {"id": name})

    def _context(self, random: Random) -> Asked:
        name = self._one("external_id", "1", random)
        file = name[:17]
        before = self._sql(
            "external_id > {file:String} AND external_id <= {id:String}", rest="ORDER BY external_id DESC LIMIT 11"
        )
        after = self._sql("external_id > {id:String} AND external_id < {end:String}", rest="ORDER BY external_id LIMIT 10")
        sql = f"SELECT * FROM ({before}) UNION ALL SELECT * FROM ({after})"
        values = {"file": file, "id": name, "end": f"{file[:16]}."}
        return Asked(f"{EVENTS}/context/{name}", {"before": 10, "after": 10}, sql, values)

    def _histogram(self, random: Random) -> Asked:
        what = "toStartOfInterval(timestamp, INTERVAL 15 minute) AS bucket, severity, count()"
        sql = self._sql("1", 1440.0, what, "GROUP BY bucket, severity ORDER BY bucket")
        query = {"start_time": self._day_ago_s(), "interval": "15m", "by": "severity"}
        return Asked(f"{EVENTS}/histogram", query, sql, {})

    def _facets(self, random: Random) -> Asked:
        what = "service, severity, source, count() AS number"
        rest = "GROUP BY GROUPING SETS ((service), (severity), (source)) ORDER BY number DESC"
        query = {"start_time": self._day_ago_s(), "fields": "service,severity,source"}
        return Asked(f"{EVENTS}/facets", query, self._sql("1", 1440.0, what, rest), {})

    def _day_ago_s(self) -> int:
        return (self._data.end_us - DAY_US) // 1_000_000

    def _count(self, random: Random) -> Asked:
        values = {"service": random.choice(SERVICES), "severity": random.choice(("error", "warning"))}
        where = "service = {service:String} AND severity = {severity:String} AND status_code BETWEEN 400 AND 599"
        sql = self._sql(where, 1440.0, "count()", " ")
        filter = {"status_code": "4xx,5xx", **values}
        body = json.dumps({"filter": filter, "start_time": self._day_ago_s(), "metrics": [{"function": "count"}]}).encode()
        return Asked(f"{EVENTS}/aggregate", {}, sql, values, body)

    def _minutes(self, events: int) -> float:
        """In which the largest tenant has about so many events, and not less than the API's first look."""
        per_minute = self._data.rows * SHARES[0] / 100 / (DAYS * 1440)
        return max(15.0, 1.5 * events / per_minute)

    def _one(self, what: str, where: str, random: Random) -> str:
        """Of an event at some moment."""
        at_us = self._data.end_us - random.randrange(1, DAYS * DAY_US // 2)
        from_us = at_us - int(self._minutes(100) * MINUTE_US)
        sql = (
            f"SELECT {what} FROM events WHERE tenant_id = '{self._tenant}' AND {where} AND timestamp BETWEEN "
            f"fromUnixTimestamp64Micro({from_us}, 'UTC') AND fromUnixTimestamp64Micro({at_us}, 'UTC') "
            "ORDER BY timestamp LIMIT 1"
        )
        return str(self._client.query(sql).result_rows[0][0])
