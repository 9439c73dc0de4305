"""A term of the Lucene parser, and the field it is of → a test. Pure.

What is bounded here: the number of words, of terms of fields, of patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from luqum import tree as lucene

from collector.search.language import fields, patterns, values
from collector.search.language.faults import QueryFault
from collector.search.language.scanning import QUOTE, Scanned, unescaped
from collector.search.language.tree import (
    Between,
    Bound,
    Everything,
    Exists,
    Field,
    Is,
    Kind,
    Leaf,
    Like,
    Node,
    Or,
    Parts,
    Phrase,
    Regex,
    Wild,
    Words,
)

MAX_WORDS = 32
MAX_TERMS = 64
MAX_PATTERNS = 8
"""Regular expressions and texts with wildcards: each is tried on every event that is read."""

WORD = re.compile(r"[0-9A-Za-z\x80-\U0010ffff]+")
_PIECE = re.compile(r"\\(.)|([*?])|([^\\*?]+|\\)", re.DOTALL)
TOO_MUCH = "ask for less at once, or use the other parameters, which take lists"


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, as the engine's ``splitByNonAlpha`` cuts them, each once; ASCII ones in lower case."""
    return tuple(dict.fromkeys(_lowered(word) for word in WORD.findall(text)))


class Terms:
    """Makes tests of terms; counts as it goes.

    Args:
        now_us: the clock, for relative times.
    """

    def __init__(self, scanned: Scanned, now_us: int) -> None:
        self._scanned = scanned
        self._now_us = now_us
        self._terms = 0
        self._patterns = 0
        self._words_seen: set[str] = set()

    def exists(self, item: Any) -> Node | None:
        if not isinstance(item, (lucene.Word, lucene.Phrase)):
            raise QueryFault(f"{fields.EXISTS} takes the name of a field", self.at(item), f"like {fields.EXISTS}:trace_id")
        name = unescaped(item.value.strip('"'))
        self._count_term(item)
        return _any([Exists(field) for field in fields.tests_of(name)])

    def term(self, item: Any, name: str | None) -> Node | None:
        """None where there is nothing to look for. ``name`` is that of the field, if there is one."""
        pattern = isinstance(item, lucene.Regex) or (isinstance(item, lucene.Word) and _has_wildcards(_parts(item.value)))
        if pattern:
            self._patterns += 1
            self._within(self._patterns, MAX_PATTERNS, "regular expressions and wildcards", item)
        if name is None:
            return self._test(item, None)
        self._count_term(item)
        return _any([test for field in fields.tests_of(name) if (test := self._test(item, field)) is not None])

    def _test(self, item: Any, field: Field | None) -> Leaf | None:
        if isinstance(item, lucene.Regex):
            return self._regex(item, field)
        if isinstance(item, lucene.Phrase):
            return self._text(_quoted_text(item), item, field)
        if isinstance(item, lucene.Range):
            bounds = (self._bound(item.low, item.include_low), self._bound(item.high, item.include_high))
            return self._between(field, *bounds, item)
        if isinstance(item, lucene.From):
            return self._between(field, self._bound(item.a, item.include), None, item)
        if isinstance(item, lucene.To):
            return self._between(field, None, self._bound(item.a, item.include), item)
        parts = _parts(item.value)
        if parts == (Wild.MANY,):
            return Exists(field) if field else Everything()
        if _has_wildcards(parts):
            return self._like(parts, item, field)
        return self._plain("".join(map(str, parts)), item, field)

    def _plain(self, text: str, item: Any, field: Field | None) -> Leaf | None:
        """A value without quotes."""
        if field is None or field.kind is Kind.TEXT:
            return self._words(text, item, field)
        if field.numeric and (found := values.class_of(text)):
            return Between(field, Bound(found[0], True), Bound(found[1], True))
        return self._value(text, item, field)

    def _text(self, text: str, item: Any, field: Field | None) -> Leaf | None:
        """A value in quotes."""
        if field is not None and field.kind is not Kind.TEXT:
            return self._value(text, item, field)
        words = tuple(_lowered(word) for word in WORD.findall(text))
        if len(words) < 2:
            return self._words(text, item, field)
        self._count_words(words, item)
        return Phrase(field, words)

    def _words(self, text: str, item: Any, field: Field | None) -> Leaf | None:
        words = words_of(text)
        self._count_words(words, item)
        return Words(field, words) if words else None

    def _value(self, text: str, item: Any, field: Field) -> Leaf:
        at = self.at(item)
        if field.choices:
            return Is(field, (values.choice_of(field, text, at),))
        if field.kind is Kind.NUMBER:
            number = Bound(values.need_number(field, text, at), True)
            return Between(field, number, number)
        if field.kind is Kind.MOMENT:
            first, last = values.moment_of(text, self._now_us, at)
            return Between(field, Bound(first, True), Bound(last, True))
        if not text and field.kind is not Kind.ATTRIBUTE:
            mend = f"NOT {field.name}:* finds events that do not say it"
            raise QueryFault(f"no event has an empty {field.name}", at, mend)
        return Is(field, (text,))

    def _like(self, parts: Parts, item: Any, field: Field | None) -> Leaf | None:
        if field is None or field.kind is Kind.TEXT:
            if not WORD.search("".join(str(part) for part in parts if not isinstance(part, Wild))):
                return None
        elif field.choices:
            return Is(field, values.choices_like(field, parts))
        elif field.kind in (Kind.NUMBER, Kind.MOMENT):
            mend = f"like {field.name}:[1 TO 5], or {field.name}:* for any"
            raise QueryFault(f"{field.name} takes no wildcards", self.at(item), mend)
        return Like(field, parts)

    def _regex(self, item: Any, field: Field | None) -> Leaf:
        at = self.at(item)
        if field is not None and field.kind in (Kind.NUMBER, Kind.MOMENT):
            raise QueryFault(f"{field.name} takes no regular expression", at, f"like {field.name}:[1 TO 5]")
        pattern = item.value[1:-1]
        patterns.check_regex(pattern, at + 1)
        return Regex(field, pattern, at)

    def _bound(self, item: Any, included: bool) -> tuple[str, bool, Any] | None:
        """None for an open end."""
        if isinstance(item, lucene.Phrase):
            return _quoted_text(item), included, item
        parts = _parts(item.value)
        if parts == (Wild.MANY,):
            return None
        return "".join(part.value if isinstance(part, Wild) else part for part in parts), included, item

    def _between(self, field: Field | None, low: Any, high: Any, item: Any) -> Leaf:
        if field is None or field.kind is Kind.TEXT:
            what = f"{field.name} has words, and no order" if field else "a comparison needs a field"
            raise QueryFault(what, self.at(item), f"like status_code:>=500; or {QUOTE}")
        if low is None and high is None:
            return Exists(field)
        convert: Callable[[Any, bool], Bound | None] = self._converter(field, low, high)
        bounds = convert(low, True), convert(high, False)
        if field.ranked:
            return Is(field, tuple(values.choices_between(field, *bounds)))
        return Between(field, *bounds)

    def _converter(self, field: Field, low: Any, high: Any) -> Callable[[Any, bool], Bound | None]:
        given = [bound for bound in (low, high) if bound is not None]
        as_numbers = field.kind is Kind.ATTRIBUTE and all(values.number_of(text) is not None for text, _, _ in given)

        def convert(bound: Any, is_low: bool) -> Bound | None:
            if bound is None:
                return None
            text, included, item = bound
            if field.ranked:
                return Bound(values.choice_of(field, text, self.at(item)), included)
            if field.kind is Kind.NUMBER or as_numbers:
                return Bound(values.need_number(field, text, self.at(item)), included)
            if field.kind is Kind.MOMENT:
                first, last = values.moment_of(text, self._now_us, self.at(item))
                return Bound(first if is_low is included else last, included)
            return Bound(text, included)

        return convert

    def _count_term(self, item: Any) -> None:
        self._terms += 1
        self._within(self._terms, MAX_TERMS, "terms of fields", item)

    def _count_words(self, words: Sequence[str], item: Any) -> None:
        self._words_seen.update(words)
        self._within(len(self._words_seen), MAX_WORDS, "different words", item)

    def _within(self, number: int, most: int, what: str, item: Any) -> None:
        if number > most:
            raise QueryFault(f"more than {most} {what}", self.at(item), TOO_MUCH)

    def at(self, item: Any) -> int:
        """Where in the query something of the parser's tree begins."""
        return self._scanned.column(item.pos or 0)


def _lowered(word: str) -> str:
    return word.lower() if word.isascii() else word


def _any(tests: list[Leaf]) -> Node | None:
    if not tests:
        return None
    return Or(tuple(tests)) if len(tests) > 1 else tests[0]


def _has_wildcards(parts: Parts) -> bool:
    """More than the one that means anything."""
    return parts != (Wild.MANY,) and any(isinstance(part, Wild) for part in parts)


def _parts(term: str) -> Parts:
    """A term of the parser: its text, and the wildcards in it that have no backslash."""
    found: list[str | Wild] = []
    for escaped, wild, plain in _PIECE.findall(term):
        if wild:
            if not (found and found[-1] is Wild.MANY and wild == "*"):
                found.append(Wild(wild))
        elif found and isinstance(found[-1], str):
            found[-1] += escaped or plain
        else:
            found.append(escaped or plain)
    return tuple(found)


def _quoted_text(item: Any) -> str:
    return re.sub(r"\\(.)", r"\1", item.value[1:-1], flags=re.DOTALL)
