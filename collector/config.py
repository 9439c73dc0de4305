"""The collector's configuration: one YAML file, one tree of types, every default in its type.

How YAML becomes the tree, and how faults are worded, is in `agent.settings`. Secret files (``password_file`` and others) are
read once, at load. `parse` is pure; `load` reads. Rules between fields are checked here, once, before anything is opened.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from agent import settings
from collector.errors import ConfigError

MIB = 1 << 20
MIN_ADMIN_TOKEN_CHARS = 16
"""The admin token makes tenants; a shorter one could be guessed."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Bytes = Annotated[int, msgspec.Meta(ge=1024)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]
Rate = Annotated[int, msgspec.Meta(ge=1, le=1 << 50)]
RateOrSame = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files are read again when they change; see `collector.serving.tls`."""

    cert_file: str = ""
    """The certificate and the chain behind it, PEM; empty: no TLS."""
    key_file: str = ""
    """Its key; empty: it is in ``cert_file``."""
    client_ca_file: str = ""
    """Authorities of client certificates, PEM; empty: none are asked for."""
    client_certificates: Literal["required", "required_except_probes", "optional"] = "required"
    min_version: Literal["1.2", "1.3"] = "1.2"


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Port = 8080
    """0 lets the system choose; the ready line says which."""
    max_request_bytes: Bytes = 16 * MIB
    """Longest body as sent. A longer one is answered 413 without being read."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Processes on the port, each a whole collector; for a served engine only."""
    shutdown_timeout_s: Seconds = 20.0
    header_timeout_s: Seconds = 75.0
    """A connection on which no whole request arrived for so long is closed."""
    tls: Tls = Tls()
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) of proxies whose word on the client's address and scheme is taken."""
    proxy_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The one that these proxies write."""


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "chdb:///var/lib/pulsestream/store"
    database: Annotated[str, msgspec.Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,62}\\Z")] = "pulsestream"
    user: str = "default"
    password: str = ""
    password_file: str = ""
    ca_file: str = ""
    """Authorities of an https server's certificate, PEM, beside the system's."""
    connect_timeout_s: Seconds = 2.0
    query_timeout_s: Seconds = 30.0
    readers: Annotated[int, msgspec.Meta(ge=2, le=64)] = 4
    """Queries at once; more wait. One is kept for the collector's own: keys, duplicates, readiness."""
    max_query_memory_bytes: Annotated[int, msgspec.Meta(ge=16 * MIB)] = 1024 * MIB
    max_query_rows: Count = 1_000_000_000
    """Rows one query may read, not return."""
    max_query_threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 2
    min_free_disk_ratio: Ratio = 0.02
    """Below it inserts are refused (503) while reads go on."""
    index_words: bool = True
    """Build the index of words of weeks that are over, in the background."""


class WriterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    commit_interval_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.1
    """From the start of one commit to the start of the next, at least."""
    commit_bytes: Bytes = 8 * MIB
    """Raw bytes that start a commit at once, and that one commit holds at most."""
    queue_bytes: Bytes = 64 * MIB
    """Raw bytes that may wait; beyond that callers get 503."""
    tenant_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25
    """The part of ``queue_bytes`` that one tenant may fill."""
    retry_after_s: Seconds = 1.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one tenant may do. Kept as JSON in the tenant's row: new fields go at the end with a default."""

    retention_days: Days = 30
    max_request_bytes: Bytes = 16 * MIB
    concurrent_queries: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    events_per_minute: Rate = 60_000_000
    """So much that nobody meets it by accident: a tenant's own limit is set on purpose."""
    events_burst: RateOrSame = 0
    """What may come at once after a quiet time; 0: as many as per minute."""
    bytes_per_minute: Rate = 16 * 1024 * MIB
    bytes_burst: RateOrSame = 0
    events_per_month: RateOrSame = 0
    """Of a calendar month, UTC; 0: no limit."""
    max_event_bytes: Bytes = 8 * MIB
    """Longest single event of the JSON API."""
    max_batch_events: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 10_000
    concurrent_requests: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    """Under way at once, in each process of a collector."""
    on_limit: Literal["partial", "refuse"] = "partial"
    """A JSON batch above the rate: take what fits, or refuse all of it."""
    max_query_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0
    """Bounds on one query; 0, or more than the collector's own (in ``store``): the collector's own."""
    max_query_memory_bytes: RateOrSame = 0
    max_query_rows: RateOrSame = 0


