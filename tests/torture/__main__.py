"""``python -m tests.torture [--duration S] [--seed N] [--folder DIR]``"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from agent.torture.ordeal import Plan
from agent.torture.trial import judge
from tests.torture.product import Product


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Harm, and a count of every line.")
    parser.add_argument(
        "--duration", type=float, default=120.0, metavar="S", help="of the harm, in seconds; default: %(default)g"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 16), help="the same seed, the same harm"
    )
    parser.add_argument("--rate", type=float, default=200_000.0, metavar="BYTES", help="what each app writes a second")
    parser.add_argument("--embedded", action="store_true", help="the engine inside the collector; default: one of its own")
    parser.add_argument("--folder", type=Path, default=Path("var/torture"), metavar="DIR", help="default: %(default)s; emptied")
    options = parser.parse_args()
    folder = options.folder.absolute() / str(options.seed)
    plan = Plan(folder / "agent", options.seed, options.duration, options.rate)
    return 0 if judge(plan, Product(folder / "product", embedded=options.embedded)) else 1


if __name__ == "__main__":
    sys.exit(main())
