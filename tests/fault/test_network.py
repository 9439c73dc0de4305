"""Bad answers and no answers: every line still arrives, under one ID, and the agent says what is wrong."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import logs, wire
from agent.codec import compress
from agent.shipping import deadletter, retry, ship
from tests.support.agent import AgentProcess, App, arrived, exactly_once
from tests.support.shipping import quick, ship_until
from tests.support.sink import TENANT, SinkProcess
from tests.support.wait import until

NO_ACKS = {
    "proxy_answers_200_with_html": ({"type": "text/html", "body": "<html>Welcome</html>"}, "not from a collector"),
    "body_cut_in_the_middle": ({"cut": True}, "ClientPayloadError"),
    "body_that_is_not_an_answer": ({"body": '{"tenant_id":'}, "cut or damaged"),
    "record_id_missing_from_the_answer": ({"name": 0}, "names 0 of 1 records"),
    "redirect": ({"status": 302, "headers": {"Location": "/elsewhere"}}, "HTTP 302"),
    "not_found": ({"status": 404}, "HTTP 404"),
    "too_many_requests": ({"status": 429, "headers": {"Retry-After": "0"}}, "HTTP 429"),
    "too_many_requests_and_no_time_is_said": ({"status": 429}, "HTTP 429"),
    "unavailable_and_no_time_is_said": ({"status": 503}, "HTTP 503"),
    "a_time_that_is_none": ({"status": 503, "headers": {"Retry-After": "soon"}}, "HTTP 503"),
    "collector_starts_before_the_engine": ({"status": 503, "headers": {"Retry-After": "0"}}, "HTTP 503"),
    "newer_agent_older_collector": (
        {
            "status": 503,
            "type": "application/json",
            "body": json.dumps({"error": {"code": wire.CODE_UNKNOWN_VERSION, "message": "version 3 is not known here"}}),
        },
        "version 3 is not known here",
    ),
    "server_error": ({"status": 500}, "HTTP 500"),
}


def nothing_is_missed(agent: AgentProcess, sink: SinkProcess) -> None:
    """No loss is told, and nothing is set aside or refused."""
    assert sink.seen().losses == []
    counts = agent.status()["counts"]
    assert {name: counts.get(name, 0) for name in ("quarantined_events", "rejected_events", "lost_bytes")} == {
        "quarantined_events": 0, "rejected_events": 0, "lost_bytes": 0,
    }  # fmt: skip
    assert not list((agent.state / "quarantine").glob("*"))


@pytest.mark.parametrize("name", NO_ACKS)
def test_what_is_no_ack_is_sent_again(agent: AgentProcess, sink: SinkProcess, logs: Path, name: str) -> None:
    answer, said = NO_ACKS[name]
    sink.script(answer, answer)
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    nothing_is_missed(agent, sink)
    assert said in agent.log()
    assert sink.seen().replays >= 2
    assert "sending works again" in agent.log()


def test_an_answer_that_never_comes_is_given_up_after_the_timeout(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(collector={"request_timeout_s": 0.3})
    sink.script({"hang": True})
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    nothing_is_missed(agent, sink)
    assert "TimeoutError" in agent.log()


def test_a_stored_run_whose_answer_was_lost_is_sent_again_as_a_replay(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    sink.script({"cut": True})
    app = App(logs / "app.log")
    app.write(10)
    agent.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    seen = sink.seen()
    assert set(seen.deliveries.values()) == {2}
    assert seen.replays == 1
    exactly_once(seen, app.lines)


def test_a_run_too_large_is_sent_record_by_record(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    apps = [App(logs / f"{name}.log", name) for name in "abc"]
    wanted = [line for app in apps for line in app.write(10)]
    sink.stop()
    agent.start()
    until(lambda: agent.status()["counts"].get("read_events") == 30, "all is read")
    agent.kill()
    sink.start()
    sink.script({"status": 413})
    agent.start()
    seen = arrived(sink, wanted, told=agent)
    agent.settle()
    assert seen.largest_run == 3
    assert sink.seen().records == 3
    exactly_once(sink.seen(), wanted)
    nothing_is_missed(agent, sink)


def test_200_with_mixed_outcomes(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """Of one record some events are taken, some are there already and some are refused: each of them is once, here or there."""
    app, bad = App(logs / "app.log"), App(logs / "app.log", "refused")
    for one in (app, bad, app):
        one.write(3)
    sink.stop()
    agent.start()
    until(lambda: agent.status()["counts"].get("read_events") == 9, "all is read")
    sink.start()
    sink.rules({"refuse_lines": "refused"})
    arrived(sink, app.lines, told=agent)
    agent.settle()
    sink.script({"refuse_lines": "refused", "cut": True})
    for one in (bad, app):
        one.write(2)
    arrived(sink, app.lines, told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    assert sink.seen().losses == []
    letters = [json.loads(line) for line in (agent.state / "dead-letters.ndjson").read_text().splitlines()]
    assert sorted(base64.b64decode(letter["data_base64"]).decode() for letter in letters) == bad.lines
    assert len({letter["event_id"] for letter in letters}) == len(bad.lines)
    assert {letter["event_id"] for letter in letters}.isdisjoint(sink.seen().deliveries)
    counts = agent.status()["counts"]
    assert (counts["acked_events"], counts["rejected_events"]) == (len(app.lines) + len(bad.lines), len(bad.lines))


def test_poison_record(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """It fails each time; everything else goes on, and it is kept."""
    sink.rules({"contains": "poison", "status": 500})
    app, poisoned = App(logs / "app.log"), App(logs / "poisoned.log", "poison")
    agent.start()
    arrived(sink, app.write(1), told=agent)
    poisoned.write(3)

    def quarantined() -> list[Path]:
        app.write(1)  # may share a run with the poison; a later run passes
        return list((agent.state / "quarantine").glob("*.rec"))

    kept = until(quarantined, "the poisoned record is set aside", told=agent.log)
    arrived(sink, app.lines, told=agent)
    record = wire.decode_record(kept[0].read_bytes())
    assert (record.header.path, record.header.events) == (str(poisoned.path), 3)
    agent.logged("is in the quarantine")
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    assert agent.status()["counts"]["quarantined_events"] == 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_record_refused_for_good_goes_to_the_quarantine_at_once(
    agent: AgentProcess, sink: SinkProcess, logs: Path, status: int
) -> None:
    sink.rules({"contains": "bad", "status": status})
    app, bad = App(logs / "app.log"), App(logs / "bad.log", "bad")
    bad.write(2)
    agent.start()
    agent.logged("is in the quarantine")
    arrived(sink, app.write(5), told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    (kept,) = (agent.state / "quarantine").glob("*.rec")
    header = wire.decode_record(kept.read_bytes()).header
    assert (header.path, header.events, sink.seen().losses) == (str(bad.path), 2, [])


def test_refused_events_are_dead_letters_with_their_bytes(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    sink.script({"refuse": "event_too_large"})
    app = App(logs / "app.log")
    app.write(3)
    agent.start()
    letters = agent.state / "dead-letters.ndjson"
    until(letters.exists, "dead letters are written", told=agent.log)
    agent.settle()
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [letter["reason"] for letter in kept] == ["event_too_large"] * 3
    assert [letter["tenant_id"] for letter in kept] == [TENANT] * 3
    assert agent.status()["counts"]["rejected_events"] == 3


def test_a_run_whose_refused_events_cannot_be_kept_stays_in_the_spool(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    in_the_way = agent.state / "dead-letters.ndjson"
    in_the_way.mkdir(parents=True)
    sink.rules({"contains": "bad", "refuse": "event_too_large"})
    app, bad = App(logs / "app.log"), App(logs / "bad.log", "bad")
    bad.write(2)
    agent.start()
    agent.logged("the dead letters cannot be kept: Is a directory")
    arrived(sink, app.write(3), told=agent)
    assert not agent.status()["drained"]
    in_the_way.rmdir()
    agent.settle()
    letters = [json.loads(line) for line in in_the_way.read_text().splitlines()]
    assert [base64.b64decode(letter["data_base64"]).decode() for letter in letters] == bad.lines
    exactly_once(sink.seen(), app.lines)


# The quarantine, with a shipper in this process -----------------------------------------------------------------------


def quarantined(state: Path, name: str, line: bytes) -> Path:
    """A record of one line in the quarantine."""
    header = wire.Header(wire.DATA, name, file_id="00c0ffee00c0ffee", raw_bytes=len(line) + 1, events=1)
    path = state / "quarantine" / f"{name}.rec"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(wire.encode_record(header, compress(line + b"\n")))
    return path


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "LOOK_S", 0.02)
    monkeypatch.setattr(deadletter, "RETRY_S", 0.02)


@pytest.mark.usefixtures("_impatient")
def test_a_quarantined_record_is_tried_again_until_it_is_delivered(tmp_path: Path, sink: SinkProcess) -> None:
    path = quarantined(tmp_path, "r-1", b"line")
    sink.script({"status": 500}, {"status": 422})
    ledger = ship_until(tmp_path, sink.url, lambda: not path.exists(), "it is delivered")
    seen = sink.seen()
    assert (seen.runs, seen.replays, list(seen.texts)) == (3, 3, ["line"])
    assert ledger.counts()["acked_events"] == 1


def test_while_every_request_fails_no_record_is_suspected(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that is broken is no reason to set anything aside, however long it is."""
    quick(monkeypatch)
    sink.script(*[{"status": 500}] * 3 * retry.ATTEMPTS_BEFORE_SPLIT)
    ship_until(tmp_path, sink.url, lambda: sink.seen().events == 2, "the collector is mended", lines=[b"line 1", b"line 2"])
    assert not list((tmp_path / "quarantine").glob("*"))
    assert sink.seen().largest_run == 2


