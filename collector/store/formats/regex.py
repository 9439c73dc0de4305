"""``regex``: lines taken apart by a pattern of the source, see `agent.patterns`. Its groups are values with names.

- The pattern is found anywhere in a line, unless it says ``^`` and ``$``. Groups that matched nothing are left out.
- A line in which it is not found has the ``parse_error`` ``regex``.
- A line that is not UTF-8 is looked at with U+FFFD for what is not; its message is then the line itself, to the byte.

The engine takes only patterns that are constants of a statement, so all blocks of one insert have the same one, and the
view selects it from its own table, which is worked out before anything else: it never becomes part of a statement.
"""

from __future__ import annotations

from collector.store.formats import named
from collector.store.formats.cutting import pattern, table_of

NAME = "regex"


def view(database: str, name: str = NAME) -> str:
    table = f"{database}.{table_of(name)}"
    return named.view(
        database,
        name,
        columns="groups",
        layers=[
            "isValidUTF8(line) AS valid",
            f"extractGroups(if(valid, line, toValidUTF8(line)), {pattern('pattern', table)}) AS values",
            "arrayFilter(pair -> pair.1 != '' AND pair.2 != '', arrayMap((name, value) -> (name, value), groups,\n"
            "arrayResize(values, length(groups)))) AS members",
        ],
        wrong="empty(values)",
        valid="valid",
    )
