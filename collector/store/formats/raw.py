"""``raw``: lines kept as they are. The whole line is the message, the time is the record's, or that of the event's runtime.

Also what becomes of lines of a format that is not known here, or with settings that cannot be used (``parse_error``
``format``, ``pattern`` or ``zone``).
"""

from __future__ import annotations

from collector.store.formats import times
from collector.store.formats.cutting import EVENTS, EXTERNAL_ID, JOINED, JOINED_EVENTS, LINES, OF_BLOCK, SHAPED, table_of
from collector.store.formats.tail import BOUNDS, CLOCK_AHEAD, OLDER_THAN_RETENTION, ORIGINAL_TIMESTAMP

NAME = "raw"


def view(database: str) -> str:
    return f"""
SELECT {OF_BLOCK}, {EXTERNAL_ID} AS external_id, observed AS timestamp, observed AS observed_timestamp,
    'log' AS event_type, 'info' AS severity, line AS message, labels AS attributes, parse_error
FROM (
    WITH {LINES}
    SELECT {OF_BLOCK}, file_id, labels, parse_error, parts, starts, {times.of_us("observed_us")} AS observed
    FROM {database}.{table_of(NAME)}
) {JOINED}
"""


def shaped_view(database: str) -> str:
    return f"""
WITH {times.usual("own_time")} AS own, ifNull(own > newest, 0) AS ahead
SELECT {OF_BLOCK}, commit_id, record, start AS offset, {EXTERNAL_ID} AS external_id,
    if(ahead, observed, ifNull(own, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, '{OLDER_THAN_RETENTION}', '') AS reason, if(ahead, '{CLOCK_AHEAD}', '') AS note,
    'log' AS event_type, 'info' AS severity, line AS message,
    mapUpdate(mapUpdate(labels, mark), CAST(if(ahead, map('{ORIGINAL_TIMESTAMP}', own_time), map()),
        'Map(LowCardinality(String), String)')) AS attributes, parse_error
FROM (
    WITH {EVENTS}
    SELECT {OF_BLOCK}, commit_id, record, file_id, labels, parse_error, parts, starts, own_marks, own_times,
        {BOUNDS}
    FROM {database}.{table_of(NAME + SHAPED)}
) {JOINED_EVENTS}
"""
