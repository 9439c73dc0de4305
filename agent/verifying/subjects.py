"""Which files are compared with the store, under which names, and what of these names is not a file's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from agent.config import Source
from agent.files.identity import FileState
from agent.text import shape
from agent.verifying import naming
from agent.verifying.naming import NamedFile


class Job(NamedTuple):
    """A file, and what is known of it."""

    path: Path
    source: Source
    state: FileState | None
    scope: str


def opened(job: Job) -> AbstractContextManager[NamedFile | None]:
    """The file of a job, with the names and transforms that the agent has for it. Raises OSError."""
    plan = shape.plan_of(job.source)
    return naming.opened(job.path, scope=job.scope, source=job.source.name, state=job.state, plan=plan)


class Shared(NamedTuple):
    """What of the names of a file's events is not its own."""

    owned: frozenset[str]
    """The ``file_id``s of which this file says what is extra. Files that begin alike share one: a copy, or one that is being
    compressed; what is stored of it and not in any of them is said of the longest one."""
    unsure: frozenset[str]
    """Those under which it may have been shipped by another name: its first line is that of another file, too, and no state
    tells them apart; or each inode is a file of its own (``identity: instance``), and no state knows this one."""


def shared(jobs: Sequence[Job]) -> dict[Path, Shared]:
    """By path."""
    having: dict[str, list[Job]] = {}
    heads: dict[Path, tuple[str, str]] = {}
    for job in jobs:
        with suppress(OSError), opened(job) as file:
            if file is not None:
                heads[job.path] = (file.head_id, file.body_id)
                for file_id in (file.head_id, file.body_id):
                    having.setdefault(file_id, []).append(job)
    owners = {file_id: max(some, key=_size).path if len(some) > 1 else some[0].path for file_id, some in having.items()}
    found = {}
    for job in jobs:
        head, body = heads.get(job.path, ("", ""))
        unsure = {head} if job.state is None and len(having.get(head, ())) > 1 else set()
        if job.state is None and job.source.identity == "instance":
            unsure = {head, body}
        owned = (file_id for file_id, path in owners.items() if path == job.path)
        found[job.path] = Shared(frozenset(owned), frozenset(unsure))
    return found


def _size(job: Job) -> int:
    with suppress(OSError), opened(job) as file:
        return file.size if file is not None else 0
    return 0
