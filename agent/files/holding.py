"""What outlives a reader that has to begin again: open files, and losses that are not in the spool yet.

When the disk fails under the spool, reader and spool start anew from what is on disk. Files that were deleted or rotated
away meanwhile cannot be opened again by their paths: only their handles still lead to unread bytes.
"""

from __future__ import annotations

from agent import wire
from agent.files.tail import Tail


class Held:
    """Filled by a reader that ends, emptied by the one that follows. One at a time has it."""

    def __init__(self) -> None:
        self.tails: list[Tail] = []
        self.losses: list[wire.Loss] = []

    def take(self) -> tuple[list[Tail], list[wire.Loss]]:
        """What the last reader left; nothing is held after that."""
        left = self.tails, self.losses
        self.tails, self.losses = [], []
        return left

    def close(self) -> None:
        """Nobody follows."""
        for tail in self.take()[0]:
            tail.close()
