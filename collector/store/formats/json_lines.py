"""``json``: lines that are JSON objects. Members become attributes; what they hold of objects and lists stays JSON text.

A line that is no object has the ``parse_error`` ``json``.

Known limits: numbers pass through a double (``1.50`` becomes ``1.5``), and members that are ``null`` are left out.
"""

from __future__ import annotations

from collector.store.formats import levels, named, times
from collector.store.formats.cutting import (
    EVENTS,
    EXTERNAL_ID,
    JOINED,
    JOINED_EVENTS,
    LINES,
    OF_BLOCK,
    SHAPED,
    TIMED,
    table_of,
)
from collector.store.formats.tail import (
    BOUNDS,
    BY_RUNTIME,
    CLOCK_AHEAD,
    MAX_ATTRIBUTES,
    OLDER_THAN_RETENTION,
    ORIGINAL_TIMESTAMP,
)

NAME = "json"
_MEMBERS = "JSONExtractKeysAndValues(line, 'String') AS members"
_WRONG = "empty(names) AND JSONType(line) != 'Object'"


def view(database: str) -> str:
    """Plain lines with the usual times in UTC.

    Few layers and few names on purpose: analysis of the statement is most of the cost of a small insert.
    """
    return _view(
        f"{database}.{table_of(NAME)}",
        cut=LINES,
        joined=JOINED,
        of_block="CAST(labels, 'Array(Tuple(String, String))') AS labels",
        of_line="labels",
        when="ifNull(own, observed)",
    )


def shaped_view(database: str) -> str:
    """The same with an event's own attributes among the labels, and its runtime's time where the JSON tells none."""
    return _view(
        f"{database}.{table_of(NAME + SHAPED)}",
        cut=EVENTS,
        joined=JOINED_EVENTS,
        of_block="own_marks, own_times, labels AS block_labels",
        of_line=f"CAST(mapUpdate(block_labels, mark), 'Array(Tuple(String, String))') AS labels,\n        {BY_RUNTIME}",
        when="coalesce(own, by_runtime, observed)",
    )


def timed_view(database: str) -> str:
    return named.view(database, NAME + TIMED, layers=[_MEMBERS], wrong=_WRONG)


def _view(table: str, *, cut: str, joined: str, of_block: str, of_line: str, when: str) -> str:
    return f"""
WITH
    arrayElement(texts, time_at) AS time_text,
    {times.usual("time_text")} AS own,
    ifNull(own > newest, 0) AS ahead,
    {levels.severity("arrayElement(texts, level_at)")} AS word,
    if(isNull(own), 0, time_at) AS time_used,
    if(word = '', 0, level_at) AS level_used,
    arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs, arrayEnumerate(pairs))
        AS others,
    if(empty(labels), others, arrayConcat(others, arrayFilter(label -> NOT has(names, label.1), labels))) AS labelled
SELECT {OF_BLOCK}, commit_id, record, start AS offset, {EXTERNAL_ID} AS external_id,
    if(ahead, observed, {when}) AS timestamp, observed AS observed_timestamp,
    if(timestamp < oldest, '{OLDER_THAN_RETENTION}', '') AS reason, if(ahead, '{CLOCK_AHEAD}', '') AS note,
    'log' AS event_type, if(word = '', 'info', word) AS severity,
    if(message_at = 0, line, arrayElement(texts, message_at)) AS message,
    CAST(if(ahead, arrayPushBack(labelled, ('{ORIGINAL_TIMESTAMP}', time_text)), labelled),
        'Map(LowCardinality(String), String)') AS attributes,
    multiIf(too_many, 'fields', {_WRONG}, 'json', time_at > 0 AND isNull(own), 'time', '') AS parse_error,
    {named.trace("arrayElement(texts, trace_at)")} AS trace_id,
    {named.span("arrayElement(texts, trace_at)", "arrayElement(texts, span_at)")} AS span_id
FROM (
    WITH
        {_MEMBERS},
        length(members) > {MAX_ATTRIBUTES} AS too_many,
        if(too_many, [], members) AS pairs,
        pairs.1 AS names
    SELECT {OF_BLOCK}, commit_id, record, file_id, {of_line}, line, start, observed, oldest, newest,
        too_many, pairs, names, pairs.2 AS texts,
        {named.FOUND}
    FROM (
        WITH {cut}
        SELECT {OF_BLOCK}, commit_id, record, file_id, parts, starts, time_fields, level_fields, message_fields,
            {of_block}, {BOUNDS}
        FROM {table}
    ) {joined}
)
"""
