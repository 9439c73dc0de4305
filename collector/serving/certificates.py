"""What a certificate says of itself: for whom, by whom, from when until when. Pure.

The standard library tells this of a peer's certificate only. The few fields needed are read from DER here (X.690; the
layout is RFC 5280, 4.1); signatures and extensions are for OpenSSL, which refuses what does not fit together.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION = 0xA0
_COMMON_NAME = bytes.fromhex("0603550403")


class Certificate(NamedTuple):
    """``subject`` and ``issuer`` are DER: two that are equal name the same."""

    subject: bytes
    issuer: bytes
    begins_s: float
    ends_s: float
    """Seconds since 1970."""
    name: str
    """The subject's common name, if it has one."""


def certificates_in(text: str) -> list[Certificate]:
    """Those in a PEM file, in their order. Raises ValueError for one that is none."""
    return [parsed(ssl.PEM_cert_to_DER_cert(block)) for block in _BLOCK.findall(text)]


def parsed(der: bytes) -> Certificate:
    """Raises ValueError."""
    try:
        _, at, _ = _item(der, 0)  # Certificate
        _, at, _ = _item(der, at)  # TBSCertificate
        tag, _, end = _item(der, at)
        if tag == _VERSION:
            _, _, end = _item(der, end)
        _, _, end = _item(der, end)  # signature algorithm, after the serial number
        issuer, end = _whole(der, end)
        _, at, validity_end = _item(der, end)
        begins_s, at = _time(der, at)
        ends_s, _ = _time(der, at)
        subject, _ = _whole(der, validity_end)
    except IndexError:
        raise ValueError("not a certificate: it ends too early") from None
    return Certificate(subject, issuer, begins_s, ends_s, _name(subject))


def unlinked(chain: list[Certificate]) -> int | None:
    """The place of the first that was not issued by the one behind it; None: each was."""
    for place in range(len(chain) - 1):
        if chain[place].issuer != chain[place + 1].subject:
            return place
    return None


def _item(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, and where the content at ``at`` begins and ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if start + length > len(der):
        raise IndexError
    return tag, start, start + length


def _whole(der: bytes, at: int) -> tuple[bytes, int]:
    _, _, end = _item(der, at)
    return der[at:end], end


def _time(der: bytes, at: int) -> tuple[float, int]:
    tag, start, end = _item(der, at)
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("not a certificate: no time where its validity should be")
    text = der[start:end].decode("ascii", "replace")
    if tag == _UTC_TIME:  # RFC 5280, 4.1.2.5.1: two digits, 50 and above are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), end


def _name(subject: bytes) -> str:
    found = subject.find(_COMMON_NAME)
    if found < 0:
        return ""
    _, start, end = _item(subject, found + len(_COMMON_NAME))
    return subject[start:end].decode("utf-8", "replace")