class Streams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers that go on. Numbers are of each process; one tenant may have half of them."""

    max_exports: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    """At once; each keeps a page of events in memory."""
    max_tails: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512
    tail_buffer_bytes: Bytes = 256 * 1024
    """Of events that wait for one tail's reader; more is read for it as it takes them."""
    tail_grace_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0
    """How long a slow reader may be behind; then it misses what it has not had, and is told how much."""
    heartbeat_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 15.0
    """On a tail on which nothing comes."""


class QuotaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the tenants' budgets are counted."""

    redis_url: str = ""
    """Empty: in the memory of this collector. Else redis://host:port/number (rediss:// with TLS), shared by all."""
    redis_password: str = ""
    redis_password_file: str = ""
    redis_ca_file: str = ""
    """Authorities of its certificate, PEM, instead of the system's; for rediss://."""
    redis_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.25
    """An answer later than this counts as none."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    """Collectors that share the load. Without Redis, and while it is away, each allows its part of every rate."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: Server = Server()
    store: StoreConfig = StoreConfig()
    writer: WriterConfig = WriterConfig()
    default_limits: Limits = Limits()
    quota: QuotaConfig = QuotaConfig()
    streams: Streams = Streams()
    tenants_file: str = ""
    """Tenants and hashes of their keys, kept by hand or in Git; see `collector.tenants.tenants_file`."""
    admin_token: str = ""
    admin_token_file: str = ""
    log: Log = Log()


_SECRETS = (
    ("admin_token", "admin_token_file"),
    ("store.password", "store.password_file"),
    ("quota.redis_password", "quota.redis_password_file"),
)


def parse(text: str, *, where: str, env: Mapping[str, str]) -> Config:
    """The configuration that ``text`` (YAML) describes.

    Args:
        where: name of the file, for messages.
        env: the environment for ``${NAME}``.

    Raises:
        ConfigError: one line per fault, each with the place, what is wrong and the mend.
    """
    try:
        return settings.parse(Config, text, where=where, env=env, rules=_all_rules)
    except settings.SettingsError as error:
        raise ConfigError(str(error)) from None


def load(path: str | Path, env: Mapping[str, str] | None = None) -> Config:
    """Read and check the file at ``path``, and the secret files it names. Raises ConfigError."""
    try:
        text = settings.read_text(path)
    except settings.SettingsError as error:
        raise ConfigError(str(error)) from None
    return with_secrets(parse(text, where=str(path), env=os.environ if env is None else env), where=str(path))


def with_secrets(config: Config, *, where: str) -> Config:
    """``config`` with the contents of its ``*_file`` fields in the fields they stand for. Raises ConfigError."""
    if config.admin_token_file:
        token = read_secret(config.admin_token_file, f"{where}: admin_token_file")
        config = msgspec.structs.replace(config, admin_token=token)
    if config.store.password_file:
        password = read_secret(config.store.password_file, f"{where}: store.password_file")
        config = msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, password=password))
    if config.quota.redis_password_file:
        password = read_secret(config.quota.redis_password_file, f"{where}: quota.redis_password_file")
        config = msgspec.structs.replace(config, quota=msgspec.structs.replace(config.quota, redis_password=password))
    if config.admin_token and len(config.admin_token) < MIN_ADMIN_TOKEN_CHARS:
        raise ConfigError(
            f"{where}: admin_token has {len(config.admin_token)} characters; use at least {MIN_ADMIN_TOKEN_CHARS}, "
            "for instance from `openssl rand -hex 32`"
        )
    check_authorities(config.store.ca_file, f"{where}: store.ca_file")
    check_authorities(config.quota.redis_ca_file, f"{where}: quota.redis_ca_file")
    return config


def changed(config: Config, changes: Mapping[str, Mapping[str, Any]], *, where: str) -> Config:
    """``config`` with some settings of some sections replaced, and checked again. None means: as it is.

    Raises:
        ConfigError: as `parse`.
    """
    faults: list[str] = []
    for section, values in changes.items():
        given = {name: value for name, value in values.items() if value is not None}
        now = getattr(config, section)
        checked, wrong = settings.checked(type(now), given, at=section)
        faults += wrong
        config = msgspec.structs.replace(config, **{section: msgspec.structs.replace(now, **checked)})
    if not faults:
        faults.extend(_rules(config))
    if faults:
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in faults))
    return config


