"""What nobody may read is replaced before it is written anywhere. Pure, and linear in what it is given.

Each matcher looks for something rare first (an ``@``, ``earer ``, a dot before a digit) and looks around only there:
expressions that try every byte of a block reach 30 MB/s. A replacement is a function of what it replaces, so a line has the
same ID each time it is read; with a keyed hash equal values stay joinable. No preset sees beyond a line, so a block can be
redacted in one piece; whether that goes for a pattern of the configuration, `agent.text.patterns` says.

Known limits: IPv4 only; 13 to 19 digits with a right check digit count as a card, whatever they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, repeat
from operator import add, itemgetter
from typing import NamedTuple

from agent.text.patterns import is_line_bound

Span = tuple[int, int]
Find = Callable[[bytes], Iterator[Span]]
Replace = Callable[[bytes], bytes]
Redact = Callable[[bytes], bytes]
"""Gives its argument itself where nothing is found."""

MAX_LOCAL_BYTES = 64
"""Longest part of an address before its ``@`` (RFC 5321, 4.5.3.1.1)."""
REMEMBERED = 8192
"""Values whose hash is kept, 2 MB of them: logs name the same few again and again, and a hash costs more than all the rest."""
FEW_RUNS = 256
"""So many runs of digits, spaces and hyphens are looked at one by one; with more (lines far indented) the block is, at once."""
_DIGITS = b"0123456789"
_LOCAL = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_DOMAIN = re.compile(rb"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]*[A-Za-z0-9])+")
_BEARER = re.compile(rb"earer (?=([A-Za-z0-9._~+/=-]{8,}+))")
_GROUPS = re.compile(rb"\.[0-9]{1,3}+\.[0-9]{1,3}+\.[0-9]{1,3}+(?!\.?[0-9])")
"""Three of the four numbers of an address: a dot is rarer than a digit."""
_SPLIT_GROUPS = re.compile(rb"(%s)(?!\.?[0-9])" % _GROUPS.pattern.rpartition(b"(?!")[0])
_OVER_255 = rb"[2-9][0-9][0-9](?<!2[0-4][0-9])(?<!25[0-5])"
_GROUP_OVER_255 = re.compile(rb"\." + _OVER_255)
_HEAD_OVER_255 = re.compile(rb"(?s:\xff.?)%s\xff" % _OVER_255)
_HEADS = bytes(48 if 48 <= byte <= 57 else byte if byte in b".\xff" else 120 for byte in range(256))
_NO_HEADS = (b"\xff\xff", b"0000\xff", b"x\xff", b".\xff", b".0\xff", b".00\xff", b".000\xff")
"""What is no first number of an address, between its last four bytes and those of the next (0: any digit)."""
_LAST_FOUR = itemgetter(slice(-4, None))
_SHAPES = bytes(48 if 48 <= byte <= 57 else 45 if byte in b" -" else 0 for byte in range(256))
_RUNS = bytes(48 if 48 <= byte <= 57 or byte in b" -" else 0 for byte in range(256))
_LEAST_CARD = b"0" * 13
_CARD = re.compile(rb"0000(?<!00000)(?:-?0){9,15}(?!0)")
_DOUBLED = bytes(sum(divmod(2 * (byte - 48), 10)) if 48 <= byte <= 57 else 0 for byte in range(256))


def emails(data: bytes) -> Iterator[Span]:
    if b"@" not in data:
        return
    for match in _DOMAIN.finditer(data):
        at, end = match.span()
        before = data[at - MAX_LOCAL_BYTES if at > MAX_LOCAL_BYTES else 0 : at]
        if length := len(before) - len(before.rstrip(_LOCAL)):
            yield at - length, end


def bearers(data: bytes) -> Iterator[Span]:
    return (match.span(1) for match in _BEARER.finditer(data) if data[match.start() - 1 : match.start()] in (b"B", b"b"))


def ips(data: bytes) -> Iterator[Span]:
    for match in _GROUPS.finditer(data):
        dot, end = match.span()
        before = data[max(0, dot - 4) : dot]
        length = len(before) - len(before.rstrip(_DIGITS))
        if not 1 <= length <= 3 or before[-length - 1 : -length] == b".":
            continue
        if max(map(int, data[dot - length : end].split(b"."))) <= 255:
            yield dot - length, end


def cards(data: bytes) -> Iterator[Span]:
    """Runs of digits that may have single spaces or hyphens between them. The first four have none, and no digit before."""
    runs = data.translate(_RUNS)
    at = runs.find(_LEAST_CARD)
    for _ in range(FEW_RUNS):
        if at < 0:
            return
        end = runs.find(b"\0", at)
        end = len(data) if end < 0 else end
        if len(run := data[at:end]) - run.count(b" ") - run.count(b"-") >= len(_LEAST_CARD):
            yield from _cards_in(data, at, end)
        at = runs.find(_LEAST_CARD, end)
    if at >= 0 and _LEAST_CARD in data[at:].translate(_SHAPES, b" -"):
        yield from _cards_in(data, at, len(data))


def _cards_in(data: bytes, begin: int, end: int) -> Iterator[Span]:
    """Those in a part before and behind which there is neither a digit nor what may stand between two."""
    for match in _CARD.finditer(data[begin:end].translate(_SHAPES)):
        start, stop = begin + match.start(), begin + match.end()
        if _luhn(data[start:stop].translate(None, b" -")):
            yield start, stop


def _luhn(digits: bytes) -> bool:
    """Of ASCII digits; only zeros are no card."""
    plain = digits[-1::-2]
    total = sum(plain) - 48 * len(plain) + sum(digits[-2::-2].translate(_DOUBLED))
    return total % 10 == 0 and bool(digits.strip(b"0"))


PRESETS: dict[str, Find] = {"email": emails, "card": cards, "bearer": bearers, "ip": ips}


def _split_ips(data: bytes) -> tuple[list[bytes], list[bytes], list[bytes], bytes] | None:
    """What lies before each address, its first number, its other ones, and what lies behind the last one. None: something
    here looks like an address and is none."""
    pieces = _SPLIT_GROUPS.split(data)
    rest = pieces.pop()
    before, groups = pieces[::2], pieces[1::2]
    joined = b"\xff".join((b"", *map(_LAST_FOUR, before), b""))
    seen = joined.translate(_HEADS)
    if any(bad in seen for bad in _NO_HEADS) or _HEAD_OVER_255.search(joined) or _GROUP_OVER_255.search(b"".join(groups)):
        return None
    kept = list(map(bytes.rstrip, before, repeat(_DIGITS)))
    return kept, before, groups, rest


class Redaction(NamedTuple):
    """What is done to a text; each gives its argument itself where nothing is found."""

    block: Redact
    """To many lines at once."""
    each: Redact
    """To one event, which may have several lines."""
    alone: bool = False
    """Only ``each`` can be used. Else no newline comes or goes."""


def preset(name: str, replace: Replace | bytes) -> Redaction:
    """The redaction that a preset stands for."""
    find, replacing = PRESETS[name], _calling(replace)

    def exact(data: bytes) -> bytes:
        return redacted(data, find, replacing)

    def quick(data: bytes) -> bytes:
        found = _split_ips(data)
        if found is None:
            return exact(data)
        kept, before, groups, rest = found
        if not kept:
            return data
        if isinstance(replace, bytes):
            return replace.join((*kept, rest))
        values = map(replace, map(add, map(bytes.removeprefix, before, kept), groups))
        return b"".join((*chain.from_iterable(zip(kept, values, strict=True)), rest))

    quickest = quick if name == "ip" else exact
    return Redaction(quickest, quickest)


def pattern(text: str, replace: Replace | bytes) -> Redaction:
    """Replaces what a pattern matches, or its first group where it has one."""
    expression, replacing = re.compile(text.encode(), re.M), _calling(replace)
    group = 1 if expression.groups else 0

    def find(data: bytes) -> Iterator[Span]:
        for match in expression.finditer(data):
            if match.end(group) > match.start(group):
                yield match.span(group)

    def block(data: bytes) -> bytes:
        return redacted(data, find, replacing)

    def each(data: bytes) -> bytes:
        return block(data) if expression.search(data) else data

    return Redaction(block, each, alone=not is_line_bound(text))


def _calling(replace: Replace | bytes) -> Replace:
    return replace if callable(replace) else lambda _: replace


def mask(name: str) -> bytes:
    return b"[%s]" % name.encode()


def keyed_hash(name: str, key: bytes) -> Replace:
    """16 hex digits that nobody without the key can lead back to the value, nor try values against."""
    digest = blake2b(key=blake2b(key).digest(), digest_size=8, person=b"redact")

    @lru_cache(REMEMBERED)
    def replace(value: bytes) -> bytes:
        state = digest.copy()
        state.update(value)
        return b"[%s:%s]" % (name.encode(), state.hexdigest().encode())

    return replace


def redacted(data: bytes, find: Find, replace: Replace) -> bytes:
    """``data`` itself where nothing is found."""
    parts: list[bytes] = []
    at = 0
    for start, end in find(data):
        if start < at:
            continue
        parts += (data[at:start], replace(data[start:end]))
        at = end
    if not parts:
        return data
    parts.append(data[at:])
    return b"".join(parts)
