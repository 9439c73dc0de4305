"""The command ``explain``: one path, which source has it or why none does, and how far it has come."""

from __future__ import annotations

import argparse
import os
import stat as stats
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.files import discover
from agent.files.discover import Globs
from agent.files.expand import PACKED, UNREADABLE


def add_command(commands: Any, shared: argparse.ArgumentParser, command: Any) -> None:
    """Put ``explain`` on the command line."""
    parser = commands.add_parser("explain", parents=[shared], help="which source has a file or why none does; how far it is")
    parser.add_argument("path", type=Path, metavar="PATH")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=command)


def explain(path: str, globs: Iterable[Globs], files: Iterable[Mapping[str, Any]], *, running: bool) -> dict[str, Any]:
    """What is known of a file.

    Args:
        path: absolute.
        files: what `agent.status.status` says of each, or the kept state.
        running: an agent runs, and ``files`` is what it says.
    """
    globs = list(globs)
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    source, why = _matched(path, globs)
    known = [dict(file) for file in files if file["path"] == shown]
    answer: dict[str, Any] = {"path": shown, "source": source, "why": why, "running": running, "known_as": known}
    for file in known:
        acked = file.get("acked_offset")
        file["lag_bytes"] = file["size_bytes"] - (file["read_offset"] if acked is None else acked)
    if source and not known:
        answer["why"] += "; the agent has not read it yet" if running else "; no state is kept of it, and no agent runs"
    return answer


def _matched(path: str, globs: list[Globs]) -> tuple[str | None, str]:
    """The source that has a path, and why; or why none has."""
    try:
        stat = os.stat(path)
    except OSError as error:
        return None, f"it cannot be looked at: {error.strerror}"
    if not stats.S_ISREG(stat.st_mode):
        return None, "it is no regular file"
    if path.endswith(UNREADABLE):
        return None, f"files in {' and '.join(UNREADABLE)} cannot be read; those in {', '.join(PACKED)} can"
    reasons = []
    for one in globs:
        for pattern in one.include:
            if not any(found.path == path for found in discover.find([Globs(one.source, [pattern], ())])):
                continue
            if discover.excluded(path, one.exclude):
                reasons.append(f"source {one.source} includes it by {pattern} and excludes it by {', '.join(one.exclude)}")
                break
            if not os.access(path, os.R_OK):
                return one.source, f"it matches {pattern}, and cannot be read by this user"
            return one.source, f"it matches {pattern}"
    patterns = ", ".join(pattern for one in globs for pattern in one.include)
    return None, "; ".join(reasons) or f"no source includes it; there are {patterns}"


def lines(answer: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    said = [f"{answer['path']}: source {answer['source'] or '(none)'}: {answer['why']}"]
    if (found := answer.get("path_labels")) is not None:
        labels = ", ".join(f"{name}={value}" for name, value in found["labels"].items()) or "no labels"
        said.append(f"  by its path: {labels}" + (f"; service {found['service']}" if found["service"] else ""))
    for file in answer["known_as"]:
        acked = "unknown" if file.get("acked_offset") is None else f"{file['acked_offset']:,}"
        said.append(
            f"  content {file['file_id']}: {file['size_bytes']:,} bytes, read to {file['read_offset']:,}, "
            f"acknowledged to {acked}, {file['lag_bytes']:,} behind"
            + ("; compressed: bytes are those of its content" if file.get("compressed_bytes") is not None else "")
            + ("; a copy of another file that is known" if file.get("state") == "copy" else "")
        )
        if file.get("error"):
            said.append(f"  ! {file['error']}")
    return said
