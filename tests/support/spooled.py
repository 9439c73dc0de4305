"""Records as the reader puts them into the spool, for files whose content does not matter."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec

from agent import wire
from agent.files import identity
from agent.files.identity import FileState
from agent.spool.segment import Checkpoint, SpoolHead, encode_checkpoint, merge
from agent.spool.spool import Spool
from tests.support.disk import FakeDisk

SCOPE = "scope-of-the-test"
_numbers = itertools.count()


class Written:
    """What an agent knows while it fills a spool: the state of every file. Takes over what a spool has recovered."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.states: dict[str, FileState] = dict(spool.recovery.states)
        spool.start(lambda: SpoolHead(SCOPE, "tenant", list(self.states.values()), {}))

    def offset(self, origin: str) -> int:
        return self.states[origin].offset if origin in self.states else 0

    def append(self, origin: str, length: int = 10, *, payload: bytes = b"x") -> str:
        """Read ``length`` more bytes of a file. Returns the record's ID. Raises as the spool does; then nothing was read."""
        state = self.states.get(origin) or new_state(origin)
        record_id, record, after = data_record(state, length, payload=payload)
        self.spool.append(record)
        self.states[origin] = after
        return record_id


def new_state(origin: str) -> FileState:
    return FileState(
        origin=origin, source="app", path=f"/{origin}", born_path=f"/{origin}", inode=1, generation=1, size=0, offset=0,
        head="", tag=0, head_id=identity.file_id(SCOPE, "app", origin.encode(), 0),
    )  # fmt: skip


def data_record(state: FileState, length: int, *, payload: bytes = b"x", replaces: str = "") -> tuple[str, bytes, FileState]:
    """The next record of a file: its ID, its bytes, and the file's state after it."""
    to = state.offset + length
    change = msgspec.structs.replace(state, marks={}, recent=[(to, to)], offset=to, size=to)
    record_id = f"r{next(_numbers)}"
    header = wire.Header(
        wire.DATA,
        record_id,
        origin=state.origin,
        path=state.path,
        base_offset=state.offset,
        source_from=state.offset,
        source_to=to,
        raw_bytes=length,
        events=1,
        checkpoint=encode_checkpoint(Checkpoint(change, replaces)),
    )
    return record_id, wire.encode_record(header, payload), merge(state, change)


def open_spool(
    folder: Path, disk: FakeDisk | None = None, *, segment_bytes: int = 1000, max_bytes: int = 1 << 30, min_free_bytes: int = 0
) -> Spool:
    return Spool(
        folder, segment_bytes=segment_bytes, max_bytes=max_bytes, min_free_bytes=min_free_bytes, disk=disk or FakeDisk()
    )


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def abandon(spool: Spool) -> None:
    """Close its files as the end of the process does: nothing is synced."""
    spool.journal.sync = lambda: None  # type: ignore[method-assign]
    spool.close()
