"""The commands ``verify`` and ``repair``: the files on this machine against what the store has of them.

- ``verify`` changes nothing, here or there.
- ``repair`` sends what is missing, with the same names and flagged ``replay``, straight to the collector, and waits for each
  answer. It takes no lock: a running agent and it may send the same event, the ID makes that one. Killed, it is run again.
- Files are those that the sources match, and those that a known file was renamed to; PATHs narrow them.

Exit codes: 0 all is there (``repair``: everything was sent), 1 something is missing, extra or in another form, or it could not
be asked, 2 the command line or the configuration is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent import config as configs
from agent import scope
from agent.config import Config
from agent.errors import FAILED, OK, ConfigError
from agent.files import discover
from agent.files.expand import PACKED
from agent.files.identity import FileState
from agent.files.tail import inode_at
from agent.shipping.transport import Transport
from agent.verifying import naming
from agent.verifying.asking import Asker
from agent.verifying.comparing import Comparison, Report
from agent.verifying.patience import PATIENCE_S, Patience
from agent.verifying.repair import Repairer, Sent
from agent.verifying.subjects import Job, shared
from agent.verifying.unsent import Unsent

SHOWN_IDS = 10


class Found(msgspec.Struct):
    """What ``--json`` prints."""

    clean: bool
    retention_days: int | None
    totals: dict[str, int]
    files: list[Report]
    sent: Sent | None = None


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Put ``verify`` and ``repair`` on the command line."""
    for name, text in (
        ("verify", "which lines of the files are missing in the store, and what is there besides"),
        ("repair", "send what verify finds missing, and wait for the answers"),
    ):
        parser = commands.add_parser(name, parents=[shared], help=text)
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="default: every file that the sources match")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--patience",
            type=float,
            default=PATIENCE_S,
            metavar="S",
            help="how long a collector that does not answer is asked again; default: %(default)g",
        )
        if name == "repair":
            parser.add_argument(
                "--changed",
                action="store_true",
                help="also send events that are stored in another form: their lines are there twice then",
            )
        parser.set_defaults(command=run, repairs=name == "repair", changed=False)


def run(options: argparse.Namespace) -> int:
    """Raises ConfigError, CannotAsk, StateRefused."""
    config = configs.load(options.config)
    unsent = Unsent(Path(config.state_dir))
    found_scope = scope.told(unsent.scope, config.scope, os.environ, config.scope_file)
    jobs = jobs_of(config, unsent, found_scope, [path.absolute() for path in options.paths])
    found = asyncio.run(_compared(config, unsent, jobs, found_scope, options))
    if options.json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(lines(found)))
    if found.sent is not None:
        return OK if found.sent.is_well and not any(report.error for report in found.files) else FAILED
    return OK if found.clean else FAILED


def jobs_of(config: Config, unsent: Unsent, found_scope: str, wanted: list[Path]) -> list[Job]:
    """The files to compare. Raises ConfigError for a path that no source has."""
    sources = {source.name: source for source in config.sources}
    globs = [discover.Globs(source.name, source.include, source.exclude) for source in config.sources]
    paths = {found.path: found.source for found in discover.find(globs)}
    known = {(state.path, state.source) for state in unsent.states if state.source in sources}
    states: dict[tuple[str, str], FileState | None] = {}
    for path, name in sorted(known | set(paths.items())):
        for other in (path, *discover.siblings(path, sources[name].olddirs)):
            if other in paths or (other, name) in states or not os.path.isfile(other):
                continue
            states[other, name] = _known(Path(other), name, unsent)  # of a compressed file that is dear to tell
            if states[other, name] is not None:
                paths[other] = name
    if strange := [str(path) for path in wanted if str(path) not in paths]:
        raise ConfigError(f"{', '.join(strange)}: no source has this file; `pulsestream-agent explain PATH` says why")
    chosen = [str(path) for path in wanted] or sorted(paths)
    jobs = []
    for path in chosen:
        name = paths[path]
        state = states[path, name] if (path, name) in states else _known(Path(path), name, unsent)
        if sources[name].identity == "instance" and state is not None and not _is_its_own(path, state):
            state = None
        jobs.append(Job(Path(path), sources[name], state, found_scope))
    return jobs


