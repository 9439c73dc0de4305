"""The contract between agent and collector: records, runs, answers and the words in them.

This module is imported by both programs. It uses the standard library and msgspec only, so that the agent stays small,
and it is the one place where the layout is written down.

Record (all integers little-endian), the same bytes in the agent's spool and on the wire:

    offset  size  field
    0       3     magic, ``PSR``
    3       1     version: 1, or 2 for a record whose header is a `ShapedHeader`
    4       4     header length in bytes
    8       4     payload length in bytes
    12      4     CRC-32 (zlib) of bytes 0..11, the header and the payload
    16      …     header: msgpack array of `Header` (version 2: of `ShapedHeader`)
    …       …     payload: one zstd frame (empty for some kinds)

Rules:
- New header fields go at the end and have a default. A reader ignores fields it does not know.
- A change that an older reader would misread takes a new version. The prefix and what its checksum covers are the same in
  every version, so that a newer record (`UnknownVersion`: hold it) is told apart from a damaged one.
- A run is one request body: records one after the other, nothing between them. A retry sends the same bytes.
- An answer is an ack only if it is a 200 of type `ANSWER_TYPE` which names every record of the run once.

Payload of a `DATA` record of version 1: lines of the file as they lie there. Of version 2: events that a transform has made
of them, each followed by ``\\n`` (an event may hold more of those; no ``\\r`` before it is taken away), and behind these
``data_bytes`` what is said of each event: see `ShapedHeader`. It lies in the payload because there it cannot outgrow the
header, and is compressed with the rest. A program that knows version 1 only answers such a record with "hold it".

An event of a file is called ``<file_id>-<offset>-<check>``: 16 hex digits that say which content, 12 that say at which
byte of it the event starts, 8 of CRC-32 over the event's bytes (its line end, ``\\n`` or ``\\r\\n``, is not part of it).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple, TypeVar

import msgspec

VERSION = 1
SHAPED_VERSION = 2
VERSIONS = (VERSION, SHAPED_VERSION)
MAGIC = b"PSR"
_PREFIX = struct.Struct("<3sBIII")
PREFIX_BYTES = _PREFIX.size
_CHECKED = 12
"""Bytes of the prefix that the checksum covers: all before the checksum itself."""

MAX_HEADER_BYTES = 1 << 20
"""A longer header is damage, not data."""
MAX_RAW_BYTES = 4 << 20
"""Longest payload after decompression; a reader never inflates more than this for one record."""
MAX_HEARTBEAT_BYTES = 256 << 10
"""Longest heartbeat after decompression; it names the files that are furthest behind."""
MAX_PAYLOAD_BYTES = MAX_RAW_BYTES + (64 << 10)
"""Longest payload as sent: incompressible data grows a little in a zstd frame."""

MAX_LABELS = 64
MAX_TEXT_BYTES = 4096
"""Longest name, path or label in a header, as UTF-8: a collector refuses a record with a longer one."""
MAX_SHAPED_EVENTS = 32_768
"""Most events in a record of version 2: what is said of each of them has to fit below `MAX_RAW_BYTES` with the events."""
MAX_MARKS = 4096

RAW, JSON, LOGFMT, SYSLOG, KLOG, REGEX, AUTO = "raw", "json", "logfmt", "syslog", "klog", "regex", "auto"
CLF, COMBINED = "clf", "combined"
"""Formats of lines. A collector that does not know one keeps the lines as they are."""

RUN_TYPE = "application/vnd.pulsestream.records"
ANSWER_TYPE = "application/vnd.pulsestream.outcomes+json"
BLOCKS_PATH = "/api/v1/ingestion/blocks"
RATE_LIMIT_PATH = "/api/v1/ingestion/rate-limit"
"""What the tenant may send: JSON, of which the agent reads ``month.limit``."""
IDS_PATH = "/api/v1/ingestion/ids"
SUMS_PATH = f"{IDS_PATH}/sums"
REQUEST_ID_HEADER = "X-Request-ID"
"""Names a request in the logs of both sides; every answer says it."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a request may be called; another name is replaced."""
REPLAY_HEADER = "X-PulseStream-Replay"
"""``1`` on a run whose records may have been received before (after a restart, after a lost answer)."""
TENANT_HEADER = "X-PulseStream-Tenant"
"""The tenant that an agent's data belongs to, once it is known: a key of another one is refused before anything is stored."""

