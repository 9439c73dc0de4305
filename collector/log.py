"""Logging of the collector: `agent.logs`, and what the libraries under it must not say.

Keys, tokens and the content of events are never logged.
"""

from __future__ import annotations

import logging

from agent import logs
from agent.logs import fields

__all__ = ["ACCESS", "fields", "start"]

ACCESS = logging.getLogger("collector.access")


class Unreadable(logging.Filter):
    """For what the HTTP library says of requests it cannot read: it quotes their bytes, which may hold a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__.startswith("aiohttp."):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a request that cannot be read: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


class Numbered(logging.Filter):
    """Says on every line which worker it is of."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        vars(record).update(fields(**{**getattr(record, "fields", {}), "worker": self._worker}))
        return True


def start(level: str, form: str, *, worker: int | None = None) -> None:
    """Send all logging of the program to stderr. ``form`` is ``text`` or ``json``; ``worker``: one of several processes."""
    logs.start(level, form, "pulsestream-collector")
    # What no line shows need not be found out: for each line of each request it took a third of the time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if worker is not None:
        for handler in logging.getLogger().handlers:
            handler.addFilter(Numbered(worker))
    logging.getLogger("aiohttp.server").addFilter(Unreadable())
    # The driver raises what matters, and what is raised is logged here; its own lines would say it again.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
