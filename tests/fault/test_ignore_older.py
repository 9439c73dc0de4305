"""`ignore_older`: files that nobody wrote to for longer than their lines are kept are not opened."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path

import pytest

from agent.reading import walk
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.lives import Lives, clock_of_the_agent
from tests.support.reading import Reading
from tests.support.sink import SinkProcess
from tests.support.wait import until

DAY_S = 86400
LINE = 61


def archive(logs: Path, name: str, days: float, lines: int = 100) -> App:
    """A file that nobody has written to for so long."""
    app = App(logs / f"{name}.log", name)
    app.write(lines)
    written_s = time.time() - days * DAY_S
    os.utime(app.path, (written_s, written_s))
    return app


def test_state_lost_with_archives_older_than_retention(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """The simpler rule shipped all of them again, and the month was used up."""
    sink.rules({"contains": "nothing at all", "retention_days": 30})
    app, recent = App(logs / "app.log"), archive(logs, "recent", 29)
    for number in range(5):
        archive(logs, f"old{number}", 31 + number)
    app.write(100)
    agent.configure(heartbeat_interval_s=0.2)
    for life in (1, 2):
        agent.start()
        until(lambda life=life: sink.seen().events == life * 200, "what is kept is shipped", told=agent.log)
        agent.logged(f"5 files ({5 * 100 * LINE} bytes) to which nobody wrote for 30 days are not opened")
        agent.settle()
        said = agent.status()
        assert (said["ignored_files"], said["ignored_bytes"]) == (5, 5 * 100 * LINE)
        agent.kill()
        agent.state.rename(agent.state.with_name(f"lost{life}"))
    exactly_once(sink.seen(), [*app.lines, *recent.lines])
    assert sink.seen().losses == []


def test_a_file_that_is_written_to_again_is_read(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log"], "ignore_older": "7d"}])
    old, app = archive(logs, "old", 8), App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(1), told=agent)
    assert sink.seen().events == 1
    old.write(1)
    exactly_once(arrived(sink, old.lines, told=agent), [*old.lines, *app.lines])


def test_a_file_that_is_known_is_read_on_however_old_it_is(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(sources=[{"name": "app", "include": [f"{logs}/*.log"], "ignore_older": "7d"}])
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.kill()
    app.write(10)
    os.utime(app.path, (0, 0))
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


def test_what_start_skips_is_skipped_however_old_it_is(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    source = {"name": "app", "include": [f"{logs}/*.log"], "ignore_older": "7d", "start": "end"}
    agent.configure(sources=[source])
    old = archive(logs, "old", 8)
    agent.start()
    wanted = old.write(2)
    exactly_once(arrived(sink, wanted, told=agent), wanted)


def test_old_files_wait_for_the_collectors_word_and_not_for_ever(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for waits_s, days in ((3600.0, 30), (0.5, 0)):
        monkeypatch.setattr(walk, "WAIT_S", waits_s)
        folder = tmp_path / f"{days}"
        archive(folder, "old", 20)
        with Reading(tmp_path / f"spool {days}", folder) as reading:
            until(lambda reading=reading: reading.reader.unread_bytes() == 100 * LINE, "it waits")
            assert not reading.counts("read_events")
            reading.ledger.keeps(days)
            reading.has_read(100)


def test_never_reads_files_of_any_age_at_once(tmp_path: Path, logs: Path) -> None:
    archive(logs, "old", 5000)
    with Reading(tmp_path / "spool", logs, source={"ignore_older": "never"}) as reading:
        reading.has_read(100)


def test_check_says_what_is_too_old(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    archive(logs, "old", 31)
    archive(logs, "recent", 29)
    said = json.loads(agent.command("check", "--json", "--collector").stdout)
    assert [(file["ships_bytes"], file["why"]) for file in said["files"]] == [
        (0, "too old, as ignore_older says"),
        (100 * LINE, ""),
    ]


def test_what_is_being_compressed_from_a_file_that_waits_is_known_for_its_copy(tmp_path: Path, logs: Path) -> None:
    """The state is gone, and until the collector says how long it keeps lines the file waits, its fresh copy would not."""
    app = App(logs / "app.log.1")
    app.write(20)
    (logs / "app.log.1.gz").write_bytes(gzip.compress(app.path.read_bytes()))
    lives = Lives(tmp_path / "spool", (f"{logs}/*.log*",), segment_bytes=10_000, max_open_files=10)
    with clock_of_the_agent(lives.clock):
        os.utime(app.path, (written_s := lives.clock.time() - 2 * DAY_S, written_s))
        lives.start()
        lives.finish(0.1, 12.0, 70.0, 12.0)
    assert {text.decode(): len(names) for text, names in lives.store.lines.items()} == dict.fromkeys(app.lines, 1)
