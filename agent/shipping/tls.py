"""TLS as the configuration wants it: whom to trust, and what to show for ourselves."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config import Collector


def context(settings: Collector) -> ssl.SSLContext | None:
    """A context for requests to the collector; None where the usual one will do. Raises OSError (ssl.SSLError is one) when a
    file cannot be used."""
    if not settings.ca_file and not settings.cert_file:
        return None
    made = ssl.create_default_context(cafile=settings.ca_file or None)
    show(made, settings)
    return made


def show(made: ssl.SSLContext, settings: Collector) -> None:
    """Load the agent's own certificate, if it has one: into a context in use for the connections from now on."""
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
