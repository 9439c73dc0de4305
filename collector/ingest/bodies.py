"""Bodies of JSON requests: unpacked with a bound, cut into events, their faults placed by line and column. Pure.

- Nothing inflates beyond its bound: a body that would is refused when the bound is reached, whatever it announces.
- A body is taken as UTF-8, with or without a byte order mark. Halves of surrogate pairs (which some languages write
  when they cut a text) are read as U+FFFD, so that one such text does not cost its batch.
- NDJSON: a line that is not JSON costs that line. In ``{"events": […]}`` it costs the batch: what comes after a fault
  cannot be told apart.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from collector.errors import BadRequest, FieldError, Invalid, TooLarge, UnsupportedType, sentence, shown

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODINGS = ("identity", "gzip", "zstd", "deflate")
MAX_WINDOW_LOG = 23
"""Windows of zstd up to 8 MiB, which all its usual levels keep to: a small body must not ask for much memory."""
MAX_STREAMS = 10_000
"""Of gzip or zstd in one body. Each costs the same however little is in it, and in a few MiB there is room for a million."""
PIECE_BYTES = 16 << 10
"""Unpacked at once."""
SUSPICIOUS_COMMAS = 500_000
"""With more of them a body may hold very many tiny events: they are counted before they are kept."""

JSON_TYPES = ("application/json", "text/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded")
"""What clients call JSON: the last three are what they say when nobody told them."""
LINES_TYPES = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
)

_BOM = b"\xef\xbb\xbf"
_PLACE = re.compile(r" \(byte (\d+)\)$")
_SURROGATES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})")
_BACKSLASH = ord("\\")


class Envelope(msgspec.Struct, frozen=True):
    """A batch around its events, which are not looked into yet."""

    events: list[msgspec.Raw]
    batch_id: str | None = None
    source_application: str | None = None


def media_of(content_type: str) -> str:
    """``json`` or ``lines``. Raises UnsupportedType."""
    if content_type in LINES_TYPES:
        return "lines"
    if content_type in JSON_TYPES or content_type.endswith("+json"):
        return "json"
    raise UnsupportedType(f"Content-Type: expected application/json or application/x-ndjson, got {shown(content_type)}")


def unpacked(body: bytes, encoding: str, *, most: int) -> bytes:
    """The body without its Content-Encoding.

    Args:
        most: longest result in bytes.

    Raises:
        UnsupportedType: the encoding is not one of `ENCODINGS`.
        TooLarge: the result would be longer than ``most``.
        BadRequest: the bytes are not what the encoding says, or end too early.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    try:
        if encoding in ("gzip", "x-gzip"):
            return _inflated(body, 31, most)
        if encoding == "deflate":  # RFC 9110 means zlib's format; some send the bare one
            return _inflated(body, 15 if _is_zlib(body) else -15, most)
        if encoding == "zstd":
            return _unzstd(body, most)
    except (zlib.error, zstd.ZstdError) as error:
        raise BadRequest(f"the body is not {encoding}: {error}; send it packed as Content-Encoding says") from None
    raise UnsupportedType(f"Content-Encoding: expected one of {', '.join(ENCODINGS)}, got {shown(encoding)}")


def decoded(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The body through ``decoder``.

    Raises:
        msgspec.ValidationError: it is JSON, but not of the decoder's type.
        BadRequest: it is not JSON, with line and column.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except RecursionError:
        raise BadRequest("the body is not usable JSON: it is nested too deeply") from None
    except UnicodeDecodeError:
        raise not_json(body, "a text is not UTF-8", _first_not_utf8(body)) from None
    except msgspec.DecodeError as error:
        text, at = said(error, len(body))
        raise not_json(body, text, at) from None


def is_clean(body: bytes) -> bool:
    """Whether `clean` would change nothing. Most bodies are, and telling costs next to nothing: for the first byte of what
    is looked for there is a much faster search than for all three."""
    return not body.startswith(_BOM) and (b"\\" not in body or (b"\\ud" not in body and b"\\uD" not in body))


def clean(body: bytes) -> bytes:
    """Without a byte order mark, and with U+FFFD for halves of surrogate pairs."""
    return body if is_clean(body) else _SURROGATES.sub(_mended, body.removeprefix(_BOM))


def _mended(found: re.Match[bytes]) -> bytes:
    """One or two halves as they are kept. An odd number of backslashes before the first makes it no escape at all. (Looked at
    from here, and not by the pattern: that would visit every escape of a body, and hold up everybody for seconds.)"""
    begin = at = found.start()
    while at and found.string[at - 1] == _BACKSLASH:
        at -= 1
    if (begin - at) % 2:
        return found[0][:6] + b"\\ufffd" if found[1] else found[0]
    return found[0] if found[1] else b"\\ufffd"


def envelope_of(body: bytes, *, most: int) -> Envelope:
    """A JSON batch, cut into its events.

    Raises:
        BadRequest: not JSON.
        Invalid: not an object, or ``events`` is missing or not a list; with what was expected.
        TooLarge: more than ``most`` events.
    """
    if len(body) > SUSPICIOUS_COMMAS and body.count(b",") > SUSPICIOUS_COMMAS:
        _counted(body, most)
    try:
        envelope: Envelope = decoded(body, _ENVELOPE)
    except msgspec.ValidationError as error:
        raise _not_a_batch(error) from None
    if len(envelope.events) > most:
        raise too_many(most, f"this one has {len(envelope.events)}")
    return envelope


def lines_of(body: bytes, *, most: int) -> list[bytes]:
    """The lines of NDJSON that are not blank. Raises TooLarge for more than ``most``."""
    lines: list[bytes] = []
    for line in _lines(body):
        if len(lines) == most:
            raise too_many(most, "this one has more")
        lines.append(line)
    return lines


def said(error: msgspec.DecodeError, size: int) -> tuple[str, int]:
    """What the decoder says, without its own way of placing it, and at which byte."""
    text = str(error)
    if place := _PLACE.search(text):
        return text[: place.start()].removeprefix("JSON is malformed: "), int(place[1])
    return "it ends too early" if "truncated" in text else text, size


def place_of(body: bytes, at: int) -> tuple[int, int]:
    """Line and column (characters, both from 1) of a byte."""
    begin = body.rfind(b"\n", 0, at) + 1
    return body.count(b"\n", 0, at) + 1, len(body[begin:at].decode("utf-8", "replace")) + 1


def not_json(body: bytes, text: str, at: int) -> BadRequest:
    line, column = place_of(body, at)
    return BadRequest(f"the body is not JSON: line {line}, column {column}: {text}")


def too_many(most: int, what: str) -> TooLarge:
    return TooLarge(f"a batch may have {most} events at most, {what}; send it in smaller batches")


_ENVELOPE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Envelope)


