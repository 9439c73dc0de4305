"""How the engine takes blocks apart: one materialised view per format, as SQL text.

A block travels as one row of its format's table, which keeps nothing. The table's view cuts blocks into lines, names
every event as `agent.wire.event_id` does, and passes rows on. So no line is ever touched by Python, and the embedded
and the served engine do the same work.

Promises:
- A view never throws for content: only functions that cannot (``…OrNull``, ``JSONExtract…``, element access with a
  default) see what a caller sent. One line that threw would fail the insert of everybody in the commit.
- A line that does not parse is kept whole in ``message``, with ``parse_error`` saying what was wrong: ``json`` (not an
  object), ``time`` (the time's text stays among the attributes), ``fields`` (more than `MAX_ATTRIBUTES`).
- The time of an event comes from its bytes, else from its record, never from the clock: a resend gives the same row.

Times: ISO 8601 (date, or date and time; ``T`` or a space; ``.`` or ``,`` before the fraction; no offset means UTC), and
counts since 1970 of 10 digits (seconds, with a fraction or not), 13 (ms), 16 (us) or 19 (ns), as number or text.
Anything else is no time: engines guess, and would make this year's 10 January out of "10".

Known limits: numbers pass through a double (``1.50`` becomes ``1.5``), and members that are ``null`` are left out.
"""

from __future__ import annotations

RAW = "raw"
JSON = "json"
FORMATS = frozenset((RAW, JSON))
SHAPED = "_shaped"
"""Ends the name of a format's second table, for events that transforms have made."""
TABLES = (RAW, JSON, RAW + SHAPED, JSON + SHAPED)
PARSED = frozenset(TABLES) - {RAW}
"""Tables whose events can be set aside by the engine: their exceptions are read back after the insert."""

OLDER_THAN_RETENTION = "older_than_retention"
CLOCK_AHEAD = "clock_ahead"
ORIGINAL_TIMESTAMP = "original_timestamp"
"""The attribute that keeps a time which was too far ahead to be used."""

MAX_ATTRIBUTES = 1000
"""Members of one JSON object; an object with more is kept as text."""

_TIME = r"^(\\d{4}[-/]\\d\\d[-/]\\d\\d([T ]\\d\\d:\\d\\d.*)?|\\d{10}(\\.\\d+)?|\\d{13}|\\d{16}|\\d{19})$"

_SEVERITIES = {
    "debug": ("trace", "debug", "verbose", "fine", "10", "20"),
    "info": ("info", "information", "informational", "notice", "log", "30"),
    "warning": ("warn", "warning", "40"),
    "error": ("err", "error", "severe", "50"),
    "critical": ("fatal", "panic", "crit", "critical", "alert", "emerg", "emergency", "60"),
}
"""Words (compared in lower case) and the numbers of bunyan and pino. Other words give ``info`` and stay an attribute."""

# The names of all rows of a block, before it is cut. Python has counted the lines and bounded the times.
_LINES = r"""
    splitByChar('\n', data) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts
"""

_EXTERNAL_ID = """
    lower(concat(file_id,
                 '-', substring(hex(reinterpretAsFixedString(byteSwap(start))), 5),
                 '-', hex(reinterpretAsFixedString(byteSwap(CRC32(line))))))
"""
"""Written through the bytes, because hex() of an integer drops leading zero bytes."""

_OF_BLOCK = ("tenant_id", "service", "source", "path", "agent", "retention_days", "version")
"""Columns that all events of a block share, handed on unchanged."""


# The same for events that transforms have made: lines are put together again, and each event's own time and attributes
# go before those of the record. Nothing here looks at a block from inside a lambda: that would copy it for every event.
_EVENTS = r"""
    splitByChar('\n', data) AS pieces,
    if(empty(firsts), pieces, arrayMap(group -> arrayStringConcat(group, '\n'),
        arraySplit((piece, first) -> first, pieces, arrayResize(firsts, length(pieces), 1)))) AS parts,
    arrayMap(part -> length(part) + 1, parts) AS sizes,
    if(empty(offsets),
       arrayMap((end, size) -> toUInt64(base_offset + end - size), arrayCumSum(sizes), sizes),
       arrayMap(distance -> toUInt64(base_offset + distance), offsets)) AS starts,
    arrayResize(marks, length(parts)) AS own_marks,
    arrayResize(times, length(parts)) AS own_times
"""


def table_of(name: str) -> str:
    """Where blocks go in, by one of `TABLES`. A table each: an insert analyses every view of its table, used or not."""
    return f"ingest_{name}"


def raw_view(database: str) -> str:
    """Lines kept as they are: the whole line is the message, the time is the record's."""
    of_block = ", ".join(_OF_BLOCK)
    return f"""
SELECT {of_block}, {_EXTERNAL_ID} AS external_id, observed AS timestamp, observed AS observed_timestamp,
    'log' AS event_type, 'info' AS severity, line AS message, labels AS attributes, parse_error
FROM (
    WITH {_LINES}
    SELECT {of_block}, file_id, labels, parse_error, parts, starts, {_time("observed_us")} AS observed
    FROM {database}.{table_of(RAW)}
) ARRAY JOIN parts AS line, starts AS start
"""


