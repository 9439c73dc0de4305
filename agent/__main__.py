"""The agent's command line. ``run`` wires the stages: discover, identity, tail, blocks, spool, ship."""

from __future__ import annotations

import gc

from agent import first

first.obey()
gc.disable()  # what is imported stays: looking for garbage in it took a sixth of the start

import argparse
import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from agent import config as configs
from agent import logs, service
from agent.config import Config
from agent.errors import FAILED, OK, USAGE, AgentError, ConfigError
from agent.reload import Settings

gc.freeze()
gc.enable()

DEFAULT_CONFIG = "config/agent.yaml"

_EXAMPLES = """\
examples:
  pulsestream-agent check --config config/agent.yaml     what would be shipped, and what is wrong
  pulsestream-agent run --config config/agent.yaml       tail and ship until SIGTERM
  pulsestream-agent status                               what the running agent does
  pulsestream-agent explain /var/log/app.log             which source has it or why none does, and how far it is
  pulsestream-agent dead-letters list                    what the collector refused; also show, replay, drop
  pulsestream-agent verify                               which lines of the files the store lacks; repair sends them
  pulsestream-agent torture --duration 60                harm, and a count of every line
  pulsestream-agent ids /var/log/app.log                 the ID of every line, as search shows it

exit codes: 0 fine, 1 something is wrong (the message says what), 2 the command line or the configuration is wrong
"""


_WAIT_HELP = "do not end when configuration, key or state folder cannot be used at the start, but wait until they can"
RETRY_S = 1.0
"""How often a start is tried again then: a look at a few small files."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(given).parse_args(given)
    try:
        code: int = options.command(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except AgentError as error:
        print(f"pulsestream-agent: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output had enough
        return OK
    return code


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pulsestream-agent",
        description="Tails local log files and ships every line exactly once to a PulseStream collector.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")

    run = commands.add_parser("run", parents=[shared], help="tail and ship until SIGTERM or Ctrl-C")
    run.add_argument("--log-format", choices=("text", "json"), help="default: log.format of the configuration")
    run.add_argument("--final-status", type=Path, metavar="FILE", help="at the end write what `status --json` would say")
    run.add_argument("--watch-config", action="store_true", help="read it again when it changes, too; SIGHUP always does that")
    run.add_argument("--wait-to-start", action="store_true", help=_WAIT_HELP)
    run.set_defaults(command=_run)

    if given[:1] != ["run"]:
        from agent import commands as questions

        questions.add_commands(commands, shared)
    return parser


def _run(options: argparse.Namespace) -> int:
    if not options.wait_to_start:
        return _life(options)
    logs.start("info", options.log_format or "text")
    fault = logs.Fault(logging.getLogger("agent"), "the start")
    while True:
        try:
            return _life(options)
        except AgentError as error:
            fault.seen("; ".join(str(error).splitlines()), time.monotonic())
        first.obey()  # the loop that ended has taken its handlers along
        time.sleep(RETRY_S)


def _life(options: argparse.Namespace) -> int:
    """Raises AgentError, for a start that cannot be."""
    config = configs.load(options.config)

    def apply(config: Config) -> None:
        logs.start(config.log.level, options.log_format or config.log.format)

    async def run() -> int:
        settings = Settings(config, load=lambda: configs.load(options.config), apply=apply)
        watched = Path(options.config) if options.watch_config else None
        return await service.run(settings, final_status=options.final_status, watched=watched)

    apply(config)
    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
