"""Every metric of the agent, and what makes its health red. Pure: from what `agent.status.status` says, and a clock reading.

The text is Prometheus' exposition format 0.0.4. Labels come from small fixed sets: outcomes and reasons, never paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agent import wire
from agent.shipping.heartbeat import Lags, done

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STOPPED_S = 60.0
"""Sending may fail for this long before the agent says it is not well: collectors are restarted now and then."""


class Metric(NamedTuple):
    name: str
    kind: str
    text: str


READ_BYTES = Metric("agent_read_bytes_total", "counter", "Bytes of source files that were read into the spool.")
READ_EVENTS = Metric("agent_read_events_total", "counter", "Events that were read into the spool.")
ACKED_BYTES = Metric("agent_acked_bytes_total", "counter", "Bytes of events with a final outcome, before compression.")
EVENTS = Metric("agent_events_total", "counter", "Events with a final outcome, by outcome.")
QUARANTINED = Metric("agent_quarantined_events_total", "counter", "Events of records that were set aside, to be tried again.")
DROPPED_LETTERS = Metric("agent_dropped_dead_letters_total", "counter", "Dead letters that made room for later ones.")
LOST_BYTES = Metric("agent_lost_bytes_total", "counter", "Bytes of source files that could not be shipped, by reason.")
RECOVERED_BYTES = Metric("agent_recovered_bytes_total", "counter", "Of bytes that were told lost: those that came back.")
INVALID_LINES = Metric("agent_invalid_utf8_lines_total", "counter", "Lines that are not UTF-8; they are kept as they are.")
CUT_EVENTS = Metric("agent_truncated_events_total", "counter", "Events that were longer than max_line_bytes, and were cut.")
CUT_BYTES = Metric("agent_truncated_bytes_total", "counter", "What was cut off them.")
NUL_GAP_BYTES = Metric("agent_nul_gap_bytes_total", "counter", "NULs in source files that were passed over: no content.")
FAULTS = Metric("agent_internal_errors_total", "counter", "Faults of the agent itself; each is in its log.")
SPOOL_BYTES = Metric("agent_spool_bytes", "gauge", "What the spool takes on disk.")
UNREAD_BYTES = Metric("agent_unread_bytes", "gauge", "In the source files and not read yet.")
LAG_SECONDS = Metric("agent_lag_seconds", "gauge", "How long the oldest byte that is not acknowledged has been there.")
FILES = Metric("agent_files", "gauge", "Source files.")
FILES_UNREADABLE = Metric("agent_files_unreadable", "gauge", "Source files that cannot be read.")
FILES_IGNORED = Metric("agent_files_ignored", "gauge", "Files not opened, since nobody wrote to them for so long.")
HELD_BYTES = Metric("agent_held_bytes", "gauge", "What deleted files take on disk that are not read to their end yet.")
SENDING = Metric("agent_sending_ok", "gauge", "1 while sending works.")
BLOCKED = Metric("agent_reading_blocked", "gauge", "1 while reading waits for room in the spool.")
CONFIG_REFUSED = Metric(
    "agent_config_refused", "gauge", "1 while a changed configuration is refused, and the old one in force."
)
HEALTHY = Metric("agent_healthy", "gauge", "1 while /healthz says so.")

_COUNTS = {
    READ_BYTES: "read_bytes",
    READ_EVENTS: "read_events",
    ACKED_BYTES: "acked_bytes",
    QUARANTINED: "quarantined_events",
    DROPPED_LETTERS: "dropped_dead_letters",
    RECOVERED_BYTES: "recovered_bytes",
    INVALID_LINES: "invalid_utf8",
    CUT_EVENTS: "truncated_events",
    CUT_BYTES: "truncated_bytes",
    NUL_GAP_BYTES: "nul_gap_bytes",
    FAULTS: "internal_errors",
}
_OUTCOMES = (wire.ACCEPTED, wire.DUPLICATE, wire.EXPIRED, wire.REJECTED)
_LOST = "lost_bytes."


class Health:
    """Told at intervals how things are; says what is not well."""

    def __init__(self, *, max_lag_s: float) -> None:
        self._max_lag_s = max_lag_s
        self._lags = Lags()
        self._failing_since_s: float | None = None
        self._said: Mapping[str, Any] = {}

    def look(self, said: Mapping[str, Any], now_s: float) -> None:
        """Note what `agent.status.status.snapshot` says."""
        self._said = said
        self._lags.look(((file["path"], file["size_bytes"], done(file, said)) for file in said["files"]), now_s)
        if said["sending"] in ("ok", "starting"):
            self._failing_since_s = None
        elif self._failing_since_s is None:
            self._failing_since_s = now_s

    def lag_s(self, now_s: float) -> float:
        """Of the file furthest behind."""
        return max((self._lags.seconds(file["path"], now_s) for file in self._said.get("files", ())), default=0.0)

    def reasons(self, now_s: float) -> list[str]:
        """Why the agent is not well; empty when it is."""
        found = []
        if self._failing_since_s is not None and (since_s := now_s - self._failing_since_s) >= STOPPED_S:
            found.append(f"sending has failed for {since_s:.0f} s: {self._said['sending']}")
        if (lag_s := self.lag_s(now_s)) > self._max_lag_s:
            found.append(f"the oldest byte that is not acknowledged is {lag_s:.0f} s old, more than {self._max_lag_s:g}")
        return found


def render(said: Mapping[str, Any], *, lag_s: float, healthy: bool) -> str:
    """All metrics as text."""
    counts: Mapping[str, int] = said["counts"]
    lines: list[str] = []

    def add(metric: Metric, values: Mapping[str, float]) -> None:
        lines.append(f"# HELP {metric.name} {metric.text}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.extend(f"{metric.name}{labels} {value:g}" if isinstance(value, float) else f"{metric.name}{labels} {value}"
                     for labels, value in values.items())  # fmt: skip

    for metric, name in _COUNTS.items():
        add(metric, {"": counts.get(name, 0)})
    add(EVENTS, {f'{{outcome="{name}"}}': counts.get(f"{name}_events", 0) for name in _OUTCOMES})
    reasons = sorted({*wire.LOSS_REASONS, *(name.removeprefix(_LOST) for name in counts if name.startswith(_LOST))})
    add(LOST_BYTES, {f'{{reason="{reason}"}}': counts.get(_LOST + reason, 0) for reason in reasons})
    add(SPOOL_BYTES, {"": said["spool_bytes"]})
    add(UNREAD_BYTES, {"": said["unread_bytes"]})
    add(LAG_SECONDS, {"": float(lag_s)})
    add(FILES, {"": len(said["files"])})
    add(FILES_UNREADABLE, {"": sum(bool(file["error"]) for file in said["files"])})
    add(FILES_IGNORED, {"": said["ignored_files"]})
    add(HELD_BYTES, {"": said["held_bytes"]})
    add(SENDING, {"": int(said["sending"] in ("ok", "starting"))})
    add(BLOCKED, {"": int(said["reading"] != "ok")})
    add(CONFIG_REFUSED, {"": int(bool(said.get("config", {}).get("refused")))})
    add(HEALTHY, {"": int(healthy)})
    return "\n".join(lines) + "\n"
