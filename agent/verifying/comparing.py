"""One file against the store: which of its events are there, which are not and why, and what is there besides.

Promises:
- Events have the names that the agent gives them (`agent.verifying.naming`). As long as the sums over `STEP_BYTES` of a file
  agree with the collector's, no ID is asked for; where they differ, both lists are compared.
- Memory is that of a few blocks and of the IDs of one step, however long the file is. It is read once, and a second time only
  where something differs.
- A file may grow meanwhile: what is compared is what it held when its end was reached. What was stored of the rest is not taken
  for something that the file does not have.
- An event whose place in the store is taken by another form of it (other transforms, a multi-line event that a timeout had
  ended, another redaction) is `changed`, not missing: to send it would show its lines twice. So is one below byte 4096 of a
  file that begins like another one and that no state tells from it.
- The sum of an event is its check times (2 offset + 1), modulo 2**64, as the collector makes it.
"""

from __future__ import annotations

import os
import time
import zlib
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import mul
from typing import NamedTuple

import msgspec

from agent import wire
from agent.text.eventtime import event_time_ns, runtime_time_ns
from agent.verifying.asking import Asker, TooMuch
from agent.verifying.naming import Block, NamedFile
from agent.verifying.subjects import Job, Shared, opened
from agent.verifying.unsent import Unsent

STEP_BYTES = 1 << 20
WINDOW_STEPS = 64
"""So many sums are asked for at once."""
NAMED_IDS = 1_000
"""Missing and extra ones that a report names; all are counted."""
DAY_NS = 86_400_000_000_000
_MASK = (1 << 64) - 1
_AFTER_HEX = "g"


class Report(msgspec.Struct):
    """What was found of one file. ``lines`` are its events; of each it is said once what became of it."""

    path: str
    source: str
    file_ids: list[str] = []
    lines: int = 0
    stored: int = 0
    pending: int = 0
    """Not read, or not acknowledged: the agent is to send them yet."""
    skipped: int = 0
    """They were there at the agent's first start, and `start` did not want them."""
    deleted: int = 0
    expired: int = 0
    """Older than the collector keeps events."""
    changed: int = 0
    """Stored in another form."""
    missing: int = 0
    extra: int = 0
    """Stored, within the retention, and not in the file."""
    missing_ids: list[str] = []
    extra_ids: list[str] = []
    error: str = ""

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.extra or self.changed or self.error)


class Lacking(NamedTuple):
    """Events of one block that the store does not have: their positions in it."""

    job: Job
    block: Block
    positions: list[int]
    mtime_ns: int


class _Part(NamedTuple):
    """Some events of a block, from position ``first`` on."""

    block: Block
    first: int
    starts: list[int]
    texts: list[bytes]
    names: list[str]
    form: str
    """Of its lines."""
    times: list[bytes]
    """By their runtime; empty where there are none."""


class _Step:
    """Sums over the events that start in one step of the file."""

    def __init__(self, block_at: int) -> None:
        self.block_at = block_at
        """Where the first block with such events begins."""
        self.events = 0
        self.total = 0

    def add(self, starts: Sequence[int], checks: Sequence[int]) -> None:
        self.events += len(starts)
        self.total = (self.total + 2 * sum(map(mul, starts, checks)) + sum(checks)) & _MASK


