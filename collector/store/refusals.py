"""What an engine's refusal of an insert means: whether it can lie in the content, and how it is told. Pure."""

from __future__ import annotations

NOT_CONTENT = frozenset(
    {
        10, 16, 20, 36, 44, 46, 47, 48, 60, 62, 80, 81, 115,  # the schema is not ours, or the engine too old
        164, 192, 193, 194, 195, 291, 452, 497, 516,  # rights
    }
)  # fmt: skip
"""Codes that no content can cause: an operator has to act, nothing is rejected."""
MAX_INSERT_EVENTS = 100_000
STORE_ERROR = "store_error_{code}"
"""The reason of an event that the engine refuses, alone."""
