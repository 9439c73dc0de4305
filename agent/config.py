"""The agent's configuration: one YAML file, one tree of types, every default in its type.

How YAML becomes the tree, and how faults are worded, is in `agent.settings`. Rules between fields are checked once, here,
before anything is opened. ``api_key_file`` is read at load.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from agent import settings, wire
from agent.errors import ConfigError

MIB = 1 << 20
MIN_SEGMENTS = 4
"""The spool frees whole segments: with fewer than this it would stop while most of it is acked."""
MIN_SPOOL_BYTES = 4 * MIB
MEMORY_PER_RUN = 6
"""A run in flight takes its bytes, the request body, and the answer with some room to spare."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Bytes = Annotated[int, msgspec.Meta(ge=1024)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Collector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "http://127.0.0.1:8080"
    api_key: str = ""
    api_key_file: str = ""
    ca_file: str = ""
    """Certificates to trust instead of the system's, PEM."""
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=32)] = 4
    run_bytes: Annotated[int, msgspec.Meta(ge=65536, le=8 * MIB)] = MIB
    """About how much one request carries, compressed."""
    request_timeout_s: Seconds = 60.0


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a JSON line keeps what every event has; names are tried in this order."""

    time: tuple[str, ...] = wire.Fields().time
    level: tuple[str, ...] = wire.Fields().level
    message: tuple[str, ...] = wire.Fields().message


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    """Part of every event's ID: renaming a source is fine while the state is kept, and means new IDs without it."""
    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    service: str = ""
    """Empty: the source's name."""
    format: Literal["raw", "json"] = "raw"
    fields: Fields = Fields()
    labels: dict[str, str] = {}


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


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: tuple[Source, ...]
    collector: Collector = Collector()
    state_dir: str = "/var/lib/pulsestream-agent"
    scope: str = ""
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
    heartbeat_interval_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 30.0
    """How often the collector is told how this agent is doing; 0: never."""
    spool: SpoolConfig = SpoolConfig()
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
    url = settings.url_of(config.collector.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        yield f"collector.url: {config.collector.url!r} is no http(s) URL; write for instance http://collector:8080"
    elif url.username or url.password:
        yield "collector.url: carries a user or password; use collector.api_key_file (URLs end up in logs)"
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
