"""Users of the engine for analysts who ask in SQL: the statements that make one for a tenant. Pure.

- A user reads the view ``search`` (each event once, within the retention), the table under it, and the losses, outcomes and
  agents of its own tenant; row policies see to that, whatever it asks. It writes nothing.
- Every query has bounds, which it cannot raise, and a user has so many a minute and so much time an hour. ``FINAL`` is on
  for all its queries, so that the table shows each event once, too; the setting that would undo it is fixed.
- Where one user has a row policy, some servers show everybody without one nothing. So everybody who is no analyst is let
  see all rows, explicitly: the collector's own user is one of them.
- Made again, a user is replaced: that is how a password is changed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from collector.errors import invalid

ROLE = "pulsestream_analyst"
PROFILE = "pulsestream_analyst"
_TABLES = ("events", "losses", "outcomes", "agents")
_VIEWS = ("search", "events_live")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CLUSTER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")


class Bounds(NamedTuple):
    """Of one query, and of all queries of a user."""

    query_s: int = 30
    query_memory_bytes: int = 2 << 30
    query_rows: int = 1_000_000_000
    """To read."""
    queries_per_minute: int = 120
    seconds_per_hour: int = 900


def name_of(slug: str) -> str:
    """The user's name if none is given."""
    return "ps_" + slug.replace("-", "_")


def statements(database: str, tenant_id: str, user: str, password_sha256: str, bounds: Bounds, cluster: str = "") -> list[str]:
    """What makes the user, in order. Each can be run again.

    Args:
        password_sha256: in hex. The password itself is in no statement, and so in no log of the engine.
        cluster: name of the engine's cluster on which all is made; empty: on the one server.

    Raises:
        Invalid: the user's or the cluster's name is none.
    """
    _checked("--user", user, _NAME)
    on = f" ON CLUSTER '{_checked('--cluster', cluster, _CLUSTER)}'" if cluster else ""
    return [
        f"CREATE ROLE IF NOT EXISTS {ROLE}{on}",
        *(f"GRANT{on} SELECT ON {database}.{name} TO {ROLE}" for name in (*_VIEWS, *_TABLES)),
        *(
            f"CREATE ROW POLICY IF NOT EXISTS pulsestream_others{on} ON {database}.{table} USING 1 TO ALL EXCEPT {ROLE}"
            for table in _TABLES
        ),
        f"CREATE SETTINGS PROFILE OR REPLACE {PROFILE}{on} SETTINGS {', '.join(_settings(bounds))}",
        f"CREATE USER OR REPLACE {user}{on} IDENTIFIED WITH sha256_hash BY '{password_sha256}' "
        f"DEFAULT ROLE {ROLE} SETTINGS PROFILE '{PROFILE}'",
        f"GRANT{on} {ROLE} TO {user}",
        f"CREATE QUOTA OR REPLACE {user}{on} KEYED BY user_name "
        f"FOR INTERVAL 1 minute MAX queries = {bounds.queries_per_minute}, "
        f"FOR INTERVAL 1 hour MAX execution_time = {bounds.seconds_per_hour} TO {user}",
        *(
            f"CREATE ROW POLICY OR REPLACE {user}{on} ON {database}.{table} USING tenant_id = {_text(tenant_id)} TO {user}"
            for table in _TABLES
        ),
    ]


def removal(database: str, user: str, cluster: str = "") -> list[str]:
    """What takes a user away. Raises as `statements`."""
    _checked("--user", user, _NAME)
    on = f" ON CLUSTER '{_checked('--cluster', cluster, _CLUSTER)}'" if cluster else ""
    return [
        f"DROP USER IF EXISTS {user}{on}",
        f"DROP QUOTA IF EXISTS {user}{on}",
        *(f"DROP ROW POLICY IF EXISTS {user}{on} ON {database}.{table}" for table in _TABLES),
    ]


def _settings(bounds: Bounds) -> list[str]:
    # 2: settings may be changed within their bounds; clients as Grafana's send some with every query.
    fixed = ("final = 1 CONST", "do_not_merge_across_partitions_select_final = 0 CONST", "readonly = 2 CONST")
    most = {
        "max_execution_time": bounds.query_s,
        "max_memory_usage": bounds.query_memory_bytes,
        "max_rows_to_read": bounds.query_rows,
    }
    pruning = ("use_skip_indexes_if_final_exact_mode = 0", "defer_partition_pruning_after_final = 0")
    return [*fixed, *pruning, *(f"{name} = {value} MIN 1 MAX {value}" for name, value in most.items())]


def _checked(option: str, name: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(name):
        raise invalid(option, "is no name for it", name, "begin with a letter, go on with letters, digits and _")
    return name


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
