"""Which events are sent: by pattern, and a sample by severity. Pure; what is left out on purpose is no loss.

A sample is decided by the event's own bytes, never by chance: an event that is read again is left out again.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

LOOKED_AT_BYTES = 256
"""How far into an event its severity is looked for."""
_WORDS = {
    "debug": (b"trace", b"debug", b"verbose"),
    "info": (b"info", b"information", b"notice"),
    "warning": (b"warn", b"warning"),
    "error": (b"err", b"error", b"severe"),
    "critical": (b"fatal", b"panic", b"crit", b"critical", b"alert", b"emerg"),
}
"""As they are, in capitals, or with a capital first."""
_NAMED = {form: severity for severity, words in _WORDS.items() for word in words for form in (word, word.upper(), word.title())}
_APART = bytes(byte if (byte < 128 and chr(byte).isalnum()) or byte == 95 else 32 for byte in range(256))


def severity_of(event: bytes) -> str:
    """The first word near the event's start that names one; ``info`` where none does."""
    words = event[:LOOKED_AT_BYTES].translate(_APART).split()
    return next(filter(None, map(_NAMED.get, words)), "info")


def kept(
    events: Sequence[bytes],
    *,
    include: Sequence[re.Pattern[bytes]],
    exclude: Sequence[re.Pattern[bytes]],
    sample: Mapping[str, int],
) -> list[int] | None:
    """Positions of the events to send; None: all of them."""
    chosen = list(range(len(events)))
    for pattern in exclude:
        search = pattern.search
        chosen = [n for n in chosen if not search(events[n])]
    if include:
        searches = [pattern.search for pattern in include]
        chosen = [n for n in chosen if any(search(events[n]) for search in searches)]
    if sample and "info" not in sample:
        asked = _naming(events, sample)
        chosen = [n for n in chosen if n not in asked or _is_picked(events[n], sample)]
    elif sample:
        chosen = [n for n in chosen if _is_picked(events[n], sample)]
    return None if len(chosen) == len(events) else chosen


def _is_picked(event: bytes, sample: Mapping[str, int]) -> bool:
    one_in = sample.get(severity_of(event), 1)
    return one_in == 1 or zlib.crc32(event) % one_in == 0


def _naming(events: Sequence[bytes], severities: Iterable[str]) -> set[int]:
    """Which events have a word for one of these severities, anywhere: looked for in all of them at once."""
    data = b"\n".join(events)
    found: set[int] = set()
    starts: list[int] = []
    for severity in severities:
        for word in _WORDS[severity]:
            for form in (word, word.upper(), word.title()):
                at = data.find(form)
                while at >= 0:
                    if not starts:
                        starts = list(accumulate((len(event) + 1 for event in events), initial=0))
                    number = bisect_right(starts, at) - 1
                    found.add(number)
                    at = data.find(form, starts[number + 1])
    return found
