"""TLS of the collector itself: its certificate, those of its clients, and what happens when the files change.

- Each connection is of the files as they were when it began. The files are looked at every `LOOK_S`; changed ones count for
  new connections once they have stood still for one look (a pair is often written one file after the other), and old
  connections go on as they are.
- A new pair that cannot be used (no PEM, a key of another certificate, an empty authority) is refused and logged, and the
  old one stays in force; at the start it ends the start. Nothing of a refused pair is used: each is tried in a context of
  its own.
- With ``client_ca_file`` a client certificate is checked against these authorities. ``required``: without one there is no
  connection. ``required_except_probes``: the connection stands, and anything but /healthz, /readyz and /metrics is answered
  403 (an orchestrator's probes have no certificate). ``optional``: one that is shown must be good.
- Sessions are not resumed over a change of the files, so an authority that was taken out lets nobody in any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from collector.config import Tls
from collector.errors import CertificateNeeded, ConfigError
from collector.metrics import Metrics
from collector.serving import certificates

log = logging.getLogger(__name__)

LOOK_S = 1.0
DAY_S = 86_400.0
SOON_S = 14 * DAY_S
"""A certificate with less than that left is warned of."""
PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
"""What is asked by machines of the orchestrator's, which have no certificate."""
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_client_certificate",
    "CERTIFICATE_VERIFY_FAILED": "bad_client_certificate",
    "UNSUPPORTED_PROTOCOL": "version",
    "HTTP_REQUEST": "no_tls",
    "WRONG_VERSION_NUMBER": "no_tls",
}


class Certificates:
    """The files of ``server.tls``, and the context that a server listens with.

    Raises:
        ConfigError: when made, if the files cannot be used.
    """

    def __init__(self, settings: Tls, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.context = _Context(ssl.PROTOCOL_TLS_SERVER)
        self._tried = self._seen = self._look()
        self.context.current = made(settings, metrics)
        self._note()

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Whether the files have changed, and stood still since."""
        seen, before = self._look(), self._seen
        self._seen = seen
        if seen != before or seen == self._tried:
            return
        self._tried = seen
        try:
            context = made(self._settings, self._metrics)
        except ConfigError as error:
            log.error("server.tls: the changed files cannot be used, the certificate before them stays: %s", error)
            self._metrics.tls_reload("refused")
            return
        self.context.current = context
        self._metrics.tls_reload("ok")
        log.info("server.tls: the files were read again; new connections use them")
        self._note()

    def _look(self) -> tuple[object, ...]:
        settings = self._settings
        return tuple(_state(path) for path in (settings.cert_file, settings.key_file, settings.client_ca_file))

    def _note(self) -> None:
        """When the certificate ends."""
        chain = certificates.certificates_in(_text(self._settings.cert_file))
        ends_s = min((one.ends_s for one in chain), default=0.0)
        self._metrics.tls_ends.set(ends_s)
        if (left_s := ends_s - time.time()) < SOON_S:
            until = datetime.fromtimestamp(ends_s, UTC).isoformat(sep=" ")
            word = "has ended" if left_s <= 0 else "ends soon"
            log.warning("server.tls.cert_file: %s %s (%s); put a new one there", self._settings.cert_file, word, until)


class _Context(ssl.SSLContext):
    """What a server is given once, while `current` changes: each new connection is one of `current`, with all that is in it.

    Loading files into a context in use cannot take back an authority, nor a certificate whose key turns out wrong.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*given, **named)


def made(settings: Tls, metrics: Metrics | None = None) -> ssl.SSLContext:
    """A context of the files as they are now. Raises ConfigError, which names the file and the mend."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    key_file = settings.key_file or settings.cert_file
    for field, path in (("cert_file", settings.cert_file), ("key_file", key_file)):
        _text(path, field)
    try:
        # Without a text to ask for one, OpenSSL would ask at the terminal.
        context.load_cert_chain(settings.cert_file, key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        why = (
            "the key is of another certificate"
            if "MISMATCH" in str(error)
            else "no certificate with its key, without a password"
        )
        raise ConfigError(
            f"server.tls.cert_file: {settings.cert_file} and {key_file}: {why}; they must be a certificate (the chain "
            "behind it) and its key, PEM"
        ) from None
    if settings.client_ca_file:
        _trust(context, settings)
    if metrics is not None:
        context.sslobject_class = _counting(metrics)
    return context


def to_ourselves(settings: Tls) -> ssl.SSLContext | bool:
    """For asking the collector of the same configuration: its own certificate is trusted, whatever host it names, and shown
    as the client's. Without one: as for any other address."""
    if not settings.cert_file:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(settings.cert_file)
        context.load_cert_chain(settings.cert_file, settings.key_file or None, password="")
    except (OSError, ValueError):
        return True  # whoever asks says then that the certificate is not trusted
    return context


def _trust(context: ssl.SSLContext, settings: Tls) -> None:
    path = settings.client_ca_file
    _text(path, "client_ca_file")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(
            f"server.tls.client_ca_file: {path}: no certificates in it; it must be a PEM file of authorities"
        ) from None
    if settings.client_certificates == "required":
        context.verify_mode = ssl.CERT_REQUIRED
    else:
        context.verify_mode = ssl.CERT_OPTIONAL


def _counting(metrics: Metrics) -> type[ssl.SSLObject]:
    class Counted(ssl.SSLObject):
        """Tells of handshakes that fail: the event loop does not, and an operator has to know whom nobody lets in."""

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError):
                raise
            except ssl.SSLError as error:
                reason = _REASONS.get(error.reason or "", "other")
                metrics.tls_failures.labels(reason).inc()
                log.info("a TLS handshake failed: %s (%s)", reason, (error.reason or "unknown").lower())
                raise

    return Counted


@web.middleware
async def certified(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """For ``required_except_probes``: refuse who has shown no certificate."""
    if request.path not in PROBES and not shown(request):
        raise CertificateNeeded(
            "this collector takes requests with a client certificate only; set collector.cert_file and key_file of the agent "
            "(curl: --cert, --key) to one of its authority"
        )
    return await handler(request)


def shown(request: web.Request) -> str:
    """The common name of the client's certificate, or what else its subject says first; empty without one."""
    transport = request.transport
    told = transport.get_extra_info("peercert") if transport is not None else None
    if not told:
        return ""
    subject = {name: value for part in told.get("subject", ()) for name, value in part}
    return str(subject.get("commonName") or next(iter(subject.values()), "") or "(no subject)")


def _state(path: str) -> object:
    """Changes with the file; Kubernetes swaps a link above it."""
    if not path:
        return None
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _text(path: str, field: str = "cert_file") -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"server.tls.{field}: {path} cannot be read: {error.strerror}; check the path and its mode") from None
    except ValueError:
        raise ConfigError(f"server.tls.{field}: {path} is not PEM; it must be text") from None