# Record kinds.
DATA = 1
"""Lines of one file."""
LOSS = 2
"""What could not be kept: payload is a zstd frame of msgpack ``list[Loss]``."""
HEARTBEAT = 3
"""How the agent is doing: payload is a zstd frame of a msgpack `Heartbeat`. Has no events, never lies in a spool, and is
alone in its run: a collector that does not know it refuses that run, and nothing else."""
COMPLETED = 4
"""Of lines that an agent had to ship without their ends, since its own end came first, these went on: payload is a zstd frame
of msgpack ``list[str]``, the IDs of the events that the record behind it replaces. Those of them that were shipped with
`PARTIAL_LABEL` are deleted, no others; their IDs are of the record's ``file_id``, and from ``source_from`` to ``source_to``."""
FILES = 16
"""Spool only: the state of every file, at the front of each segment."""
ACKED = 17
"""Spool only: how far the collector's acks have come."""
SHIPPED_KINDS = frozenset((DATA, LOSS, HEARTBEAT, COMPLETED))

# Header flags.
REPLAY = 1
"""The bytes may have been shipped before by a state that is gone: look the IDs up."""
REPRODUCIBLE = 2
"""Reading the file again gives this record's events again, with the same IDs."""
PARTIAL = 4
"""The last line has no newline."""

PARTIAL_LABEL = "partial"
"""``true`` on an event that was shipped although its line, or its last line, may go on."""
MAX_COMPLETED = 100
"""IDs in a record of that kind."""

# Outcomes of a record or an event.
ACCEPTED = "accepted"
DUPLICATE = "duplicate"
EXPIRED = "expired"
REJECTED = "rejected"
MIXED = "mixed"
"""Of a record: its events differ; the counts and `RecordOutcome.exceptions` say how."""

# Codes of refused runs, in ``error.code``.
CODE_BAD_RECORD = "bad_record"
CODE_TOO_LARGE = "too_large"
CODE_UNKNOWN_VERSION = "unsupported_version"
CODE_UNAUTHORIZED = "unauthorized"
CODE_FORBIDDEN = "forbidden"
CODE_STORE_AWAY = "store_unavailable"
CODE_BUSY = "queue_full"

OFFSET_DIGITS = 12
EVENT_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}")
"""The pattern of IDs made from files; API clients may not bring IDs of this form."""


class Fields(msgspec.Struct, frozen=True, array_like=True):
    """How a line is taken apart. First where a structured line keeps its time, level and message: names tried in this order."""

    time: tuple[str, ...] = ("timestamp", "time", "ts", "@timestamp")
    level: tuple[str, ...] = ("level", "severity", "lvl", "levelname")
    message: tuple[str, ...] = ("message", "msg", "event")
    pattern: str = ""
    """Of the format ``regex``: see `agent.patterns`."""
    time_format: str = ""
    """How the time is written, see `agent.timeformats`; empty: ``auto``."""
    time_zone: str = ""
    """Of times that do not tell theirs: an IANA name or an offset; empty: UTC."""


