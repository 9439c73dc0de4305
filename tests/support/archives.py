"""Archives as rotations make them, and what is said of a spool that read them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from agent.codec import compress_aside
from tests.support.agent import App
from tests.support.damage import losses_in
from tests.support.reading import Reading, spooled
from tests.support.wait import until

FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1),
    "zst": compress_aside,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bz2": lambda data: bz2.compress(data, 1),
}


def packed(path: Path, form: str = "gz") -> Path:
    """As a rotation does: the file becomes a compressed one beside it."""
    made = path.with_name(f"{path.name}.{form}")
    made.write_bytes(FORMATS[form](path.read_bytes()))
    path.unlink()
    return made


def write_much(app: App, count: int) -> None:
    """Lines that do not compress well."""
    random, first = Random(count), len(app.lines)
    new = [f"{app.name} line {first + number:06d} {random.randbytes(20).hex()}" for number in range(count)]
    app.append("".join(f"{line}\n" for line in new))
    app.lines += new


def losses(folder: Path) -> list[tuple[str, int, int, bool]]:
    """Reason, first byte, bytes, at least: of each loss record in the spool."""
    return [(loss.reason, loss.offset, loss.lost_bytes, loss.at_least) for loss in losses_in(folder)]


def once(folder: Path, lines: Iterable[str]) -> None:
    """These lines and no others are in the spool, each under one ID, and nothing is told to be lost."""
    found = spooled(folder)
    assert sorted(found.keys() - set(lines)) == []
    assert {line: len(found.get(line, ())) for line in lines} == dict.fromkeys(lines, 1)
    assert losses(folder) == []


def quiet(reading: Reading) -> None:
    """Wait until it has walked once more, with nothing left to do."""
    walks = reading.reader.catalog._contents.walks
    until(
        lambda: (
            reading.error
            or (
                reading.reader.catalog._contents.walks > walks + 2
                and not reading.reader.turns.due
                and not reading.reader.catalog.searching
            )
        ),
        "it has nothing to do",
        told=lambda: [(tail.name, tail.size, tail.state) for tail in reading.reader.catalog.tails.values()],
    )
    assert reading.error is None, reading.error
