"""A reader at work in the test's own process, so that the disk under its spool can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import wire
from agent.codec import decompress
from agent.config import Config, Source
from agent.files.holding import Held
from agent.ledger import Ledger
from agent.reading.reader import Reader
from agent.spool.spool import Spool
from agent.text import packing
from tests.support.agent import SCOPE
from tests.support.disk import FakeDisk
from tests.support.spooled import abandon, open_spool
from tests.support.wait import until

SEGMENT_BYTES = 3000
"""A segment takes a few records only."""


class Reading:
    """One life of a reader: over the spool in ``folder``, of ``*.log`` in ``logs``. Nothing is shipped; `lines` shows what
    would be. As a context it ends at the block's end, whatever it raised meanwhile is in ``error``."""

    def __init__(self, folder: Path, logs: Path, disk: FakeDisk | None = None, **settings: Any) -> None:
        self.disk = disk or FakeDisk()
        segment_bytes, min_free_bytes = settings.pop("segment_bytes", SEGMENT_BYTES), settings.get("min_free_bytes", 0)
        self.spool: Spool = open_spool(folder, self.disk, segment_bytes=segment_bytes, min_free_bytes=min_free_bytes)
        self.ledger = Ledger()
        self.error: BaseException | None = None
        held: Held | None = settings.pop("held", None)
        include = tuple(settings.pop("include", (f"{logs}/*.log",)))
        source = settings.pop("source", {})
        intervals = {"flush_interval_s": 0.02, "rescan_interval_s": 0.05, **settings}
        self.reader = Reader(
            Config(sources=(Source(**{"name": "app", "include": include, **source}),), **intervals),
            self.spool,
            scope=SCOPE,
            agent="agent",
            ledger=self.ledger,
            on_append=lambda: None,
            tenant_id=lambda: "",
            held=held,
        )
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.reader.run()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Reading:
        self.spool.start(self.reader.head)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """End as a crash does: nothing more is read, nothing is synced."""
        self.spool.journal.sync = lambda: None  # type: ignore[method-assign]
        self.reader.stop(within_s=-1.0)
        self._thread.join()
        abandon(self.spool)

    def has_read(self, events: int) -> None:
        """Wait until that many events are in the spool, or the reader has ended."""
        until(lambda: self.error or self.counts("read_events") >= events, f"{events} events are read", told=self.ledger.counts)
        assert self.error is None, self.error

    def has_told(self, lost_bytes: int = 1) -> None:
        """Wait until at least so many bytes are told lost: counted, which comes first, and in the spool, which may have to
        wait for room."""
        until(lambda: self.error or self._tells(lost_bytes), "the loss is in the spool", told=self.ledger.counts)
        assert self.error is None, self.error

    def _tells(self, lost_bytes: int) -> bool:
        return self.counts("lost_bytes") >= lost_bytes and not self.reader.recorder.losses

    def counts(self, name: str) -> int:
        return self.ledger.counts().get(name, 0)


def shipped(spool: Spool) -> Iterator[wire.Record]:
    """Take all that a spool would ship. It stays unacknowledged."""
    while (run := spool.next_run(max_bytes=1 << 20, max_raw_bytes=1 << 22)) is not None:
        for entry in run.entries:
            yield wire.decode_record(entry.data)


def lines_of(records: Iterator[wire.Record]) -> dict[str, set[str]]:
    """Every line in these records with its IDs."""
    found: dict[str, set[str]] = {}
    for record in records:
        header = record.header
        if header.kind != wire.DATA:
            continue
        for at, event in packing.events_of(header, decompress(record.payload, header.raw_bytes)):
            found.setdefault(event.decode(), set()).add(wire.event_id(header.file_id, at, event))
    return found


def spooled(folder: Path) -> dict[str, set[str]]:
    """The lines that the spool in this folder would ship after a start."""
    spool = open_spool(folder)
    try:
        return lines_of(shipped(spool))
    finally:
        abandon(spool)
