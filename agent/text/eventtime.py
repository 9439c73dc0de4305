"""The time that a line carries itself, told as carefully as a collector tells it. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from agent.config import Source

_COUNT = re.compile(r"\d{10}(\.\d+)?|\d{13}|\d{16}|\d{19}", re.ASCII)


def event_time_ns(source: Source, event: bytes) -> int | None:
    """The time that an event of a JSON line carries, as far as that can be told for sure; None: it has none of its own."""
    if source.format != "json":
        return None
    try:
        members = json.loads(event)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    value = next((members[name] for name in source.fields.time if name in members), None)
    text = str(value)
    if _COUNT.fullmatch(text):
        return int(text.replace(".", "").ljust(19, "0")[:19])
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9)
