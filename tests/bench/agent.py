"""The agent as a process: shipping a file that is there, timing single lines, and doing nothing.

The sink answers at once and keeps nothing. All settings are the defaults. CPU seconds are those of the whole process from its
first instruction; what starting costs is measured apart, with an agent that finds no file.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from agent.codec import compress, compress_aside
from agent.config import Config, Multiline, Redact, Source, SpoolConfig
from agent.files.expand import Expansion, Slots
from agent.reading import memory
from agent.text import shape
from agent.text.blocks import BLOCK_BYTES, Cut, cut_block
from tests.bench import measure
from tests.bench.accesslog import access_log
from tests.bench.load import Load
from tests.bench.measure import MB
from tests.support.agent import AgentProcess

DEADLINE_S = 300.0
SHAPED_MB = 32.0
ARCHIVE_MB = 200.0
ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 6),
    "zst": compress_aside,
    "xz": lambda data: lzma.compress(data, preset=1),
    "bz2": lambda data: bz2.compress(data, 9),
}
SHAPES: dict[str, dict[str, Any]] = {
    "multiline_java": {"multiline": Multiline("java")},
    "multiline_start": {"multiline": Multiline(start=r"^\d")},
    "multiline_python_traces": {"multiline": Multiline("python")},
    "redact_email_bearer": {"redact": Redact(("email", "bearer"))},
    "redact_email_in_every_line": {"redact": Redact(("email",))},
    "redact_card": {"redact": Redact(("card",))},
    "redact_ip_in_every_line": {"redact": Redact(("ip",))},
    "redact_ip_hashed_in_every_line": {"redact": Redact(("ip",), {}, "hash", "a key of this benchmark")},
    "redact_all_presets": {"redact": Redact(("email", "card", "bearer", "ip"))},
    "multiline_java_redact_ip": {"multiline": Multiline("java"), "redact": Redact(("ip",))},
    "container_cri": {"container": "cri"},
    "container_docker": {"container": "docker"},
    "encoding_latin_1": {"encoding": "latin-1"},
    "exclude_lines": {"exclude_lines": ("nothing like this",)},
    "max_line_bytes": {"max_line_bytes": 4096},
    "sample_debug": {"sample": {"debug": 10}},
    "sample_info": {"sample": {"info": 10}},
    "sample_info_named_in_every_line": {"sample": {"info": 10}},
    "multiline_redact_all_filters": {
        "multiline": Multiline("java"),
        "redact": Redact(("email", "card", "bearer", "ip")),
        "exclude_lines": ("nothing like this",),
    },
}
IDLE_FILES = 100
LOOK_S = 0.002


def run(folder: Path, load: Load) -> Iterator[dict[str, Any]]:
    """Measure; made-up logs are kept in ``folder``."""
    path = access_log(folder / f"access-{load.size_mb:g}-mb.log", int(load.size_mb * MB))
    with tempfile.TemporaryDirectory(dir=folder) as work:
        start_cpu_s = started(Path(work) / "start", load)
        yield shipping(Path(work) / "ship", path, load, start_cpu_s)
        yield single_lines(Path(work) / "lines", load)
        yield idle(Path(work) / "idle", load, IDLE_FILES)
        yield {**idle(Path(work) / "many", load, load.many_files), "benchmark": "agent.many"}
        yield archives(Path(work) / "archives", path, load, start_cpu_s)
    yield transforms(path)


def archives(folder: Path, path: Path, load: Load, start_cpu_s: float) -> dict[str, Any]:
    """The same log, compressed: MB of content per CPU second after the start, in brackets how many times the CPU of expanding
    alone, and the peak of memory."""
    with path.open("rb") as file:
        content = file.read(int(min(ARCHIVE_MB, load.size_mb) * MB))
    content = content[: content.rfind(b"\n") + 1]
    found: dict[str, Any] = {"benchmark": "agent.archives", "input_mb": round(len(content) / MB, 1)}
    for name, make in ARCHIVES.items():
        archive = folder / name / f"app.log.1.{name}"
        archive.parent.mkdir(parents=True)
        archive.write_bytes(make(content))
        alone_s = _expanding_cpu_s(archive)
        with sink() as url, agent(folder / name, url, archive) as process:
            wait_for_events(url, content.count(b"\n"), process)
            pid = process.status()["pid"]
            cpu_s, peak_mb = measure.cpu_s(pid) - start_cpu_s, measure.peak_memory_mb(pid)
        found[name] = f"{len(content) / MB / max(cpu_s, 0.001):.1f} MB/s ({cpu_s / alone_s:.2f}), {peak_mb:.0f} MB"
    return found


def _expanding_cpu_s(path: Path) -> float:
    began_s, at = time.process_time(), 0
    with path.open("rb") as file:
        expansion = Expansion(file.fileno, Slots())
        while expansion.reach(at := at + BLOCK_BYTES) >= at:
            pass
    return max(time.process_time() - began_s, 1e-6)


def transforms(path: Path) -> dict[str, Any]:
    """MB per CPU second of each transform with the compression behind it, on at most `SHAPED_MB` of the log, and in brackets
    how many times the CPU of lines to which nothing is done: measured in turns, since a machine has slow moments."""
    with path.open("rb") as file:
        log = file.read(int(SHAPED_MB * MB))
    log = log[: log.rfind(b"\n") + 1]
    memory.keep_freed()  # as an agent with transforms does
    found: dict[str, Any] = {"benchmark": "agent.shape", "input_mb": round(len(log) / MB, 1), "raw": 0.0}
    raws = []
    for name, settings in SHAPES.items():
        plan = shape.plan_of(Source("bench", ("/",), **settings))
        assert plan is not None
        data = _wrapped(name, log)
        raws.append(min(_cpu_s(None, log) for _ in range(2)) / len(log))
        cost = min(_cpu_s(plan, data) for _ in range(2)) / len(data)
        found[name] = f"{1 / MB / cost:.1f} MB/s ({cost / raws[-1]:.2f})"
    found["raw"] = round(1 / MB / min(raws), 1)
    return found


def _cpu_s(plan: shape.Plan | None, data: bytes) -> float:
    """CPU seconds for all of it, in blocks."""
    offset, began_s = 0, time.process_time()
    while offset < len(data):
        block = data[offset : offset + BLOCK_BYTES]
        found = cut_block(block, 0, len(block), offset) if plan is None else shape.apply(plan, block, offset)
        if found is None:
            break
        compress(block[: found.length] if isinstance(found, Cut) else found.payload)
        offset += found.length
    return max(time.process_time() - began_s, 1e-6)


def _wrapped(name: str, log: bytes) -> bytes:
    """As much of the log as makes about as many bytes in the form that a transform is for."""
    size, lines = len(log), log.decode().splitlines()
    if name == "container_cri":
        lines = [f"2026-10-12T00:00:00.123456789Z stdout F {line}" for line in lines]
    elif name == "container_docker":
        lines = [json.dumps({"log": line + "\n", "stream": "stdout", "time": "2026-10-12T00:00:00.123Z"}) for line in lines]
    elif name == "multiline_python_traces":
        trace = 'Traceback (most recent call last):\n  File "/app/shop.py", line 17, in pay\n    pay(order)\nshop.Failed: {}'
        lines = [line if n % 20 else f"{line}\n{trace.format(n)}" for n, line in enumerate(lines)]
    elif name == "sample_info_named_in_every_line":
        lines = [line.replace("] ", "] INFO " if n % 20 else "] ERROR ", 1) for n, line in enumerate(lines)]
    elif name == "redact_email_in_every_line":
        lines = [line.replace(" - ", f" user{n % 9999}@shop.example ", 1) for n, line in enumerate(lines)]
    else:
        return log
    data = "\n".join(lines).encode() + b"\n"
    return data[: data.rfind(b"\n", 0, size) + 1]


def started(folder: Path, load: Load) -> float:
    """CPU seconds of an agent that finds no file."""
    with sink() as url, agent(folder, url, folder / "logs" / "*.log") as process:
        pid = process.status()["pid"]
        measure.pause(min(1.0, load.idle_s))
        return measure.cpu_s(pid)


def shipping(folder: Path, path: Path, load: Load, start_cpu_s: float) -> dict[str, Any]:
    """From the start of the process until the sink has every line."""
    size_mb, lines = path.stat().st_size / MB, count_lines(path)
    alone = json.loads(subprocess.check_output([sys.executable, "-m", "tests.bench.codec", path], cwd=measure.REPOSITORY))
    with sink() as url:
        began_s = time.monotonic()
        with agent(folder, url, path) as process:
            wait_for_events(url, lines, process)
            wall_s = time.monotonic() - began_s
            pid = process.status()["pid"]
            cpu_s, peak_mb = measure.cpu_s(pid), measure.peak_memory_mb(pid)
            counts = process.status()["counts"]
    after_start_s = max(cpu_s - start_cpu_s, 0.001)
    assert counts["acked_events"] <= lines, f"{counts} for {lines} lines"
    return {
        "benchmark": "agent.ship",
        "input_mb": round(size_mb, 1),
        "events": lines,
        "compression_ratio": round(alone["bytes"] / alone["compressed_bytes"], 2),
        "events_per_s": round(lines / wall_s),
        "mb_per_s": round(size_mb / wall_s, 1),
        "mb_per_cpu_s": round(size_mb / cpu_s, 1),
        "mb_per_cpu_s_after_start": round(size_mb / after_start_s, 1),
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
        "start_cpu_s": round(start_cpu_s, 3),
        "compress_alone_cpu_s": round(alone["cpu_s"], 3),
        "times_compress_alone": round(cpu_s / alone["cpu_s"], 2),
        "times_compress_alone_after_start": round(after_start_s / alone["cpu_s"], 2),
        "peak_memory_mb": round(peak_mb, 1),
    }


def single_lines(folder: Path, load: Load) -> dict[str, Any]:
    """From the write of one line to a quiet file until the sink has it."""
    took_s = []
    log = folder / "logs" / "quiet.log"
    log.parent.mkdir(parents=True)
    with sink() as url, agent(folder, url, log) as process, log.open("ab", buffering=0) as file:
        pid = process.status()["pid"]
        for number in range(1, load.lines + 1):
            measure.pause(load.quiet_s)
            began_s = time.monotonic()
            file.write(b"line %d of a quiet file, written on its own\n" % number)
            wait_for_events(url, number, process)
            took_s.append(time.monotonic() - began_s)
        peak_mb = measure.peak_memory_mb(pid)
    return {
        "benchmark": "agent.line",
        "events": load.lines,
        **measure.percentiles_ms(took_s),
        "peak_memory_mb": round(peak_mb, 1),
    }


def idle(folder: Path, load: Load, files: int) -> dict[str, Any]:
    """Watching files to which nobody writes."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    for number in range(files):
        (logs / f"app-{number}.log").write_bytes(b"file %d of those that rest\n" % number * 10)
    with sink() as url, agent(folder, url, logs / "*.log") as process:
        wait_for_events(url, files * 10, process)
        measure.pause(min(1.0, load.idle_s))
        pid = process.status()["pid"]
        opened = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        began_s, before_s = time.monotonic(), measure.cpu_s(pid)
        measure.pause(load.idle_s)
        used_s = measure.cpu_s(pid) - before_s
        wall_s = time.monotonic() - began_s
        memory_mb, peak_mb = measure.memory_mb(pid), measure.peak_memory_mb(pid)
    return {
        "benchmark": "agent.idle",
        "files": files,
        "descriptors": opened,
        "watched_s": round(wall_s, 2),
        "cpu_percent": round(100 * used_s / wall_s, 3),
        "memory_mb": round(memory_mb, 1),
        "peak_memory_mb": round(peak_mb, 1),
    }


