"""Events of a batch, many at a time: decoded with one call, checked and turned into what is inserted column by column. Pure.

It is for those among which nothing is wrong, which are nearly all: `portion_of` either does with all of them exactly what
`collector.ingest.event_checks.check` does with each, for a third of the CPU, or says that it cannot. It need not see what is
wrong, nor take everything that is right; the one-by-one check then decides.

What is kept of them is little: their IDs, and their rows as bytes. Where their rows are needed one by one after all (the
store has some of them, or refuses one), they are checked again from the bytes that were sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import Annotated, Any, TypeAlias, cast, overload

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from agent import wire
from collector.ingest.event_checks import (
    CONTEXT_COLUMNS,
    DAY_US,
    ERROR_COLUMNS,
    MAX_AHEAD_US,
    MAX_NAME_CHARS,
    METRICS_COLUMNS,
    NO_CONTEXT,
    NO_ERROR,
    NO_METRICS,
    RESERVED_IDS,
    ROW_COLUMNS,
    SOURCE_COLUMNS,
    Checked,
    Mint,
    Rules,
    check,
    id_fault,
    kept_text,
    moment_of,
    text_of,
    zeros,
)
from collector.ingest.event_types import MAX_ATTRIBUTES, NOTHING, ApiEvent
from collector.ingest.instants import moments_of
from collector.store.native import Block, Pairs
from collector.writing.event_rows import columns_block

MAX_EVENTS = 500
MAX_BYTES = 1 << 20
"""Events of a request are written in parcels of at most so much, so that other tenants' parcels come in between."""

_Attributes = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)], Any], Meta(max_length=MAX_ATTRIBUTES)
]
_FIELDS = msgspec.structs.fields(ApiEvent)
_MEMBERS = tuple(field.name for field in _FIELDS)


def _stricter() -> Any:
    """As `ApiEvent`, but what `check` says of attributes is part of the type."""
    members = {field.name: (field.type, *(() if field.required else (field.default,))) for field in _FIELDS}
    members["attributes"] = (_Attributes | None, None)
    fields = [(name, *rest) for name, rest in members.items()]
    return msgspec.defstruct("_Strict", fields, frozen=True, gc=False, forbid_unknown_fields=True)


_strict: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list.__class_getitem__(_stricter()))
_one_value: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)

_PLAIN_ID = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-"
_FILE_ID_CHARS = len("0123456789abcdef-0123456789ab-01234567")
_PARTS = (
    ("source", SOURCE_COLUMNS, ()),
    ("context", CONTEXT_COLUMNS, NO_CONTEXT),
    ("metrics", METRICS_COLUMNS, NO_METRICS),
    ("error_details", ERROR_COLUMNS, NO_ERROR),
)
"""Members that have members: the columns of these, and what there is where an event does not have it."""


class Portion(msgspec.Struct, frozen=True):
    """Events that stand side by side in a batch, all of them good, fresh or old, none ahead."""

    ids: list[str]
    asked: list[str]
    """Those that may be in the store already."""
    size_bytes: int
    """As sent."""
    earliest_us: int
    """The time of the first of them."""
    block: Block
    raws: Sequence[bytes | msgspec.Raw]
    rules: Rules

    def __len__(self) -> int:
        return len(self.ids)

    def events(self) -> list[Checked]:
        """The same one by one: dear."""
        asked = set(self.asked)

        def named(place: int) -> tuple[str, bool]:
            return self.ids[place], self.ids[place] not in asked

        found = [check(raw, self.rules, named, place) for place, raw in enumerate(self.raws)]
        events = [event for event in found if isinstance(event, Checked)]
        assert len(events) == len(found), "what was good is good"
        return events


class Whole(Sequence[Checked]):
    """Good events, one by one only if somebody looks at them."""

    def __init__(self, portions: Sequence[Portion], ids: Sequence[str]) -> None:
        self.portions = portions
        self.ids = ids
        self.size_bytes = sum(portion.size_bytes for portion in portions)
        self.earliest_us = min((portion.earliest_us for portion in portions), default=0)

    @cached_property
    def _events(self) -> list[Checked]:
        return [event for portion in self.portions for event in portion.events()]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Checked: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Checked]: ...

    def __getitem__(self, place: int | slice) -> Checked | Sequence[Checked]:
        return self._events[place]


def lengths_of(raws: Sequence[bytes | msgspec.Raw]) -> list[int]:
    return [len(memoryview(raw)) for raw in raws]


def size_of(events: Sequence[Checked]) -> int:
    """Bytes as sent, of all."""
    return events.size_bytes if isinstance(events, Whole) else sum([event.size for event in events])


def sizes_of(events: Sequence[Checked]) -> list[int]:
    """The same of each."""
    if isinstance(events, Whole):
        return [length for portion in events.portions for length in lengths_of(portion.raws)]
    return [event.size for event in events]


def ahead_of(events: Sequence[Checked]) -> list[bool]:
    """Which had a time too far ahead."""
    return [False] * len(events) if isinstance(events, Whole) else [event.ahead for event in events]


