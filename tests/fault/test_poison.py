"""Records that fail each time, and runs on which the agent itself stumbles: everything else goes on."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.codec import decompress
from agent.files.tail import Tail
from agent.reading.puller import Pulled, Puller
from agent.shipping import retry, ship
from agent.spool.spool import Entry, Spool
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.reading import Reading, spooled
from tests.support.shipping import ONE_EACH, each_once, quick, ship_until
from tests.support.sink import SinkProcess
from tests.support.wait import until

GOOD = [b"good %d" % n for n in range(4)]
POISON = [b"poison %d" % n for n in range(6)]


def quarantine(folder: Path) -> list[Path]:
    return list((folder / "quarantine").glob("*.rec"))


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("run_bytes", [ONE_EACH, 1 << 20], ids=["a_run_each", "all_in_one_run"])
@pytest.mark.parametrize(
    "answer",
    [{"status": 500}, {"status": 422}, {"cut": True}, {"type": "text/html", "status": 413, "body": "no"}],
    ids=["error", "refused", "cut", "refused_by_a_proxy"],
)
def test_more_poison_records_than_requests_in_flight(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch, in_flight: int, run_bytes: int, answer: dict[str, Any]
) -> None:
    """In front, in between and behind: all others pass, each of them is kept, and nothing else is."""
    quick(monkeypatch)
    sink.rules({"contains": "poison", **answer})
    ledger = ship_until(
        tmp_path,
        sink.url,
        lambda: len(quarantine(tmp_path)) == len(POISON) and sink.seen().events >= len(GOOD),
        "the good ones have passed and the others are in the quarantine",
        lines=[*POISON[:5], GOOD[0], POISON[5], *GOOD[1:]],
        in_flight=in_flight,
        run_bytes=run_bytes,
    )
    assert {text.encode() for text in sink.seen().texts} - set(POISON) == set(GOOD)
    assert ledger.counts()["acked_events"] == len(GOOD)
    assert ledger.counts()["quarantined_events"] == len(POISON)
    assert ledger.sending == "ok"


def test_a_record_that_hangs_the_collector_is_set_aside(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    sink.rules({"contains": "poison", "hang": True})
    ship_until(
        tmp_path, sink.url, lambda: quarantine(tmp_path) and sink.seen().events == len(GOOD), "all others have passed",
        lines=[POISON[0], *GOOD], in_flight=1, run_bytes=ONE_EACH, request_timeout_s=0.5,
    )  # fmt: skip
    (kept,) = quarantine(tmp_path)
    assert decompress(wire.decode_record(kept.read_bytes()).payload, 10) == POISON[0] + b"\n"


def test_while_nothing_passes_no_poison_is_convicted_and_all_of_it_is_still_sent_when_it_no_longer_is(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    sink.script(*[{"status": 500}] * 10 * retry.ATTEMPTS_BEFORE_SPLIT)
    lines = [*POISON, *GOOD]
    ship_until(
        tmp_path, sink.url, lambda: sink.seen().ids == len(lines), "the collector is mended", lines=lines, run_bytes=ONE_EACH
    )
    assert not quarantine(tmp_path)


def test_what_waits_because_everything_failed_is_sent_as_soon_as_something_passes(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have been due in an hour."""
    quick(monkeypatch)
    monkeypatch.setattr(
        ship.Shipper, "_put_off", lambda self, parcel, times: self._suspects.add(parcel, time.monotonic() + 3600.0)
    )
    sink.script(*[{"status": 500}] * len(POISON))
    lines = [*POISON, GOOD[0]]
    ship_until(
        tmp_path, sink.url, lambda: sink.seen().events >= len(lines), "all has arrived", lines=lines, in_flight=1,
        run_bytes=ONE_EACH,
    )  # fmt: skip
    each_once(sink.seen(), lines)


def test_several_poison_files_at_once(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(collector={"max_in_flight": 1})
    sink.rules({"contains": "poison", "status": 500})
    poisoned = [App(logs / f"{n}-poisoned.log", f"poison {n}") for n in range(2)]
    for one in poisoned:
        one.write(2)
    app = App(logs / "app.log")
    app.write(3)
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)

    def all_set_aside() -> bool:
        app.write(1)
        return len(quarantine(agent.state)) == len(poisoned)

    until(all_set_aside, "each poisoned record is in the quarantine", told=agent.log)
    kept = [wire.decode_record(path.read_bytes()).header.path for path in quarantine(agent.state)]
    assert sorted(kept) == [str(one.path) for one in poisoned]
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    agent.settle()


def test_a_fault_of_the_agent_itself_on_one_run_costs_that_run_its_turn(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quick(monkeypatch)
    settle = ship.Shipper._settle

    def stumbles(self: ship.Shipper, entries: tuple[Entry, ...], answer: wire.Answer, *, again: bool) -> str:
        if any(entry.header.source_from == 0 for entry in entries):
            raise ZeroDivisionError("a fault of the program")
        return settle(self, entries, answer, again=again)

    monkeypatch.setattr(ship.Shipper, "_settle", stumbles)
    ledger = ship_until(
        tmp_path, sink.url, lambda: len(quarantine(tmp_path)) == 1, "it is in the quarantine", lines=GOOD, in_flight=1
    )
    assert ledger.counts()["acked_events"] == len(GOOD) - 1
    assert ledger.counts()["internal_errors"] >= retry.ATTEMPTS_BEFORE_SPLIT
    assert "please report it" in caplog.text


def test_a_spool_that_cannot_be_read_for_a_while_ends_nothing(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    next_run, failures = Spool.next_run, iter([OSError(errno.EMFILE, "Too many open files")] * 3)

    def fails_at_first(self: Spool, **limits: int) -> Any:
        if error := next(failures, None):
            raise error
        return next_run(self, **limits)

    monkeypatch.setattr(Spool, "next_run", fails_at_first)
    ship_until(tmp_path, sink.url, lambda: sink.seen().events == len(GOOD), "all has arrived", lines=GOOD)


def test_a_file_on_which_the_agent_stumbles_holds_up_no_other_and_is_tried_again(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    take, stumbles = Puller._take, True

    def stumbling(self: Puller, tail: Tail, *arguments: Any, **options: Any) -> Pulled:
        if stumbles and tail.name.endswith("odd.log"):
            raise ZeroDivisionError("a fault of the program")
        return take(self, tail, *arguments, **options)

    monkeypatch.setattr(Puller, "_take", stumbling)
    odd, app = App(logs / "odd.log", "odd"), App(logs / "app.log")
    odd.write(2)
    app.write(3)
    with Reading(tmp_path / "spool", logs) as reading:
        reading.has_read(3)
        until(lambda: reading.counts("internal_errors") > 1, "it was tried again")
        stumbles = False
        reading.has_read(5)
    assert caplog.text.count("please report it") == 1
    assert sorted(spooled(tmp_path / "spool")) == sorted([*app.lines, *odd.lines])
