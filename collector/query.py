"""Parameters of a search → SQL with bound parameters. Pure: no clock, no IO.

Promises:
- Every statement names the tenant, which comes from the credential, and a time window; both are bound parameters, as is
  everything a caller sent. No text of a caller ever becomes SQL.
- What is shown is read with ``FINAL``: each event once. It still prunes by time, by the settings that the store sends
  with every query (`collector.schema.READ_SETTINGS`).
- The order is total: time, then ``external_id``. A cursor names the last event shown, so pages neither repeat nor skip
  while nothing changes. It carries the window of its first page (``-15m`` would move) and a check over tenant and
  parameters, so it cannot be used with another query. It opens nothing: the tenant is always the credential's.
- Words are cut as the engine's ``splitByNonAlpha`` cuts them (ASCII letters, digits and everything beyond ASCII belong
  to words), so that a word index answers the same as a scan.

A page is found in three steps, because FINAL over all that a tenant keeps is slow and over a narrow window is not:
`span_of` asks without FINAL where the nearest candidates lie, `page_of` reads that window with FINAL, `count_of` counts.
A row that FINAL shows is among the rows it does not hide, so a span that found fewer than it may is a hard bound.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from collector.errors import FieldError, Invalid, sentence, shown
from collector.moments import MAX_US, MOMENT_FORMS, parse_moment

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_Q_CHARS = 1000
MAX_WORDS = 32
PAGE_BYTES = 16 << 20
"""A page ends early beyond this: a thousand lines of a megabyte must not fill the collector's memory."""
MAX_VALUES = 100
"""Services, severities or sources in one search."""
MAX_SPAN_IDS = 1000
AHEAD_US = 25 * 3600 * 1_000_000
"""Events lie at most a day ahead of the collector that stored them; an hour is for clocks that differ."""
DAY_US = 86_400_000_000
KEPT_EXTRA_DAYS = 7
"""Partitions are weeks: the engine drops an event up to a week after its retention."""

SEVERITIES = ("debug", "info", "warning", "error", "critical")
PARAMETERS = (
    "start_time", "end_time", "service", "severity", "source", "q", "event_id", "limit", "cursor", "order",
)  # fmt: skip
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_US)]
_WORD = re.compile(r"[0-9A-Za-z\x80-\U0010ffff]+")


class Search(msgspec.Struct, frozen=True):
    """A checked search."""

    tenant_id: str
    start_us: int
    end_us: int
    """The window, both ends included."""
    services: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    event_id: str = ""
    limit: int = DEFAULT_LIMIT
    ascending: bool = False
    after: tuple[int, str] | None = None
    """Time (µs) and ID of the last event of the page before."""
    check: bytes = b""


class Statement(NamedTuple):
    sql: str
    params: dict[str, Any]


class Span(NamedTuple):
    """Where the candidates nearest to the front of the order lie."""

    first_us: int
    last_us: int
    rows: int
    ids: Sequence[str] = ()
    """The candidates, if they are all there are and few: reading them by their IDs saves a second scan."""

    def known_whole(self, whole: bool) -> Span:
        """Without the IDs unless they are of all candidates. (Of equal times any may have been taken.)"""
        return self if whole and len(self.ids) == self.rows else self._replace(ids=())


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    version: int
    start_us: Microseconds
    end_us: Microseconds
    time_us: Microseconds
    external_id: str
    check: bytes


def parse(pairs: Iterable[tuple[str, str]], *, tenant_id: str, retention_days: int, now_us: int) -> Search:
    """The search that a query string asks for.

    Args:
        pairs: its parameters, decoded, in order.
        now_us: the clock, for relative times and the default window.

    Raises:
        Invalid: names every parameter that is unknown or has a bad value.
    """
    faults: list[FieldError] = []
    values = _once(pairs, faults)
    oldest = now_us - (retention_days + KEPT_EXTRA_DAYS) * DAY_US
    start = max(_moment(values, "start_time", now_us, oldest, faults), oldest)
    end = _moment(values, "end_time", now_us, now_us + AHEAD_US, faults)
    if "start_time" in values and end < _moment(values, "start_time", now_us, oldest, []):
        faults.append(FieldError("end_time", "lies before start_time", shown(values["end_time"]), "swap the two"))
    check = _check(tenant_id, values)
    cursor = _cursor(values.get("cursor"), check, faults)
    search = Search(
        tenant_id=tenant_id,
        start_us=cursor.start_us if cursor else start,
        end_us=cursor.end_us if cursor else end,
        services=_list(values, "service", faults),
        severities=_severities(values, faults),
        sources=_list(values, "source", faults),
        words=_words(values, faults),
        event_id=_text(values, "event_id", faults),
        limit=_limit(values, faults),
        ascending=_choice(values, "order", ("desc", "asc"), faults) == "asc",
        after=(cursor.time_us, cursor.external_id) if cursor else None,
        check=check,
    )
    if faults:
        more = f" (and {len(faults) - 1} more, see errors)" if len(faults) > 1 else ""
        raise Invalid(sentence(faults[0]) + more, errors=tuple(faults))
    return search


