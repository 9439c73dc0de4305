"""``pulsestream-collector search``: find events, follow them, take all of them away.

- The newest ``--limit`` events are shown, the oldest of them first; ``--all`` shows every one, by an export that goes on where
  it broke off; ``--follow`` goes on with what is committed, over lost connections, each event once.
- Exit codes are those of grep: 0 something was found, 1 nothing was, 2 it did not work.
- A reader of the output that has enough (``| head``) ends it without a word. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from collector.search import fields
from collector.terminal import shown
from collector.terminal.client import BASE, Away, BrokenOff, Client, Pairs, Refused, Told

FOUND, NOTHING, TROUBLE = 0, 1, 2
DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_LIMIT = 100
PAGE = 1000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
MOST_TRIES = 8
"""To go on with an export that broke off, without a line more."""
_AGO = re.compile(r"[0-9]{1,9}[smhdw]")
_PLAIN_FILTERS = ("service", "severity")

EXAMPLES = """
examples:
  pulsestream-collector search 'timeout orders' --since 1h
  pulsestream-collector search --service auth --severity error,critical --follow
  pulsestream-collector search --filter attr.region=eu --filter status_code=5xx --output json | jq .message
  pulsestream-collector search --since 7d --all --output csv --columns timestamp,severity,message > week.csv

The collector is --url, or PULSESTREAM_URL; the key is --key-file or PULSESTREAM_API_KEY_FILE, --key or PULSESTREAM_API_KEY (a
key on a command line is seen by everybody on the machine). Times are 15m, 1h, 7d (ago), ISO 8601, or seconds since 1970.

exit codes: 0 something was found; 1 nothing was; 2 it did not work, the message says why
"""


class Usage(Exception):
    pass


_TLS_FILES = {
    "ca-file": "authorities of the collector's certificate, instead of the machine's",
    "tls-cert-file": "a certificate to show, where the collector asks for one",
    "tls-key-file": "its key, if that is in another file",
}


def add_to(commands: Any) -> None:
    search = commands.add_parser(
        "search", help="look for events, over HTTP", description="Look for events, over HTTP at any collector.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    search.add_argument("query", nargs="?", default="", metavar="QUERY", help="what `q` of the search takes")
    search.add_argument("--url", help=f"the collector; default: PULSESTREAM_URL, or {DEFAULT_URL}")
    search.add_argument("--key", help="the API key")
    search.add_argument("--key-file", metavar="FILE", help="a file with the API key")
    for name, text in _TLS_FILES.items():
        search.add_argument(f"--{name}", metavar="FILE", help=f"PEM: {text}; default: {_variable(name)}")
    search.add_argument("--since", metavar="TIME", help="events from then on")
    search.add_argument("--until", metavar="TIME", help="events up to then")
    search.add_argument("--service", metavar="NAME[,…]", help="of these services")
    search.add_argument("--severity", metavar="NAME[,…]", help="of these severities")
    search.add_argument(
        "--filter", action="append", default=[], metavar="NAME=VALUE", help="any filter of the search, such as attr.region=eu"
    )
    search.add_argument("--limit", type=int, default=DEFAULT_LIMIT, metavar="N", help="the newest N; default: %(default)s")
    search.add_argument("--all", action="store_true", help="every event, not only the newest")
    search.add_argument("--follow", "-f", action="store_true", help="go on with what is committed, until Ctrl-C")
    search.add_argument("--output", "-o", choices=shown.OUTPUTS, default=shown.TEXT, help="default: %(default)s")
    search.add_argument("--columns", metavar="NAME[,…]", help="show these, such as timestamp,severity,message,attr.region")
    search.add_argument("--no-color", action="store_true", help="no colours on a terminal either (or set NO_COLOR)")
    search.set_defaults(run=run, config=None, store=None, log_format=None, log_level=None)


def run(arguments: argparse.Namespace, config: object) -> int:
    """The exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    try:
        client, filters, show = _made(arguments)
        if arguments.all:
            return _all(client, arguments, [*filters, *_window(arguments)], show)
        if arguments.follow:
            return _follow(client, arguments, filters, show)
        return _newest(client, arguments, [*filters, *_window(arguments)], show)[0]
    except BrokenPipeError:
        # Who read it has enough; nothing is to be said when the interpreter writes out the rest, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FOUND
    except (Usage, Refused, Away, BrokenOff) as error:
        print(error, file=sys.stderr)
        return TROUBLE


