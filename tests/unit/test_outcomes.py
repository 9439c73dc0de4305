"""The counts of a record add up, and say what its events say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.wire import EXPIRED, REJECTED, EventOutcome, RecordOutcome
from collector.ingest.outcomes import Tally


def tally(*steps: Callable[[Tally], None]) -> RecordOutcome:
    made = Tally("r")
    for step in steps:
        step(made)
    return made.outcome()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), RecordOutcome("r", "accepted")),
        ((lambda t: t.accept(3), lambda t: t.accept(4)), RecordOutcome("r", "accepted", accepted=7)),
        ((lambda t: t.duplicate(3),), RecordOutcome("r", "duplicate", duplicate=3)),
        ((lambda t: t.accept(1), lambda t: t.duplicate(2)), RecordOutcome("r", "mixed", accepted=1, duplicate=2)),
        ((lambda t: t.refuse(EXPIRED, "old", [1, 2]),), RecordOutcome("r", "expired", expired=2, reason="old")),
        ((lambda t: t.refuse(REJECTED, "bad", [1]),), RecordOutcome("r", "rejected", rejected=1, reason="bad")),
    ],
)
def test_a_record_is_what_all_its_events_are(steps: tuple[Callable[[Tally], None], ...], expected: RecordOutcome) -> None:
    assert tally(*steps) == expected


def test_a_mixed_record_lists_what_was_not_stored_in_order_of_offset() -> None:
    outcome = tally(lambda t: t.refuse(REJECTED, "bad", [9]), lambda t: t.refuse(EXPIRED, "old", [5]), lambda t: t.accept(2))
    assert (outcome.outcome, outcome.accepted, outcome.expired, outcome.rejected) == ("mixed", 2, 1, 1)
    assert outcome.exceptions == (EventOutcome(5, EXPIRED, "old"), EventOutcome(9, REJECTED, "bad"))
    assert outcome.reason == ""


def test_one_reason_for_all_that_was_not_accepted_is_named() -> None:
    outcome = tally(lambda t: t.refuse(EXPIRED, "old", [5]), lambda t: t.accept(2))
    assert (outcome.outcome, outcome.reason) == ("mixed", "old")
