"""What the doctor says: one finding a fact, each with what to change. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]
_SHOWN = {"ok": "ok", "warning": "warning", "error": "WRONG"}


class Finding(msgspec.Struct, frozen=True):
    check: str
    """Of a small fixed set: config, secrets, tls, disk, redis, store, schema, clock, parts, keys, collector."""
    level: Level
    message: str
    mend: str = ""


def ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)


def warning(check: str, message: str, mend: str) -> Finding:
    return Finding(check, "warning", message, mend)


def error(check: str, message: str, mend: str) -> Finding:
    return Finding(check, "error", message, mend)


def as_text(findings: Iterable[Finding]) -> str:
    """A line for each, the mend behind it, and a line that sums up."""
    found = list(findings)
    lines = [
        f"{_SHOWN[one.level]:8} {one.check:10} {one.message}" + (f"\n{'':19} → {one.mend}" if one.mend else "") for one in found
    ]
    wrong, warned = (sum(one.level == level for one in found) for level in ("error", "warning"))
    return "\n".join([*lines, f"{len(found)} looked at, {wrong} wrong, {warned} warnings"])
