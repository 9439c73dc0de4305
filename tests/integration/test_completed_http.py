"""A last line that left before its end, and its whole: search shows one event, and no other event can be deleted this way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import codec, wire
from tests.support.agent import AgentProcess, App
from tests.support.collector import Collector, record
from tests.support.wait import until

pytestmark = pytest.mark.engine

FILE_ID = "00c0ffee00c0ffee"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as process:
        yield process


def completed(*texts: bytes, source_to: int) -> bytes:
    raw = wire.encode_completed(tuple(wire.event_id(FILE_ID, 0, text) for text in texts))
    header = wire.Header(wire.COMPLETED, "r-completed", file_id=FILE_ID, source_to=source_to, raw_bytes=len(raw))
    return wire.encode_record(header, codec.compress(raw))


def messages(collector: Collector, key: str) -> list[str]:
    return sorted(event["message"] for event in collector.search(key)["events"])


def test_the_whole_takes_the_place_of_its_half(collector: Collector, key: str) -> None:
    half = record(b"half of", labels={wire.PARTIAL_LABEL: "true"}, flags=wire.PARTIAL)
    other = record(b"another\n")
    whole = record(b"half of a line\n")
    assert collector.post(key, half + other).status == 200
    for _ in range(2):  # an answer may be lost
        assert collector.post(key, completed(b"half of", b"another", source_to=15) + whole).status == 200
        assert messages(collector, key) == ["another", "half of a line"], "what is not labelled as partial stays"
    assert collector.post(key, half).status == 200
    assert messages(collector, key) == ["another", "half of a line"], "deleted is deleted"


def test_what_is_not_there_is_no_fault(collector: Collector, key: str) -> None:
    assert collector.post(key, completed(b"never came", source_to=15)).status == 200


@pytest.fixture
def key(collector: Collector, request: pytest.FixtureRequest) -> str:
    return collector.new_tenant(request.node.name[:60])


def test_an_agent_that_ends_amid_a_line_and_goes_on_shows_one_event(
    collector: Collector, key: str, tmp_path: Path, logs: Path
) -> None:
    app = App(logs / "app.log")
    agent = AgentProcess(tmp_path / "agent", url=collector.url, include=[logs / "*.log"])
    agent.configure(collector={"api_key": key})
    app.write(2)
    app.append('{"an": "object')
    with agent:
        until(lambda: agent.status()["counts"].get("read_events") == 2, "it is read", told=agent.log)
        assert agent.stop() == 0
    found = collector.search(key, q="object")["events"]
    assert [(event["message"], event["attributes"]["partial"]) for event in found] == [('{"an": "object', "true")]
    app.append('"}\n')
    with agent:
        until(lambda: messages(collector, key) == sorted([*app.lines, '{"an": "object"}']), "it is one", told=agent.log)
