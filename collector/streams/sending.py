"""What exports and tails share: who may still read, bytes to a caller who may be slow, and an end that cannot be taken for
a whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from collector.errors import Stopped
from collector.parts import KEYRING, STOPPING, STREAMS
from collector.tenants import tenants
from collector.tenants.tenants import Tenant

STALL_S = 120.0
"""A caller who takes nothing for so long is gone, or as good as that."""


async def still_reader(request: web.Request) -> Tenant:
    """The tenant as it is now, if its key may still search: a stream outlives keys and limits. Raises as `Keyring.key_of`
    and `Keyring.check`, and Stopped."""
    keyring = request.app[KEYRING]
    if request.app[STOPPING].is_set():
        raise Stopped("the collector is stopping; go on with another, or with this one when it is back")
    key = await keyring.key_of(request.headers)
    keyring.check(key, tenants.SEARCH)
    return key.tenant


async def send(response: web.StreamResponse, data: bytes) -> None:
    """Returns when most of it is on its way. Raises ConnectionError: the caller is gone, or takes nothing."""
    try:
        async with asyncio.timeout(STALL_S):
            await response.write(data)
    except TimeoutError:
        raise ConnectionResetError(f"the caller took nothing for {STALL_S:g} s") from None


@contextmanager
def streaming(request: web.Request) -> Iterator[None]:
    """While the answer goes on: a stop of the collector ends it."""
    transport = request.transport
    if transport is not None:
        request.app[STREAMS].add(transport)
    try:
        yield
    finally:
        if transport is not None:
            request.app[STREAMS].discard(transport)


def cut_off(request: web.Request) -> None:
    """End the connection in the middle of an answer, so that its reader sees that it is not whole."""
    if request.transport is not None:
        request.transport.abort()
