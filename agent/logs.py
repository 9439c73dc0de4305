"""Logging set-up of both programs: one line per fact on stderr, as text or as JSON; and faults that repeat.

Keys, tokens and the content of events are never logged. A traceback is folded into its line, so that a line stays one
fact for whoever collects them.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

_FIELDS = "fields"
REPEAT_S = 30.0
"""How often a fault that goes on is logged again."""


def fields(**values: object) -> dict[str, object]:
    """``extra`` for a log call: named values beside the message (JSON members, or ``name=value`` in text)."""
    return {_FIELDS: values}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        extra = "".join(f" {name}={_plain(value)}" for name, value in getattr(record, _FIELDS, {}).items())
        text = f"{when}Z {record.levelname} {record.name}: {record.getMessage()}{extra}{_trace(self, record)}"
        return text.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if trace := _trace(self, record):
            line["traceback"] = trace.lstrip()
        return msgspec.json.encode(line, enc_hook=str).decode()


def start(level: str, form: str) -> None:
    """Send all logging of the program to stderr. ``form`` is ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


class Fault:
    """A fault that repeats: logged when it starts, then at intervals with a count, then when it ends."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._count = 0
        self._reason = ""
        self._logged_s = 0.0

    def seen(self, reason: str, now_s: float) -> None:
        """It happened (again)."""
        self._count += 1
        if self._count == 1 or reason != self._reason or now_s - self._logged_s >= REPEAT_S:
            times = f" ({self._count} times so far)" if self._count > 1 else ""
            self._log.warning("%s fails%s: %s; it is tried again, nothing is lost", self._what, times, reason)
            self._reason, self._logged_s = reason, now_s

    def over(self) -> None:
        """It did not happen this time."""
        if self._count:
            self._log.info("%s works again after %d failures", self._what, self._count)
            self._count = 0


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return f" {formatter.formatException(record.exc_info)}" if record.exc_info else ""


def _plain(value: object) -> str:
    text = str(value)
    return text if text and " " not in text else repr(text)
