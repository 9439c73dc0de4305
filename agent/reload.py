"""The configuration in force, and what becomes of another: it is checked whole before anything changes, or it is refused.

- A refused one changes nothing. Why it was refused, and since when, stays to be seen until one is taken.
- ``state_dir``, ``scope`` and ``scope_file`` decide which state this is and what its IDs are: they change with a restart only.
- A new one is taken at a boundary of the agent's life (`agent.service`): reading stops between two blocks, and goes on from
  what the spool says, as after a stop and a start, but in the same process, with the same lock, counters and open files.
- One that is fine by itself and cannot be put in force (a port that is taken) is refused then, and the one before is taken
  again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent.config import Config
from agent.errors import ConfigError

log = logging.getLogger("agent")

LOOK_S = 1.0
"""How often a watched configuration is looked at. It counts as written when two looks in a row agree."""
FIXED = ("state_dir", "scope", "scope_file")


def fixed_faults(old: Config, new: Config) -> list[str]:
    """What of a new configuration cannot be taken while the agent runs."""
    return [
        f"{name}: is {getattr(new, name)!r}, the running agent has {getattr(old, name)!r}; restart the agent to change it, or "
        "put the old value back"
        for name in FIXED
        if getattr(old, name) != getattr(new, name)
    ]


def changes(old: Config, new: Config) -> list[str]:
    """What differs, by name: sections, and sources that came, went or are other ones."""
    found = []
    before = {source.name: source for source in old.sources}
    after = {source.name: source for source in new.sources}
    found += [f"source {name} removed" for name in before if name not in after]
    found += [f"source {name} added" for name in after if name not in before]
    found += [f"source {name} changed" for name in after if name in before and before[name] != after[name]]
    if not found and old.sources != new.sources:
        found.append("order of sources")
    names = [field.name for field in msgspec.structs.fields(Config) if field.name != "sources"]
    return found + [name for name in names if getattr(old, name) != getattr(new, name)]


class Settings:
    """Owned by the event loop.

    Args:
        load: reads the configuration anew. Raises ConfigError.
        apply: is told each one that comes into force.
    """

    def __init__(
        self, config: Config, *, load: Callable[[], Config] | None = None, apply: Callable[[Config], None] = lambda _: None
    ) -> None:
        self.config = config
        self.changed = asyncio.Event()
        """Another configuration is in `config` than the one that is at work."""
        self._load = load
        self._apply = apply
        self._before: Config | None = None
        self._loaded_ns = time.time_ns()
        self._refused_ns = 0
        self._refused = ""
        self._asked = 0
        self._taken = 0

    def said(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "loaded_ns": self._loaded_ns,
            "asked": self._asked,
            "taken": self._taken,
            "refused_ns": self._refused_ns,
            "refused": self._refused,
        }

    def ask(self) -> None:
        """Read the configuration again, and take it if it can be taken."""
        if self._load is None:
            return
        try:
            new = self._load()
        except ConfigError as error:
            self._refuse(str(error))
        else:
            self._take(new)
        self._asked += 1

    def _take(self, new: Config) -> None:
        if faults := fixed_faults(self.config, new):
            self._refuse("\n".join(faults))
            return
        if self._refused:
            log.info("the configuration is no longer refused")
        self._refused, self._refused_ns = "", 0
        if not (found := changes(self.config, new)):
            log.info("the configuration was read again: nothing has changed")
            return
        log.info("the configuration was read again; changed: %s", ", ".join(found))
        self._before = self._before or self.config
        self.config = new
        self.changed.set()

    def begin(self) -> Config:
        """A part of the agent's life begins, with this one."""
        self.changed.clear()
        self._apply(self.config)
        return self.config

    def works(self) -> None:
        """The present one is in force."""
        if self._before is not None:
            self._taken += 1
            self._loaded_ns = time.time_ns()
        self._before = None

    def fails(self, reason: str) -> bool:
        """The present one cannot be put in force. Whether there is one before it that was."""
        if self._before is None:
            return False
        self.config, self._before = self._before, None
        self._refuse(reason)
        return True

    def _refuse(self, reason: str) -> None:
        for line in reason.splitlines():
            log.error("the new configuration is refused, the old one stays: %s", line)
        self._refused_ns = self._refused_ns or time.time_ns()
        self._refused = reason

    async def watch(self, path: Path) -> None:
        """Until cancelled: `ask` when the file has changed."""
        known = last = _look(path)
        while True:
            await asyncio.sleep(LOOK_S)
            now = _look(path)
            if now == last and now != known and now is not None:
                known = now
                self.ask()
            last = now


def _look(path: Path) -> tuple[int, int, int, int] | None:
    """What tells one content of a file from another, also where it is reached through links that move; None: it is away."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
