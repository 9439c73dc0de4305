"""Regular expressions with named groups that take lines apart: what a source may say, for agent and collector. Pure.

The expressions run in the collector's engine, on RE2, which needs time in proportion to the text whatever the pattern
is; Python's own engine does not, so it sees no line but those that the agent's ``verify`` finds missing. Both have to read a
pattern in the same way, so what is taken is what both know: characters and classes, ``( )``, ``(?: )``, ``(?P<name> )`` or
``(?<name> )``, ``|``, ``* + ?``, ``{n}``, ``{n,}``, ``{n,m}`` and their lazy forms, anchors ``^ $ \\A \\b \\B``,
``\\d \\s \\w`` and their opposites, ``\\xHH``, and the flags ``i``, ``m`` and ``s``. Not there: looking around, back
references, conditions, atomic groups, possessive repeats, Unicode classes.

As in RE2's use by the engine a dot matches a newline, too, and ``\\d``, ``\\s``, ``\\w`` mean ASCII.

Limits: `MAX_PATTERN_BYTES`, `MAX_GROUPS`, and `MAX_STEPS`: how long a pattern is when its counted repeats are written
out, since that times the length of a line is what it costs.
"""

from __future__ import annotations

import re
import warnings

MAX_PATTERN_BYTES = 4096
MAX_GROUPS = 64
MAX_STEPS = 2000

_ESCAPES = frozenset("AbBdDsSwWafnrtv")
"""Letters that mean the same behind a backslash in both."""
_NAMED = re.compile(r"\(\?P?<([A-Za-z_][A-Za-z0-9_]*)>")
_FLAGS = re.compile(r"\(\?([ims]*(?:-[ims]+)?)([:)])")
_COUNTS = re.compile(r"\{(\d{1,6})(?:(,)(\d{0,6}))?\}")
_HEX = re.compile(r"x[0-9A-Fa-f]{2}")


class BadPattern(ValueError):
    """What is wrong with a pattern, in words for who wrote it."""


def groups_of(pattern: str) -> tuple[str, ...]:
    """The name of every capturing group, in order; empty for one without a name. Raises BadPattern."""
    if len(pattern.encode()) > MAX_PATTERN_BYTES:
        raise BadPattern(f"has {len(pattern.encode())} bytes; at most {MAX_PATTERN_BYTES} are taken")
    steps = _Reader(pattern).steps()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(_NAMED.sub(r"(?P<\1>", pattern), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadPattern(f"is no regular expression: {error}") from None
    if not compiled.groupindex:
        raise BadPattern("has no named group; write for instance (?P<level>[A-Z]+)")
    if compiled.groups > MAX_GROUPS:
        raise BadPattern(f"has {compiled.groups} groups; at most {MAX_GROUPS} are taken")
    if steps > MAX_STEPS:
        raise BadPattern(f"is {steps} steps long with its repeats written out, at most {MAX_STEPS} are taken; count less")
    names = {number: name for name, number in compiled.groupindex.items()}
    return tuple(names.get(number, "") for number in range(1, compiled.groups + 1))


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern that `groups_of` takes, for Python's engine, as RE2 reads it."""
    return re.compile(_NAMED.sub(r"(?P<\1>", pattern), re.ASCII | re.DOTALL)


class _Reader:
    """Walks through a pattern once, refuses what only one of the two engines knows, and adds up its length."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def steps(self) -> int:
        levels, last = [0], 0
        while self._at < len(self._pattern):
            char = self._pattern[self._at]
            if char == "(":
                self._open()
                levels.append(0)
                last = 0
                continue
            if char == ")":
                self._at += 1
                last = levels.pop() if len(levels) > 1 else 0
                levels[-1] += last
            elif times := self._repeated(char):
                levels[-1] += last * (times - 1)
                last *= times
            else:
                self._atom(char)
                last = 1
                levels[-1] += 1
        return sum(levels)

    def _open(self) -> None:
        if not self._pattern.startswith("(?", self._at):
            self._at += 1
            return
        found = _NAMED.match(self._pattern, self._at) or _FLAGS.match(self._pattern, self._at)
        if found is None:
            raise BadPattern(
                f"{self._pattern[self._at : self._at + 4]!r} is not taken: only (?:, (?P<name>, (?<name> and (?ims)"
            )
        self._at = found.end()
        if found.group().endswith(")"):
            self._at -= 1  # flags alone: an empty group

    def _repeated(self, char: str) -> int:
        """How often the atom before may come, for length: 0 when no repeat stands here."""
        counts = _COUNTS.match(self._pattern, self._at)
        if counts is None and char not in "*+?":
            if self._pattern.startswith("{,", self._at):
                raise BadPattern("'{,' is not taken: write {0, instead")
            return 0
        self._at = counts.end() if counts else self._at + 1
        if self._pattern.startswith("+", self._at):
            raise BadPattern("possessive repeats ('++', '*+', '?+', '}+') are not taken")
        if self._pattern.startswith("?", self._at):
            self._at += 1
        if counts is None:
            return 1
        return max(1, int(counts[1]), int(counts[3] or 0)) + (counts[2] is not None and not counts[3])

    def _atom(self, char: str) -> None:
        if char == "\\":
            self._escape()
        elif char == "[":
            self._class()
        else:
            self._at += 1

    def _escape(self) -> None:
        char = self._pattern[self._at + 1 : self._at + 2]
        if not char:
            raise BadPattern("is no regular expression: it ends with a backslash")
        if hexed := _HEX.match(self._pattern, self._at + 1):
            self._at = hexed.end()
            return
        if char.isalnum() and char not in _ESCAPES:
            kind = "back references are" if char.isdigit() else f"'\\{char}' is"
            raise BadPattern(f"{kind} not taken")
        self._at += 2

    def _class(self) -> None:
        self._at += 1
        self._at += self._pattern.startswith("^", self._at)
        self._at += self._pattern.startswith("]", self._at)
        while not self._pattern.startswith("]", self._at):
            if self._at >= len(self._pattern):
                raise BadPattern("is no regular expression: a [ is never closed")
            if self._pattern.startswith("[:", self._at):
                raise BadPattern("'[:' is not taken: write the characters themselves, for instance A-Za-z")
            if self._pattern[self._at] == "\\":
                if self._pattern[self._at + 1 : self._at + 2] in ("A", "B", "b"):
                    raise BadPattern(f"'\\{self._pattern[self._at + 1]}' is not taken inside [ ]")
                self._escape()
            else:
                self._at += 1
        self._at += 1
