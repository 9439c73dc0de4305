"""Events checked many at a time, and one by one: the same is found and the same is written, whatever they are."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.ingest.event_checks import Checked, Rules, check, moment_of
from collector.ingest.event_portions import portion_of
from collector.ingest.instants import moments_of
from collector.writing.event_rows import rows_block
from tests.support.events import PLAIN, body, event, full
from tests.support.mutations import examples, mutated

NOW_US = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z
RULES = st.builds(
    Rules,
    now_us=st.just(NOW_US),
    retention_days=st.just(30),
    retention_class=st.just(30),
    max_event_bytes=st.sampled_from((400, 100_000)),
    source_application=st.sampled_from(("", "app")),
)
STAMP = "2026-09-21T14:00:00"

TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(("", "x" * 201, "é" * 130, "x" * 5000)))
IDS = st.one_of(
    st.uuids().map(str),
    st.sampled_from(("a", "a b", " a", "search", "..", "Zoë", "a/b", "a,b", "a\n", "0123456789abcdef-0123456789ab-01234567")),
    TEXTS,
)
CLOCK = st.integers(0, 70)
TIMES = st.one_of(
    st.sampled_from((STAMP, STAMP + "z", STAMP + ".1Z", STAMP + ".123456789Z", f" {STAMP}Z")),
    st.sampled_from(("2026-09-21", "1970-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z")),
    st.sampled_from(("2026-W39-1T14:00:00Z", "2026-09-21T24:00:00Z", "2027-01-01T00:00:00Z", "now", "-1h", "never")),
    st.builds("2026-09-21{}{:02}:{:02}:{:02}Z".format, st.sampled_from("T "), CLOCK, CLOCK, CLOCK),
    st.builds("{}.{:03}{}".format, st.just(STAMP), st.integers(0, 999), st.sampled_from(("Z", "+00:00", "+02:00", "Y", ""))),
    st.integers(-1, 1 << 64),
    st.integers(NOW_US - 40 * 86_400_000_000, NOW_US + 2 * 86_400_000_000),
    st.floats(),
)  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
NUMBERS = st.one_of(st.none(), st.integers(-1, 2), st.integers(60_000, 70_000), st.integers(0, 1 << 70), st.floats(0, 9))
MEMBERS = {
    "event_id": IDS,
    "event_type": st.sampled_from(("api_call", "log", "loud")),
    "title": TEXTS,
    "message": st.one_of(st.none(), TEXTS),
    "severity": st.sampled_from((None, "debug", "critical", "bad")),
    "timestamp": st.one_of(st.none(), TIMES),
    "source": st.one_of(
        st.none(),
        st.fixed_dictionaries({name: st.just("x") for name in PLAIN["source"]}, optional={"name": TEXTS, "more": JSON}),
    ),
    "context": st.one_of(JSON, st.fixed_dictionaries({}, optional={"user_id": TEXTS, "tags": st.lists(TEXTS, max_size=2)})),
    "metrics": st.dictionaries(st.sampled_from(("response_time_ms", "status_code", "request_size_bytes")), NUMBERS),
    "error_details": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"error_code": TEXTS, "stack_trace": TEXTS})),
    "attributes": st.one_of(JSON, st.dictionaries(st.one_of(st.text(max_size=4), st.just("x" * 201)), JSON, max_size=3)),
    "payload": JSON,
    "metadata": JSON,
    "trace_id": TEXTS,
    "unknown": JSON,
}  # fmt: skip


def mint(index: int) -> tuple[str, bool]:
    return f"minted-{index}", index % 3 > 0


@st.composite
def events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Most say something that is drawn, in a member or two; the others are plain or full."""
    said = []
    for _ in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from(tuple(MEMBERS)), max_size=3))
        base = draw(st.sampled_from((event, full)))
        said.append(base(timestamp=f"{STAMP}Z", **{}) | {name: draw(MEMBERS[name]) for name in names})
    return said


