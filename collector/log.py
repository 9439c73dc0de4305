"""Logging set-up: one line per fact on stderr, as text or as JSON.

Keys, tokens and the content of events are never logged. A traceback is folded into its line, so that a line stays one
fact for whoever collects them.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

ACCESS = logging.getLogger("collector.access")
_FIELDS = "fields"


def fields(**values: object) -> dict[str, object]:
    """``extra`` for a log call: named values beside the message (JSON members, or ``name=value`` in text)."""
    return {_FIELDS: values}


class Unreadable(logging.Filter):
    """For what the HTTP library says of requests it cannot read: it quotes their bytes, which may hold a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__.startswith("aiohttp."):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a request that cannot be read: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        extra = "".join(f" {name}={_plain(value)}" for name, value in getattr(record, _FIELDS, {}).items())
        text = f"{when}Z {record.levelname} {record.name}: {record.getMessage()}{extra}{_trace(self, record)}"
        return text.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
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
    logging.getLogger("aiohttp.server").addFilter(Unreadable())
    # The driver raises what matters, and what is raised is logged here; its own lines would say it again.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return f" {formatter.formatException(record.exc_info)}" if record.exc_info else ""


def _plain(value: object) -> str:
    text = str(value)
    return text if text and " " not in text else repr(text)
