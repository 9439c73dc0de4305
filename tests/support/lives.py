"""Lives of a reader, one after the other, in the test's own thread and with a clock that only the test moves.

Nothing waits and nothing runs beside: a turn of the reader is a call. It can die at any named point (`agent.crash`), the power
can go, and what it would ship is kept as a collector's store would, by ID.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec

from agent import crash, wire
from agent.codec import decompress
from agent.config import Config, Source
from agent.errors import StorageFailed
from agent.files.holding import Held
from agent.ledger import Ledger
from agent.reading import puller, walk
from agent.reading.reader import Reader
from agent.spool.segment import Checkpoint, SpoolHead
from agent.spool.spool import Run, Spool
from agent.text import packing
from tests.support.agent import SCOPE
from tests.support.disk import FakeDisk

FLUSH_S = 0.05
RESCAN_S = 5.0
TURNS = 40
"""Of a reader at most, until it has nothing to do any more."""
LOOKS = 5000
"""At the clock, in one turn at most."""

_checkpoint_of = msgspec.msgpack.Decoder(Checkpoint).decode


class Died(BaseException):
    """At a named point; no ``except Exception`` holds it up."""


class Spins(BaseException):
    """The reader is busy with nothing."""


class Clock:
    """What the agent's modules take for the `time` module. Who asks for the time again and again gets nowhere: `Spins`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        if self.asked > LOOKS:
            raise Spins(f"{LOOKS} looks at the clock in one turn")
        return self.now_s

    def time(self) -> float:
        return 1.7e9 + self.now_s

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


@contextmanager
def clock_of_the_agent(clock: Clock) -> Iterator[None]:
    """Every module of the agent reads this clock."""
    modules = [
        module for name, module in sys.modules.items() if name.startswith("agent.") and module.__dict__.get("time") is time
    ]
    face = SimpleNamespace(**{**vars(time), "monotonic": clock.monotonic, "time": clock.time, "time_ns": clock.time_ns})
    for module in modules:
        module.time = face  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.time = time  # type: ignore[attr-defined]


class Notices:
    """In place of the kernel's: the paths that the test names."""

    blind = False

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def watch(self, wanted: set[str]) -> bool:
        return False

    def wait(self, timeout_s: float, stop: threading.Event) -> set[str]:
        paths, self.paths = self.paths, set()
        return paths

    def close(self) -> None:
        return