class _Names(msgspec.Struct, frozen=True, array_like=True):
    """`Fields` that say no more than names, as they are encoded: in the bytes that they had before there was more to say."""

    time: tuple[str, ...]
    level: tuple[str, ...]
    message: tuple[str, ...]


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What a record says about its payload. Offsets count bytes of the (decompressed) source file."""

    kind: int
    record_id: str
    agent: str = ""
    """A label for people; never part of an identity."""
    scope: str = ""
    source: str = ""
    service: str = ""
    path: str = ""
    file_id: str = ""
    """16 hex digits, or empty for records without events."""
    origin: str = ""
    """Random, one per file state of an agent: tells a true re-read from a conflict of IDs."""
    base_offset: int = 0
    """Where the first event starts."""
    source_from: int = 0
    source_to: int = 0
    """The bytes of the file this record stands for, also those that filters removed."""
    raw_bytes: int = 0
    """Length of the payload after decompression."""
    events: int = 0
    format: str = "raw"
    observed_ns: int = 0
    """When the agent first saw these bytes, ns since 1970; the time of events that carry none."""
    flags: int = 0
    labels: dict[str, str] = {}
    fields: Fields = Fields()
    offsets: bytes = b""
    """zstd frame of uint32 per event: its offset minus ``base_offset``. Empty: offsets follow from the bytes."""
    checkpoint: bytes = b""
    """The agent's own note of the file's state after this record; opaque to the collector."""


class ShapedHeader(Header, frozen=True, array_like=True):
    """Of events that are no longer the lines as they lie in the file. Behind the events, in this order, as far as it is said
    to be there, one entry per event: sizes, steps, mark numbers (uint16), times."""

    data_bytes: int = 0
    """How much of the payload is events, each with its newline."""
    sizes: bool = False
    """uint32: length of the event without its newline. Not there: no event holds a newline."""
    steps: bool = False
    """uint32: from where the event before starts in the file to where this one does; 0 for the first, which starts at
    ``base_offset``. Not there: each event starts where the one before ends."""
    marks: tuple[dict[str, str], ...] = ()
    """Different sets of attributes; an event's number says which is its own. Empty: there are no numbers."""
    times_bytes: int = 0
    """Length of the times: texts with a newline after each, as the container runtime wrote them. 0: there are none."""


