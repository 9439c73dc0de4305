"""``pulsestream-agent verify`` on an access log that a real collector has: nothing is missing, and then everything is.

CPU of the agent's command is that of the whole process, its start included; beside it that of the collector, engine and all.
"""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.bench.accesslog import access_log
from tests.bench.agent import count_lines
from tests.bench.load import Load
from tests.bench.measure import MB
from tests.support.agent import AgentProcess
from tests.support.collector import Collector
from tests.support.wait import until

DEADLINE_S = 600.0


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    """Measure; the made-up log is kept in ``folder``."""
    path = access_log(folder / f"access-{load.size_mb:g}-mb.log", int(load.size_mb * MB))
    events = count_lines(path)
    with tempfile.TemporaryDirectory(dir=folder) as work, Collector(Path(work) / "collector", log_level="info") as collector:
        agent = AgentProcess(Path(work) / "agent", url=collector.url, include=[path])
        agent.configure(collector={"api_key": collector.new_tenant("Benchmark")})
        with agent:
            until(lambda: agent.status()["counts"].get("acked_events") == events, "it is shipped", deadline_s=DEADLINE_S)
            agent.stop()
        common = {"input_mb": round(path.stat().st_size / MB, 1), "events": events}
        yield {"benchmark": "verify.all_there", **common, **_measured(agent, collector, {"lines": events, "stored": events})}
        agent.configure(scope="another", state_dir=str(Path(work) / "no-state"))
        yield {"benchmark": "verify.all_missing", **common, **_measured(agent, collector, {"lines": events, "missing": events})}


def _measured(agent: AgentProcess, collector: Collector, wanted: dict[str, int]) -> dict[str, Any]:
    used, collector_s = _children_s(), measure.cpu_s(collector.pid)
    done = agent.command("verify", "--json", deadline_s=DEADLINE_S)
    cpu_s, collector_s = _children_s() - used, measure.cpu_s(collector.pid) - collector_s
    found = {name: count for name, count in json.loads(done.stdout)["totals"].items() if count}
    assert found == wanted, done
    return {
        "cpu_s": round(cpu_s, 2),
        "collector_cpu_s": round(collector_s, 2),
        "cpu_s_per_million": round(cpu_s / wanted["lines"] * 1e6, 2),
        "collector_cpu_s_per_million": round(collector_s / wanted["lines"] * 1e6, 2),
    }


def _children_s() -> float:
    """CPU seconds of the processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
