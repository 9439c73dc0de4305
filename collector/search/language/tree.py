"""A query, checked: tests of single fields, joined by and, or, not. Pure types.

A test is true or false of every event; one of a field that an event does not say is false, and its opposite true.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec


class Kind(enum.Enum):
    """How a field is compared."""

    TEXT = "text"
    """By its words, in any case."""
    WORD = "word"
    """As a whole, letter by letter."""
    UPPER = "upper"
    """As a whole, in any case of ASCII letters."""
    NUMBER = "number"
    MOMENT = "moment"
    LIST = "list"
    """Each entry as a whole: one that fits will do."""
    ATTRIBUTE = "attribute"
    """As a whole, or as a number where it is compared with one."""


class Field(msgspec.Struct, frozen=True):
    kind: Kind
    name: str
    """Of the column, or of the attribute."""
    choices: tuple[str, ...] = ()
    """All values it can have, where there are few."""
    ranked: bool = False
    """``choices`` rise."""
    numeric: bool = False
    """A number, or an attribute that stands for one."""


class Wild(enum.Enum):
    MANY = "*"
    ONE = "?"


Parts: TypeAlias = tuple[str | Wild, ...]
"""A text with wildcards."""
Number: TypeAlias = int | float


class Everything(msgspec.Struct, frozen=True):
    pass


class Words(msgspec.Struct, frozen=True):
    """All of these words, anywhere. Without a field: in the title or the message."""

    field: Field | None
    words: tuple[str, ...]


class Phrase(msgspec.Struct, frozen=True):
    """These words, one right after the other."""

    field: Field | None
    words: tuple[str, ...]


class Like(msgspec.Struct, frozen=True):
    field: Field | None
    parts: Parts


class Regex(msgspec.Struct, frozen=True):
    field: Field | None
    pattern: str
    at: int
    """Where it stands in the query: the engine may refuse it later."""


class Is(msgspec.Struct, frozen=True):
    """One of these values."""

    field: Field
    values: tuple[str, ...]


class Bound(msgspec.Struct, frozen=True):
    value: str | Number
    """Of a moment: µs."""
    included: bool


class Between(msgspec.Struct, frozen=True):
    field: Field
    low: Bound | None
    high: Bound | None


class Exists(msgspec.Struct, frozen=True):
    field: Field


class Not(msgspec.Struct, frozen=True):
    node: Node


class And(msgspec.Struct, frozen=True):
    nodes: tuple[Node, ...]


class Or(msgspec.Struct, frozen=True):
    nodes: tuple[Node, ...]


Leaf: TypeAlias = Everything | Words | Phrase | Like | Regex | Is | Between | Exists
Node: TypeAlias = "Leaf | Not | And | Or"
