"""What an answer means. Only one that names every record and adds up is an ack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from agent import wire
from agent.shipping import retry
from agent.shipping.retry import Delivered, RetryAfter, Split, Stop, judge

TENANT = "tenant-1"
EXPECTED = {"r-1": 3, "r-2": 2}


def answer(**changes: Any) -> wire.Answer:
    """An ack of `EXPECTED`, with changes."""
    records = (wire.RecordOutcome("r-1", wire.ACCEPTED, accepted=3), wire.RecordOutcome("r-2", wire.DUPLICATE, duplicate=2))
    return msgspec.structs.replace(wire.Answer(TENANT, records), **changes)


def judged(
    status: int = 200,
    body: object = None,
    *,
    kind: str = wire.ANSWER_TYPE,
    headers: Mapping[str, str] | None = None,
    tenant_id: str = TENANT,
) -> retry.Decision:
    data = body if isinstance(body, bytes) else msgspec.json.encode(answer() if body is None else body)
    return judge(status, CIMultiDict({"Content-Type": kind, **(headers or {})}), data, EXPECTED, tenant_id)


def test_an_answer_that_names_every_record_and_adds_up_is_an_ack() -> None:
    assert judged() == Delivered(answer())


def test_before_the_first_contact_any_tenant_will_do() -> None:
    assert judged(body=answer(tenant_id="whoever"), tenant_id="") == Delivered(answer(tenant_id="whoever"))


def test_the_type_may_carry_parameters() -> None:
    assert isinstance(judged(kind=f"{wire.ANSWER_TYPE}; charset=utf-8"), Delivered)


def test_fields_of_a_newer_collector_are_ignored() -> None:
    body = json.loads(msgspec.json.encode(answer()))
    assert isinstance(judged(body={**body, "new": 1}), Delivered)


EXPIRED, REJECTED = wire.EventOutcome(9, wire.EXPIRED, "older_than_retention"), wire.EventOutcome(5, wire.REJECTED, "why")


def test_rejected_events_are_a_final_outcome() -> None:
    mixed = wire.RecordOutcome("r-1", wire.MIXED, accepted=1, rejected=1, expired=1, exceptions=(REJECTED, EXPIRED))
    assert isinstance(judged(body=answer(records=(mixed, answer().records[1]))), Delivered)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (wire.RecordOutcome("r-1", wire.MIXED, accepted=2, rejected=1), "names 0 of 1 rejected events of r-1"),
        (
            wire.RecordOutcome("r-1", wire.MIXED, accepted=1, rejected=2, exceptions=(REJECTED, REJECTED)),
            "names 1 of 2 rejected events of r-1",
        ),
        (wire.RecordOutcome("r-1", wire.MIXED, accepted=3, exceptions=(REJECTED,)), "names 1 of 0 rejected events of r-1"),
        (
            wire.RecordOutcome("r-1", wire.MIXED, accepted=2, expired=1, exceptions=(REJECTED, EXPIRED)),
            "names 1 of 0 rejected events of r-1",
        ),
        (wire.RecordOutcome("r-1", wire.MIXED, accepted=4, rejected=-1), "a negative count for r-1"),
        (wire.RecordOutcome("r-1", wire.ACCEPTED, accepted=2, rejected=1), "'accepted' for r-1, 2 of 3 events are"),
        (wire.RecordOutcome("r-1", wire.REJECTED, accepted=2, rejected=1), "'rejected' for r-1, 1 of 3 events are"),
        (wire.RecordOutcome("r-1", "stored", accepted=3), "'stored' for r-1, 0 of 3 events are"),
    ],
)
def test_refused_events_that_are_not_named_are_not_taken_for_delivered(outcome: wire.RecordOutcome, said: str) -> None:
    decision = judged(body=answer(records=(outcome, answer().records[1])))
    assert isinstance(decision, RetryAfter)
    assert said in decision.reason
    assert decision.suspicious


def test_a_record_without_events_needs_no_counts() -> None:
    body = msgspec.json.encode(wire.Answer(TENANT, (wire.RecordOutcome("r-0", wire.ACCEPTED),)))
    assert isinstance(judge(200, {"Content-Type": wire.ANSWER_TYPE}, body, {"r-0": 0}, TENANT), Delivered)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("text/html", b"<html>Welcome</html>", "'text/html', not from a collector"),
        ("", b"", "'(none)', not from a collector"),
        ("application/json", msgspec.json.encode(answer()), "not from a collector"),
        (wire.ANSWER_TYPE, msgspec.json.encode(answer())[:-9], "cut or damaged"),
        (wire.ANSWER_TYPE, b"", "cut or damaged"),
        (wire.ANSWER_TYPE, b"[]", "cut or damaged"),
    ],
    ids=["html", "no_type", "other_json", "cut", "empty", "other_shape"],
)
def test_a_200_that_is_not_an_answer_is_no_ack(kind: str, body: bytes, said: str) -> None:
    decision = judged(kind=kind, body=body)
    assert isinstance(decision, RetryAfter)
    assert said in decision.reason
    assert decision.suspicious == ("damaged" in said), "a proxy is not the run's fault"


one, two = answer().records


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((), "names 0 of 2"),
        ((one,), "names 1 of 2"),
        ((one, one), "names 1 of 2"),
        ((one, two, two), "names 2 of 2"),
        ((one, two, wire.RecordOutcome("r-3", wire.ACCEPTED, accepted=1)), "names 2 of 2"),
        ((one, wire.RecordOutcome("r-2", wire.ACCEPTED, accepted=1)), "1 outcomes for the 2 events of r-2"),
        ((one, wire.RecordOutcome("r-2", wire.ACCEPTED, accepted=2, duplicate=1)), "3 outcomes for the 2 events of r-2"),
    ],
    ids=["none", "one_missing", "one_twice", "two_twice", "one_more", "too_few_events", "too_many_events"],
)
def test_an_answer_that_does_not_cover_the_run_is_no_ack(records: tuple[wire.RecordOutcome, ...], said: str) -> None:
    decision = judged(body=answer(records=records))
    assert isinstance(decision, RetryAfter)
    assert said in decision.reason
    assert decision.suspicious


def test_another_tenants_id_stops_the_sending() -> None:
    decision = judged(body=answer(tenant_id="tenant-2"))
    assert isinstance(decision, Stop)
    assert "'tenant-2'" in decision.reason
    assert "'tenant-1'" in decision.reason


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_sending(status: int) -> None:
    decision = judged(status)
    assert isinstance(decision, Stop)
    assert "check api_key" in decision.reason


REFUSAL = {"error": {"code": "bad_record", "message": "no such kind", "errors": []}}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_run_is_split(status: int) -> None:
    assert judged(status, REFUSAL, kind="application/json") == Split(f"HTTP {status} bad_record: no such kind")


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>Request Entity Too Large</html>"),
        ("application/json", {"error": {"code": 400, "message": "gateway"}}),
        ("application/json", {"message": "gateway"}),
        ("text/html", REFUSAL),
        ("application/json", b""),
    ],
    ids=["html", "other_envelope", "other_json", "other_type", "nothing"],
)
def test_a_refusal_that_is_not_the_collectors_is_tried_again(status: int, kind: str, body: object) -> None:
    decision = judged(status, body, kind=kind)
    assert decision == RetryAfter(f"HTTP {status}, not in a collector's words: is a proxy in between?", suspicious=True)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_collector_is_obeyed_and_no_record_is_suspected(status: int) -> None:
    assert judged(status, headers={"Retry-After": "7"}) == RetryAfter(f"HTTP {status}", 7.0)


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_a_failing_collector_makes_the_run_suspicious(status: int) -> None:
    assert judged(status) == RetryAfter(f"HTTP {status}", suspicious=True)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 404, 405, 408, 418])
def test_any_other_status_is_tried_again(status: int) -> None:
    assert judged(status) == RetryAfter(f"HTTP {status}")


def test_the_collectors_own_words_are_shown() -> None:
    body = {"error": {"code": wire.CODE_UNKNOWN_VERSION, "message": "update the collector", "errors": []}}
    decision = judged(503, body, kind="application/json")
    assert decision.reason == "HTTP 503 unsupported_version: update the collector"


@pytest.mark.parametrize("body", [b"<html>secret</html>", b'{"error": "text"}', b'["x"]', b"{"])
def test_other_peoples_words_are_not(body: bytes) -> None:
    assert judged(500, body, kind="application/json").reason == "HTTP 500"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("999999", retry.LONGEST_RETRY_AFTER_S),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Fri, 23 Oct 2026 07:28:00 GMT", retry.LONGEST_RETRY_AFTER_S),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_reason(value: str, seconds: float | None) -> None:
    assert retry.retry_after({"Retry-After": value, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}) == seconds


def test_a_date_is_counted_from_the_given_time_where_the_answer_has_none() -> None:
    headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}
    assert retry.retry_after(headers, now_s=1792567700.0) == 10.0
    assert retry.retry_after(headers) is None


def test_the_backoff_doubles_up_to_its_cap_with_jitter_above_a_quarter() -> None:
    for attempt in range(1, 60):
        ceiling = min(retry.BACKOFF_CAP_S, retry.BACKOFF_FIRST_S * 2 ** (attempt - 1))
        waits = [retry.backoff(attempt, Random(seed)) for seed in range(50)]
        assert all(ceiling / 4 <= wait <= ceiling for wait in waits)
        assert len(set(waits)) > 40


def test_what_the_collector_asked_for_is_never_cut_short_and_a_fleet_does_not_return_at_once() -> None:
    for seconds in (0.0, 1.0, 60.0, 3600.0):
        waits = [retry.wait_for(RetryAfter("", seconds), 1, Random(seed)) for seed in range(50)]
        assert all(seconds <= wait <= seconds + 1.0 for wait in waits)
        assert len(set(waits)) > 40


def test_without_a_wish_of_the_collector_the_backoff_counts() -> None:
    assert retry.wait_for(RetryAfter(""), 4, Random(1)) == retry.backoff(4, Random(1))
