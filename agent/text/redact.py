"""What nobody may read is replaced before it is written anywhere. Pure, and linear in what it is given.

Each matcher looks for something rare first (an ``@``, ``earer ``, a dot before a digit) and looks around only there:
expressions that try every byte of a block reach 30 MB/s. A replacement is a function of what it replaces, so a line has the
same ID each time it is read; with a keyed hash equal values stay joinable. No preset sees beyond a line, so a block can be
redacted in one piece; whether that goes for a pattern of the configuration, `agent.text.patterns` says.

Known limits: IPv4 only; 13 to 19 digits with a right check digit count as a card, whatever they are.
"""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from typing import NamedTuple

from agent.text.patterns import is_line_bound

Span = tuple[int, int]
Find = Callable[[bytes], Iterator[Span]]
Redact = Callable[[bytes], bytes]
"""Gives its argument itself where nothing is found."""

MAX_LOCAL_BYTES = 64
"""Longest part of an address before its ``@`` (RFC 5321, 4.5.3.1.1)."""
REMEMBERED = 8192
"""Values whose hash is kept, 2 MB of them: logs name the same few again and again, and a hash costs more than all the rest."""
PIECE_BYTES = 1 << 16
"""So much is taken apart at once: its parts fit into a core's cache, which makes a tenth to a fifth less of the whole."""
FEW_RUNS = 256
"""So many runs of digits, spaces and hyphens are looked at one by one; with more (lines far indented) the block is, at once."""
_HASH_BYTES = 8
_DIGITS = b"0123456789"
_DIGITS_AND_DOTS = _DIGITS + b"."
_LOCAL = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_DOMAIN = re.compile(rb"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]*[A-Za-z0-9])+")
_BEARER = re.compile(rb"earer (?=([A-Za-z0-9._~+/=-]{8,}+))")
_GROUPS = re.compile(rb"\.[0-9]{1,3}+\.[0-9]{1,3}+\.[0-9]{1,3}+(?!\.?[0-9])")
"""Three of the four numbers of an address: a dot is rarer than a digit."""
_SPLIT_GROUPS = re.compile(rb"(%s)(?!\.?[0-9])" % _GROUPS.pattern.rpartition(b"(?!")[0])
_OVER_255 = rb"[2-9][0-9][0-9](?<!2[0-4][0-9])(?<!25[0-5])"
_GROUP_OVER_255 = re.compile(rb"\." + _OVER_255)
_FIRST_NUMBERS = frozenset(b"%0*d" % (width, number) for number in range(256) for width in range(len(str(number)), 4))
"""Of an address: as many as 366."""
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


class _Addresses(NamedTuple):
    before: list[bytes]
    firsts: list[bytes]
    others: list[bytes]
    """The first number of each address, and the other three with the dots before them."""
    rest: bytes


def _split_ips(data: bytes) -> _Addresses | None:
    """The addresses, and what lies before each and behind the last one. None: something here looks like one and is none."""
    pieces = _SPLIT_GROUPS.split(data)
    rest = pieces.pop()
    until, others = pieces[::2], pieces[1::2]
    before = list(map(bytes.rstrip, until, repeat(_DIGITS_AND_DOTS)))
    firsts = list(map(bytes.removeprefix, until, before))
    if not _FIRST_NUMBERS.issuperset(firsts) or _GROUP_OVER_255.search(b"".join(others)):
        return None
    return _Addresses(before, firsts, others, rest)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, of about `PIECE_BYTES` in all where none is longer; itself where it is no more."""
    at = 0
    while len(data) - at > PIECE_BYTES:
        end = data.rfind(b"\n", at, at + PIECE_BYTES) + 1 or data.find(b"\n", at) + 1 or len(data)
        yield data[at:end]
        at = end
    yield data[at:]


class KeyedHash:
    """16 hex digits that nobody without the key can lead back to the value, nor try values against."""

    def __init__(self, name: str, key: bytes) -> None:
        self._front = b"[%s:" % name.encode()
        self._begun = blake2b(key=blake2b(key).digest(), digest_size=_HASH_BYTES, person=b"redact").copy
        self._begun_with: dict[bytes, Callable[[], blake2b]] = {}
        self.of = lru_cache(REMEMBERED)(self._of)

    def _of(self, value: bytes) -> bytes:
        state = self._begun()
        state.update(value)
        return b"%s%s]" % (self._front, hexlify(state.digest()))

    def of_halves(self, firsts: Sequence[bytes], others: Sequence[bytes]) -> list[bytes]:
        """The same for many values, each given in two parts; the first ones are of a small set. Remembering what the hash of
        such a part leaves behind saves half of the work, whether values come again or not."""
        digests = b"".join(self._digests(firsts, others))
        between = b"]\0" + self._front
        return (self._front + hexlify(digests, b"\0", _HASH_BYTES).replace(b"\0", between) + b"]").split(b"\0")

    def _digests(self, firsts: Sequence[bytes], others: Sequence[bytes]) -> Iterator[bytes]:
        known = self._begun_with
        for first in set(firsts).difference(known):
            state = self._begun()
            state.update(first)
            known[first] = state.copy
        for first, other in zip(firsts, others, strict=True):
            state = known[first]()
            state.update(other)
            yield state.digest()


Replace = bytes | KeyedHash


class Redaction(NamedTuple):
    """What is done to a text; each gives its argument itself where nothing is found."""

    block: Redact
    """To many lines at once."""
    each: Redact
    """To one event, which may have several lines."""
    alone: bool = False
    """Only ``each`` can be used. Else no newline comes or goes."""


def preset(name: str, replace: Replace) -> Redaction:
    """The redaction that a preset stands for."""
    find = PRESETS[name]

    def exact(data: bytes) -> bytes:
        return redacted(data, find, replace)

    def quick(data: bytes) -> bytes:
        found = _split_ips(data)
        if found is None:
            return exact(data)
        if not found.before:
            return data
        if isinstance(replace, bytes):
            return replace.join((*found.before, found.rest))
        parts = [found.rest] * (2 * len(found.before) + 1)
        parts[:-1:2], parts[1::2] = found.before, replace.of_halves(found.firsts, found.others)
        return b"".join(parts)

    def quickest(data: bytes) -> bytes:
        made = b"".join(map(quick, _pieces(data)))
        return data if made == data else made

    redact = quickest if name == "ip" else exact
    return Redaction(redact, redact)


def pattern(text: str, replace: Replace) -> Redaction:
    """Replaces what a pattern matches, or its first group where it has one."""
    expression = re.compile(text.encode(), re.M)
    group = 1 if expression.groups else 0

    def find(data: bytes) -> Iterator[Span]:
        for match in expression.finditer(data):
            if match.end(group) > match.start(group):
                yield match.span(group)

    def block(data: bytes) -> bytes:
        return redacted(data, find, replace)

    def each(data: bytes) -> bytes:
        return block(data) if expression.search(data) else data

    return Redaction(block, each, alone=not is_line_bound(text))


def mask(name: str) -> bytes:
    return b"[%s]" % name.encode()


def redacted(data: bytes, find: Find, replace: Replace) -> bytes:
    """``data`` itself where nothing is found."""
    replacing = replace.of if isinstance(replace, KeyedHash) else lambda _: replace
    parts: list[bytes] = []
    at = 0
    for start, end in find(data):
        if start < at:
            continue
        parts += (data[at:start], replacing(data[start:end]))
        at = end
    if not parts:
        return data
    parts.append(data[at:])
    return b"".join(parts)
