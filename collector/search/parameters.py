"""The parameters of a query string, read one by one, with every fault kept until all are known. Pure.

This is how all of the API reads them: through `Parameters`, or through `refuse` where there are none.

- A parameter that is unknown, given too often, or of a bad value is named, never passed over.
- A list may be given with commas, in several parts, or both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from collector.errors import FieldError, Invalid, sentence, shown
from collector.ingest.moments import MOMENT_FORMS, parse_moment

MAX_VALUES = 100
"""Values of one parameter in one request."""
MAX_VALUE_CHARS = 4096
MAX_FAULTS = 100
"""Told at once; a query string can hold thousands."""


class Parameters:
    """Values by name, in the order they came.

    Args:
        pairs: name and value, decoded.
        known: the names there are. One that ends in ``.`` stands for all that begin with it.
        several: those that may be given more than once.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], *, known: Sequence[str], several: Collection[str] = ()) -> None:
        self.faults: list[FieldError] = []
        self.values: dict[str, list[str]] = {}
        for name, value in pairs:
            kind = _kind(name, known)
            if not kind:
                there = f"there are: {', '.join(_written(name) for name in known)}" if known else "there are none here"
                self.fault(shown(name), "there is no such parameter", value, there)
            elif not _is_text(name) or not _is_text(value):
                self.fault(shown(name), "is not UTF-8", value, "write it as UTF-8, percent-encoded")
            elif len(value) > MAX_VALUE_CHARS:
                self.fault(shown(name), f"is longer than {MAX_VALUE_CHARS} characters", value)
            elif name in self.values and kind not in several:
                self.fault(name, "is given more than once", value, "give it once")
            else:
                self.values.setdefault(name, []).append(value)

    def fault(self, name: str, error: str, value: str | None, suggestion: str = "") -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(FieldError(name, error, None if value is None else shown(value), suggestion))

    def check(self) -> None:
        """Raises Invalid with all faults."""
        if self.faults:
            more = f" (and {len(self.faults) - 1} more, see errors)" if len(self.faults) > 1 else ""
            raise Invalid(sentence(self.faults[0]) + more, errors=tuple(self.faults))

    def get(self, name: str) -> str | None:
        return self.values[name][0] if name in self.values else None

    def text(self, name: str) -> str:
        """Empty when it is not given."""
        value = self.get(name)
        if value == "":
            self.fault(name, "is empty", "", "give a value, or leave it out")
        return value or ""

    def list_of(self, name: str) -> tuple[str, ...]:
        """Each value once, without blanks around it; empty when it is not given."""
        return self.split(name, ",".join(self.values[name])) if name in self.values else ()

    def split(self, name: str, text: str) -> tuple[str, ...]:
        items = tuple(dict.fromkeys(item for item in (part.strip() for part in text.split(",")) if item))
        if not items or len(items) > MAX_VALUES:
            self.fault(name, f"expected 1 to {MAX_VALUES} values", text, f"like {name}=one,another")
        return items[:MAX_VALUES]

    def texts_of(self, name: str) -> tuple[str, ...]:
        """As `list_of`, and each value as it was given: a text may have commas and blanks of its own."""
        if name not in self.values:
            return ()
        return tuple(dict.fromkeys((*self.list_of(name), *self.values[name])))

    def texts(self, name: str, text: str) -> tuple[str, ...]:
        """As `split`, and the text as it was given."""
        return tuple(dict.fromkeys((*self.split(name, text), text)))

    def choices(self, name: str, choices: Collection[str], what: str) -> tuple[str, ...]:
        """A list of words out of ``choices``, in any case."""
        items = tuple(item.lower() for item in self.list_of(name))
        for item in items:
            if item not in choices:
                self.fault(name, f"is not {what}", item, f"one of {', '.join(choices)}")
        return items

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of ``choices``; the first when it is not given."""
        value = self.get(name)
        if value is None:
            return choices[0]
        if value not in choices:
            self.fault(name, f"expected one of {', '.join(choices)}", value)
            return choices[0]
        return value

    def flag(self, name: str) -> bool:
        """True or false; false when it is not given."""
        return self.choice(name, ("false", "true", "0", "1")) in ("true", "1")

    def number(self, name: str, least: int, most: int, default: int, suggestion: str = "") -> int:
        value = self.get(name)
        if value is None:
            return default
        if re.fullmatch(r"[0-9]{1,9}", value) and least <= int(value) <= most:
            return int(value)
        self.fault(name, f"expected a whole number from {least} to {most}", value, suggestion)
        return default

    def moment(self, name: str, now_us: int, default: int) -> int:
        value = self.get(name)
        if value is None:
            return default
        moment = parse_moment(value, now_us)
        if moment is None:
            self.fault(name, "is not a time", value, f"expected {MOMENT_FORMS}")
            return default
        return moment

    def window(self, now_us: int, first_us: int, last_us: int) -> tuple[int, int]:
        """``start_time`` and ``end_time``; what is not given is the end of what there is."""
        start_us = self.moment("start_time", now_us, first_us)
        end_us = self.moment("end_time", now_us, last_us)
        if "start_time" in self.values and end_us < start_us:
            self.fault("end_time", "lies before start_time", self.get("end_time"), "swap the two")
        return start_us, end_us

    def with_prefix(self, prefix: str) -> Mapping[str, list[str]]:
        """Those that begin with ``prefix``, without it."""
        return {name.removeprefix(prefix): values for name, values in self.values.items() if name.startswith(prefix)}


def refuse(pairs: Iterable[tuple[str, str]]) -> None:
    """For where there are no parameters. Raises Invalid with every one that is given."""
    Parameters(pairs, known=()).check()


def _kind(name: str, known: Sequence[str]) -> str:
    """The entry of ``known`` that ``name`` is of."""
    if name in known and not name.endswith("."):
        return name
    return next((entry for entry in known if entry.endswith(".") and name.startswith(entry)), "")


def _written(name: str) -> str:
    return f"{name}NAME" if name.endswith(".") else name


def _is_text(value: str) -> bool:
    """Bytes of a URL that are no UTF-8 arrive as halves of surrogate pairs, which nothing further on can write."""
    return not any("\ud800" <= char <= "\udfff" for char in value)