class Loss(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of a source that were not shipped, and why."""

    loss_id: str
    path: str
    source: str
    reason: str
    lost_bytes: int
    at_least: bool
    """The figure is a lower bound: the bytes could not be counted."""
    offset: int
    file_id: str
    time_ns: int
    events: int = 0
    takes_back: bool = False
    """It was told before, under the same ``loss_id``, and came back: the figures here, 0, count instead. (A collector that does
    not know this field keeps either.)"""


OVER_LONG = "over_long"
"""The rest of a line behind what an event holds of it. Its ``loss_id`` is made of the file's content and the place, so that it
counts once, however often the file is read."""
LOSS_REASONS = (
    "cut_before_read",
    "deleted_before_read",
    "spool_record_damaged",
    "spool_full_dropped",
    "quarantined",
    "line_without_end",
    OVER_LONG,
    "held_bytes",
    "free_space",
    "compressed_file_damaged",
)


Amount = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class FileHealth(msgspec.Struct, frozen=True, array_like=True):
    """How far a file has come; offsets count bytes of the source file."""

    path: str
    source: str
    size: Amount
    read: Amount
    acked: Amount | None
    """None: nothing of it was acknowledged since the agent started."""
    lag_bytes: Amount
    """In the file and not acknowledged; while ``acked`` is None: not read."""
    lag_s: Duration
    """How long the oldest byte that is not acknowledged has been there, to a few seconds."""
    state: str = "followed"
    error: str = ""


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """How an agent is doing. Counts are since its start."""

    version: str
    uptime_s: Duration = 0.0
    stopping: bool = False
    """The last one: its silence is meant."""
    sending: str = ""
    reading: str = ""
    """How sending and reading go, in words: ok, or why not."""
    spool_bytes: Amount = 0
    unsynced_bytes: Amount = 0
    """In the spool, not on disk yet."""
    held_bytes: Amount = 0
    """Read and not acknowledged."""
    lag_bytes: Amount = 0
    lag_s: Duration = 0.0
    """Of all files together; of the one furthest behind."""
    quarantined: Amount = 0
    """Records set aside for now."""
    rejected_events: Amount = 0
    lost_bytes: Amount = 0
    losses: dict[str, Amount] = {}
    """Lost bytes by reason."""
    files_total: Amount = 0
    files: tuple[FileHealth, ...] = ()
    """Those furthest behind."""
    recovered_bytes: Amount = 0
    """Of those that were told lost, then or by an earlier start: what came back, and was read."""


class EventOutcome(msgspec.Struct, frozen=True):
    """An event of a record that was neither accepted nor a duplicate."""

    offset: int
    outcome: str
    reason: str


class RecordOutcome(msgspec.Struct, frozen=True):
    """What became of one record; the four counts add up to its number of events (losses, for `LOSS`)."""

    record_id: str
    outcome: str
    accepted: int = 0
    duplicate: int = 0
    expired: int = 0
    rejected: int = 0
    reason: str = ""
    """Why, where one reason holds for every event that was not accepted."""
    exceptions: tuple[EventOutcome, ...] = ()
    """Each expired or rejected event of a `MIXED` record."""


class Answer(msgspec.Struct, frozen=True):
    """The collector's answer to a run."""

    tenant_id: str
    records: tuple[RecordOutcome, ...]
    retention_days: int = 0
    """How long the tenant's events are kept: what is older need not be sent. 0: not said."""


class IdsAnswer(msgspec.Struct, frozen=True):
    """IDs in the order of their bytes, each without ``prefix``, which all of them have."""

    prefix: str
    ids: list[str]
    """Of events that reads show."""
    deleted: list[str]
    expired: list[str]
    """Stored, and older than the tenant keeps events: no read shows them."""
    has_more: bool
    next_cursor: str | None
    retention_days: int


class IdSum(msgspec.Struct, frozen=True):
    """Of the events that reads show and that start from ``offset`` on, in ``step`` bytes."""

    offset: int
    events: int
    sum: str
    """16 hex digits: per event its check times (2 offset + 1), added up modulo 2**64."""


class SumsAnswer(msgspec.Struct, frozen=True):
    sums: list[IdSum]
    """Where there is nothing, nothing is said."""
    retention_days: int


class BadRecord(ValueError):
    """The bytes at ``offset`` are not a whole, undamaged record."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"bad record at byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class CutRecord(BadRecord):
    """The bytes end before the record does: a torn tail, or a body cut short."""


class UnknownVersion(BadRecord):
    """The record is of a version this program does not know: newer, not damaged."""


class Record(NamedTuple):
    """One decoded record and where it lay."""

    header: Header
    payload: memoryview
    start: int
    end: int


T = TypeVar("T")


def decoded(decode: Callable[[bytes | memoryview], T], raw: bytes | memoryview) -> T:
    """What one of msgspec's decoders makes of bytes from outside. Raises msgspec.DecodeError and nothing else: the library
    itself has other errors for texts that are not UTF-8 and for nesting beyond the interpreter's stack."""
    try:
        return decode(raw)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"a text is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header: dict[int, Callable[[bytes | memoryview], Header]] = {
    VERSION: msgspec.msgpack.Decoder(Header).decode,
    SHAPED_VERSION: msgspec.msgpack.Decoder(ShapedHeader).decode,
}
_encode_losses = msgspec.msgpack.Encoder().encode
_decode_losses = msgspec.msgpack.Decoder(tuple[Loss, ...]).decode
_decode_completed = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_encode_heartbeat = msgspec.msgpack.Encoder().encode
_decode_heartbeat = msgspec.msgpack.Decoder(Heartbeat).decode


def encode_record(header: Header, payload: bytes) -> bytes:
    """The bytes of one record. ``payload`` is already compressed.

    Raises ValueError for what no reader would take: better here, where it was made, than as damage when it is read.
    """
    fields = header.fields
    if not (fields.pattern or fields.time_format or fields.time_zone):
        short = _Names(fields.time, fields.level, fields.message)
        head = _encode_header(msgspec.structs.replace(header, fields=short))
    else:
        head = _encode_header(header)
    if len(head) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"a record of {header.path or 'no file'} from byte {header.source_from} on has a header of {len(head)} bytes and a "
            f"payload of {len(payload)}; at most {MAX_HEADER_BYTES} and {MAX_PAYLOAD_BYTES} can be read again"
        )
    version = SHAPED_VERSION if isinstance(header, ShapedHeader) else VERSION
    prefix = _PREFIX.pack(MAGIC, version, len(head), len(payload), 0)[:_CHECKED]
    check = zlib.crc32(payload, zlib.crc32(head, zlib.crc32(prefix)))
    return b"".join((prefix, check.to_bytes(4, "little"), head, payload))


