"""What the command ``torture`` does: an ordeal of this installation, against a sink of its own or a real collector."""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from agent.torture.ordeal import Ordeal, OrdealFailed, Plan
from agent.torture.targets import Collector, Sink, Target


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 16)
    folder = options.folder.absolute() if options.folder else Path(tempfile.mkdtemp(prefix="pulsestream-torture-"))
    try:
        target = _target(options, folder)
    except (OSError, ValueError) as error:
        print(f"pulsestream-agent torture: {error}", file=sys.stderr)
        return 2
    passed = judge(Plan(folder / "ordeal", seed, options.duration, options.rate), target)
    if options.folder is None and passed:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs and state are kept in {folder}")
    return 0 if passed else 1


def _target(options: argparse.Namespace, folder: Path) -> Target:
    """Raises OSError, ValueError."""
    if not options.url:
        if options.collector_command or options.api_key_file:
            raise ValueError("--collector-command and --api-key-file need --url: where the collector listens")
        return Sink()
    if not options.api_key_file:
        raise ValueError("--url needs --api-key-file: a key that may ingest and search, best of a tenant of its own")
    folder.mkdir(parents=True, exist_ok=True)
    key = Path(options.api_key_file).read_text("utf-8").strip()
    return Collector(options.url, key, command=shlex.split(options.collector_command), log=folder / "collector.log")


def judge(plan: Plan, target: Target) -> bool:
    """Run the ordeal and print what came of it. Returns whether it was passed."""
    print(f"seed={plan.seed} duration_s={plan.duration_s:g} folder={plan.folder}", flush=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started does not outlive this
    try:
        verdict = asyncio.run(Ordeal(plan, target, say=_say).run())
    except (OrdealFailed, KeyboardInterrupt) as error:
        print(str(error) or "ended before there was a verdict", file=sys.stderr)
        return False
    finally:
        signal.signal(signal.SIGTERM, before)
    print(verdict)
    for line in verdict.missing:
        print(f"lost: {line}", file=sys.stderr)
    for line in verdict.surplus:
        print(f"not wanted: {line}", file=sys.stderr)
    return verdict.passed


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
