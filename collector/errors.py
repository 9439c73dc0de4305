"""Every error the collector can answer with, and the one table that says how.

- Errors are split by whose turn it is: the caller's (4xx, names the field), the world's (503 or 429, says when to try
  again), ours (500, the details are in the log only).
- `TABLE` maps an error class to an HTTP status and a stable code. No other file chooses a status. A class without an
  entry of its own is answered as its nearest ancestor; anything that is not a `CollectorError` is ours.
- What an error says may reach a caller, with one exception: the text of a `StoreError` is the engine's. It can quote
  other tenants' rows, so it goes to the log and `answer_of` replaces it.
- The body is ``{"error": {"code", "message", "errors": [{"field", "error", "value", "suggestion"}]}}`` everywhere.
"""

from __future__ import annotations

import msgspec

from agent import wire

SHOWN_VALUE_CHARS = 100
"""What a caller sent is quoted up to here."""


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one named part of a request."""

    field: str
    error: str
    value: str | None = None
    """What was sent, shortened."""
    suggestion: str = ""


class Body(msgspec.Struct, frozen=True):
    code: str
    message: str
    errors: tuple[FieldError, ...] = ()
    request_id: str = ""


class Envelope(msgspec.Struct, frozen=True):
    error: Body


class Reply(msgspec.Struct, frozen=True):
    """What to answer: the shell only turns it into bytes."""

    status: int
    body: Body
    retry_after_s: float | None = None


class CollectorError(Exception):
    """Base of all errors with an answer of their own."""

    def __init__(self, message: str, *, errors: tuple[FieldError, ...] = (), retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors
        self.retry_after_s = retry_after_s


class ConfigError(CollectorError):
    """The configuration cannot be used; `message` has one line per fault. Never an HTTP answer."""


class StoreLocked(CollectorError):
    """Another process has the embedded store open; the message names it. Never an HTTP answer."""


class BadRequest(CollectorError):
    """The request cannot be read at all."""


class Invalid(CollectorError):
    """The request can be read, but a value in it is wrong; `errors` name it."""


class Expired(Invalid):
    """The event is older than its tenant keeps events; it was not stored."""


class EventRefused(Invalid):
    """The engine refuses this one event, for its content."""


class Unauthorized(CollectorError):
    """No key, or one that is not known (any more)."""


class Forbidden(CollectorError):
    """The key is known, but not for this."""


class RegistrationOff(Forbidden):
    """No admin token is configured."""


class TenantDisabled(Forbidden):
    """The key's tenant has been switched off."""


class CertificateNeeded(Forbidden):
    """The client has shown no certificate."""


class NotFound(CollectorError):
    pass


class Conflict(CollectorError):
    """What is to be created exists."""


class UnsupportedType(CollectorError):
    """The body's content type is not the one this path takes."""


class TooLarge(CollectorError):
    """The body, or what it inflates to, is beyond a limit; the message names the number."""


class BadRun(CollectorError):
    """The record at byte ``offset`` of a run is damaged or contradicts itself; nothing of the run was stored."""

    def __init__(self, offset: int, reason: str, *, record_id: str = "") -> None:
        named = f" (record_id {record_id})" if record_id else ""
        field = FieldError(
            field=f"records[{record_id}]" if record_id else f"byte {offset}",
            error=reason,
            value=record_id or None,
            suggestion="send the records before it on their own; the one at this offset will be refused again",
        )
        super().__init__(f"bad record at byte {offset}{named}: {reason}", errors=(field,))
        self.offset = offset
        self.reason = reason
        self.record_id = record_id


class UnsupportedVersion(BadRun):
    """A record of a newer version: hold it, a newer collector will take it."""


class TooManyQueries(CollectorError):
    """The tenant has as many queries under way as it may."""


class TooManyRequests(CollectorError):
    """The tenant has as many requests under way as it may."""


class TooManyStreams(CollectorError):
    """As many exports or tails are open as there may be."""


class RateLimited(CollectorError):
    """The tenant's budget of events or bytes is used up for the moment; nothing that this error is about was taken."""


class MonthlyQuota(RateLimited):
    """The tenant's events of this month are used up."""


class QueryTooExpensive(CollectorError):
    """The engine gave a query up at one of its bounds (time, memory, rows)."""


class QueueFull(CollectorError):
    """Too much waits to be written; nothing of the request was taken."""

    def __init__(self, retry_after_s: float, message: str = "too much waits to be written; nothing was taken") -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Stopped(CollectorError):
    """The collector stops, and does not begin what would go on for long."""


