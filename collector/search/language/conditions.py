"""A query's tree → one condition on `events`, with bound values. Pure.

- No text of a caller becomes SQL: not a word, not the name of an attribute, not a pattern. What is pasted together is
  fixed here; all else goes into ``params``.
- Every test is 0 or 1, never NULL, so that its opposite is right.
- A test without a field holds for the title or for the message. Both have an index of their words, over ``lower(…)``: it
  narrows wherever there are words that must be there, and so do phrases and patterns by the whole words in them.
- Equal attributes are narrowed by the index over ``items``.

Case: of ASCII letters for a word that is ASCII as the caller wrote it, of all letters for any other. Which of the two is
decided before a word is made lower case: the Kelvin sign becomes ``k``, and an index over ``lower(…)``, which knows ASCII
only, would not find it under that. Both kinds of sigma are one letter: at the end of a word Σ is made ς, elsewhere σ, and
which end that is depends on what stands behind the word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from collector.search.language import patterns
from collector.search.language.terms import WORD
from collector.search.language.tree import (
    And,
    Between,
    Bound,
    Everything,
    Exists,
    Field,
    Is,
    Kind,
    Like,
    Node,
    Not,
    Or,
    Parts,
    Phrase,
    Regex,
    Wild,
    Words,
)

REGEX_PARAM = "q_regex"
"""Patterns of callers are bound under this name with their place in the query behind it: the engine may refuse one."""

_LOWER, _LOWER_ALL, _LOWER_GREEK = "lower({})", "lowerUTF8({})", "replaceAll(lowerUTF8({}), 'ς', 'σ')"
_OFFSET_SAID = "match(external_id, '^[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}$')"
_OFFSET = "reinterpretAsUInt64(reverse(unhex(substring(external_id, 18, 12))))"
_TYPES: dict[type, str] = {str: "String", int: "Int64", float: "Float64", list: "Array(String)"}

Test = Callable[[str], str]
"""Of an expression of the engine."""


def condition(node: Node, params: dict[str, Any]) -> str:
    """The condition; puts its values into ``params``, under names that are not taken."""
    return _Conditions(params).of(node)


class _Conditions:
    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params

    def of(self, node: Node) -> str:
        match node:
            case And(nodes):
                return f"({' AND '.join(self.of(node) for node in _together(nodes))})"
            case Or(nodes):
                return self._or(nodes)
            case Not(inner):
                return f"(NOT {self.of(inner)})"
            case Everything():
                return "1"
            case Words(field, words):
                return self._words(field, words)
            case Phrase(field, words):
                return self._phrase(field, words)
            case Like(field, parts):
                return self._like(field, parts)
            case Regex(field, pattern, at):
                return self._matches(field, self._bound(f"{REGEX_PARAM}{at}", pattern))
            case Is(field, values):
                return self._is(field, values)
            case Between(field, low, high):
                return self._between(field, low, high)
            case Exists(field):
                return self._exists(field)

    def _or(self, nodes: tuple[Node, ...]) -> str:
        single = [node for node in nodes if _single_plain_word(node)]
        parts = [self.of(node) for node in nodes if node not in single]
        if single:
            bound = self._bound("any_words", [node.words[0] for node in single if isinstance(node, Words)])
            parts.append(_in_texts(None, lambda text: f"hasAnyTokens(lower({text}), {bound})"))
        return f"({' OR '.join(parts)})"

    # Texts: by their words, in any case.

    def _words(self, field: Field | None, words: Sequence[str]) -> str:
        """Word by word: both halves of each OR have an index then, and the engine reads only what some index leaves over."""
        parts = []
        for lower, some in _kinds(words):
            for word in some:
                bound = self._bound("word", word)
                parts.append(_in_texts(field, _has(lower, f"[{bound}]")))
        return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"

    def _phrase(self, field: Field | None, words: Sequence[str]) -> str:
        lower, some = _lowered(words)
        return self._narrowed(field, [word for word in words if word.isascii()], lower, patterns.of_phrase(some))

    def _narrowed(self, field: Field | None, words: Sequence[str], lower: str, pattern: str) -> str:
        """Texts that match, of those that have these words."""
        bound = self._bound("q_pattern", pattern)
        has = _has(_LOWER, self._bound("q_words", list(dict.fromkeys(words)))) if words else None

        def test(text: str) -> str:
            # The engine's patterns know no bytes that are not UTF-8; a search shows U+FFFD for them.
            matches = f"match({lower.format(f'toValidUTF8({text})')}, {bound})"
            return f"({has(text)} AND {matches})" if has else matches

        return _in_texts(field, test)

    def _matches(self, field: Field | None, bound: str) -> str:
        def test(text: str) -> str:
            return f"match(toValidUTF8({text}), {bound})"

        if field is None:
            return f"({test('message')} OR (title != '' AND {test('title')}))"
        return test(field.name) if field.kind is Kind.TEXT else self._of_value(field, test)

    def _like(self, field: Field | None, parts: Parts) -> str:
        if field is None or field.kind is Kind.TEXT:
            lower, texts = _lowered([part for part in parts if isinstance(part, str)])
            rest = iter(texts)
            inner = tuple(part if isinstance(part, Wild) else next(rest) for part in parts)
            return self._narrowed(field, _whole_words(parts), lower, patterns.in_text(inner))
        if field.kind is Kind.UPPER:
            parts = tuple(part if isinstance(part, Wild) else upper(part) for part in parts)
        return self._matches(field, self._bound("q_pattern", patterns.of_whole(parts)))

    # Values: as a whole.

    def _of_value(self, field: Field, test: Test) -> str:
        """Whether the field says anything that passes."""
        if field.kind is Kind.LIST:
            return f"arrayExists(entry -> {test('entry')}, {field.name})"
        if field.kind is Kind.ATTRIBUTE:
            name = self._bound("q_name", field.name)
            return f"(mapContains(attributes, {name}) AND {test(f'attributes[{name}]')})"
        said = f"upper({field.name})" if field.kind is Kind.UPPER else field.name
        return f"({field.name} != '' AND {test(said)})"

    def _is(self, field: Field, values: tuple[str, ...]) -> str:
        if field.kind is Kind.UPPER:
            values = tuple(map(upper, values))
        bound = self._bound("q_values", list(values))
        if field.kind is Kind.LIST:
            return f"hasAny({field.name}, {bound})"
        if field.kind is Kind.ATTRIBUTE:
            # The items are what the index holds; the rest tells `a` with the value `b=c` from `a=b` with the value `c`.
            items = self._bound("q_items", [f"{field.name}={value}" for value in values])
            return f"(hasAny(items, {items}) AND {self._of_value(field, lambda value: f'{value} IN {bound}')})"
        return f"({f'upper({field.name})' if field.kind is Kind.UPPER else field.name} IN {bound})"

    def _between(self, field: Field, low: Bound | None, high: Bound | None) -> str:
        bounds = []
        for bound, sign in ((low, ">"), (high, "<")):
            if bound is not None:
                bounds.append((sign + "=" * bound.included, self._bound("q_bound", bound.value)))

        def test(value: str) -> str:
            return " AND ".join(f"{value} {sign} {bound}" for sign, bound in bounds)

        numbers = not any(isinstance(bound.value, str) for bound in (low, high) if bound is not None)
        if field.kind is Kind.MOMENT:
            bounds = [(sign, f"fromUnixTimestamp64Micro({bound}, 'UTC')") for sign, bound in bounds]
            return f"({test(field.name)})"
        if field.kind is Kind.NUMBER:
            said, number = _number(field)
            return f"({said} AND {test(number)})"
        if numbers:
            return self._of_value(field, lambda value: f"ifNull({test(f'toFloat64OrNull({value})')}, 0)")
        return self._of_value(field, test)

    def _exists(self, field: Field) -> str:
        match field.kind:
            case Kind.NUMBER:
                return f"({_number(field)[0]})"
            case Kind.MOMENT:
                return "1"
            case Kind.LIST:
                return f"notEmpty({field.name})"
            case Kind.ATTRIBUTE:
                return f"mapContains(attributes, {self._bound('q_name', field.name)})"
            case _:
                return f"({field.name} != '')"

    def _bound(self, name: str, value: str | int | float | list[str]) -> str:
        """A placeholder for a value."""
        free, n = name, 1
        while free in self._params:
            n += 1
            free = f"{name}_{n}"
        self._params[free] = value
        return f"{{{free}:{_TYPES[type(value)]}}}"


def _in_texts(field: Field | None, test: Test) -> str:
    return f"({test('message')} OR {test('title')})" if field is None else test(field.name)


def _has(lower: str, tokens: str) -> Test:
    return lambda text: f"hasAllTokens({lower.format(text)}, {tokens})"


def upper(text: str) -> str:
    """As the engine's ``upper``: of ASCII letters."""
    return re.sub("[a-z]+", lambda found: found[0].upper(), text)


