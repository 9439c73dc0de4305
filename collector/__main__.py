"""The command line of the collector: ``pulsestream-collector``, or ``python -m collector``.

Exit codes: 0 done, 1 it did not work (the message says why and what mends it), 2 wrong usage or configuration; those of
``search`` are grep's.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

from agent import first

first.obey()

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from collector import config as configuration
from collector import log
from collector.config import Config
from collector.doctor import command as doctor_command
from collector.errors import CollectorError, ConfigError, Invalid
from collector.tenants import sql_user_command, tenant_command
from collector.terminal import search_command

OK, FAILED, USAGE = 0, 1, 2

_EXAMPLES = """
examples:
  pulsestream-collector serve --config config/collector.yaml
  pulsestream-collector serve --store chdb:///tmp/store --port 0        try it out: no configuration needed
  pulsestream-collector tenant create "Blue Shop" --retention-days 30   prints the API key, once
  pulsestream-collector tenant set blue-shop --limit events_per_minute=60000 --limit events_per_month=50000000
  pulsestream-collector tenant key add blue-shop --name agents --scope ingest
  pulsestream-collector tenant list --json
  pulsestream-collector sql-user create blue-shop | clickhouse-client   a user of ClickHouse who reads one tenant's events
  pulsestream-collector search timeout --since 1h --follow              over HTTP, at any collector
  pulsestream-collector doctor --config config/collector.yaml           what is wrong, and what to change
  pulsestream-collector schema print --config config/collector.yaml     the tables, for a look or for a DBA

exit codes: 0 done; 1 it did not work, the message says why; 2 wrong usage or configuration (search: those of grep)
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)

    def run() -> int:
        config = settings(arguments)
        log.start(config.log.level, config.log.format)
        code: int = arguments.run(arguments, config)
        return code

    return reported(run)


def reported(run: Callable[[], int]) -> int:
    """The exit code of ``run``; an error that has a message for people is printed and becomes its code."""
    try:
        return run()
    except (ConfigError, Invalid) as error:
        print(error, file=sys.stderr)
        return USAGE
    except CollectorError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="pulsestream-collector",
        description="Takes events from agents, keeps each exactly once in ClickHouse, and lets their owners search them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    serve = command_of(commands, "serve", "run the collector", _serve)
    serve.add_argument("--host", help="address to listen on, instead of server.host")
    serve.add_argument("--port", type=int, help="port to listen on, instead of server.port; 0: any free one")
    serve.add_argument("--workers", type=int, metavar="N", help="processes on the port, instead of server.workers")

    demo = commands.add_parser("demo", help="collector, tenant and agent on this machine, to try it out")
    demo.add_argument(
        "--var", type=Path, default=Path("var"), metavar="DIR", help="where everything is kept; default: %(default)s"
    )
    demo.add_argument("--port", type=int, default=8080, help="where to listen; the next free port if it is in use")
    demo.add_argument("--logs", default="", metavar="'PATTERN …'", help="what to tail; default: the text files under /var/log")
    demo.add_argument("--duration", type=float, metavar="SECONDS", help="end by itself; default: run until Ctrl-C")
    demo.set_defaults(run=_demo, config=None, store=None, log_format=None, log_level=None)

    tenant_command.add_to(commands, command_of)
    sql_user_command.add_to(commands, command_of)
    search_command.add_to(commands)
    doctor_command.add_to(commands, command_of)

    schema = commands.add_parser("schema", help="the tables").add_subparsers(required=True, metavar="ACTION")
    show = command_of(schema, "print", "print the statements that make the tables", _print_schema)
    show.add_argument(
        "--cluster", default="", metavar="NAME", help="for all servers of a cluster: replicated and sharded tables"
    )
    command_of(schema, "apply", "make or update the tables (serve does it too)", _apply_schema)
    return top


def command_of(commands: Any, name: str, text: str, run: Any, note: str = "") -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=note, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(run=run)
    command.add_argument("--config", metavar="FILE", help="the configuration; without it every setting is its default")
    command.add_argument("--store", metavar="URL", help="chdb:///folder or http(s)://host:port, instead of store.url")
    command.add_argument("--log-format", choices=("text", "json"), help="instead of log.format")
    command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="instead of log.level")
    return command


def settings(arguments: argparse.Namespace) -> Config:
    """The configuration with what the command line changes. Raises ConfigError."""
    config = configuration.load(arguments.config) if arguments.config else Config()
    changes = {
        "server": {name: getattr(arguments, name, None) for name in ("host", "port", "workers")},
        "store": {"url": arguments.store},
        "log": {"format": arguments.log_format, "level": arguments.log_level},
    }
    return configuration.changed(config, changes, where="command line")


def _serve(arguments: argparse.Namespace, config: Config) -> int:
    # The other commands start without aiohttp's server and the engine.
    if config.server.workers > 1:
        from collector.serving.supervisor import supervise

        return asyncio.run(supervise(config))
    from collector.serving.serve import serve

    return asyncio.run(serve(config))


def _demo(arguments: argparse.Namespace, config: Config) -> int:
    from collector import demo

    return asyncio.run(demo.run(arguments.var, port=arguments.port, logs=arguments.logs, duration_s=arguments.duration))


def _print_schema(arguments: argparse.Namespace, config: Config) -> int:
    from collector.store import cluster, schema

    made = schema.statements(config.store.database)
    if arguments.cluster:
        made = cluster.clustered(made, config.store.database, arguments.cluster, schema.VERSION)
    print("\n\n".join(f"{statement};" for statement in made))
    return OK


def _apply_schema(arguments: argparse.Namespace, config: Config) -> int:
    from collector.store import schema
    from collector.tenants import directory

    found = asyncio.run(directory.apply_schema(config))
    print(f"schema {schema.VERSION} is applied" + ("" if found == schema.VERSION else f" (it was {found})"))
    return OK


if __name__ == "__main__":
    sys.exit(main())
