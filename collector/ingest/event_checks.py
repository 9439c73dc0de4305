"""One event of the JSON API: from bytes to a row that can be written, or to every fault that is in it. Pure.

- The common path decodes straight into `collector.ingest.event_types.ApiEvent`. An event that this refuses is looked at again
  (`collector.ingest.event_faults`), so that its sender learns of all faults at once; members that are not known become
  attributes.
- A row passes through the engine as it is: lengths, ranges and UTF-8 are checked here.
- Times are bounded here. Before the retention: `wire.EXPIRED`, not stored. More than `MAX_AHEAD_US` ahead: the time of
  arrival is taken, the one that was said becomes an attribute.
- IDs of the form that lines of files get are refused: such an event would pass for the true line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import astuple

from agent import wire
from collector.errors import FieldError, shown
from collector.ingest.event_faults import TIME_FORMS, Faulty, look
from collector.ingest.event_types import MAX_ATTRIBUTES, NOTHING, ApiEvent, Context, ErrorDetails, Metrics
from collector.ingest.moments import iso_us, parse_moment
from collector.store import formats

SOURCE_COLUMNS = ("service", "endpoint", "method", "service_version", "environment", "source")
CONTEXT_COLUMNS = ("user_id", "session_id", "request_id", "ip_address", "user_agent", "tags")
METRICS_COLUMNS = ("response_time_ms", "status_code", "request_size_bytes", "response_size_bytes")
ERROR_COLUMNS = ("error_code", "error_message", "error_type", "stack_trace")
"""Of the members of `Source`, `Context`, `Metrics` and `ErrorDetails`, in their order."""
ROW_COLUMNS = (
    "external_id", "timestamp", "observed_timestamp", "retention_days", "event_type", "severity", "title", "message",
    "attributes", "trace_id", "span_id", "payload", "metadata",
    *SOURCE_COLUMNS, *CONTEXT_COLUMNS, *METRICS_COLUMNS, "zero_metrics", *ERROR_COLUMNS,
)  # fmt: skip
"""Columns of `events` that a row has; the others are the tenant, the version, and those of lines of files. What an event
does not say is None in its row."""
Row: TypeAlias = tuple[Any, ...]

DAY_US = 86_400_000_000
MAX_AHEAD_US = DAY_US
RESERVED_IDS = frozenset(("search", "batch", "types", "severities", ".", ".."))
"""Words of the API's own paths, where the event could not be asked for by its ID."""
MAX_NAME_CHARS = 200
"""Longest name of an attribute."""
MAX_KEY_CHARS = 255
"""Longest Idempotency-Key."""

NO_CONTEXT, NO_METRICS, NO_ERROR = astuple(Context()), astuple(Metrics()), astuple(ErrorDetails())
_event: msgspec.json.Decoder[ApiEvent] = msgspec.json.Decoder(ApiEvent)
_json_text = msgspec.json.Encoder().encode


Mint: TypeAlias = Callable[[int], tuple[str, bool]]
"""An ID for the event at a place of its batch, and whether it is new for sure: nobody can have sent it before."""


class Rules(msgspec.Struct, frozen=True):
    """What holds for every event of one request."""

    now_us: int
    retention_days: int
    """What the tenant keeps."""
    retention_class: int
    """What the row says; see `collector.store.schema.retention_class`."""
    max_event_bytes: int
    source_application: str = ""


class Checked(msgspec.Struct, frozen=True, gc=False):
    """An event that can be written."""

    event_id: str
    row: Row
    size: int
    """Bytes as sent."""
    minted: bool
    """The ID is new for sure."""
    ahead: bool


class Refused(msgspec.Struct, frozen=True):
    """An event that cannot, with everything that is wrong with it."""

    event_id: str | None
    outcome: str
    errors: tuple[FieldError, ...]
    reason: str = "invalid"
    """For the counts: a code."""


def check(raw: bytes | msgspec.Raw, rules: Rules, mint: Mint, index: int = 0) -> Checked | Refused:
    """Check one event.

    Args:
        raw: its JSON.
        mint: makes the ID of an event that has none.
        index: its place in its batch.

    Any bytes are valid input; nothing is raised for content.
    """
    size = len(memoryview(raw))
    if size > rules.max_event_bytes:
        error = f"has {size} bytes, at most {rules.max_event_bytes} are taken"
        return Refused(None, wire.REJECTED, (FieldError("event", error, suggestion="send less with it"),), "too_large")
    extras: dict[str, Any] = {}
    try:
        event = _event.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            event, extras = look(raw)
        except Faulty as faulty:
            return Refused(faulty.event_id, wire.REJECTED, faulty.faults)
    return _checked(event, extras, size, rules, mint, index)


def id_of_key(key: str, index: int = 0) -> str:
    """The ID that an ``Idempotency-Key`` gives the event at this place of its request."""
    return "key-" + hashlib.blake2b(f"{index}:{key}".encode(), digest_size=16).hexdigest()


