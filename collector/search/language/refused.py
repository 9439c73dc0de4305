"""A regular expression that the engine refused, as a fault of the query. Pure.

The engine is asked again with one pattern alone to find the one; what it says decides which of our sentences is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from collector.errors import Invalid, invalid
from collector.search.language.conditions import REGEX_PARAM
from collector.search.language.faults import QueryFault
from collector.search.language.patterns import RE2_MEND

CODE = 427
"""The engine's code for a regular expression that it cannot use."""
PROBE = "SELECT match('', {pattern:String})"

_NAME = re.compile(rf"{REGEX_PARAM}(\d+)(?:_\d+)?")
_REASONS = {
    "missing )": "has a parenthesis that is never closed",
    "unexpected )": "has a parenthesis that closes nothing",
    "missing ]": "has a class that is never closed",
    "invalid character class range": "has a range that runs backwards",
    "no argument for repetition operator": "repeats nothing",
    "bad repetition operator": "repeats a repetition",
    "invalid repetition size": "repeats too often: 1000 times at most, also within each other",
    "invalid escape sequence": "has a backslash before a letter that it does not know",
    "trailing \\": "ends with a backslash",
    "invalid perl operator": "has a group of a kind that is not known here",
    "invalid named capture group": "has a name of a group that is none",
    "pattern too large": "is too large",
}


def patterns_in(params: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """The callers' patterns among bound values, and where each stands in its query."""
    for name, value in params.items():
        if found := _NAME.fullmatch(name):
            yield int(found[1]), value


def refusal(text: str, at: int, said: str) -> Invalid:
    """What the caller is told.

    Args:
        text: the query.
        at: where the pattern stands in it.
        said: the engine's words; nothing of them is passed on.
    """
    reason = next((told for part, told in _REASONS.items() if f"error: {part}" in said), "cannot be used")
    fault = QueryFault(f"the regular expression {reason},", at, RE2_MEND)
    return invalid("q", fault.told(text), text, fault.mend)
