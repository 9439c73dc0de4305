"""The fields that a query may name: those of an event as the API shows it, and any attribute. Pure."""

from __future__ import annotations

import re

import msgspec

from collector.ingest.event_types import EVENT_TYPES, SEVERITIES
from collector.search import fields as event_fields
from collector.search.language.tree import Field, Kind

ATTRIBUTE_PREFIXES = ("attributes.", "attr.")
"""For an attribute with the name of a field."""
EXISTS = "_exists_"
HOST = "host"
"""As the parameter: the agent, or one of `HOST_ATTRIBUTES`."""
HOST_ATTRIBUTES = ("host.name", "host")

LEVELS = {"warn": "warning", "err": "error", "fatal": "critical", "crit": "critical"}
"""Other words for severities."""


class Known(msgspec.Struct, frozen=True):
    """What a name stands for."""

    field: Field
    also_attribute: bool = False
    """Lines of files have no such column filled: what they say of it is an attribute of that name."""


_TEXTS = ("message", "title", "payload", "metadata", "user_agent", "error_message", "stack_trace")
"""Compared by their words."""
_OF_LINES = ("timestamp", "observed_timestamp", "event_id", "event_type", "severity", "service", "source", "agent", "path",
             "parse_error", *_TEXTS)  # fmt: skip
"""What lines of files have a column for."""
_CHOICES: dict[str, tuple[str, ...]] = {"severity": tuple(SEVERITIES), "event_type": tuple(EVENT_TYPES)}
_KINDS = {event_fields.TEXT: Kind.WORD, event_fields.NUMBER: Kind.NUMBER, event_fields.TIME: Kind.MOMENT,
          event_fields.LIST: Kind.LIST}  # fmt: skip
_OTHER_NAMES = {"id": "event_id", "external_id": "event_id", "level": "severity", "status": "status_code",
                "service_version": "version"}  # fmt: skip


def _known(field: event_fields.Field) -> Known:
    kind = _KINDS[field.kind]
    if field.name in _TEXTS:
        kind = Kind.TEXT
    elif field.name == "method":
        kind = Kind.UPPER
    choices = _CHOICES.get(field.name, ())
    said = Field(kind, field.column, choices, ranked=field.name == "severity", numeric=kind is Kind.NUMBER)
    return Known(said, also_attribute=field.name not in _OF_LINES)


def _all() -> dict[str, Known]:
    found = {name: _known(field) for name, field in event_fields.FIELDS.items()}
    found |= {field.place: found[name] for name, field in event_fields.FIELDS.items()}
    found["offset"] = Known(Field(Kind.NUMBER, "offset", numeric=True))
    return found | {name: found[meant] for name, meant in _OTHER_NAMES.items()}


FIELDS = _all()
"""By every name that they go by."""

_NAME = re.compile(r"(?![0-9./\-])(?:[0-9A-Za-z_.@$/\-\x80-\U0010ffff]|\\[^0-9A-Za-z\n])+")


def known(name: str) -> bool:
    """Whether this is the name of a field, not of an attribute that may be there or not."""
    return name in FIELDS or name in (EXISTS, HOST) or (name.startswith(ATTRIBUTE_PREFIXES) and not name.endswith("."))


def tests_of(name: str) -> tuple[Field, ...]:
    """The fields of which one has to fit."""
    for prefix in ATTRIBUTE_PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            return (Field(Kind.ATTRIBUTE, name.removeprefix(prefix)),)
    if name == HOST:
        return (FIELDS["agent"].field, *(Field(Kind.ATTRIBUTE, other) for other in HOST_ATTRIBUTES))
    found = FIELDS.get(name)
    if found is None:
        return (Field(Kind.ATTRIBUTE, name),)
    if not found.also_attribute:
        return (found.field,)
    return found.field, Field(Kind.ATTRIBUTE, name, numeric=found.field.numeric)


def name_at(text: str, at: int) -> re.Match[str] | None:
    """What can be the name of a field, at this place."""
    return _NAME.match(text, at)
