"""Exports: a whole result, each event once, whatever its size, its reader, or what happens on the way. Real sockets."""

from __future__ import annotations

import csv
import gzip
import http.client
import importlib.util
import io
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.collector import ADMIN_TOKEN, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.events import named
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EXPORT = "/api/v1/ingestion/events/export"
BATCH = "/api/v1/ingestion/events/batch"
NOW_S = int(time.time()) - 600
NOW_NS = NOW_S * 1_000_000_000
LINES = 9_000
"""More than two pages, all of one time."""
CUT = (http.client.IncompleteRead, ConnectionError)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector"), store=engine.url, more="streams: {max_exports: 2}") as running:
        yield running


EVENTS: list[dict[str, Any]] = [
    named(
        event_id="full", event_type="api_call", title="=1+1", message='two\r\nlines, "quoted"', severity="error",
        source={"service": "shop", "endpoint": "/pay", "method": "POST", "version": "1.2", "environment": "prod"},
        context={"user_id": "u-1", "tags": ["web", "eu"]},
        metrics={"status_code": 0, "response_time_ms": 41.5, "request_size_bytes": 1 << 40},
        attributes={"region": "eu,1", "k8s.pod": "p-1"}, payload={"order": [17, 1.50]}, timestamp=NOW_S + 5,
    ),
    named(event_id="plain", event_type="api_call", title="a title", timestamp=NOW_S + 6),
]  # fmt: skip


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    """Of a tenant with `LINES` lines of one time, some stored twice, some deleted; and `EVENTS` after them."""
    made = collector.new_tenant("exporter", limits={"concurrent_queries": 1})
    store(collector, made, LINES)
    assert collector.post(made, lines(100)).status == 200  # copies: nobody said that they may be there
    batch(collector, made, EVENTS)
    for gone in collector.search(made, limit=3, order="asc")["events"]:
        delete = key_for(collector, "exporter", "delete")
        assert collector.request("DELETE", f"/api/v1/ingestion/events/{gone['id']}", key=delete).status == 200
    return made


def key_for(collector: Collector, slug: str, *scopes: str) -> str:
    answer = collector.request(
        "POST", f"/api/v1/tenants/{slug}/keys", body=json.dumps({"name": "more", "scopes": scopes}).encode(),
        headers={"X-Admin-Token": ADMIN_TOKEN},
    )  # fmt: skip
    return str(answer.body["api_key"])


def lines(count: int, first: int = 0, pad: int = 20) -> bytes:
    text = b"".join(b"line %08d %s\n" % (n, b"x" * pad) for n in range(first, first + count))
    return record(text, observed_ns=NOW_NS, base_offset=first * len(b"line %08d %s\n" % (0, b"x" * pad)))


def store(collector: Collector, key: str, count: int, pad: int = 20) -> None:
    most = min(10_000, 3_500_000 // (pad + 15))
    for first in range(0, count, most):
        assert collector.post(key, lines(min(most, count - first), first, pad)).status == 200


def batch(collector: Collector, key: str, events: list[dict[str, Any]]) -> None:
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"events": events}).encode()
    assert collector.request("POST", BATCH, key=key, body=body, headers=headers).body["processing_status"] == "completed"


def export(collector: Collector, key: str, **query: object) -> bytes:
    answer = collector.request("GET", EXPORT, key=key, query=query)
    assert answer.status == 200, answer
    return bytes(answer.body)


def ids(collector: Collector, key: str, **query: object) -> list[str]:
    return [json.loads(line)["event_id"] for line in export(collector, key, columns="event_id", **query).splitlines()]


def begun(collector: Collector, key: str, **query: object) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """An export of which nothing is read yet: more than the sockets hold waits in the collector."""
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=60)
    connection.request("GET", f"{EXPORT}?{urlencode(query)}", headers={"X-API-Key": key})
    answer = connection.getresponse()
    assert answer.status == 200
    return connection, answer


def test_every_event_is_there_once_and_in_order(collector: Collector, key: str) -> None:
    found = [json.loads(line) for line in export(collector, key).splitlines()]
    order = [(shown["timestamp"], shown["id"]) for shown in found]
    assert order == sorted(set(order))
    assert len(found) == LINES - 3 + len(EVENTS) == collector.search(key, limit=1)["total_count"]
    assert found[-2:] == collector.search(key, limit=2)["events"][::-1]
    assert ids(collector, key, order="desc") == [shown["id"] for shown in found][::-1]