class PowerDisk(FakeDisk):
    """Knows what a power cut takes: bytes that were not synced, segments whose folder was not, and it brings back what was
    removed since."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[Path] = []
        self.removed: list[tuple[Path, bytes]] = []
        self._open: set[int] = set()

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._open.add(fd)
        self.synced[os.fstat(fd).st_ino] = 0
        self.created.append(path)
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        super().close(fd)

    def close_all(self) -> None:
        """As the end of a process does, wherever it came."""
        while self._open:
            os.close(self._open.pop())

    def remove(self, path: Path) -> None:
        if path.exists():
            self.removed.append((path, path.read_bytes()))
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.created, self.removed = [], []

    def power_cut(self, folder: Path, kept: float, *, zeros: bool) -> None:
        for path in self.created:
            path.unlink(missing_ok=True)
        for path, data in self.removed:
            path.write_bytes(data)
            self.synced[path.stat().st_ino] = len(data)
        self.created, self.removed = [], []
        for path in folder.glob("*.seg"):
            whole, synced = path.read_bytes(), self.synced.get(path.stat().st_ino, 0)
            keep = synced + round(kept * max(0, len(whole) - synced))
            if keep < len(whole):
                path.write_bytes(whole[:keep] + bytes(len(whole) - keep if zeros else 0))


class Store:
    """What a collector has taken in: lines by their text, each with its IDs; losses by their IDs."""

    def __init__(self) -> None:
        self._names: dict[bytes, set[str]] = {}
        self.completed: set[str] = set()
        """IDs of halves that gave way to whole lines: they are deleted for good."""
        self.losses: dict[str, wire.Loss] = {}

    def take(self, data: bytes) -> None:
        record = wire.decode_record(data)
        if record.header.kind == wire.LOSS:
            for loss in wire.decode_losses(decompress(record.payload, record.header.raw_bytes)):
                if loss.takes_back or not getattr(self.losses.get(loss.loss_id), "takes_back", False):
                    self.losses[loss.loss_id] = loss
        if record.header.kind == wire.COMPLETED:
            self.completed.update(wire.decode_completed(decompress(record.payload, record.header.raw_bytes)))
        for name, event in events_of(record):
            self._names.setdefault(event, set()).add(name)

    @property
    def lines(self) -> dict[bytes, set[str]]:
        """What search shows."""
        shown = ((text, names - self.completed) for text, names in self._names.items())
        return {text: names for text, names in shown if names}

    @property
    def lost_bytes(self) -> int:
        return sum(loss.lost_bytes for loss in self.losses.values())


def events_of(record: wire.Record) -> list[tuple[str, bytes]]:
    """Each with its ID."""
    header = record.header
    if header.kind != wire.DATA:
        return []
    found = packing.events_of(header, decompress(record.payload, header.raw_bytes))
    return [(wire.event_id(header.file_id, at, bytes(event)), bytes(event)) for at, event in found]


class Lives:
    """The agent over all its starts: state folder, collector and clock outlive each."""

    def __init__(self, folder: Path, include: tuple[str, ...], *, segment_bytes: int, max_open_files: int) -> None:
        self.folder = folder
        self.clock = Clock()
        self.store = Store()
        self.notices = Notices()
        self.disk = PowerDisk()
        self._segment_bytes = segment_bytes
        self._config = Config(
            sources=(Source("app", include),),
            flush_interval_s=FLUSH_S,
            rescan_interval_s=RESCAN_S,
            max_open_files=max_open_files,
        )
        self._held = Held()
        self.reader: Reader | None = None
        self.spool: Spool
        self._runs: list[Run] = []
        self.appended: set[tuple[str, bytes]] = set()
        """IDs and lines in the spool that a power cut would take."""
        self.durable: set[tuple[str, bytes]] = set()
        """Those that nothing may take any more."""
        self._sizes: dict[str, int] = {}
        self.told_sizes: dict[str, int] = {}
        """Origin -> how far its file reached, as the synced spool knows."""

    @property
    def up(self) -> bool:
        return self.reader is not None

    def start(self) -> None:
        spool = Spool(self.folder, segment_bytes=self._segment_bytes, max_bytes=1 << 30, disk=self.disk)
        self._watch(spool)
        made = Reader(
            self._config,
            spool,
            scope=SCOPE,
            agent="agent",
            ledger=Ledger(),
            on_append=lambda: None,
            tenant_id=lambda: "",
            held=self._held,
        )
        made.walk.watcher.close()
        made.walk.watcher = self.notices  # type: ignore[assignment]
        self.spool, self.reader, self._runs = spool, made, []
        spool.start(made.head)
        self._synced()

    def _watch(self, spool: Spool) -> None:
        append, sync, note = spool.append, spool.journal.sync, spool.note_states

        def appending(record: bytes, *, rolls: bool = True, waits: bool = False) -> None:
            append(record, rolls=rolls, waits=waits)
            for decoded in wire.decode_run(record):
                self.appended.update(events_of(decoded))
                if decoded.header.kind == wire.DATA:
                    state = _checkpoint_of(decoded.header.checkpoint).state
                    self._sizes[state.origin] = max(state.size, self._sizes.get(state.origin, 0))
            if not spool.unsynced_bytes:
                self._synced()

        def syncing() -> None:
            sync()
            self._synced()

        def noting(head: SpoolHead) -> None:
            note(head)
            for state in head.states:
                self._sizes[state.origin] = max(state.size, self._sizes.get(state.origin, 0))

        spool.append, spool.journal.sync, spool.note_states = appending, syncing, noting  # type: ignore[method-assign]

    def _synced(self) -> None:
        self.durable |= self.appended
        self.told_sizes |= self._sizes
        self.appended, self._sizes = set(), {}

    def turn(self, seconds: float = FLUSH_S * 2) -> None:
        """What a reader does between two pauses; a spool that fails is opened anew, as the agent does."""
        assert self.reader is not None
        self.clock.now_s += seconds
        self.clock.asked = 0
        try:
            self.reader._round()
        except StorageFailed:
            self.fail()
        except Spins as error:
            raise AssertionError(f"the reader spins: {error}") from error

    def turns(self) -> None:
        """Until there is nothing to do at once, and nothing for want of a look."""
        for _ in range(TURNS):
            if self.reader is None:
                return
            before = self.spool.size_bytes
            self.turn()
            if self.spool.size_bytes == before and not self.notices.paths and not self.reader.turns.due:
                return

    def sync(self) -> None:
        try:
            self.spool.sync()
        except StorageFailed:
            self.fail()

    def ship(self, runs: int = 1 << 20, *, acked: bool = True) -> None:
        """Send so many runs; the answers come, or are lost."""
        for _ in range(runs):
            run = self.spool.next_run(max_bytes=2000, max_raw_bytes=1 << 20)
            if run is None and self.spool.waits_for_sync:
                self.sync()  # as the agent does at once
                run = self.spool.next_run(max_bytes=2000, max_raw_bytes=1 << 20)
            if run is None:
                break
            self._runs.append(run)
            for entry in run.entries:
                self.store.take(entry.data)
        while acked and self._runs:
            self.spool.ack(self._runs.pop(0).entries)

    # Ends --------------------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """The spool's disk failed: what was not synced is cut off, and the agent begins again with its files still open."""
        self.appended, self._sizes = set(), {}
        self.end(held=True)
        self.start()
        self.turn()

    def end(self, *, held: bool = False) -> None:
        """The process is gone, its page cache is not."""
        if self.reader is None:
            return
        self.reader.release()
        if not held:
            self._held.close()
        self.disk.close_all()
        self.reader = None

    def stop(self) -> None:
        """SIGTERM."""
        assert self.reader is not None
        self.clock.asked = 0
        try:
            self.reader.stop(within_s=1.0, parting=True)
            self.reader._read_to_the_end()
        except StorageFailed:
            self.fail()
        self.ship()
        self.end()

    def finish(self, *pauses_s: float) -> None:
        """Time passes, all there is is read and shipped, and the process is gone."""
        for seconds in pauses_s:
            self.turn(seconds)
            self.turns()
        self.ship()
        self.end()

    def power_cut(self, kept: float, *, zeros: bool) -> None:
        self.end()
        self.disk.power_cut(self.folder, kept, zeros=zeros)
        self.appended, self._sizes = set(), {}

    def lose_state(self) -> None:
        """Somebody deleted the state folder."""
        self.end()
        for path in self.folder.glob("*"):
            path.unlink()
        self.disk.created, self.disk.removed = [], []
        self.appended, self.durable, self._sizes, self.told_sizes = set(), set(), {}, {}


@contextmanager
def death(nth: int, at: str = "") -> Iterator[list[str]]:
    """Within it the agent dies at the nth named point that it comes to, of those with a name. Yields where, once it has."""
    usual, left, where = crash.point, nth, []

    def point(name: str) -> None:
        nonlocal left
        left -= not at or name == at
        if not left:
            where.append(name)
            raise Died(name)

    crash.point = point
    try:
        yield where
    except Died:
        pass
    finally:
        crash.point = usual


@contextmanager
def small_blocks(block_bytes: int) -> Iterator[None]:
    """A few lines make a block."""
    usual = puller.BLOCK_BYTES
    puller.BLOCK_BYTES = walk.BLOCK_BYTES = block_bytes
    try:
        yield
    finally:
        puller.BLOCK_BYTES = walk.BLOCK_BYTES = usual