def _made(arguments: argparse.Namespace) -> tuple[Client, Pairs, shown.Show]:
    """Raises Usage."""
    url = arguments.url or os.environ.get("PULSESTREAM_URL") or DEFAULT_URL
    if not re.match(r"https?://[^/?#]+", url):
        raise Usage(f"--url: {url} is no URL; write it like {DEFAULT_URL}")
    if arguments.limit < 1:
        raise Usage("--limit: expected 1 or more; --all shows every event")
    if arguments.follow and (arguments.until or arguments.all):
        raise Usage(f"--follow: goes on for ever; leave out {'--until' if arguments.until else '--all'}")
    for name in _columns(arguments):
        if name not in ("attributes", "offset") and fields.field_of(name) is None:
            raise Usage(f"--columns: there is no {name}; {fields.suggestion(name)}")
    coloured = sys.stdout.isatty() and not (
        arguments.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    show = shown.show_of(arguments.output, _columns(arguments), coloured=coloured)
    return Client(url, _key(arguments), _tls(arguments, url)), _filters(arguments), show


def _variable(name: str) -> str:
    return f"PULSESTREAM_{name.replace('-', '_').upper()}"


def _tls(arguments: argparse.Namespace, url: str) -> ssl.SSLContext | None:
    """None: as the machine has it. Raises Usage."""
    ca, cert, key = (getattr(arguments, name.replace("-", "_")) or os.environ.get(_variable(name), "") for name in _TLS_FILES)
    if not url.startswith("https:") or not (ca or cert):
        return None
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key or None, password="")
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (ca, cert, key)))
        raise Usage(f"--ca-file, --tls-cert-file, --tls-key-file: {files} cannot be used ({error})") from None
    return context


def _key(arguments: argparse.Namespace) -> str:
    file = arguments.key_file or ("" if arguments.key else os.environ.get("PULSESTREAM_API_KEY_FILE", ""))
    if file:
        try:
            return Path(file).read_text().strip()
        except (OSError, ValueError) as error:
            raise Usage(f"--key-file: {file} cannot be read: {error}") from None
    key = arguments.key or os.environ.get("PULSESTREAM_API_KEY", "")
    if not key:
        raise Usage("no API key: give --key-file, or set PULSESTREAM_API_KEY_FILE or PULSESTREAM_API_KEY")
    if not (key.isascii() and key.isprintable()):
        raise Usage("--key: this is no API key; they begin with ps_")
    return str(key)


def _filters(arguments: argparse.Namespace) -> Pairs:
    pairs = [("q", arguments.query)] if arguments.query else []
    pairs += [(name, getattr(arguments, name)) for name in _PLAIN_FILTERS if getattr(arguments, name)]
    for given in arguments.filter:
        name, equals, value = given.partition("=")
        if not equals:
            raise Usage(f"--filter: {given} has no value; write NAME=VALUE")
        pairs.append((name, value))
    return pairs


def _window(arguments: argparse.Namespace) -> Pairs:
    given = (("start_time", arguments.since), ("end_time", arguments.until))
    return [(name, f"-{text}" if _AGO.fullmatch(text) else text) for name, text in given if text]


def _columns(arguments: argparse.Namespace) -> list[str]:
    return [name.strip() for name in (arguments.columns or "").split(",") if name.strip()]


