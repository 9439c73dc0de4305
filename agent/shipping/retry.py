"""What an answer of the collector means, and how long to wait. Pure.

Promises:
- An ack is a 200 of our content type whose body decodes, names every record of the run once, has counts that add up, and
  comes from the tenant recorded at first contact. Anything else is no ack: a proxy's HTML, a redirect, half a body.
- Counts add up when none is negative, their sum is the record's number of events, a record called accepted, duplicate,
  expired or rejected is so with all its events, and a mixed one names each rejected event. An answer that does not is not
  the collector's: the run is sent again, since events nobody can name would be lost without a dead letter.
- A refusal for good (400, 413, 422) is believed in the collector's own JSON envelope only. A proxy's may pass by itself.
- No answer makes the agent give up: it is delivered, waits, is split into single records, or set aside in the quarantine.
- A wrong key stops the sending, not the reading.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from random import Random

import msgspec

from agent import wire

BACKOFF_FIRST_S = 0.5
BACKOFF_CAP_S = 30.0
STOPPED_RETRY_S = 30.0
"""How often a refused key is tried again: somebody may have mended it."""
LONGEST_RETRY_AFTER_S = 3600.0
ATTEMPTS_BEFORE_SPLIT = 5
"""A run that fails this often may hold one poisonous record: its records are sent apart. One record alone is set aside only
if others pass meanwhile."""


class Delivered(msgspec.Struct, frozen=True):
    """Every event has a final outcome."""

    answer: wire.Answer


class RetryAfter(msgspec.Struct, frozen=True):
    """Send the same bytes again. ``seconds``: what the collector asked for, if it did."""

    reason: str
    seconds: float | None = None
    suspicious: bool = False
    """The fault may lie in this run: split it when it repeats while others pass."""
    request_id: str = ""
    """Of the request that was answered so, for the log."""


class Stop(msgspec.Struct, frozen=True):
    """Nothing can be sent until a person has acted."""

    reason: str
    request_id: str = ""


class Split(msgspec.Struct, frozen=True):
    """The collector refuses this run for good: send its records one by one; one alone goes to the quarantine."""

    reason: str
    request_id: str = ""


Decision = Delivered | RetryAfter | Stop | Split

_decode_answer = msgspec.json.Decoder(wire.Answer).decode


def judge(status: int, headers: Mapping[str, str], body: bytes, expected: Mapping[str, int], tenant_id: str) -> Decision:
    """What an HTTP answer to a run means.

    Args:
        headers: looked up by their usual spelling; any mapping that ignores case.
        expected: record_id -> number of events, for every record of the run.
        tenant_id: of the first contact; empty before it.
    """
    if status == 200:
        return _judge_outcomes(headers.get("Content-Type", ""), body, expected, tenant_id)
    reason = f"HTTP {status}{_error_text(headers, body)}"
    if status in (401, 403):
        return Stop(f"{reason}; check api_key")
    if status in (400, 413, 422):
        if reason == f"HTTP {status}":
            return RetryAfter(f"{reason}, not in a collector's words: is a proxy in between?", suspicious=True)
        return Split(reason)
    if status in (429, 503):
        return RetryAfter(reason, retry_after(headers))
    return RetryAfter(reason, retry_after(headers), suspicious=status >= 500)


def _judge_outcomes(content_type: str, body: bytes, expected: Mapping[str, int], tenant_id: str) -> Decision:
    if content_type.partition(";")[0].strip().lower() != wire.ANSWER_TYPE:
        return RetryAfter(f"HTTP 200 of type {content_type or '(none)'!r}, not from a collector: is a proxy in between?")
    try:
        answer = wire.decoded(_decode_answer, body)
    except msgspec.DecodeError as error:
        return RetryAfter(f"HTTP 200 whose body is cut or damaged: {error}", suspicious=True)
    if tenant_id and answer.tenant_id != tenant_id:
        return Stop(f"the answer is for tenant {answer.tenant_id!r}, this agent's data belongs to {tenant_id!r}; check api_key")
    named = [outcome.record_id for outcome in answer.records]
    if len(named) != len(expected) or set(named) != set(expected):
        return RetryAfter(f"HTTP 200 that names {len(set(named) & set(expected))} of {len(expected)} records", suspicious=True)
    for outcome in answer.records:
        if wrong := _miscounted(outcome, expected[outcome.record_id]):
            return RetryAfter(f"HTTP 200 with {wrong}", suspicious=True)
    return Delivered(answer)


def _miscounted(outcome: wire.RecordOutcome, events: int) -> str:
    """What does not add up in a record's outcome; empty when all does."""
    counts = {
        wire.ACCEPTED: outcome.accepted,
        wire.DUPLICATE: outcome.duplicate,
        wire.EXPIRED: outcome.expired,
        wire.REJECTED: outcome.rejected,
    }
    if min(counts.values()) < 0:
        return f"a negative count for {outcome.record_id}"
    if (total := sum(counts.values())) != events:
        return f"{total} outcomes for the {events} events of {outcome.record_id}"
    if outcome.outcome != wire.MIXED:
        of_all = counts.get(outcome.outcome, 0)
        return "" if of_all == events else f"{outcome.outcome!r} for {outcome.record_id}, {of_all} of {events} events are"
    named = len({event.offset for event in outcome.exceptions if event.outcome == wire.REJECTED})
    return "" if named == outcome.rejected else f"names {named} of {outcome.rejected} rejected events of {outcome.record_id}"


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def _error_text(headers: Mapping[str, str], body: bytes) -> str:
    """The collector's own words, if they are: its JSON envelope. Other bodies are not shown, they may be anything."""
    if "json" not in headers.get("Content-Type", ""):
        return ""
    try:
        error = wire.decoded(_decode_envelope, body).error
    except msgspec.DecodeError:
        return ""
    return f" {error.code}: {error.message}"[:500]


def retry_after(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """Seconds from ``Retry-After`` (RFC 9110, 10.2.3: seconds or a date), within reason; None without a usable one.

    A date is counted from the answer's own ``Date``, so that the clocks need not agree; ``now_s`` where it has none.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER_S)
    then, sent = _http_date(value), _http_date(headers.get("Date", ""))
    start = sent if sent is not None else now_s
    if then is None or start is None:
        return None
    return min(max(then - start, 0.0), LONGEST_RETRY_AFTER_S)


def _http_date(value: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def backoff(attempt: int, random: Random) -> float:
    """Seconds before attempt ``attempt`` + 1 (the first failure is attempt 1): doubling, with full jitter above a floor."""
    ceiling = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(attempt - 1, 16))
    return random.uniform(ceiling / 4, ceiling)


def wait_for(decision: RetryAfter, attempt: int, random: Random) -> float:
    """Seconds to wait: what was asked for, plus jitter so that a fleet does not return at once; else the backoff."""
    if decision.seconds is None:
        return backoff(attempt, random)
    return decision.seconds + random.uniform(0.0, min(1.0, 0.1 + decision.seconds / 4))
