"""What `status` shows to people: the whole of it, and one line for a log of it. Pure: from what `agent.status.status` says.

A figure that this module does not know is shown by its name all the same: whoever adds one to the answer need not come here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_MAIN = ("spool_bytes", "unread_bytes", "lost_bytes")


def lines(answer: Mapping[str, Any], *, running: bool, state: str) -> list[str]:
    """Everything, a line each. ``state``: the state folder."""
    return list(_lines(answer, running, state))


def _lines(answer: Mapping[str, Any], running: bool, state: str) -> Iterator[str]:
    if running:
        yield f"agent pid {answer['pid']}, tenant {answer['tenant_id']}"
        yield f"sending: {answer['sending']}; reading: {answer['reading']}"
        if refused := _refused(answer):
            yield refused
        yield _amounts(answer)
        yield ", ".join(f"{name} {count:,}" for name, count in sorted(answer["counts"].items()))
    else:
        yield f"no agent runs on {state}; what its state says:"
        yield f"tenant {answer['tenant_id']}, scope {answer['scope']}"
        yield f"{_amounts(answer)}; {answer['unsent_events']:,} events in the spool are not acknowledged"
    for file in answer["files"]:
        trouble = f"  ! {file['error']}" if file.get("error") else ""
        yield f"  {file['read_offset']:>14,} of {file['size_bytes']:>14,}  {file['file_id']}  {file['path']}{trouble}"
    for loss in answer.get("losses", ()):
        yield f"! lost: {loss['bytes']:,} bytes of {loss['path']} ({loss['reason']}, {loss['times']} times)"
    for warning in answer["warnings"]:
        yield f"! {warning}"


def _refused(answer: Mapping[str, Any]) -> str:
    config = answer.get("config", {})
    if not config.get("refused"):
        return ""
    return f"config: refused since {_time(config['refused_ns'] / 1e9)}, the one before stays: {config['refused']}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _amounts(answer: Mapping[str, Any]) -> str:
    others = sorted(name for name in answer if name.endswith("_bytes") and name not in _MAIN and isinstance(answer[name], int))
    return ", ".join(f"{name.removesuffix('_bytes')} {answer[name]:,} bytes" for name in (*_MAIN, *others) if name in answer)


def line(answer: Mapping[str, Any] | None, now_s: float) -> str:
    """The same in one line, for a log; None: no agent runs."""
    when = _time(now_s)
    if answer is None:
        return f"{when} no agent runs"
    counts = answer["counts"]
    said = f"{when} pid {answer['pid']}, sending: {answer['sending']}; reading: {answer['reading']}; {_amounts(answer)}"
    said += f", read {counts.get('read_events', 0):,} events, acknowledged {counts.get('acked_events', 0):,}"
    for warning in (_refused(answer), *answer["warnings"]):
        said += f"; ! {warning}" if warning else ""
    return said
