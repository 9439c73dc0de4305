"""An event that did not decode, looked at again: every fault that is in it, or what it says beside the known members. Pure."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec

from collector.errors import BadRequest, FieldError, shown
from collector.ingest.bodies import decoded, place_of, said
from collector.ingest.event_types import EVENT_TYPES, MAX_ID_CHARS, NOTHING, SEVERITIES, ApiEvent

TIME_FORMS = "ISO 8601 (2026-01-31T08:00:00Z; without an offset it means UTC), or seconds, ms, µs or ns since 1970"


class Faulty(Exception):
    """The event cannot be used."""

    def __init__(self, event_id: str | None, faults: tuple[FieldError, ...]) -> None:
        super().__init__()
        self.event_id = event_id
        self.faults = faults


class _Kept(msgspec.Struct, frozen=True):
    """The members that are kept as they were sent."""

    payload: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING


_plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_kept: msgspec.json.Decoder[_Kept] = msgspec.json.Decoder(_Kept)


def look(raw: bytes | msgspec.Raw) -> tuple[ApiEvent, dict[str, Any]]:
    """The event, and its members that are not known, by their path.

    Raises:
        Faulty: with all that is wrong with it.
    """
    try:
        value = _plain.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _unreadable(raw) from None
    if not isinstance(value, dict):
        fault = FieldError("event", f"expected an object, got {_kind(value)}", shown(value), 'like {"event_type": …, …}')
        raise Faulty(None, (fault,))
    event_id = value.get("event_id")
    named = event_id if isinstance(event_id, str) and len(event_id) <= MAX_ID_CHARS else None
    extras: dict[str, Any] = {}
    known = _known(ApiEvent, value, "", extras)
    kept = _kept.decode(raw)
    known["payload"], known["metadata"] = kept.payload, kept.metadata
    try:
        return msgspec.convert(known, ApiEvent), extras
    except (msgspec.ValidationError, RecursionError) as error:
        faults = tuple(_faults(ApiEvent, value, "")) or (FieldError("event", _words(str(error))),)
        raise Faulty(named, faults) from None


def _known(kind: Any, value: dict[str, Any], at: str, extras: dict[str, Any]) -> dict[str, Any]:
    """The members of ``value`` that ``kind`` has; the others go to ``extras``."""
    fields = _fields(kind)
    known: dict[str, Any] = {}
    for name, part in value.items():
        if name not in fields:
            extras[at + name] = part
        elif isinstance(part, dict) and (nested := _struct_in(fields[name].type)):
            known[name] = _known(nested, part, f"{at}{name}.", extras)
        else:
            known[name] = part
    return known


def _faults(kind: Any, value: dict[str, Any], at: str) -> Iterator[FieldError]:
    """Everything that is wrong with the members of ``value``."""
    fields = _fields(kind)
    for name, field in fields.items():
        path = at + name
        if name not in value:
            if field.required:
                yield FieldError(path, "is required", suggestion=_mend(path, [one for one in value if one not in fields], name))
            continue
        part, nested = value[name], _struct_in(field.type)
        if nested is not None and isinstance(part, dict):
            yield from _faults(nested, part, f"{path}.")
        elif field.type is not msgspec.Raw:
            yield from _member_faults(part, field.type, path)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    return {field.name: field for field in msgspec.structs.fields(kind)}


def _member_faults(part: Any, kind: Any, path: str) -> Iterator[FieldError]:
    try:
        msgspec.convert(part, kind)
    except msgspec.ValidationError as error:
        text, _, inner = str(error).partition(" - at `$")
        yield FieldError(path + inner.rstrip("`"), _words(text), shown(part), _mend(path, [], ""))


@cache
def _struct_in(kind: Any) -> Any:
    """The Struct that a member holds, if it does."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return next((part for part in kinds if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


_MENDS = {
    "event_type": f"one of {', '.join(EVENT_TYPES)}",
    "severity": f"one of {', '.join(SEVERITIES)}",
    "timestamp": f"expected {TIME_FORMS}",
    "title": "a short text that says what happened",
    "source": 'like {"service": "shop", "endpoint": "/orders", "method": "POST"}',
    "source.service": "the name of the service that it happened in",
    "source.endpoint": "a path, a topic, a job: what was called or run",
    "source.method": "like GET or POST, or how it was run",
    "event_id": f"a text of 1 to {MAX_ID_CHARS} characters, like a UUID; left out, one is made",
    "context.tags": "a list of texts",
    "attributes": "an object",
}


def _mend(path: str, unknown: list[str], name: str) -> str:
    like = difflib.get_close_matches(name, [one for one in unknown[:50] if len(one) <= 50], 1, 0.75) if unknown else []
    return f"rename {like[0]!r} to {name!r}" if like else _MENDS.get(path, "")


def _unreadable(raw: bytes | msgspec.Raw) -> Faulty:
    """Not JSON: where, and why."""
    body = bytes(memoryview(raw))
    text = "is not usable JSON"
    try:
        decoded(body, _plain)
    except BadRequest as error:
        text = error.message.removeprefix("the body ")
    except msgspec.ValidationError as error:  # a number beyond all ranges
        words, at = said(error, len(body))
        line, column = place_of(body, at)
        text = f"is not usable JSON: {_words(words)} (line {line}, column {column} or before)"
    return Faulty(None, (FieldError("event", text, suggestion="send one JSON object"),))


def _words(text: str) -> str:
    text = text.partition(" - at `$")[0].replace("`", "")
    if text.startswith("Invalid enum value"):
        return "is not a word it may be"
    return text[:1].lower() + text[1:]


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
