"""Where budgets are kept: in memory, or in Redis for all collectors together.

- In Redis everything about one take or refund happens in one script, by Redis's own clock, so collectors' clocks need
  not agree. A bucket that is full again is forgotten.
- Redis away (refused, or no answer in ``redis_timeout_s``): each collector goes on in memory with its part of every
  rate, ``1/replicas``, from the level it saw last. It says so in the log, `state` and the metric, and asks again every
  `AWAY_S`. So a limit may be missed by little for a moment, and nobody waits for Redis.
  Known limit: what was asked of a Redis that hung may be charged there too when it wakes up.
- With ``replicas`` and no Redis each collector allows its part all the time. Each worker of a collector
  (``server.workers``) counts as a replica.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from collector.config import Limits, QuotaConfig
from collector.errors import CollectorError, ConfigError
from collector.limits import limits
from collector.limits.limits import Account, Levels, Mode, Rates
from collector.metrics import Metrics
from collector.tenants.tenants import Tenant

log = logging.getLogger(__name__)

AWAY_S = 2.0
"""After a failure Redis is left alone for this long."""
LOOK_S = 1.0
"""What Redis said is used for headers for this long."""
EXAMINED_S = 5.0
MAX_KEPT = 10_000
"""Tenants remembered; beyond it the one that was quiet longest begins anew."""


class Unshared(CollectorError):
    """Budgets cannot be shared. Never an HTTP answer."""


class Buckets(Protocol):
    """Budgets of all tenants."""

    @property
    def state(self) -> str:
        """In words, for /health."""
        ...

    def rates_of(self, limits: Limits) -> Rates:
        """The rates as they are applied here and now."""
        ...

    async def take(self, tenant: Tenant, mode: Mode, events: int, size: int) -> tuple[int, Levels]:
        """Events granted, and the levels after that. ``size`` is charged in proportion."""
        ...

    async def give(self, tenant: Tenant, events: int, size: int) -> None: ...

    async def levels(self, tenant: Tenant) -> Levels: ...

    async def close(self) -> None: ...


class Memory:
    """Buckets of this process.

    Args:
        share: the part of every rate that is allowed here.
        clock: monotonic seconds.
    """

    def __init__(self, share: float = 1.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        """The one used last stands last."""

    @property
    def state(self) -> str:
        return "memory" if self._share == 1 else f"memory, {self._share:.3g} of every rate"

    def rates_of(self, of: Limits) -> Rates:
        return limits.rates_of(of, self._share)

    async def take(self, tenant: Tenant, mode: Mode, events: int, size: int) -> tuple[int, Levels]:
        account, rates, now_s = self._account(tenant)
        granted = account.take(mode, rates, events, size, now_s)
        return granted, account.levels(rates, now_s)

    async def give(self, tenant: Tenant, events: int, size: int) -> None:
        account, rates, now_s = self._account(tenant)
        account.give(rates, events, size, now_s)

    async def levels(self, tenant: Tenant) -> Levels:
        account, rates, now_s = self._account(tenant)
        return account.levels(rates, now_s)

    async def close(self) -> None:
        """Nothing to do."""

    def begin(self, levels: Mapping[str, Levels]) -> None:
        """Forget what was, and begin at this process's share of these levels."""
        now_s, share = self._clock(), self._share
        self._accounts = {
            tenant_id: Account(Levels(found.events * share, found.size * share), now_s) for tenant_id, found in levels.items()
        }

    def _account(self, tenant: Tenant) -> tuple[Account, Rates, float]:
        rates, now_s = self.rates_of(tenant.limits), self._clock()
        account = self._accounts.pop(tenant.tenant_id, None)
        if account is None:
            account = Account(Levels(rates.events.burst, rates.size.burst), now_s)
            if len(self._accounts) >= MAX_KEPT:
                del self._accounts[next(iter(self._accounts))]
        self._accounts[tenant.tenant_id] = account
        return account, rates, now_s


SCRIPT = """
local function number(text, instead) return tonumber(text) or instead end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local mode, events, size = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local events_per_s, events_burst = tonumber(ARGV[4]), tonumber(ARGV[5])
local size_per_s, size_burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local kept = redis.call('HMGET', KEYS[1], 'events', 'size', 'at')
local passed = math.max(0, now - number(kept[3], now))
local e = math.min(events_burst, number(kept[1], events_burst) + passed * events_per_s)
local s = math.min(size_burst, number(kept[2], size_burst) + passed * size_per_s)
local granted = 0
if mode == 'give' then
  e = math.min(events_burst, e + events)
  s = math.min(size_burst, s + size)
elseif mode ~= 'look' then
  if s >= 0 then
    if mode == 'whole' then
      if e >= 0 then granted = events end
    elseif mode == 'refuse' then
      if e >= math.min(events, events_burst) then granted = events end
    else
      granted = math.min(events, math.max(0, math.floor(e)))
    end
  end
  if granted > 0 then
    e = e - granted
    if granted == events then s = s - size else s = s - math.floor(size * granted / events) end
  end
end
if mode ~= 'look' then
  local number_of = '%.17g'
  redis.call('HSET', KEYS[1], 'events', number_of:format(e), 'size', number_of:format(s), 'at', number_of:format(now))
  local full = math.max((events_burst - e) / events_per_s, (size_burst - s) / size_per_s)
  redis.call('EXPIRE', KEYS[1], math.ceil(full) + 60)
end
return {tostring(granted), ('%.17g'):format(e), ('%.17g'):format(s)}
"""


