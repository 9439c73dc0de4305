"""Which patterns of the configuration find in many lines at once what they find in each of them alone. Pure.

Said of few constructs, and only where it is certain: no part matches a newline, so that looking for a match ends with the line
it begins in, and none sees more of what is around it than whether a line or a word ends there. Any other pattern is tried on
every event by itself, and what it costs is bounded by the event.
"""

from __future__ import annotations

import re

_ESCAPED = r"\\[wd!-/:-@\[-`{-~ ]"
_IN_CLASS = rf"(?:[\w !-,./:-@{{-~-]|{_ESCAPED})"
_LINE_BOUND = re.compile(
    rf"(?:[\w !-')/,:->@~^$.|#-]|{_ESCAPED}|\\[tbSB]|\((?:\?:|\?P<\w+>)?(?!\?)|[*+?](?!\+)|\{{[\d,]+\}}(?!\+)"
    rf"|\[(?:{_IN_CLASS}|\\t(?!-))+\]|\[\^(?:{_IN_CLASS}|\\t(?!-))*\\[sn](?!-){_IN_CLASS}*\])+",
    re.ASCII,
)
_LITERAL = re.compile(r"[A-Za-z0-9 :;,_<>@=/\"'%#&!~-]+", re.ASCII)


def is_line_bound(text: str) -> bool:
    """Whether the pattern, compiled with `re.M`, finds the same in lines at once and in each."""
    return _LINE_BOUND.fullmatch(text.removeprefix("(?i)")) is not None


def is_literal(text: str) -> bool:
    """Whether the pattern matches itself and nothing else."""
    return _LITERAL.fullmatch(text) is not None
