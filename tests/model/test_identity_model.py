"""Files, reader and spool against a model that knows which bytes are which: random histories, deaths and power cuts.

Apps write, rotate, copy, compress, cut, rewrite and delete real files, leave half lines and holes in them; a real reader with
its catalog and spool looks at them now and then, ships, and dies at any named point. Its clock is stepped. Whatever happened
before, once it has had time:

- every line whose file, or a renamed or copied successor of it, is still there is in the store; so is every line that was in
  a synced spool, whatever became of its file;
- no line has more IDs than it was written times; nothing is in the store that nobody wrote; a half line that was sent at the
  end of the agent gives way to the whole one;
- what was seen by the reader and is in the store nowhere is in the ledger, at least in bytes; and nothing is in the ledger
  while no bytes were taken away.

What the model lets pass is what README names as limits, each where it says ``exempt``.

``make model MODEL=50`` runs so many times as many histories, others each time (the suite's are always the same).
A failing one is printed with what repeats it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.files.gaps import GAP_BYTES
from agent.files.identity import BODY_AT, HEAD_BYTES, crc_before
from tests.support.lives import Lives, clock_of_the_agent, death, small_blocks
from tests.support.records import zstd

SCALE = max(1, int(os.environ.get("MODEL", "1")))
BLOCK_BYTES = BODY_AT + 100
NUMBERS = 3
"""Rotated files that are kept; the oldest is deleted."""
HEADERS = {"": b"", "short": b"time level message\n", "longer than a head": b"# " + b"banner " * 160 + b"\n"}
"""Equal in many files."""
EQUAL = (b"", b"same again", b"same again and again and again")
NAMES = ("app.log", "b.log")
INCLUDES = (("*.log",), ("*.log*",))
IDLE_S = 60.0
"""A rotated file is done with after so long."""

PATH = st.sampled_from(NAMES)
HEADER = st.sampled_from(sorted(HEADERS))
ITEM = st.one_of(st.integers(0, 90), st.integers(0, 2400), st.sampled_from(EQUAL))
ITEMS = st.lists(ITEM, min_size=1, max_size=8)
FRACTION = st.floats(0, 1)
PACKED = (".gz", ".zst")
HOLES = (GAP_BYTES, 700, BODY_AT, BODY_AT + 900)
HOLE = re.compile(rb"\A\0+|\0{%d,}" % GAP_BYTES)
"""A run of NULs that is no content."""
THEN = st.sampled_from(("", "read", "read, ship", "time"))
"""What the agent does behind it."""


class Line(NamedTuple):
    """One line that was written: there is one of it, however often its file is renamed and copied."""

    content_of: int
    """Which content (`File.content`): a copy shares it, a file that begins anew has one of its own."""
    offset: int
    text: bytes
    newline: int = 1
    """0: a hole follows instead."""

    @property
    def end(self) -> int:
        return self.offset + len(self.text) + self.newline


class File:
    """One file on disk, as its app knows it."""

    def __init__(self, path: Path, content: int, data: bytes = b"") -> None:
        self.path = path
        self.content = content
        self.data = data
        self.synced = 0
        self.half = ""
        self.away_s = 0.0
        """When it was rotated away; 0: it was not."""
        self.lines: frozenset[Line] = frozenset()
        self.tail = b""
        """The last line, without its newline."""
        self.origins: set[str] = set()
        """Under which the reader knows what it holds."""

    def parse(self) -> None:
        lines, at, self.tail = [], 0, b""
        holes = [(hole.start(), hole.end()) for hole in HOLE.finditer(self.data)]
        for start, end in [*holes, (len(self.data), len(self.data))]:
            *whole, half = self.data[at:start].split(b"\n")
            for text in whole:
                lines.append(Line(self.content, at, text))
                at += len(text) + 1
            if half and end < len(self.data):
                lines.append(Line(self.content, at, half, newline=0))
            elif at < start:
                self.tail = half
            at = end
        self.lines = frozenset(lines)

    def holds(self, position: int, crc: int) -> bool:
        """Whether a mark of the reader's is one of this file. The reader is not asked: it may not know yet where that is."""
        return len(self.data) >= position and crc_before(self.data, position) == crc

    @property
    def begins(self) -> bytes | int:
        """What equal lines at equal places are one for. Exempt: files that are equal over 4 KiB or more count as copies."""
        return self.data[:BODY_AT] if len(self.data) >= BODY_AT else self.content

    @property
    def head(self) -> bytes:
        return self.data.lstrip(b"\0").split(b"\n")[0][:1024]

    @property
    def packed(self) -> bool:
        return self.path.suffix in PACKED


