"""``pulsestream-collector sql-user …``: users of the engine for analysts; `collector.tenants.sql_users` says what they may.

The statements go to stdout, for ``clickhouse-client``; the password, which is in none of them, to stderr. With ``--run`` the
statements are run, and the password is what goes to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import sys
from typing import Any

from collector import config as configuration
from collector.config import Config
from collector.errors import ConfigError
from collector.tenants import sql_users
from collector.tenants.tenant_command import CommandOf, asking, door_of

_NOTE = """
Users are the engine's, so this is for a served store (http://…). The embedded engine has none: its tenants ask over HTTP.
The collector's own user in the engine needs the right to make users for --run; without --run nothing is changed.
"""


def add_to(commands: Any, command_of: CommandOf) -> None:
    """Add the command ``sql-user``."""
    top = commands.add_parser("sql-user", help="users of ClickHouse itself, for analysts who ask in SQL")
    actions = top.add_subparsers(required=True, metavar="ACTION")
    create = command_of(actions, "create", "print, or run, what makes a user who reads one tenant's events", _create, _NOTE)
    drop = command_of(actions, "drop", "print, or run, what takes such a user away", _drop, _NOTE)
    bounds = sql_users.Bounds()
    for name, value in bounds._asdict().items():
        create.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N", help="default: %(default)s")
    create.add_argument("--password-file", metavar="FILE", help="holds the password; without it one is made up")
    for command in (create, drop):
        asking(command, json=False)
        command.add_argument("slug", metavar="TENANT", help="which tenant, by its short name")
        command.add_argument("--user", default="", help="the user's name; default: ps_TENANT")
        command.add_argument("--cluster", default="", metavar="NAME", help="make it on all servers of this cluster")
        command.add_argument("--run", action="store_true", dest="run_it", help="run the statements instead of printing them")


def _create(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory

    _served(arguments, config)
    tenant = asyncio.run(directory.show(config, door_of(arguments, config), arguments.slug))["tenant"]
    given = arguments.password_file
    password = configuration.read_secret(given, "--password-file") if given else secrets.token_urlsafe(24)
    user = arguments.user or sql_users.name_of(arguments.slug)
    bounds = sql_users.Bounds(*(getattr(arguments, name) for name in sql_users.Bounds._fields))
    hashed = hashlib.sha256(password.encode()).hexdigest()
    made = sql_users.statements(config.store.database, tenant["tenant_id"], user, hashed, bounds, cluster=arguments.cluster)
    _done(arguments, config, made)
    if not given:
        print(f"user {user}  password {password}", file=sys.stdout if arguments.run_it else sys.stderr)
        print("The password is not kept anywhere: copy it now.", file=sys.stderr)
    return 0


def _drop(arguments: argparse.Namespace, config: Config) -> int:
    _served(arguments, config)
    user = arguments.user or sql_users.name_of(arguments.slug)
    _done(arguments, config, sql_users.removal(config.store.database, user, cluster=arguments.cluster))
    return 0


def _served(arguments: argparse.Namespace, config: Config) -> None:
    if arguments.run_it and config.store.url.startswith("chdb:"):
        raise ConfigError(
            f"store.url: {config.store.url} is the embedded engine, which has no users; name a server (http://host:8123), "
            "or leave --run out to see the statements"
        )


def _done(arguments: argparse.Namespace, config: Config, statements: list[str]) -> None:
    from collector.tenants import directory

    if arguments.run_it:
        asyncio.run(directory.run(config, statements))
    else:
        print("\n".join(f"{statement};" for statement in statements))