@pytest.mark.usefixtures("_impatient")
def test_a_damaged_record_of_the_quarantine_holds_up_no_other(
    tmp_path: Path, sink: SinkProcess, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, good = quarantined(tmp_path, "r-1", b"damaged"), quarantined(tmp_path, "r-2", b"good")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    ship_until(tmp_path, sink.url, lambda: not good.exists(), "the other one is delivered")
    assert list(sink.seen().texts) == ["good"]
    assert damaged.exists()
    assert f"{damaged}: this record of the quarantine cannot be read" in caplog.text


@pytest.mark.usefixtures("_impatient")
def test_refused_events_of_a_quarantined_record_are_dead_letters(tmp_path: Path, sink: SinkProcess) -> None:
    path = quarantined(tmp_path, "r-1", b"line")
    sink.rules({"refuse": "event_too_large"})
    letters = tmp_path / "dead-letters.ndjson"
    letters.mkdir()
    ship_until(tmp_path, sink.url, lambda: sink.seen().runs > 2, "it was tried again")
    assert path.exists(), "it leaves when its events are kept, not before"
    letters.rmdir()
    ship_until(tmp_path, sink.url, lambda: not path.exists(), "it leaves the quarantine")
    (letter,) = [json.loads(line) for line in letters.read_text().splitlines()]
    assert (letter["reason"], base64.b64decode(letter["data_base64"])) == ("event_too_large", b"line")


REFUSED_KEYS = pytest.mark.parametrize(
    ("answer", "said"),
    [({"status": 401}, "HTTP 401"), ({"status": 403}, "HTTP 403"), ({"tenant": "somebody else"}, "'somebody else'")],
    ids=["wrong_key", "key_without_the_right", "other_tenants_id_in_the_answer"],
)


@REFUSED_KEYS
def test_a_wrong_key_stops_the_sending_and_not_the_reading(
    agent: AgentProcess, sink: SinkProcess, logs: Path, answer: dict[str, Any], said: str
) -> None:
    agent.configure(collector={"max_in_flight": 2})
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(1), told=agent)
    agent.settle()
    before = sink.seen().runs
    sink.rules(answer)
    for count in (10, 20, 30):
        app.write(10)
        until(lambda count=count: agent.status()["counts"]["read_events"] == 1 + count, "reading goes on", told=agent.log)
    assert sink.seen().runs - before <= 2
    status = agent.command("status").stdout
    assert said in status
    assert "check api_key" in status
    agent.logged(said)
    assert "a-key" not in agent.log() + status


