"""Texts of every kind, read by several agents one after the other, each stopped in the middle of a character or a line end."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.config import Source
from agent.text import shape
from agent.verifying.naming import events
from tests.support.agent import SCOPE, AgentProcess
from tests.support.reading import Reading, spooled
from tests.support.sink import SinkProcess
from tests.support.wait import until

LINES = [text for n in range(120) for text in (f"line {n} größer", "", f"{n} ÿ \t end", f"turtle {n}" + "." * n)]
UNDECODED = "größer ÿ".encode("latin-1")

CASES: dict[str, tuple[dict[str, Any], str, bytes, str]] = {
    # settings of the source, how the file is written, what it begins with, what ends a line
    "windows": ({}, "utf-8", b"", "\r\n"),
    "unix": ({}, "utf-8", b"", "\n"),
    "latin-1": ({"encoding": "latin-1"}, "latin-1", b"", "\n"),
    "latin-1 windows": ({"encoding": "latin-1"}, "latin-1", b"", "\r\n"),
    "utf-16 little-endian by its mark": ({"encoding": "utf-16"}, "utf-16-le", b"\xff\xfe", "\r\n"),
    "utf-16 big-endian by its mark": ({"encoding": "utf-16"}, "utf-16-be", b"\xfe\xff", "\n"),
    "utf-16 without a mark": ({"encoding": "utf-16"}, "utf-16-le", b"", "\n"),
    "utf-16-be without a mark": ({"encoding": "utf-16-be"}, "utf-16-be", b"", "\r\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_line_arrives_once_over_restarts_in_its_middle(name: str, tmp_path: Path, logs: Path) -> None:
    settings, encoding, mark, end = CASES[name]
    path, newline = logs / "app.log", "\n".encode(encoding)
    content = mark + "".join(line + end for line in LINES).encode(encoding)
    ends = [at + len(newline) for at in range(0, len(content), len(newline)) if content[at : at + len(newline)] == newline]
    known, written = 0, 0
    for upto in (1, 3001, 4097, len(content) // 2 + 1, len(content) - 1, len(content)):
        with path.open("ab") as file:
            file.write(content[written:upto])
        whole = sum(at <= upto for at in ends)
        with Reading(tmp_path / "spool", logs, source=settings, segment_bytes=1 << 20) as reading:
            reading.has_read(whole - known)
        known, written = whole, upto
    found = spooled(tmp_path / "spool")
    assert {text: len(ids) for text, ids in found.items()} == Counter(LINES)
    plan = shape.plan_of(Source("app", (str(path),), **settings))
    named = [event.external_id for event in events(path, scope=SCOPE, source="app", plan=plan)]
    assert sorted(named) == sorted(name for ids in found.values() for name in ids)


def test_bytes_that_are_no_utf_8_are_kept_counted_and_in_the_dead_letter(
    agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    path = logs / "app.log"
    path.write_bytes(b"plain\n" + UNDECODED + b" one\n" + UNDECODED + b" refused\n")
    sink.rules({"contains": "refused", "refuse": "store_error_27"})
    agent.start()
    until(lambda: agent.status()["counts"].get("rejected_events") == 3, "it is refused", told=agent.log)
    assert agent.status()["counts"]["invalid_utf8"] == 2
    agent.kill()
    letters = [json.loads(line) for line in agent.command("dead-letters", "list", "--json").stdout.splitlines()]
    kept = {letter["event_id"]: base64.b64decode(letter["data_base64"]) for letter in letters}
    assert set(kept.values()) == {b"plain", UNDECODED + b" one", UNDECODED + b" refused"}
    assert kept == {event.external_id: event.event for event in events(path, scope=SCOPE, source="app")}
    sink.rules()
    assert agent.command("dead-letters", "replay", "--all").returncode == 0
    agent.start()
    until(lambda: len(sink.seen().deliveries) == 3, "they are sent again", told=agent.log)
    assert set(sink.seen().texts) == {"plain", "gr\ufffd\ufffder \ufffd one", "gr\ufffd\ufffder \ufffd refused"}
    assert set(sink.seen().deliveries) == set(kept)
