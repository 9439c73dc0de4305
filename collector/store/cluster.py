"""The schema on a cluster: each statement of one server as the statement for all servers. Pure.

- Every server has all tables and views, made ``ON CLUSTER``. What comes in as blocks is taken apart on the server that it
  came to; what is kept goes to replicated tables.
- `events` is a Distributed table over ``events_local``, of which each shard keeps a part, replicated within the shard. So
  statements that name `events` mean all of it, here as on one server. Which shard an event belongs to follows from its tenant
  and its file (an ID of an API client: from the ID): all copies of an event meet on one shard, where FINAL and merges make one
  of them, and the events of a record stay together.
- All other tables that are kept are small: every server has them whole, as replicas of one.
- The macros ``{shard}`` and ``{replica}`` of the servers tell them apart; ``{replica}`` need only be unique within a shard.
- The last statement records the version, since a collector looks for it before it looks at the tables.

Known limit: events stay where they are when a shard is added, and the rule then sends their copies elsewhere. Shards are for
the size that is expected; more replicas can come at any time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from collector.errors import ConfigError

EVENTS, LOCAL = "events", "events_local"
SHARD = (
    "cityHash64(tenant_id, if(match(external_id, '^[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{8}$'), "
    "substring(external_id, 1, 16), external_id))"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_HEAD = re.compile(
    r"(?P<kind>CREATE (?:DATABASE|TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS) (?P<name>[A-Za-z0-9_.]+)(?P<rest>.*)", re.DOTALL
)
_ENGINE = re.compile(r"ENGINE = ReplacingMergeTree\((?P<arguments>[^)]*)\)")


def clustered(statements: Sequence[str], database: str, cluster: str, version: int) -> list[str]:
    """The statements of one server for all servers of ``cluster``, in order. Each can be run again.

    Raises:
        ConfigError: ``cluster`` is no name of one.
    """
    if not _NAME.fullmatch(cluster):
        raise ConfigError(
            f"--cluster: {cluster!r} is no name of a cluster; begin with a letter, go on with letters, digits, _ . and -"
        )
    made = []
    for statement in statements:
        head = _HEAD.fullmatch(statement)
        assert head, statement
        kind, name, rest = head["kind"], head["name"], head["rest"]
        on = f"ON CLUSTER '{cluster}'"
        if name == f"{database}.{EVENTS}":
            local = f"{database}.{LOCAL}"
            made.append(f"{kind} {local} {on}{_replicated(rest, local, whole=False)}")
            made.append(f"{kind} {name} {on} AS {local}\nENGINE = Distributed('{cluster}', {database}, {LOCAL}, {SHARD})")
        else:
            made.append(f"{kind} {name} {on}{_replicated(rest, name, whole=True)}")
    made.append(
        f"INSERT INTO {database}.schema_version (version, applied)\n"
        f"SELECT {version}, now64(6, 'UTC') WHERE {version} NOT IN (SELECT version FROM {database}.schema_version)"
    )
    return made


def name_in(engine: str) -> str:
    """The cluster that a table with this ``engine_full`` is distributed over; empty: none."""
    found = re.match(r"Distributed\('((?:[^'\\]|\\.)*)'", engine)
    return found[1] if found else ""


def _replicated(rest: str, name: str, *, whole: bool) -> str:
    """``whole``: every server has all of it, so that shards do not count."""
    place = name.replace(".", "/")
    path, replica = (f"/clickhouse/tables/all/{place}", "{shard}-{replica}") if whole else (
        f"/clickhouse/tables/{{shard}}/{place}", "{replica}"
    )  # fmt: skip

    def engine(found: re.Match[str]) -> str:
        arguments = ", ".join(part for part in (f"'{path}'", f"'{replica}'", found["arguments"]) if part)
        return f"ENGINE = ReplicatedReplacingMergeTree({arguments})"

    return _ENGINE.sub(engine, rest)
