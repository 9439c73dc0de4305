"""A query → its tree: what `scanning` leaves goes through the Lucene parser, and every term becomes a test (`terms`). Pure.

- AND binds more than OR, and OR more than standing side by side, which means AND: ``a b OR c`` is ``a AND (b OR c)``.
- Text without letters and digits asks for nothing: beside other terms it is passed over, where it decides it is a fault.
- The size is bounded before anything is compared: characters and depth here, words, terms and patterns in `terms`.
"""

from __future__ import annotations

import re
from typing import Any

from luqum import thread as luqum_thread
from luqum import tree as lucene
from luqum.exceptions import ParseError

from collector.search.language import fields
from collector.search.language.faults import QueryFault
from collector.search.language.scanning import QUOTE, Scanned, scan, unescaped
from collector.search.language.terms import MAX_WORDS, TOO_MUCH, Terms
from collector.search.language.tree import And, Node, Not, Or

MAX_CHARS = 1000
MAX_DEPTH = 20
"""Of groups and operators within each other."""

_POSITION = re.compile(r"at position (\d+)!?$")


def parse(text: str, now_us: int) -> Node:
    """The tree of a query.

    Args:
        now_us: the clock, for relative times.

    Raises:
        QueryFault: says what is wrong and where.
    """
    scanned = scan(text)
    try:
        parsed = luqum_thread.parse(scanned.parsed)
    except ParseError as error:
        raise _syntax_fault(text, scanned, str(error)) from None
    node = _Reader(scanned, now_us).node(parsed, 1)
    if node is None:
        raise QueryFault(
            f"expected 1 to {MAX_WORDS} words or other terms", 0, "letters and digits make words, all else parts them"
        )
    return node


def _syntax_fault(text: str, scanned: Scanned, said: str) -> QueryFault:
    found = _POSITION.search(said)
    at = scanned.column(int(found[1])) if found else len(text)
    if at >= len(text):
        return QueryFault(
            "the query ends where a term should follow", at, 'write a term there; AND, OR, NOT are operators, "AND" is a word'
        )
    sign = re.match(r"\w+|.", text[at:], re.DOTALL)
    mend = (
        'operators stand between terms, and "AND" in quotes is a word'
        if sign and sign[0].isalpha()
        else f"take it away, or {QUOTE}"
    )
    return QueryFault(f"{sign[0] if sign else ''!r} is not expected", at, mend)


class _Reader:
    """Takes the parser's tree apart."""

    def __init__(self, scanned: Scanned, now_us: int) -> None:
        self._scanned = scanned
        self._terms = Terms(scanned, now_us)

    def node(self, item: Any, depth: int, name: str | None = None) -> Node | None:
        """None where there is nothing to look for.

        Args:
            name: of the field that the item is a value of.
        """
        if depth > MAX_DEPTH:
            raise QueryFault(f"more than {MAX_DEPTH} groups and operators within each other", self._terms.at(item), TOO_MUCH)
        if isinstance(item, lucene.BaseGroup):
            return self.node(item.expr, depth + 1, name)
        if isinstance(item, lucene.BaseOperation):
            return self._operation(item, depth + 1, name)
        if isinstance(item, lucene.Not):
            return Not(self._needed(item.a, depth + 1, name))
        if isinstance(item, lucene.SearchField):
            return self._field(item, depth + 1, name)
        if isinstance(item, (lucene.BaseApprox, lucene.Boost)):
            sign = "^" if isinstance(item, lucene.Boost) else "~"
            at = self._terms.at(item)
            raise QueryFault(f"{sign} (relevance) means nothing in a search that is exact,", at, f"leave it out, or {QUOTE}")
        return self._terms.term(item, name)

    def _operation(self, item: Any, depth: int, name: str | None) -> Node | None:
        if isinstance(item, lucene.OrOperation):
            for operand in item.children:
                if operand.pos in self._scanned.required:
                    mend = "everything beside an OR must be there anyway: leave the + out, or use AND and parentheses"
                    raise QueryFault("+ beside OR says two things", self._terms.at(operand) - 1, mend)
            return Or(tuple(self._needed(operand, depth, name) for operand in item.children))
        nodes = [node for operand in item.children if (node := self.node(operand, depth, name)) is not None]
        return And(tuple(nodes)) if len(nodes) > 1 else nodes[0] if nodes else None

    def _needed(self, item: Any, depth: int, name: str | None) -> Node:
        node = self.node(item, depth, name)
        if node is None:
            mend = "letters and digits make words; for signs use a regular expression, like /=>/"
            raise QueryFault("there is nothing to look for", self._terms.at(item), mend)
        return node

    def _field(self, item: Any, depth: int, name: str | None) -> Node | None:
        at, given = self._terms.at(item), unescaped(item.name)
        if name is not None:
            raise QueryFault(f"a field within the field {name}", at, f"close the parenthesis before it, or {QUOTE}")
        if given == fields.EXISTS:
            return self._terms.exists(item.expr)
        node = self.node(item.expr, depth, given)
        if node is None:
            raise QueryFault(f"there is nothing to look for in {given}", at, f"like {given}:value, or {given}:* for any")
        return node
