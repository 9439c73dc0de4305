"""What can be looked at without the store: configuration, secrets, certificates, the disk, Redis."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from agent import settings
from collector.config import Config, StoreConfig
from collector.doctor.findings import Finding, error, ok, warning
from collector.errors import ConfigError
from collector.limits import buckets
from collector.serving import certificates, tls
from collector.tenants import tenants_file

CLOCK_WARN_S = 1.0
CLOCK_WRONG_S = 10.0
"""Between two machines: retention, expiry of keys and the times of search depend on it."""
_SYNC = "synchronise the clocks of both machines (chrony, systemd-timesyncd)"


def configured(config: Config) -> Iterator[Finding]:
    """What is allowed, and seldom meant."""
    server, store = config.server, settings.url_of(config.store.url)
    found = []
    if not _is_own(server.host) and not server.tls.cert_file and not server.trusted_proxies:
        mend = "set server.tls, or name the proxy that speaks TLS in front in server.trusted_proxies"
        found.append(warning("config", f"server.host {server.host}: keys and events come as plain HTTP", mend))
    if store.scheme == "http" and not _is_own(store.hostname or "") and config.store.password:
        mend = "use https:// (store.ca_file for an authority of your own)"
        found.append(warning("config", f"store.url {config.store.url}: the password goes over the network as it is", mend))
    if config.quota.replicas * server.workers > 1 and not config.quota.redis_url:
        parts = config.quota.replicas * server.workers
        mend = "set quota.redis_url if tenants are to have their whole rates over few connections"
        found.append(warning("config", f"without Redis each of {parts} processes allows 1/{parts} of every rate", mend))
    if config.store.min_free_disk_ratio <= 0:
        mend = "set store.min_free_disk_ratio, 0.02 for instance"
        found.append(warning("config", "inserts go on until the disk is full", mend))
    if not config.admin_token:
        found.append(ok("config", "no admin token: tenants are made on this machine only"))
    yield from found or [ok("config", "nothing unusual")]


def secrets(config: Config, path: str) -> Iterator[Finding]:
    """Who may read them. ``path``: the configuration file, if there is one."""
    quota, server = config.quota, config.server
    named = {
        "admin_token_file": config.admin_token_file,
        "store.password_file": config.store.password_file,
        "quota.redis_password_file": quota.redis_password_file,
        "server.tls.key_file": server.tls.key_file or server.tls.cert_file,
    }
    inside = [
        name
        for name, plain, file in (
            ("admin_token", config.admin_token, config.admin_token_file),
            ("store.password", config.store.password, config.store.password_file),
            ("quota.redis_password", quota.redis_password, quota.redis_password_file),
        )
        if plain and not file
    ]
    if path and inside:
        named[f"{path} (has {', '.join(inside)})"] = path
    open_to_all = {name: file for name, file in named.items() if file and _others_read(file)}
    for name, file in open_to_all.items():
        yield warning("secrets", f"{name}: every user of this machine can read {file}", f"chmod o-r {file}")
    if not open_to_all:
        yield ok("secrets", f"{sum(map(bool, named.values()))} files, none open to every user")


def tenants(config: Config) -> Iterator[Finding]:
    """The file of tenants, with whose faults no collector starts."""
    if not config.tenants_file:
        return
    try:
        wanted = tenants_file.load(config.tenants_file, config.default_limits, os.environ)
    except ConfigError as problem:
        yield error("tenants", f"tenants_file: {problem}", "mend the file: a collector does not start with it")
        return
    yield ok("tenants", f"tenants_file {config.tenants_file}: {len(wanted)} tenants")


def certified(config: Config, now_s: float | None = None) -> Iterator[Finding]:
    """Dates, chain and key of the certificate, and the authorities of clients."""
    told = config.server.tls
    if not told.cert_file:
        yield ok("tls", "the collector speaks plain HTTP")
        return
    try:
        tls.made(told)
        chain = certificates.certificates_in(Path(told.cert_file).read_text("utf-8"))
    except (ConfigError, OSError, ValueError) as problem:
        yield error("tls", str(problem), "put a certificate with its key there")
        return
    now_s = time.time() if now_s is None else now_s
    yield from (_dated("server.tls.cert_file", one, now_s) for one in chain)
    broken = certificates.unlinked(chain)
    if broken is not None:
        yield error(
            "tls",
            f"server.tls.cert_file: '{chain[broken].name}' is not by '{chain[broken + 1].name}', which stands behind it",
            "put the certificate first, then the one of its issuer, and so on",
        )
    if told.client_ca_file:
        authorities = certificates.certificates_in(Path(told.client_ca_file).read_text("utf-8"))
        yield from (_dated("server.tls.client_ca_file", one, now_s) for one in authorities)


def _dated(field: str, one: certificates.Certificate, now_s: float) -> Finding:
    ends, begins = (datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC") for at_s in (one.ends_s, one.begins_s))
    days = int((one.ends_s - now_s) / tls.DAY_S)
    mend = "put a new one there: it is read while the collector runs"
    if one.ends_s <= now_s:
        return error("tls", f"{field}: '{one.name}' has ended, {ends}", mend)
    if one.begins_s > now_s:
        return error("tls", f"{field}: '{one.name}' begins at {begins} only", "look at this machine's clock, or " + mend)
    if one.ends_s - now_s < tls.SOON_S:
        return warning("tls", f"{field}: '{one.name}' ends in {days} days, {ends}", mend)
    return ok("tls", f"{field}: '{one.name}' ends in {days} days, {ends}")


def disk(store: StoreConfig, free: tuple[int, int] | None = None) -> Finding:
    """Room for the embedded store. ``free``: bytes free, and in all; else looked up."""
    folder = Path(settings.url_of(store.url).path)
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    if free is None:
        usage = shutil.disk_usage(there)
        free = usage.free, usage.total
    if there == folder and not os.access(folder, os.W_OK | os.X_OK):
        return error("disk", f"{folder} may not be written by this user", "give it to the user that the collector runs as")
    if there != folder and not os.access(there, os.W_OK | os.X_OK):
        mend = (
            f"make it for the user that the collector runs as, or name another folder in store.url; {there} is not that user's"
        )
        return error("disk", f"{folder} is not there and cannot be made by this user", mend)
    return roomy(str(folder), free[0], free[1], store.min_free_disk_ratio)


def roomy(place: str, free: int, total: int, floor: float) -> Finding:
    ratio = free / total if total else 1.0
    said = f"{place}: {ratio:.1%} of {total / 1e9:,.0f} GB free, the floor is {floor:.1%}"
    mend = "make room, shorten retentions, or lower store.min_free_disk_ratio"
    if ratio <= floor:
        return error("disk", f"{said}: inserts are refused (503)", mend)
    if ratio <= max(2 * floor, floor + 0.03):
        return warning("disk", said, mend)
    return ok("disk", said)


async def redis(config: Config) -> AsyncIterator[Finding]:
    if not config.quota.redis_url:
        return
    place = f"quota.redis_url {config.quota.redis_url}"
    try:
        ahead_s = await buckets.examined(config.quota)
    except (ConfigError, buckets.Unshared) as problem:
        mend = "look at its address, password and authorities; until it answers each collector allows its part of every rate"
        yield error("redis", f"{place}: {problem}", mend)
        return
    yield clock("redis", f"{place} answers and runs the script; its clock", ahead_s)


def clock(check: str, whose: str, ahead_s: float) -> Finding:
    said = f"{whose} is {abs(ahead_s):.1f} s {'ahead of' if ahead_s >= 0 else 'behind'} this machine's"
    if abs(ahead_s) >= CLOCK_WRONG_S:
        return error(check, said, _SYNC)
    return warning(check, said, _SYNC) if abs(ahead_s) >= CLOCK_WARN_S else ok(check, said)


def _is_own(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _others_read(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False  # that it cannot be read is said where it is read
