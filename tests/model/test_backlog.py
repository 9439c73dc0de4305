"""The backlog against what it promises: random requests and commits, in both lanes.

- Every parcel is taken exactly once; those of a tenant and an age in their order.
- A tenant is in one commit at a time. One of which little waits is taken in the express lane, whatever others have.
- No commit mixes ages, goes beyond its bytes or, when old, its partitions, unless one parcel alone does.
- While one of each tenant fits, fresh data of a tenant that had none waiting is taken by the next commit but one, at most;
  old data by the next but one too, when the tenant is alone with some.
- What is held is what was let in and is not decided; a failed request leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent import wire
from collector.config import WriterConfig
from collector.errors import StoreAway
from collector.metrics import Metrics
from collector.writing import ages, backlog
from collector.writing.backlog import Backlog, Item, Lane, Request, weight
from collector.writing.event_parcels import EventParcel
from collector.writing.parcels import Parcel

DAY_NS = 86_400_000_000_000
NOW_NS = 20_500 * DAY_NS
TENANTS = ("a", "b", "c")
COMMIT_BYTES = 6 * 4096
"""Room for one parcel of each tenant, and some more."""
EXPRESS_BYTES = 2 * 4096 + 2000
"""Room for two parcels."""
USUAL_EXPRESS_BYTES = backlog.EXPRESS_BYTES
QUEUE_BYTES = 1 << 30

ROWS = st.integers(1, 6)
WEEKS = st.frozensets(st.tuples(st.sampled_from((30, 365)), st.integers(2900, 2920)), max_size=12)
DAYS = st.one_of(st.just(0), st.integers(0, 300))


class BacklogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        backlog.EXPRESS_BYTES = EXPRESS_BYTES
        self.loop = asyncio.new_event_loop()
        config = WriterConfig(commit_bytes=COMMIT_BYTES, queue_bytes=QUEUE_BYTES, tenant_share=1)
        self.backlog = Backlog(config, Metrics(), clock_ns=lambda: NOW_NS)
        self.numbers = count()
        self.waiting: dict[tuple[str, bool], list[tuple[Request, str]]] = {}
        self.since: dict[tuple[str, bool], int] = {}
        """Commits since a tenant has something of an age waiting."""
        self.under_way: dict[Lane, list[Item]] = {}
        self.requests: list[Request] = []
        self.sizes: dict[str, int] = {}
        self.bulk: set[str] = set()
        """Tenants of which more than a little fresh data has been waiting, until all of that is taken."""

    def teardown(self) -> None:
        self.loop.close()
        backlog.EXPRESS_BYTES = USUAL_EXPRESS_BYTES

    def put(self, tenant: str, parcels: list[Parcel | EventParcel], old: list[bool]) -> None:
        async def request() -> Request:
            return Request(tenant, len(parcels))

        made = self.loop.run_until_complete(request())
        self.backlog.put(made, parcels)
        self.requests.append(made)
        for parcel, is_old in zip(parcels, old, strict=True):
            line = self.waiting.setdefault((tenant, is_old), [])
            if not line:
                self.since[tenant, is_old] = 0
            line.append((made, name_of(parcel)))
        self.sizes.update({name_of(parcel): weight(parcel) for parcel in parcels})
        if sum(self.sizes[name] for _, name in self.waiting.get((tenant, False), ())) > EXPRESS_BYTES and not all(old):
            self.bulk.add(tenant)

    @rule(tenant=st.sampled_from(TENANTS), given=st.lists(st.tuples(ROWS, WEEKS), min_size=1, max_size=4))
    def events(self, tenant: str, given: list[tuple[int, frozenset[ages.Partition]]]) -> None:
        parcels = [
            EventParcel(tenant, [f"e-{next(self.numbers)}"] * rows, asked=[], size_bytes=rows * 400, rows=list, old=old)
            for rows, old in given
        ]
        self.put(tenant, list(parcels), [bool(parcel.old) for parcel in parcels])

    @rule(tenant=st.sampled_from(TENANTS), days=st.lists(DAYS, min_size=1, max_size=4))
    def records(self, tenant: str, days: list[int]) -> None:
        parcels = []
        for ago in days:
            name = f"r-{next(self.numbers)}"
            header = wire.Header(wire.DATA, name, file_id=name, observed_ns=NOW_NS - ago * DAY_NS)
            parcels.append(Parcel(tenant, 365, header, lines=b"x", events=1))
        self.put(tenant, list(parcels), [ago > 1 for ago in days])

    @rule(lane=st.sampled_from(Lane))
    @precondition(lambda self: self.waiting)
    def take(self, lane: Lane) -> None:
        busy = {item.request.tenant_id for items in self.under_way.values() for item in items}
        assert self.backlog.ready(lane) == any(self.lane_of(*name) is lane and name[0] not in busy for name in self.waiting)
        if lane in self.under_way or not self.backlog.ready(lane):
            return
        items = self.under_way[lane] = self.backlog.take(lane)
        ages_taken = {bool(item.old) for item in items}
        assert len(ages_taken) == 1
        (old,) = ages_taken
        assert len(items) == 1 or sum(weight(item.parcel) for item in items) <= COMMIT_BYTES
        touched = {partition for item in items for partition in item.old}
        assert len(items) == 1 or len(touched) <= ages.MAX_PARTITIONS
        taken = {(item.request.tenant_id, old) for item in items}
        assert not {tenant for tenant, _ in taken} & busy
        assert {self.lane_of(*name) for name in taken} == {lane}
        alone = len({tenant for tenant, is_old in self.waiting if is_old}) == 1
        for name in self.waiting:
            if name in taken or name[0] in busy or self.lane_of(*name) is not lane:
                continue
            if name[1] and not alone:
                self.since[name] = 0  # old data of several tenants takes turns of its own
                continue
            self.since[name] += 1
            assert self.since[name] <= 1, f"{name} waits for a second commit"
        for item in items:
            line = self.waiting[item.request.tenant_id, old]
            assert line.pop(0) == (item.request, name_of(item.parcel))
            self.since[item.request.tenant_id, old] = 0
            if not line:
                del self.waiting[item.request.tenant_id, old]
                if not old:
                    self.bulk.discard(item.request.tenant_id)

    def lane_of(self, tenant: str, old: bool) -> Lane:
        return Lane.BULK if old or tenant in self.bulk else Lane.EXPRESS

    @rule(lane=st.sampled_from(Lane), fails=st.booleans())
    @precondition(lambda self: self.under_way)
    def decided(self, lane: Lane, fails: bool) -> None:
        items = self.under_way.pop(lane, [])
        for item in items:
            self.backlog.done(item)
            if fails:
                self.backlog.drop(item.request)
                item.request.fail(StoreAway())
                item.request.answer.exception()
        if fails:
            gone = {item.request for item in items}
            for name, line in list(self.waiting.items()):
                line[:] = [entry for entry in line if entry[0] not in gone]
                if not line:
                    del self.waiting[name]
                    if not name[1]:
                        self.bulk.discard(name[0])

    @invariant()
    def says_whether_something_waits(self) -> None:
        assert bool(self.backlog) == bool(self.waiting)
        if not self.waiting:
            assert self.backlog.waiting_bytes == 0
            assert self.backlog.held_bytes == sum(weight(item.parcel) for items in self.under_way.values() for item in items)


def name_of(parcel: Parcel | EventParcel) -> str:
    return str(parcel.ids[0]) if isinstance(parcel, EventParcel) else parcel.header.record_id


TestBacklog = BacklogMachine.TestCase
TestBacklog.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
