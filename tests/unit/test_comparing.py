"""A file against a store, held against the plainest way to compare; steps are small here, so that a file has many."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.config import Source
from agent.verifying import comparing, naming
from agent.verifying.asking import Page, TooMuch
from agent.verifying.comparing import Comparison, Lacking, Report
from agent.verifying.subjects import Job, shared
from agent.verifying.unsent import Unsent

STEP, WINDOW = 700, 3


class Store:
    """What stands for the collector: IDs by what became of them."""

    retention_days = 0

    def __init__(self, there: set[str], deleted: set[str] = frozenset(), *, too_much: bool = False) -> None:  # type: ignore[assignment]
        self.there, self.deleted, self.too_much = set(there), set(deleted), too_much
        self.listed = 0
        self.when_listed: Callable[[], None] = lambda: None

    async def sums(self, file_id: str, begin: int, end: int, step: int) -> dict[int, tuple[int, int]]:
        if self.too_much:
            raise TooMuch("ask for less")
        sums: dict[int, tuple[int, int]] = {}
        for name in filter(wire.EVENT_ID.fullmatch, self.there):
            found, offset, check = name.split("-")
            at = int(offset, 16)
            if found == file_id and begin <= at < end:
                events, total = sums.get(at // step * step, (0, 0))
                sums[at // step * step] = events + 1, (total + int(check, 16) * (2 * at + 1)) % 2**64
        return sums

    async def pages(self, first: str, last: str) -> AsyncIterator[Page]:
        self.listed += 1
        self.when_listed()
        there, deleted = (sorted(name for name in ids if first <= name <= last) for ids in (self.there, self.deleted))
        for at in range(0, max(len(there), 1), 5):
            yield Page(there[at : at + 5], deleted if at == 0 else [], [])


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "STEP_BYTES", STEP)
    monkeypatch.setattr(comparing, "WINDOW_STEPS", WINDOW)


def job_of(path: Path) -> Job:
    return Job(path, Source("app", (str(path),)), None, "scope")


def compared(path: Path, store: Store, tmp_path: Path) -> tuple[Report, set[str]]:
    """The report, and the IDs that a repair would send."""
    sent: set[str] = set()

    async def on_lacking(lacking: Lacking) -> None:
        starts, texts = lacking.block.taken_apart()
        sent.update(wire.event_id(lacking.block.header.file_id, starts[n], texts[n]) for n in lacking.positions)

    job = job_of(path)
    comparison = Comparison(store, Unsent(tmp_path / "no-state"), on_lacking=on_lacking)  # type: ignore[arg-type]
    return asyncio.run(comparison.file(job, shared([job])[path])), sent


def write(path: Path, chance: random.Random, lines: int = 400) -> list[str]:
    path.write_bytes(b"".join(b"%d %s\n" % (n, b"x" * chance.choice([0, 3, 40, 900])) for n in range(lines)))
    return [event.external_id for event in naming.events(path, scope="scope", source="app")]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_missing_extra_deleted_or_changed_is_what_the_plainest_way_finds(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "a.log"
    names = write(path, chance)
    lost = set(chance.sample(names, chance.choice([0, 1, 30, 400])))
    deleted = set(chance.sample(sorted(lost), len(lost) // 3))
    moved = set(chance.sample(sorted(lost - deleted), len(lost) // 5))
    extra = {f"{name[:30]}{chance.getrandbits(32):08x}" for name in moved}
    behind = {f"{names[-1][:17]}{path.stat().st_size + n:012x}-00000000" for n in range(chance.choice([0, 3]))}
    store = Store(set(names) - lost | extra | behind, deleted, too_much=seed % 4 == 3)
    report, sent = compared(path, store, tmp_path)
    assert (report.lines, report.stored) == (400, 400 - len(lost))
    assert (report.deleted, report.changed) == (len(deleted), len(moved))
    assert (set(report.missing_ids), report.missing) == (lost - deleted - moved, len(lost - deleted - moved))
    assert set(report.extra_ids) == extra | behind
    assert sent == lost - deleted - moved


def test_nothing_is_listed_but_what_lies_before_and_behind_while_the_sums_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    store = Store(set(write(path, random.Random(1))))
    assert compared(path, store, tmp_path)[0].is_clean
    assert store.listed == 2


def test_what_is_appended_and_stored_meanwhile_is_not_extra(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    store = Store(set(write(path, random.Random(1))))

    def app() -> None:
        with path.open("ab") as file:
            file.write(b"later\n")
        store.there.update(event.external_id for event in naming.events(path, scope="scope", source="app"))

    store.when_listed = app
    report, _ = compared(path, store, tmp_path)
    assert store.listed == 2, "the second time it is asked what lies behind the end"
    assert (report.lines, report.stored, report.extra) == (401, 401, 0)


def test_ids_that_are_no_lines_of_files_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    names = write(path, random.Random(1))
    odd: set[Any] = {f"{names[0]}x", f"{names[-1][:17]}z", names[0][:-1]}
    store = Store({*names[1:], *odd})
    report, sent = compared(path, store, tmp_path)
    assert (report.missing_ids, report.extra, sent) == ([names[0]], 0, {names[0]})
