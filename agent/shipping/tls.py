"""TLS as the configuration wants it: whom to trust, and what to show for ourselves."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from agent.config import Collector


_AUTHORITIES = "SSL_CERT_FILE"
"""Names the file of all authorities for OpenSSL; whoever runs the agent may have set it."""


@contextmanager
def without_authorities() -> Iterator[None]:
    """A context made in here trusts nobody: reading all authorities takes 20 ms and a megabyte."""
    before = os.environ.get(_AUTHORITIES)
    os.environ[_AUTHORITIES] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[_AUTHORITIES]
        else:
            os.environ[_AUTHORITIES] = before


def context(settings: Collector, urls: Iterable[str]) -> ssl.SSLContext | None:
    """A context for all requests; None where none of ``urls`` (of collectors, and of proxies on the way) needs one. Raises
    OSError (ssl.SSLError is one) when a file cannot be used."""
    if not (settings.ca_file or settings.cert_file or any(urlsplit(url).scheme == "https" for url in urls)):
        return None
    made = ssl.create_default_context(cafile=settings.ca_file or None)
    show(made, settings)
    return made


def show(made: ssl.SSLContext, settings: Collector) -> None:
    """Load the agent's own certificate, if it has one. Never into a context in use: half of a pair would take the key away."""
    if settings.cert_file:
        made.load_cert_chain(settings.cert_file, settings.key_file or None)


def faults(settings: Collector) -> list[str]:
    """What is wrong with the files named, each with its mend."""
    found = []
    if settings.ca_file:
        try:
            ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:
            found.append(
                f"collector.ca_file: {settings.ca_file}: {_reason(error)}; it must be a readable file of certificates (PEM)"
            )
    if settings.cert_file:
        try:
            show(ssl.create_default_context(), settings)
        except OSError as error:
            files = f"{settings.cert_file} and {settings.key_file}" if settings.key_file else settings.cert_file
            found.append(f"collector.cert_file: {files}: {_reason(error)}; they must be a certificate and its key (PEM)")
    return found


def _reason(error: OSError) -> str:
    return "not usable" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
