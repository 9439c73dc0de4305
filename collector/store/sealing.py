"""The index of words, built where it is missing and pays.

- In merges it would cost more than all else together, so inserts and merges leave it out. A week that is over gets it once.
  The week that is still written to gets it when at least half of it has none, so that an event is indexed about twice at
  most, and when that is more than a search reads quickly.
- What has no index is asked of the engine itself: how many rows it would read to find a word that nobody wrote. There is no
  record that could be wrong, and a late event whose merge took the index of a closed week away is noticed.
- One partition at a time, by a mutation in the background: searches and inserts go on, and answer the same before and after.
  Where several collectors have one store, whoever finds a mutation under way leaves it at that.

On a cluster the shard that is asked stands for all: the index is built on every one.

Known limit: two collectors that look in the same moment build the index of one partition twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from collector.errors import StoreAway
from collector.metrics import Metrics
from collector.store.cluster import EVENTS, LOCAL
from collector.store.schema import TITLE_INDEX, WORD_INDEX
from collector.store.store import Store

log = logging.getLogger(__name__)

FIRST_LOOK_S = (20.0, 60.0)
"""After the start, within these: collectors that start together should not look together."""
LOOK_S = 300.0
BUILDING_LOOK_S = 20.0
CLOSED_AFTER = timedelta(days=8)
"""After its first day a week is over, and a day more has passed for what comes late."""
CLOSED_ROWS = 100_000
OPEN_ROWS = 500_000
"""With fewer rows bare, a search reads them in some ten milliseconds: a word among 1.5 million took 0.39 s on two cores, and
building the index about 1 µs of CPU a row."""


class Partition(NamedTuple):
    partition_id: str
    week: str
    """Its Monday, as 20261123."""
    rows: int
    bare: int
    """Rows without the index."""


class Sealer:
    def __init__(self, store: Store, metrics: Metrics, *, clock_s: Callable[[], float] = time.time) -> None:
        self._store = store
        self._metrics = metrics
        self._clock_s = clock_s
        self._task: asyncio.Task[None] | None = None
        self._failed = ""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sealer")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> bool:
        """Start building for the partition that wants it most. Returns whether one is being built now.

        Raises:
            StoreError, StoreAway: as the store's calls.
        """
        if await self._is_building():
            return True
        partitions = [await self._measured(*row) for row in await self._store.query(_PARTITIONS, self._named)]
        self._metrics.rows_without_index.set(sum(partition.bare for partition in partitions))
        now = datetime.fromtimestamp(self._clock_s(), UTC)
        wanting = [partition for partition in partitions if wants(partition, now)]
        if not wanting:
            return False
        chosen = max(wanting, key=lambda partition: partition.bare)
        log.info("building the word index of %d events in partition %s", chosen.bare, chosen.partition_id)
        where = f"IN PARTITION ID '{chosen.partition_id}'"
        build = ", ".join(f"MATERIALIZE INDEX {index} {where}" for index in (WORD_INDEX, TITLE_INDEX))
        on = f" ON CLUSTER '{self._store.cluster}'" if self._store.cluster else ""
        await self._store.command(f"ALTER TABLE {self._store.database}.{self._table}{on} {build} SETTINGS mutations_sync = 0")
        return True

    async def _is_building(self) -> bool:
        under_way = await self._store.query(_UNDER_WAY, {**self._named, "index": WORD_INDEX})
        failed = "; ".join(f"{mutation}: {why}" for mutation, why in under_way if why)
        if failed and failed != self._failed:
            log.error(
                "store: building the word index failed, the engine tries again by itself: %s; if that goes on: KILL MUTATION "
                "WHERE mutation_id = '…', searches do without it",
                failed,
            )
        self._failed = failed
        return bool(under_way)

    async def _measured(self, partition_id: str, week: str, rows: int) -> Partition:
        if rows < CLOSED_ROWS:
            return Partition(partition_id, week, rows, 0)
        asked = {"partition": partition_id, "nobodys": uuid4().hex}
        found = await self._store.query(
            _BARE.format(table=f"{self._store.database}.{self._table}"), asked, settings={"max_rows_to_read": "0"}
        )
        return Partition(partition_id, week, rows, sum(bare for _, _, _, bare, _ in found))

    @property
    def _table(self) -> str:
        return LOCAL if self._store.cluster else EVENTS

    @property
    def _named(self) -> dict[str, str]:
        return {"database": self._store.database, "table": self._table}

    async def _run(self) -> None:
        await asyncio.sleep(random.uniform(*FIRST_LOOK_S))
        while True:
            building = False
            try:
                building = self._store.ready and await self.look()
            except StoreAway as error:
                log.debug("the word index is looked after later: %s", error)
            except Exception:  # whatever it is, the next look must come
                log.exception("looking after the word index failed; it is tried again, searches do without it")
            await asyncio.sleep(BUILDING_LOOK_S if building else LOOK_S)


_PARTITIONS = (
    "SELECT partition_id, substring(partition_id, -8) AS week, sum(rows) FROM system.parts "
    "WHERE active AND database = {database:String} AND table = {table:String} GROUP BY partition_id ORDER BY partition_id"
)
_UNDER_WAY = (
    "SELECT mutation_id, latest_fail_reason FROM system.mutations WHERE NOT is_done AND database = {database:String} "
    "AND table = {table:String} AND command LIKE concat('%MATERIALIZE INDEX ', {index:String}, '%')"
)
_BARE = (
    "EXPLAIN ESTIMATE SELECT count() FROM {table} "
    "WHERE _partition_id = {{partition:String}} "
    "AND (hasAllTokens(lower(message), [{{nobodys:String}}]) OR hasAllTokens(lower(title), [{{nobodys:String}}]))"
)
"""As `collector.search.filters` looks for a word: parts that were never merged have no index of titles either."""


def wants(partition: Partition, now: datetime) -> bool:
    """Whether the index is to be built for what of a partition has none."""
    monday = datetime.strptime(partition.week, "%Y%m%d").replace(tzinfo=UTC)
    if now >= monday + CLOSED_AFTER:
        return partition.bare >= CLOSED_ROWS
    return partition.bare >= max(OPEN_ROWS, partition.rows / 2)
