"""``pulsestream-collector doctor``: the arguments, and what is printed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from collector.config import Config
from collector.tenants.tenant_command import asking, door_of

_NOTE = """
Looks and changes nothing. Beside a collector with an embedded store (chdb://) it asks that collector, with the admin token
for tenants and keys. Exit codes: 0 nothing is wrong, 1 something is (with --strict also a warning), 2 the command line or the
configuration is wrong.
"""


def add_to(commands: Any, command_of: Callable[..., argparse.ArgumentParser]) -> None:
    command = asking(command_of(commands, "doctor", "look at all that can be wrong, and say what to change", _run, _NOTE))
    command.add_argument("--strict", action="store_true", help="warnings count as wrong")


def _run(arguments: argparse.Namespace, config: Config) -> int:
    from collector.doctor import doctor, findings  # and with it the engine, which not every command needs

    logging.getLogger().setLevel(logging.ERROR)  # what matters is a finding
    found = asyncio.run(doctor.examine(config, arguments.config or "", door_of(arguments, config)))
    bad = {"error", "warning"} if arguments.strict else {"error"}
    code = int(any(one.level in bad for one in found))
    if arguments.json:
        answer = {"ok": not code, "findings": found}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n")
    else:
        print(findings.as_text(found))
    return code
