"""What container runtimes write around a line: taken away, and lines they cut in parts put together. Pure.

- ``cri`` (containerd, CRI-O): ``<time> <stream> <P or F> <text>``; P: the line goes on with this stream's next.
- ``docker`` (json-file): ``{"log": "text\\n", "stream": …, "time": …}``; without the newline the line goes on.

A line of neither form is kept as it is. The parts of two streams may lie between one another, so a record may end only
where no line is open: ``clean`` names these places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

OTHER = b""


class Part(NamedTuple):
    time: bytes
    stream: bytes
    text: bytes
    whole: bool


class Unwrapped(NamedTuple):
    texts: list[bytes]
    starts: list[int]
    times: list[bytes]
    streams: list[bytes]
    clean: list[tuple[int, int]]
    """(number of events, end of their bytes) where no line is open."""


class Columns(NamedTuple):
    """Lines that all have their wrapping, and none of which is cut: a text of one line for each."""

    texts: list[bytes]
    times: list[bytes]
    streams: list[bytes]


class _Docker(msgspec.Struct):
    log: str
    stream: str = ""
    time: str = ""


_decoder = msgspec.json.Decoder(_Docker)
_CRI = re.compile(rb"^([^ \n]*) (stdout|stderr) ([FP])[^ \n]*(?: (.*))?$", re.MULTILINE)


def _cri_part(line: bytes) -> Part | None:
    words = line.split(b" ", 3)
    if len(words) < 3 or words[1] not in (b"stdout", b"stderr") or words[2][:1] not in (b"F", b"P"):
        return None
    return Part(words[0], words[1], words[3] if len(words) > 3 else b"", words[2][:1] == b"F")


def _cri_columns(data: bytes) -> Columns | None:
    found = _CRI.findall(data)
    if len(found) != data.count(b"\n") + 1:
        return None
    times, streams, kinds, texts = zip(*found, strict=True)
    return None if b"P" in kinds else Columns(list(texts), list(times), list(streams))


def _docker_part(line: bytes) -> Part | None:
    try:
        said = _decoder.decode(line)
        text = said.log.encode()
        stream, time = said.stream.encode(), said.time.encode()
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if b"\n" in time:
        return None
    whole = text.endswith(b"\n")
    return Part(time, stream, text[:-1].removesuffix(b"\r") if whole else text, whole)


def _docker_columns(data: bytes) -> Columns | None:
    try:
        said = _decoder.decode_lines(data)
        texts = "".join([line.log for line in said]).encode()
        times = "\n".join([line.time for line in said]).encode().split(b"\n")
        streams = [line.stream.encode() for line in said]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    count = data.count(b"\n") + 1
    if not len(said) == len(times) == count == texts.count(b"\n") or b"\r\n" in texts:
        return None
    if not all(line.log.endswith("\n") for line in said):
        return None
    return Columns(texts[:-1].split(b"\n"), times, streams)


class Format(NamedTuple):
    part: Callable[[bytes], Part | None]
    """What a line has inside; None: it is not of this format."""
    columns: Callable[[bytes], Columns | None]
    """The same for many lines in one piece; None: they have to be looked at one by one."""


FORMATS = {"cri": Format(_cri_part, _cri_columns), "docker": Format(_docker_part, _docker_columns)}


def unwrap(parse: Callable[[bytes], Part | None], lines: Sequence[bytes], ends: Sequence[int], *, final: bool) -> Unwrapped:
    """Take lines out of their wrapping.

    Args:
        ends: where each line ends, its newline included; the first one starts at 0.
        final: a line that is still open ends here.
    """
    events: list[tuple[int, bytes, bytes, bytes]] = []
    clean: list[tuple[int, int]] = []
    open_lines: dict[bytes, tuple[int, bytes, list[bytes]]] = {}
    at = 0
    for line, end in zip(lines, ends, strict=True):
        part = parse(line)
        if part is None:
            events.append((at, line, b"", OTHER))
        elif part.stream not in open_lines:
            if part.whole:
                events.append((at, part.text, part.time, part.stream))
            else:
                open_lines[part.stream] = (at, part.time, [part.text])
        else:
            begun, time, texts = open_lines[part.stream]
            texts.append(part.text)
            if part.whole:
                del open_lines[part.stream]
                events.append((begun, b"".join(texts), time, part.stream))
        at = end
        if not open_lines:
            clean.append((len(events), end))
    if open_lines and final:
        events += [(begun, b"".join(texts), time, stream) for stream, (begun, time, texts) in open_lines.items()]
        clean.append((len(events), at))
    count = clean[-1][0] if clean else 0
    events = sorted(events[:count])
    return Unwrapped(
        [event[1] for event in events], [event[0] for event in events], [event[2] for event in events],
        [event[3] for event in events], clean,
    )  # fmt: skip