def span_of(search: Search, most: int) -> Statement:
    """The values of a `Span` over the first ``most`` candidates (one row)."""
    where, params = _where(search)
    direction = "ASC" if search.ascending else "DESC"
    return Statement(
        "SELECT toUnixTimestamp64Micro(min(time)), toUnixTimestamp64Micro(max(time)), count(), "
        f"groupArray({MAX_SPAN_IDS})(id) FROM (SELECT timestamp AS time, external_id AS id FROM events "
        f"WHERE {where} ORDER BY timestamp {direction} LIMIT {{most:UInt32}})",
        {**params, "most": most},
    )


def page_of(search: Search, columns: Mapping[str, str], span: Span) -> Statement:
    """One page, at most `PAGE_BYTES` and one row long, with one row more to know whether another follows.

    Args:
        columns: their names, and what to select for each. The last value of a row is how many rows there would have
            been without the bound on bytes.
    """
    where, params = _where(search, span)
    direction = "ASC" if search.ascending else "DESC"
    order = f"timestamp {direction}, external_id {direction}"
    names = ", ".join(columns)
    return Statement(
        f"SELECT {', '.join(columns.values())}, there FROM (SELECT {names}, count() OVER () AS there, "
        f"sum(byteSize({names})) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before "
        f"FROM (SELECT {names} FROM events FINAL WHERE {where} ORDER BY {order} LIMIT {{rows:UInt32}})) "
        f"WHERE before < {{bytes:UInt64}} ORDER BY {order}",
        {**params, "rows": search.limit + 1, "bytes": PAGE_BYTES},
    )


def count_of(search: Search, span: Span | None = None) -> Statement:
    """How many events match on all pages together, each once.

    Args:
        span: where the events from the cursor on lie, if known; it serves for the first page only.
    """
    where, params = _where(msgspec.structs.replace(search, after=None), None if search.after else span)
    return Statement(f"SELECT count() FROM events FINAL WHERE {where}", params)


def stats_of(search: Search) -> Statement:
    """Number, earliest and latest time (µs) of all events in the window (one row)."""
    where, params = _where(search)
    return Statement(
        "SELECT count(), toUnixTimestamp64Micro(min(timestamp)), toUnixTimestamp64Micro(max(timestamp)) "
        f"FROM events FINAL WHERE {where}",
        params,
    )


def losses_of(tenant_id: str) -> Statement:
    """Per reason: records, bytes, events, and whether one of the figures is a lower bound."""
    return Statement(
        "SELECT reason, count(), sum(lost_bytes), sum(events), max(at_least) FROM losses FINAL "
        "WHERE tenant_id = {tenant:String} GROUP BY reason ORDER BY reason",
        {"tenant": tenant_id},
    )


def cursor_after(search: Search, time_us: int, external_id: str) -> str:
    """The cursor of the page that follows an event."""
    cursor = Cursor(1, search.start_us, search.end_us, time_us, external_id, search.check)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode("ascii")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, as the engine's ``splitByNonAlpha`` cuts them, in lower case, each once."""
    return tuple(dict.fromkeys(word.lower() for word in _WORD.findall(text)))


def _where(search: Search, span: Span | None = None) -> tuple[str, dict[str, Any]]:
    """Conditions and their values. ``span`` narrows the window; it never widens it."""
    start_us = max(search.start_us, span.first_us) if span else search.start_us
    end_us = min(search.end_us, span.last_us) if span else search.end_us
    params: dict[str, Any] = {"tenant": search.tenant_id, "start": start_us, "end": end_us}
    parts = [
        "tenant_id = {tenant:String}",
        "timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')",
        "timestamp <= fromUnixTimestamp64Micro({end:Int64}, 'UTC')",
    ]
    for column, values in (("service", search.services), ("severity", search.severities), ("source", search.sources)):
        if values:
            parts.append(f"{column} IN {{{column}:Array(String)}}")
            params[column] = list(values)
    if search.event_id:
        parts.append("external_id = {event_id:String}")
        params["event_id"] = search.event_id
    if span and span.ids:
        parts.append("external_id IN {ids:Array(String)}")
        params["ids"] = list(span.ids)
    parts.extend(_word_parts(search.words, params))
    if search.after:
        # The first half is for the index on time, which a tuple comparison would not use.
        sign = ">" if search.ascending else "<"
        after = "fromUnixTimestamp64Micro({after:Int64}, 'UTC')"
        parts.append(f"timestamp {sign}= {after} AND (timestamp {sign} {after} OR external_id {sign} {{after_id:String}})")
        params["after"], params["after_id"] = search.after
    return " AND ".join(parts), params


