"""Statements as ClickHouse's HTTP interface takes them: where SQL ends and data begins, and the errors in its wording. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Codes of what the interface refuses by itself (src/Common/ErrorCodes.cpp).
CODE_OF_ERROR = {
    "BAD_ARGUMENTS": 36,
    "NOT_IMPLEMENTED": 48,
    "SYNTAX_ERROR": 62,
    "UNKNOWN_COMPRESSION_METHOD": 89,
    "UNKNOWN_SETTING": 115,
    "CANNOT_DECOMPRESS": 271,
    "UNKNOWN_EXCEPTION": 1002,
}


class EngineError(Exception):
    """``Code: N. DB::Exception: ... (NAME)``, from the engine or from the interface."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.message = message

    @classmethod
    def refused(cls, name: str, text: str) -> EngineError:
        """An error the HTTP interface itself raises, in the engine's wording."""
        code = CODE_OF_ERROR[name]
        return cls(code, name, f"Code: {code}. DB::Exception: {text}. ({name})")

    @classmethod
    def of(cls, error: Exception) -> EngineError:
        """What chDB raised; its ``StreamingInserter`` writes a text of its own in front of the engine's."""
        text = str(error)
        code = re.search(r"Code: (\d+)\. ", text)
        names = re.findall(r"\(([A-Z][A-Z0-9_]+)\)", text)
        if code is None or not names:
            return cls.refused("UNKNOWN_EXCEPTION", text)
        return cls(int(code[1]), names[-1], text[code.start() :].strip())


@dataclass(frozen=True, slots=True)
class Query:
    """A statement the engine runs as it is, in ``default_format`` unless it names a format itself.

    ``result_format`` is the one its result has, or None when it gives no result.
    """

    sql: bytes
    default_format: str
    result_format: str | None


@dataclass(frozen=True, slots=True)
class Insert:
    """``INSERT INTO ... [SETTINGS ...]`` and, apart from it, the rows that followed its ``FORMAT``."""

    head: str
    format: str
    data: bytes


_TOKEN = re.compile(
    rb"""
      (?P<skip> \s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?\*/ )
    | (?P<quoted> '[^'\\]*(?:(?:\\.|'')[^'\\]*)*' | "[^"\\]*(?:\\.[^"\\]*)*" | `[^`\\]*(?:\\.[^`\\]*)*`
                | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<word> \w+ )
    | (?P<sign> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_BEFORE_DATA = re.compile(rb"[ \t\f]*;?[ \t\f]*\r?\n?")
_GIVES_ROWS = frozenset(b"SELECT WITH SHOW DESCRIBE DESC EXISTS EXPLAIN CHECK FROM KILL (".split())


def _tokens(sql: bytes) -> Iterator[tuple[bytes, int, bool]]:
    """Words (upper case) and signs outside brackets and quotes, with the offset behind each; True for a word."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        if match["skip"] is not None:
            continue
        text = match[0]
        if text in b")]}" and match["sign"] is not None:
            depth -= 1
        if depth == 0:
            yield text.upper(), match.end(), match["word"] is not None
        if text in b"([{" and match["sign"] is not None:
            depth += 1


def parse(sql: bytes, *, default_format: str = "TabSeparated") -> Query | Insert:
    """Find the statement's kind, and for ``INSERT ... FORMAT X`` the place where its data starts.

    Raises:
        EngineError: a second statement follows, which the HTTP interface refuses (the engine alone would run it).
    """
    first = previous = b""
    ended = has_source = previous_was_format = False
    named_format: str | None = None
    format_starts_at = 0
    for text, end, is_word in _tokens(sql):
        if ended:
            raise EngineError.refused("SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
        first = first or text
        if text == b";":
            ended = True
        elif text in (b"SELECT", b"VALUES", b"INFILE") and is_word:
            has_source = True
        elif previous == b"FORMAT" and is_word:
            named_format = sql[end - len(text) : end].decode()
            if first == b"INSERT" and not has_source:
                data = _BEFORE_DATA.match(sql, end)
                assert data is not None
                return Insert(sql[:format_starts_at].decode(), named_format, sql[data.end() :])
        elif previous_was_format and text != b"SETTINGS":  # it was a column's name: SELECT format FROM ...
            named_format = None
        previous_was_format = previous == b"FORMAT"
        if text == b"FORMAT":
            format_starts_at = end - len(text)
        previous = text
    return Query(sql, default_format, (named_format or default_format) if first in _GIVES_ROWS else None)
