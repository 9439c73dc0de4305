"""Parts of the store's tables that a power cut or a bad disk has damaged: found, set aside, named with the mend.

- The engine sets aside at its start what lacks files or has them cut (`collector.store.schema.DURABLE` lets it start).
- What only the content shows, a flipped bit, fails every read that comes over it. It is looked for after an unclean stop,
  partition by partition beside the requests, and set aside too: everything else can be read again.
- What is set aside stays on the disk, in the table's folder ``detached``, until an operator removes it. It is said in the
  log with names and places, and without them in /readyz, /metrics and the health.

Whose events a damaged part held cannot be told, so they are in no tenant's ledger. `pulsestream-agent verify` finds what is
missing of the files that are still there, and `repair` sends it.

Known limit: of a served store only what its engine has set aside as broken is named, since an operator may detach parts
there; looking into every part is left to them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from collector.errors import StoreAway
from collector.metrics import Metrics
from collector.store.store import Row, Store

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often it is tried while the store is away."""
_LONG = {"max_execution_time": "86400", "max_rows_to_read": "0"}
_LONG_S = 86400.0


class Breakage:
    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None
        self.warning = ""
        """What an operator has to know; empty: nothing is set aside."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._look(), name="breakage")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        looked = not self._store.unclean
        while True:
            try:
                if self._store.ready:
                    await self._tell()  # first what is known without looking
                    if not looked:
                        await self._set_aside()
                        self._store.examined()
                        await self._tell()
                    return
            except StoreAway as error:
                log.debug("damaged parts are looked for later: %s", error)
            except Exception:
                log.exception("looking for damaged parts of the store failed; it is done again at the next start")
                return
            await asyncio.sleep(LOOK_S)

    async def _set_aside(self) -> None:
        """Read all parts once, and take those away that cannot be read. Raises StoreError, StoreAway."""
        log.info("the store was not closed well: looking for damaged parts")
        partitions = await self._store.query(
            "SELECT DISTINCT table, partition_id FROM system.parts WHERE active AND database = {database:String} ORDER BY ALL",
            {"database": self._store.database},
        )
        for table, partition in partitions:
            check = f"CHECK TABLE {table} PARTITION ID '{partition}' SETTINGS check_query_single_value_result = 0"
            for part, passed, *why in await self._store.query(check, settings=_LONG, timeout_s=_LONG_S):
                if str(passed) == "1":
                    continue
                name = str(part).strip()
                log.error("store: part %s of table %s is damaged: %s", name, table, " ".join(map(str, why)))
                await self._store.command(f"ALTER TABLE {table} DETACH PART '{name}'")

    async def _tell(self) -> None:
        found = await set_aside(self._store)
        self._metrics.parts_set_aside.set(len(found))
        before, self.warning = self.warning, ""
        if found:
            self.warning = (
                f"{len(found)} damaged parts of the store are set aside, and events with them: beside the apps, "
                "`pulsestream-agent verify` says which are missing and `pulsestream-agent repair` sends them; then remove the "
                "parts (the collector's log has their places) and start again"
            )
        if self.warning != before:
            log.error("%s: %s", self.warning, "; ".join(f"{table}: {path}" for table, _, path in found))


async def set_aside(store: Store) -> list[Row]:
    """Table, name and place of each part that is set aside as damaged."""
    return await store.query(
        "SELECT table, name, toString(path) FROM system.detached_parts WHERE database = {database:String} "
        "AND (startsWith(ifNull(reason, ''), 'broken') OR ifNull(reason, '') = '' AND {ours:Bool}) ORDER BY ALL",
        {"database": store.database, "ours": store.place.startswith("chdb:")},
    )
