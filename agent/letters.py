"""The commands for dead letters: list, show, replay, drop. They work beside a running agent, and without one.

- Replay puts an event, with its ID, into the quarantine, due at once: a running agent sends it within seconds, a stopped one
  at its next start. A letter leaves the file after that; in between it is in both places, which its ID makes harmless.
- What the collector refuses again is a dead letter again.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent import wire
from agent.codec import compress_aside
from agent.shipping import deadletter
from agent.shipping.deadletter import Quarantine
from agent.spool.disk import Disk
from agent.spool.segment import Position
from agent.spool.spool import Entry

SHOWN_BYTES = 60
Letter = dict[str, Any]


def add_command(commands: Any, shared: argparse.ArgumentParser, state_of: Callable[[argparse.Namespace], Path]) -> None:
    """Put ``dead-letters`` on the command line."""
    parser = commands.add_parser("dead-letters", help="events that the collector refused: list, show, replay, drop")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, act, text in (
        ("list", _list, "one line for each"),
        ("show", _show, "all of some of them, with their bytes"),
        ("replay", _replay, "send them again, with the same IDs"),
        ("drop", _drop, "delete them for good"),
    ):
        action = actions.add_parser(name, parents=[shared], help=text)
        if name != "list":
            action.add_argument("ids", nargs="*", metavar="EVENT_ID")
            action.add_argument("--all", action="store_true", help="all of them")
        if name in ("list", "show"):
            action.add_argument("--json", action="store_true", help="print one JSON object a line")
        action.set_defaults(command=_command(act, state_of))


def _command(
    act: Callable[[argparse.Namespace, Path], int], state_of: Callable[[argparse.Namespace], Path]
) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        state = state_of(options)
        try:
            return act(options, state)
        except BrokenPipeError:
            raise
        except OSError as error:
            print(f"pulsestream-agent: {error.filename or state}: {error.strerror}", file=sys.stderr)
            return 1

    return run


def _list(options: argparse.Namespace, state: Path) -> int:
    for letter in deadletter.read(state):
        if options.json:
            _print_json(letter)
        else:
            shown = _event(letter)[:SHOWN_BYTES].decode("utf-8", "replace")
            print(f"{letter.get('time')}\t{letter['event_id']}\t{letter.get('reason')}\t{letter.get('path')}\t{shown}")
    return 0


def _show(options: argparse.Namespace, state: Path) -> int:
    chosen, code = _chosen(options, state)
    for letter in chosen:
        if options.json:
            _print_json(letter)
            continue
        for name, value in letter.items():
            if name != "data_base64":
                print(f"{name}: {value}")
        print(_event(letter).decode("utf-8", "backslashreplace"), end="\n\n")
    return code


def _replay(options: argparse.Namespace, state: Path) -> int:
    quarantine = Quarantine(state)
    with deadletter.locked(state):
        chosen, code = _chosen(options, state)
        gone = set()
        for letter in chosen:
            try:
                entry = _entry(letter)
            except (ValueError, msgspec.ValidationError) as error:
                print(f"{letter['event_id']}: cannot be replayed: {error}", file=sys.stderr)
                code = 1
                continue
            if not quarantine.add(entry):
                print("the quarantine is full: replay the rest when it has been sent", file=sys.stderr)
                code = 1
                break
            quarantine.due_now(entry)
            gone.add(letter["event_id"])
        _without(state, gone)
    print(f"{len(gone)} events will be sent again, by the running agent within seconds or by the next one that starts")
    return code


def _drop(options: argparse.Namespace, state: Path) -> int:
    with deadletter.locked(state):
        chosen, code = _chosen(options, state)
        gone = {letter["event_id"] for letter in chosen}
        _without(state, gone)
    print(f"{len(gone)} dead letters deleted")
    return code


def _chosen(options: argparse.Namespace, state: Path) -> tuple[list[Letter], int]:
    """Those that are meant, the last of each ID; the exit code says whether there are all that were named."""
    letters = {letter["event_id"]: letter for letter in deadletter.read(state)}
    if options.all:
        return list(letters.values()), 0
    if not options.ids:
        print("name events by their ID (see `dead-letters list`), or say --all", file=sys.stderr)
        return [], 2
    missing = [event_id for event_id in options.ids if event_id not in letters]
    for event_id in missing:
        print(f"{event_id}: there is no dead letter of this event", file=sys.stderr)
    return [letters[event_id] for event_id in options.ids if event_id in letters], 1 if missing else 0


def _event(letter: Letter) -> bytes:
    try:
        return base64.b64decode(letter["data_base64"])
    except (ValueError, TypeError):
        return b""


def _entry(letter: Letter) -> Entry:
    """The record with which an event is sent again. Raises ValueError, msgspec.ValidationError."""
    event = base64.b64decode(letter["data_base64"], validate=True)
    if not wire.EVENT_ID.fullmatch(letter["event_id"]):
        raise ValueError("its ID is not that of a file's event")
    file_id, offset, _ = letter["event_id"].split("-")
    start = int(offset, 16)
    if wire.event_id(file_id, start, event) != letter["event_id"]:
        raise ValueError("its bytes are not those of its ID")
    if b"\n" in event:
        raise ValueError("it has several lines")
    raw = event + b"\n"
    kept = {
        name: letter[name] for name in ("source", "path", "service", "format", "labels", "agent", "scope") if name in letter
    }
    header = wire.Header(
        wire.DATA,
        f"replay-{letter['event_id']}",
        file_id=file_id,
        base_offset=start,
        source_from=start,
        source_to=start + len(raw),
        raw_bytes=len(raw),
        events=1,
        observed_ns=int(letter.get("observed_ns", 0)),
        fields=msgspec.convert(letter["fields"], wire.Fields) if "fields" in letter else wire.Fields(),
        **kept,
    )
    return Entry(Position(0, 0), header, wire.encode_record(header, compress_aside(raw)))


def _without(state: Path, gone: set[str]) -> None:
    """Write the files anew without some letters. The lock is held."""
    disk = Disk()
    for name in (deadletter.OLD_DEAD_LETTERS, deadletter.DEAD_LETTERS):
        path = state / name
        if not gone or not path.exists():
            continue
        partial = path.with_suffix(".part")
        disk.remove(partial)
        fd = disk.create(partial)
        try:
            left = [letter for letter in deadletter.read_one(path) if letter["event_id"] not in gone]
            disk.write(fd, b"".join(msgspec.json.encode(letter) + b"\n" for letter in left), 0)
            disk.sync(fd)
        finally:
            disk.close(fd)
        os.replace(partial, path)
        disk.sync_folder(state)


def _print_json(letter: Letter) -> None:
    print(msgspec.json.encode(letter).decode())
