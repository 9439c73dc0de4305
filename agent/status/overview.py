"""The command ``status``: what the running agent says of itself, once or again and again; else what its state says.

``--watch`` outlives the agent: it says that none runs, and goes on when one does. On a terminal it keeps one screen, elsewhere
it prints a line each time. Ctrl-C ends it with exit code 0.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from agent import config as configs
from agent.errors import AgentError
from agent.status import panel, status

_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR_ALL = "\x1b[2J"


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Put ``status`` on the command line."""
    parser = commands.add_parser("status", parents=[shared], help="what the running agent reads, holds and has shipped")
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --watch one a line")
    parser.add_argument(
        "--watch", action="store_true", help="again and again, until Ctrl-C; one line each where no terminal is"
    )
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="S", help="of --watch, in seconds; default: %(default)g"
    )
    parser.set_defaults(command=show)


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError("is not between 0.1 and 86400 seconds")
    return seconds


def show(options: argparse.Namespace) -> int:
    """Raises AgentError."""
    config = configs.load(options.config)
    state = Path(config.state_dir)
    if options.watch:
        try:
            watch(state, options.interval, json=options.json, out=sys.stdout, pause=time.sleep)
        except KeyboardInterrupt:
            return 0
    try:
        answer = status.ask(state)
    except (OSError, msgspec.DecodeError) as error:
        raise AgentError(f"{state / status.SOCKET}: {error}") from None
    running = answer is not None
    said = answer if answer is not None else status.resting(state)
    print(_json(said, running) if options.json else "\n".join(panel.lines(said, running=running, state=str(state))))
    return 0 if running else 1


def watch(state: Path, interval_s: float, *, json: bool, out: TextIO, pause: Callable[[float], None]) -> None:
    """Until interrupted. ``pause``: how to wait."""
    on_screen = out.isatty() and not json
    if on_screen:
        out.write(_CLEAR_ALL)
    for answer, resting in _looks(state):
        if json:
            out.write(_json(answer or resting, answer is not None) + "\n")
        elif on_screen:
            out.write(_screen(panel.lines(answer or resting, running=answer is not None, state=str(state))))
        else:
            out.write(panel.line(answer, time.time()) + "\n")
        out.flush()
        pause(interval_s)


def _looks(state: Path) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """What the agent says, else None and what its state says: that is read once, when the agent is found to be gone."""
    resting: dict[str, Any] = {}
    while True:
        try:
            answer = status.ask(state)
        except (OSError, msgspec.DecodeError):
            answer = None  # it ends or starts just now
        if answer is not None:
            resting = {}
        elif not resting:
            resting = status.resting(state)
        yield answer, resting


def _screen(lines: list[str]) -> str:
    """As much as fits, over what was there, without a flicker."""
    columns, rows = shutil.get_terminal_size()
    shown = lines if len(lines) < rows else [*lines[: rows - 2], f"… {len(lines) - rows + 2} more lines"]
    return _HOME + "".join(f"{line[:columns]}{_CLEAR_LINE}\n" for line in shown) + _CLEAR_BELOW


def _json(said: dict[str, Any], running: bool) -> str:
    return msgspec.json.encode({"running": running, **said}).decode()
