"""Which version of the program this is."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version() -> str:
    """As it was installed; ``unknown`` when it runs from a folder."""
    try:
        return metadata.version("pulsestream")
    except metadata.PackageNotFoundError:
        return "unknown"
