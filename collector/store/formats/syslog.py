r"""``syslog``: RFC 5424 and RFC 3164, told apart line by line.

    <34>1 2026-10-11T22:14:15.003Z host app pid msgid [id name="value"] message
    [<34>]Oct 11 22:14:15 [host ]app[pid]: message       also with a year, or an ISO 8601 time, as rsyslog writes files

- Attributes: host, app, pid, msgid, facility, and ``id.name`` for each parameter of structured data. ``-`` is nothing.
- The severity is that of the priority, ``info`` without one.
- The message is what comes behind the header, to the byte, without a byte order mark.
- A line of another form has the ``parse_error`` ``syslog``.

Known limit: in a 3164 line without host and without ``app:`` the first word counts as the host.
"""

from __future__ import annotations

from agent.text import forms
from collector.store.formats import levels, tail, times
from collector.store.formats.cutting import literal, literals

NAME = "syslog"
_ESCAPED, _PLAIN = r'\\(["\\\]])', r"\1"
_PARAMETER = r'\[([^ \]="]+)| ([^ \]="]+)="((?:[^"\\]|\\.)*)"'
_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit",
    "alert",     "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip


def view(database: str) -> str:
    return tail.view(
        database,
        NAME,
        columns="zone_from, zone_shift",
        layers=[
            f"if(match(line, {literal(forms.SYSLOG_NEW)}), extractGroups(line, {literal(forms.RFC_5424)}), []) AS new",
            f"if(empty(new), extractGroups(line, {literal(forms.RFC_3164)}), []) AS old, empty(new) AS is_old",
            """empty(new) AND empty(old) AS wrong, length(if(is_old, arrayElement(old, 1), arrayElement(new, 1))) AS header,
if(is_old, arrayElement(old, 2), arrayElement(new, 2)) AS priority_text, arrayElement(old, 3) AS old_time,
if(is_old, arrayElement(old, 4), arrayElement(new, 3)) AS iso_time, arrayElement(new, 8) AS data,
[('host', if(is_old, arrayElement(old, 5), arrayElement(new, 4))),
 ('app', if(is_old, arrayElement(old, 6), arrayElement(new, 5))),
 ('pid', if(is_old, arrayElement(old, 7), arrayElement(new, 6))), ('msgid', arrayElement(new, 7))] AS said""",
            f"""if(old_time = '', iso_time, old_time) AS time_text, toUInt16OrZero(priority_text) AS priority,
match(old_time, {literal(forms.HAS_YEAR)}) AS has_year, if(data IN ('', '-'), [], {_found("data")}) AS parameters""",
            f"""priority_text != '' AND priority < 192 AS has_priority,
concat('-', {times.month("substring(old_time, 1, 3)")}, '-', leftPad(trimLeft(substring(old_time, 5, 2)), 2, '0'), ' ',
    substring(old_time, if(has_year, 13, 8))) AS after_year, {_pairs("parameters")} AS more_pairs""",
            *times.yearless("after_year", "0"),
            f"""multiIf(wrong, NULL, old_time = '', {times.usual("iso_time")},
    has_year, {times.moment("concat(substring(old_time, 8, 4), after_year)")}, near) AS wall,
multiIf(empty(zone_from), 1, old_time = '', {times.zoned("iso_time")}, 0) AS has_zone,
if(has_priority, arrayElement([{literals(levels.PRIORITIES)}], priority % 8 + 1), '') AS word,
arrayFilter(pair -> pair.2 NOT IN ('', '-'), arrayConcat(said,
    [('facility', if(has_priority, arrayElement([{literals(_FACILITIES)}], intDiv(priority, 8) + 1), ''))],
    more_pairs)) AS others""",
            f"{times.own('has_zone')[0]}, others.1 AS names",
        ],
        message="substring(line, header + 1)",
        parse_error="multiIf(wrong, 'syslog', isNull(own) AND time_text != '-', 'time', '')",
        more={},
    )


def _found(data: str) -> str:
    """Of structured data, in order: identifiers, and parameters with their values."""
    return f"extractAllGroupsVertical({data}, {literal(_PARAMETER)})"


def _pairs(parameters: str) -> str:
    """Parameters as pairs; the identifier before them belongs to their names."""
    value = f"replaceRegexpAll(arrayElement(parameter, 3), {literal(_ESCAPED)}, {literal(_PLAIN)})"
    return f"""arrayFilter(pair -> pair.1 != '', arrayMap((parameter, id) ->
    (if(arrayElement(parameter, 2) = '', '', concat(id, '.', arrayElement(parameter, 2))), {value}),
    {parameters}, arrayFill(id -> id != '', arrayMap(parameter -> arrayElement(parameter, 1), {parameters}))))"""
