"""Logging set-up of both programs: one line per fact on stderr, as text or as JSON; and faults that repeat.

JSON lines follow OpenTelemetry's log data model: ``timestamp``, ``severity_text`` and ``severity_number``, ``body``,
``attributes``, ``resource`` (which program), ``scope`` (which part of it); ``trace_id``, ``span_id`` and ``trace_flags`` where
a line is of a request that is part of a trace.

Keys, tokens and the content of events are never logged. A traceback is folded into its line, so that a line stays one
fact for whoever collects them.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from agent.release import version

_FIELDS = "fields"
_SEVERITIES = {
    logging.DEBUG: ("DEBUG", 5),
    logging.INFO: ("INFO", 9),
    logging.WARNING: ("WARN", 13),
    logging.ERROR: ("ERROR", 17),
    logging.CRITICAL: ("FATAL", 21),
}
"""Text and number of OpenTelemetry's for each level."""
_TRACE = ("trace_id", "span_id", "trace_flags")
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
    def __init__(self, service: str) -> None:
        super().__init__()
        self._resource = {"service.name": service, "service.version": version()}

    def format(self, record: logging.LogRecord) -> str:
        attributes = dict(getattr(record, _FIELDS, {}))
        trace = {name: attributes.pop(name) for name in _TRACE if name in attributes}
        if record.exc_info and record.exc_info[1] is not None:
            attributes["exception.type"] = type(record.exc_info[1]).__qualname__
            attributes["exception.message"] = str(record.exc_info[1])
            attributes["exception.stacktrace"] = self.formatException(record.exc_info)
        text, number = _SEVERITIES.get(record.levelno, (record.levelname, 9))
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "severity_text": text,
            "severity_number": number,
            "body": record.getMessage(),
            "attributes": attributes,
            "resource": self._resource,
            "scope": record.name,
            **trace,
        }
        return msgspec.json.encode(line, enc_hook=str).decode()


def start(level: str, form: str, service: str = "pulsestream-agent") -> None:
    """Send all logging of the program to stderr. ``form`` is ``text`` or ``json``; ``service``: its name in the latter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if form == "json" else TextFormatter())
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

    def seen(self, reason: str, now_s: float, **named: object) -> None:
        """It happened (again). ``named``: beside the message, of this time; another value of them is no other fault."""
        self._count += 1
        if self._count == 1 or reason != self._reason or now_s - self._logged_s >= REPEAT_S:
            times = f" ({self._count} times so far)" if self._count > 1 else ""
            message = "%s fails%s: %s; it is tried again, nothing is lost"
            self._log.warning(message, self._what, times, reason, extra=fields(**named))
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
