"""The commands that answer questions about files, state and configuration. The agent that runs needs none of them, and does
not load them: they would stay in its memory for as long as it lives."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent import config as configs
from agent import letters, scope
from agent.config import Config
from agent.errors import FAILED, OK
from agent.files import discover
from agent.files.identity import FileState
from agent.shipping import probe
from agent.spool.spool import Spool
from agent.status import explain, forecast, overview, status
from agent.text import labels, pathlabels, shape
from agent.torture import command as torture
from agent.verifying import naming, verify

SHOWN_BYTES = 60


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add them to what the command line knows. ``shared``: the options that all of them have."""
    check = commands.add_parser("check", parents=[shared], help="check the configuration and the files it names")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.add_argument("--collector", action="store_true", help="also ask the collectors whether they take the key")
    check.set_defaults(command=_check)

    overview.add_command(commands, shared)
    explain.add_command(commands, shared, _explain)
    letters.add_command(commands, shared, lambda options: Path(configs.load(options.config).state_dir))

    verify.add_commands(commands, shared)
    torture.add_command(commands)

    ids = commands.add_parser("ids", parents=[shared], help="offset, external_id and first bytes of every line of a file")
    ids.add_argument("file", type=Path, metavar="FILE")
    ids.add_argument("--source", help="name of the source; default: the one of the configuration that matches")
    ids.add_argument("--scope", help="default: the one the agent uses here")
    ids.add_argument("--json", action="store_true", help="print one JSON object a line")
    ids.set_defaults(command=_ids)


def _check(options: argparse.Namespace) -> int:
    config = configs.load(options.config)
    state = status.kept_state(Path(config.state_dir))
    found_scope = scope.resolve(state.recovery.scope if state else "", config.scope, os.environ, config.scope_file)
    said = asyncio.run(probe.allowances(config.collector)) if options.collector else []
    month = max((one.events_per_month for one in said), default=0)
    days = max((one.retention_days for one in said), default=0)
    files, warnings, problems = _survey(config, state, retention_days=days)
    if not config.collector.api_key:
        problems.append("collector.api_key is empty: the collector will refuse everything; set api_key_file")
    problems += labels.faults(config.sources)
    asked = asyncio.run(probe.probe(config.collector, state.recovery.tenant_id if state else "")) if options.collector else []
    problems += [problem for _, problem in asked if problem]
    events = forecast.events_in(files)
    answer = {
        "config": options.config,
        "scope": found_scope.value,
        "scope_from": found_scope.taken_from,
        "warnings": [found_scope.warning, *warnings] if found_scope.warning else warnings,
        "problems": problems,
        "files": files,
        "bytes": sum(file["bytes"] for file in files),
        "ships_files": sum(bool(file["ships_bytes"]) for file in files),
        "ships_bytes": sum(file["ships_bytes"] for file in files),
        "ships_events": events,
        "quota_events_per_month": month or None,
        "quota_months": round(events / month, 2) if month else None,
    }
    if options.json:
        _print_json(answer)
        return FAILED if problems else OK
    print(f"{options.config}: no faults. Scope {found_scope.value} (from {found_scope.taken_from}).")
    for file in files:
        why = f", {file['why']}: {file['ships_bytes']:,} to ship" if file["why"] else ""
        print(f"  {file['bytes']:>14,} bytes  {file['path']}  (source {file['source']}{why})")
    print(f"{len(files)} files, {answer['bytes']:,} bytes.")
    print(f"To ship: {answer['ships_files']} files, {answer['ships_bytes']:,} bytes, about {events:,} events.")
    if month:
        print(f"The tenant may send {month:,} events a month: that is {answer['quota_months']:g} months of it.")
    for url in [url for url, problem in asked if not problem]:
        print(f"{url}: answers, and takes the key.")
    for text in (*answer["warnings"], *problems):
        print(f"! {text}")
    return FAILED if problems else OK


def _survey(config: Config, state: Spool | None, *, retention_days: int) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """The files that match, what may be as it should, and what stands in the way of reading them."""
    files = forecast.survey(config, state.recovery if state else None, time.time_ns(), retention_days=retention_days)
    warnings: list[str] = []
    problems: list[str] = []
    for path, _, _ in discover.find(_globs(config)):
        if not os.access(path, os.R_OK):
            problems.append(f"{path}: cannot be read by this user; give it read access, or exclude the file")
    warnings += _without_labels(config, files)
    matched = {file["source"] for file in files}
    for name, include, _ in _globs(config):
        if name not in matched:
            warnings.append(f"source {name}: nothing matches {', '.join(include)}; files that appear later are picked up")
    return files, warnings, problems


def _without_labels(config: Config, files: list[dict[str, Any]]) -> Iterator[str]:
    """Sources with files that none of their path_labels is found in."""
    for source in config.sources:
        paths = [file["path"] for file in files if file["source"] == source.name] if source.path_labels else []
        bare = [path for path in paths if pathlabels.of_file(source.path_labels, path, path) == pathlabels.NOTHING]
        if bare:
            yield f"source {source.name}: none of path_labels is found in {len(bare)} paths, such as {bare[0]}; they go without"


def _globs(config: Config) -> list[discover.Globs]:
    return [discover.Globs(source.name, source.include, source.exclude) for source in config.sources]


def _explain(options: argparse.Namespace) -> int:
    config = configs.load(options.config)
    try:
        said = status.ask(Path(config.state_dir))
    except (OSError, msgspec.DecodeError):
        said = None
    files = said["files"] if said else status.resting(Path(config.state_dir))["files"]
    answer = explain.explain(str(options.path.absolute()), _globs(config), files, running=said is not None)
    for source in config.sources:
        if source.name == answer["source"] and source.path_labels:
            answer["path_labels"] = pathlabels.of_file(source.path_labels, options.path.absolute(), answer["path"])._asdict()
    if options.json:
        _print_json(answer)
    else:
        print("\n".join(explain.lines(answer)))
    return OK if answer["source"] else FAILED


def _ids(options: argparse.Namespace) -> int:
    path: Path = options.file.absolute()
    found_scope, source, state, plan = _naming(options, path)
    try:
        for event in naming.events(path, scope=found_scope, source=source, state=state, plan=plan):
            shown = event.event[:SHOWN_BYTES].decode("utf-8", "replace")
            if options.json:
                _print_json({"offset": event.offset, "external_id": event.external_id, "text": shown})
            else:
                print(f"{event.offset}\t{event.external_id}\t{shown}")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"pulsestream-agent: {path}: {error.strerror}", file=sys.stderr)
        return FAILED
    return OK


def _naming(options: argparse.Namespace, path: Path) -> tuple[str, str, FileState | None, shape.Plan | None]:
    """Scope, source, known state and transforms for a file: from the options, else the configuration and the agent's state."""
    if options.scope and options.source:
        return options.scope, options.source, None, None
    config = configs.load(options.config)
    kept = status.kept_state(Path(config.state_dir))
    recorded = kept.recovery.scope if kept else ""
    matching = [found.source for found in discover.find(_globs(config)) if found.path == str(path)]
    source = options.source or (matching or [config.sources[0].name])[0]
    try:
        state = naming.known_as(path, source, kept.recovery.states.values()) if kept and not options.scope else None
    except OSError:
        state = None  # said when the file is read
    plan = next((shape.plan_of(known) for known in config.sources if known.name == source), None)
    found_scope = options.scope or scope.told(recorded, config.scope, os.environ, config.scope_file)
    return found_scope, source, state, plan


def _print_json(value: object) -> None:
    print(msgspec.json.encode(value).decode())