def json_view(database: str) -> str:
    """Lines that are JSON objects: time, level and message by the record's field names, the rest as attributes.

    Few layers and few names on purpose: analysis of the statement is most of the cost of a small insert.
    """
    of_block = ", ".join(_OF_BLOCK)
    return f"""
WITH
    arrayElement(texts, time_at) AS time_text,
    if(match(time_text, '{_TIME}'),
       parseDateTime64BestEffortOrNull(replaceOne(time_text, ',', '.'), 6, 'UTC'), NULL) AS own,
    ifNull(own > newest, 0) AS ahead,
    {_severity("arrayElement(texts, level_at)")} AS word,
    if(isNull(own), 0, time_at) AS time_used,
    if(word = '', 0, level_at) AS level_used,
    arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs, arrayEnumerate(pairs))
        AS others,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT {of_block}, commit_id, record, start AS offset, {_EXTERNAL_ID} AS external_id,
    if(ahead, observed, ifNull(own, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, '{OLDER_THAN_RETENTION}', '') AS reason, if(ahead, '{CLOCK_AHEAD}', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('{ORIGINAL_TIMESTAMP}', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields',
            empty(names) AND JSONType(line) != 'Object', 'json',
            time_at > 0 AND isNull(own), 'time', '') AS parse_error
FROM (
    WITH
        JSONExtractKeysAndValues(line, 'String') AS members,
        length(members) > {MAX_ATTRIBUTES} AS too_many,
        if(too_many, [], members) AS pairs,
        pairs.1 AS names
    SELECT {of_block}, commit_id, record, file_id, labels, line, start, observed, oldest, newest,
        too_many, pairs, names, pairs.2 AS texts,
        {_first("time_fields")} AS time_at,
        {_first("level_fields")} AS level_at,
        {_first("message_fields")} AS message_at
    FROM (
        WITH {_LINES}
        SELECT {of_block}, commit_id, record, file_id, parts, starts, time_fields, level_fields, message_fields,
            CAST(labels, 'Array(Tuple(String, String))') AS labels, {_time("observed_us")} AS observed,
            {_time("oldest_us")} AS oldest, {_time("newest_us")} AS newest
        FROM {database}.{table_of(JSON)}
    ) ARRAY JOIN parts AS line, starts AS start
)
"""


def raw_shaped_view(database: str) -> str:
    """Events as they are, at the time their runtime gave them, else the record's."""
    of_block = ", ".join(_OF_BLOCK)
    return f"""
WITH {_own_time("own_time")} AS own, ifNull(own > newest, 0) AS ahead
SELECT {of_block}, commit_id, record, start AS offset, {_EXTERNAL_ID} AS external_id,
    if(ahead, observed, ifNull(own, observed)) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, '{OLDER_THAN_RETENTION}', '') AS reason, if(ahead, '{CLOCK_AHEAD}', '') AS note,
    'log' AS event_type, 'info' AS severity, line AS message,
    mapUpdate(mapUpdate(labels, mark), CAST(if(ahead, map('{ORIGINAL_TIMESTAMP}', own_time), map()),
        'Map(LowCardinality(String), String)')) AS attributes, parse_error
FROM (
    WITH {_EVENTS}
    SELECT {of_block}, commit_id, record, file_id, labels, parse_error, parts, starts, own_marks, own_times,
        {_time("observed_us")} AS observed, {_time("oldest_us")} AS oldest, {_time("newest_us")} AS newest
    FROM {database}.{table_of(RAW + SHAPED)}
) ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time
"""


def json_shaped_view(database: str) -> str:
    """`json_view` with an event's own attributes among the labels, and its runtime's time where the JSON tells none."""
    text = json_view(database)
    changes = (
        (f"WITH {_LINES}", f"WITH {_EVENTS}"),
        ("file_id, parts, starts,", "file_id, parts, starts, own_marks, own_times,"),
        ("CAST(labels, 'Array(Tuple(String, String))') AS labels", "labels AS block_labels"),
        (f"{database}.{table_of(JSON)}\n", f"{database}.{table_of(JSON + SHAPED)}\n"),
        (
            "ARRAY JOIN parts AS line, starts AS start",
            "ARRAY JOIN parts AS line, starts AS start, own_marks AS mark, own_times AS own_time",
        ),
        (
            "file_id, labels, line, start, observed,",
            "file_id, CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels, line, start,\n"
            f"        {_own_time('own_time')} AS runtime,\n"
            "        if(ifNull(runtime > newest, 0), NULL, runtime) AS by_runtime, observed,",
        ),
        ("too_many, pairs, names, pairs.2 AS texts", "by_runtime, too_many, pairs, names, pairs.2 AS texts"),
        ("ifNull(own, observed)) AS timestamp", "coalesce(own, by_runtime, observed)) AS timestamp"),
    )
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def _own_time(text: str) -> str:
    return f"if(match({text}, '{_TIME}'), parseDateTime64BestEffortOrNull(replaceOne({text}, ',', '.'), 6, 'UTC'), NULL)"


def _time(column: str) -> str:
    return f"fromUnixTimestamp64Micro({column}, 'UTC')"


def _first(fields: str) -> str:
    """Where among ``names`` the first of ``fields`` stands that is there; 0: none is."""
    return f"arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), {fields}))"


def _severity(text: str) -> str:
    words = [(word, severity) for severity, words in _SEVERITIES.items() for word in words]
    keys = ", ".join(f"'{word}'" for word, _ in words)
    values = ", ".join(f"'{severity}'" for _, severity in words)
    return f"transform(lower({text}), [{keys}], [{values}], '')"
