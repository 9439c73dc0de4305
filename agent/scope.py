"""The scope: the part of every ID that keeps two machines, pods or volumes with equal logs apart.

It has to live exactly as long as the log storage does, so that a line keeps its ID for as long as it can be read. In order:
what the state recorded; ``scope`` in the configuration; what ``scope_file`` holds; ``PULSESTREAM_SCOPE`` (set it to the pod's
UID for an emptyDir, the node's name for a DaemonSet); /etc/machine-id outside containers; the host's name, with a warning,
since a new container may get another one.

``scope_file`` is for volumes whose identity nobody can name in advance, such as a claim: a start makes it, with a scope that no
other has, beside the logs and so for as long as they live. One that is lost or damaged is made again of what the state
recorded. Its folder is not made: a volume that is not there must not get a scope.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent import wire
from agent.errors import ConfigError, StateRefused

log = logging.getLogger("agent")

ENV = "PULSESTREAM_SCOPE"
MACHINE_ID = Path("/etc/machine-id")
_CONTAINER_SIGNS = (Path("/.dockerenv"), Path("/run/.containerenv"))


class Scope(NamedTuple):
    """``warning`` is empty unless a person should act."""

    value: str
    taken_from: str
    warning: str = ""


def resolve(recorded: str, configured: str, env: Mapping[str, str], kept_in: str = "") -> Scope:
    """The scope to use; an empty one where only a start can tell.

    Args:
        recorded: of the state folder, empty on a first start.
        configured: ``scope``; ``kept_in``: ``scope_file``.
    """
    kept, fault = "", ""
    try:
        kept = _kept(Path(kept_in)) if kept_in else ""
    except OSError as error:
        fault = f"scope_file: {kept_in}: {error.strerror}; the agent has to be able to read it"
    if recorded:
        warning, other = "", configured or kept
        if other and other != recorded:
            place = "in the configuration" if configured else f"in {kept_in}"
            warning = (
                f"scope is {other!r} {place}, but this state was made with {recorded!r}, which stays in "
                "force: events keep their IDs; start with an empty state_dir to change it"
            )
        return Scope(recorded, "the state folder", warning or fault)
    if configured:
        return Scope(configured, "the configuration")
    if kept_in:
        none = f"scope_file: {kept_in}: there is no scope in it yet; a start of the agent makes one"
        return Scope(kept, kept_in, fault or ("" if kept else none))
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


def told(recorded: str, configured: str, env: Mapping[str, str], kept_in: str) -> str:
    """The scope, for who has to know IDs. Raises ConfigError where only a start can tell."""
    found = resolve(recorded, configured, env, kept_in)
    if not found.value:
        raise ConfigError(found.warning)
    return found.value


def keep(path: str, recorded: str) -> None:
    """See to it that the file at ``path`` holds a scope. Raises StateRefused where there is none and none can be made."""
    file = Path(path)
    try:
        if _kept(file):
            return
        damaged = file.exists()
        _make(file, recorded or secrets.token_hex(16))
    except OSError as error:
        said = f"scope_file: {path}: {error.strerror}; name one in a folder of the logs' volume in which the agent can write"
        if not recorded:
            raise StateRefused(said) from error
        log.warning("%s; the scope stays as the state has it", said)
        return
    if damaged and not recorded:
        log.error(
            "scope_file: %s held no scope that can be read; a new one is in it, and lines may be sent again under it", path
        )


def _make(file: Path, scope: str) -> None:
    """Whole, or not at all. Of two agents that come at once the first has made it. Raises OSError."""
    new = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    with new.open("x", encoding="ascii") as out:
        out.write(f"{scope}\n")
        out.flush()
        os.fsync(out.fileno())
    try:
        if file.exists():
            os.replace(new, file)  # what was there is no scope
        else:
            _link(new, file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()


def _link(new: Path, file: Path) -> None:
    try:
        os.link(new, file)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        os.replace(new, file)


def _in_container(env: Mapping[str, str]) -> bool:
    return "KUBERNETES_SERVICE_HOST" in env or any(sign.exists() for sign in _CONTAINER_SIGNS)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _kept(path: Path) -> str:
    """The scope in a file; empty where there is none. Raises OSError for a file that is there and cannot be read."""
    try:
        text = path.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    return text if text.isprintable() and len(text) <= wire.MAX_TEXT_BYTES else ""
