"""What in a query is syntax, and what is text: the query as the Lucene parser reads it. Pure.

Callers send any text as ``q``. A sign is syntax only where it stands as syntax; anywhere else it parts words, as it always
did, and reaches the parser behind a backslash.

- ``"`` begins a phrase, and ``/`` a regular expression, at the beginning of a term or behind ``field:``; a ``/`` only if
  the next ``/`` ends the term, so that paths are text.
- ``name:`` at the beginning of a term names a field. It is text when the name begins with a digit (``12:30``), when another
  colon (``a::b``) or ``//`` (``http://x``) follows, and, unless it is a field of every event, before a blank (``Error: x``).
- ``<``, ``<=``, ``>``, ``>=``, ``[`` and ``{`` mean something behind ``field:`` only.
- ``-``, ``+`` and ``!`` mean something before a term, without a blank; ``&&`` and ``||`` between blanks.
- A parenthesis that belongs to a term (``main()``, ``f(x)``) is text; any other groups.
- A backslash takes the meaning from the sign, or the blank, behind it. Before a letter or a digit it is a sign like any other.

Blanks are those of ASCII: any other character belongs to words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from collector.search.language import fields
from collector.search.language.faults import QueryFault

BLANKS = " \t\n\r\v\f"
_BLANK = re.compile(f"[{BLANKS}]+")
_PHRASE = re.compile(r'"(?:[^\\"]|\\.)*"', re.DOTALL)
_RELEVANCE = r"~(?:[0-9]{1,9}(?:\.[0-9]{1,9})?)?|\^[0-9]{1,9}(?:\.[0-9]{1,9})?"
_REGEX = re.compile(rf"/(?:[^\\/]|\\.)+/(?=(?:{_RELEVANCE})?(?:[{BLANKS})]|\Z))", re.DOTALL)
_BOUND = rf'(?:"(?:[^\\"]|\\.)*"|(?:[^{BLANKS}\[\]{{}}"\\]|\\.)+)'
_RANGE = re.compile(rf"[\[{{][{BLANKS}]*({_BOUND})[{BLANKS}]+TO[{BLANKS}]+({_BOUND})[{BLANKS}]*[\]}}]", re.DOTALL)
_OPERATOR = re.compile(rf'(AND|OR|NOT|&&|\|\|)(?=[{BLANKS}()"]|\Z)')
_EVERYTHING = re.compile(rf"\*:\*(?=[{BLANKS})]|\Z)")
_COMPARISON = re.compile(r"[<>]=?")
_MODIFIER = re.compile(rf"(?:{_RELEVANCE})(?=[{BLANKS})]|\Z)")
_END_MODIFIER = re.compile(rf"(?<!\\)(?:{_RELEVANCE})\Z")
_GLUED = re.compile(rf"\((?:[^{BLANKS}()]|\([^{BLANKS}()]*\))*\)")
_DRIVE_OR_URL = re.compile(r"//|\\[0-9A-Za-z]")

_OPERATORS = {"&&": "AND", "||": "OR"}
_SIGNS = frozenset("\\:^~()[]{}/\"'+-<>*?")
"""What the parser, or whoever reads its terms, would take for something else than a letter."""
_RESERVED = ("AND", "OR", "NOT", "TO")
QUOTE = "put the text in double quotes, or a \\ before the sign"


class Scanned:
    """The query as the parser reads it."""

    def __init__(self, text: str) -> None:
        self.parsed = ""
        """Text for the parser."""
        self.required: list[int] = []
        """Where in it a term begins that had a ``+``."""
        self._columns: list[int] = []
        self._end = len(text)

    def column(self, at: int) -> int:
        """The place in the query of a place in ``parsed``."""
        return self._columns[at] if at < len(self._columns) else self._end

    def add(self, piece: str, column: int) -> None:
        self.parsed += piece
        self._columns += [column] * len(piece)


def scan(text: str) -> Scanned:
    """Raises QueryFault for quotes and parentheses that are not closed, and for fields without a value."""
    return _Scan(text).run()


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[int] = []
        """Where the groups began that are not closed."""
        self._found = Scanned(text)

    def run(self) -> Scanned:
        steps: tuple[Callable[[], bool], ...] = (
            self._blank, self._group, self._prefix, self._operator, self._everything, self._field, self._quoted, self._range,
            self._bare,
        )  # fmt: skip
        while self._at < len(self._text):
            any(step() for step in steps)
        if self._open:
            raise QueryFault(
                "the parenthesis is never closed", self._open[-1], f"close it; or, if it is meant as text, {QUOTE}"
            )
        return self._found

    def _take(self, piece: str, length: int) -> bool:
        self._found.add(piece, self._at)
        self._at += length
        return True

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _blank(self) -> bool:
        found = _BLANK.match(self._text, self._at)
        return bool(found) and self._take(" ", len(found[0]) if found else 0)

    def _group(self) -> bool:
        char = self._next()
        if char == "(" and not _GLUED.fullmatch(self._text, self._at, self._at + 2):  # "()" groups nothing
            self._open.append(self._at)
            return self._take("(", 1)
        if char != ")":
            return False
        if not self._open:
            raise QueryFault("the parenthesis closes nothing", self._at, f"open it; or, if it is meant as text, {QUOTE}")
        self._open.pop()
        self._take(")", 1)
        return self._modifier() or self._space()

    def _prefix(self) -> bool:
        """``-x``, ``!x``, ``+x``."""
        char, behind = self._next(), self._text[self._at + 1 : self._at + 2]
        if char not in "+-!" or not behind or behind in BLANKS or behind in "+-!=<>&|)":
            return False
        if char != "+":
            return self._take("NOT ", 1)
        self._found.required.append(len(self._found.parsed))
        self._at += 1
        return True

    def _operator(self) -> bool:
        found = _OPERATOR.match(self._text, self._at)
        return bool(found) and self._take(f" {_OPERATORS.get(found[0], found[0])} ", len(found[0])) if found else False

    def _everything(self) -> bool:
        found = _EVERYTHING.match(self._text, self._at)
        return bool(found) and self._take("* ", 3)

    def _field(self) -> bool:
        found = fields.name_at(self._text, self._at)
        if not found or self._text[found.end() : found.end() + 1] != ":":
            return False
        name, behind = unescaped(found[0]), found.end() + 1
        blank = _BLANK.match(self._text, behind)
        if fields.known(name):
            begins = blank.end() if blank else behind
            if begins >= len(self._text) or self._text[begins] == ")":
                mend = f"like {found[0]}:value, or {found[0]}:* for any; {QUOTE} to look for the text"
                raise QueryFault(f"the field {found[0]} has no value", self._at, mend)
        else:
            begins = behind
            if blank or behind >= len(self._text) or self._text[behind] in ":)" or _DRIVE_OR_URL.match(self._text, behind):
                return False
        if self._text[begins] == ":":
            return False
        self._take(_escaped(name), len(found[0]))
        self._take(":", begins - self._at)
        return self._value(name)

    def _value(self, name: str) -> bool:
        if self._next() == "(":
            return self._group()
        if compared := _COMPARISON.match(self._text, self._at):
            self._take(compared[0], len(compared[0]))
            if blank := _BLANK.match(self._text, self._at):
                self._at = blank.end()
            if self._at >= len(self._text) or self._next() == ")":
                raise QueryFault("nothing is compared with", compared.start(), f"like {name}:{compared[0]}5; {QUOTE}")
            return (self._next() == '"' and self._quoted()) or self._bare()
        if self._next() in "[{":
            if self._range(of_field=True):
                return True
            raise QueryFault("this is no range", self._at, f"like {name}:[1 TO 5], {name}:{{1 TO *]; or {QUOTE}")
        return self._quoted() or self._bare()

    def _quoted(self) -> bool:
        """A phrase or a regular expression."""
        char = self._next()
        found = (_PHRASE if char == '"' else _REGEX).match(self._text, self._at)
        if found:
            # The parser's backslash takes no newline along.
            for piece in re.findall(r"\\.|.", found[0], re.DOTALL):
                self._take("\n" if piece == "\\\n" else piece, len(piece))
            return self._modifier() or self._space()
        if char == '"':
            mend = 'close it, or write \\" for the sign itself'
            raise QueryFault("the quote is never closed", self._at, mend)
        return False

    def _range(self, of_field: bool = False) -> bool:
        found = _RANGE.match(self._text, self._at)
        if not found:
            return False
        if not of_field:
            raise QueryFault("a range needs a field", self._at, f"like status_code:[400 TO 499]; or {QUOTE}")
        begin = self._at
        self._take(found[0][0], found.start(1) - begin)
        for bound, rest in ((found[1], found.start(2)), (found[2], found.end() - 1)):
            self._term(bound) if bound[0] != '"' else self._quoted()
            self._take(" TO " if rest == found.start(2) else " ", rest - self._at)
        self._take(found[0][-1], 1)
        return self._space()

    def _bare(self) -> bool:
        """A term that is not quoted."""
        end = self._end_of_bare()
        term = self._text[self._at : end]
        modifier = _END_MODIFIER.search(term)
        if modifier and modifier.start():
            self._term(term[: modifier.start()])
            self._take(modifier[0], len(modifier[0]))
        else:
            self._term(term)
        return self._space()

    def _end_of_bare(self) -> int:
        at = self._at
        while at < len(self._text):
            char = self._text[at]
            if char in BLANKS or (char == ")" and at > self._at) or (char == ")" and self._open):
                break
            skip = _PHRASE.match(self._text, at) if char == '"' else _GLUED.match(self._text, at) if char == "(" else None
            if skip:
                at = skip.end()
            elif char == "(" and at > self._at:
                break
            else:
                at += 2 if char == "\\" and self._text[at + 1 : at + 2] not in ("", "\n") else 1
        return max(at, self._at + 1)

    def _term(self, term: str) -> None:
        if term in _RESERVED:
            self._take("\\" + term, len(term))
            return
        for piece in re.findall(r"\\[^0-9A-Za-z\n]|.", term, re.DOTALL):
            plain = piece if piece == "\\" else piece[-1]
            kept = plain in "*?" and piece == plain
            self._take(plain if kept else _escaped(plain), len(piece))

    def _modifier(self) -> bool:
        found = _MODIFIER.match(self._text, self._at)
        return bool(found) and self._take(found[0] + " ", len(found[0])) if found else False

    def _space(self) -> bool:
        """Apart from what follows."""
        self._found.add(" ", self._at)
        return True


def _escaped(text: str) -> str:
    """As a term of the parser that means just this. Its blanks are those of Unicode."""
    return "".join(f"\\{char}" if char in _SIGNS or char.isspace() else char for char in text)


def unescaped(text: str) -> str:
    """Without the backslashes that take the meaning from a sign."""
    return re.sub(r"\\([^0-9A-Za-z])", r"\1", text, flags=re.DOTALL)
