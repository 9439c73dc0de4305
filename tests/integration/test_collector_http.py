"""The collector as a process: real sockets, real engine, real signals."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.support.collector import ADMIN_TOKEN, Answer, Collector, command, record, until
from tests.support.engine import ClickHouseFront

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

LINES = b"first line\nsecond LINE\nthird\n"
FILE_ID = "00c0ffee00c0ffee"
SEARCH = "/api/v1/ingestion/events/search"
REGISTER = "/api/v1/auth/register/tenant"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(
        tmp_path_factory.mktemp("collector"),
        more="server: {max_request_bytes: 2000000}\ndefault_limits: {max_request_bytes: 1000000}",
    ) as running:
        yield running


@pytest.fixture
def key(collector: Collector, request: pytest.FixtureRequest) -> str:
    """The key of a tenant of the test's own."""
    return collector.new_tenant(request.node.name[:150])


def outcome(answer: Answer) -> Any:
    """The one record's outcome in an answer that must be an ack."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == wire.ANSWER_TYPE
    (only,) = answer.body["records"]
    return only


def refusal(answer: Answer, status: int, code: str) -> str:
    """The message of an answer that must be this error."""
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
    assert answer.body["error"]["request_id"] == answer.headers["X-Request-Id"]
    return str(answer.body["error"]["message"])


def found(collector: Collector, key: str, **query: object) -> list[str]:
    return [event["message"] for event in collector.search(key, **query)["events"]]


def test_every_line_of_a_record_is_found_with_its_place_in_the_file(collector: Collector, key: str) -> None:
    answer = outcome(collector.post(key, record(LINES, record_id="r1", base_offset=100)))
    assert (answer["record_id"], answer["outcome"], answer["accepted"]) == ("r1", "accepted", 3)
    page = collector.search(key, order="asc")
    assert [(event["message"], event["offset"]) for event in page["events"]] == [
        ("first line", 100), ("second LINE", 111), ("third", 123),
    ]  # fmt: skip
    assert [event["id"] for event in page["events"]][1] == wire.event_id(FILE_ID, 111, b"second LINE")
    assert (page["total_count"], page["filtered_count"], page["has_more"]) == (3, 3, False)
    event = page["events"][0]
    assert event["source"]["service"] == "shop"
    assert (event["path"], event["severity"], event["event_type"]) == ("/var/log/shop.log", "info", "log")
    assert event["timestamp"].endswith("Z")
    assert len(event["timestamp"]) == len("2026-01-31T08:00:00.000000Z")


def test_a_record_sent_again_is_a_duplicate_and_shown_once(collector: Collector, key: str) -> None:
    run = record(LINES)
    assert outcome(collector.post(key, run))["accepted"] == 3
    assert outcome(collector.post(key, run))["outcome"] == "duplicate"
    assert outcome(collector.post(key, run, X_PulseStream_Replay="1"))["duplicate"] == 3
    assert collector.search(key)["total_count"] == 3


def test_a_run_of_many_records_has_an_outcome_for_each(collector: Collector, key: str) -> None:
    run = b"".join(record(b"line\n" * 100, record_id=f"r{n}", base_offset=n * 500) for n in range(20))
    answer = collector.post(key, run)
    assert [record["record_id"] for record in answer.body["records"]] == [f"r{n}" for n in range(20)]
    assert {record["accepted"] for record in answer.body["records"]} == {100}
    assert collector.search(key, limit=1)["total_count"] == 2000


def test_pages_show_every_event_once_in_both_directions(collector: Collector, key: str) -> None:
    lines = b"".join(b"line %d\n" % n for n in range(50))
    outcome(collector.post(key, record(lines)))
    ways = {}
    for order in ("desc", "asc"):
        shown, cursor = [], {}
        while True:
            page = collector.search(key, order=order, limit=7, q="line", **cursor)
            shown += [event["message"] for event in page["events"]]
            assert page["total_count"] == 50
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        ways[order] = shown
    assert ways["asc"] == [f"line {n}" for n in range(50)]
    assert ways["desc"] == ways["asc"][::-1]


def test_a_page_of_long_lines_ends_early_and_the_next_goes_on(collector: Collector, key: str) -> None:
    line = b"x" * (4_000_000 - 1) + b"\n"
    for n in range(7):
        outcome(collector.post(key, record(line, base_offset=n * len(line))))
    first = collector.search(key)
    assert (len(first["events"]), first["has_more"], first["total_count"]) == (5, True, 7)
    second = collector.search(key, cursor=first["next_cursor"])
    assert (len(second["events"]), second["has_more"], second["total_count"]) == (2, False, 7)
    assert len({event["id"] for event in first["events"] + second["events"]}) == 7


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("ORDER", ["order_id=7 paid", "Order 8 Größe XL"]),
        ("größe", ["Order 8 Größe XL"]),
        ("GRÖSSE order", []),
        ("GRÖßE order", ["Order 8 Größe XL"]),
        ("id 7", ["order_id=7 paid"]),
        ("orde", []),
        ("ärger", ["ÄRGER und Mühe"]),
        ("mühe", ["ÄRGER und Mühe"]),
        ("xl-8", ["Order 8 Größe XL"]),
        ("bytes", ["raw \ufffd bytes"]),
    ],
)
def test_a_search_finds_all_words_in_any_case(collector: Collector, shared_key: str, q: str, expected: list[str]) -> None:
    assert found(collector, shared_key, q=q, order="asc") == expected


@pytest.fixture(scope="module")
def shared_key(collector: Collector) -> str:
    key = collector.new_tenant("words")
    outcome(
        collector.post(
            key, record("order_id=7 paid\nOrder 8 Größe XL\n".encode() + b"raw \xff\xfe bytes\n" + "ÄRGER und Mühe\n".encode())
        )
    )
    return key


def test_filters_are_exact_and_lists_mean_any_of(collector: Collector, key: str) -> None:
    for service in ("a", "ab", "c"):
        outcome(collector.post(key, record(service.encode() + b"\n", service=service, source=f"{service}-log")))
    assert found(collector, key, service="a") == ["a"]
    assert sorted(found(collector, key, service="a,c")) == ["a", "c"]
    assert found(collector, key, source="ab-log") == ["ab"]
    assert found(collector, key, severity="error") == []
    one = collector.search(key, service="c")["events"][0]
    assert found(collector, key, event_id=one["id"]) == ["c"]


def test_a_time_range_includes_both_ends(collector: Collector, key: str) -> None:
    now = time.time_ns() // 1_000_000_000 * 1_000_000_000
    for age in (0, 60, 120):
        outcome(collector.post(key, record(b"%d\n" % age, observed_ns=now - age * 10**9)))
    second = now // 10**9
    assert found(collector, key, start_time=second - 60) == ["0", "60"]
    assert found(collector, key, end_time=second - 60) == ["60", "120"]
    assert found(collector, key, start_time=second - 60, end_time=second - 60) == ["60"]
    assert found(collector, key, start_time="-90s") == ["0", "60"]


def test_a_tenant_sees_nothing_of_another(collector: Collector, key: str) -> None:
    other = collector.new_tenant("the other one")
    run = record(LINES)
    outcome(collector.post(key, run))
    assert collector.search(other)["total_count"] == 0
    assert outcome(collector.post(other, run))["accepted"] == 3
    cursor = collector.search(key, limit=1)["next_cursor"]
    answer = collector.request("GET", SEARCH, key=other, query={"cursor": cursor})
    assert "belongs to another query" in refusal(answer, 422, "invalid")


def test_stats_count_events_and_losses(collector: Collector, key: str) -> None:
    from agent import codec

    outcome(collector.post(key, record(LINES)))
    loss = wire.Loss("l1", "/var/log/x", "s", "deleted_before_read", 4096, True, 10, FILE_ID, time.time_ns(), 3)
    raw = wire.encode_losses((loss,))
    header = wire.Header(wire.LOSS, "r-loss", raw_bytes=len(raw), events=1, observed_ns=time.time_ns())
    assert outcome(collector.post(key, wire.encode_record(header, codec.compress(raw))))["accepted"] == 1
    stats = collector.request("GET", "/api/v1/ingestion/stats", key=key).body
    assert stats["events"]["count"] == 3
    assert stats["losses"] == {
        "count": 1,
        "bytes": 4096,
        "at_least": True,
        "by_reason": {"deleted_before_read": {"count": 1, "bytes": 4096, "events": 3, "at_least": True, "came_back": 0}},
    }


def test_a_bad_record_is_refused_with_its_place_and_nothing_of_the_run_is_stored(collector: Collector, key: str) -> None:
    good = record(LINES)
    damaged = bytearray(good + good)
    damaged[-1] ^= 1
    answer = collector.post(key, bytes(damaged))
    assert f"bad record at byte {len(good)}" in refusal(answer, 400, wire.CODE_BAD_RECORD)
    assert answer.body["error"]["errors"]
    assert collector.search(key)["total_count"] == 0


def test_a_run_of_a_newer_version_is_to_be_held(collector: Collector, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(wire, "VERSION", 99)
        newer = record(LINES)
    answer = collector.post(key, newer)
    refusal(answer, 503, wire.CODE_UNKNOWN_VERSION)
    assert int(answer.headers["Retry-After"]) >= 1


def test_an_empty_body_is_refused(collector: Collector, key: str) -> None:
    assert "the body is empty" in refusal(collector.post(key, b""), 400, "bad_request")


def test_another_content_type_is_refused(collector: Collector, key: str) -> None:
    answer = collector.post(key, b"{}", Content_Type="application/json")
    assert wire.RUN_TYPE in refusal(answer, 415, "unsupported_content_type")


def test_a_body_beyond_the_tenants_limit_is_refused_without_reading_it(collector: Collector, key: str) -> None:
    assert "1000000 bytes at most" in refusal(collector.post(key, b"x" * 1_000_001), 413, wire.CODE_TOO_LARGE)
    head = (
        f"POST {wire.BLOCKS_PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: {wire.RUN_TYPE}\r\n"
        "Content-Length: 99999999999\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", collector.port), timeout=30) as sock:
        sock.sendall(head.encode())
        assert sock.recv(12) == b"HTTP/1.1 413"


def test_a_request_without_a_key_is_told_which_header_to_send(collector: Collector) -> None:
    for path, method in ((SEARCH, "GET"), (wire.BLOCKS_PATH, "POST"), ("/api/v1/ingestion/stats", "GET")):
        answer = collector.request(method, path)
        assert "X-API-Key" in refusal(answer, 401, wire.CODE_UNAUTHORIZED)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_invented_key_is_refused(collector: Collector) -> None:
    invented = "ps_00000000_" + "A" * 43
    refusal(collector.post(invented, record(LINES)), 401, wire.CODE_UNAUTHORIZED)


def test_a_key_may_come_as_a_bearer_token(collector: Collector, key: str) -> None:
    answer = collector.request("GET", SEARCH, headers={"Authorization": f"Bearer {key}"})
    assert answer.status == 200


def test_a_bad_parameter_is_named(collector: Collector, key: str) -> None:
    answer = collector.request("GET", SEARCH, key=key, query={"limit": "many", "colour": "red"})
    refusal(answer, 422, "invalid")
    assert [fault["field"] for fault in answer.body["error"]["errors"]] == ["colour", "limit"]


def test_what_does_not_exist_is_answered_in_the_same_form(collector: Collector) -> None:
    refusal(collector.request("GET", "/nope"), 404, "not_found")
    answer = collector.request("PUT", wire.BLOCKS_PATH)
    refusal(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("name", "is_kept"), [("abc-1", True), ("a" * 64, True), ("a b", False), ("a" * 65, False), ("é", False)]
)
def test_a_request_keeps_the_id_it_came_with_if_it_is_a_plain_one(collector: Collector, name: str, is_kept: bool) -> None:
    said = collector.request("GET", "/nope", headers={"X-Request-ID": name})
    told = said.headers["X-Request-ID"]
    assert told == said.body["error"]["request_id"]
    assert (told == name) is is_kept
    assert wire.REQUEST_ID.fullmatch(told)
    assert f" request_id={told} " in collector.stderr.read_text()


@pytest.mark.parametrize(
    "sent",
    [
        b"NO HTTP AT ALL\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 99_999 + b"\r\n\r\n",
    ],
    ids=["no http", "an expectation", "a header too long"],
)
def test_an_answer_has_an_id_where_no_handler_was_reached(collector: Collector, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", collector.port), 10) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status in (400, 417)
        told = answer.headers["X-Request-ID"]
        assert wire.REQUEST_ID.fullmatch(told)
        assert json.loads(answer.read())["error"]["request_id"] == told


def test_the_line_of_a_request_says_which_trace_it_is_of(collector: Collector) -> None:
    parent = f"00-{'a1' * 16}-{'b2' * 8}-01"
    collector.request("GET", "/nope", headers={"X-Request-ID": "traced", "traceparent": parent})
    line = next(line for line in collector.stderr.read_text().splitlines() if "request_id=traced" in line)
    assert f"trace_id={'a1' * 16} span_id={'b2' * 8} trace_flags=01" in line


def test_a_tenant_is_registered_with_the_admin_token_only(collector: Collector) -> None:
    body = json.dumps({"name": "x"}).encode()
    for headers in ({}, {"X-Admin-Token": "wrong"}):
        answer = collector.request("POST", REGISTER, body=body, headers=headers)
        assert "X-Admin-Token" in refusal(answer, 401, wire.CODE_UNAUTHORIZED)


def test_a_taken_slug_is_a_conflict(collector: Collector) -> None:
    collector.new_tenant("Taken", slug="taken-slug")
    body = json.dumps({"name": "Another", "slug": "taken-slug"}).encode()
    answer = collector.request("POST", REGISTER, body=body, headers={"X-Admin-Token": ADMIN_TOKEN})
    assert "'taken-slug' is taken" in refusal(answer, 409, "conflict")


def test_a_tenant_can_be_made_from_the_command_line_while_the_collector_runs(collector: Collector) -> None:
    flags = ("--config", str(collector.config), "--url", collector.url, "--json")
    made = command("tenant", "create", "By Hand", "--retention-days", "7", *flags)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["tenant"]["limits"]["retention_days"] == 7
    outcome(collector.post(json.loads(made.stdout)["api_key"], record(LINES)))
    listed = json.loads(command("tenant", "list", *flags).stdout)
    assert "by-hand" in [tenant["slug"] for tenant in listed["tenants"]]


def test_a_locked_store_without_a_token_says_who_has_it_and_what_to_do(collector: Collector) -> None:
    made = command("tenant", "create", "x", "--store", collector.store)
    assert made.returncode == 1
    assert f"another collector, pid {collector.pid}, has this store open" in made.stderr
    assert "--admin-token-file" in made.stderr


def test_a_second_collector_on_the_store_or_on_the_port_ends_with_the_reason(collector: Collector) -> None:
    second = command("serve", "--config", str(collector.config), "--port", "0")
    assert (second.returncode, f"pid {collector.pid}" in second.stderr) == (1, True)
    third = command("serve", "--port", str(collector.port), "--store", "chdb:///nowhere/at/all")
    assert third.returncode == 1
    assert "is in use by another program" in third.stderr


def test_health_readiness_and_metrics_are_open_and_metrics_name_no_content(collector: Collector, key: str) -> None:
    outcome(collector.post(key, record(b"a secret line\n", path="/a/secret/path")))
    assert collector.request("GET", "/healthz").body == {"status": "ok"}
    assert collector.request("GET", "/readyz").body == {"status": "ready"}
    text = collector.request("GET", "/metrics").body.decode()
    assert "collector_store_up 1.0" in text
    assert "secret" not in text
    assert 'collector_events_total{outcome="accepted"}' in text


def test_the_log_holds_no_keys_and_no_content(collector: Collector, key: str) -> None:
    outcome(collector.post(key, record(b"very-private-line\n")))
    assert found(collector, key, q="very-private-line") == ["very-private-line"]
    logged = collector.stderr.read_text()
    assert "POST /api/v1/ingestion/blocks 200" in logged
    for hidden in (key, key[12:], "very-private", ADMIN_TOKEN):
        assert hidden not in logged


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    with collector:
        key = collector.new_tenant("t")
        run = record(LINES)
        assert outcome(collector.post(key, run))["accepted"] == 3
    with collector:  # leaving the block above was a SIGKILL
        assert collector.search(key)["total_count"] == 3
        assert outcome(collector.post(key, run))["outcome"] == "duplicate"
        assert collector.search(key)["total_count"] == 3


def test_a_stop_ends_well_and_everything_answered_is_there(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    collector.start()
    key = collector.new_tenant("t")

    def send(n: int) -> int:
        try:
            answer = collector.post(key, record(b"line %d\n" % n, record_id=f"r{n}", base_offset=10_000 + n * 100))
        except OSError:
            return 0
        return int(outcome(answer)["accepted"]) if answer.status == 200 else 0

    with ThreadPoolExecutor(8) as threads:
        sent = [threads.submit(send, n) for n in range(200)]
        until(lambda: sum(one.done() for one in sent) > 20)
        assert collector.stop() == 0
        accepted = sum(one.result() for one in sent)
    assert accepted > 20
    with collector:
        assert collector.search(key, limit=1)["total_count"] >= accepted


def test_a_caller_who_never_finishes_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    collector = Collector(tmp_path, more="server: {shutdown_timeout_s: 2}")
    collector.start()
    key = collector.new_tenant("t")
    with socket.create_connection(("127.0.0.1", collector.port), timeout=30) as sock:
        sock.sendall(
            f"POST {wire.BLOCKS_PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: {wire.RUN_TYPE}\r\n"
            "Content-Length: 1000\r\n\r\nhalf".encode()
        )
        in_flight = "collector_http_requests_in_flight 2.0"  # this one, and the question for it
        until(lambda: in_flight in collector.request("GET", "/metrics").body.decode())
        began = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - began < 5


def received(collector: Collector) -> float:
    """Bytes of runs that arrived whole."""
    text = collector.request("GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("collector_http_request_body_bytes"))


def test_a_caller_who_goes_away_changes_nothing(collector: Collector, key: str) -> None:
    run = record(LINES)
    before = received(collector)
    with socket.create_connection(("127.0.0.1", collector.port), timeout=30) as sock:
        head = (
            f"POST {wire.BLOCKS_PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: {wire.RUN_TYPE}\r\n"
            f"Content-Length: {len(run)}\r\n\r\n"
        )
        sock.sendall(head.encode() + run)
        until(lambda: received(collector) > before)
    until(lambda: bool(collector.search(key)["total_count"] == 3))
    assert outcome(collector.post(key, run))["duplicate"] == 3


def test_a_body_cut_short_is_no_fault_of_ours(collector: Collector, key: str) -> None:
    head = (
        f"POST {wire.BLOCKS_PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: {wire.RUN_TYPE}\r\n"
        f"X-Request-Id: cut-short\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", collector.port), timeout=30) as sock:
        sock.sendall(head.encode() + b"half")
    until(lambda: "request_id=cut-short" in collector.stderr.read_text())
    (line,) = [line for line in collector.stderr.read_text().splitlines() if "request_id=cut-short" in line]
    assert "POST /api/v1/ingestion/blocks 400" in line


def test_without_an_admin_token_registration_is_off_and_says_how_to_switch_it_on(tmp_path: Path) -> None:
    with Collector(tmp_path, admin_token="") as collector:
        answer = collector.request("POST", REGISTER, body=b'{"name":"x"}', headers={"X-Admin-Token": ""})
        assert "admin_token_file" in refusal(answer, 403, "registration_off")


def test_a_tenant_made_while_no_collector_runs_is_known_to_the_next(tmp_path: Path) -> None:
    collector = Collector(tmp_path, admin_token="")
    made = command("tenant", "create", "Early Bird", "--config", str(collector.config), "--json")
    assert made.returncode == 0, made.stderr
    with collector:
        outcome(collector.post(json.loads(made.stdout)["api_key"], record(LINES)))


def test_the_collector_may_start_before_the_engine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    front = ClickHouseFront(tmp_path / "engine", port)
    collector = Collector(tmp_path / "collector", store=f"http://127.0.0.1:{port}")
    with collector:
        assert "not ready yet" in collector.ready_line
        assert collector.request("GET", "/healthz").status == 200
        assert collector.request("GET", "/readyz").status == 503
        some_key = "ps_00000000_" + "A" * 43
        away = collector.post(some_key, record(LINES))
        refusal(away, 503, wire.CODE_STORE_AWAY)
        assert int(away.headers["Retry-After"]) >= 1
        with front:
            until(lambda: collector.request("GET", "/readyz").status == 200)
            key = collector.new_tenant("t")
            assert outcome(collector.post(key, record(LINES)))["accepted"] == 3
            assert collector.search(key)["total_count"] == 3
        until(lambda: collector.request("GET", "/readyz").status == 503)
        refusal(collector.post(key, record(LINES)), 503, wire.CODE_STORE_AWAY)


def test_data_of_one_tenant_is_not_stored_with_the_key_of_another(collector: Collector, key: str) -> None:
    answer = collector.post(key, record(b"whose is this\n"), X_PulseStream_Tenant="somebody-else")
    assert answer.status == 403
    assert answer.body["error"]["code"] == "forbidden"
    assert "belongs to another tenant than the key; nothing was stored" in answer.body["error"]["message"]
    assert collector.search(key, q="whose")["total_count"] == 0
