"""Formats whose lines give names to their values: json, logfmt and regex. As SQL.

Time, level and message are under the names that the source says; a time or level that is understood, and the message, are
no attributes then. Trace and span are found under the names that tracers give them, and stay attributes besides.
"""

from __future__ import annotations

from collections.abc import Sequence

from collector.store.formats import levels, tail, times
from collector.store.formats.cutting import TIMED, literals, table_of

TRACES = (
    "trace_id", "traceId", "traceID", "traceid", "TraceId", "trace.id", "trace-id", "dd.trace_id", "otelTraceID", "traceparent",
)  # fmt: skip
SPANS = ("span_id", "spanId", "spanID", "spanid", "SpanId", "span.id", "span-id", "dd.span_id", "otelSpanID")
MAX_TRACE_CHARS = 128
_PARENT_CHARS = 55
"""Of W3C's ``traceparent``: version, trace, span and flags, ``00-<32>-<16>-01``."""


def _first(fields: str) -> str:
    """Where among ``names`` the first of ``fields`` stands that is there; 0: none is."""
    return f"arrayFirst(i -> i > 0, arrayMap(field -> indexOf(names, field), {fields}))"


FOUND = f"""{_first("time_fields")} AS time_at,
        {_first("level_fields")} AS level_at,
        {_first("message_fields")} AS message_at,
        arrayFirstIndex(name -> name IN ({literals(TRACES)}), names) AS trace_at,
        arrayFirstIndex(name -> name IN ({literals(SPANS)}), names) AS span_at"""
"""Where among ``names`` stands what every event has; 0: nowhere."""


def trace(text: str) -> str:
    parent = f"if(length({text}) = {_PARENT_CHARS} AND startsWith({text}, '00-'), substring({text}, 4, 32), {text})"
    return f"if(length({text}) > {MAX_TRACE_CHARS}, '', {parent})"


def span(trace: str, text: str) -> str:
    parent = f"if(length({trace}) = {_PARENT_CHARS} AND startsWith({trace}, '00-'), substring({trace}, 37, 16), '')"
    return f"multiIf(length({text}) > {MAX_TRACE_CHARS}, '', {text} = '', {parent}, {text})"


def view(
    database: str,
    name: str,
    *,
    layers: Sequence[str],
    wrong: str,
    columns: str = "",
    valid: str = "1",
) -> str:
    """As `tail.view`. Times are the usual ones, or in a table whose name ends in `TIMED` as the block says.

    Args:
        layers: give ``members``, pairs.
        wrong: when a line is not of the format at all.
        valid: a condition without which the message is the line as it is.
    """
    used = "time_fields, level_fields, message_fields" + (f", {columns}" if columns else "")
    if name.endswith(TIMED):
        used += ", time_parts, time_scale, zone_from, zone_shift"
        own = times.told(f"{database}.{table_of(name)}")
    else:
        used += ", zone_from, zone_shift"
        own = [f"{times.usual('time_text')} AS wall", f"{times.in_utc('wall', times.zoned('time_text'))} AS own"]
    error = name.removesuffix(TIMED)
    return tail.view(
        database,
        name,
        columns=used,
        layers=[
            *layers,
            f"length(members) > {tail.MAX_ATTRIBUTES} AS too_many, if(too_many, [], members) AS pairs",
            "pairs.1 AS names, pairs.2 AS texts",
            FOUND,
            f"""arrayElement(texts, time_at) AS time_text,
arrayElement(texts, trace_at) AS trace, arrayElement(texts, span_at) AS span,
{levels.severity("arrayElement(texts, level_at)")} AS word""",
            *own,
            """if(isNull(own), 0, time_at) AS time_used, if(word = '', 0, level_at) AS level_used,
arrayFilter((pair, i) -> i != time_used AND i != level_used AND i != message_at, pairs,
    arrayEnumerate(pairs)) AS others""",
        ],
        message=f"if(message_at = 0 OR NOT {valid}, line, arrayElement(texts, message_at))",
        parse_error=f"multiIf(too_many, 'fields', {wrong}, '{error}', time_at > 0 AND isNull(own), 'time', '')",
        more={
            "trace_id": trace("trace"),
            "span_id": span("trace", "span"),
        },
    )