def is_unique(text: bytes) -> bool:
    return text not in EQUAL and not any(text and header.startswith(text) for header in HEADERS.values())


def packed(kind: str, data: bytes, cut: int) -> tuple[bytes, bytes]:
    """A compressed file in two parts; the first one holds the first ``cut`` bytes."""
    if kind == ".gz":
        gz = zlib.compressobj(wbits=31)
        return gz.compress(data[:cut]) + gz.flush(zlib.Z_SYNC_FLUSH), gz.compress(data[cut:]) + gz.flush()
    zst = zstd.ZstdCompressor()
    first = zst.compress(data[:cut], zst.FLUSH_BLOCK)
    return first, zst.compress(data[cut:], zst.FLUSH_FRAME)


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.files: dict[Path, File] = {}
        self.gone: list[File] = []
        """Deleted ones."""
        self.contents = 0
        self.numbers = 0
        self.written: set[Line] = set()
        self.exempt: Counter[bytes] = Counter()
        """How many IDs more than it was written times a text may have."""
        self.vague: set[bytes] = set()
        """Texts of which any number may be there."""
        self.tags_lost = False
        self.heads: Counter[bytes] = Counter()
        """Head -> how many contents began with it."""
        self.seen: dict[Line, set[tuple[str, int]]] = {}
        """Lines that the reader knows to be there, by the size that it has noted under an origin."""
        self.halved: set[Line] = set()
        """Of these a part was taken away."""
        self.taken_away = False
        self.full = False
        self.packing: dict[File, tuple[Path, bytes]] = {}
        """Files that are being compressed -> where to, and what is not written yet."""
        self.forked: set[int] = set()
        """Contents whose half lines are not only where they may go on."""
        self.parted: dict[tuple[int, int], bytes] = {}
        """Content and place of a half line -> what the agent has sent of it when it ended."""

    @initialize(
        include=st.sampled_from(INCLUDES), segment_bytes=st.sampled_from((1500, 6000)), handles=st.sampled_from((1, 2, 50))
    )
    def begin(self, include: tuple[str, ...], segment_bytes: int, handles: int) -> None:
        self.include = include
        self.lives = Lives(
            self.folder / "spool",
            tuple(f"{self.logs}/{pattern}" for pattern in include),
            segment_bytes=segment_bytes,
            max_open_files=handles,
        )
        self.stack.enter_context(clock_of_the_agent(self.lives.clock))
        self.stack.enter_context(small_blocks(BLOCK_BYTES))
        self.lives.start()

    def teardown(self) -> None:
        try:
            if hasattr(self, "lives") and sys.exc_info()[0] is None:
                self.settle()
        finally:
            if hasattr(self, "lives"):
                self.lives.end()
            self.stack.close()

    # Apps --------------------------------------------------------------------------------------------------------------

    def text_of(self, item: int | bytes) -> bytes:
        if isinstance(item, bytes):
            return item
        self.numbers += 1
        name = b"%d." % self.numbers
        return (name * (item // len(name) + 1))[: max(item, len(name))]

    def create(self, path: Path, data: bytes = b"") -> File:
        path.write_bytes(data)
        self.contents += 1
        file = self.files[path] = File(path, self.contents)
        self.change(file, data)
        return file

    def change(self, file: File, data: bytes) -> None:
        """The file holds this now."""
        if (not file.head and data) or b"\n" not in file.data:
            file.data = data
            self.heads[file.head] += 1
        file.data = data
        file.parse()
        self.written |= file.lines
        if self.lives.up:
            self.lives.notices.paths.add(str(file.path))

    def append(self, file: File, data: bytes) -> None:
        with file.path.open("ab") as out:
            out.write(data)
        self.change(file, file.data + data)

    def began_again(self, file: File, data: bytes) -> None:
        """In place: other content in the same inode."""
        self.taken_away = True
        self.contents += 1
        file.content, file.data, file.synced, file.half = self.contents, b"", 0, ""
        file.origins = set()
        self.change(file, data)

    def lines_of(self, items: Iterable[int | bytes]) -> bytes:
        return b"".join(self.text_of(item) + b"\n" for item in items)

    def at(self, name: str) -> File | None:
        return self.files.get(self.logs / name)

    @rule(name=PATH, items=ITEMS, header=HEADER, then=THEN)
    def write(self, name: str, items: list[int | bytes], header: str, then: str) -> None:
        file = self.at(name) or self.create(self.logs / name)
        self.append(file, HEADERS[header] * (not file.data) + self.lines_of(items))
        file.half = ""
        self.agent(then)

    @rule(name=PATH, length=st.integers(1, 400))
    def write_half_a_line(self, name: str, length: int) -> None:
        file = self.at(name) or self.create(self.logs / name)
        text = self.text_of(length + 8)
        cut = max(1, len(text) // 2)
        self.append(file, text[:cut])
        file.half = text[cut:].decode()

    @rule(name=PATH)
    def write_the_rest(self, name: str) -> None:
        file = self.at(name)
        if file is not None and file.half:
            self.append(file, file.half.encode() + b"\n")
            file.half = ""

    @rule(name=PATH, length=st.sampled_from(HOLES), items=st.one_of(st.none(), ITEMS), then=THEN)
    def leave_a_hole(self, name: str, length: int, items: list[int | bytes] | None, then: str) -> None:
        """A writer that kept its position while its file was truncated; without ``items``: size that was given in advance."""
        file = self.at(name) or self.create(self.logs / name)
        self.append(file, bytes(length) + self.lines_of(items or ()))
        file.half = ""
        self.agent(then)

    @rule(which=FRACTION, items=ITEMS)
    def write_to_what_was_rotated(self, which: float, items: list[int | bytes]) -> None:
        """An app that has not opened its log anew yet."""
        now_s = self.lives.clock.now_s
        files = [file for file in self.rotated() if now_s - file.away_s < IDLE_S and not file.tail]
        files = [file for file in files if not file.packed and file not in self.packing]
        if files:
            self.append(files[round(which * (len(files) - 1))], self.lines_of(items))

    def rotated(self) -> list[File]:
        return [file for file in self.files.values() if file.away_s and not file.path.name.endswith(".bak")]

    @rule(name=PATH)
    def app_syncs(self, name: str) -> None:
        if file := self.at(name):
            file.synced = len(file.data)

    # What becomes of files ---------------------------------------------------------------------------------------------

    def move(self, file: File, to: Path) -> None:
        self.is_packed(file)
        if there := self.files.get(to):
            self.remove(there)
        file.path.rename(to)
        self.told(file.path, to)
        del self.files[file.path]
        file.path, self.files[to] = to, file
        file.away_s = file.away_s or self.lives.clock.now_s

    def told(self, *paths: Path) -> None:
        if self.lives.up:
            self.lives.notices.paths.update(map(str, paths))

    def remove(self, file: File) -> None:
        self.is_packed(file)
        file.path.unlink()
        self.told(file.path)
        self.taken_away = True
        self.gone.append(self.files.pop(file.path))

    def free_number(self, name: str) -> Path:
        """Move the numbered ones up by one."""
        for number in range(NUMBERS, 0, -1):
            for kind in ("", *PACKED):
                if file := self.at(f"{name}.{number}{kind}"):
                    self.is_packed(file)
                    if number == NUMBERS:
                        self.remove(file)
                    else:
                        self.move(file, self.logs / f"{name}.{number + 1}{file.path.suffix * file.packed}")
        return self.logs / f"{name}.1"

    def free_date(self, name: str) -> Path:
        self.numbers += 1
        return self.logs / f"{name}-{20260000 + self.numbers}"

    @rule(name=PATH, dated=st.booleans(), created=st.booleans(), then=THEN)
    def rotate_by_renaming(self, name: str, dated: bool, created: bool, then: str) -> None:
        if file := self.at(name):
            self.move(file, self.free_date(name) if dated else self.free_number(name))
            if created:
                self.create(self.logs / name)
        self.agent(then)

    @rule(which=FRACTION, kind=st.sampled_from(PACKED), written=FRACTION, then=THEN)
    def begin_to_compress(self, which: float, kind: str, written: float, then: str) -> None:
        """Its first part is there, and the original."""
        files = [file for file in self.rotated() if not file.packed and file.data and file not in self.packing]
        if files:
            file = files[round(which * (len(files) - 1))]
            to = file.path.with_name(file.path.name + kind)
            if there := self.files.get(to):
                self.remove(there)
            first, rest = packed(kind, file.data, round(written * len(file.data)))
            to.write_bytes(first)
            self.packing[file] = to, rest
            self.told(to)
        self.agent(then)

    @rule(which=FRACTION, then=THEN)
    def end_compressing(self, which: float, then: str) -> None:
        if self.packing:
            self.is_packed(list(self.packing)[round(which * (len(self.packing) - 1))])
        self.agent(then)

    def is_packed(self, file: File) -> None:
        """Before anything else happens to it."""
        if file not in self.packing:
            return
        to, rest = self.packing.pop(file)
        with to.open("ab") as out:
            out.write(rest)
        file.path.unlink()
        self.told(file.path, to)
        del self.files[file.path]
        file.path, self.files[to] = to, file

    def copied(self, file: File, to: Path) -> File:
        if there := self.files.get(to):
            self.remove(there)
        to.write_bytes(file.data)
        copy = self.files[to] = File(to, file.content, file.data)
        copy.parse()
        copy.origins = set(file.origins)
        copy.away_s = self.lives.clock.now_s
        self.is_elsewhere(file)
        self.told(to)
        return copy

    @rule(name=PATH, dated=st.booleans(), items=st.one_of(st.none(), ITEMS), then=THEN)
    def rotate_by_copying(self, name: str, dated: bool, items: list[int | bytes] | None, then: str) -> None:
        """copytruncate; what is written between its two steps is gone."""
        if file := self.at(name):
            self.copied(file, self.free_date(name) if dated else self.free_number(name))
            if items is not None:
                self.append(file, self.lines_of(items))
            os.truncate(file.path, 0)
            self.began_again(file, b"")
        self.agent(then)

    @rule(name=PATH, listed=st.booleans(), then=THEN)
    def copy(self, name: str, listed: bool, then: str) -> None:
        """Exempt: a copy of less than 4 KiB that stays beside its original counts as a file of its own."""
        if file := self.at(name):
            self.numbers += 1
            self.copied(file, self.logs / (f"copy-{self.numbers}.log" if listed else f"{name}.bak"))
            self.again(file)
        self.agent(then)

    def again(self, file: File) -> None:
        """All of a short file may be another instance from now on."""
        if len(file.data) < BODY_AT:
            self.exempt.update(line.text for line in file.lines)
            self.heads[file.head] += 1

    @rule(name=PATH, kept=FRACTION, then=THEN)
    def cut_back(self, name: str, kept: float, then: str) -> None:
        if file := self.at(name):
            self.cut(file, round(kept * len(file.data)))
        self.agent(then)

    def cut(self, file: File, size: int) -> None:
        """Exempt: what a short file is cut back to counts as new."""
        if size == len(file.data):
            return
        self.taken_away = True
        self.is_elsewhere(file)
        self.halved |= {line for line in file.lines if line.offset < size < line.end}
        os.truncate(file.path, size)
        file.half, file.synced = "", min(file.synced, size)
        if size < BODY_AT:
            self.contents += 1
            file.content, file.origins = self.contents, set()
        self.change(file, file.data[:size])
        self.again(file)

    @rule(name=PATH, items=ITEMS, then=THEN)
    def rewrite(self, name: str, items: list[int | bytes], then: str) -> None:
        if file := self.at(name):
            data = self.lines_of(items)
            file.path.write_bytes(data)
            self.numbers += 1
            os.utime(file.path, (self.numbers, self.numbers))  # two in one tick of the kernel's clock look like one
            self.began_again(file, data)
        self.agent(then)

    @rule(name=PATH, then=THEN)
    def delete(self, name: str, then: str) -> None:
        if file := self.at(name):
            self.remove(file)
        self.agent(then)

    @rule(name=PATH, items=ITEMS, header=HEADER, then=THEN)
    def replace(self, name: str, items: list[int | bytes], header: str, then: str) -> None:
        """Deleted and created anew: ext4 gives it the same inode number."""
        if file := self.at(name):
            self.remove(file)
            self.create(self.logs / name, HEADERS[header] + self.lines_of(items))
        self.agent(then)

    # The agent ---------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.1, 0.1, 6.0, 12.0, 35.0, 70.0)))
    @precondition(lambda self: self.lives.up)
    def passing(self, seconds: float) -> None:
        self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        self.passes(seconds)
        self.lives.turn(seconds)
        self.notes()

    def passes(self, seconds: float) -> None:
        """Half a line counts once its file is done with."""
        if seconds < 1:
            return
        for file in (*self.files.values(), *self.gone):
            if file.tail:
                self.exempt[file.tail] += 1

    def agent(self, does: str) -> None:
        if not self.lives.up:
            return
        if does == "time":
            self.time_passes(6.0)
        if "read" in does:
            self.lives.turns()
            self.notes()
        if "ship" in does:
            self.lives.ship()

    def notes(self) -> None:
        """Which lines the reader knows to be there."""
        if self.lives.reader is None:
            return
        by_inode = {file.path.stat().st_ino: file for file in self.files.values()}
        for tail in self.lives.reader.catalog.tails.values():
            file = by_inode.get(tail.inode[1])
            if file is None or tail.state is None or not file.holds(*(tail.state.recent or [tail.state.front])[-1]):
                continue
            file.origins.add(tail.state.origin)
            for line in file.lines:
                if line.end <= tail.state.size:
                    self.seen.setdefault(line, set()).add((tail.state.origin, line.end))

    def forgets(self) -> None:
        """What of it was known only to the process that has ended."""
        told = self.lives.told_sizes
        self.seen = {line: by for line, by in self.seen.items() if any(told.get(origin, 0) >= end for origin, end in by)}

    @rule()
    @precondition(lambda self: self.lives.up)
    def syncs(self) -> None:
        self.lives.sync()

    @rule(runs=st.integers(1, 4), acked=st.booleans())
    @precondition(lambda self: self.lives.up)
    def ships(self, runs: int, acked: bool) -> None:
        self.lives.ship(runs, acked=acked)

    @rule()
    @precondition(lambda self: self.lives.up)
    def fills_up(self) -> None:
        self.full = not self.full
        self.set_room()

    def set_room(self) -> None:
        self.lives.spool._max_bytes = 0 if self.full else 1 << 30

    @rule()
    @precondition(lambda self: self.lives.up)
    def a_sync_fails(self) -> None:
        self.lives.disk.failing_syncs = 1
        self.lives.sync()
        self.lives.disk.failing_syncs = 0
        self.set_room()
        self.forgets()

    @rule()
    @precondition(lambda self: self.lives.up)
    def is_killed(self) -> None:
        self.lives.end()
        self.forgets()

    @rule(nth=st.integers(1, 40), seconds=st.sampled_from((0.1, 6.0, 70.0)), ships=st.booleans())
    @precondition(lambda self: self.lives.up)
    def dies_somewhere(self, nth: int, seconds: float, ships: bool) -> None:
        self.passes(seconds)
        with death(nth) as where:
            self.lives.turn(seconds)
            self.lives.turns()
            if ships:
                self.lives.ship()
                self.lives.turn()
        if where:
            self.lives.end()
            self.forgets()
        else:
            self.notes()

    @rule()
    @precondition(lambda self: self.lives.up)
    def stops(self) -> None:
        self.passes(1.0)
        for file in self.files.values():
            if file.tail and not file.packed and file.content not in self.forked:
                self.parted[file.content, len(file.data) - len(file.tail)] = file.tail
        self.lives.stop()

    @rule()
    @precondition(lambda self: not self.lives.up)
    def starts(self) -> None:
        self.lives.start()
        self.set_room()

    @rule(kept=FRACTION, sources=FRACTION, zeros=st.booleans())
    def power_cut(self, kept: float, sources: float, zeros: bool) -> None:
        self.lives.power_cut(kept, zeros=zeros)
        self.forgets()
        for to, _ in self.packing.values():
            to.unlink()
        self.packing.clear()
        for file in [file for file in self.files.values() if not file.packed]:
            lost = len(file.data) - max(file.synced, round(sources * len(file.data)))
            if zeros and not any(file.data[len(file.data) - lost :]):
                continue  # it was a hole
            self.cut(file, len(file.data) - lost)
            if zeros and lost >= GAP_BYTES:
                self.append(file, bytes(lost))  # its new size was on disk, the data was not

    @rule()
    def state_is_lost(self) -> None:
        """Exempt from then on: equal texts, and lines in the first 4 KiB of files that begin alike."""
        self.lives.lose_state()
        self.seen, self.parted = {}, {}
        self.tags_lost = True
        for file in self.files.values():
            if self.heads[file.head] > 1 or not is_unique(file.head):
                self.vague.update(line.text for line in file.lines if line.offset < BODY_AT)

    # What must hold ----------------------------------------------------------------------------------------------------

    @rule()
    def settle(self) -> None:
        if not self.lives.up:
            self.lives.start()
        self.full = False
        self.set_room()
        for seconds in (0.1, 12.0, 12.0, 70.0, 12.0):
            self.passes(seconds)
            self.lives.turn(seconds)
            self.lives.turns()
            self.notes()
        self.lives.sync()
        self.lives.ship()
        self.check()

    def check(self) -> None:
        stored = self.lives.store.lines
        taken = {name for names in stored.values() for name in names} | self.lives.store.completed
        assert not {text: name for name, text in self.lives.durable if name not in taken}, "was in the spool"
        times = Counter(line.text for line in self.written)
        unknown = [text for text in stored if not times[text] + self.exempt[text]]
        assert not unknown, "nobody wrote that"
        for text, names in stored.items():
            if text not in self.vague and (is_unique(text) or not self.tags_lost):
                assert len(names) <= times[text] + self.exempt[text], f"too many of {text[:40]!r}: {names}"
        files = list(self.required())
        required = {line for file in files for line in file.lines}
        longer = {file.content: file.begins for file in files if len(file.data) >= BODY_AT}
        begins = {file: longer.get(file.content, file.content) if len(file.data) < BODY_AT else file.begins for file in files}
        wanted = Counter(
            text for _, _, text in {(begins[file], line.offset, line.text) for file in files for line in file.lines}
        )  # what was copied while it was short has the lines of what has grown over 4 KiB since
        for text, count in wanted.items():
            if is_unique(text) or not self.tags_lost:
                where = {file.path.name for file in self.files.values() if text in {line.text for line in file.lines}}
                assert len(stored.get(text, ())) >= (1 if is_unique(text) else count), f"missing: {text[:40]!r} of {where}"
        halves = {line: self.parted.get((line.content_of, line.offset), line.text) for line in required}
        both = {half for line, half in halves.items() if half != line.text and half in stored}
        assert not both, "a half line beside the whole one"
        lost = {line for line in self.written - required if is_unique(line.text) and line.text not in stored}
        bytes_lost = sum(1 if line in self.halved else len(line.text) + line.newline for line in lost & self.seen.keys())
        assert self.lives.store.lost_bytes >= bytes_lost, f"seen and lost, and not told: {lost & self.seen.keys()}"
        assert self.taken_away or not self.lives.store.losses, "told as lost, and nothing was taken away"

    def is_elsewhere(self, file: File) -> None:
        """Its half line is not only where it may go on."""
        self.parted = {place: half for place, half in self.parted.items() if place[0] != file.content}
        self.forked.add(file.content)

    def required(self) -> Iterator[File]:
        """Those with lines that are there to be read. Exempt: one that has nothing but equal lines, it may be a beginning of
        another file; a rotated file outside the patterns that the agent has never read; one whose first newline is still to
        come, behind a hole."""
        for file in self.files.values():
            if b"\n" not in file.data and len(file.data.lstrip(b"\0")) < HEAD_BYTES and not file.away_s:
                continue
            known = self.is_listed(file) or file.origins & self.lives.told_sizes.keys()
            if known and any(is_unique(line.text) for line in file.lines):
                yield file

    def is_listed(self, file: File) -> bool:
        return any(file.path.match(pattern) for pattern in self.include)


TestIdentity = World.TestCase
TestIdentity.settings = settings(
    max_examples=300 * SCALE,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    derandomize=SCALE == 1,
    database=None,
)