def _word_parts(words: Sequence[str], params: dict[str, Any]) -> Iterable[str]:
    """ASCII words are looked for in ``lower(…)``, which the index holds; others need the dearer ``lowerUTF8(…)``."""
    plain = [word for word in words if word.isascii()]
    wide = [word for word in words if not word.isascii()]
    for name, lower, some in (("words", "lower", plain), ("wide_words", "lowerUTF8", wide)):
        if some:
            params[name] = some
            bound = f"{{{name}:Array(String)}}"
            yield (
                f"(hasAllTokens({lower}(message), {bound}) OR (title != '' AND "
                f"hasAllTokens({lower}(concat(title, ' ', message)), {bound})))"
            )


def _once(pairs: Iterable[tuple[str, str]], faults: list[FieldError]) -> dict[str, str]:
    """Known parameters by name. A list may be given in several parts, anything else once."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            known = ", ".join(PARAMETERS)
            faults.append(FieldError(shown(name), "there is no such parameter", shown(value), f"there are: {known}"))
        elif name not in values:
            values[name] = value
        elif name in ("service", "severity", "source"):
            values[name] += f",{value}"
        else:
            faults.append(FieldError(name, "is given more than once", shown(value), "give it once"))
    return values


def _moment(values: dict[str, str], name: str, now_us: int, default: int, faults: list[FieldError]) -> int:
    text = values.get(name)
    if text is None:
        return default
    moment = parse_moment(text, now_us)
    if moment is None:
        faults.append(FieldError(name, "is not a time", shown(text), f"expected {MOMENT_FORMS}"))
        return default
    return moment


def _list(values: dict[str, str], name: str, faults: list[FieldError]) -> tuple[str, ...]:
    if name not in values:
        return ()
    items = tuple(dict.fromkeys(item for item in (part.strip() for part in values[name].split(",")) if item))
    if not items or len(items) > MAX_VALUES:
        faults.append(FieldError(name, f"expected 1 to {MAX_VALUES} values", shown(values[name]), f"like {name}=one,another"))
    return items


def _severities(values: dict[str, str], faults: list[FieldError]) -> tuple[str, ...]:
    items = tuple(item.lower() for item in _list(values, "severity", faults))
    for item in items:
        if item not in SEVERITIES:
            faults.append(FieldError("severity", "is not a severity", shown(item), f"one of {', '.join(SEVERITIES)}"))
    return items


def _words(values: dict[str, str], faults: list[FieldError]) -> tuple[str, ...]:
    text = values.get("q")
    if text is None:
        return ()
    words = words_of(text)
    if len(text) > MAX_Q_CHARS or not 1 <= len(words) <= MAX_WORDS:
        wanted = f"expected 1 to {MAX_WORDS} words in at most {MAX_Q_CHARS} characters"
        faults.append(FieldError("q", wanted, shown(text), "letters and digits make words, all else parts them"))
    return words


def _text(values: dict[str, str], name: str, faults: list[FieldError]) -> str:
    text = values.get(name)
    if text == "":
        faults.append(FieldError(name, "is empty", "", "give a value, or leave it out"))
    return text or ""


def _limit(values: dict[str, str], faults: list[FieldError]) -> int:
    text = values.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if re.fullmatch(r"[0-9]{1,9}", text) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    faults.append(FieldError("limit", f"expected a whole number from 1 to {MAX_LIMIT}", shown(text), "page by cursor"))
    return DEFAULT_LIMIT


def _choice(values: dict[str, str], name: str, choices: tuple[str, ...], faults: list[FieldError]) -> str:
    text = values.get(name, choices[0])
    if text not in choices:
        faults.append(FieldError(name, f"expected one of {', '.join(choices)}", shown(text)))
    return text


def _check(tenant_id: str, values: dict[str, str]) -> bytes:
    """Binds a cursor to the tenant and to everything that decides which events come in which order."""
    bound = sorted((name, value) for name, value in values.items() if name not in ("cursor", "limit"))
    return hashlib.blake2b(msgspec.msgpack.encode((tenant_id, bound)), digest_size=8).digest()


def _cursor(text: str | None, check: bytes, faults: list[FieldError]) -> Cursor | None:
    if text is None:
        return None
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.msgpack.decode(raw, type=Cursor)
    except (ValueError, msgspec.DecodeError):
        faults.append(FieldError("cursor", "is not a cursor", shown(text), "use next_cursor of the page before, whole"))
        return None
    if cursor.check != check or cursor.version != 1:
        mend = "repeat all parameters of the first page beside the cursor, or start without it"
        faults.append(FieldError("cursor", "belongs to another query", shown(text), mend))
        return None
    return cursor
