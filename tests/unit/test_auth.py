import asyncio
from collections.abc import Awaitable, Callable

import pytest

from collector.errors import (
    Forbidden,
    RegistrationOff,
    StoreAway,
    StoreError,
    TenantDisabled,
    Unauthorized,
)
from collector.metrics import Metrics
from collector.tenants import tenants
from collector.tenants.auth import FRESH_S, STALE_S, AdminGate, Keyring, key_in
from collector.tenants.tenants import Key, Tenant

API_KEY, KEY_ID = tenants.new_key()
OTHER_KEY, _ = tenants.new_key()
HEADERS = {"X-API-Key": API_KEY}
TENANT = Tenant("t1", "shop", "Shop")


class Store:
    """Keys by hash; can be away; counts what it is asked."""

    def __init__(self, **changes: object) -> None:
        values = {"scopes": frozenset({"ingest"}), "expires_us": None, "revoked": False, "tenant": TENANT, **changes}
        self.keys = {tenants.hash_of(API_KEY): Key(key_id=KEY_ID, **values)}  # type: ignore[arg-type]
        self.error: StoreError | None = None
        self.asked = 0

    async def find(self, key_hash: str) -> Key | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return self.keys.get(key_hash)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def with_ring(store: Store, work: Callable[[Keyring, Clock], Awaitable[None]]) -> Metrics:
    metrics = Metrics()

    async def run() -> None:
        clock = Clock()
        await work(Keyring(store.find, metrics, clock=clock, wall_us=lambda: 5_000_000), clock)

    asyncio.run(run())
    return metrics


async def tenant_of(ring: Keyring, headers: dict[str, str], scope: str) -> Tenant:
    """As `collector.tenants.caller` does it."""
    key = await ring.key_of(headers)
    ring.check(key, scope)
    return key.tenant


def refused(store: Store, kind: type[Exception], headers: dict[str, str], scope: str = "ingest") -> str:
    said = ""

    async def work(ring: Keyring, clock: Clock) -> None:
        nonlocal said
        with pytest.raises(kind) as caught:
            await tenant_of(ring, headers, scope)
        said = str(caught.value)

    with_ring(store, work)
    assert not headers or API_KEY not in said
    return said


def test_a_known_key_names_its_tenant_by_either_header() -> None:
    async def work(ring: Keyring, clock: Clock) -> None:
        assert await tenant_of(ring, HEADERS, "ingest") == TENANT
        assert await tenant_of(ring, {"Authorization": f"bearer  {API_KEY}"}, "ingest") == TENANT

    with_ring(Store(), work)


def test_a_missing_key_is_told_which_header_to_send() -> None:
    said = refused(Store(), Unauthorized, {})
    assert "X-API-Key" in said
    assert "Authorization: Bearer" in said


def test_what_is_no_key_is_refused_without_asking_the_store() -> None:
    for sent in ("x", API_KEY + "a", "ps_" + "0" * 8, "ps_é"):
        store = Store()
        assert "not an API key" in refused(store, Unauthorized, {"X-API-Key": sent})
        assert store.asked == 0


def test_an_unknown_key_is_refused() -> None:
    assert "not known" in refused(Store(), Unauthorized, {"X-API-Key": OTHER_KEY})


def test_a_revoked_key_is_refused() -> None:
    assert "was revoked" in refused(Store(revoked=True), Unauthorized, HEADERS)


def test_an_expired_key_is_refused_from_its_moment_on() -> None:
    assert "has expired" in refused(Store(expires_us=5_000_000), Unauthorized, HEADERS)


def test_a_key_without_the_scope_is_told_which_it_lacks() -> None:
    assert "lacks the scope search (it has: ingest)" in refused(Store(), Forbidden, HEADERS, "search")


def test_the_key_of_a_disabled_tenant_is_refused() -> None:
    disabled = Tenant("t1", "shop", "Shop", disabled=True)
    refused(Store(tenant=disabled), TenantDisabled, HEADERS)


def test_a_found_key_is_remembered_for_seconds_only() -> None:
    store = Store()

    async def work(ring: Keyring, clock: Clock) -> None:
        await tenant_of(ring, HEADERS, "ingest")
        clock.now += FRESH_S - 0.1
        await tenant_of(ring, HEADERS, "ingest")
        assert store.asked == 1
        store.keys.clear()
        clock.now += 0.2
        with pytest.raises(Unauthorized):
            await tenant_of(ring, HEADERS, "ingest")

    with_ring(store, work)


def test_a_key_of_a_tenant_that_was_changed_here_is_looked_up_again() -> None:
    store = Store()

    async def work(ring: Keyring, clock: Clock) -> None:
        await tenant_of(ring, HEADERS, "ingest")
        store.keys.clear()
        ring.forget("another tenant")
        await tenant_of(ring, HEADERS, "ingest")
        ring.forget(TENANT.tenant_id)
        with pytest.raises(Unauthorized):
            await tenant_of(ring, HEADERS, "ingest")

    with_ring(store, work)


