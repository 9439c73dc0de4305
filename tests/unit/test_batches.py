"""A batch: every event its own outcome, in the order sent; one ID is one event."""

from __future__ import annotations

from typing import Any

import pytest

from collector.errors import BadRequest, Invalid, RateLimited
from collector.ingest import batches
from collector.ingest.batches import Batch, answer, counts_of
from collector.ingest.event_checks import ROW_COLUMNS, Refused, Rules
from collector.ingest.event_portions import MAX_BYTES, MAX_EVENTS, portion_of
from collector.ingest.event_types import BatchAnswer
from collector.writing.event_parcels import ACCEPTED, DELETED, DUPLICATE, Verdict, parcels_of
from collector.writing.event_rows import rows_block, sent
from tests.support.events import body, drained, event
from tests.support.native import rows_of

RULES = Rules(now_us=1_790_000_000_000_000, retention_days=30, retention_class=30, max_event_bytes=2_000_000)
OLD = event(event_id="old", timestamp="1970-01-01")
LIMITED = Verdict("rate_limited", "rate_limited")


def mint(index: int) -> tuple[str, bool]:
    return f"minted-{index}", True


def open_batch(raw: bytes, media: str, *, max_events: int) -> Batch:
    return drained(batches.opened(raw, media, RULES, mint, max_events=max_events))


def opened(*events: Any, media: str = "json", **more: Any) -> Batch:
    raw = body({"events": events, **more}) if media == "json" else b"\n".join(map(body, events))
    return open_batch(raw, media, max_events=5000)


def answered(batch: Batch, verdicts: list[Verdict], **changed: Any) -> BatchAnswer:
    options: dict[str, Any] = {"limited": None, "failures_only": False, "dry_run": False, **changed}
    said = dict(zip(batch.firsts, verdicts, strict=True))
    return answer(batch, said, batch_id="made-here", now_us=RULES.now_us, **options)


def test_one_invalid_event_costs_itself_only() -> None:
    batch = opened(event(), event(title=7), event(event_id="b"), batch_id="mine", source_application="till")
    found = answered(batch, [ACCEPTED, ACCEPTED])
    assert (found.batch_id, found.total_events, found.successful_count, found.failed_count) == ("mine", 3, 2, 1)
    assert (found.successful_events, found.failed_events, found.processing_status) == (2, 1, "partial")
    assert [(r.index, r.success, r.event_id, r.outcome) for r in found.results] == [
        (0, True, "minted-0", "accepted"),
        (1, False, None, "rejected"),
        (2, True, "b", "accepted"),
    ]
    assert [fault.field for fault in found.results[1].errors] == ["title"]
    assert found.outcomes == {"accepted": 2, "rejected": 1}
    assert dict(zip(ROW_COLUMNS, batch.checked(0).row, strict=True))["source"] == "till"


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [([ACCEPTED, DUPLICATE], "completed"), ([LIMITED, ACCEPTED], "partial"), ([LIMITED, LIMITED], "failed")],
)
def test_the_status_says_how_much_went_well(verdicts: list[Verdict], status: str) -> None:
    limited = RateLimited("too fast", retry_after_s=2.1)
    found = answered(opened(event(event_id="a"), event(event_id="b")), verdicts, limited=limited)
    assert found.processing_status == status
    assert found.retry_after_s == (None if status == "completed" else 3)


def test_copies_inside_a_batch_share_the_fate_of_the_first_that_can_be_written() -> None:
    invalid = event(event_id="a", title=7)
    batch = opened(invalid, event(event_id="a"), event(event_id="b"), event(event_id="a", title="other"), event(event_id="b"))
    assert list(batch.firsts) == [1, 2]
    found = answered(batch, [ACCEPTED, Verdict("rejected", "store_error_469")])
    assert [result.outcome for result in found.results] == ["rejected", "accepted", "rejected", "duplicate", "rejected"]
    assert "store_error_469" in found.results[4].errors[0].error
    found = answered(batch, [DELETED, LIMITED], limited=RateLimited("too fast", retry_after_s=1.0))
    assert [(result.outcome, result.deleted) for result in found.results] == [
        ("rejected", False), ("duplicate", True), ("rate_limited", False), ("duplicate", True), ("rate_limited", False),
    ]  # fmt: skip


def test_only_failures_are_listed_when_only_they_are_asked_for() -> None:
    found = answered(opened(event(), OLD, event()), [ACCEPTED, ACCEPTED], failures_only=True)
    assert [(result.index, result.outcome) for result in found.results] == [(1, "expired")]
    assert (found.total_events, found.successful_count) == (3, 2)


def test_lines_are_a_batch_and_one_that_is_not_json_costs_itself() -> None:
    raw = body(event(event_id="a")) + b'\r\n\n{"title": \n' + body(event(event_id="b"))
    batch = open_batch(raw, "lines", max_events=10)
    refused = batch.events[1]
    assert isinstance(refused, Refused)
    assert refused.errors[0].error.startswith("is not JSON: line 1, column 10")
    assert list(batch.firsts) == [0, 2]


@pytest.mark.parametrize(("media", "raw"), [("json", b'{"events": []}'), ("lines", b"\n\n")])
def test_an_empty_batch_is_refused_with_a_sentence(media: str, raw: bytes) -> None:
    with pytest.raises(Invalid, match="events: is empty; send at least one event"):
        open_batch(raw, media, max_events=10)


