"""The agent's configuration: one YAML file, one tree of types, every default in its type.

How YAML becomes the tree, and how faults are worded, is in `agent.settings`. Rules between fields are checked once, here,
before anything is opened. ``api_key_file`` is read at load.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from agent import patterns, settings, timeformats, wire
from agent.errors import ConfigError
from agent.shipping import tls
from agent.text import pathlabels

MIB = 1 << 20
MIN_SEGMENTS = 4
"""The spool frees whole segments: with fewer than this it would stop while most of it is acked."""
MIN_SPOOL_BYTES = 4 * MIB
DIRECT = "direct"
_TOO_LONG = f"a collector takes at most {wire.MAX_TEXT_BYTES}; shorten it"
MEMORY_PER_RUN = 6
"""A run in flight takes its bytes, the request body, and the answer with some room to spare."""

BEGINNING, END, SINCE = "beginning", "end", "since "
RETENTION, NEVER = "retention", "never"

MIN_KEY_CHARS = 16
"""Of a key for hashes: a shorter one can be guessed."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Bytes = Annotated[int, msgspec.Meta(ge=1024)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Collector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "http://127.0.0.1:8080"
    urls: tuple[str, ...] = ()
    """Further collectors of the same tenants, asked in this order while those before do not answer."""
    api_key: str = ""
    api_key_file: str = ""
    ca_file: str = ""
    """Certificates to trust instead of the system's, PEM."""
    cert_file: str = ""
    """The agent's own certificate, PEM, for collectors that ask for one."""
    key_file: str = ""
    """Its key; empty: it is in ``cert_file``."""
    proxy: str = ""
    """Empty: as the environment says. `DIRECT`: none."""
    bandwidth_limit_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    """0: no limit."""
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=32)] = 4
    run_bytes: Annotated[int, msgspec.Meta(ge=65536, le=8 * MIB)] = MIB
    """About how much one request carries, compressed."""
    request_timeout_s: Seconds = 60.0


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a line with names (json, logfmt, regex) keeps what every event has; names are tried in this order."""

    time: tuple[str, ...] = wire.Fields().time
    level: tuple[str, ...] = wire.Fields().level
    message: tuple[str, ...] = wire.Fields().message


class Multiline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines are one event: a preset, or one of the two patterns; none of them: each line is."""

    preset: Literal["", "python", "java", "go", "dotnet", "ruby"] = ""
    start: str = ""
    """A line in which this is found begins an event."""
    continuation: str = ""
    """A line in which this is found goes on with the event before it."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 5.0
    """After so long without a new line the last event counts as complete."""
    max_lines: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 500


class Redact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is replaced before it is written anywhere."""

    presets: tuple[Literal["email", "card", "bearer", "ip"], ...] = ()
    patterns: dict[str, str] = {}
    """By the name that stands there instead; with a group, only what the first group matches."""
    action: Literal["mask", "hash"] = "mask"
    key: str = ""
    """For ``hash``: without it nobody can try values against the hashes."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    """Part of every event's ID: renaming a source is fine while the state is kept, and means new IDs without it."""
    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    olddir: str | tuple[str, ...] = ()
    """Folders in which a rotation puts files, besides their own; relative to it, or absolute."""
    service: str = ""
    """Empty: the source's name."""
    format: Literal["raw", "json", "logfmt", "clf", "combined", "syslog", "klog", "regex", "auto"] = "raw"
    fields: Fields = Fields()
    pattern: str = ""
    """Of the format ``regex``: with named groups; see `agent.patterns`."""
    time_format: str = timeformats.AUTO
    """How times are written in json, logfmt and regex; see `agent.timeformats`."""
    time_zone: str = ""
    """Of times that do not tell theirs; empty: UTC."""
    labels: dict[str, str] = {}
    labels_file: str = ""
    """More of them, ``key="value"`` a line, as Kubernetes' downward API writes them; see `agent.text.labels`."""
    path_labels: tuple[str, ...] = ()
    """More of them: patterns that take a file's path apart; see `agent.text.pathlabels`."""
    encoding: str = "utf-8"
    container: Literal["", "cri", "docker"] = ""
    multiline: Multiline = Multiline()
    include_lines: tuple[str, ...] = ()
    """Patterns; only events in which one of them is found are sent. Empty: all."""
    exclude_lines: tuple[str, ...] = ()
    sample: dict[Literal["debug", "info", "warning", "error", "critical"], Annotated[int, msgspec.Meta(ge=1)]] = {}
    """Of events with this severity one in so many is sent."""
    redact: Redact = Redact()
    max_line_bytes: Annotated[int, msgspec.Meta(ge=1024, le=MIB)] = MIB
    start: str = ""
    """As `Config.start`, for this source; empty: as there."""
    ignore_older: str = RETENTION
    """Files that nobody wrote to for longer are not opened: a duration, `RETENTION`, or `NEVER`."""
    identity: Literal["content", "instance"] = "content"
    """``instance``: what tells files apart is the inode and its generation, so that equal bytes are two files."""

    @property
    def olddirs(self) -> tuple[str, ...]:
        return (self.olddir,) if isinstance(self.olddir, str) else self.olddir


class SpoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_bytes: Bytes = 1024 * MIB
    """When it is full the agent stops reading; the sources hold the data."""
    segment_bytes: Bytes = 16 * MIB
    policy: Literal["block", "drop_oldest"] = "block"
    """What happens when it is full: ``drop_oldest`` gives up what was not sent yet, oldest first, and tells the loss."""
    fsync: Literal["interval", "always", "never"] = "interval"
    fsync_interval_s: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str = ""
    """host:port for /metrics and /healthz; empty: none."""
    max_lag_s: Seconds = 300.0
    """Older than this, the oldest byte that is not acknowledged makes the health red."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: tuple[Source, ...]
    collector: Collector = Collector()
    state_dir: str = "/var/lib/pulsestream-agent"
    scope: str = ""
    scope_file: str = ""
    """A file on the logs' own volume that holds it; a start makes it. See `agent.scope`."""
    name: str = ""
    """A label for people; empty: the host's name."""
    flush_interval_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.2
    rescan_interval_s: Seconds = 10.0
    """How often the globs are walked although no notice came."""
    polling: bool = False
    """For file systems that give no notices (NFS): look at every file each `flush_interval_s`."""
    max_memory_bytes: Annotated[int, msgspec.Meta(ge=16 * MIB)] = 48 * MIB
    """What reading and sending may hold at once, besides the program itself."""
    max_open_files: Annotated[int, msgspec.Meta(ge=8, le=100_000)] = 256
    shutdown_timeout_s: Seconds = 20.0
    shutdown_quiet_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    """On SIGTERM the files are watched until nothing was added for so long: an app that is ending still writes."""
    shutdown_partial: bool = True
    """Last lines without their ends leave then, as they stand."""
    heartbeat_interval_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 30.0
    """How often the collector is told how this agent is doing; 0: never."""
    start: str = BEGINNING
    """Of files that are there when a source is read for the first time: `BEGINNING`, `END`, or since and a duration."""
    held_bytes: Bytes = 1024 * MIB
    """What deleted files may take on disk that only the agent's handles keep."""
    min_free_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * MIB
    """Below this much free space, or 5 % of a smaller file system, deleted files are let go and the spool grows no more."""
    spool: SpoolConfig = SpoolConfig()
    metrics: Metrics = Metrics()
    log: Log = Log()


def parse(text: str, *, where: str, env: Mapping[str, str]) -> Config:
    """The configuration that ``text`` (YAML) describes. Raises ConfigError naming every fault."""
    try:
        return settings.parse(Config, text, where=where, env=env, rules=_rules)
    except settings.SettingsError as error:
        raise ConfigError(str(error)) from None


def load(path: str | Path, env: Mapping[str, str] | None = None) -> Config:
    """Read and check the file at ``path``, and the key file it names. Raises ConfigError."""
    try:
        config = parse(settings.read_text(path), where=str(path), env=os.environ if env is None else env)
        if config.collector.api_key_file:
            key = settings.read_secret(config.collector.api_key_file, f"{path}: collector.api_key_file")
            config = msgspec.structs.replace(config, collector=msgspec.structs.replace(config.collector, api_key=key))
    except settings.SettingsError as error:
        raise ConfigError(str(error)) from None
    if found := tls.faults(config.collector):
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in found))
    return config


