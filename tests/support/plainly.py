"""What a source's settings make of a file, line by line and event by event, in the most obvious way: slow, and to compare with.

It knows nothing of blocks, of limits beyond a block, nor of timeouts: the whole file is there, and final.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from agent.config import Source
from agent.text import multiline

OCTET = rb"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
SEVERITIES = {
    "debug": "trace debug verbose",
    "info": "info information notice",
    "warning": "warn warning",
    "error": "err error severe",
    "critical": "fatal panic crit critical alert emerg",
}
IP = re.compile(rb"(?<![0-9.])" + rb"\.".join([OCTET] * 4) + rb"(?!\.?[0-9])")
BEARER = re.compile(rb"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}")
LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
DOMAIN = re.compile(rb"@" + LABEL + rb"(?:\.[A-Za-z0-9-]*[A-Za-z0-9])+")


Replace = Callable[[bytes], bytes]


class Event(NamedTuple):
    offset: int
    text: bytes


class Line(NamedTuple):
    offset: int
    text: bytes
    stream: bytes


def events(source: Source, content: bytes) -> list[Event]:
    lines = [Line(at, text, b"") for at, text in file_lines(source.encoding, content)]
    if source.container:
        lines = sorted(unwrapped(source.container, lines))
    found = joined(source, lines)
    for pattern in source.exclude_lines:
        found = [event for event in found if not re.search(pattern.encode(), event.text)]
    if source.include_lines:
        found = [event for event in found if any(re.search(text.encode(), event.text) for text in source.include_lines)]
    found = [event for event in found if zlib.crc32(event.text) % source.sample.get(severity(event.text), 1) == 0]
    return [Event(at, cut(redacted(source, text), source.max_line_bytes, len(text))) for at, text in found]


def severity(text: bytes) -> Any:
    for word in re.findall(rb"\w+", text[:256]):
        for name, words in SEVERITIES.items():
            if word.decode() in {form for one in words.split() for form in (one, one.upper(), one.title())}:
                return name
    return "info"


def file_lines(encoding: str, content: bytes) -> Iterator[tuple[int, bytes]]:
    wide = encoding.startswith("utf-16")
    if encoding == "utf-16":
        encoding = "utf-16-be" if content[:2] == b"\xfe\xff" else "utf-16-le"
    newline, width = "\n".encode(encoding), 2 if wide else 1
    begin = 0
    for at in [*range(0, len(content), width), None]:
        if at is not None and content[at : at + width] != newline:
            continue
        raw = content[begin:at]
        if at is None and not raw:
            return
        if wide:
            text = raw.decode(encoding, "surrogatepass" if not len(raw) % 2 else "replace")
            text = text.removeprefix("\ufeff") if not begin else text
            line = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
        elif encoding == "utf-8":
            line = raw
        else:
            line = raw.decode(encoding, "replace").encode()
        yield begin, line if at is None else line.removesuffix(b"\r")
        begin = (at or 0) + width


def unwrapped(container: str, lines: list[Line]) -> Iterator[Line]:
    open_lines: dict[bytes, Line] = {}
    for line in lines:
        part = cri(line.text) if container == "cri" else docker(line.text)
        if part is None:
            yield line
            continue
        stream, text, whole = part
        before = open_lines.pop(stream, Line(line.offset, b"", stream))
        found = Line(before.offset, before.text + text, stream)
        if whole:
            yield found
        else:
            open_lines[stream] = found
    yield from open_lines.values()


def cri(line: bytes) -> tuple[bytes, bytes, bool] | None:
    _, stream, kind, text = (line.split(b" ", 3) + [b""] * 4)[:4]
    if stream not in (b"stdout", b"stderr") or kind[:1] not in (b"F", b"P"):
        return None
    return stream, text, kind[:1] == b"F"


def docker(line: bytes) -> tuple[bytes, bytes, bool] | None:
    try:
        said = json.loads(line)
        text, stream = said["log"].encode(), said.get("stream", "").encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return stream, text[:-1].removesuffix(b"\r") if text.endswith(b"\n") else text, text.endswith(b"\n")


def joined(source: Source, lines: list[Line]) -> list[Event]:
    settings = source.multiline
    if not (settings.preset or settings.start or settings.continuation):
        return [Event(line.offset, line.text) for line in lines]
    groups: list[list[Line]] = []
    before_goes_on = False
    for line in lines:
        rule = multiline.PRESETS.get(settings.preset)
        if rule is None:
            pattern, is_start = settings.start or settings.continuation, bool(settings.start)
            goes_on = bool(re.search(pattern.encode(), line.text)) != is_start
            ends = False
        else:
            assert rule.goes_on is not None
            goes_on = bool(rule.goes_on(line.text))
            last = groups[-1][-1].text if groups else b""
            ends = (
                not goes_on and before_goes_on and bool(rule.after and rule.ends and rule.after(last) and rule.ends(line.text))
            )
        if groups and (goes_on or ends) and groups[-1][-1].stream == line.stream:
            groups[-1].append(line)
        else:
            groups.append([line])
        before_goes_on = goes_on
    size = settings.max_lines
    groups = [group[n : n + size] for group in groups for n in range(0, len(group), size)]
    return [Event(group[0].offset, b"\n".join(line.text for line in group)) for group in groups]


def redacted(source: Source, text: bytes) -> bytes:
    for name in source.redact.presets:
        text = {"email": emails, "card": cards, "bearer": bearers, "ip": ips}[name](text, replacing(source, name))
    for name, pattern in source.redact.patterns.items():
        found = re.compile(pattern.encode(), re.M)
        parts, at = [], 0
        for match in found.finditer(text):
            start, end = match.span(1 if found.groups else 0)
            if end > start >= at:
                parts.append(text[at:start] + replacing(source, name)(text[start:end]))
                at = end
        text = b"".join([*parts, text[at:]])
    return text


def replacing(source: Source, name: str) -> Replace:
    if source.redact.action == "mask":
        return lambda _: b"[%s]" % name.encode()
    key = blake2b(source.redact.key.encode()).digest()
    return lambda value: f"[{name}:{blake2b(value, key=key, digest_size=8, person=b'redact').hexdigest()}]".encode()


def ips(text: bytes, replace: Replace) -> bytes:
    return IP.sub(lambda match: replace(match[0]), text)


def bearers(text: bytes, replace: Replace) -> bytes:
    return BEARER.sub(lambda match: replace(match[0]), text)


def emails(text: bytes, replace: Replace) -> bytes:
    made, done = b"", 0
    for match in DOMAIN.finditer(text):
        start = match.start()
        while start and match.start() - start < 64 and re.match(rb"[A-Za-z0-9._%+-]", text[start - 1 : start]):
            start -= 1
        if match.start() > start >= done:
            made += text[done:start] + replace(text[start : match.end()])
            done = match.end()
    return made + text[done:]


def cards(text: bytes, replace: Replace) -> bytes:
    made, done, at = b"", 0, 0
    while at < len(text):
        end = card_end(text, at) if not text[max(0, at - 1) : at].isdigit() else None
        if end is None:
            at += 1
            continue
        if luhn([int(chr(byte)) for byte in text[at:end] if chr(byte).isdigit()]):
            made += text[done:at] + replace(text[at:end])
            done = end
        at = end
    return made + text[done:]


def card_end(text: bytes, at: int) -> int | None:
    """Where the longest run of 13 to 19 digits from ``at`` ends that no further digit follows at once."""
    if not re.match(rb"[0-9]{4}", text[at:]):
        return None
    ends = {}
    count, place = 4, at + 4
    while count < 19 and (digit := re.match(rb"[ -]?[0-9]", text[place:])):
        count, place = count + 1, place + digit.end()
        ends[count] = place
    fit = [end for count, end in ends.items() if count >= 13 and not text[end : end + 1].isdigit()]
    return max(fit, default=None)


def luhn(digits: list[int]) -> bool:
    total = 0
    for n, digit in enumerate(reversed(digits)):
        double = 2 * digit if n % 2 else digit
        total += double - 9 if double > 9 else double
    return total % 10 == 0 and any(digits)


def cut(text: bytes, length: int, before: int) -> bytes:
    """Cut where a character begins, if it was too long before anything was replaced."""
    if before <= length or len(text) <= length:
        return text
    while text[length] & 0xC0 == 0x80 and length > 0:
        length -= 1
    return text[:length]
