"""What the C library does with freed memory.

Transforms make and drop ten copies of a block, a megabyte each. Left to itself glibc gives each back to the kernel and gets it
again, page by page: a thousand page faults for each megabyte of log, a sixth of all CPU.
"""

from __future__ import annotations

import contextlib

KEPT_BYTES = 16 << 20
"""Freed memory that stays with the process: what one block needs with all transforms."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed() -> None:
    """Keep up to `KEPT_BYTES` for what comes next. Nothing happens where the C library has no such setting (musl)."""
    import ctypes  # here: an agent without transforms does without it

    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