class Shared:
    """Buckets in Redis, with memory to fall back on. Raises ConfigError when the client library is missing."""

    def __init__(self, config: QuotaConfig, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._memory = Memory(1 / config.replicas, clock=clock)
        self._seen: dict[str, tuple[float, Levels]] = {}
        self._away_until = float("-inf")
        self._is_away = False
        self._client, self._script, self._faults = _connected(config)
        metrics.limits_shared.set(1)
        metrics.limits_part.set(1)

    @property
    def state(self) -> str:
        if self._is_away:
            return f"redis does not answer: each collector allows 1/{self._config.replicas} of every rate"
        return "redis"

    def rates_of(self, of: Limits) -> Rates:
        return self._memory.rates_of(of) if self._is_away else limits.rates_of(of)

    async def take(self, tenant: Tenant, mode: Mode, events: int, size: int) -> tuple[int, Levels]:
        found = await self._asked(tenant, mode.value, events, size)
        return await self._memory.take(tenant, mode, events, size) if found is None else found

    async def give(self, tenant: Tenant, events: int, size: int) -> None:
        if await self._asked(tenant, "give", events, size) is None:
            await self._memory.give(tenant, events, size)

    async def levels(self, tenant: Tenant) -> Levels:
        seen = self._seen.get(tenant.tenant_id)
        if seen is None or self._clock() - seen[0] > LOOK_S:
            found = await self._asked(tenant, "look", 0, 0)
            return await self._memory.levels(tenant) if found is None else found[1]
        return await self._memory.levels(tenant) if self._is_away else seen[1]

    async def close(self) -> None:
        await self._client.aclose()

    async def _asked(self, tenant: Tenant, mode: str, events: int, size: int) -> tuple[int, Levels] | None:
        """What Redis says, or None when it does not."""
        if self._clock() < self._away_until:
            return None
        rates = limits.rates_of(tenant.limits)
        arguments = (mode, events, size, rates.events.per_s, rates.events.burst, rates.size.per_s, rates.size.burst)
        try:
            async with asyncio.timeout(self._config.redis_timeout_s):
                granted, e, s = await self._script(keys=[f"pulsestream:{{{tenant.tenant_id}}}:budget"], args=arguments)
        except self._faults as error:
            self._went(error)
            return None
        self._came_back()
        levels = Levels(float(e), float(s))
        if len(self._seen) >= MAX_KEPT:
            self._seen.clear()
        self._seen[tenant.tenant_id] = (self._clock(), levels)
        return int(float(granted)), levels

    def _went(self, error: BaseException) -> None:
        self._away_until = self._clock() + AWAY_S
        self._metrics.limits_fallbacks.inc()
        if self._is_away:
            return
        self._is_away = True
        self._metrics.limits_shared.set(0)
        share = 1 / self._config.replicas
        self._metrics.limits_part.set(share)
        log.warning(
            "limits: Redis at %s does not answer (%s); until it does this collector allows %.3g of every rate",
            self._config.redis_url, str(error) or type(error).__name__, share,
        )  # fmt: skip
        self._memory.begin({tenant_id: levels for tenant_id, (_, levels) in self._seen.items()})

    def _came_back(self) -> None:
        if self._is_away:
            self._is_away = False
            self._metrics.limits_shared.set(1)
            self._metrics.limits_part.set(1)
            log.info("limits: Redis answers again, budgets are shared")


def _connected(config: QuotaConfig) -> tuple[Any, Any, tuple[type[BaseException], ...]]:
    """A client that has not connected yet, the script, and what it raises when Redis is away."""
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ConfigError(
            "quota.redis_url is set, but the Redis client is not installed: pip install 'pulsestream[redis]'"
        ) from None
    authorities: dict[str, Any] = {"ssl_ca_certs": config.redis_ca_file} if config.redis_ca_file else {}
    client = redis.asyncio.Redis.from_url(
        config.redis_url,
        password=config.redis_password or None,
        socket_timeout=config.redis_timeout_s,
        socket_connect_timeout=config.redis_timeout_s,
        retry=Retry(NoBackoff(), 1),  # once: a pooled connection may have been closed meanwhile
        **authorities,
    )
    return client, client.register_script(SCRIPT), (redis.RedisError, OSError, TimeoutError)


def made(config: QuotaConfig, metrics: Metrics) -> Buckets:
    """What the configuration asks for. Raises ConfigError."""
    if config.redis_url:
        return Shared(config, metrics)
    metrics.limits_shared.set(0)
    metrics.limits_part.set(1 / config.replicas)
    return Memory(1 / config.replicas)


async def examined(config: QuotaConfig) -> float:
    """How far Redis's clock is ahead of ours, in seconds, after it has run the script without a charge.

    Raises:
        ConfigError: the client is not installed.
        Unshared: Redis does not answer, or does not run the script.
    """
    client, script, faults = _connected(config)
    try:
        async with asyncio.timeout(EXAMINED_S):
            await script(keys=["pulsestream:{doctor}:budget"], args=("look", 0, 0, 1, 1, 1, 1))
            seconds, micros = await client.time()
            return float(seconds) + float(micros) / 1e6 - time.time()
    except faults as error:
        raise Unshared(str(error) or type(error).__name__) from None
    finally:
        await client.aclose()
