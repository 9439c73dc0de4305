"""equal_job_logs under `identity: instance`: of a log without times that is replaced by equal bytes every line counts.

Four days of five lines each: twenty lines arrive in every variant. By content alone, files of 4 KiB and more that are equal
count as copies; that is shown beside it.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.files import identity
from agent.files.holding import Held
from agent.files.identity import INSTANCE
from tests.support.agent import AgentProcess
from tests.support.reading import Reading
from tests.support.sink import SinkProcess
from tests.support.wait import until

DAYS = 4
SHORT = [f"step {number}" for number in range(5)]
LONG = [f"step {number} ".ljust(2000, ".") for number in range(5)]
"""More than 4 KiB."""


def written(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def replaced(job: Path, lines: list[str]) -> None:
    written(job.with_suffix(".tmp"), lines)
    job.with_suffix(".tmp").rename(job)


def rotated(job: Path, lines: list[str]) -> None:
    if job.exists():
        day = len(list(job.parent.glob("job*")))
        job.rename(job.with_name(f"job-{day}.log"))
    written(job, lines)


def overwritten(job: Path, lines: list[str]) -> None:
    """In place: the same inode."""
    written(job, lines)


def each_day(sink: SinkProcess) -> dict[str, int]:
    return {text.rstrip("."): len(ids) for text, ids in sink.seen().texts.items()}


def by_instance(agent: AgentProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log"], "identity": "instance"}])


@pytest.mark.parametrize(
    ("happens", "lines", "alive"),
    [(replaced, SHORT, True), (replaced, LONG, False), (rotated, LONG, True), (rotated, SHORT, False)],
    ids=["replaced, short, alive", "replaced, long, down", "rotated, long, alive", "rotated, short, down"],
)
def test_equal_job_logs_by_instance(
    agent: AgentProcess,
    sink: SinkProcess,
    logs: Path,
    happens: Callable[[Path, list[str]], None],
    lines: list[str],
    alive: bool,
) -> None:
    by_instance(agent, logs)
    job = logs / "job.log"
    for day in range(1, DAYS + 1):
        if not alive:
            agent.kill()
        happens(job, lines)
        if not alive or day == 1:
            agent.start()
        until(lambda day=day: sink.seen().ids == 5 * day, f"day {day} arrives", told=agent.log)
        agent.settle()
    assert sorted(each_day(sink).values()) == [DAYS] * 5
    assert sink.seen().losses == []


def test_an_inode_that_is_written_anew_with_equal_bytes_is_another_instance(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    by_instance(agent, logs)
    job = logs / "job.log"
    overwritten(job, SHORT)
    agent.start()
    for day in range(1, DAYS + 1):
        until(lambda day=day: sink.seen().ids == 5 * day, f"day {day} arrives", told=agent.log)
        agent.settle()
        if day < DAYS:
            os.truncate(job, 0)
            until(lambda: agent.status()["files"][0]["size_bytes"] == 0, "it is seen empty")
            overwritten(job, SHORT)


def test_without_state_instances_keep_their_ids_and_copies_count(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    by_instance(agent, logs)
    for _ in range(DAYS):
        rotated(logs / "job.log", SHORT)
    agent.start()
    until(lambda: sink.seen().ids == 5 * DAYS, "all arrive", told=agent.log)
    agent.settle()
    agent.kill()
    agent.state.rename(agent.state.with_name("lost"))
    (logs / "job.log").rename(logs / "a-name-that-sorts-first.log")
    agent.start()
    until(lambda: sink.seen().events == 2 * 5 * DAYS, "all is sent again", told=agent.log)
    assert sink.seen().ids == 5 * DAYS
    shutil.copyfile(logs / "job-1.log", logs / "copy.log")
    until(lambda: sink.seen().ids == 5 * (DAYS + 1), "a copy comes once more: rather that than too few", told=agent.log)


@pytest.mark.parametrize(("lines", "arrive"), [(SHORT, DAYS), (LONG, 1)], ids=["short", "beyond 4096 bytes"])
def test_by_content_equal_files_of_four_kilobytes_count_as_copies(
    agent: AgentProcess, sink: SinkProcess, logs: Path, lines: list[str], arrive: int
) -> None:
    job = logs / "job.log"
    agent.start()
    for day in range(1, DAYS + 1):
        replaced(job, lines)
        until(lambda day=day: sink.seen().ids == 5 * min(day, arrive), f"day {day} arrives", told=agent.log)
        agent.settle()
    assert set(each_day(sink).values()) == {arrive}


def test_tags_of_instances_are_told_from_counted_ones() -> None:
    tags = {identity.instance_tag(inode, generation, 0) for inode in range(20) for generation in range(20)}
    assert len(tags) == 400
    assert min(tags) >= INSTANCE
    assert [identity.body_tag(tag) for tag in (0, 3, INSTANCE)] == [0, 0, INSTANCE]
    again = identity.instance_tag(1, 1, 1)
    assert [identity.can_be_made_again(tag) for tag in (0, 3, again - 1, again)] == [True, False, True, False]


@pytest.mark.parametrize("lines", [SHORT, LONG], ids=["short", "beyond 4096 bytes"])
def test_what_a_rotation_compresses_is_the_instance_it_was(
    agent: AgentProcess, sink: SinkProcess, logs: Path, lines: list[str]
) -> None:
    by_instance(agent, logs)
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log*"], "identity": "instance"}])
    agent.start()
    for day in (1, 2):
        rotated(logs / "job.log", lines)
        until(lambda day=day: sink.seen().ids == 5 * day, f"day {day} arrives", told=agent.log)
        agent.settle()
    plain = logs / "job-1.log"
    (logs / "job-1.log.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    rotated(logs / "job.log", lines)
    until(lambda: sink.seen().ids == 15, "day 3 arrives", told=agent.log)
    agent.settle()
    assert sink.seen().ids == 15


def test_a_source_that_counts_its_files_goes_on_from_no_instance(tmp_path: Path, logs: Path) -> None:
    """The tag of an instance is no number: not of files that are read, and not of one that is read again because a failing
    disk has lost all that was known of it."""
    held = Held()
    with Reading(tmp_path / "spool", logs, source={"identity": "instance"}, held=held) as reading:
        written(logs / "job.log", SHORT)
        reading.has_read(5)
        assert reading.reader.catalog.tags == {}
        (logs / "job.log").unlink()
        written(logs / "other.log", ["something else"])
        reading.has_read(6)
    shutil.rmtree(tmp_path / "spool")
    with Reading(tmp_path / "spool", logs, source={"identity": "instance"}, held=held) as reading:
        reading.has_read(6)
        assert reading.reader.catalog.tags == {}
    held.close()