@contextmanager
def agent(folder: Path, url: str, include: Path, *, key: str = "a-key") -> Iterator[AgentProcess]:
    """An agent with the defaults of the product, not those of the tests."""
    process = AgentProcess(folder, url=url, include=[include])
    process.configure(
        collector={"api_key": key},
        spool={"fsync_interval_s": SpoolConfig().fsync_interval_s},
        **{name: getattr(Config(()), name) for name in ("flush_interval_s", "rescan_interval_s", "shutdown_timeout_s")},
    )
    with process:
        yield process


@contextmanager
def sink() -> Iterator[str]:
    """The URL of a sink that only counts."""
    command = [sys.executable, "-m", "tests.support.sink", "--port", "0"]
    with subprocess.Popen(command, cwd=measure.REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.kill()


def wait_for_events(url: str, wanted: int, process: AgentProcess) -> None:
    """Until the sink was sent so many events; looks often while few come, seldom while many do, to stay out of the way."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE_S)
    look_s = LOOK_S if wanted < 10_000 else 10 * LOOK_S
    end_s = time.monotonic() + DEADLINE_S
    try:
        while True:
            connection.request("GET", "/seen")
            seen = json.loads(connection.getresponse().read())
            assert not seen["faults"], seen["faults"]
            if seen["events"] >= wanted:
                return
            came = f"{seen['events']} of {wanted} events came"
            assert time.monotonic() < end_s, f"{came}; {process.log()}"
            assert "Traceback" not in process.log(), f"{came}; {process.log()}"
            measure.pause(look_s)
    finally:
        connection.close()


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
