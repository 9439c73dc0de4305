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
from agent.files.identity import BODY_AT, FileState
from agent.verifying import comparing, naming
from agent.verifying.asking import Page, TooMuch
from agent.verifying.comparing import Comparison, Lacking, Report
from agent.verifying.subjects import Job, Shared, shared
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


LONG = {
    "between": (9000, 1, 9000, 1),
    "at the end of a head": (1, 9000),
    "at the end": (1, 4100, 9000),
    "in a window": (1, 4300, 1500),
}


@pytest.mark.parametrize("too_much", [False, True], ids=["sums", "no sums"])
@pytest.mark.parametrize("lines", LONG.values(), ids=LONG)
def test_what_is_stored_inside_lines_longer_than_a_window_is_extra_once(
    tmp_path: Path, lines: tuple[int, ...], too_much: bool
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(b"%d%s\n" % (n, b"x" * length) for n, length in enumerate(lines)))
    events = list(naming.events(path, scope="scope", source="app"))
    names = [event.external_id for event in events]
    extra = set()
    for name, event in zip(names, events, strict=True):
        start, length = int(name[17:29], 16), len(event.event)
        # Windows are longer than the head of a file but for this test.
        inside = {*range(STEP // 2, length, STEP // 2 - 50), length - 1}
        extra |= {at(name, behind) for behind in inside if start >= BODY_AT or start + behind < STEP * WINDOW}
    extra |= {at(names[-1], len(events[-1].event) + behind) for behind in (1, 100, 5000)}
    report, sent = compared(path, Store({*names, *extra}, too_much=too_much), tmp_path)
    assert (report.stored, report.missing, report.changed, sent) == (len(names), 0, 0, set())
    assert (report.extra, set(report.extra_ids)) == (len(extra), extra)


def test_the_sum_of_a_step_stays_within_64_bits_as_the_collectors_does() -> None:
    step = comparing._Step(0)
    step.add([1 << 40, (1 << 40) + 7], [0xFFFFFFFF, 0xFFFFFFFE])
    assert step.total == (0xFFFFFFFF * (2 * (1 << 40) + 1) + 0xFFFFFFFE * (2 * ((1 << 40) + 7) + 1)) % 2**64


@pytest.mark.parametrize("named", [1000, 2], ids=["all are named", "some are named"])
def test_what_a_file_that_begins_alike_holds_is_taken_away_where_all_that_is_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: int
) -> None:
    monkeypatch.setattr(comparing, "NAMED_IDS", named)
    one, other = tmp_path / "a.log", tmp_path / "b.log"
    one.write_bytes(b"same\na\n")
    other.write_bytes(b"same\nb\nc\nd\n")
    ids = {path: [event.external_id for event in naming.events(path, scope="scope", source="app")] for path in (one, other)}
    more = at(ids[one][0], 3)
    store = Store({*ids[one], *ids[other], more})
    comparison = Comparison(store, Unsent(tmp_path / "no-state"))  # type: ignore[arg-type]
    job = job_of(one)
    report = asyncio.run(comparison.file(job, shared([job])[one]))
    assert report.extra == 4
    asyncio.run(comparison.explained(job_of(other), report))
    assert (report.extra, report.extra_ids == [more]) == ((1, True) if named > 2 else (4, False))


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


@pytest.mark.parametrize("of", ["deleted", "expired"])
def test_what_was_deleted_or_has_expired_in_the_store_is_told_apart(tmp_path: Path, of: str) -> None:
    names = write(tmp_path / "a.log", random.Random(4))
    gone = set(names[3:9])
    store = Store(set(names) - gone, gone if of == "deleted" else (), expired=gone if of == "expired" else ())
    report, sent = compared(tmp_path / "a.log", store, tmp_path)
    assert (report.deleted, report.expired) == ((6, 0) if of == "deleted" else (0, 6))
    assert (report.missing, report.changed, sent) == (0, 0, set())


def test_the_times_of_a_runtime_are_those_of_the_lines_that_are_missing(tmp_path: Path) -> None:
    """In a file of many steps, the old lines first: a time of another line would tell."""
    path = tmp_path / "a.log"
    days = ["2026-01-01"] * 101 + ["2026-03-01"] * 100
    path.write_text("".join(f"{day}T00:00:00Z stdout F line {n} {'x' * (n % 50)}\n" for n, day in enumerate(days)))
    job = Job(path, Source("app", (str(path),), container="cri"), None, "scope")
    store = Store(())
    store.retention_days = 30
    limit = 1_772_323_200 + 30 * 86_400
    for now_ns, expired in ((limit * 10**9, 101), (limit * 10**9 + 1, 201)):  # to the nanosecond
        report, _ = compared(path, store, tmp_path, now_ns=now_ns, job=job)
        assert (report.expired, report.missing) == (expired, 201 - expired)


class Waiting:
    """What stands for the agent's state: from where on nothing was sent yet."""

    def __init__(self, begin: int) -> None:
        self._begin = begin

    def has(self, state: FileState | None, offset: int) -> bool:
        return offset >= self._begin


def reported(job: Job, store: Store, names: Shared, unsent_from: int = 1 << 40) -> Report:
    comparison = Comparison(store, Waiting(unsent_from), now_ns=lambda: 0)  # type: ignore[arg-type]
    return asyncio.run(comparison.file(job, names))


def test_what_is_extra_is_said_by_the_owner_of_a_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"%0600d\n%0600d\n" % (1, 2) + b"%010d\n" * 800 % tuple(range(800)))
    names = [event.external_id for event in naming.events(path, scope="scope", source="app")]
    store = Store({*names, at(names[0], 1), at(names[700], 1), at(names[-1], 50_000)})
    job = job_of(path)
    assert reported(job, store, Shared(frozenset(), frozenset())).extra == 0
    assert reported(job, store, shared([job])[path]).extra == 3
    listed = store.listed
    store.there = set(names)
    assert reported(job, store, Shared(frozenset(), frozenset())).is_clean
    assert store.listed == listed, "and nothing is asked for that nothing is said of"


