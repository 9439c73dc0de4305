"""A batch of events: taken apart, checked, and its answer put together. Pure.

- Events are checked together (`collector.ingest.event_portions`), and one by one where something is wrong with one of them.
- Every event has an outcome of its own; one that is wrong costs itself.
- Of several events with one ID the first that can be written is; the others are its copies, and share its fate.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias, TypeVar

import msgspec

from agent import wire
from collector.errors import FieldError, Invalid, RateLimited, sentence, shown
from collector.ingest import bodies
from collector.ingest.event_checks import Checked, Mint, Refused, Rules, check
from collector.ingest.event_portions import MAX_EVENTS, Portion, Whole, lengths_of, portion_of, size_of, sizes_of
from collector.ingest.event_types import BatchAnswer, EventResult
from collector.ingest.moments import show_moment
from collector.writing.event_parcels import ACCEPTED, Verdict

MAX_NAME_CHARS = 200
PORTION_BYTES = 320 << 10
SLICE_BYTES = 64 << 10
"""Of a body that is taken apart, between two pauses: where events are checked together, and one by one."""
RATE_LIMITED = "rate_limited"
_SUCCESS = frozenset((wire.ACCEPTED, wire.DUPLICATE))

Slice: TypeAlias = Portion | list[Checked | Refused]
T = TypeVar("T", bytes, msgspec.Raw)


class Batch:
    """Checked events in the order sent."""

    def __init__(self, batch_id: str, slices: Sequence[Slice]) -> None:
        self.batch_id = batch_id
        """Empty if the sender gave none."""
        self.total = sum(map(len, slices))
        self.copies: dict[int, int] = {}
        """Per place of a copy: where its first is."""
        self._slices = slices
        portions = [part for part in slices if isinstance(part, Portion)]
        ids = [event_id for portion in portions for event_id in portion.ids]
        self.whole = Whole(portions, ids) if len(set(ids)) == self.total else None
        """The events, if all can be written and no two have one ID: the common case, which is made short."""
        self.firsts: Sequence[int] = range(self.total) if self.whole else self._firsts()
        """Places of the events to write."""

    @cached_property
    def events(self) -> list[Checked | Refused]:
        return [event for part in self._slices for event in (part.events() if isinstance(part, Portion) else part)]

    def checked(self, place: int) -> Checked:
        event = self.events[place]
        assert isinstance(event, Checked)
        return event

    def chosen(self, places: Sequence[int]) -> Sequence[Checked]:
        """The events at these places, all of which can be written."""
        if self.whole is not None and len(places) == self.total:
            return self.whole
        return [self.checked(place) for place in places]

    @cached_property
    def ids(self) -> Sequence[str | None]:
        return [event.event_id for event in self.events] if self.whole is None else self.whole.ids

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes as sent; of a refused event 0."""
        if self.whole is not None:
            return sizes_of(self.whole)
        return [event.size if isinstance(event, Checked) else 0 for event in self.events]

    def refused(self, place: int) -> Refused | None:
        event = None if self.whole is not None else self.events[place]
        return event if isinstance(event, Refused) else None

    def is_accepted(self, verdicts: Mapping[int, Verdict]) -> bool:
        """Whether every one of its events was accepted."""
        return len(verdicts) == self.total == list(verdicts.values()).count(ACCEPTED)

    def _firsts(self) -> list[int]:
        first_of: dict[str, int] = {}
        for place, event in enumerate(self.events):
            if isinstance(event, Checked) and (first := first_of.setdefault(event.event_id, place)) != place:
                self.copies[place] = first
        return list(first_of.values())


def opened(body: bytes, media: str, rules: Rules, mint: Mint, *, max_events: int) -> Generator[None, None, Batch]:
    """Take a body apart, in slices of one to three milliseconds, with a pause after each.

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
    slices: list[Slice] = []
    for raws, begin in _cut(events, len(body), PORTION_BYTES, most=MAX_EVENTS):
        portion = portion_of(raws, rules, mint, begin)
        yield
        if portion is not None:
            slices.append(portion)
            continue
        for part, at in _cut(raws, sum(lengths_of(raws)), SLICE_BYTES):
            slices.append([check(raw, rules, mint, index) for index, raw in enumerate(part, begin + at)])
            yield
    return Batch(batch_id, slices)


def _cut(raws: Sequence[T], size: int, each_bytes: int, *, most: int = sys.maxsize) -> Iterator[tuple[Sequence[T], int]]:
    """Parts of about ``each_bytes`` and at most so many, and where each begins."""
    each = max(1, min(each_bytes * len(raws) // size, most))
    for begin in range(0, len(raws), each):
        yield raws[begin : begin + each], begin


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
    total = batch.total
    if batch.is_accepted(verdicts):
        ids = () if failures_only else batch.ids
        results = [EventResult(place, True, event_id, "accepted") for place, event_id in enumerate(ids)]
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
        return {(wire.ACCEPTED, ""): (batch.total, size_of(batch.chosen(batch.firsts)))}
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for place, size in enumerate(batch.sizes):
        refused = batch.refused(place)
        outcome = _verdict(batch, place, verdicts) if refused is None else refused
        name = (outcome.outcome, outcome.reason)
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
    event_id = batch.ids[place]
    if (refused := batch.refused(place)) is not None:
        return EventResult(place, False, event_id, refused.outcome, refused.errors)  # type: ignore[arg-type]  # one of the refusals' outcomes
    verdict = _verdict(batch, place, verdicts)
    errors: tuple[FieldError, ...] = ()
    if verdict.outcome == RATE_LIMITED and limited is not None:
        errors = (FieldError("event", limited.message, suggestion=f"send it again in {wait_of(limited)} s"),)
    elif verdict.outcome not in _SUCCESS:
        errors = (fault_of(verdict),)
    success = verdict.outcome in _SUCCESS
    return EventResult(place, success, event_id, verdict.outcome, errors, verdict.deleted)  # type: ignore[arg-type]  # likewise


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
