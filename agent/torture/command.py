"""The command ``torture`` on the command line. What it does is loaded when it is asked for: no other start pays for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Put ``torture`` on the command line."""
    parser = commands.add_parser(
        "torture",
        help="do harm to an agent, the network and the collector, and count every line",
        description="Starts an agent of its own on files of its own, does to all of it what production does, and worse, and "
        "counts every line that was written: exit code 0 when each is stored once, else 1. Nothing else on this machine is "
        "touched. Without --url a sink takes the lines, which keeps all of them in memory.",
    )
    parser.add_argument("--duration", type=float, default=120.0, metavar="S", help="of the harm; default: %(default)g")
    parser.add_argument(
        "--rate", type=float, default=200_000.0, metavar="BYTES", help="what each app writes a second; default: %(default)g"
    )
    parser.add_argument("--seed", type=int, help="the same seed makes the same choices; default: a random one, told")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="emptied, and kept; default: a temporary one")
    parser.add_argument("--url", default="", help="a collector; default: a sink that keeps every event in memory")
    parser.add_argument("--api-key-file", metavar="FILE", help="a tenant's key that may ingest and search, for --url")
    parser.add_argument("--collector-command", default="", metavar="COMMAND", help="starts the collector; it is killed, too")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from agent.torture import trial

    return trial.run(options)
