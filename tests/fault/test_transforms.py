"""Every transform in a real agent, killed in the middle: each event arrives once, with the ID that `ids` gives."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from agent.config import Multiline
from tests.support.agent import AgentProcess, App
from tests.support.lives import PowerDisk
from tests.support.reading import Reading, lines_of, shipped
from tests.support.sink import SinkProcess
from tests.support.wait import until

FIRST, LATER, LAST = range(3000), range(3000, 5000), range(5000, 5003)


def line(n: int) -> str:
    return f"2026-11-23 12:00:00 INFO request {n} of 10.0.{n % 250}.1"


def traced(n: int) -> str:
    return f"{line(n)}\n  at a.B.c(B.java:{n})\n  at d"


CASES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "multiline": ({"multiline": {"preset": "java"}}, lambda n: traced(n) + "\n", traced),
    "redact": (
        {"redact": {"presets": ["ip"]}},
        lambda n: line(n) + "\r\n",
        lambda n: f"2026-11-23 12:00:00 INFO request {n} of [ip]",
    ),
    "filters": (
        {"exclude_lines": ["noise"], "sample": {"debug": 2}},
        lambda n: f"noise {n}\n{line(n)}\n",
        line,
    ),
    "cri": (
        {"container": "cri", "multiline": {"preset": "java"}},
        lambda n: f"2026-11-23T12:00:00.1Z stdout P {line(n)[:30]}\n2026-11-23T12:00:00.2Z stdout F {line(n)[30:]}\n",
        line,
    ),
    "docker": (
        {"container": "docker"},
        lambda n: json.dumps({"log": line(n) + "\n", "stream": "stderr", "time": "2026-11-23T12:00:00Z"}) + "\n",
        line,
    ),
    "utf-16": ({"encoding": "utf-16"}, lambda n: line(n) + " ü\r\n", lambda n: line(n) + " ü"),
    "long lines": (
        {"max_line_bytes": 1024},
        lambda n: line(n) + " " + "x" * (2000 * (n % 50 == 0)) + "\n",
        lambda n: (line(n) + " " + "x" * (2000 * (n % 50 == 0)))[:1024],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_agent_killed_amid_a_transform_ships_every_event_once(
    name: str, agent: AgentProcess, sink: SinkProcess, logs: Path
) -> None:
    settings, written, expected = CASES[name]
    encoding = "utf-16-le" if "encoding" in settings else "utf-8"
    path = logs / "app.log"
    agent.configure(sources=[{"name": "app", "include": [str(path)], **settings}])
    path.write_bytes(("\ufeff" * (encoding != "utf-8") + "".join(map(written, FIRST))).encode(encoding))

    def write(numbers: range) -> None:
        with path.open("ab") as file:
            file.write("".join(map(written, numbers)).encode(encoding))

    def has(number: int) -> None:
        until(lambda: expected(number) in sink.seen().texts, f"event {number} is there", told=agent.log)

    agent.start()
    has(FIRST[-2])
    write(LATER)
    agent.kill()
    agent.start()
    has(LATER[-2])
    agent.kill()
    write(LAST)
    agent.start()
    has(LAST[-2])
    seen = sink.seen()
    wanted = {expected(number) for number in range(LAST[-1])}
    found = {text: ids for text, ids in seen.texts.items() if text != expected(LAST[-1])}
    assert set(found) == wanted
    assert all(len(ids) == 1 for ids in found.values())
    answered = agent.command("ids", "--json", str(path))
    named = [json.loads(said) for said in answered.stdout.splitlines()]
    assert {said["external_id"] for said in named} | set(seen.texts.get(expected(LAST[-1]), ())) == set(seen.deliveries)


def test_the_last_event_of_a_quiet_file_leaves_after_the_timeout(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    """trace_cut_by_timeout_then_power_cut, as far as one process can show it: the event is synced before it is sent."""
    path = logs / "app.log"
    agent.configure(sources=[{"name": "app", "include": [str(path)], "multiline": {"start": "^2026", "timeout_s": 0.3}}])
    agent.start()
    path.write_text("2026 one\n  more\n2026 two\n  half\n")
    until(lambda: "2026 two\n  half" in sink.seen().texts, "the timeout ends the event", told=agent.log)
    agent.kill()
    with path.open("a") as file:
        file.write("  the rest\n2026 three\n2026 four\n")
    agent.start()
    until(lambda: "2026 four" in sink.seen().texts, "reading goes on", told=agent.log)
    seen = sink.seen()
    assert set(seen.texts) == {"2026 one\n  more", "2026 two\n  half", "  the rest", "2026 three", "2026 four"}
    assert all(len(ids) == 1 for ids in seen.texts.values())


@pytest.mark.parametrize("zeros", [False, True], ids=["cut off", "zeros"])
def test_trace_cut_by_timeout_then_power_cut(tmp_path: Path, logs: Path, zeros: bool) -> None:
    """Read again it would not have ended there: what was shipped of it would be stored beside the whole."""
    app, disk, folder = App(logs / "app.log"), PowerDisk(), tmp_path / "spool"
    source = {"multiline": Multiline(start="^ERROR", timeout_s=0.05)}
    app.append("ERROR first\n  at one\n")
    with Reading(folder, logs, disk, source=source, segment_bytes=1 << 20) as reading:
        reading.has_read(1)
        sent = lines_of(shipped(reading.spool))
    disk.power_cut(folder, 0.0, zeros=zeros)
    app.append("  at two\nERROR second\n  at three\n")
    with Reading(folder, logs, disk, source=source, segment_bytes=1 << 20) as reading:
        reading.has_read(2)
        for event, ids in lines_of(shipped(reading.spool)).items():
            sent.setdefault(event, set()).update(ids)
    events = ["ERROR first\n  at one", "  at two", "ERROR second\n  at three"]
    assert {event: len(ids) for event, ids in sent.items()} == dict.fromkeys(events, 1)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_memory_that_transforms_free_is_used_again(agent: AgentProcess, logs: Path) -> None:
    """The kernel hands out a page at each fault: memory given back and got again comes to a thousand for each megabyte."""
    log = logs / "app.log"
    megabyte = b"".join(b"%s of an app\n" % line(n).encode() for n in range(16_000))
    log.write_bytes(megabyte * 2)
    redact = {"presets": ["ip", "card"]}
    agent.configure(sources=[{"name": "app", "include": [str(log)], "redact": redact, "exclude_lines": ["nothing like it"]}])
    agent.start()
    until(lambda: acked(agent) == 2 * 16_000, "two megabytes are acknowledged", told=agent.log)
    before = faults(agent)
    with log.open("ab") as file:
        file.write(megabyte * 12)
    until(lambda: acked(agent) == 14 * 16_000, "all is acknowledged", told=agent.log)
    assert faults(agent) - before < 12 * 700


def acked(agent: AgentProcess) -> int:
    return int(agent.status()["counts"].get("acked_events", 0))


def faults(agent: AgentProcess) -> int:
    """Pages that the agent was given so far."""
    return int(Path(f"/proc/{agent.status()['pid']}/stat").read_text().rpartition(")")[2].split()[7])