def test_what_was_looked_up_before_a_change_is_looked_up_again() -> None:
    class ChangedMeanwhile(Store):
        ring: Keyring

        async def find(self, key_hash: str) -> Key | None:
            found = await super().find(key_hash)
            if self.asked == 1:
                self.ring.forget(TENANT.tenant_id)
            return found

    store = ChangedMeanwhile()

    async def work(ring: Keyring, clock: Clock) -> None:
        store.ring = ring
        await tenant_of(ring, HEADERS, "ingest")

    with_ring(store, work)
    assert store.asked == 2


def test_every_key_may_ask_what_needs_no_scope() -> None:
    async def work(ring: Keyring, clock: Clock) -> None:
        assert await tenant_of(ring, HEADERS, "") == TENANT

    with_ring(Store(), work)


def test_an_unknown_key_is_refused_from_memory_for_a_second() -> None:
    store = Store()
    late = store.keys.pop(tenants.hash_of(API_KEY))

    async def work(ring: Keyring, clock: Clock) -> None:
        for _ in range(3):
            with pytest.raises(Unauthorized):
                await tenant_of(ring, HEADERS, "ingest")
        assert store.asked == 1
        store.keys[tenants.hash_of(API_KEY)] = late
        clock.now += 1.1
        assert await tenant_of(ring, HEADERS, "ingest") == TENANT

    with_ring(store, work)


def test_many_requests_with_one_key_ask_the_store_once() -> None:
    store = Store()

    async def work(ring: Keyring, clock: Clock) -> None:
        await asyncio.gather(*(tenant_of(ring, HEADERS, "ingest") for _ in range(20)))

    with_ring(store, work)
    assert store.asked == 1


def test_a_caller_who_goes_away_does_not_stop_the_look_up_for_others() -> None:
    async def work(ring: Keyring, clock: Clock) -> None:
        first = asyncio.create_task(tenant_of(ring, HEADERS, "ingest"))
        await asyncio.sleep(0)
        second = asyncio.create_task(tenant_of(ring, HEADERS, "ingest"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == TENANT

    with_ring(Store(), work)


@pytest.mark.parametrize("error", [StoreAway(), StoreError(60, "no such table")])
def test_a_store_away_is_never_a_verdict_on_a_key(error: StoreError) -> None:
    store = Store()
    store.error = error
    refused(store, StoreAway, HEADERS)


def test_while_the_store_is_away_a_key_seen_lately_goes_on_working() -> None:
    store = Store()

    async def work(ring: Keyring, clock: Clock) -> None:
        await tenant_of(ring, HEADERS, "ingest")
        store.error = StoreAway()
        clock.now += STALE_S - 1
        assert await tenant_of(ring, HEADERS, "ingest") == TENANT
        assert await tenant_of(ring, HEADERS, "ingest") == TENANT
        assert store.asked == 2  # the second did not ask again: the store was found away a moment ago
        clock.now += 2
        with pytest.raises(StoreAway):
            await tenant_of(ring, HEADERS, "ingest")

    with_ring(store, work)


def test_refusals_are_counted_by_reason() -> None:
    async def work(ring: Keyring, clock: Clock) -> None:
        with pytest.raises(Unauthorized):
            await tenant_of(ring, {}, "ingest")

    metrics = with_ring(Store(), work)
    assert b'collector_auth_failures_total{reason="missing"} 1.0' in metrics.text()


def test_the_key_header_wins_over_authorization() -> None:
    assert key_in({"X-API-Key": "a", "Authorization": "Bearer b"}) == "a"
    assert key_in({"Authorization": "Basic b"}) == ""


def test_registration_without_an_admin_token_is_off_and_says_how_to_switch_it_on() -> None:
    with pytest.raises(RegistrationOff, match="set admin_token_file"):
        AdminGate("", Metrics()).check({"X-Admin-Token": ""})


def test_the_admin_token_opens_the_gate_and_no_other_does() -> None:
    gate = AdminGate("0123456789abcdef", Metrics())
    gate.check({"X-Admin-Token": "0123456789abcdef"})
    for sent in ("0123456789abcdeX", "ü", ""):
        with pytest.raises(Unauthorized, match="X-Admin-Token"):
            gate.check({"X-Admin-Token": sent} if sent else {})


def test_a_key_is_random_and_only_its_hash_is_kept() -> None:
    key, key_id = tenants.new_key()
    assert tenants.KEY_PATTERN.fullmatch(key)
    assert key.split("_")[1] == key_id
    assert key != tenants.new_key()[0]
    assert len(tenants.hash_of(key)) == 64


@pytest.mark.parametrize(
    ("name", "slug"), [("Blue Shop GmbH", "blue-shop-gmbh"), (" Çafé--2 ", "cafe-2"), ("日本", ""), ("a" * 90, "a" * 63)]
)
def test_a_slug_is_made_from_a_name(name: str, slug: str) -> None:
    assert tenants.slug_of(name) == slug
