"""What is done for tenants beside the requests: the tenants file is applied when it changed, uses of keys are written.

A fault in the tenants file ends the start (`Caretaker.check`); later it is logged, and everything stays as it was. The
store being away only delays: it is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress

from collector.config import Config
from collector.errors import ConfigError, StoreError
from collector.store.store import Store
from collector.tenants import tenants_file
from collector.tenants.auth import Keyring
from collector.tenants.keys import KeyUses

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the tenants file is looked at."""
USES_S = 60.0
"""How often uses of keys are written."""


class Caretaker:
    def __init__(self, store: Store, keyring: Keyring, uses: KeyUses, config: Config) -> None:
        self._store = store
        self._keyring = keyring
        self._uses = uses
        self._path = config.tenants_file
        self._defaults = config.default_limits
        self._applied: object = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Apply the file if the store is there. Raises ConfigError."""
        if self._path:
            tenants_file.load(self._path, self._defaults, os.environ)  # its faults are told now, even with the store away
            with suppress(StoreError):
                await self._apply()
        self._task = asyncio.create_task(self._keep(), name="caretaker")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(StoreError):
            await self._uses.write(self._store)

    async def _keep(self) -> None:
        written = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._apply()
                if time.monotonic() - written >= USES_S:
                    written = time.monotonic()
                    await self._uses.write(self._store)
            except ConfigError as error:
                log.error("the tenants file is not applied, everything stays as it was: %s", error)
            except StoreError as error:
                log.debug("the caretaker tries again: %s", error)
            except Exception:
                log.exception("looking after tenants failed in an unexpected way")

    async def _apply(self) -> None:
        stamp = tenants_file.stamp_of(self._path) if self._path else None
        if stamp in (None, self._applied) or not self._store.ready:
            return
        try:
            changed = await tenants_file.apply(self._store, tenants_file.load(self._path, self._defaults, os.environ))
        except ConfigError:
            self._applied = stamp  # said once
            raise
        self._applied = stamp
        for tenant_id in set(changed):
            self._keyring.forget(tenant_id)
        if changed:
            log.info("the tenants file was applied: %d tenants changed", len(set(changed)))