class StoreError(CollectorError):
    """The engine refused a statement. The text is for the log only; ``code`` is the engine's number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StoreAway(StoreError):
    """The engine cannot be reached, or cannot work now: try again, nothing is wrong with the statement."""

    def __init__(self, code: int = 0, message: str = "the store does not answer", retry_after_s: float = 1.0) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


TABLE: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "bad_request"),
    BadRun: (400, wire.CODE_BAD_RECORD),
    Unauthorized: (401, wire.CODE_UNAUTHORIZED),
    Forbidden: (403, wire.CODE_FORBIDDEN),
    RegistrationOff: (403, "registration_off"),
    TenantDisabled: (403, "tenant_disabled"),
    CertificateNeeded: (403, "client_certificate_required"),
    NotFound: (404, "not_found"),
    Conflict: (409, "conflict"),
    TooLarge: (413, wire.CODE_TOO_LARGE),
    UnsupportedType: (415, "unsupported_content_type"),
    Invalid: (422, "invalid"),
    Expired: (422, "expired"),
    EventRefused: (422, "store_refused"),
    QueryTooExpensive: (422, "query_too_expensive"),
    TooManyQueries: (429, "too_many_queries"),
    TooManyRequests: (429, "too_many_requests"),
    TooManyStreams: (429, "too_many_streams"),
    RateLimited: (429, "rate_limited"),
    MonthlyQuota: (429, "monthly_quota"),
    CollectorError: (500, "internal_error"),
    StoreError: (500, "store_error"),
    UnsupportedVersion: (503, wire.CODE_UNKNOWN_VERSION),
    Stopped: (503, "stopping"),
    QueueFull: (503, wire.CODE_BUSY),
    StoreAway: (503, wire.CODE_STORE_AWAY),
}

HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: wire.CODE_TOO_LARGE}
"""Codes for what the HTTP library refuses before a handler runs."""

UNSUPPORTED_RETRY_S = 60.0
"""A newer collector takes a deployment to arrive; asking more often only costs."""

_STORE_TEXTS = {
    StoreAway: "the store does not answer; nothing of this request is confirmed, send it again",
    StoreError: "the store refused this; the operator finds the reason in the collector's log under this request_id",
}
_OURS = "something went wrong in the collector; the operator finds it in the log under this request_id"


def entry_of(kind: type[BaseException]) -> tuple[int, str]:
    """Status and code of an error class: its own entry, or its nearest ancestor's."""
    for base in kind.__mro__:
        if base in TABLE:
            return TABLE[base]
    return TABLE[CollectorError]


def answer_of(error: BaseException, request_id: str = "") -> Reply:
    """What a caller is told about ``error``. Nothing of the engine's or of our own internals is in it."""
    status, code = entry_of(type(error))
    if not isinstance(error, CollectorError):
        return Reply(status, Body(code, _OURS, request_id=request_id))
    retry_after_s = error.retry_after_s
    message = error.message
    if isinstance(error, StoreError):
        message = _STORE_TEXTS[StoreAway if isinstance(error, StoreAway) else StoreError]
    elif isinstance(error, UnsupportedVersion) and retry_after_s is None:
        retry_after_s = UNSUPPORTED_RETRY_S
    return Reply(status, Body(code, message, error.errors, request_id), retry_after_s)


def shown(value: object) -> str:
    """A caller's value as it may be quoted back: short, printable."""
    try:
        text = str(value)
    except RecursionError:  # how deep that is depends on who calls
        text = "(nested too deeply to be shown)"
    cut = text if len(text) <= SHOWN_VALUE_CHARS else text[:SHOWN_VALUE_CHARS] + "…"
    return "".join(c if c.isprintable() else "\ufffd" for c in cut)


def invalid(field: str, error: str, value: object, suggestion: str = "") -> Invalid:
    """An `Invalid` about one field, with a message that can be read on its own."""
    fault = FieldError(field, error, shown(value), suggestion)
    return Invalid(sentence(fault), errors=(fault,))


def sentence(fault: FieldError) -> str:
    """The fault in a sentence; lines that show where it is stay behind it."""
    what, newline, where = fault.error.partition("\n")
    sent = "" if fault.value is None else f", got {fault.value!r}"
    mend = f"; {fault.suggestion}" if fault.suggestion else ""
    return f"{fault.field}: {what}{sent}{mend}{newline}{where}"