@REFUSED_KEYS
def test_sending_goes_on_when_the_key_is_right_again(
    agent: AgentProcess, sink: SinkProcess, logs: Path, answer: dict[str, Any], said: str
) -> None:
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(1), told=agent)
    agent.settle()
    sink.script(answer)
    app.write(5)
    agent.logged(said)
    arrived(sink, [*app.lines, *app.write(5)], told=agent)
    until(lambda: agent.status()["sending"] == "ok", "status says so")
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    nothing_is_missed(agent, sink)


def test_a_collector_that_comes_back_gets_everything(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    sink.stop()
    app = App(logs / "app.log")
    app.write(100)
    agent.start()
    agent.logged("sending fails")
    assert sink.url in agent.status()["sending"]
    app.write(100)
    sink.start()
    arrived(sink, app.lines, told=agent)
    agent.settle()
    exactly_once(sink.seen(), app.lines)
    nothing_is_missed(agent, sink)


class Told(logging.Handler):
    """What is logged, as a text."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.TextFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def saying(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logging.getLogger("agent").addHandler(handler)
    yield handler
    logging.getLogger("agent").removeHandler(handler)


REFUSAL = {
    "status": 400,
    "type": "application/json",
    "body": json.dumps({"error": {"code": "bad_record", "message": "no"}}),
    "headers": {"X-Request-ID": "a-refusals"},
}


@pytest.mark.parametrize(
    ("answer", "said", "named"),
    [
        ({"status": 503, "headers": {"X-Request-ID": "a-collectors"}}, "sending fails", "a-collectors"),
        ({"status": 502, "headers": {"X-Request-ID": "no such name " * 9}}, "sending fails", ""),
        ({"cut": True}, "sending fails", ""),
        (REFUSAL, "was refused and", "a-refusals"),
    ],
    ids=["503", "a name that is none", "no answer", "400"],
)
def test_the_log_names_the_request_that_failed(
    tmp_path: Path, sink: SinkProcess, told: Told, monkeypatch: pytest.MonkeyPatch, answer: Any, said: str, named: str
) -> None:
    quick(monkeypatch)
    sink.rules(answer)
    tries = 1 if answer is REFUSAL else 3
    ship_until(tmp_path, sink.url, lambda: sink.seen().runs >= tries and told.saying(said), "it is said", lines=[b"one"])
    assert len(told.saying("sending fails")) == 1, "the same fault under another request is no other fault"
    for line in told.saying(said):
        assert wire.REQUEST_ID.fullmatch(name := line.rpartition(" request_id=")[2])
        assert named in ("", name)