def _checked(event: ApiEvent, extras: dict[str, Any], size: int, rules: Rules, mint: Mint, index: int) -> Checked | Refused:
    # Thousands of events a second pass here: what costs a tenth of a microsecond is worth a look.
    faults: list[FieldError] = []
    now_us = rules.now_us
    event_id, minted = event.event_id, False
    if event_id is None:
        event_id, minted = mint(index)
    elif fault := id_fault(event_id):
        faults.append(fault)
    time_us = now_us
    if (timestamp := event.timestamp) is not None:
        found = moment_of(timestamp, now_us)
        if found is None:
            faults.append(FieldError("timestamp", "is not a time", shown(timestamp), f"expected {TIME_FORMS}"))
        else:
            time_us = found
    said = event.attributes
    attributes = _attributes(said, extras, faults) if said or extras else {}
    payload = None if event.payload is NOTHING else _kept(event.payload, "payload", faults)
    metadata = None if event.metadata is NOTHING else _kept(event.metadata, "metadata", faults)
    if faults:
        return Refused(event.event_id, wire.REJECTED, tuple(faults))
    if time_us < now_us - rules.retention_days * DAY_US:
        error = f"is older than the {rules.retention_days} days that this tenant keeps"
        fault = FieldError("timestamp", error, shown(timestamp), "not stored; raise retention_days to keep such events")
        return Refused(event_id, wire.EXPIRED, (fault,), formats.OLDER_THAN_RETENTION)
    ahead = time_us > now_us + MAX_AHEAD_US
    if ahead:
        attributes[formats.ORIGINAL_TIMESTAMP] = str(timestamp)
        time_us = now_us
    source = event.source
    if rules.source_application and not source.name:
        source = msgspec.structs.replace(source, name=rules.source_application)
    metrics = NO_METRICS if event.metrics is None else astuple(event.metrics)
    row = (
        event_id, time_us, now_us, rules.retention_class, event.event_type, event.severity or "info", event.title,
        event.message, attributes, event.trace_id, event.span_id, payload, metadata,
        *astuple(source),
        *(NO_CONTEXT if event.context is None else astuple(event.context)),
        *metrics, zeros(metrics) if 0 in metrics else None,
        *(NO_ERROR if event.error_details is None else astuple(event.error_details)),
    )  # fmt: skip
    return Checked(event_id, row, size, minted, ahead)


def zeros(metrics: tuple[Any, ...]) -> list[str]:
    """The columns in which a metric says 0; nothing said is stored as 0 too."""
    return [name for name, value in zip(METRICS_COLUMNS, metrics, strict=True) if value == 0]


def id_fault(event_id: str) -> FieldError | None:
    """What is wrong with an ID that a client brings."""
    if not event_id.isprintable() or event_id[0] == " " or event_id[-1] == " ":
        return FieldError("event_id", "has characters that cannot be shown, or spaces around it", shown(event_id), "use a UUID")
    if event_id[16:17] == "-" and wire.EVENT_ID.fullmatch(event_id):
        mend = "lines of files have such IDs, made from their place and content; use a UUID"
        return FieldError("event_id", "has the form of an ID that was made from a file", event_id, mend)
    if event_id in RESERVED_IDS:
        return FieldError("event_id", "is a word of this API's own", event_id, "use a UUID")
    return None


def key_fault(key: str) -> FieldError | None:
    """What is wrong with an ``Idempotency-Key``."""
    if key.isprintable() and 1 <= len(key) <= MAX_KEY_CHARS:
        return None
    return FieldError("Idempotency-Key", f"expected 1 to {MAX_KEY_CHARS} printable characters", shown(key), "use a UUID")


def moment_of(value: str | float, now_us: int) -> int | None:
    """µs since 1970 of a timestamp as sent, within what the engine can say; None: it is no absolute time."""
    if isinstance(value, str):
        text = value.strip()
        if text[4:5] != "-":
            return None if text[:1] in ("-", "n") else parse_moment(text, now_us)  # relative times are for searches
        return iso_us(text)
    if isinstance(value, float):
        return parse_moment(f"{value:.6f}", now_us) if abs(value) < 1e11 else None
    return parse_moment(str(value), now_us) if 0 <= value < 1 << 63 else None


def kept_text(raw: msgspec.Raw) -> str | None:
    """Any JSON as the text it was sent as; None for ``null``. Raises UnicodeDecodeError."""
    text = str(memoryview(raw), "utf-8")
    return None if text == "null" else text


def text_of(value: Any) -> str:
    """What is kept of an attribute's value that is no text. Raises RecursionError."""
    return str(value) if type(value) is int else _json_text(value).decode()


def _kept(raw: msgspec.Raw, name: str, faults: list[FieldError]) -> str | None:
    try:
        return kept_text(raw)
    except UnicodeDecodeError:
        faults.append(FieldError(name, "is not UTF-8", suggestion="send texts as UTF-8"))
        return None


def _attributes(said_ones: dict[str, Any] | None, extras: dict[str, Any], faults: list[FieldError]) -> dict[str, str]:
    values = {**extras, **(said_ones or {})} if extras else said_ones or {}
    if len(values) > MAX_ATTRIBUTES:
        error = f"{len(values)} attributes, at most {MAX_ATTRIBUTES} are taken"
        faults.append(FieldError("attributes", error, suggestion="put what is not filtered by into payload"))
    texts = {}
    try:
        for name, value in values.items():
            if not 1 <= len(name) <= MAX_NAME_CHARS:
                faults.append(FieldError("attributes", f"expected names of 1 to {MAX_NAME_CHARS} characters", shown(name)))
                break
            texts[name] = value if type(value) is str else text_of(value)
    except RecursionError:
        faults.append(FieldError("attributes", "is nested too deeply", suggestion="put it into payload"))
    return texts
