"""Which lines belong to one event: stack traces and the like. Pure.

A rule looks at a line, and at the one before it within the same event, never at what comes after: so the events are the same
however the bytes were read. Known limit: messages of exceptions that have several lines of their own end at the first one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

Match = Callable[[bytes], object]


class Rule(msgspec.Struct, frozen=True):
    """One of ``start`` (a line that begins an event) and ``goes_on`` (one that continues the event before)."""

    start: Match | None = None
    goes_on: Match | None = None
    after: Match | None = None
    """With ``ends``: a line that matches ``ends`` continues the event if the line before matches this."""
    ends: Match | None = None
    max_lines: int = 500
    """An event that would be longer is cut, counted from its first line."""


def _of(pattern: bytes) -> Match:
    return re.compile(pattern).match


PRESETS: dict[str, Rule] = {
    "python": Rule(
        goes_on=_of(
            rb"[ \t]|Traceback \(most recent call last\):|During handling of the above exception|The above exception was the"
            rb"|[\w.]+(?:Error|Exception|Exit|Interrupt|Warning|Group)(?::|$)|$"
        ),
        after=_of(rb'    |  File "'),
        ends=_of(rb"[A-Za-z_][\w.]*(?::|$)"),
    ),
    "java": Rule(goes_on=_of(rb"[ \t]+\S|Caused by: |(?:[a-z_]\w*\.)+[A-Z][\w$]*(?:Exception|Error|Throwable)\b")),
    "go": Rule(
        goes_on=_of(rb"[ \t]|goroutine \d+ \[|created by |\[signal |exit status \d|[\w./*()\[\]-]+\.[\w.*()\[\]]*\(.*\)$|$"),
    ),
    "dotnet": Rule(goes_on=_of(rb"[ \t]|(?:[A-Z]\w*\.)+\w*Exception\b|--- End of ")),
    "ruby": Rule(goes_on=_of(rb"[ \t]|\S+\.rb:\d+:in [`'][^']*'$|$")),
}


def firsts(rule: Rule, lines: Sequence[bytes], streams: Sequence[bytes] | None) -> list[int]:
    """Positions of the lines that begin an event; the first line always does. A line of another stream begins one, too."""
    if rule.start is not None:
        flags = [bool(found) for found in map(rule.start, lines)]
    else:
        assert rule.goes_on is not None
        flags = [not found for found in map(rule.goes_on, lines)]
        if rule.after is not None and rule.ends is not None:
            for n in [n for n, flag in enumerate(flags) if flag and n and not flags[n - 1]]:
                flags[n] = not (rule.after(lines[n - 1]) and rule.ends(lines[n]))
    if streams is not None:
        flags = [flag or bool(n and streams[n] != streams[n - 1]) for n, flag in enumerate(flags)]
    if flags:
        flags[0] = True
    found = [n for n, flag in enumerate(flags) if flag]
    if len(lines) <= rule.max_lines:
        return found
    cut: list[int] = []
    for first, end in zip(found, [*found[1:], len(lines)], strict=True):
        cut.extend(range(first, end, rule.max_lines))
    return cut
