r"""``logfmt``: ``level=info msg="user \"x\" logged in" took=3ms cached``.

- A line begins with ``name=``; else its ``parse_error`` is ``logfmt``.
- Values in double quotes have JSON's escapes; a quote that is never closed belongs to the value, which ends at a blank.
- A name without ``=`` has the value ``true``. Of names that are there twice both values are kept.
- A line that is not UTF-8 is taken apart with U+FFFD for what is not; its message is then the line itself, to the byte.
"""

from __future__ import annotations

from agent.text import forms
from collector.store.formats import named
from collector.store.formats.cutting import literal

NAME = "logfmt"


def view(database: str, name: str = NAME) -> str:
    return named.view(
        database,
        name,
        layers=[
            "isValidUTF8(line) AS valid",
            f"if(valid, line, toValidUTF8(line)) AS text, match(text, {literal(forms.LOGFMT)}) AS begins",
            f"if(begins, {pairs('text')}, []) AS members",
        ],
        wrong="NOT begins",
        valid="valid",
    )


def pairs(text: str) -> str:
    """The pairs of a text, as SQL. Of two functions that find all groups, the one without a limit beyond which it throws."""
    value = "if(arrayElement(pair, 2) = '', 'true', concat(arrayElement(pair, 4), {}))"
    plain, quoted = value.format("arrayElement(pair, 3)"), value.format(unescaped("arrayElement(pair, 3)"))
    return f"""arrayMap(pair -> (arrayElement(pair, 1), if(position({text}, '\\\\') = 0, {plain}, {quoted})),
            extractAllGroupsVertical({text}, {literal(forms.LOGFMT_PAIR)}))"""


def unescaped(text: str) -> str:
    """What stands between quotes, with JSON's escapes resolved where they are right; as SQL."""
    return f"if(JSONExtractString(concat('\"', {text}, '\"')) = '', {text}, JSONExtractString(concat('\"', {text}, '\"')))"