def test_what_another_file_may_have_the_name_of_is_changed_and_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    names = write(path, random.Random(5))
    head, body = names[0][:16], names[-1][:16]
    report = reported(job_of(path), Store(()), Shared(frozenset((head, body)), frozenset((head,))))
    in_head = sum(name.startswith(head) for name in names)
    assert (report.changed, report.missing, report.file_ids) == (in_head, 400 - in_head, [head, body])


def test_what_an_agent_skipped_or_is_to_send_is_neither_missing_nor_extra(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    names = write(path, random.Random(6))
    starts = [int(name[17:29], 16) for name in names]
    state = FileState(
        origin="0" * 16, source="app", path=str(path), born_path=str(path), inode=1, generation=1, size=0, offset=0,
        head="", tag=0, head_id=names[0][:16], body_id=names[-1][:16], skipped=starts[10],
    )  # fmt: skip
    job = job_of(path)._replace(state=state)
    owned = Shared(frozenset((state.head_id, state.body_id)), frozenset())
    half = at(names[-1], 0, "00000001")
    found = reported(job, Store({half}), owned, starts[300])
    assert (found.skipped, found.missing, found.pending, found.extra) == (10, 290, 100, 0)
    assert reported(job, Store({half}), owned).extra == 1


def test_old_lines_of_a_file_that_no_agent_knows_are_expired_though_an_agent_would_send_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, random.Random(7))
    os.utime(path, (1, 1))
    store = Store(())
    store.retention_days = 1
    comparison = Comparison(store, Waiting(0), now_ns=lambda: 10**18)  # type: ignore[arg-type]
    report = asyncio.run(comparison.file(job_of(path), Shared(frozenset(), frozenset())))
    assert (report.expired, report.pending) == (400, 0)