def test_json_that_is_broken_is_refused_whole() -> None:
    with pytest.raises(BadRequest, match="line 1, column 13"):
        open_batch(b'{"events": [', "json", max_events=10)


@pytest.mark.parametrize("name", ["batch_id", "source_application"])
def test_names_of_a_batch_are_short_and_printable(name: str) -> None:
    for value in ("x" * 201, "a\nb"):
        with pytest.raises(Invalid) as refused:
            opened(event(), **{name: value})
        assert refused.value.errors[0].field == name


def test_counts_name_outcome_and_reason_with_events_and_bytes() -> None:
    batch = opened(event(event_id="a"), event(event_id="a"), event(title=7), OLD)
    size = len(body(event(event_id="a")))
    assert counts_of(batch, {0: ACCEPTED}) == {
        ("accepted", ""): (1, size),
        ("duplicate", ""): (1, size),
        ("rejected", "invalid"): (1, 0),
        ("expired", "older_than_retention"): (1, 0),
    }


def test_a_batch_is_written_in_parcels_bounded_in_events_and_bytes() -> None:
    many = opened(*(event(event_id=str(n)) for n in range(2 * MAX_EVENTS + 1)))
    parcels = parcels_of("t", [many.checked(place) for place in many.firsts])
    assert [len(parcel) for parcel in parcels] == [MAX_EVENTS, MAX_EVENTS, 1]
    assert [event_id for parcel in parcels for event_id in parcel.ids] == [str(n) for n in range(2 * MAX_EVENTS + 1)]
    large = opened(*(event(event_id=str(n), message="x" * (MAX_BYTES * 2 // 3)) for n in range(3)))
    parcels = parcels_of("t", [large.checked(place) for place in large.firsts])
    assert [len(parcel) for parcel in parcels] == [1, 1, 1]
    assert all(parcel.size_bytes <= MAX_BYTES for parcel in parcels)


def test_ids_made_here_are_not_looked_up() -> None:
    batch = opened(event(), event(event_id="a"))
    (parcel,) = parcels_of("t", [batch.checked(place) for place in batch.firsts])
    assert list(parcel.asked) == ["a"]


def test_columns_in_which_nothing_is_said_are_left_out_of_the_insert() -> None:
    batch = opened(event(event_id="a"), event(event_id="b", message="m"))
    block = rows_block([batch.checked(place).row for place in (0, 1)])
    rows = rows_of([sent(block, "t", 7)])
    assert [row["message"] for row in rows] == ["", "m"]
    assert {row["tenant_id"] for row in rows} == {"t"}
    assert {row["version"] for row in rows} == {7}
    assert not {"payload", "tags", "status_code", "attributes"} & set(rows[0])
    assert rows_of([sent(block, ["t", "u"], 7)]) == [rows[0], {**rows[1], "tenant_id": "u"}]


def test_a_large_batch_is_taken_apart_in_slices() -> None:
    raw = body({"events": [event(event_id=str(n), message="x" * 1000) for n in range(1000)]})
    together = len(list(batches.opened(raw, "json", RULES, mint, max_events=5000)))
    assert len(raw) // batches.PORTION_BYTES <= together <= len(raw) // batches.PORTION_BYTES + 2
    faulty = body({"events": [event(title=7, message="x" * 1000) for _ in range(1000)]})
    one_by_one = len(list(batches.opened(faulty, "json", RULES, mint, max_events=5000)))
    assert len(faulty) // batches.SLICE_BYTES <= one_by_one <= len(faulty) // batches.SLICE_BYTES + 2 * together + 2


def test_a_batch_without_faults_is_not_looked_at_one_by_one() -> None:
    good = opened(*(event(event_id=str(n)) for n in range(3)))
    assert good.whole is not None
    assert good.chosen(good.firsts) is good.whole
    assert (good.ids, good.sizes) == (["0", "1", "2"], [len(body(event(event_id="0")))] * 3)
    assert list(good.whole) == good.events
    for other in (event(title=7), event(event_id="0"), event(event_id="x", timestamp="2200-01-01")):
        assert opened(event(event_id="0"), other).whole is None


def test_what_is_chosen_of_a_batch_without_faults_is_that_and_no_more() -> None:
    """As when a limit admits its beginning only."""
    good = opened(*(event(event_id=str(n)) for n in range(3)))
    assert [checked.event_id for checked in good.chosen([0, 2])] == ["0", "2"]


def test_events_are_checked_together_only_so_many_and_so_large() -> None:
    many = opened(*(event(event_id=str(n)) for n in range(2 * MAX_EVENTS + 1)))
    assert many.whole is not None
    assert max(len(portion) for portion in many.whole.portions) <= MAX_EVENTS
    large = [body(event(event_id=str(n), message="x" * (MAX_BYTES * 2 // 3))) for n in range(2)]
    assert portion_of(large[:1], RULES, mint, 0) is not None
    assert portion_of(large, RULES, mint, 0) is None, "other tenants' parcels come in between"


def test_an_event_without_an_id_gets_that_of_its_place_also_where_they_are_checked_one_by_one() -> None:
    """In parts, and in a slice that does not begin the batch."""
    size = batches.SLICE_BYTES // 4
    batch = opened(*(event(message="x" * size, **({"title": 7} if n % 8 == 3 else {})) for n in range(60)))
    assert batch.whole is None
    assert list(batch.ids) == [None if n % 8 == 3 else f"minted-{n}" for n in range(60)]
