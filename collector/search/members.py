"""Parameters of a search as an object: the same names and values as in a query string, checked by the same parser. Pure.

A list is the parameter given several times, a number or a truth what it would be in a query string, null left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from collector.errors import FieldError, Invalid, sentence, shown

Members = dict[str, Any]
MAX_FAULTS = 100


def pairs_of(members: Mapping[str, Any], within: str) -> list[tuple[str, str]]:
    """Name and value, as of a query string. Raises Invalid, which names each member that is no value, ``within`` its object."""
    faults: list[FieldError] = []
    pairs: list[tuple[str, str]] = []
    for name, value in members.items():
        for one in value if isinstance(value, list) else (value,):
            text = _text(one)
            if text is not None:
                pairs.append((name, text))
            elif one is not None:
                error = "is no text, number, true or false, nor a list of these"
                faults.append(FieldError(f"{within}.{shown(name)}", error, shown(one)))
    refuse(faults)
    return pairs


def text_of(members: Mapping[str, Any], name: str) -> str:
    """The value of a parameter that is given once, if at all; of members that `pairs_of` takes."""
    return dict(pairs_of(members, "")).get(name, "")


@contextmanager
def faults_within(within: str, names: Iterable[str]) -> Iterator[None]:
    """Parameters of these names are called what they are called in the body."""
    known = frozenset(names)
    try:
        yield
    except Invalid as error:
        faults = [
            msgspec.structs.replace(fault, field=f"{within}.{fault.field}") if fault.field in known else fault
            for fault in error.errors
        ]
        refuse(faults)


def refuse(faults: Sequence[FieldError]) -> None:
    """Raises Invalid if there are any."""
    if faults:
        more = f" (and {len(faults) - 1} more, see errors)" if len(faults) > 1 else ""
        raise Invalid(sentence(faults[0]) + more, errors=tuple(faults[:MAX_FAULTS])) from None


def _text(value: Any) -> str | None:
    """None: it is nothing that a parameter can be."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return None