def read_secret(path: str, field: str) -> str:
    """The text of a secret file. Raises ConfigError; never quotes what is in it."""
    try:
        return settings.read_secret(path, field)
    except settings.SettingsError as error:
        raise ConfigError(str(error)) from None


def check_authorities(path: str, field: str) -> None:
    """Raises ConfigError when ``path``, if it is any, is no file of certificates."""
    if not path:
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        why = "not usable" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
        raise ConfigError(f"{field}: {path}: {why}; it must be a readable file of certificates (PEM)") from None


def _all_rules(config: Config) -> Iterator[str]:
    yield from _secret_rules(config)
    yield from _rules(config)


def _secret_rules(config: Config) -> Iterator[str]:
    for plain, from_file in _SECRETS:
        if _get(config, plain) and _get(config, from_file):
            yield f"{plain} and {from_file} are both set; keep one (the file is the safer one)"


def _rules(config: Config) -> Iterator[str]:
    """What no single field can say."""
    yield from _store_rules(config.store)
    yield from _quota_rules(config.quota)
    yield from _server_rules(config.server)
    if config.server.workers > 1 and settings.url_of(config.store.url).scheme == "chdb":
        yield (
            f"server.workers is {config.server.workers}, but store.url {config.store.url} is an engine inside one process; "
            "set server.workers to 1, or use a ClickHouse server (http://host:8123)"
        )
    if config.writer.commit_bytes > config.writer.queue_bytes:
        yield (
            f"writer.commit_bytes is {config.writer.commit_bytes}, above writer.queue_bytes "
            f"{config.writer.queue_bytes}; raise queue_bytes or lower commit_bytes"
        )
    if config.default_limits.max_request_bytes > config.server.max_request_bytes:
        yield (
            f"default_limits.max_request_bytes is {config.default_limits.max_request_bytes}, above "
            f"server.max_request_bytes {config.server.max_request_bytes}, which ends a request first; "
            "raise server.max_request_bytes or lower default_limits.max_request_bytes"
        )


def _server_rules(server: Server) -> Iterator[str]:
    tls = server.tls
    if not tls.cert_file:
        for name in ("key_file", "client_ca_file"):
            if getattr(tls, name):
                yield f"server.tls.{name} is set, but no server.tls.cert_file; name a certificate, or take {name} out"
    if tls.client_certificates != "required" and not tls.client_ca_file:
        yield (
            f"server.tls.client_certificates is {tls.client_certificates}, but no server.tls.client_ca_file says whose "
            "certificates are good; name it, or take client_certificates out"
        )
    for text in server.trusted_proxies:
        try:
            ip_network(text)
        except ValueError:
            yield f"server.trusted_proxies: {text!r} is no network; write for instance 10.0.0.0/8, or 10.1.2.3/32 for one proxy"


def _store_rules(store: StoreConfig) -> Iterator[str]:
    url = settings.url_of(store.url)
    if url.scheme not in ("chdb", "http", "https"):
        yield f"store.url: unknown scheme {url.scheme!r}; write chdb:///folder, http://host:8123 or https://host:8443"
    elif url.scheme == "chdb" and (url.netloc or not url.path.startswith("/") or url.path == "/"):
        yield (f"store.url: {store.url} names no absolute folder; write three slashes: chdb:///var/lib/pulsestream/store")
    elif url.scheme != "chdb" and not url.hostname:
        yield f"store.url: {url.scheme} URL without a host; write for instance http://clickhouse:8123"
    elif url.username or url.password:
        yield "store.url: carries a user or password; use store.user and store.password_file (URLs end up in logs)"
    if store.ca_file and url.scheme != "https":
        yield f"store.ca_file is set, but store.url {store.url} is not https; write https://host:8443, or take ca_file out"


def _quota_rules(quota: QuotaConfig) -> Iterator[str]:
    url = settings.url_of(quota.redis_url)
    if quota.redis_ca_file and url.scheme != "rediss":
        yield "quota.redis_ca_file is set, but quota.redis_url is not rediss://; write rediss://host:6379/0, or take it out"
    if not quota.redis_url:
        return
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        yield "quota.redis_url: expected redis://host:6379/0 (or rediss:// for TLS)"
    elif url.username or url.password:
        yield "quota.redis_url: carries a user or password; use quota.redis_password_file (URLs end up in logs)"


def _get(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