def asked_of(events: Sequence[Checked]) -> list[str]:
    """IDs that may be in the store already."""
    if isinstance(events, Whole):
        return [event_id for portion in events.portions for event_id in portion.asked]
    return [event.event_id for event in events if not event.minted]


def portion_of(raws: Sequence[bytes | msgspec.Raw], rules: Rules, mint: Mint, begin: int) -> Portion | None:
    """Check some events at once.

    Args:
        raws: the JSON of each.
        mint: makes the ID of an event that has none.
        begin: the place of the first in its batch.

    Returns:
        None where it cannot tell that all of them are good.
    """
    joined = b",".join(raws)
    size = len(joined) - len(raws) + 1
    if size > MAX_BYTES or (size > rules.max_event_bytes and max(lengths_of(raws)) > rules.max_event_bytes):
        return None
    try:
        if type(raws[0]) is bytes:  # a line, of which nobody has looked whether it is one value
            for raw in raws:
                _one_value.decode(raw)
        events = _strict.decode(b"[%b]" % joined)
        said = dict(zip(_MEMBERS, zip(*map(astuple, events), strict=True), strict=True))
        columns = _columns(said, rules)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if columns is None or (named := _ids(said["event_id"], mint, begin)) is None:
        return None
    ids, asked = named
    columns["external_id"] = ids
    told = {name: columns[name] for name in ROW_COLUMNS if name in columns}
    return Portion(ids, asked, size, min(columns["timestamp"]), columns_block(told), raws, rules)


Column: TypeAlias = Sequence[Any]


def _columns(said: Mapping[str, Column], rules: Rules) -> dict[str, Column] | None:
    """By name, without the IDs; None: see `portion_of`. Raises UnicodeDecodeError, RecursionError."""
    count = len(said["title"])
    moments = _moments(said["timestamp"], rules.now_us)
    if moments is None:
        return None
    if min(moments) < rules.now_us - rules.retention_days * DAY_US or max(moments) > rules.now_us + MAX_AHEAD_US:
        return None
    columns: dict[str, Column] = {
        "timestamp": moments,
        "observed_timestamp": [rules.now_us] * count,
        "retention_days": [rules.retention_class] * count,
        "severity": [severity or "info" for severity in said["severity"]],
        **{name: said[name] for name in ("event_type", "title", "message", "trace_id", "span_id")},
    }
    for part, names, empty in _PARTS:
        if any(values := said[part]):
            members = [empty if value is None else astuple(value) for value in values]
            columns.update(zip(names, zip(*members, strict=True), strict=True))
    if zero_rows := [row for name in METRICS_COLUMNS for row in _zeros(columns.get(name, ()))]:
        metrics = [columns.get(name, [None] * count) for name in METRICS_COLUMNS]
        zero_metrics: list[list[str] | None] = [None] * count
        for row in zero_rows:
            zero_metrics[row] = zeros(tuple(numbers[row] for numbers in metrics))
        columns["zero_metrics"] = zero_metrics
    if rules.source_application:
        columns["source"] = [name or rules.source_application for name in columns["source"]]
    if any(attributes := said["attributes"]):
        columns["attributes"] = _pairs(attributes)
    for name in ("payload", "metadata"):
        if said[name].count(NOTHING) < count:
            columns[name] = [None if raw is NOTHING else kept_text(raw) for raw in said[name]]
    return columns


def _moments(times: Column, now_us: int) -> Sequence[int] | None:
    """None: one of them is no time."""
    if (found := moments_of(times)) is not None:
        return cast(list[int], found.tolist())
    moments = [now_us if time is None else moment_of(time, now_us) for time in times]
    return None if None in moments else cast(list[int], moments)


def _zeros(numbers: Column) -> list[int]:
    """The rows that say 0."""
    if all(numbers) or numbers.count(None) == len(numbers):
        return []
    return [row for row, number in enumerate(numbers) if number is not None and not number]


def _pairs(attributes: Column) -> Pairs:
    ends = list(accumulate([len(values) if values else 0 for values in attributes]))
    given = [values for values in attributes if values]
    names = list(chain.from_iterable(given))
    values = chain.from_iterable(map(dict.values, given))
    return Pairs(ends, names, [value if type(value) is str else text_of(value) for value in values])


def _ids(given: Column, mint: Mint, begin: int) -> tuple[list[str], list[str]] | None:
    """All IDs, and those that are not new for sure; None: one of them must not be used."""
    asked = list(filter(None, given))
    if not _are_good(asked):
        return None
    if len(asked) == len(given):
        return asked, asked
    ids = []
    for place, event_id in enumerate(given, begin):
        minted = False
        if event_id is None:
            event_id, minted = mint(place)
            if not minted:
                asked.append(event_id)
        ids.append(event_id)
    return ids, asked


def _are_good(ids: list[str]) -> bool:
    joined = "".join(ids).encode("utf-8")
    if joined.translate(None, _PLAIN_ID):
        return not any(map(id_fault, ids))
    if _FILE_ID_CHARS in map(len, ids) and any(map(wire.EVENT_ID.fullmatch, ids)):
        return False
    return RESERVED_IDS.isdisjoint(ids)
