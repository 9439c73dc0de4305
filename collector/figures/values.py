"""The values that events have in a field, for counting: expressions to group by, and what the groups' keys mean. Pure.

Values are texts as a search shows them, NULL where an event has none. An event with a list has each of the list's values,
once; so the numbers of values may add up to more than there are events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from collector.search import fields
from collector.search.fields import LIST, NUMBER, TIME, Field
from collector.search.parameters import Parameters

EVERY, VALUES, VALUE = 2, 1, 0
"""Kinds of what `spread` makes of a group: the events, their values, each value."""


def key(field: Field, params: dict[str, Any], name: str) -> str:
    """What to group by: of one column, so that the engine counts before anything is made of the values."""
    value = fields.shown(field, params, name)
    if field.kind == NUMBER or not field.column:
        return f"if({fields.said(field, params, name)}, {value}, NULL)"
    return value


def texts(field: Field, grouped: str) -> str:
    """The values behind a key, as Array(Nullable(String))."""
    if field.kind == LIST:
        return f"if(empty({grouped}), [NULL], arrayMap(item -> toNullable(toString(item)), arrayDistinct({grouped})))"
    if field.kind == NUMBER or not field.column:
        return f"[toNullable(toString({grouped}))]"
    return f"[nullIf(toString({grouped}), '')]"


def spread(values: str) -> str:
    """Of one group: an item (kind, value) for its events, one for each of their values together, and each value."""
    return (
        f"arrayConcat([({EVERY}, NULL)], arrayMap(item -> ({VALUES}, NULL), arrayFilter(item -> isNotNull(item), {values})), "
        f"arrayMap(item -> ({VALUE}, item), {values}))"
    )


def countable(given: Parameters, parameter: str, names: Sequence[str]) -> list[Field]:
    """The fields of these names that can be counted by value, each once; faults are kept in ``given``."""
    found: dict[str, Field] = {}
    for name in names:
        field = fields.field_of(name)
        if field is None:
            given.fault(parameter, "there is no such field", name, fields.suggestion(name))
        elif field.kind == TIME:
            given.fault(parameter, "is a time, and nearly every event has another", name, "count by time with the histogram")
        else:
            found.setdefault(field.name, field)
    return list(found.values())
