"""A compressed file as a `Tail`: the same questions, about its decompressed bytes. What the name promises, the file decides:
plain lines under such a name are read as they lie there.

- `size` is what is known to be there; whoever needs more asks for it (`reach`). It is the size only when `ended`.
- Nothing is ever appended to what was expanded, so its last line counts without a newline as soon as it has ended.
- What is settled is known again by the file's size and time of change, and not opened for it (`FileState.packed`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent.files.expand import PACKED, Expansion, looks_plain
from agent.files.identity import BODY_AT, FileState
from agent.files.tail import Handles, Tail
from agent.text.blocks import BLOCK_BYTES

ESTIMATE_BYTES = 1 << 20


class PackedTail(Tail):
    """A file whose name ends as in `expand.PACKED`."""

    def __init__(self, path: str, source: str, stat: os.stat_result, now_s: float, handles: Handles) -> None:
        super().__init__(path, source, stat, now_s, handles)
        self._expansion = Expansion(self.open, handles.slots)
        self._plain: bool | None = None
        self._resets = 0
        self.size = 0

    @property
    def packed(self) -> bool:
        return not self._plain

    @property
    def ended(self) -> bool:
        return bool(self._plain) or self._expansion.ended

    @property
    def damage(self) -> str:
        return "" if self._plain else self._expansion.damage

    @property
    def rotated(self) -> bool:
        return super().rotated or self.packed

    def is_final(self, *, may_be_nowhere: bool) -> bool:
        return super().is_final(may_be_nowhere=may_be_nowhere) if self._plain else self.ended or self.deleted

    def is_news(self, stat: os.stat_result) -> bool:
        if self._plain:
            return super().is_news(stat)
        touched = (stat.st_size, stat.st_mtime_ns) != (self.disk_size, self.mtime_ns)
        return touched or self.state is None or bool(self.unread) or not self.ended

    @property
    def goes_on(self) -> bool:
        return self.packed and not self._expansion.exhausted

    @property
    def unread(self) -> int:
        is_settled = self.packed and self.state is not None and self.state.packed == self.stamp
        return 0 if is_settled else super().unread

    def look(self) -> int:
        if self._plain or self._fd >= 0 or not self.ended:
            self.open()
            stat = os.fstat(self._fd)
        else:  # what is settled is not opened to see that it is as it was
            stat = os.stat(self.path)
            if (stat.st_dev, stat.st_ino) != self.inode:
                raise FileNotFoundError(f"{self.name} is another file now")
        self._see(stat)
        if self._plain is None:
            self._plain = looks_plain(os.pread(self.open(), BODY_AT, 0))
        if self._plain:
            self.size = stat.st_size
            return self.size
        self._expansion.notice(stat.st_size, stat.st_mtime_ns)
        return self._sized()

    def _sized(self) -> int:
        if self._resets != self._expansion.resets:
            self._resets, self.unchecked = self._expansion.resets, True
        known = self._expansion.size
        self.size = known if self.state is None or self.ended else max(known, self.state.size)
        return self.size

    def reach(self, position: int) -> int:
        self.look()
        if self.packed:
            self._expansion.reach(position)
            self._sized()
        return self.size

    def estimate(self) -> int:
        self.reach(ESTIMATE_BYTES)
        return self.size if not self.packed or self.ended else self._expansion.estimate(self.disk_size)

    def trust(self, state: FileState) -> bool:
        """Whether this file is as it was when all of it was read into this state; then it is not expanded for that."""
        if self._plain or not state.recent or state.packed != (self.disk_size, self.mtime_ns):
            return False
        position, crc = state.recent[-1]
        if position != state.offset:
            return False
        self._expansion.trust(position, crc)
        self.size = position
        return True

    def want(self, positions: Iterable[int]) -> None:
        if self.packed:
            self._expansion.want(positions)

    def rest(self) -> None:
        if self.packed:
            self._expansion.rest()
            if self.listed and not self.deleted and self.is_at_its_path():
                self.close()

    def forget(self) -> None:
        self._plain = None

    def give_up(self, reason: str) -> None:
        self._expansion.give_up(reason)

    def hand_over(self, handles: Handles) -> None:
        super().hand_over(handles)
        self._expansion = Expansion(self.open, handles.slots)
        self._resets = 0

    def front(self, length: int) -> bytes:
        return super().front(length) if self._plain else self._expansion.front(length)

    def text_at_front(self) -> tuple[int, bytes]:
        return super().text_at_front() if self._plain else self._expansion.text_at_front()

    def holds(self, position: int, crc: int) -> bool:
        return super().holds(position, crc) if self._plain else self._expansion.mark(position) == crc

    def mark(self, position: int) -> tuple[int, int]:
        return super().mark(position) if self._plain else (position, self._expansion.mark(position) or 0)

    def line_start(self, position: int) -> int:
        if self._plain:
            return super().line_start(position)
        start = max(0, position - BLOCK_BYTES)
        newline = self._expansion.read(start, position - start).rfind(b"\n")
        return start + newline + 1 if newline >= 0 else 0

    def read(self, position: int, length: int) -> bytes:
        return super().read(position, length) if self._plain else self._expansion.read(position, length)

    def read_into(self, view: memoryview, position: int) -> int:
        if self._plain:
            return super().read_into(view, position)
        data = self._expansion.read(position, len(view))
        view[: len(data)] = data
        return len(data)

    def next_data(self, at: int, size: int) -> int:
        return super().next_data(at, size) if self._plain else at


def tail_of(path: str, source: str, stat: os.stat_result, now_s: float, handles: Handles) -> Tail:
    """The tail for a file, by what its name promises."""
    kind = PackedTail if path.endswith(PACKED) else Tail
    return kind(path, source, stat, now_s, handles)
