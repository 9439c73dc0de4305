"""From the line in the file to the line in a search answer, while a file is written to at a steady pace for a minute.

- An agent and a collector with the embedded engine, each a process with the defaults of the product. The writer puts lines of
  an access log into one file, some every few milliseconds, and among them now and then a marked line, whose moment it notes.
- A searcher asks for the newest marked events again and again, as a page that is looked at does; what an answer shows first,
  was searchable by then. So the figure includes the search itself, and up to one pause between two of them.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.bench import agent, measure
from tests.bench.accesslog import access_lines
from tests.bench.load import Load
from tests.bench.measure import MB
from tests.support.collector import Collector
from tests.support.wait import until

SEARCH = "/api/v1/ingestion/events/search"
MARK = "lighthouse"
TICK_S = 0.005
MARK_S = 0.1
"""Between two marked lines."""
LOOK_S = 0.02
DEADLINE_S = 60.0


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    log = folder / "logs" / "steady.log"
    log.parent.mkdir(parents=True)
    with Collector(folder / "collector", log_level="info") as collector:
        key = collector.new_tenant("Benchmark")
        with agent.agent(folder / "agent", collector.url, log, key=key) as process:
            pids = {"agent": process.status()["pid"], "collector": collector.pid}
            before = {name: measure.cpu_s(pid) for name, pid in pids.items()}
            written = Written(log, load)
            seen = _searched(collector, key, written)
            used = {name: measure.cpu_s(pid) - before[name] for name, pid in pids.items()}
            peak = {name: measure.peak_memory_mb(pid) for name, pid in pids.items()}
            # Those behind the last marked one may still be under way; none is there twice.
            found = until(lambda: _found(collector, key, written.lines), "all lines are found", deadline_s=DEADLINE_S)
        assert found == written.lines, f"{found} of {written.lines} lines are found"
    took_s = [at_s - written.at_s[number] for number, at_s in seen.items()]
    yield {
        "benchmark": "collector.steady",
        "events": written.lines,
        "lines_per_s": round(written.lines / written.took_s),
        "marked": len(took_s),
        **measure.percentiles_ms(took_s),
        **{f"{name}_cpu_us_per_event": round(s / written.lines * 1e6, 2) for name, s in used.items()},
        **{f"{name}_peak_memory_mb": round(mb, 1) for name, mb in peak.items()},
    }


def _found(collector: Collector, key: str, lines: int) -> int:
    """How many, once there are so many at least; 0 before."""
    found = int(collector.search(key, limit=1, count="exact")["total_count"])
    return found if found >= lines else 0


class Written:
    """A thread that writes at a pace; what it wrote, and when each marked line."""

    def __init__(self, log: Path, load: Load) -> None:
        self.at_s: list[float] = []
        self.lines = 0
        self.took_s = 0.0
        self._log = log
        self._load = load
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        pool = cycle(b"".join(islice(access_lines(4 * MB), 1)).splitlines(keepends=True))
        began_s = time.monotonic()
        with self._log.open("ab", buffering=0) as file:
            while (passed_s := time.monotonic() - began_s) < self._load.steady_s:
                due = int(passed_s * self._load.steady_rate) - self.lines
                marked = passed_s >= len(self.at_s) * MARK_S
                text = b"".join(islice(pool, max(0, due - marked)))
                if marked:
                    text += b"%s %d of them\n" % (MARK.encode(), len(self.at_s))
                    self.at_s.append(time.monotonic())
                file.write(text)
                self.lines += text.count(b"\n")
                measure.pause(TICK_S)
        self.took_s = time.monotonic() - began_s


def _searched(collector: Collector, key: str, written: Written) -> dict[int, float]:
    """When each marked line was in an answer for the first time."""
    seen: dict[int, float] = {}
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=DEADLINE_S)
    path = f"{SEARCH}?{urlencode({'q': MARK, 'limit': 100, 'count': 'none', 'start_time': '-1m'})}"
    end_s = time.monotonic() + written._load.steady_s + DEADLINE_S
    try:
        while not (written.ended and len(seen) == len(written.at_s)):
            connection.request("GET", path, headers={"X-API-Key": key})
            answer = connection.getresponse()
            body = answer.read()
            now_s = time.monotonic()
            assert answer.status == 200, body
            for event in json.loads(body)["events"]:
                seen.setdefault(int(event["message"].split()[1]), now_s)
            assert now_s < end_s, f"{len(seen)} of {len(written.at_s)} marked lines are found"
            measure.pause(LOOK_S)
    finally:
        connection.close()
    return seen
