"""The systemd units: systemd itself finds no fault in them, they may do little, and their times fit the programs' own."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import Config as AgentConfig
from agent.config import Source
from collector.config import Config as CollectorConfig

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "config" / "systemd"
PROGRAMS = ("agent", "collector")
ANALYZE = shutil.which("systemd-analyze")
HARDEST = 20
"""Tenths of what `systemd-analyze security` calls exposure: 0 is none, 96 a unit that says nothing."""
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here (Debian: apt-get install systemd)")


def unit(program: str) -> Path:
    return FOLDER / f"pulsestream-{program}.service"


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANALYZE or "", *arguments], capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0"}
    )


@needs_systemd
@pytest.mark.parametrize("program", PROGRAMS)
def test_systemd_understands_every_line(program: str, tmp_path: Path) -> None:
    text = unit(program).read_text()
    command = Path(sys.executable).parent / f"pulsestream-{program}"
    assert command.exists()
    copy = tmp_path / unit(program).name
    copy.write_text(text.replace(f"/opt/pulsestream/bin/pulsestream-{program}", str(command)))
    done = analyzed("verify", "--man=no", str(copy))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    copy.write_text(text.replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in analyzed("verify", "--man=no", str(copy)).stderr


@needs_systemd
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_unit_may_do_little(program: str) -> None:
    done = analyzed("security", "--offline=true", f"--threshold={HARDEST}", "--no-pager", str(unit(program)))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze rates no files (systemd 250 does)")
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize(("program", "stop_s"), [
    ("agent", AgentConfig(sources=(Source("app", ("/var/log/*.log",)),)).shutdown_timeout_s),
    ("collector", CollectorConfig().server.shutdown_timeout_s),
])  # fmt: skip
def test_a_stop_is_given_the_time_that_the_program_takes(program: str, stop_s: float) -> None:
    said = configparser.ConfigParser(strict=False, interpolation=None)
    said.optionxform = str  # type: ignore[assignment, method-assign]
    said.read_string(unit(program).read_text())
    assert float(said["Service"]["TimeoutStopSec"]) > stop_s + 1
    assert said["Service"]["Restart"] == "always"
    state = said["Service"]["StateDirectory"]
    example = (REPOSITORY / "config" / f"{program}.yaml").read_text()
    assert re.search(rf"/var/lib/{state}\b", example), "where the example configuration keeps its state"
