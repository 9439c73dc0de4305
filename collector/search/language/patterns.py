"""Phrases and wildcards → regular expressions of the engine (RE2); what RE2 does not know, told beforehand. Pure.

A word is what the engine's ``splitByNonAlpha`` makes one: ASCII letters, digits, and all bytes beyond ASCII, valid or not.
So what parts words is matched, as a class of ASCII signs, and never what words are made of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from collector.search.language.faults import QueryFault
from collector.search.language.tree import Parts, Wild

_SIGN = r"[\x00-/:-@\[-`{-\x7f]"
_BEGIN, _END = f"(?:^|{_SIGN})", f"(?:{_SIGN}|$)"
_WORD_CHAR = re.compile(r"[0-9A-Za-z\x80-\U0010ffff]")
_UNKNOWN = (
    (re.compile(r"\(\?<?[=!]"), "looks ahead or behind"),
    (re.compile(r"\\[1-9]|\(\?P="), "refers back to a group"),
    (re.compile(r"\(\?>|[*+?]\+"), "never gives back what it took"),
)
_STEP = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|.", re.DOTALL)
"""One step of a pattern: what is quoted, one escaped sign, a class, or a sign."""
RE2_MEND = "the syntax is RE2's: groups, classes, |, *, +, ?, {1,5}, ^, $, \\d, \\w, \\s, \\b, (?i); \\/ is a slash"


def of_phrase(words: Sequence[str]) -> str:
    """These words, in this order, with nothing but signs between."""
    return f"{_BEGIN}{f'{_SIGN}+'.join(map(quoted, words))}{_END}"


def in_text(parts: Parts) -> str:
    """Words, or more than words, of a text: ``*`` is any characters but blanks, ``?`` one."""
    inner = list(parts)
    begin, end = inner[0] is not Wild.MANY, inner[-1] is not Wild.MANY
    while inner and inner[0] is Wild.MANY:
        inner.pop(0)
    while inner and inner[-1] is Wild.MANY:
        inner.pop()
    body = "".join({Wild.MANY: r"\S*", Wild.ONE: r"\S"}[part] if isinstance(part, Wild) else quoted(part) for part in inner)
    return f"{_BEGIN if begin and _wordly(inner[0]) else ''}{body}{_END if end and _wordly(inner[-1], -1) else ''}"


def of_whole(parts: Parts) -> str:
    """All of a value."""
    body = "".join({Wild.MANY: ".*", Wild.ONE: "."}[part] if isinstance(part, Wild) else quoted(part) for part in parts)
    return f"(?s)^{body}$"


def quoted(text: str) -> str:
    """A regular expression that means this text."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def check_regex(pattern: str, at: int) -> None:
    """Raises QueryFault for what other engines of regular expressions know and RE2 does not, and for parentheses without
    another, of which the engine takes some.

    Args:
        at: where the first character of the pattern stands in the query.
    """
    opened = []
    for step in _STEP.finditer(pattern):
        for unknown, said in _UNKNOWN:
            if found := unknown.match(pattern, step.start()):
                what = f"the regular expression {said} ({found[0]}), which cannot be done here,"
                raise QueryFault(what, at + step.start(), RE2_MEND)
        if step[0] == "(":
            opened.append(step.start())
        elif step[0] == ")" and not opened:
            raise QueryFault("the parenthesis closes nothing in the regular expression,", at + step.start(), RE2_MEND)
        elif step[0] == ")":
            opened.pop()
    if opened:
        raise QueryFault("the parenthesis is never closed in the regular expression,", at + opened[-1], RE2_MEND)


def _wordly(part: str | Wild, place: int = 0) -> bool:
    """Whether the pattern begins, or ends, within a word."""
    return isinstance(part, Wild) or bool(_WORD_CHAR.match(part[place]))