def _newest(client: Client, arguments: argparse.Namespace, pairs: Pairs, show: shown.Show) -> tuple[int, set[str]]:
    """Show the newest, oldest first. Returns the exit code, and the IDs."""
    events: list[Any] = []
    cursor: str | None = None
    while len(events) < arguments.limit:
        asked = [*pairs, ("limit", str(min(PAGE, arguments.limit - len(events)))), ("count", "none")]
        if cursor:
            asked.append(("cursor", cursor))
        page = client.json(f"{BASE}/search", asked)
        events += page["events"]
        cursor = page["next_cursor"]
        if page.get("partial"):
            print(f"not all was looked at: {page.get('partial_reason', '')}", file=sys.stderr)
            break
        if not cursor:
            break
    _print(shown.header(arguments.output, _columns(arguments)))
    _print("".join(show(event) for event in reversed(events)))
    return FOUND if events else NOTHING, {event["event_id"] for event in events}


def _all(client: Client, arguments: argparse.Namespace, pairs: Pairs, show: shown.Show) -> int:
    """Show every one, the oldest first; a connection that is lost costs nothing."""
    _print(shown.header(arguments.output, _columns(arguments)))
    last = ""

    def lines() -> Iterator[Any]:
        nonlocal last
        for line in client.lines(f"{BASE}/export", [*pairs, *([("after", last)] if last else [])]):
            event = _decoded(line)
            yield event
            last = event["event_id"]

    _kept_up(lines, lambda event: _print(show(event), flush=False))
    sys.stdout.flush()
    return FOUND if last else NOTHING


def _kept_up(stream: Callable[[], Iterator[Any]], use: Callable[[Any], None]) -> None:
    """Use all of a stream that is begun anew when it breaks off. Raises the fault of the last try."""
    tries = 0
    while True:
        try:
            for one in stream():
                use(one)
                tries = 0
            return
        except (BrokenOff, Away) as error:
            tries += 1
            if tries > MOST_TRIES or (tries == 1 and isinstance(error, Away) and not error.retry_after_s):
                raise
            time.sleep(_pause(tries, error))


def _follow(client: Client, arguments: argparse.Namespace, filters: Pairs, show: shown.Show) -> int:
    """The newest, and what comes: the tail begins before the search, so that nothing falls between them."""
    cursor, shown_ids, tries = "", set[str](), 0
    is_first = True
    while True:
        try:
            for told in client.tail([*filters, *([("cursor", cursor)] if cursor else [])]):
                if is_first:
                    shown_ids = _newest(client, arguments, [*filters, *_window(arguments)], show)[1]
                    is_first = False
                if tries > 1:
                    print("the collector is there again", file=sys.stderr)
                tries = 0
                cursor = _use(told, shown_ids, show) or told.cursor or cursor
                if told.kind == "gap":
                    break  # what was missed is had by coming back
            raise BrokenOff("the connection ended")
        except (BrokenOff, Away) as error:
            if is_first and isinstance(error, Away):
                raise
            tries += 1
            if tries == 2:
                print(f"{error}; tried again until it is there", file=sys.stderr)
            time.sleep(_pause(tries, error) if tries > 1 else 0)


def _use(told: Told, known: set[str], show: shown.Show) -> str:
    """Show an event that was not shown before. Returns a cursor to come back with, other than that of what was told. Raises
    Refused."""
    if told.kind == "message" and told.data is not None:
        if told.data["event_id"] not in known:
            _print(show(told.data))
        known.discard(told.data["event_id"])
    if told.kind == "error":
        raise Refused(told.data["error"]["message"])
    return str(told.data["cursor"]) if told.kind == "gap" else ""


def _pause(tries: int, error: Exception) -> float:
    wanted = error.retry_after_s if isinstance(error, Away) else 0.0
    return max(wanted, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (tries - 1)))


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise BrokenOff("a line broke off") from None


def _print(text: str, *, flush: bool = True) -> None:
    sys.stdout.write(text)
    if flush:
        sys.stdout.flush()
