"""Which lines belong to one event: stack traces and the like. Pure.

Our own patterns take time in proportion to the line, whatever is in it.

A rule looks at a line, and at the one before it within the same event, never at what comes after: so the events are the same
however the bytes were read. Known limit: messages of exceptions that have several lines of their own end at the first one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

Match = Callable[[bytes], object]


class InBlock(NamedTuple):
    """The newlines of a block, told apart by what follows: ten times as fast as line by line."""

    inside: re.Pattern[bytes]
    """Those inside an event."""
    between: re.Pattern[bytes]
    """Those between two."""


class Rule(msgspec.Struct, frozen=True):
    """One of ``start`` (a line that begins an event) and ``goes_on`` (one that continues the event before)."""

    start: Match | None = None
    goes_on: Match | None = None
    after: Match | None = None
    """With ``ends``: a line that matches ``ends`` continues the event if the line before matches this."""
    ends: Match | None = None
    block: InBlock | None = None
    max_lines: int = 500
    """An event that would be longer is cut, counted from its first line."""


_PLAIN = re.compile(r"\^(?:\\[dwt.\[\](){}+*?|-]|[A-Za-z0-9 :/,_<>@=+*?-]|\{[\d,]+\}|\[[\w -]+\])+")
"""Patterns that are the same in a block as on a line: tied to its start, and never matching a newline."""


def in_block(pattern: str, *, is_start: bool) -> InBlock | None:
    """The pattern for whole blocks, where that finds the same."""
    return _in_block(pattern[1:].encode(), is_start=is_start) if _PLAIN.fullmatch(pattern) else None


def _in_block(pattern: bytes, *, is_start: bool) -> InBlock:
    followed = re.compile(b"\n(?=%s)" % pattern, re.MULTILINE)
    not_followed = re.compile(b"\n(?!%s)" % pattern, re.MULTILINE)
    return InBlock(not_followed, followed) if is_start else InBlock(followed, not_followed)


def _goes_on(pattern: bytes, *, after: bytes = b"", ends: bytes = b"") -> Rule:
    """Patterns tied to the line's start that match no newline."""
    return Rule(
        goes_on=re.compile(pattern).match,
        after=re.compile(after).match if after else None,
        ends=re.compile(ends).match if ends else None,
        block=_in_block(pattern, is_start=False),
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
        rb"[ \t]|goroutine \d+ \[|created by |\[signal |exit status \d|(?=[^\n(]*\.)[\w./\[\]-]++"
        rb"(?:\(\*[\w.\[\]]++\)[\w./\[\]-]*+)*+\(.*\)$|$",
    ),
    "dotnet": _goes_on(rb"[ \t]|(?:[A-Z]\w*\.)+\w*Exception\b|--- End of "),
    "ruby": _goes_on(rb"[ \t]|\S+\.rb:\d+:in [`'][^'\n]*'$|$"),
}


def firsts(rule: Rule, lines: Sequence[bytes], streams: Sequence[bytes] | None = None) -> list[int]:
    """Positions of the lines that begin an event; the first line always does. A line of another stream begins one, too."""
    if rule.start is not None:
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


def _end_traces(rule: Rule, lines: Sequence[bytes], flags: list[bool]) -> None:
    """The line behind a trace that says what it was about belongs to it."""
    if rule.after is None or rule.ends is None or all(flags):
        return
    for n in [n for n in range(1, len(flags)) if flags[n] and not flags[n - 1]]:
        flags[n] = not (rule.after(lines[n - 1]) and rule.ends(lines[n]))


def events_in(rule: Rule, data: bytes) -> list[bytes] | None:
    """The same for lines in one piece, as events. None: every line is one.

    Only for a rule with `Rule.block`; nothing is done for each line unless a line continues an event.
    """
    assert rule.block is not None
    if rule.block.inside.search(data) is None:
        return None
    events = rule.block.between.split(data)
    if rule.after is not None:
        events = _with_ends_of_traces(rule, events)
    if max(map(len, events)) < rule.max_lines:
        return events  # a line has its newline at least
    return [part for event in events for part in _cut(event, rule.max_lines)]


def _with_ends_of_traces(rule: Rule, events: list[bytes]) -> list[bytes]:
    assert rule.after is not None
    assert rule.ends is not None
    assert rule.goes_on is not None
    made: list[bytes] = []
    going_on = rule.goes_on(events[0].partition(b"\n")[0])
    trace = False
    for event in events:
        if trace and rule.ends(event.partition(b"\n")[0]):
            made[-1] += b"\n" + event
        else:
            made.append(event)
        trace = False
        if going_on or b"\n" in event:
            trace = bool(rule.after(event.rpartition(b"\n")[2]))
        going_on = None
    return made


def _cut(event: bytes, max_lines: int) -> list[bytes]:
    if event.count(b"\n") < max_lines:
        return [event]
    lines = event.split(b"\n")
    return [b"\n".join(lines[n : n + max_lines]) for n in range(0, len(lines), max_lines)]
