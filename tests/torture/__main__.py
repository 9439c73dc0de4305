"""``python -m tests.torture [--duration S] [--seed N] [--folder DIR]``"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from pathlib import Path

from agent.torture.ordeal import Ordeal, OrdealFailed, Plan, Verdict
from tests.torture.product import Product


def run(folder: Path, *, seed: int, duration_s: float) -> Verdict:
    """Raises OrdealFailed."""
    return asyncio.run(Ordeal(Plan(folder / "agent", seed, duration_s), Product(folder / "product")).run())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Harm, and a count of every line.")
    parser.add_argument(
        "--duration", type=float, default=120.0, metavar="S", help="of the harm, in seconds; default: %(default)g"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 16), help="the same seed, the same harm"
    )
    parser.add_argument("--folder", type=Path, default=Path("var/torture"), metavar="DIR", help="default: %(default)s; emptied")
    options = parser.parse_args()
    folder = options.folder.absolute() / str(options.seed)
    try:
        verdict = run(folder, seed=options.seed, duration_s=options.duration)
    except OrdealFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(verdict)
    for line in verdict.missing:
        print(f"lost: {line}", file=sys.stderr)
    for line in verdict.surplus:
        print(f"not wanted: {line}", file=sys.stderr)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
