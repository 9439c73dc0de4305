"""Key → tenant: who is calling, and what the key allows.

- The tenant comes from the credential and from nothing else in a request.
- A key that was found is used from memory for `FRESH_S`; one that was not found is refused from memory for `UNKNOWN_S`
  (bounded in number). So a revoked key works for at most `FRESH_S` longer.
- While the store is away a key that was found in the last `STALE_S` goes on working. Any other is answered 503, never
  401: an agent would take 401 for a verdict and stop sending.
- What is kept and compared is the key's hash. Keys never reach a log, an error or a metric.
- A string that does not look like a key is refused without asking the store; look-ups run at most `LOOKUPS` at once,
  so that a flood of invented keys cannot take all its readers.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from collector.errors import Forbidden, RegistrationOff, StoreAway, StoreError, TenantDisabled, Unauthorized
from collector.metrics import Metrics
from collector.tenants import tenants
from collector.tenants.tenants import Key

KEY_HEADER = "X-API-Key"
ADMIN_HEADER = "X-Admin-Token"
FRESH_S = 4.0
"""With the look-up itself: what is changed counts within 5 s everywhere."""
UNKNOWN_S = 1.0
STALE_S = 60.0
MAX_KNOWN = 10_000
MAX_UNKNOWN = 10_000
"""Keys remembered; beyond it the oldest entries make room."""
LOOKUPS = 2
AWAY_S = 1.0
"""After a failed look-up the store is left alone for this long."""

_HOW = f"send your API key in the header {KEY_HEADER}, or as Authorization: Bearer"


class _Known(NamedTuple):
    key: Key
    found: float


class Keyring:
    """The keys in use, remembered for seconds.

    Args:
        find: asks the store for the key of a hash; raises StoreError.
        clock: monotonic seconds.
        wall_us: µs since 1970, for the keys' expiry.
        used: told of every use of a key, and when it was in ``wall_us``.
    """

    def __init__(
        self,
        find: Callable[[str], Awaitable[Key | None]],
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        used: Callable[[Key, int], None] = lambda key, moment_us: None,
    ) -> None:
        self._find = find
        self._metrics = metrics
        self._clock = clock
        self._wall_us = wall_us
        self._used = used
        self._known: dict[str, _Known] = {}
        self._unknown: dict[str, float] = {}
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._asking: dict[str, asyncio.Task[Key | None]] = {}
        self._away_until = float("-inf")
        self._changes = 0

    async def key_of(self, headers: Mapping[str, str]) -> Key:
        """The key in ``headers``: whose request it is. What it may do is for `check` to say.

        Raises:
            Unauthorized: no key, or one that is not known, expired or revoked.
            StoreAway: the store cannot be asked, and the key was not seen lately.
        """
        api_key = key_in(headers)
        if not api_key:
            raise self._refused("missing", f"no API key; {_HOW}")
        if not tenants.KEY_PATTERN.fullmatch(api_key):
            raise self._refused("malformed", f"this is not an API key (they begin with ps_); {_HOW}")
        key = await self._key(tenants.hash_of(api_key))
        if key is None:
            raise self._refused("unknown", f"this API key is not known here; {_HOW}")
        if key.revoked:
            raise self._refused("revoked", f"the API key {key.key_id} was revoked; use another one")
        if key.expires_us is not None and key.expires_us <= self._wall_us():
            raise self._refused("expired", f"the API key {key.key_id} has expired; use another one")
        return key

    def check(self, key: Key, scope: str) -> None:
        """Whether this key of `key_of` may do what needs ``scope`` (any will do, if that is empty). Its use is noted.

        Raises:
            Forbidden: the key lacks the scope, or the tenant is disabled.
        """
        if key.tenant.disabled:
            self._metrics.auth_failures.labels("tenant_disabled").inc()
            raise TenantDisabled("this tenant is disabled; ask whoever runs this collector")
        if scope and scope not in key.scopes:
            self._metrics.auth_failures.labels("scope").inc()
            has = ", ".join(sorted(key.scopes)) or "none"
            raise Forbidden(f"the API key {key.key_id} lacks the scope {scope} (it has: {has}); use a key that has it")
        self._used(key, self._wall_us())

    async def may(self, headers: Mapping[str, str], scope: str) -> bool:
        """Whether the key in ``headers``, which was let in before, has ``scope`` too."""
        key = await self._key(tenants.hash_of(key_in(headers)))
        return key is not None and scope in key.scopes

    def forget(self, tenant_id: str) -> None:
        """Something about this tenant or its keys was changed here: look them up again."""
        self._changes += 1  # what is being looked up may be what was before
        for key_hash in [key_hash for key_hash, known in self._known.items() if known.key.tenant.tenant_id == tenant_id]:
            del self._known[key_hash]

    def _refused(self, reason: str, message: str) -> Unauthorized:
        self._metrics.auth_failures.labels(reason).inc()
        return Unauthorized(message)

    async def _key(self, key_hash: str) -> Key | None:
        now = self._clock()
        known = self._known.get(key_hash)
        if known and now - known.found < FRESH_S:
            return known.key
        if now - self._unknown.get(key_hash, -UNKNOWN_S) < UNKNOWN_S:
            return None
        try:
            return await self._shared_ask(key_hash)
        except StoreError as error:
            if known and now - known.found < STALE_S:
                return known.key
            raise StoreAway(error.code, error.message) from error

    async def _shared_ask(self, key_hash: str) -> Key | None:
        """One question per key at a time: who comes later waits for its answer, who goes away does not stop it."""
        if self._clock() < self._away_until:
            raise StoreAway()
        task = self._asking.get(key_hash)
        if task is None:
            task = self._asking[key_hash] = asyncio.create_task(self._ask(key_hash))
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    async def _ask(self, key_hash: str) -> Key | None:
        try:
            async with self._lookups:
                changes = -1
                while changes != self._changes:
                    changes = self._changes
                    key = await self._find(key_hash)
        except StoreError:
            self._away_until = self._clock() + AWAY_S
            raise
        finally:
            del self._asking[key_hash]
        self._known.pop(key_hash, None)
        self._unknown.pop(key_hash, None)
        if key is None:
            _put(self._unknown, key_hash, self._clock(), MAX_UNKNOWN)
        else:
            _put(self._known, key_hash, _Known(key, self._clock()), MAX_KNOWN)
        return key


class AdminGate:
    """The admin token: makes, lists and changes tenants and their keys, nothing else."""

    def __init__(self, token: str, metrics: Metrics) -> None:
        self._token = token.encode()
        self._metrics = metrics

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises RegistrationOff (no token configured) or Unauthorized. Takes the same time for any wrong token."""
        if not self._token:
            raise RegistrationOff(
                "registration is off: this collector has no admin token; set admin_token_file (or admin_token) in its "
                "configuration and start it again, or run `pulsestream-collector tenant create` beside it"
            )
        sent = headers.get(ADMIN_HEADER, "")
        if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), self._token):
            self._metrics.auth_failures.labels("admin").inc()
            what = "is not the configured admin token" if sent else "is missing"
            raise Unauthorized(f"the header {ADMIN_HEADER} {what}; send the collector's admin token in it")


def key_in(headers: Mapping[str, str]) -> str:
    """The API key a request carries, or nothing. `KEY_HEADER` wins over `Authorization`."""
    key = headers.get(KEY_HEADER, "").strip()
    if key:
        return key
    scheme, _, credential = headers.get("Authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def _retrieved(task: asyncio.Task[Key | None]) -> None:
    """Look at the exception even when nobody waits any more, so that it is not reported as lost."""
    if not task.cancelled():
        task.exception()


_T = TypeVar("_T")


def _put(cache: dict[str, _T], name: str, value: _T, most: int) -> None:
    if len(cache) >= most:
        del cache[next(iter(cache))]
    cache[name] = value
