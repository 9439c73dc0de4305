"""Some harm to the whole product (more with ``make torture``): no line is lost, none is there twice.

``PULSESTREAM_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.torture.__main__ import run

DURATION_S = 12.0


@pytest.fixture
def seed() -> int:
    value = int(os.environ.get("PULSESTREAM_SEED") or random.SystemRandom().randrange(1 << 16))
    print(f"PULSESTREAM_SEED={value}")
    return value


@pytest.mark.engine
@pytest.mark.timeout(500)
def test_every_line_is_stored_once_whatever_is_done_to_all_of_it(seed: int, tmp_path: Path) -> None:
    verdict = run(tmp_path, seed=seed, duration_s=DURATION_S)
    print(verdict)
    assert verdict.passed, f"{verdict}; missing: {verdict.missing}"
    assert verdict.written > 10_000
    assert verdict.kills
