"""Cursors as callers carry them: a struct as text for a URL, and back. Pure.

A cursor opens nothing, so it is not signed: it says where a reader is. One that belongs to something has a check over that, so
that it is not taken for a cursor of something else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from agent import wire
from collector.search.parameters import Parameters

VERSION = 1
T = TypeVar("T")


class Bound(Protocol):
    """A cursor that belongs to something."""

    @property
    def version(self) -> int: ...

    @property
    def check(self) -> bytes: ...


B = TypeVar("B", bound=Bound)


def written(cursor: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode("ascii")


def read(text: str, decode: Callable[[bytes | memoryview], T]) -> T | None:
    """None: it is no cursor."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return wire.decoded(decode, raw)
    except (ValueError, msgspec.DecodeError):
        return None


def check_of(*parts: Any) -> bytes:
    """Over what a cursor belongs to."""
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=8).digest()


def given_in(
    given: Parameters, decode: Callable[[bytes | memoryview], B], check: bytes, *, mend: str, other: str, other_mend: str
) -> B | None:
    """The parameter ``cursor``; faults are kept in ``given``.

    Args:
        mend: where it is no cursor at all.
        other: what another cursor belongs to, and then the mend for that.
    """
    text = given.get("cursor")
    if text is None:
        return None
    cursor = read(text, decode)
    if cursor is None:
        given.fault("cursor", "is not a cursor", text, mend)
    elif cursor.check != check or cursor.version != VERSION:
        given.fault("cursor", f"belongs to another {other}", text, other_mend)
    else:
        return cursor
    return None
