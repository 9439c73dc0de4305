"""Which events are meant: filter parameters → conditions on `events`, with bound values. Pure.

- Different parameters narrow each other; the values of one list are alternatives. ``tags`` given twice asks for events
  that have one of each.
- A text with commas or blanks around it is looked for whole, too: it may be what the event said.
- ``q`` has a language of its own: `collector.search.language`.
- No text of a caller becomes SQL: not even the name of an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from collector.ingest.event_types import EVENT_TYPES, SEVERITIES
from collector.search.language.conditions import condition, upper
from collector.search.language.faults import QueryFault
from collector.search.language.parsing import MAX_CHARS, parse
from collector.search.language.tree import Node
from collector.search.parameters import Parameters

MAX_STATUS = 65535
"""Of a metric `status_code`; not all protocols count as HTTP does."""
MAX_GROUPS = 16
"""Of tags, and of attributes, in one search."""

RISING = tuple(SEVERITIES)
COLUMNS = {
    "service": "service",
    "source": "source",
    "endpoint": "endpoint",
    "user_id": "user_id",
}
"""Parameters whose values are those of a column, as they are."""
ATTRIBUTE = "attr."
PARAMETERS = (
    "event_type", "severity", "min_severity", *COLUMNS, "method", "status_code", "host", "tags", ATTRIBUTE, "q", "event_id",
)  # fmt: skip
SEVERAL = ("event_type", "severity", *COLUMNS, "method", "status_code", "host", "tags", ATTRIBUTE)
"""Those that may be given more than once."""

_STATUS = re.compile(r"([1-9])xx|(0|[1-9][0-9]{0,4})(?:-(0|[1-9][0-9]{0,4}))?", re.ASCII | re.IGNORECASE)
_STATUS_FORMS = "like 404, 5xx, 400-499, or several: 404,5xx"


class Filters(msgspec.Struct, frozen=True):
    """Checked conditions; empty ones ask for nothing."""

    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Column and the values it may have."""
    methods: tuple[str, ...] = ()
    """In upper case, of ASCII letters."""
    statuses: tuple[tuple[int, int], ...] = ()
    """Ranges, both ends included."""
    hosts: tuple[str, ...] = ()
    tags: tuple[tuple[str, ...], ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    query: Node | None = None
    """What ``q`` says."""
    event_id: str = ""


def filters_of(given: Parameters, now_us: int) -> Filters:
    """The filters among the parameters; faults are kept in ``given``. ``now_us`` is for relative times in ``q``."""
    columns = [(column, given.texts_of(name)) for name, column in COLUMNS.items()]
    columns.append(("event_type", given.choices("event_type", EVENT_TYPES, "an event type")))
    columns.append(("severity", _severities(given)))
    return Filters(
        columns=tuple((column, values) for column, values in columns if values),
        statuses=tuple(_statuses(given)),
        methods=tuple(dict.fromkeys(upper(method) for method in given.texts_of("method"))),
        hosts=given.texts_of("host"),
        tags=_tags(given),
        attributes=tuple(_attributes(given)),
        query=_query(given, now_us),
        event_id=given.text("event_id"),
    )


def conditions(filters: Filters, params: dict[str, Any]) -> Iterator[str]:
    """The conditions, to be joined by AND; puts their values into ``params``."""
    for column, values in filters.columns:
        params[column] = list(values)
        yield f"{column} IN {{{column}:Array(String)}}"
    if filters.methods:
        params["methods"] = list(filters.methods)
        yield "upper(method) IN {methods:Array(String)}"
    if filters.event_id:
        params["event_id"] = filters.event_id
        yield "external_id = {event_id:String}"
    if filters.statuses:
        yield f"({' OR '.join(_status_parts(filters.statuses, params))})"
    if filters.hosts:
        params["hosts"] = list(filters.hosts)
        params["host_items"] = [f"{name}={host}" for host in filters.hosts for name in ("host.name", "host")]
        # The items are what the index holds; the rest is for an attribute whose name has a `=`.
        yield (
            "(agent IN {hosts:Array(String)} OR (hasAny(items, {host_items:Array(String)}) AND "
            "(attributes['host.name'] IN {hosts:Array(String)} OR attributes['host'] IN {hosts:Array(String)})))"
        )
    for n, tags in enumerate(filters.tags):
        params[f"tags{n}"] = list(tags)
        yield f"hasAny(tags, {{tags{n}:Array(String)}})"
    for n, (name, values) in enumerate(filters.attributes):
        # The items are what the index holds; the rest tells `a` with the value `b=c` from `a=b` with the value `c`.
        params[f"items{n}"] = [f"{name}={value}" for value in values]
        params[f"name{n}"], params[f"values{n}"] = name, list(values)
        yield (
            f"hasAny(items, {{items{n}:Array(String)}}) AND mapContains(attributes, {{name{n}:String}}) "
            f"AND attributes[{{name{n}:String}}] IN {{values{n}:Array(String)}}"
        )
    if filters.query is not None:
        yield condition(filters.query, params)


def _severities(given: Parameters) -> tuple[str, ...]:
    exact = given.choices("severity", SEVERITIES, "a severity")
    least = given.get("min_severity")
    if least is None:
        return exact
    if least.lower() not in SEVERITIES:
        given.fault("min_severity", "is not a severity", least, f"one of {', '.join(SEVERITIES)}")
        return exact
    rising = RISING[RISING.index(least.lower()) :]
    both = tuple(severity for severity in rising if not exact or severity in exact)
    if not both:
        given.fault("min_severity", "leaves nothing of severity", least, "give one of the two")
    return both


def _statuses(given: Parameters) -> Iterator[tuple[int, int]]:
    for item in given.list_of("status_code"):
        found = _STATUS.fullmatch(item)
        if found and found[1]:
            yield int(found[1]) * 100, int(found[1]) * 100 + 99
        elif found and int(found[2]) <= int(found[3] or found[2]) <= MAX_STATUS:
            yield int(found[2]), int(found[3] or found[2])
        else:
            given.fault("status_code", "is no status, class or range", item, _STATUS_FORMS)


def _status_parts(ranges: Sequence[tuple[int, int]], params: dict[str, Any]) -> Iterator[str]:
    for n, (low, high) in enumerate(ranges):
        if low == 0:
            yield "has(zero_metrics, 'status_code')"  # the column is 0 also where an event did not say
        if high > 0:
            params[f"low{n}"], params[f"high{n}"] = max(low, 1), high
            yield f"status_code BETWEEN {{low{n}:UInt16}} AND {{high{n}:UInt16}}"


def _tags(given: Parameters) -> tuple[tuple[str, ...], ...]:
    parts = given.values.get("tags", [])
    if len(parts) > MAX_GROUPS:
        given.fault("tags", f"is given more than {MAX_GROUPS} times", None)
    return tuple(given.texts("tags", part) for part in parts[:MAX_GROUPS])


def _attributes(given: Parameters) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A value is taken whole: it may have commas and blanks."""
    found = given.with_prefix(ATTRIBUTE)
    if len(found) > MAX_GROUPS:
        given.fault(f"{ATTRIBUTE}NAME", f"more than {MAX_GROUPS} attributes are given", None)
    for name, values in list(found.items())[:MAX_GROUPS]:
        if not name:
            given.fault(ATTRIBUTE, "names no attribute", values[0], f"like {ATTRIBUTE}region=eu")
        else:
            yield name, tuple(dict.fromkeys(values))


def _query(given: Parameters, now_us: int) -> Node | None:
    text = given.get("q")
    if text is None:
        return None
    if len(text) > MAX_CHARS:
        given.fault("q", f"is longer than {MAX_CHARS} characters", text, "ask for less at once")
        return None
    try:
        return parse(text, now_us)
    except QueryFault as fault:
        given.fault("q", fault.told(text), text, fault.mend)
        return None
