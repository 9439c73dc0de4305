"""``python -m tests.bench [agent|api|collector|search|store|verify] [--size MB] [--rows N] [--json]``

One JSON object on stdout: the machine, and per benchmark its input, events/s, MB/s, p50 and p99 in ms, peak memory and more.
What is measured shows on stderr as it comes, unless ``--json`` asks for nothing but the object. Other work on the machine
shows in ``load_average``, and in the figures: wall times suffer most, CPU seconds less, ratios of CPU seconds least.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import agent, api, collector, measure, search, store, verify
from tests.bench.load import QUICK, Load

BENCHMARKS: dict[str, Callable[[Path, Load], Iterator[dict[str, Any]]]] = {
    "agent": agent.run,
    "api": api.run,
    "collector": collector.run,
    "search": search.run,
    "store": store.run,
    "verify": verify.run,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What PulseStream costs, measured.")
    parser.add_argument("name", nargs="?", choices=tuple(BENCHMARKS), help="default: all")
    parser.add_argument("--size", type=float, metavar="MB", help=f"of the access log; default: {Load().size_mb:g}")
    parser.add_argument("--rows", type=int, metavar="N", help=f"to search in; default: {Load().search_rows}")
    parser.add_argument("--json", action="store_true", help="nothing on stderr")
    parser.add_argument("--quick", action="store_true", help="tiny input, short waits: to see that it works")
    parser.add_argument(
        "--var", type=Path, default=Path("var/bench"), metavar="DIR", help="made-up logs are kept there; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    _as_installed()
    load = QUICK if options.quick else Load()
    if options.size:
        load = load._replace(size_mb=options.size)
    if options.rows:
        load = load._replace(search_rows=options.rows)
    folder = options.var.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    answer: dict[str, Any] = {**measure.machine(), "benchmarks": {}}
    for name in [options.name] if options.name else BENCHMARKS:
        for result in BENCHMARKS[name](folder, load):
            if not options.json:
                print(_readable(result), file=sys.stderr, flush=True)
            answer["benchmarks"][result.pop("benchmark")] = result
    print(json.dumps(answer, indent=1))
    return 0


def _as_installed() -> None:
    """With bytecode beside the modules: compiling them at each start takes the agent a tenth of a CPU second."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for program in ("agent", "collector"):
        compileall.compile_dir(measure.REPOSITORY / program, quiet=2)


def _readable(result: dict[str, Any]) -> str:
    values = [f"  {name:32} {value:>14,}" if isinstance(value, int | float) else f"  {name:32} {value}"
              for name, value in result.items() if name != "benchmark"]  # fmt: skip
    return "\n".join([result["benchmark"], *values])


if __name__ == "__main__":
    sys.exit(main())
