"""How the engine takes blocks apart: one materialised view per table of incoming blocks, as SQL text.

A block travels as one row of its format's table, which keeps nothing. The table's view cuts blocks into lines, names
every event as `agent.wire.event_id` does, and passes rows on. So no line is ever touched by Python, and the embedded
and the served engine do the same work. A module per format says what it takes and makes of it; `cutting`, `tail`, `times`,
`levels` and `named` have what they share.

Promises:
- A view never throws for content: only functions that cannot (``…OrNull``, ``JSONExtract…``, ``extractGroups``, element access
  with a default) see what a caller sent. One line that threw would fail the insert of everybody in the commit. A pattern
  that a caller brings is tried by the engine before it comes near a view (`collector.writing.trials`).
- A line that does not parse is kept whole in ``message``, with ``parse_error`` saying what was wrong: the format's name,
  ``time`` (the time's text stays among the attributes), or ``fields`` (more than `MAX_ATTRIBUTES`).
- The time of an event comes from its bytes, else from its runtime, else from its record, never from the clock: a resend
  gives the same row.

A table each, because an insert analyses every view of its table, used or not. What few lines need has a table of its own
(`SHAPED`: events that transforms have made, of the first two formats; `TIMED`: times in other forms than the usual ones, and
JSON with a time zone), so that the others need not pay for it.

CPU of the engine, µs per row stored in `events`, without merges (20,000 rows an insert, one thread, least of three, on a
machine with much else to do, which doubles all figures): json 3.9, klog 6.3, syslog 7.4, logfmt 8.0, access logs 8.2. An
insert of one line costs 38 ms for json then, 49 to 79 for the others: their statements are longer. Were the steps of a view
joined, as the engine does by itself (`query_plan_merge_expressions`), it would be 43, and 84 to 116; 4.5 to 11.2 µs a row.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent import wire
from collector.store.columns import BLOCK_COLUMNS, READ_COLUMNS, SHAPED_COLUMNS
from collector.store.formats import access, json_lines, klog, logfmt, raw, regex, syslog
from collector.store.formats.cutting import SHAPED, TIMED, table_of
from collector.store.formats.tail import CLOCK_AHEAD, MAX_ATTRIBUTES, OLDER_THAN_RETENTION, ORIGINAL_TIMESTAMP

__all__ = (
    "CLOCK_AHEAD",
    "JSON",
    "MAX_ATTRIBUTES",
    "OLDER_THAN_RETENTION",
    "ORIGINAL_TIMESTAMP",
    "PARSED",
    "RAW",
    "READ",
    "SHAPED",
    "TABLES",
    "TABLE_OF",
    "TIMED",
    "columns_of",
    "table_of",
    "target_of",
    "views",
)  # fmt: skip

RAW = wire.RAW
JSON = wire.JSON
TABLE_OF = {
    wire.RAW: RAW,
    wire.JSON: JSON,
    wire.LOGFMT: logfmt.NAME,
    wire.CLF: access.NAME,
    wire.COMBINED: access.NAME,
    wire.SYSLOG: syslog.NAME,
    wire.KLOG: klog.NAME,
    wire.REGEX: regex.NAME,
}
"""Which of `TABLES` takes the lines of a format."""
TABLES = (
    RAW, JSON, RAW + SHAPED, JSON + SHAPED, JSON + TIMED, logfmt.NAME, logfmt.NAME + TIMED, access.NAME, syslog.NAME, klog.NAME,
    regex.NAME, regex.NAME + TIMED,
)  # fmt: skip
READ = frozenset(TABLES) - {RAW, JSON, RAW + SHAPED, JSON + SHAPED}
"""Tables with `READ_COLUMNS`."""
PARSED = frozenset(TABLES) - {RAW}
"""Tables whose events can be set aside by the engine: their exceptions are read back after the insert."""


def columns_of(table: str) -> Mapping[str, str]:
    """The columns of one of `TABLES`."""
    if table in READ:
        return READ_COLUMNS
    return SHAPED_COLUMNS if table.endswith(SHAPED) else BLOCK_COLUMNS


def target_of(table: str) -> str:
    """Where the view of one of `TABLES` puts its rows: plain raw lines have nothing that could set them aside."""
    return {RAW: "events", access.NAME: "ingest_requests"}.get(table, "ingest_lines")


def views(database: str) -> dict[str, str]:
    """The view of every one of `TABLES`, in order."""
    return {
        RAW: raw.view(database),
        JSON: json_lines.view(database),
        RAW + SHAPED: raw.shaped_view(database),
        JSON + SHAPED: json_lines.shaped_view(database),
        JSON + TIMED: json_lines.timed_view(database),
        logfmt.NAME: logfmt.view(database),
        logfmt.NAME + TIMED: logfmt.view(database, logfmt.NAME + TIMED),
        access.NAME: access.view(database),
        syslog.NAME: syslog.view(database),
        klog.NAME: klog.view(database),
        regex.NAME: regex.view(database),
        regex.NAME + TIMED: regex.view(database, regex.NAME + TIMED),
    }