class Comparison:
    """Compares files, one after the other.

    Args:
        on_lacking: told of events that are missing; and with ``with_changed``, of those that are stored in another form.
    """

    def __init__(
        self,
        asker: Asker,
        unsent: Unsent,
        *,
        on_lacking: Callable[[Lacking], Awaitable[None]] | None = None,
        with_changed: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.asker = asker
        self.unsent = unsent
        self.on_lacking = on_lacking
        self.with_changed = with_changed
        self.now_ns = now_ns

    async def file(self, job: Job, names: Shared) -> Report:
        """Compare one file. Raises CannotAsk."""
        report = Report(os.fsencode(job.path).decode("utf-8", "backslashreplace"), job.source.name)
        try:
            with opened(job) as file:
                if file is not None:
                    await _OfFile(self, job, file, report, names).compare()
        except OSError as error:
            report.error = error.strerror or str(error)
        return report

    async def explained(self, job: Job, report: Report) -> None:
        """Of what is extra take away what another file holds that begins alike: it has the same IDs."""
        extra = set(report.extra_ids)
        if report.extra > len(extra):
            return
        with opened(job) as file:
            for block in file.blocks() if file is not None else ():
                extra.difference_update(_ids(block.header.file_id, *block.taken_apart()))
        report.extra_ids = sorted(extra)
        report.extra = len(extra)


class _OfFile:
    def __init__(self, by: Comparison, job: Job, file: NamedFile, report: Report, names: Shared) -> None:
        self._by = by
        self._names = names
        self._job = job
        self._file = file
        self._report = report
        self._steps: dict[int, _Step] = {}
        self._file_id = ""
        self._window = 0
        """Where the window begins."""
        self._mtime_ns = file.mtime_ns

    async def compare(self) -> None:
        size = STEP_BYTES * WINDOW_STEPS
        end = 0
        for block in self._file.blocks():
            starts, texts = block.taken_apart()
            if block.header.file_id != self._file_id:
                await self._close(block.offset)
                await self._enter(block.header.file_id, block.offset)
            self._report.lines += len(starts)
            checks = list(map(zlib.crc32, texts))
            at = 0
            while at < len(starts):
                step = starts[at] // STEP_BYTES * STEP_BYTES
                if step >= self._window + size:
                    await self._close(self._window + size)
                    window = step // size * size
                    await self._nothing(self._window + size, window)
                    self._window = window
                to = bisect_left(starts, step + STEP_BYTES, at)
                kept = self._steps.get(step) or self._steps.setdefault(step, _Step(block.offset))
                kept.add(starts[at:to], checks[at:to])
                at = to
            end = block.end
        await self._close(end)
        if self._file_id:
            await self._nothing(self._window + size, end)
            await self._behind(end)

    async def _enter(self, file_id: str, offset: int) -> None:
        self._file_id = file_id
        self._report.file_ids.append(file_id)
        size = STEP_BYTES * WINDOW_STEPS
        self._window = offset // size * size
        await self._nothing(0, self._window)

    async def _close(self, end: int) -> None:
        """Compare the window, as far as ``end``."""
        steps, self._steps = self._steps, {}
        end = min(end, self._window + STEP_BYTES * WINDOW_STEPS)
        if not self._file_id or end <= self._window:
            return
        try:
            there = await self._by.asker.sums(self._file_id, self._window, end, STEP_BYTES)
        except TooMuch:
            there = dict.fromkeys(range(self._window, end, STEP_BYTES), (-1, 0))
        for at in sorted(steps.keys() | there.keys()):
            step = steps.get(at)
            if step is None:
                await self._nothing(at, min(at + STEP_BYTES, end))
            elif there.get(at) == (step.events, step.total):
                self._report.stored += step.events
            else:
                await self._step(at, min(at + STEP_BYTES, end), step.block_at)

    async def _step(self, begin: int, end: int, block_at: int) -> None:
        """Compare the events that start in a part of the file, one by one."""
        parts, after = self._parts(begin, end, block_at)
        local = {name for part in parts for name in part.names}
        there, deleted, expired = await self._stored(begin, after)
        mine = _range(self._file_id, begin, end)
        self._extra([name for name in there - local if mine[0] <= name < mine[1]])
        others = sorted(_offset(name) for name in (there | deleted | expired) - local)
        starts = [start for part in parts for start in part.starts] + [after]
        number = 0
        for part in parts:
            lacking = []
            for position, name in enumerate(part.names):
                if name in there:
                    kind = "stored"
                elif name in deleted or name in expired:
                    kind = "deleted" if name in deleted else "expired"
                else:
                    kind = self._why(starts[number], starts[number + 1], others, part, position)
                setattr(self._report, kind, getattr(self._report, kind) + 1)
                if kind == "missing" and len(self._report.missing_ids) < NAMED_IDS:
                    self._report.missing_ids.append(name)
                if kind == "missing" or (kind == "changed" and self._by.with_changed):
                    lacking.append(part.first + position)
                number += 1
            if lacking and self._by.on_lacking is not None:
                await self._by.on_lacking(Lacking(self._job, part.block, lacking, self._mtime_ns))

    def _parts(self, begin: int, end: int, block_at: int) -> tuple[list[_Part], int]:
        """The events that start in a part of the file, and where the next one after them does."""
        found, after = [], end
        for block in self._file.blocks(block_at):
            if block.header.file_id != self._file_id:
                break
            starts, texts = block.taken_apart()
            first, last = bisect_left(starts, begin), bisect_left(starts, end)
            names = _ids(self._file_id, starts[first:last], texts[first:last])
            form, times = block.form(self._job.source.format), block.times()[first:last]
            found.append(_Part(block, first, starts[first:last], texts[first:last], names, form, times))
            after = max(end, starts[last] if last < len(starts) else block.end)
            if last < len(starts) or block.end >= end:
                break
        return found, after

    def _why(self, start: int, after: int, others: list[int], part: _Part, position: int) -> str:
        """Why an event is not there under its name."""
        state, is_old = self._job.state, self._is_old(part, position)
        if not (state is None and is_old) and self._by.unsent.has(state, start):  # old files that are not known are not opened
            return "pending"
        at = bisect_left(others, start)
        if (at < len(others) and others[at] < after) or self._file_id in self._names.unsure:
            return "changed"
        if state is not None and start < state.skipped:
            return "skipped"
        return "expired" if is_old else "missing"

    def _is_old(self, part: _Part, position: int) -> bool:
        """Whether an event is older than the collector keeps events: by its own time, else by that of its runtime, else by the
        file's last change."""
        days = self._by.asker.retention_days
        if not days:
            return False
        moment = event_time_ns(self._job.source, part.texts[position], seen_ns=self._mtime_ns, form=part.form)
        if moment is None and part.times:
            moment = runtime_time_ns(part.times[position])
        return (self._mtime_ns if moment is None else moment) < self._by.now_ns() - days * DAY_NS

    async def _stored(self, begin: int, end: int) -> tuple[set[str], set[str], set[str]]:
        there: set[str] = set()
        deleted: set[str] = set()
        expired: set[str] = set()
        async for page in self._by.asker.pages(*_range(self._file_id, begin, end)):
            there.update(filter(wire.EVENT_ID.fullmatch, page.there))
            deleted.update(filter(wire.EVENT_ID.fullmatch, page.deleted))
            expired.update(filter(wire.EVENT_ID.fullmatch, page.expired))
        return there, deleted, expired

    async def _nothing(self, begin: int, end: int) -> None:
        """The file has no event that starts here: what is stored of it is extra."""
        if begin < end and self._file_id in self._names.owned:
            async for page in self._by.asker.pages(*_range(self._file_id, begin, end)):
                self._extra(filter(wire.EVENT_ID.fullmatch, page.there))

    async def _behind(self, end: int) -> None:
        """What is stored from the end on: extra, unless the file has grown since."""
        if self._file_id not in self._names.owned:
            return
        async for page in self._by.asker.pages(f"{self._file_id}-{_digits(end)}", f"{self._file_id}-{_AFTER_HEX}"):
            size = self._file.size
            self._extra(name for name in page.there if wire.EVENT_ID.fullmatch(name) and _offset(name) >= size)

    def _extra(self, ids: Iterable[str]) -> None:
        state, unsent = self._job.state, self._by.unsent
        for event_id in sorted(ids) if self._file_id in self._names.owned else ():
            if state is not None and unsent.has(state, _offset(event_id)):
                continue  # of a line that was not at its end when the agent had to go: the whole takes its place
            self._report.extra += 1
            if len(self._report.extra_ids) < NAMED_IDS:
                self._report.extra_ids.append(event_id)


def _ids(file_id: str, starts: Sequence[int], texts: Sequence[bytes]) -> list[str]:
    return [wire.event_id(file_id, start, text) for start, text in zip(starts, texts, strict=True)]


def _digits(offset: int) -> str:
    return f"{offset:0{wire.OFFSET_DIGITS}x}"


def _range(file_id: str, begin: int, end: int) -> tuple[str, str]:
    """Bounds of the IDs of events that start from ``begin`` on and before ``end``: an ID goes on where the second one ends."""
    return f"{file_id}-{_digits(begin)}", f"{file_id}-{_digits(end)}"


def _offset(event_id: str) -> int:
    return int(event_id[17 : 17 + wire.OFFSET_DIGITS], 16)
