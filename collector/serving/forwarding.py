"""Who is behind a proxy: the client's address and scheme, as far as trusted proxies vouch for them. Pure.

- Only the one header that is configured is read (``X-Forwarded-For``, with ``X-Forwarded-Proto``, or ``Forwarded``): a proxy
  that writes one passes the other on as a client sent it.
- It is believed only where the peer is a trusted proxy, and read from the right: each proxy adds whom it has seen. The first
  address from there that is no trusted proxy is the client's; what stands left of it, the client may have made up.
- What cannot be read ends the search at the last address vouched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

X_FORWARDED_FOR, FORWARDED = "x-forwarded-for", "forwarded"
PROTO_HEADER = "X-Forwarded-Proto"
MAX_HOPS = 16
"""Proxies in a row that are looked through."""
_SCHEMES = ("http", "https")
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*')
_ELEMENTS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


class Origin(NamedTuple):
    address: str
    scheme: str


class Proxies:
    """Those whose word is taken.

    Args:
        networks: in CIDR; raises ValueError for another text.
        header: `X_FORWARDED_FOR` or `FORWARDED`.
    """

    def __init__(self, networks: Iterable[str], header: str) -> None:
        self._networks = [ip_network(text) for text in networks]
        self.header = header
        self._trusts = lru_cache(4096)(self._is_of)

    def origin(self, peer: str, scheme: str, values: Sequence[str], protos: Sequence[str] = ()) -> Origin:
        """Who sent a request.

        Args:
            peer: the address that the connection comes from.
            scheme: of the connection.
            values: the lines of the header, in their order.
            protos: those of `PROTO_HEADER`.
        """
        if not self._networks or not self._trusts(peer):
            return Origin(peer, scheme)
        if self.header == FORWARDED:
            return self._walked(peer, scheme, [_element(text) for text in _ELEMENTS.findall(",".join(values))])
        hops = [(text.strip(), "") for text in ",".join(values).split(",")]
        proto = ",".join(protos).rpartition(",")[2].strip().lower()
        return self._walked(peer, proto if proto in _SCHEMES else scheme, hops)

    def _walked(self, peer: str, scheme: str, hops: list[tuple[str, str]]) -> Origin:
        address = peer
        for text, proto in reversed(hops[-MAX_HOPS:]):
            found = _address(text)
            if not found:
                break
            address = found
            scheme = proto if proto in _SCHEMES else scheme
            if not self._trusts(address):
                break
        return Origin(address, scheme)

    def _is_of(self, address: str) -> bool:
        try:
            found = _plain(ip_address(address))
        except ValueError:
            return False
        return any(found in network for network in self._networks if network.version == found.version)


def _address(text: str) -> str:
    """The address in ``1.2.3.4``, ``1.2.3.4:5``, ``::1`` or ``[::1]:5``; empty where there is none."""
    bare = text
    if text.startswith("["):
        bare = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        bare = text.partition(":")[0]
    try:
        return str(_plain(ip_address(bare)))
    except ValueError:
        return ""


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that is written as IPv6 is that address."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def _element(text: str) -> tuple[str, str]:
    """``for`` and ``proto`` of one element of ``Forwarded`` (RFC 7239)."""
    pairs = {}
    for part in text.split(";"):
        if match := _PAIR.fullmatch(part):
            value = match[2]
            pairs[match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
    return pairs.get("for", ""), pairs.get("proto", "").lower()
