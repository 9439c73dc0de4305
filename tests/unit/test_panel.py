"""What `status` shows to people."""

from __future__ import annotations

from typing import Any

from agent.status import panel

ANSWER: dict[str, Any] = {
    "pid": 7, "tenant_id": "shop", "sending": "ok", "reading": "ok", "spool_bytes": 5000, "unread_bytes": 0, "lost_bytes": 0,
    "counts": {"acked_events": 1200, "read_events": 1300}, "files": [], "warnings": ["the scope is a guess"],
}  # fmt: skip


def test_a_figure_that_is_new_is_shown_by_its_name() -> None:
    shown = "\n".join(panel.lines({**ANSWER, "held_bytes": 4096}, running=True, state="/state"))
    assert "spool 5,000 bytes, unread 0 bytes, lost 0 bytes, held 4,096 bytes" in shown
    assert "! the scope is a guess" in shown


def test_one_line_says_all_that_matters() -> None:
    assert panel.line(ANSWER, 0.0) == (
        "1970-01-01T00:00:00Z pid 7, sending: ok; reading: ok; spool 5,000 bytes, unread 0 bytes, lost 0 bytes, "
        "read 1,300 events, acknowledged 1,200; ! the scope is a guess"
    )
    assert panel.line(None, 0.0) == "1970-01-01T00:00:00Z no agent runs"
