"""Which lines belong to one event: stack traces and the like. Pure.

A rule looks at a line, and at the one before it within the same event, never at what comes after: so the events are the same
however the bytes were read. Known limit: messages of exceptions that have several lines of their own end at the first one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
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
    in_block: re.Pattern[bytes] | None = None
    """Finds, in a whole block, the newline before each line that ``start`` or ``goes_on`` matches; ten times as fast."""
    max_lines: int = 500
    """An event that would be longer is cut, counted from its first line."""


_PLAIN = re.compile(r"\^(?:\\[dwt.\[\](){}+*?|-]|[A-Za-z0-9 :/,_<>@=+*?-]|\{[\d,]+\}|\[[\w -]+\])+")
"""Patterns that are the same in a block as on a line: tied to its start, and never matching a newline."""


def in_block(pattern: str) -> re.Pattern[bytes] | None:
    """The pattern for whole blocks, where that finds the same."""
    return re.compile(b"\n(?:" + pattern[1:].encode() + b")") if _PLAIN.fullmatch(pattern) else None


def _goes_on(pattern: bytes, *, after: bytes = b"", ends: bytes = b"") -> Rule:
    """Patterns tied to the line's start that match no newline."""
    return Rule(
        goes_on=re.compile(pattern).match,
        after=re.compile(after).match if after else None,
        ends=re.compile(ends).match if ends else None,
        in_block=re.compile(b"\n(?:" + pattern + b")", re.MULTILINE),
    )


PRESETS: dict[str, Rule] = {
    "python": _goes_on(
        rb"[ \t]|Traceback \(most recent call last\):|During handling of the above exception|The above exception was the"
        rb"|[\w.]+(?:Error|Exception|Exit|Interrupt|Warning|Group)(?::|$)|$",
        after=rb'    |  File "',
        ends=rb"[A-Za-z_][\w.]*(?::|$)",
    ),
    "java": _goes_on(rb"[ \t]+\S|Caused by: |(?:[a-z_]\w*\.)+[A-Z][\w$]*(?:Exception|Error|Throwable)\b"),
    "go": _goes_on(
        rb"[ \t]|goroutine \d+ \[|created by |\[signal |exit status \d|[\w./*()\[\]-]+\.[\w.*()\[\]]*\(.*\)$|$",
    ),
    "dotnet": _goes_on(rb"[ \t]|(?:[A-Z]\w*\.)+\w*Exception\b|--- End of "),
    "ruby": _goes_on(rb"[ \t]|\S+\.rb:\d+:in [`'][^'\n]*'$|$"),
}


def firsts(
    rule: Rule,
    lines: Sequence[bytes],
    streams: Sequence[bytes] | None = None,
    block: tuple[bytes, Sequence[int]] | None = None,
) -> list[int]:
    """Positions of the lines that begin an event; the first line always does. A line of another stream begins one, too.

    Args:
        block: the lines in one piece, and where each starts in it.
    """
    if rule.in_block is not None and block is not None:
        is_start = rule.start is not None
        flags = [not is_start] * len(lines)
        for n in _found(rule.in_block, *block):
            flags[n] = is_start
        _end_traces(rule, lines, flags)
    elif rule.start is not None:
        flags = [bool(found) for found in map(rule.start, lines)]
    else:
        assert rule.goes_on is not None
        flags = [not found for found in map(rule.goes_on, lines)]
        _end_traces(rule, lines, flags)
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


def _found(pattern: re.Pattern[bytes], data: bytes, starts: Sequence[int]) -> list[int]:
    """Which lines the matches begin."""
    places = [match.start() + 1 for match in pattern.finditer(data)]
    if len(places) * 8 < len(starts):
        found = [bisect_left(starts, place) for place in places]
    else:
        numbers = {start: n for n, start in enumerate(starts)}
        found = [numbers.get(place, len(starts)) for place in places]
    return [n for n in found if n < len(starts)]


def _end_traces(rule: Rule, lines: Sequence[bytes], flags: list[bool]) -> None:
    """The line behind a trace that says what it was about belongs to it."""
    if rule.after is None or rule.ends is None or all(flags):
        return
    for n in [n for n in range(1, len(flags)) if flags[n] and not flags[n - 1]]:
        flags[n] = not (rule.after(lines[n - 1]) and rule.ends(lines[n]))
