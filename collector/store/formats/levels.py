"""The words and numbers with which loggers say how bad it is, and the five severities.

Words are compared in lower case: Python, log4j, zap, winston, syslog, nginx, Java, PostgreSQL and .NET's console have
theirs here, and glog and logcat their letters. Numbers are those of bunyan and pino; go-logr's V levels are 0 (info) or
come as negative numbers from zap (debug). Other words, and other small numbers, which mean one thing in GELF and another
elsewhere, give ``info`` and stay an attribute.

Access logs: by the status, 500 and more are errors, 400 and more warnings. Syslog: by the priority modulo 8.
"""

from __future__ import annotations

from collector.store.formats.cutting import literals

SEVERITIES = {
    "debug": (
        "trace", "debug", "verbose", "silly", "fine", "finer", "finest", "trce", "dbug", "dbg", "debug1", "debug2", "debug3",
        "debug4", "debug5", "d", "t", "v", "10", "20", "-1", "-2", "-3", "-4", "-5", "-6", "-7", "-8", "-9", "-10",
        "level(-2)", "level(-3)", "level(-4)", "level(-5)", "level(-6)", "level(-7)", "level(-8)", "level(-9)", "level(-10)",
    ),
    "info": ("info", "information", "informational", "notice", "log", "config", "http", "inf", "i", "n", "30", "0"),
    "warning": ("warn", "warning", "wrn", "w", "40"),
    "error": ("err", "error", "severe", "fail", "failure", "eror", "e", "50"),
    "critical": ("fatal", "panic", "dpanic", "crit", "critical", "alert", "emerg", "emergency", "ftl", "f", "c", "60"),
}  # fmt: skip
PRIORITIES = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
"""Of syslog, from emergency (0) to debug (7)."""


def severity(text: str) -> str:
    """The severity of a word, as SQL; empty for a word that is not known."""
    words = [(word, severity) for severity, words in SEVERITIES.items() for word in words]
    return f"transform(lower({text}), [{literals([w for w, _ in words])}], [{literals([s for _, s in words])}], '')"
