"""What is wrong with a query, and where: a sentence, the text, a caret under the column. Pure."""

from __future__ import annotations

import unicodedata

BEFORE, AFTER = 50, 30
"""Characters of the query that are shown on either side of the caret."""


class QueryFault(Exception):
    """A query that cannot be used.

    Args:
        what: what is wrong, without where.
        at: index of the first character it is about.
        mend: what to write instead.
    """

    def __init__(self, what: str, at: int, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.mend = mend

    def told(self, text: str) -> str:
        """The fault in the query ``text``: its column, counted in characters from 1, and a caret under it."""
        at = min(self.at, len(text))
        start, end = max(0, at - BEFORE), at + AFTER
        before = _plain(text[start:at])
        cut, rest = "…" if start else "", "…" if end < len(text) else ""
        return f"{self.what} at column {at + 1}\n{cut}{before}{_plain(text[at:end])}{rest}\n{' ' * _width(cut + before)}^"


def _plain(text: str) -> str:
    """In one line: every character that has no picture of its own becomes one that has."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in text)


def _width(text: str) -> int:
    """Columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(bool(unicodedata.combining(char)) for char in text)