def agree(raws: list[Any], rules: Rules, begin: int = 7) -> bool:
    """Whether they were checked together; if so, as one by one."""
    portion = portion_of(raws, rules, mint, begin)
    one_by_one = [check(raw, rules, mint, index) for index, raw in enumerate(raws, begin)]
    if portion is None:
        return False
    checked = [found for found in one_by_one if isinstance(found, Checked)]
    assert len(checked) == len(one_by_one), one_by_one
    assert not any(found.ahead for found in checked)
    assert portion.ids == [found.event_id for found in checked]
    assert sorted(portion.asked) == sorted(found.event_id for found in checked if not found.minted)
    assert portion.size_bytes == sum(found.size for found in checked)
    assert portion.earliest_us == min(found.row[1] for found in checked)
    assert portion.block == rows_block(found.row for found in checked)
    assert portion.events() == checked
    return True


@given(events(), RULES)
def test_events_of_a_batch_are_checked_together_as_one_by_one(said: list[dict[str, Any]], rules: Rules) -> None:
    raw = json.dumps(said, allow_nan=True).encode()
    try:
        raws: list[Any] = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return  # such a batch is refused whole
    agree(raws, rules)


@given(events(), RULES)
def test_lines_are_checked_together_as_one_by_one(said: list[dict[str, Any]], rules: Rules) -> None:
    agree([json.dumps(one, allow_nan=True).encode() for one in said], rules)


@given(st.lists(mutated(body(full(timestamp=f"{STAMP}Z"))), min_size=1, max_size=3))
@example([b'{"x":[{}', b"{}]}", body(event()) + b"," + body(event())])
@example([body(event())[:-1] + b',"payload":"\xff"}'])
def test_lines_that_are_no_json_are_found_one_by_one(lines: list[bytes]) -> None:
    agree(lines, Rules(NOW_US, 30, 30, 100_000))


@examples(200)
@given(st.lists(TIMES, min_size=1, max_size=3))
@example([f"{STAMP}.5Z", f"{STAMP}.6Z"])
@example([f"{STAMP}Z", "2026-09-22T14:00:00Z"])
@example([f"{STAMP}.123Z", f"{STAMP}+1234"])
@example(["2026-09-21 14:00:00+00:00", "2026-09-21 14:00:01+00:00"])
def test_times_are_read_together_as_one_by_one(times: list[Any]) -> None:
    found = moments_of(times)
    if found is not None:
        assert found.tolist() == [moment_of(time, NOW_US) for time in times]


@pytest.mark.parametrize("event_id", ["search", "0123456789abcdef-0123456789ab-01234567", " a", "a\n", "x" * 201])
def test_an_id_that_must_not_be_used_is_found_among_good_ones(event_id: str) -> None:
    said = [event(event_id="a"), event(event_id=event_id), event()]
    assert not agree([body(one) for one in said], Rules(NOW_US, 30, 30, 100_000))
    assert agree([body(one) for one in (said[0], said[2])], Rules(NOW_US, 30, 30, 100_000))


def test_what_is_good_is_checked_together() -> None:
    rules = Rules(NOW_US, 30, 30, 100_000)
    for said in (
        [event(), event()],
        [full(timestamp=f"{STAMP}.{n:03}Z") for n in range(500)],
        [full(timestamp=f"{STAMP}+00:00"), event(event_id="a/b", timestamp=NOW_US, metrics={"status_code": 0})],
        [event(event_id="Zoë", message="é" * 2000, attributes={}), event(payload=None, attributes={"a": [1, None]})],
    ):
        assert agree([body(one) for one in said], rules)


def test_times_of_the_usual_form_are_read_together() -> None:
    for form in (f"{STAMP}Z", f"{STAMP}.25Z", f"{STAMP}.123456+00:00", "2024-02-29T23:59:59Z", "1970-01-01 00:00:00Z"):
        assert moments_of([form] * 3) is not None, form
