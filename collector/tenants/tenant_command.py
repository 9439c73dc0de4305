"""``pulsestream-collector tenant …``: the arguments, and what is printed. What is done is in `collector.tenants.directory`.

Keys go to stdout once and are kept nowhere; every other word about them goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector import config as configuration
from collector.config import Config, Limits
from collector.errors import invalid

_NOTE = """
The embedded store (chdb://) belongs to one process. While a collector has it open, this command asks that collector
over HTTP, with the admin token of the configuration or of --admin-token-file.
"""
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")
_LIMITS = f"limits: {', '.join(Limits.__struct_fields__)}\n"
_SCOPES = ("ingest", "search", "delete", "admin")
_KEPT_NOWHERE = "The key is not kept anywhere: copy it now."

CommandOf = Callable[..., argparse.ArgumentParser]


def add_to(commands: Any, command_of: CommandOf) -> None:
    """Add the command ``tenant``; ``command_of`` makes a subcommand with the options that all have."""
    tenant = commands.add_parser("tenant", help="make and change tenants and their keys")
    actions = tenant.add_subparsers(required=True, metavar="ACTION")

    create = asking(command_of(actions, "create", "make a tenant and print its API key, once", _create, _LIMITS + _NOTE))
    create.add_argument("name", help="the tenant's name, for people")
    create.add_argument("--slug", default="", help="short name (a-z, 0-9, -); made from the name if not given")
    create.add_argument("--email", default="", help="whom to ask about this tenant")
    create.add_argument("--retention-days", type=int, help="how long events are kept, instead of the default")
    _limit_option(create)

    asking(command_of(actions, "list", "list the tenants", _list, _NOTE))

    show = asking(command_of(actions, "show", "show a tenant, its limits and its keys", _show, _NOTE))
    change = asking(command_of(actions, "set", "change a tenant; what is not named stays", _set, _LIMITS + _NOTE))
    change.add_argument("--name", help="the tenant's name, for people")
    change.add_argument("--email", help="whom to ask about this tenant")
    change.add_argument("--enable", action="store_true", help="the opposite of `tenant disable`")
    _limit_option(change)
    disable = asking(command_of(actions, "disable", "stop all keys of a tenant; its events stay", _disable, _NOTE))

    key = actions.add_parser("key", help="a tenant's API keys").add_subparsers(required=True, metavar="ACTION")
    add = asking(command_of(key, "add", "make one more key and print it, once", _add_key, _NOTE))
    rotate = asking(command_of(key, "rotate", "make a key like another, which ends later", _rotate_key, _NOTE))
    revoke = asking(command_of(key, "revoke", "end a key, everywhere within 5 s", _revoke_key, _NOTE))
    command_of(key, "make", "print a fresh key and its hash for a tenants file; nothing is stored", _make_key)
    for command in (show, change, disable, add, rotate, revoke):
        command.add_argument("slug", help="which tenant")
    for command in (rotate, revoke):
        command.add_argument("key_id", help="which key: the 8 characters after ps_")
    add.add_argument("--name", default="", help="what the key is for")
    add.add_argument("--scope", action="append", choices=_SCOPES, help="may be given several times; default: ingest")
    add.add_argument("--expires-days", type=float, metavar="DAYS", help="ends by itself after so long")
    rotate.add_argument("--overlap", type=float, default=86400.0, metavar="SECONDS", help="the old key works so much longer")


def asking(command: argparse.ArgumentParser, *, json: bool = True) -> argparse.ArgumentParser:
    """Add the options of a command that may have to ask a running collector."""
    if json:
        command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--url", help="a running collector to ask, like http://127.0.0.1:8080")
    command.add_argument("--admin-token-file", metavar="FILE", help="holds the admin token of that collector")
    return command


def _limit_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="a limit, like events_per_minute=60000; repeatable"
    )


def _create(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory  # and with it the engine, which not every command needs

    limits = _limits(arguments.limit)
    if arguments.retention_days is not None:
        limits["retention_days"] = arguments.retention_days
    wanted = {"name": arguments.name, "slug": arguments.slug, "contact_email": arguments.email, "limits": limits}
    made = asyncio.run(directory.create(config, door_of(arguments, config), wanted))
    if arguments.json:
        return _json(made)
    tenant = made["tenant"]
    print(f"tenant   {tenant['name']} ({tenant['slug']}), id {tenant['tenant_id']}")
    print(f"kept     {tenant['limits']['retention_days']} days")
    return _key(made["api_key"])


def _list(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory

    found = asyncio.run(directory.list_all(config, door_of(arguments, config)))
    if arguments.json:
        return _json({"tenants": found})
    print(f"{'id':16}  {'slug':24}  {'kept':>6}  name")
    for tenant in found:
        kept = f"{tenant['limits']['retention_days']} d"
        off = "  (disabled)" if tenant["disabled"] else ""
        print(f"{tenant['tenant_id']:16}  {tenant['slug']:24}  {kept:>6}  {tenant['name']}{off}")
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory

    found = asyncio.run(directory.show(config, door_of(arguments, config), arguments.slug))
    if arguments.json:
        return _json(found)
    _print_tenant(found["tenant"])
    print(f"\n{'key':8}  {'scopes':28}  {'ends':20}  {'last used':20}  name")
    for key in found["keys"]:
        ends = "revoked" if key["revoked"] else key["expires"] or "-"
        print(f"{key['key_id']:8}  {' '.join(key['scopes']):28}  {ends:20}  {key['last_used'] or '-':20}  {key['name']}")
    return 0


def _set(arguments: argparse.Namespace, config: Config) -> int:
    wanted: dict[str, Any] = {"name": arguments.name, "contact_email": arguments.email, "limits": _limits(arguments.limit)}
    if arguments.enable:
        wanted["disabled"] = False
    return _change(arguments, config, {name: value for name, value in wanted.items() if value is not None})


def _disable(arguments: argparse.Namespace, config: Config) -> int:
    return _change(arguments, config, {"disabled": True})


def _change(arguments: argparse.Namespace, config: Config, wanted: dict[str, Any]) -> int:
    from collector.tenants import directory

    changed = asyncio.run(directory.change(config, door_of(arguments, config), arguments.slug, wanted))
    if arguments.json:
        return _json(changed)
    _print_tenant(changed["tenant"])
    return 0


def _add_key(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory

    wanted: dict[str, Any] = {"name": arguments.name, "scopes": arguments.scope or ["ingest"]}
    if arguments.expires_days is not None:
        ends = datetime.fromtimestamp(time.time() + arguments.expires_days * 86400, UTC)
        wanted["expires"] = ends.isoformat()
    made = asyncio.run(directory.add_key(config, door_of(arguments, config), arguments.slug, wanted))
    return _json(made) if arguments.json else _key(made["api_key"])


def _rotate_key(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory

    door, wanted = door_of(arguments, config), {"overlap_s": arguments.overlap}
    made = asyncio.run(directory.rotate_key(config, door, arguments.slug, arguments.key_id, wanted))
    if arguments.json:
        return _json(made)
    print(f"the key {arguments.key_id} works until {made['old_key']['expires']}", file=sys.stderr)
    return _key(made["api_key"])


def _revoke_key(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import directory

    done = asyncio.run(directory.revoke_key(config, door_of(arguments, config), arguments.slug, arguments.key_id))
    if arguments.json:
        return _json(done)
    print(f"the key {arguments.key_id} is revoked; collectors that run refuse it within 5 s")
    return 0


def _make_key(arguments: argparse.Namespace, config: Config) -> int:
    from collector.tenants import tenants

    api_key, _ = tenants.new_key()
    print(f"key_sha256  {tenants.hash_of(api_key)}")
    return _key(api_key)


def _limits(given: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs. Raises Invalid for what is no pair; names and values are checked where they are used."""
    limits: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise invalid("--limit", "expected NAME=VALUE", pair, "for instance events_per_minute=60000")
        plain = value.strip()
        limits[name.strip()] = int(plain) if plain.isdecimal() else float(plain) if _DECIMAL.fullmatch(plain) else plain
    return limits


def door_of(arguments: argparse.Namespace, config: Config) -> Any:
    """Where a running collector can be asked, and with which token."""
    from collector.tenants.directory import Door

    token = config.admin_token
    if arguments.admin_token_file:
        token = configuration.read_secret(arguments.admin_token_file, "--admin-token-file")
    return Door(url=arguments.url or "", token=token)


def _print_tenant(tenant: dict[str, Any]) -> None:
    print(f"tenant   {tenant['name']} ({tenant['slug']}), id {tenant['tenant_id']}{', disabled' if tenant['disabled'] else ''}")
    print(f"contact  {tenant['contact_email'] or '-'}")
    for name, value in tenant["limits"].items():
        print(f"  {name:22} {value}")


def _key(api_key: str) -> int:
    print(f"API key  {api_key}")
    print(_KEPT_NOWHERE, file=sys.stderr)
    return 0


def _json(value: object) -> int:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    return 0