def _known(path: Path, source: str, unsent: Unsent) -> FileState | None:
    try:
        return naming.known_as(path, source, unsent.states)
    except OSError:
        return None  # said when the file is read, if it is


def _is_its_own(path: str, state: FileState) -> bool:
    """Whether a state of equal content is that of this very file. A compressed one is made of the file whose content it has."""
    return path.endswith(PACKED) or (inode_at(path) or (0, 0))[1] == state.inode


async def _compared(config: Config, unsent: Unsent, jobs: list[Job], found_scope: str, options: argparse.Namespace) -> Found:
    transport = Transport(config.collector, connections=2)
    async with transport.opened():
        patience = Patience(options.patience)
        asker = Asker(transport, unsent.tenant_id, patience)
        repairer = None
        if options.repairs:
            name = config.name or socket.gethostname()
            repairer = Repairer(transport, unsent.tenant_id, patience, agent=name, scope=found_scope)
        comparison = Comparison(asker, unsent, on_lacking=repairer.send if repairer else None, with_changed=options.changed)
        names = shared(jobs)
        reports = [await comparison.file(job, names[job.path]) for job in jobs]
        if repairer is not None:
            await repairer.finish()
        await _explain(comparison, jobs, reports)
    return Found(
        all(report.is_clean for report in reports),
        asker.retention_days or unsent.retention_days or None,
        _totals(reports),
        reports,
        repairer.sent if repairer else None,
    )


async def _explain(comparison: Comparison, jobs: list[Job], reports: list[Report]) -> None:
    """Files that begin alike share IDs: what one lacks the other may have."""
    for report in reports:
        for job, other in zip(jobs, reports, strict=True):
            if report.extra and other is not report and not set(report.file_ids).isdisjoint(other.file_ids):
                await comparison.explained(job, report)


_COUNTS = ("lines", "stored", "pending", "skipped", "deleted", "expired", "changed", "missing", "extra")


def _totals(reports: Iterable[Report]) -> dict[str, int]:
    return {name: sum(getattr(report, name) for report in reports) for name in _COUNTS}


def lines(found: Found) -> list[str]:
    """The same for people."""
    said = []
    for report in found.files:
        said.append(f"{report.path}: {_said({name: getattr(report, name) for name in _COUNTS})}")
        if report.error:
            said.append(f"  ! cannot be read: {report.error}")
        for word, ids, count in (
            ("missing", report.missing_ids, report.missing),
            ("extra", report.extra_ids, report.extra),
        ):
            said += [f"  {word} {event_id}" for event_id in ids[:SHOWN_IDS]]
            if count > SHOWN_IDS:
                said.append(f"  {word}: {count - SHOWN_IDS:,} more (--json names up to a thousand)")
    said.append(f"{len(found.files)} files: {_said(found.totals)}")
    if found.totals["changed"]:
        said.append(
            "changed: the store has these lines in another form (transforms were different then, a timeout had ended a "
            "multi-line event, a file without state begins like another); `repair --changed` would store them once more"
        )
    if found.sent is not None:
        sent = found.sent
        said.append(
            f"sent {sent.events:,} events in {sent.records:,} records: {sent.accepted:,} accepted, "
            f"{sent.duplicate:,} were there, {sent.expired:,} expired, {sent.rejected:,} rejected"
        )
        said += [f"  ! {reason}" for reason in sent.reasons]
    return said


def _said(counts: dict[str, int]) -> str:
    words = [f"{counts['lines']:,} lines", f"{counts['stored']:,} stored"]
    words += [f"{counts[name]:,} {name}" for name in ("pending", "skipped", "deleted", "expired", "changed") if counts[name]]
    return ", ".join((*words, f"{counts['missing']:,} missing", f"{counts['extra']:,} extra"))