def test_filters_choose_what_is_exported(collector: Collector, key: str) -> None:
    assert ids(collector, key, severity="error") == ["full"]
    assert ids(collector, key, q="line", start_time="-9m") == []
    assert ids(collector, key, service="nobody") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("format=xml", "format"), ("columns=nothing", "columns"), ("limit=5", "limit"), ("after=never-stored", "after"),
        ("cursor=x", "cursor"), ("after=full&cursor=x", "after"), ("columns=", "columns"), ("csv_guard=2", "csv_guard"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named_before_anything_is_sent(collector: Collector, key: str, query: str, field: str) -> None:
    answer = collector.request("GET", f"{EXPORT}?{query}", key=key)
    assert (answer.status, answer.body["error"]["errors"][0]["field"]) == (422, field)


def test_csv_has_a_header_and_gives_back_every_text(collector: Collector, key: str) -> None:
    rows = list(csv.DictReader(io.StringIO(export(collector, key, format="csv", event_type="api_call").decode(), newline="")))
    full, plain = rows
    assert (full["title"], full["message"], full["severity"]) == ("=1+1", 'two\r\nlines, "quoted"', "error")
    assert (full["status_code"], full["response_time_ms"], full["request_size_bytes"]) == ("0", "41.5", str(1 << 40))
    assert (plain["status_code"], plain["tags"], plain["offset"]) == ("", "", "")
    assert json.loads(full["tags"]) == ["web", "eu"]
    assert json.loads(full["attributes"]) == {"region": "eu,1", "k8s.pod": "p-1"}
    assert json.loads(full["payload"]) == {"order": [17, 1.50]}


def test_columns_are_those_that_were_asked_for_in_that_order(collector: Collector, key: str) -> None:
    asked = "attr.region,title,timestamp,status_code"
    text = export(collector, key, format="csv", event_type="api_call", columns=asked).decode()
    assert text.split("\r\n")[0] == asked
    assert text.split("\r\n")[1].startswith('"eu,1",=1+1,20')
    assert text.split("\r\n")[2].startswith(",a title,20")
    first = json.loads(export(collector, key, event_type="api_call", columns=asked).splitlines()[0])
    assert (list(first), first["status_code"], first["attr.region"]) == (asked.split(","), 0, "eu,1")


def test_the_guard_keeps_spreadsheets_from_taking_texts_for_formulas(collector: Collector, key: str) -> None:
    text = export(collector, key, format="csv", columns="title", csv_guard="true", event_type="api_call")
    assert text == b"title\r\n'=1+1\r\na title\r\n"


def test_parquet_and_arrow_have_types_and_the_same_rows(collector: Collector, key: str) -> None:
    table = parquet.read_table(io.BytesIO(export(collector, key, format="parquet")))
    stream = pa.ipc.open_stream(export(collector, key, format="arrow")).read_all()
    assert table.equals(stream)
    assert table.num_rows == LINES - 3 + len(EVENTS)
    full = table.slice(table.num_rows - 2, 1).to_pylist()[0]
    assert full["timestamp"].timestamp() == NOW_S + 5
    assert (full["status_code"], full["response_size_bytes"], full["tags"]) == (0, None, ["web", "eu"])
    assert dict(full["attributes"]) == {"region": "eu,1", "k8s.pod": "p-1"}
    empty = parquet.read_table(io.BytesIO(export(collector, key, format="parquet", service="nobody")))
    assert (empty.num_rows, empty.schema) == (0, table.schema)


def test_gzip_is_used_where_it_is_asked_for(collector: Collector, key: str) -> None:
    answer = collector.request("GET", EXPORT, key=key, query={"columns": "event_id"}, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == export(collector, key, columns="event_id")
    assert (
        collector.request("GET", EXPORT, key=key, headers={"Accept-Encoding": "gzip;q=0"}).headers["Content-Encoding"] is None
    )


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_it_goes_on_behind_the_last_event_that_arrived(collector: Collector, key: str, order: str) -> None:
    every = ids(collector, key, order=order)
    for stop in (0, 4_500, len(every) - 1):
        assert ids(collector, key, order=order, after=every[stop]) == every[stop + 1 :]
    rows = export(collector, key, order=order, columns="event_id,cursor").splitlines()
    assert ids(collector, key, order=order, cursor=json.loads(rows[4_200])["cursor"]) == every[4_201:]


def test_a_cursor_of_another_query_is_refused(collector: Collector, key: str) -> None:
    cursor = json.loads(export(collector, key, columns="cursor", severity="error").splitlines()[0])["cursor"]
    assert collector.request("GET", EXPORT, key=key, query={"cursor": cursor}).status == 422


def test_a_deleted_event_can_be_gone_on_behind(collector: Collector) -> None:
    made = collector.new_tenant("deleter")
    batch(collector, made, [named(event_id=f"e-{n}", timestamp=NOW_S + n) for n in range(3)])
    collector.request("DELETE", "/api/v1/ingestion/events/e-1", key=key_for(collector, "deleter", "delete"))
    assert ids(collector, made, after="e-1") == ["e-2"]


def test_a_slow_reader_holds_no_query_and_more_exports_than_allowed_are_refused(collector: Collector) -> None:
    made = collector.new_tenant("slow", limits={"concurrent_queries": 1})
    store(collector, made, 20_000, pad=900)
    connection, answer = begun(collector, made)
    for _ in range(3):
        assert len(collector.search(made, limit=1)["events"]) == 1  # one query at once: the export has none
    other = collector.request("GET", EXPORT, key=made)
    assert (other.status, other.body["error"]["code"]) == (429, "too_many_streams")
    assert other.headers["Retry-After"]
    assert len(answer.read().splitlines()) == 20_000
    connection.close()


def test_an_end_in_the_middle_is_no_end_of_the_answer(collector: Collector) -> None:
    """Its key is revoked meanwhile: what is read of it then must not look whole."""
    made = collector.new_tenant("revoked")
    store(collector, made, 20_000, pad=900)
    for form in ("ndjson", "csv", "arrow"):  # Parquet is packed: all of this would fit into the sockets
        reader = key_for(collector, "revoked", "search")
        connection, answer = begun(collector, reader, format=form)
        answer.read(10)
        listed = collector.request("GET", "/api/v1/tenants/revoked/keys", headers={"X-Admin-Token": ADMIN_TOKEN}).body["keys"]
        for kept in listed:
            if kept["scopes"] == ["search"]:
                path = f"/api/v1/tenants/revoked/keys/{kept['key_id']}"
                collector.request("DELETE", path, headers={"X-Admin-Token": ADMIN_TOKEN})
        with pytest.raises(CUT):
            answer.read()
        connection.close()
    metrics = collector.request("GET", "/metrics").body.decode()
    assert re.search(r'collector_exports_total\{format="csv",result="cut"\} 1\.0', metrics)


def test_an_engine_that_comes_back_in_time_is_waited_for(tmp_path: Path) -> None:
    with ClickHouseFront(tmp_path / "data") as engine, Collector(tmp_path / "c", store=engine.url) as collector:
        made = collector.new_tenant("patient")
        store(collector, made, 20_000, pad=900)
        connection, answer = begun(collector, made)
        engine.kill()
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(answer.read)
            until(lambda: collector.request("GET", "/readyz").status == 503, "the engine is missed")
            engine.start()
            assert len(read.result().splitlines()) == 20_000
        connection.close()


def test_a_stop_of_the_collector_cuts_an_export_off_that_nobody_reads(tmp_path: Path, engine: ClickHouseFront) -> None:
    with Collector(tmp_path, store=engine.url, more="server: {shutdown_timeout_s: 3600}") as collector:
        made = collector.new_tenant(f"stopped {time.monotonic_ns()}")
        store(collector, made, 20_000, pad=900)
        connection, answer = begun(collector, made)
        assert collector.stop() == 0
        with pytest.raises(CUT):
            answer.read()
        connection.close()


def test_memory_does_not_grow_with_the_result(collector: Collector) -> None:
    small, large = collector.new_tenant("small"), collector.new_tenant("large")
    store(collector, small, 15_000)
    store(collector, large, 150_000)
    peaks = []
    for made, count in ((small, 15_000), (small, 15_000), (large, 150_000)):
        Path(f"/proc/{collector.pid}/clear_refs").write_text("5")
        assert export_size(collector, made) == count
        status = Path(f"/proc/{collector.pid}/status").read_text()
        peaks.append(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)  # type: ignore[index]
    assert peaks[2] - peaks[1] < 25, f"MiB at most: {peaks}"


def export_size(collector: Collector, key: str) -> int:
    """Lines of an export that is not kept."""
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=60)
    query = urlencode({"format": "csv", "columns": "timestamp,event_id,message"})
    connection.request("GET", f"{EXPORT}?{query}", headers={"X-API-Key": key})
    answer = connection.getresponse()
    found = -1
    while data := answer.read(1 << 20):
        found += data.count(b"\n")
    connection.close()
    return found


def test_a_key_that_may_only_ingest_exports_nothing(collector: Collector) -> None:
    collector.new_tenant("ingester")
    assert collector.request("GET", EXPORT, key=key_for(collector, "ingester", "ingest")).status == 403
