"""One event: what passes becomes a row, what does not is refused with every fault by name."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.event_checks import ROW_COLUMNS, Checked, Refused, Rules, check, id_of_key
from collector.ingest.event_types import ApiEvent
from collector.store.columns import EVENT_COLUMNS
from tests.support.events import body, event, full

NOW_US = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z
DAY_US = 86_400_000_000
RULES = Rules(now_us=NOW_US, retention_days=30, retention_class=30, max_event_bytes=20_000, source_application="app")


def mint(index: int) -> tuple[str, bool]:
    return f"minted-{index}", True


def looked_at(value: Any, *, index: int = 0, rules: Rules = RULES) -> Checked | Refused:
    return check(value if isinstance(value, bytes) else body(value), rules, mint, index)


def row(value: Any) -> dict[str, Any]:
    """The row of an event that must pass."""
    checked = looked_at(value)
    assert isinstance(checked, Checked), checked
    return dict(zip(ROW_COLUMNS, checked.row, strict=True))


def faults(value: Any) -> dict[str, str]:
    """What is wrong, by field, of an event that must be refused."""
    refused = looked_at(value)
    assert isinstance(refused, Refused), refused
    return {fault.field: fault.error for fault in refused.errors}


def test_everything_an_event_says_is_in_its_row() -> None:
    said = full(timestamp="2026-09-21T14:00:00.25+00:00")
    assert row(said) == {
        "external_id": said["event_id"],
        "timestamp": NOW_US - 800_000_000 + 250_000,
        "observed_timestamp": NOW_US,
        "event_type": "api_call",
        "severity": "warning",
        "service": "shop",
        "source": "shop-api",
        "message": "order 8 was placed by Zoë",
        "attributes": {"region": "eu", "retries": "3"},
        "retention_days": 30,
        "title": "order placed",
        "endpoint": "/orders",
        "method": "POST",
        "service_version": "1.2.3",
        "environment": "prod",
        "user_id": "u-1",
        "session_id": "s-1",
        "request_id": "r-1",
        "trace_id": "t" * 32,
        "span_id": "s" * 16,
        "ip_address": "10.0.0.1",
        "user_agent": "curl/8",
        "tags": ["a", "b"],
        "status_code": 201,
        "response_time_ms": 12.5,
        "request_size_bytes": 10,
        "response_size_bytes": 20,
        "zero_metrics": None,
        "error_code": "E1",
        "error_type": "Oops",
        "error_message": "no",
        "stack_trace": "a\nb",
        "payload": '{"order": 8, "lines": [1, 2]}',
        "metadata": '{"sent_by": "test"}',
    }


def test_a_row_fills_columns_that_there_are_and_all_but_those_of_files() -> None:
    of_files = {"tenant_id", "path", "agent", "parse_error", "version", "is_deleted"}
    assert set(EVENT_COLUMNS) - set(ROW_COLUMNS) == of_files
    assert set(ROW_COLUMNS) <= set(EVENT_COLUMNS)


def test_what_is_left_out_or_null_takes_its_default() -> None:
    nulls = {name: None for name in ApiEvent.__struct_fields__ if name not in ("event_type", "title", "source")}
    for said in (event(), event(**nulls)):
        found = row(said)
        assert (found["external_id"], found["severity"], found["timestamp"]) == ("minted-0", "info", NOW_US)
        assert found["source"] == "app"
        said_or_made = {
            "external_id", "severity", "timestamp", "observed_timestamp", "retention_days", "event_type", "title", "service",
            "endpoint", "method", "source",
        }  # fmt: skip
        assert {name for name in ROW_COLUMNS if found[name]} == said_or_made


def test_metrics_of_0_are_named_and_those_not_said_are_not() -> None:
    found = row(event(metrics={"status_code": 0, "response_time_ms": 0.0, "request_size_bytes": 5}))
    assert sorted(found["zero_metrics"]) == ["response_time_ms", "status_code"]
    assert (found["status_code"], found["request_size_bytes"], found["response_size_bytes"]) == (0, 5, None)


def test_members_that_are_not_known_become_attributes() -> None:
    said = event(region="eu", source={**event()["source"], "rack": 7}, context={"plan": {"a": [1]}}, payload={"n": 1})
    found = row(said)
    assert found["attributes"] == {"region": "eu", "source.rack": "7", "context.plan": '{"a":[1]}'}
    assert found["payload"] == '{"n": 1}'


def test_payload_is_kept_to_the_digit() -> None:
    text = b'{"big": 12345678901234567890123.50, "\\u00e4": 1e300}'
    raw = body(event()).replace(b'"title"', b'"payload": ' + text + b', "title"')
    assert row(raw)["payload"] == text.decode()
    assert row(raw.replace(b'"title"', b'"more": 1, "title"'))["payload"] == text.decode()


@pytest.mark.parametrize(
    ("changed", "field", "error"),
    [
        ({"title": ...}, "title", "is required"),
        ({"title": ""}, "title", "expected str of length >= 1"),
        ({"title": None}, "title", "expected str, got null"),
        ({"event_type": "call"}, "event_type", "is not a word it may be"),
        ({"severity": "ERROR"}, "severity", "is not a word it may be"),
        ({"source": "shop"}, "source", "expected object, got str"),
        ({"source": {"endpoint": "/", "method": "GET"}}, "source.service", "is required"),
        ({"metrics": {"status_code": "200"}}, "metrics.status_code", "expected int | null, got str"),
        ({"metrics": {"status_code": 70_000}}, "metrics.status_code", "expected int <= 65535"),
        ({"metrics": {"response_time_ms": -1}}, "metrics.response_time_ms", "expected float >= 0.0"),
        ({"metrics": {"request_size_bytes": 1 << 63}}, "metrics.request_size_bytes", "expected int <= 9223372036854775807"),
        ({"context": {"tags": ["a", 3]}}, "context.tags[1]", "expected str, got int"),
        ({"timestamp": "yesterday"}, "timestamp", "is not a time"),
        ({"timestamp": "-15m"}, "timestamp", "is not a time"),
        ({"timestamp": "now"}, "timestamp", "is not a time"),
        ({"timestamp": 12}, "timestamp", "is not a time"),
        ({"timestamp": True}, "timestamp", "expected int | float | str | null, got bool"),
        ({"event_id": ""}, "event_id", "expected str of length >= 1"),
        ({"event_id": 7}, "event_id", "expected str | null, got int"),
        ({"event_id": "a\nb"}, "event_id", "has characters that cannot be shown, or spaces around it"),
        ({"event_id": "search"}, "event_id", "is a word of this API's own"),
        ({"attributes": {"": 1}}, "attributes", "expected names of 1 to 200 characters"),
        ({"attributes": {str(n): n for n in range(1001)}}, "attributes", "1001 attributes, at most 1000 are taken"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(changed: dict[str, Any], field: str, error: str) -> None:
    assert faults(event(**changed)) == {field: error}


def test_all_faults_of_an_event_are_said_at_once_and_a_wrong_name_is_guessed() -> None:
    refused = looked_at(event(title=7, severity="bad", source={"sevice": "shop", "endpoint": "/"}))
    assert isinstance(refused, Refused)
    assert [fault.field for fault in refused.errors] == ["title", "source.service", "source.method", "severity"]
    assert refused.errors[1].suggestion == "rename 'sevice' to 'service'"
    assert refused.errors[3].value == "bad"
    assert "critical" in refused.errors[3].suggestion


def test_client_sends_an_id_of_the_file_pattern() -> None:
    assert faults(event(event_id="00c0ffee00c0ffee-000000000064-00000000")) == {
        "event_id": "has the form of an ID that was made from a file"
    }


@pytest.mark.parametrize("timestamp", ["1970-01-01T00:00:00Z", 0, "1969-12-31", "0001-01-01", (NOW_US - 30 * DAY_US) / 1e6 - 1])
def test_year_1970_is_expired(timestamp: Any) -> None:
    refused = looked_at(event(event_id="a", timestamp=timestamp))
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.event_id, refused.errors[0].field) == ("expired", "a", "timestamp")
    assert "30 days" in refused.errors[0].error


@pytest.mark.parametrize("timestamp", ["2299-12-31T23:59:59Z", "9999-12-31", (1 << 63) - 1, (NOW_US + DAY_US) / 1e6 + 1])
def test_year_2299_is_stored_at_its_arrival_and_said_to_be_ahead(timestamp: Any) -> None:
    checked = looked_at(event(timestamp=timestamp))
    assert isinstance(checked, Checked)
    assert checked.ahead
    found = row(event(timestamp=timestamp))
    assert (found["timestamp"], found["attributes"]) == (NOW_US, {"original_timestamp": str(timestamp)})


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-09-21T14:13:20Z", "2026-09-21 14:13:20", "2026-09-21T16:13:20+02:00", 1_790_000_000, 1_790_000_000.0,
        "1790000000",        1_790_000_000_000, NOW_US, NOW_US * 1000,
    ],
)  # fmt: skip
def test_a_time_may_be_written_in_any_of_the_forms(timestamp: Any) -> None:
    assert row(event(timestamp=timestamp))["timestamp"] == NOW_US


def test_times_at_the_bounds_are_kept() -> None:
    for moment in (NOW_US - 30 * DAY_US, NOW_US + DAY_US):
        assert row(event(timestamp=moment))["timestamp"] == moment


def test_an_event_beyond_the_limit_is_refused_with_both_sizes() -> None:
    said = event(message="x" * 20_000)
    assert faults(said) == {"event": f"has {len(body(said))} bytes, at most 20000 are taken"}


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", "is not JSON: line 1, column 1: it ends too early"),
        (b'{"a": 1,}', "is not JSON: line 1, column 9: trailing comma in object"),
        (b'{"title": "\xff"}', "is not JSON: line 1, column 12: a text is not UTF-8"),
        (b"[" * 100, "is not JSON: line 1, column 101: it ends too early"),
        (b"[]", "expected an object, got a list"),
        (b"null", "expected an object, got null"),
        (b"7", "expected an object, got a number"),
    ],
)
def test_what_is_no_object_is_refused_with_the_place(raw: bytes, error: str) -> None:
    assert faults(raw) == {"event": error}


def test_deep_nesting_is_refused_or_kept_but_never_raised() -> None:
    rules = Rules(now_us=NOW_US, retention_days=30, retention_class=30, max_event_bytes=10_000_000)
    for depth in (10, 900, 1000, 100_000):
        for member in (b"payload", b"extra", b"attributes"):
            nested = b'{"a":' * depth + b"1" + b"}" * depth
            looked_at(body(event()).replace(b'"title"', b'"%s": %s, "title"' % (member, nested)), rules=rules)


def test_a_payload_that_is_not_utf8_is_refused_by_name() -> None:
    raw = body(event(payload={"a": "x"})).replace(b'"x"', b'"\xff"')
    assert faults(raw) == {"payload": "is not UTF-8"}


def test_the_id_of_a_key_is_the_same_again_and_another_for_every_place() -> None:
    ids = {id_of_key("k", 0), id_of_key("k", 1), id_of_key("K", 0), id_of_key("1:k", 0)}
    assert len(ids) == 4
    assert id_of_key("k") == id_of_key("k", 0)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_members = st.sampled_from([*ApiEvent.__struct_fields__, "more", ""])


@given(st.dictionaries(_members, _values, max_size=6))
def test_any_members_make_a_row_or_faults(changed: dict[str, Any]) -> None:
    checked = looked_at({**event(), **changed})
    if isinstance(checked, Refused):
        assert checked.errors
        return
    assert len(checked.row) == len(ROW_COLUMNS)
    assert all(isinstance(value, str) for value in checked.row[8].values())
    assert NOW_US - 30 * DAY_US <= checked.row[1] <= NOW_US + DAY_US


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\ud8e0123title ', max_size=100).map(str.encode))
def test_any_bytes_are_refused_with_a_reason(raw: bytes) -> None:
    assert all(faults(raw).values())


def test_a_common_event_takes_microseconds() -> None:
    raw = body(full(timestamp="2026-09-21T14:00:00Z"))
    began = time.perf_counter()
    for _ in range(1000):
        check(raw, RULES, mint)
    assert time.perf_counter() - began < 0.5
