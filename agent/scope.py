"""The scope: the part of every ID that keeps two machines, pods or volumes with equal logs apart.

It has to live exactly as long as the log storage does, so that a line keeps its ID for as long as it can be read. In order:
what the state recorded; ``scope`` in the configuration; ``PULSESTREAM_SCOPE`` (set it to the pod's UID for an emptyDir, the
claim's UID for a volume, the node's name for a DaemonSet); /etc/machine-id outside containers; the host's name, with a
warning, since a new container may get another one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ENV = "PULSESTREAM_SCOPE"
MACHINE_ID = Path("/etc/machine-id")
_CONTAINER_SIGNS = (Path("/.dockerenv"), Path("/run/.containerenv"))


class Scope(NamedTuple):
    """``warning`` is empty unless a person should act."""

    value: str
    taken_from: str
    warning: str = ""


def resolve(recorded: str, configured: str, env: Mapping[str, str]) -> Scope:
    """The scope to use. ``recorded``: of the state folder, empty on a first start."""
    if recorded:
        warning = ""
        if configured and configured != recorded:
            warning = (
                f"scope is {configured!r} in the configuration, but this state was made with {recorded!r}, which stays in "
                "force: events keep their IDs; start with an empty state_dir to change it"
            )
        return Scope(recorded, "the state folder", warning)
    if configured:
        return Scope(configured, "the configuration")
    if env.get(ENV):
        return Scope(env[ENV], ENV)
    machine_id = "" if _in_container(env) else _read(MACHINE_ID)
    if machine_id:
        return Scope(machine_id, str(MACHINE_ID))
    return Scope(
        socket.gethostname(),
        "the host's name",
        f"the scope is the host's name, which a new container may not keep: set {ENV} or `scope` to something that lives as "
        "long as the log storage, or a restart may send lines twice",
    )


def _in_container(env: Mapping[str, str]) -> bool:
    return "KUBERNETES_SERVICE_HOST" in env or any(sign.exists() for sign in _CONTAINER_SIGNS)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
