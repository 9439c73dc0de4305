"""What the view of every format ends in: an event's columns, made of what the format has found in its line. As SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collector.store.formats import times
from collector.store.formats.cutting import (
    EVENTS,
    EXTERNAL_ID,
    JOINED_EVENTS,
    OF_BLOCK,
    table_of,
)

OLDER_THAN_RETENTION = "older_than_retention"
CLOCK_AHEAD = "clock_ahead"
ORIGINAL_TIMESTAMP = "original_timestamp"
"""The attribute that keeps a time which was too far ahead to be used."""

MAX_ATTRIBUTES = 1000
"""Of one line; a line with more is kept as text."""

BOUNDS = f"{times.of_us('observed_us')} AS observed, {times.of_us('oldest_us')} AS oldest, {times.of_us('newest_us')} AS newest"
BY_RUNTIME = f"""{times.usual("own_time")} AS runtime,
        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime"""


def view(
    database: str,
    name: str,
    *,
    columns: str,
    layers: Sequence[str],
    message: str,
    parse_error: str,
    more: Mapping[str, str],
) -> str:
    """The SELECT of one of `collector.store.formats.TABLES`: blocks, lines, what is found in them in layers, columns.

    Analysis of the statement is most of the cost of a small insert, and it takes apart anew every name that it meets within
    a layer: so what is long and used more than once is a layer's column, and what is short is not.

    Args:
        columns: columns of the block that its lines need.
        layers: each adds columns to those below it, beginning with ``line``, ``observed`` and ``columns``. Together they give
            ``own`` (time in UTC, or NULL), ``time_text`` (as it stood there), ``word`` (severity, empty for none), ``others``
            (pairs: the attributes) and ``names`` (of attributes that labels do not replace).
        more: further columns.
    """
    lines = f"""SELECT {OF_BLOCK}, commit_id, record, file_id, line, start, observed, oldest, newest, {columns},
    CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,
    {BY_RUNTIME}
FROM (
    WITH {EVENTS}
    SELECT {OF_BLOCK}, commit_id, record, file_id, parts, starts, own_marks, own_times, labels AS block_labels, {columns},
        {BOUNDS}
    FROM {database}.{table_of(name)}
) {JOINED_EVENTS}"""
    for layer in layers:
        lines = f"SELECT *,\n{layer.strip()}\nFROM (\n{lines}\n)"
    extracted = "".join(f",\n    {expression} AS {column}" for column, expression in more.items())
    return f"""
WITH
    ifNull(own > newest, 0) AS ahead,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT {OF_BLOCK}, commit_id, record, start AS offset, {EXTERNAL_ID} AS external_id,
    if(ahead, observed, coalesce(own, by_runtime, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, '{OLDER_THAN_RETENTION}', '') AS reason, if(ahead, '{CLOCK_AHEAD}', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    {message} AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('{ORIGINAL_TIMESTAMP}', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    {parse_error} AS parse_error{extracted}
FROM (
{lines}
)
"""