def record_length(prefix: bytes) -> int | None:
    """Length of the record that begins with these `PREFIX_BYTES`; None if no record does."""
    if len(prefix) < PREFIX_BYTES:
        return None
    magic, _, head_len, payload_len, _ = _PREFIX.unpack_from(prefix)
    if magic != MAGIC or head_len > MAX_HEADER_BYTES or payload_len > MAX_PAYLOAD_BYTES:
        return None
    return PREFIX_BYTES + int(head_len) + int(payload_len)


def decode_record(buf: bytes | memoryview, start: int = 0) -> Record:
    """The record that starts at byte ``start`` of ``buf``.

    Raises:
        CutRecord: ``buf`` ends inside it.
        UnknownVersion: made by a newer program.
        BadRecord: anything else that is wrong with it, named.
    """
    view = memoryview(buf)
    if len(view) - start < PREFIX_BYTES:
        raise CutRecord(start, f"{len(view) - start} bytes left, a record has at least {PREFIX_BYTES}")
    magic, version, head_len, payload_len, check = _PREFIX.unpack_from(view, start)
    if magic != MAGIC:
        raise BadRecord(start, "it does not begin with the magic bytes")
    if head_len > MAX_HEADER_BYTES or payload_len > MAX_PAYLOAD_BYTES:
        raise BadRecord(start, f"lengths {head_len} and {payload_len} are beyond {MAX_HEADER_BYTES} and {MAX_PAYLOAD_BYTES}")
    body = start + PREFIX_BYTES
    end = body + head_len + payload_len
    if end > len(view):
        raise CutRecord(start, f"{len(view) - start} bytes left of {end - start}")
    head = view[body : body + head_len]
    payload = view[body + head_len : end]
    if zlib.crc32(payload, zlib.crc32(head, zlib.crc32(view[start : start + _CHECKED]))) != check:
        raise BadRecord(start, "the checksum does not match")
    if version not in VERSIONS:
        raise UnknownVersion(start, f"version {version}; this program knows versions up to {VERSIONS[-1]}")
    try:
        header = decoded(_decode_header[version], head)
    except msgspec.DecodeError as error:
        raise BadRecord(start, f"header: {error}") from None
    return Record(header, payload, start, end)


def decode_run(body: bytes | memoryview) -> Iterator[Record]:
    """The records of a run, in order. Raises as `decode_record` at the first bad one."""
    at = 0
    while at < len(body):
        record = decode_record(body, at)
        yield record
        at = record.end


def encode_completed(ids: tuple[str, ...]) -> bytes:
    """Payload of a `COMPLETED` record, before compression."""
    return _encode_losses(ids)


def decode_completed(raw: bytes) -> tuple[str, ...]:
    """Raises msgspec.DecodeError for anything but what `encode_completed` makes."""
    return decoded(_decode_completed, raw)


def encode_losses(losses: tuple[Loss, ...]) -> bytes:
    """Payload of a `LOSS` record, before compression."""
    return _encode_losses(losses)


def decode_losses(raw: bytes) -> tuple[Loss, ...]:
    """Raises msgspec.DecodeError for anything but what `encode_losses` makes."""
    return decoded(_decode_losses, raw)


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Payload of a `HEARTBEAT` record, before compression."""
    return _encode_heartbeat(heartbeat)


def decode_heartbeat(raw: bytes) -> Heartbeat:
    """Raises msgspec.DecodeError for anything but what `encode_heartbeat` makes."""
    return decoded(_decode_heartbeat, raw)


def event_id(file_id: str, offset: int, event: bytes | memoryview) -> str:
    """The external_id of the event whose bytes (without the line end) are ``event``."""
    return f"{file_id}-{offset:0{OFFSET_DIGITS}x}-{zlib.crc32(event):08x}"