def _number(field: Field) -> tuple[str, str]:
    """Whether it is said, and what: columns are 0 also where an event did not say."""
    if field.name == "offset":
        return _OFFSET_SAID, _OFFSET
    return f"({field.name} != 0 OR has(zero_metrics, '{field.name}'))", field.name


def _together(nodes: tuple[Node, ...]) -> list[Node]:
    """All words that must be there as one test."""
    words = [word for node in nodes if isinstance(node, Words) and node.field is None for word in node.words]
    rest = [node for node in nodes if not (isinstance(node, Words) and node.field is None)]
    return [Words(None, tuple(dict.fromkeys(words))), *rest] if words else rest


def _single_plain_word(node: Node) -> bool:
    return isinstance(node, Words) and node.field is None and len(node.words) == 1 and node.words[0].isascii()


def _whole_words(parts: Parts) -> list[str]:
    """ASCII words that stand in the text as they are; those beside a wildcard may go on."""
    joined = "".join("\x80" if isinstance(part, Wild) else part for part in parts)
    return [word.lower() for word in WORD.findall(joined) if word.isascii()]


def _kinds(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Words by how the text is made lower case for them; only ``lower(…)`` is in the indexes."""
    plain = [word for word in words if word.isascii()]
    wide = list(dict.fromkeys(word.lower() for word in words if not word.isascii()))
    greek = list(dict.fromkeys(word.replace("ς", "σ") for word in wide if "ς" in word or "σ" in word))
    wide = [word for word in wide if "ς" not in word and "σ" not in word]
    return [kind for kind in ((_LOWER, plain), (_LOWER_ALL, wide), (_LOWER_GREEK, greek)) if kind[1]]


def _lowered(texts: Sequence[str]) -> tuple[str, list[str]]:
    """How a text is made lower case to find all of these in it, and these as they are then."""
    if all(text.isascii() for text in texts):
        return _LOWER, [text.lower() for text in texts]
    lower = [text.lower() for text in texts]
    if any("ς" in text or "σ" in text for text in lower):
        return _LOWER_GREEK, [text.replace("ς", "σ") for text in lower]
    return _LOWER_ALL, lower
