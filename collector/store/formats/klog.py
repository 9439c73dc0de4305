r"""``klog``: logs of Kubernetes' components, and of glog.

    I1125 00:15:15.525108       1 controller_utils.go:116] "Pod status updated" pod="kube-system/dns" status="ready"

- The letter (I, W, E, F) is the severity. Attributes: thread and caller.
- The message is what comes behind the header. Structured logs give theirs in quotes: it is the message then, and the pairs
  behind it, read as in logfmt, are attributes.
- The time has no year, and is in the zone of the source, UTC without one.
- A line of another form (a trace, for instance, unless `multiline` joins it) has the ``parse_error`` ``klog``.
"""

from __future__ import annotations

from agent.text import forms
from collector.store.formats import levels, tail, times
from collector.store.formats.cutting import literal
from collector.store.formats.logfmt import pairs, unescaped

NAME = "klog"
_QUOTED = r'^("((?:[^"\\]|\\.)*)")(?: [^\s="]+=|$)'


def view(database: str) -> str:
    return tail.view(
        database,
        NAME,
        columns="zone_from, zone_shift",
        layers=[
            f"extractGroups(line, {literal(forms.KLOG)}) AS groups",
            "substring(line, length(arrayElement(groups, 1)) + 1) AS text",
            f"""if(empty(groups) OR NOT startsWith(text, '"'), [], extractGroups(text, {literal(_QUOTED)})) AS quoted""",
            "substring(text, length(arrayElement(quoted, 1)) + 1) AS behind",
            f"""if(empty(quoted), [], {pairs("behind")}) AS members, {levels.severity("arrayElement(groups, 2)")} AS word,
if(empty(groups), '', concat(arrayElement(groups, 3), arrayElement(groups, 4), ' ', arrayElement(groups, 5))) AS time_text,
concat('-', arrayElement(groups, 3), '-', arrayElement(groups, 4), ' ', arrayElement(groups, 5)) AS after_year""",
            *times.yearless("after_year", "0"),
            "if(empty(groups), NULL, near) AS wall",
            *times.own("0"),
            """arrayConcat(arrayFilter(pair -> pair.2 != '',
    [('thread', arrayElement(groups, 6)), ('caller', arrayElement(groups, 7))]), members) AS others, others.1 AS names""",
        ],
        message=f"if(empty(quoted), text, {unescaped('arrayElement(quoted, 2)')})",
        parse_error="multiIf(empty(groups), 'klog', isNull(own), 'time', '')",
        more={},
    )
