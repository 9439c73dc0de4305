"""A ClickHouse server and a Redis behind TLS, with a certificate that only the named authority vouches for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.config import QuotaConfig, StoreConfig
from collector.errors import StoreAway
from collector.limits.buckets import Shared
from collector.limits.limits import Mode
from collector.metrics import Metrics
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from tests.support.certificates import Authority
from tests.support.engine import ClickHouseFront
from tests.support.redis import BINARY, Redis
from tests.support.tls_relay import TlsRelay


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture
def engine(tmp_path: Path, authority: Authority) -> Iterator[str]:
    with ClickHouseFront(tmp_path / "engine") as front, TlsRelay(*authority.issue("engine"), front.port) as relay:
        yield f"https://127.0.0.1:{relay.port}"


async def pinged(config: StoreConfig) -> None:
    store = await Store.open(config)
    try:
        await store.ping()
    finally:
        await store.close()


@pytest.mark.engine
def test_an_engine_whose_authority_is_named_is_trusted_and_another_is_away(engine: str, authority: Authority) -> None:
    asyncio.run(pinged(StoreConfig(url=engine, ca_file=str(authority.ca), connect_timeout_s=30)))
    with pytest.raises(StoreAway, match="certificate verify failed"):
        asyncio.run(pinged(StoreConfig(url=engine, connect_timeout_s=30)))


@pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")
def test_a_redis_whose_authority_is_named_is_trusted_and_another_is_away(tmp_path: Path, authority: Authority) -> None:
    async def away(ca_file: str, port: int) -> bool:
        url = f"rediss://127.0.0.1:{port}/0"
        shared = Shared(QuotaConfig(redis_url=url, redis_ca_file=ca_file, redis_timeout_s=10), Metrics())
        try:
            assert (await shared.take(Tenant("t", "shop", "Shop"), Mode.WHOLE, 1, 1))[0] == 1
            return shared.state != "redis"
        finally:
            await shared.close()

    with Redis(tmp_path / "redis") as redis, TlsRelay(*authority.issue("redis"), redis.port) as relay:
        assert not asyncio.run(away(str(authority.ca), relay.port))
        assert asyncio.run(away("", relay.port))
