"""The command line of the collector: ``pulsestream-collector``, or ``python -m collector``.

Exit codes: 0 done, 1 it did not work (the message says why and what mends it), 2 wrong usage or configuration.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector import config as configuration
from collector import log
from collector.config import Config
from collector.errors import CollectorError, ConfigError, Invalid

OK, FAILED, USAGE = 0, 1, 2

_EXAMPLES = """
examples:
  pulsestream-collector serve --config config/collector.yaml
  pulsestream-collector serve --store chdb:///tmp/store --port 0        try it out: no configuration needed
  pulsestream-collector tenant create "Blue Shop" --retention-days 30   prints the API key, once
  pulsestream-collector tenant list --json
  pulsestream-collector schema print --config config/collector.yaml     the tables, for a look or for a DBA

exit codes: 0 done; 1 it did not work, the message says why; 2 wrong usage or configuration
"""
_TENANT_NOTE = """
The embedded store (chdb://) belongs to one process. While a collector has it open, this command asks that collector
over HTTP, with the admin token of the configuration or of --admin-token-file.
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        config = settings(arguments)
        log.start(config.log.level, config.log.format)
        code: int = arguments.run(arguments, config)
    except (ConfigError, Invalid) as error:
        print(error, file=sys.stderr)
        return USAGE
    except CollectorError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return code


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="pulsestream-collector",
        description="Takes events from agents, keeps each exactly once in ClickHouse, and lets their owners search them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(commands, "serve", "run the collector", _serve)
    serve.add_argument("--host", help="address to listen on, instead of server.host")
    serve.add_argument("--port", type=int, help="port to listen on, instead of server.port; 0: any free one")

    demo = commands.add_parser("demo", help="collector, tenant and agent on this machine, to try it out")
    demo.add_argument(
        "--var", type=Path, default=Path("var"), metavar="DIR", help="where everything is kept; default: %(default)s"
    )
    demo.add_argument("--port", type=int, default=8080, help="where to listen; the next free port if it is in use")
    demo.add_argument("--logs", default="", metavar="'PATTERN …'", help="what to tail; default: the text files under /var/log")
    demo.add_argument("--duration", type=float, metavar="SECONDS", help="end by itself; default: run until Ctrl-C")
    demo.set_defaults(run=_demo, config=None, store=None, log_format=None, log_level=None)

    tenant = commands.add_parser("tenant", help="make and list tenants").add_subparsers(required=True, metavar="ACTION")
    create = _command(tenant, "create", "make a tenant and print its API key, once", _create, _TENANT_NOTE)
    create.add_argument("name", help="the tenant's name, for people")
    create.add_argument("--slug", default="", help="short name (a-z, 0-9, -); made from the name if not given")
    create.add_argument("--email", default="", help="whom to ask about this tenant")
    create.add_argument("--retention-days", type=int, help="how long events are kept, instead of the default")
    listing = _command(tenant, "list", "list the tenants", _list, _TENANT_NOTE)
    for command in (create, listing):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--url", help="a running collector to ask, like http://127.0.0.1:8080")
        command.add_argument("--admin-token-file", metavar="FILE", help="holds the admin token of that collector")

    schema = commands.add_parser("schema", help="the tables").add_subparsers(required=True, metavar="ACTION")
    _command(schema, "print", "print the statements that make the tables", _print_schema)
    _command(schema, "apply", "make or update the tables (serve does it too)", _apply_schema)
    return top


def _command(commands: Any, name: str, text: str, run: Any, note: str = "") -> argparse.ArgumentParser:
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
        "server": {"host": getattr(arguments, "host", None), "port": getattr(arguments, "port", None)},
        "store": {"url": arguments.store},
        "log": {"format": arguments.log_format, "level": arguments.log_level},
    }
    return configuration.changed(config, changes, where="command line")


def _serve(arguments: argparse.Namespace, config: Config) -> int:
    from collector.serve import serve  # the other commands start without aiohttp's server and the engine

    return asyncio.run(serve(config))


def _demo(arguments: argparse.Namespace, config: Config) -> int:
    from collector import demo

    return asyncio.run(demo.run(arguments.var, port=arguments.port, logs=arguments.logs, duration_s=arguments.duration))


def _create(arguments: argparse.Namespace, config: Config) -> int:
    from collector import directory

    changes = {} if arguments.retention_days is None else {"retention_days": arguments.retention_days}
    wanted = {
        "name": arguments.name,
        "slug": arguments.slug,
        "contact_email": arguments.email,
        "limits": changes,
    }
    made = asyncio.run(directory.create(config, _door(arguments, config), wanted))
    if arguments.json:
        _print_json(made)
        return OK
    tenant = made["tenant"]
    print(f"tenant   {tenant['name']} ({tenant['slug']}), id {tenant['tenant_id']}")
    print(f"kept     {tenant['limits']['retention_days']} days")
    print(f"API key  {made['api_key']}")
    print("The key is not kept anywhere: copy it now.", file=sys.stderr)
    return OK


def _list(arguments: argparse.Namespace, config: Config) -> int:
    from collector import directory

    found = asyncio.run(directory.list_all(config, _door(arguments, config)))
    if arguments.json:
        _print_json({"tenants": found})
        return OK
    print(f"{'id':16}  {'slug':24}  {'kept':>6}  name")
    for tenant in found:
        kept = f"{tenant['limits']['retention_days']} d"
        off = "  (disabled)" if tenant["disabled"] else ""
        print(f"{tenant['tenant_id']:16}  {tenant['slug']:24}  {kept:>6}  {tenant['name']}{off}")
    return OK


def _door(arguments: argparse.Namespace, config: Config) -> Any:
    """Where a running collector can be asked, and with which token."""
    from collector.directory import Door

    token = config.admin_token
    if arguments.admin_token_file:
        token = configuration.read_secret(arguments.admin_token_file, "--admin-token-file")
    return Door(url=arguments.url or "", token=token)


def _print_schema(arguments: argparse.Namespace, config: Config) -> int:
    from collector import schema

    print("\n\n".join(f"{statement};" for statement in schema.statements(config.store.database)))
    return OK


def _apply_schema(arguments: argparse.Namespace, config: Config) -> int:
    from collector import directory, schema

    found = asyncio.run(directory.apply_schema(config))
    print(f"schema {schema.VERSION} is applied" + ("" if found == schema.VERSION else f" (it was {found})"))
    return OK


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