def _lines(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        if line := body[at:end].strip():
            yield line
        at = end + 1


def _inflated(body: bytes, window: int, most: int) -> bytes:
    """One stream or, for gzip, several one after the other."""
    left = most

    def one(rest: _Rest) -> bytes:
        stream = zlib.decompressobj(window)
        parts = []
        nonlocal left
        while not stream.eof:
            if not (chunk := stream.unconsumed_tail or rest.next()):
                raise BadRequest("the packed body ends too early; send all of it")
            parts.append(stream.decompress(chunk, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise _bomb(most)
        rest.back(len(stream.unused_data))
        return b"".join(parts)

    return _all(body, one, several=window == 31)


def _unzstd(body: bytes, most: int) -> bytes:
    left = most

    def one(rest: _Rest) -> bytes:
        frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG})
        parts = []
        nonlocal left
        while not frame.eof:
            chunk = rest.next() if frame.needs_input else b""
            if frame.needs_input and not chunk:
                raise BadRequest("the packed body ends too early; send all of it")
            parts.append(frame.decompress(chunk, max_length=left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise _bomb(most)
        rest.back(len(frame.unused_data))
        return b"".join(parts)

    return _all(body, one, several=True)


class _Rest:
    """What is left of a packed body, handed out in pieces: a decompressor copies all that follows its stream."""

    def __init__(self, body: bytes) -> None:
        self._view = memoryview(body)
        self._at = 0

    def next(self) -> memoryview:
        piece = self._view[self._at : self._at + PIECE_BYTES]
        self._at += len(piece)
        return piece

    def back(self, count: int) -> None:
        self._at -= count

    def __bool__(self) -> bool:
        return self._at < len(self._view)


def _all(body: bytes, one: Callable[[_Rest], bytes], *, several: bool) -> bytes:
    rest = _Rest(body)
    parts = [one(rest)]
    while rest:
        if not several:
            raise BadRequest("the packed body goes on after its end; send one stream")
        if len(parts) == MAX_STREAMS:
            raise BadRequest(
                f"the packed body has more than {MAX_STREAMS} streams one after the other; send fewer, longer ones"
            )
        parts.append(one(rest))
    return b"".join(parts)


def _is_zlib(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _bomb(most: int) -> TooLarge:
    return TooLarge(f"the body may have {most} bytes at most after unpacking, it has more; split it into smaller requests")


def _first_not_utf8(body: bytes) -> int:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


class _Tiny:
    """Stands for an event that is only counted."""


class _TooMany(Exception):
    """More events than a batch may have."""


class _Counting(msgspec.Struct, frozen=True):
    events: list[_Tiny]


def _counted(body: bytes, most: int) -> None:
    """Raises TooLarge for more than ``most`` events, before millions of them are kept."""
    count = 0

    def hook(kind: type, value: object) -> _Tiny:
        nonlocal count
        count += 1
        if count > most:
            raise _TooMany
        return _TINY

    try:
        msgspec.json.Decoder(_Counting, dec_hook=hook).decode(body)
    except _TooMany:
        raise too_many(most, "this one has more") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # the real decoding says it better


_TINY = _Tiny()


def _not_a_batch(error: msgspec.ValidationError) -> Invalid:
    text, _, path = str(error).partition(" - at `$")
    field = path.strip("`.") or ("events" if "events" in text else "body")
    mend = 'send {"events": [{…}, …]}, or one event per line as NDJSON'
    fault = FieldError(field, text[0].lower() + text[1:], suggestion=mend)
    return Invalid(sentence(fault), errors=(fault,))
