"""Two minutes of harm, to the agent and to the whole product (more with ``make torture``): no line lost, none twice.

``PULSESTREAM_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from agent import __main__ as agent
from agent.torture.ordeal import Plan
from agent.torture.trial import judge
from tests.torture.product import Product


@pytest.fixture
def seed() -> int:
    value = int(os.environ.get("PULSESTREAM_SEED") or random.SystemRandom().randrange(1 << 16))
    print(f"PULSESTREAM_SEED={value}")
    return value


@pytest.mark.engine
@pytest.mark.timeout(500)
def test_every_line_is_stored_once_whatever_is_done_to_all_of_it(seed: int, tmp_path: Path) -> None:
    assert judge(Plan(tmp_path / "agent", seed, 90.0), Product(tmp_path / "product"))


@pytest.mark.timeout(500)
def test_the_agent_alone_tells_whether_each_line_is_stored_once(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "torture"
    assert agent.main(["torture", "--duration", "30", "--seed", str(seed), "--folder", str(folder)]) == 0
    said = capsys.readouterr().out
    verdict = re.search(rf"seed={seed} duration_s=30 written=(\d+) stored=(\d+) lost=0 duplicated=0 ledger=\d+ ", said)
    assert verdict, said
    assert int(verdict[1]) == int(verdict[2]) > 1000


def test_a_key_is_needed_for_a_real_collector(capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["torture", "--url", "http://127.0.0.1:1"]) == 2
    assert "--url needs --api-key-file" in capsys.readouterr().err