def runs_in_flight(config: Config) -> int:
    """How many requests fit into ``max_memory_bytes`` at once; at least one, at most ``max_in_flight``."""
    fit = config.max_memory_bytes // (config.collector.run_bytes * MEMORY_PER_RUN)
    return max(1, min(config.collector.max_in_flight, fit))


def _rules(config: Config) -> Iterator[str]:
    """What no single field can say."""
    if not config.sources:
        yield "sources: is empty; name at least one, with `name` and `include`"
    names = [source.name for source in config.sources]
    for n, source in enumerate(config.sources):
        if source.name in names[:n]:
            yield f"sources[{n}].name: {source.name!r} is there twice; names tell sources apart"
        if not source.include:
            yield f"sources[{n}].include: is empty; give at least one path or pattern"
        for pattern in (*source.include, *source.exclude):
            if not pattern.startswith("/"):
                yield f"sources[{n}]: {pattern!r} is not absolute; write the whole path, the agent's own folder may change"
        for fault in (
            *_start_faults("start", source.start or BEGINNING),
            *_older_faults(source),
            *_shape_rules(source),
            *_format_faults(source),
        ):
            yield f"sources[{n}].{fault}"
    yield from _start_faults("start", config.start)
    if config.scope and config.scope_file:
        yield "scope and scope_file are both set; keep one"
    if config.scope_file and not config.scope_file.startswith("/"):
        yield f"scope_file: {config.scope_file!r} is not absolute; write the whole path, the agent's own folder may change"
    yield from _refused_texts(config)
    yield from _url_faults("collector.url", config.collector.url, "http://collector:8080")
    for n, text in enumerate(config.collector.urls):
        yield from _url_faults(f"collector.urls[{n}]", text, "http://collector-2:8080")
    if config.collector.proxy not in ("", DIRECT):
        proxy = settings.url_of(config.collector.proxy)
        if proxy.scheme != "http" or not proxy.hostname:
            yield "collector.proxy: is no http URL; write for instance http://proxy:3128, or direct for none"
    host, colon, port = config.metrics.listen.rpartition(":")
    if config.metrics.listen and not (host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
        yield f"metrics.listen: {config.metrics.listen!r} is no address; write for instance 127.0.0.1:9184"
    if config.collector.key_file and not config.collector.cert_file:
        yield "collector.key_file: is there without collector.cert_file; name the certificate, too"
    if config.collector.api_key and config.collector.api_key_file:
        yield "collector.api_key and collector.api_key_file are both set; keep one (the file is the safer one)"
    spool = config.spool
    if spool.max_bytes < MIN_SPOOL_BYTES:
        yield f"spool.max_bytes is {spool.max_bytes}; it must hold a few blocks: at least {MIN_SPOOL_BYTES}"
    if spool.max_bytes < spool.segment_bytes * MIN_SEGMENTS:
        yield (
            f"spool.max_bytes is {spool.max_bytes}, below {MIN_SEGMENTS} times spool.segment_bytes {spool.segment_bytes}; "
            "raise max_bytes or lower segment_bytes"
        )


def _url_faults(place: str, text: str, example: str) -> Iterator[str]:
    url = settings.url_of(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        yield f"{place}: {text!r} is no http(s) URL; write for instance {example}"
    elif url.username or url.password:
        yield f"{place}: carries a user or password; use collector.api_key_file (URLs end up in logs)"


def since_s(start: str) -> float | None:
    """How old files may be that a `start` reads from their beginning; None where it says nothing of ages."""
    return settings.duration_s(start.removeprefix(SINCE)) if start.startswith(SINCE) else None


def _start_faults(place: str, start: str) -> Iterator[str]:
    if start not in (BEGINNING, END) and since_s(start) is None:
        yield f"{place}: {start!r} is no start; write beginning, end, or since and a duration, for instance: since 24h"


def _older_faults(source: Source) -> Iterator[str]:
    if source.ignore_older not in (RETENTION, NEVER) and not settings.duration_s(source.ignore_older):
        yield f"ignore_older: {source.ignore_older!r} is no age; write retention, never, or a duration, for instance 30d"


def _refused_texts(config: Config) -> Iterator[str]:
    """Names and labels with which a collector would refuse every record."""
    texts = {"name": config.name, "scope": config.scope}
    for n, source in enumerate(config.sources):
        texts |= {f"sources[{n}].name": source.name, f"sources[{n}].service": source.service}
        if len(source.labels) > wire.MAX_LABELS:
            yield f"sources[{n}].labels: there are {len(source.labels)}, a collector takes at most {wire.MAX_LABELS}; drop some"
        for key, value in source.labels.items():
            if (length := len(key.encode())) > wire.MAX_TEXT_BYTES:
                yield f"sources[{n}].labels: the name {key[:40]!r} has {length} bytes; {_TOO_LONG}"
            texts[f"sources[{n}].labels.{key[:40]}"] = value
        for fault in pathlabels.faults(source.path_labels, room=max(0, wire.MAX_LABELS - len(source.labels))):
            yield f"sources[{n}].path_labels: {fault}"
    for place, text in texts.items():
        if (length := len(text.encode())) > wire.MAX_TEXT_BYTES:
            yield f"{place}: has {length} bytes, {_TOO_LONG}"


def _shape_rules(source: Source) -> Iterator[str]:
    """What can be wrong with how a source's lines are to be transformed."""
    patterns = {"include_lines": source.include_lines, "exclude_lines": source.exclude_lines}
    lines, redact = source.multiline, source.redact
    if sum(map(bool, (lines.preset, lines.start, lines.continuation))) > 1:
        yield "multiline: give one of preset, start and continuation"
    patterns |= {"multiline.start": (lines.start,), "multiline.continuation": (lines.continuation,)}
    patterns |= {f"redact.patterns.{name}": (text,) for name, text in redact.patterns.items()}
    if redact.action == "hash" and len(redact.key) < MIN_KEY_CHARS:
        yield f"redact.key: has {len(redact.key)} characters; hash needs a secret of at least {MIN_KEY_CHARS}"
    for name, texts in patterns.items():
        for text in texts:
            try:
                re.compile(text.encode())
            except re.error as error:
                yield f"{name}: {text!r} is no regular expression: {error}"
    if not _can_be_read(source.encoding):
        yield (
            f"encoding: {source.encoding!r} is not one that can be read line by line; utf-8, utf-16, utf-16-le, utf-16-be, "
            "latin-1, the windows-125x and the usual ones of East Asia can"
        )


_OWN_TIMES = frozenset((wire.RAW, wire.CLF, wire.COMBINED, wire.SYSLOG, wire.KLOG))
"""Formats that say themselves how a time is written, or have none."""


def _format_faults(source: Source) -> Iterator[str]:
    """What can be wrong with how a source's lines are to be taken apart."""
    if source.format == wire.REGEX and not source.pattern:
        yield "pattern: is missing; the format regex needs one with named groups, like '^(?P<time>\\S+) (?P<message>.*)'"
    elif source.format != wire.REGEX and source.pattern:
        yield f"pattern: is only used by the format regex, and format is {source.format}; drop one of the two"
    elif source.pattern:
        try:
            patterns.groups_of(source.pattern)
        except patterns.BadPattern as fault:
            yield f"pattern: {fault}"
    try:
        timeformats.time_format(source.time_format)
    except timeformats.BadTimeFormat as fault:
        yield f"time_format: {fault}"
    if source.time_format != timeformats.AUTO and source.format in _OWN_TIMES:
        yield f"time_format: is for json, logfmt and regex; {source.format} has times of its own or none: drop it"
    try:
        timeformats.zone(source.time_zone)
    except timeformats.BadTimeFormat as fault:
        yield f"time_zone: {fault}"
    if source.time_zone and source.format == wire.RAW:
        yield "time_zone: raw lines have no times; drop it, or name the format"


def _can_be_read(encoding: str) -> bool:
    """Whether a newline is one byte 10, in any state, or the encoding is one that `agent.text.shape` knows besides."""
    if encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        return True
    try:
        return "a\n".encode(encoding) == b"a\n" and not encoding.lower().replace("-", "_").startswith(
            ("iso2022", "iso_2022", "hz", "utf_7", "utf7")
        )
    except (LookupError, UnicodeError):
        return False
