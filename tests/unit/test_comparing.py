"""A file against a store, held against the plainest way to compare; steps are small here, so that a file has many."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.config import Source
from agent.files.identity import BODY_AT
from agent.verifying import comparing, naming
from agent.verifying.asking import Page, TooMuch
from agent.verifying.comparing import Comparison, Lacking, Report
from agent.verifying.subjects import Job, shared
from agent.verifying.unsent import Unsent

STEP, WINDOW = 700, 3


class Store:
    """What stands for the collector: IDs by what became of them."""

    retention_days = 0

    def __init__(
        self,
        there: Iterable[str],
        deleted: Iterable[str] = (),
        *,
        expired: Iterable[str] = (),
        too_much: bool = False,
    ) -> None:
        self.there, self.deleted, self.expired, self.too_much = set(there), set(deleted), set(expired), too_much
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
        all_ids = (self.there, self.deleted, self.expired)
        there, deleted, expired = (sorted(name for name in ids if first <= name <= last) for ids in all_ids)
        for at in range(0, max(len(there), 1), 5):
            yield Page(there[at : at + 5], deleted if at == 0 else [], expired if at == 0 else [])


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "STEP_BYTES", STEP)
    monkeypatch.setattr(comparing, "WINDOW_STEPS", WINDOW)


def job_of(path: Path) -> Job:
    return Job(path, Source("app", (str(path),)), None, "scope")


def compared(
    path: Path, store: Store, tmp_path: Path, *, with_changed: bool = False, now_ns: int = 0, job: Job | None = None
) -> tuple[Report, set[str]]:
    """The report, and the IDs that a repair would send."""
    sent: set[str] = set()

    async def on_lacking(lacking: Lacking) -> None:
        starts, texts = lacking.block.taken_apart()
        sent.update(wire.event_id(lacking.block.header.file_id, starts[n], texts[n]) for n in lacking.positions)

    job = job or job_of(path)
    comparison = Comparison(
        store,  # type: ignore[arg-type]
        Unsent(tmp_path / "no-state"),
        on_lacking=on_lacking,
        with_changed=with_changed,
        now_ns=lambda: now_ns,
    )
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
    assert (set(report.extra_ids), report.extra) == (extra | behind, len(extra | behind))
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


def at(name: str, behind: int, check: str = "00000000") -> str:
    """An ID of the same file that starts so many bytes behind that of an event."""
    return f"{name[:17]}{int(name[17:29], 16) + behind:012x}-{check}"


@pytest.mark.parametrize("behind", [1, STEP + 50], ids=["in its step", "where none begins"])
def test_an_extra_event_whose_sum_is_nothing_is_found_by_the_count(tmp_path: Path, behind: int) -> None:
    names = write(tmp_path / "a.log", random.Random(1))
    starts = [int(name[17:29], 16) for name in names]
    long = [(name, start) for name, start, after in zip(names, starts, starts[1:], strict=False) if after - start > STEP + 100]
    extra = {at(name, behind) for name, start in long if start >= BODY_AT or start + behind < BODY_AT}
    assert extra
    report, sent = compared(tmp_path / "a.log", Store({*names, *extra}), tmp_path)
    assert (report.stored, report.missing, report.changed, sent) == (400, 0, 0, set())
    assert (report.extra, set(report.extra_ids)) == (len(extra), extra), "each once, also behind the end of a step"


@pytest.mark.parametrize("of", ["there", "deleted", "expired"])
def test_an_event_that_has_another_form_up_to_where_the_next_one_begins_is_changed(tmp_path: Path, of: str) -> None:
    """Also where that lies in another step, and where the other form was deleted or has expired: it must not come back."""
    names = write(tmp_path / "a.log", random.Random(2))
    starts = [int(name[17:29], 16) for name in names]
    gone = {name: after - start for name, start, after in zip(names, starts, starts[1:], strict=False) if after - start > 20}
    there, others = set(names) - gone.keys(), {at(name, length - 1, "00000001") for name, length in gone.items()}
    stored = {"there": there | others, "deleted": there, "expired": there}[of]
    store = Store(stored, others if of == "deleted" else (), expired=others if of == "expired" else ())
    report, sent = compared(tmp_path / "a.log", store, tmp_path)
    assert (report.changed, report.missing, sent) == (len(gone), 0, set())
    assert compared(tmp_path / "a.log", store, tmp_path, with_changed=True)[1] == gone.keys()


def test_all_are_counted_and_some_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "NAMED_IDS", 3)
    names = write(tmp_path / "a.log", random.Random(3))
    extra = {at(names[-1], 2000 + n) for n in range(10)}
    report, sent = compared(tmp_path / "a.log", Store({*names[20:], *extra}), tmp_path)
    assert (report.missing, len(report.missing_ids), sent) == (20, 3, set(names[:20]))
    assert (report.extra, len(report.extra_ids)) == (10, 3)


@pytest.mark.parametrize("own_times", [False, True], ids=["time of the file", "times of its events"])
def test_what_is_older_than_the_collector_keeps_is_expired_and_not_missing(tmp_path: Path, own_times: bool) -> None:
    path = tmp_path / "a.log"
    path.write_text('{"time": "2026-01-01T00:00:00Z"}\n{"time": "2026-03-01T00:00:00Z"}\nno time\n')
    march = 1_772_323_200
    os.utime(path, (march, march))
    source = Source("app", (str(path),), format="json" if own_times else "raw")
    store = Store(())
    for days, now_s, expired in ((30, march + 86_400, own_times), (30, march + 40 * 86_400, 3), (0, march * 2, 0)):
        store.retention_days = days
        job = Job(path, source, None, "scope")
        report, _ = compared(path, store, tmp_path, now_ns=now_s * 10**9, job=job)
        assert (report.lines, report.expired, report.missing) == (3, expired, 3 - expired)
