"""A batch of events: taken apart, checked one by one, and its answer put together. Pure.

- Every event has an outcome of its own; one that is wrong costs itself.
- Of several events with one ID the first that can be written is; the others are its copies, and share its fate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable, Mapping

import msgspec

from agent import wire
from collector import bodies
from collector.errors import FieldError, Invalid, RateLimited, sentence, shown
from collector.event_checks import Checked, Mint, Refused, Rules, check
from collector.event_parcels import ACCEPTED, Verdict
from collector.event_types import BatchAnswer, EventResult
from collector.moments import show_moment

MAX_NAME_CHARS = 200
SLICE_BYTES = 64 << 10
"""Of a body that is taken apart, between two pauses."""
RATE_LIMITED = "rate_limited"
_SUCCESS = frozenset((wire.ACCEPTED, wire.DUPLICATE))


class Batch(msgspec.Struct, frozen=True):
    """Checked events in the order sent."""

    batch_id: str
    """Empty if the sender gave none."""
    events: list[Checked | Refused]
    firsts: list[int]
    """Places of the events to write."""
    copies: dict[int, int]
    """Per place of a copy: where its first is."""

    def checked(self, place: int) -> Checked:
        event = self.events[place]
        assert isinstance(event, Checked)
        return event

    def is_accepted(self, verdicts: Mapping[int, Verdict]) -> bool:
        """Whether every one of its events was accepted: the common case, which is made short."""
        return len(verdicts) == len(self.events) == list(verdicts.values()).count(ACCEPTED)


def opened(body: bytes, media: str, rules: Rules, mint: Mint, *, max_events: int) -> Generator[None, None, Batch]:
    """Take a body apart, in slices of about a millisecond, with a pause after each.

    Args:
        media: ``json`` or ``lines``.

    Raises:
        BadRequest: not JSON, with line and column.
        Invalid: JSON, but no batch; or an empty one.
        TooLarge: more than ``max_events``.
    """
    batch_id = ""
    events: list[bytes] | list[msgspec.Raw]
    if media == "lines":
        events = bodies.lines_of(body, most=max_events)
    else:
        envelope = bodies.envelope_of(body, most=max_events)
        events = envelope.events
        batch_id = _name("batch_id", envelope.batch_id)
        application = _name("source_application", envelope.source_application)
        rules = msgspec.structs.replace(rules, source_application=application)
    if not events:
        raise invalid_of([FieldError("events", "is empty", suggestion="send at least one event")])
    looked_at: list[Checked | Refused] = []
    each = max(1, SLICE_BYTES * len(events) // len(body))
    for begin in range(0, len(events), each):
        looked_at += [check(raw, rules, mint, index) for index, raw in enumerate(events[begin : begin + each], begin)]
        yield
    ids = {event.event_id for event in looked_at if isinstance(event, Checked)}
    if len(ids) == len(looked_at):
        return Batch(batch_id, looked_at, list(range(len(looked_at))), {})
    first_of: dict[str, int] = {}
    copies: dict[int, int] = {}
    for place, event in enumerate(looked_at):
        if isinstance(event, Checked) and (first := first_of.setdefault(event.event_id, place)) != place:
            copies[place] = first
    return Batch(batch_id, looked_at, list(first_of.values()), copies)


def invalid_of(faults: Iterable[FieldError]) -> Invalid:
    """One error that names every fault."""
    errors = tuple(faults)
    more = f" (and {len(errors) - 1} more, see errors)" if len(errors) > 1 else ""
    return Invalid(sentence(errors[0]) + more, errors=errors)


def answer(
    batch: Batch,
    verdicts: Mapping[int, Verdict],
    *,
    batch_id: str,
    now_us: int,
    limited: RateLimited | None,
    failures_only: bool,
    dry_run: bool,
) -> BatchAnswer:
    """The answer to a batch.

    Args:
        verdicts: per place of an event to write.
        limited: why events were not admitted, where some were not.
    """
    total = len(batch.events)
    if batch.is_accepted(verdicts):
        events = () if failures_only else enumerate(batch.events)
        results = [EventResult(place, True, event.event_id, "accepted") for place, event in events]
        outcomes, good = Counter({wire.ACCEPTED: total}), total
    else:
        results = [_result(batch, place, verdicts, limited) for place in range(total)]
        outcomes = Counter(result.outcome for result in results)
        good = sum(result.success for result in results)
    return BatchAnswer(
        batch_id=batch.batch_id or batch_id,
        total_events=total,
        successful_events=good,
        failed_events=total - good,
        successful_count=good,
        failed_count=total - good,
        processing_status="completed" if good == total else "partial" if good else "failed",
        outcomes=dict(outcomes),
        results=[result for result in results if not result.success] if failures_only else results,
        ingested_at=show_moment(now_us),
        retry_after_s=wait_of(limited) if limited and outcomes[RATE_LIMITED] else None,
        dry_run=dry_run,
    )


def counts_of(batch: Batch, verdicts: Mapping[int, Verdict]) -> dict[tuple[str, str], tuple[int, int]]:
    """Per outcome and reason: events, and their bytes."""
    if batch.is_accepted(verdicts):
        return {(wire.ACCEPTED, ""): (len(batch.events), sum(batch.checked(place).size for place in batch.firsts))}
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for place, event in enumerate(batch.events):
        if isinstance(event, Refused):
            name, size = (event.outcome, event.reason), 0
        else:
            verdict = _verdict(batch, place, verdicts)
            name, size = (verdict.outcome, verdict.reason), event.size
        events, total = counts.get(name, (0, 0))
        counts[name] = events + 1, total + size
    return counts


def wait_of(limited: RateLimited) -> int:
    """Whole seconds until more is admitted."""
    return max(1, math.ceil(limited.retry_after_s or 1.0))


def _verdict(batch: Batch, place: int, verdicts: Mapping[int, Verdict]) -> Verdict:
    first = batch.copies.get(place)
    if first is None:
        return verdicts[place]
    verdict = verdicts[first]
    return Verdict(wire.DUPLICATE, deleted=verdict.deleted) if verdict.outcome in _SUCCESS else verdict


def _result(batch: Batch, place: int, verdicts: Mapping[int, Verdict], limited: RateLimited | None) -> EventResult:
    event = batch.events[place]
    if isinstance(event, Refused):
        return EventResult(place, False, event.event_id, event.outcome, event.errors)  # type: ignore[arg-type]  # one of the refusals' outcomes
    verdict = _verdict(batch, place, verdicts)
    errors: tuple[FieldError, ...] = ()
    if verdict.outcome == RATE_LIMITED and limited is not None:
        errors = (FieldError("event", limited.message, suggestion=f"send it again in {wait_of(limited)} s"),)
    elif verdict.outcome not in _SUCCESS:
        errors = (fault_of(verdict),)
    success = verdict.outcome in _SUCCESS
    return EventResult(place, success, event.event_id, verdict.outcome, errors, verdict.deleted)  # type: ignore[arg-type]  # likewise


def fault_of(verdict: Verdict) -> FieldError:
    """What is said of an event that was looked up or written and is not stored."""
    if verdict.outcome == wire.EXPIRED:
        error = "names an event that was stored before and is older by now than this tenant keeps"
        return FieldError("event_id", error, suggestion="it is not stored again; use a new ID for a new event")
    return FieldError(
        "event", f"the store refuses it ({verdict.reason})", suggestion="the operator finds the reason in the log"
    )


def _name(field: str, value: str | None) -> str:
    if value is None:
        return ""
    if not value.isprintable() or len(value) > MAX_NAME_CHARS:
        fault = FieldError(field, f"expected at most {MAX_NAME_CHARS} printable characters", shown(value))
        raise invalid_of([fault])
    return value
