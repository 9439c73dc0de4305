"""What every test may ask for: an agent process, a sink for it, a folder of logs. And what unit tests may not do."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.agent import AgentProcess
from tests.support.sink import SinkProcess

# Programs under test take Ctrl-C, also where the suite runs in the background of a shell, which has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

UNIT = Path(__file__).parent / "unit"

# Tests run side by side on machines that are busy: how long an example takes says nothing about the code. The suite tries the
# same examples each time, so that it fails for what was changed; `make fuzz` and `make model` draw others.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize="FUZZ" not in os.environ and "MODEL" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


_LONG_FIRST = ("torture", "test_end_to_end.py", "bench", "browser", "deploy", "integration", "fault", "fuzz", "model", "unit")
"""Files that take minutes come first: one that came last would be waited for alone."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        parts = item.path.parts
        return next((n for n, name in enumerate(_LONG_FIRST) if name in parts), len(_LONG_FIRST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _unit_tests_stay_off_the_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that connects or listens fails, also where the code under test swallows errors."""
    if UNIT not in request.path.parents:
        return

    def guard(name: str) -> None:
        method = getattr(socket.socket, name)

        def guarded(self: socket.socket, *arguments: Any) -> Any:
            if self.family != socket.AF_UNIX:
                pytest.fail(f"a unit test called socket.{name}{arguments}")
            return method(self, *arguments)

        monkeypatch.setattr(socket.socket, name, guarded)

    for name in ("connect", "connect_ex", "bind", "sendto"):
        guard(name)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The folder in which the app logs; `agent` reads ``*.log`` there."""
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def sink() -> Iterator[SinkProcess]:
    """A collector that says yes until told otherwise."""
    with SinkProcess() as process:
        yield process


@pytest.fixture
def agent(tmp_path: Path, logs: Path, sink: SinkProcess) -> Iterator[AgentProcess]:
    """An agent for `logs` that ships to `sink`. Not started: the test says when."""
    process = AgentProcess(tmp_path / "agent", url=sink.url, include=[logs / "*.log"])
    yield process
    process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a spool."""
    return tmp_path / "spool"
