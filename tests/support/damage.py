"""What a spool on disk holds, and how a test spoils it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from agent import wire
from agent.codec import decompress
from agent.spool.segment import scan
from tests.support.agent import App
from tests.support.reading import Reading, shipped
from tests.support.spooled import abandon, open_spool


def once(found: dict[str, set[str]], lines: list[str]) -> None:
    assert sorted(found) == sorted(lines)
    assert {line: ids for line, ids in found.items() if len(ids) != 1} == {}


def read_in_portions(folder: Path, logs: Path, *, portions: int = 12) -> App:
    """A file in a spool of several segments, a record each few lines."""
    app = App(logs / "app.log")
    with Reading(folder, logs) as reading:
        for _ in range(portions):
            app.write(20)
            reading.has_read(len(app.lines))
    return app


def data_records(path: Path) -> list[wire.Record]:
    found = scan(path.read_bytes())
    return [item for item in found if isinstance(item, wire.Record) and item.header.kind == wire.DATA]


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def losses_in(folder: Path) -> list[wire.Loss]:
    """The losses that the spool in this folder tells. Of a copy: opening cuts a torn tail, which may be an append under way."""
    with tempfile.TemporaryDirectory() as copy:
        spool = open_spool(Path(shutil.copytree(folder, copy, dirs_exist_ok=True)))
        told = [record for record in shipped(spool) if record.header.kind == wire.LOSS]
        abandon(spool)
    return [loss for record in told for loss in wire.decode_losses(decompress(record.payload, record.header.raw_bytes))]
