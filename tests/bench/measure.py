"""Clocks and counts: what a process has used so far, how long things took, on which machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MB = 1_000_000
REPOSITORY = Path(__file__).resolve().parents[2]
_PROCESS_CPU_CLOCK = 2
"""The kernel's number for "CPU time used" in the clock id of a process (clock_getcpuclockid)."""


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of all threads of a running process so far, those that ended included."""
    return time.clock_gettime(~pid << 3 | _PROCESS_CPU_CLOCK)


def memory_mb(pid: int) -> float:
    """Resident now."""
    return _status(pid, "VmRSS")


def peak_memory_mb(pid: int) -> float:
    """Resident at most, so far."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found, f"/proc/{pid}/status does not say {name}"
    return int(found[1]) * 1024 / MB


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """``p50_ms`` and ``p99_ms`` by nearest rank."""
    ordered = sorted(seconds)
    ranks = {name: ordered[-(-len(ordered) * percent // 100) - 1] for name, percent in (("p50_ms", 50), ("p99_ms", 99))}
    return {name: round(value * 1000, 2) for name, value in ranks.items()}


def pause(seconds: float) -> None:
    """Let time pass: what is measured is what happens meanwhile."""
    threading.Event().wait(seconds)


def machine() -> dict[str, Any]:
    """What the figures are to be read with."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": _cpu_model(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _commit() -> str:
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _cpu_model() -> str:
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
