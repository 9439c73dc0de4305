"""Bodies of requests that are about something, rather than bring events: read whole, and decoded into a type by name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from collector.errors import BadRequest, FieldError, Invalid, sentence
from collector.ingest import bodies
from collector.ingest.intake import IDLE_S

MAX_BODY_BYTES = 64 << 10

_PLACE = re.compile(r" - at `\$\.?(.*?)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")

Body = TypeVar("Body", bound=msgspec.Struct)


async def whole(request: web.Request) -> bytes:
    """The whole body, at most `MAX_BODY_BYTES`. Raises BadRequest when it stops arriving or ends before its end."""
    try:
        async with asyncio.timeout(IDLE_S):
            return await request.read()
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {IDLE_S:g} s; send it again") from None
    except (ConnectionError, ClientPayloadError, HttpProcessingError):
        raise BadRequest("the body ended before its end; send it again") from None


def read(body: bytes, kind: type[Body], mends: Mapping[str, str] = {}) -> Body:
    """A request's body.

    Args:
        mends: what to suggest for members inside others, by their own names.

    Raises:
        BadRequest: not JSON, with line and column.
        Invalid: names the member.
    """
    try:
        decoded: Body = bodies.decoded(body or b"{}", msgspec.json.Decoder(kind))
        return decoded
    except msgspec.ValidationError as error:
        name, said = fault_of(str(error))
        inside = "." in name or "[" in name
        mend = mends.get(name.rpartition(".")[2], "") if inside else f"there are {', '.join(kind.__struct_fields__)}"
        fault = FieldError(name or "body", said, suggestion=mend)
        raise Invalid(sentence(fault), errors=(fault,)) from None


def fault_of(text: str) -> tuple[str, str]:
    """The field that msgspec complains about, or nothing, and what it says."""
    place = _PLACE.search(text)
    inside = f"{place[1]}." if place and place[1] else ""
    if unknown := _UNKNOWN.search(text):
        return inside + unknown[1], "there is no such field"
    if missing := _MISSING.search(text):
        return inside + missing[1], "is missing"
    return (place[1], text[: place.start()]) if place else ("", text)
