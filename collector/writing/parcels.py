"""Events of one record on their way to the store, and how they are taken apart and named. Pure.

No loop over events, with two exceptions: replays whose IDs were found in part (`ids_of`, `picked`), and refused commits
(`cut`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from agent import wire

_AFTER_HEX = "g"
"""Sorts behind every hex digit: makes an ID prefix the upper end of a range."""

Distances: TypeAlias = npt.NDArray[np.uint32]
Starts: TypeAlias = npt.NDArray[np.int64]


class Parcel(msgspec.Struct, frozen=True):
    """Events of one record, or its losses, or a heartbeat, checked and inflated."""

    tenant_id: str
    retention_days: int
    header: wire.Header
    lines: bytes = b""
    """The events, one after the other, with a newline between two."""
    events: int = 0
    base_offset: int = 0
    distances: Distances | None = None
    """Per event: its offset minus ``base_offset``. None: they follow from the lines' lengths."""
    losses: tuple[wire.Loss, ...] = ()
    heartbeat: wire.Heartbeat | None = None
    """Not written with events, and no event itself."""
    lookup: bool = False
    """The events may be in the store already."""
    sizes: Distances | None = None
    """Per event: its length. None: no event holds a newline."""
    marks: tuple[int, ...] | None = None
    """Per event: which of the header's marks is its own."""
    times: tuple[str, ...] | None = None
    """Per event: when it was written, as text."""
    completed: tuple[str, ...] = ()
    """IDs of events that went on after they had been shipped."""
    format: str = ""
    """What the header's ``auto`` turned out to be, of the whole record; empty: as the header says."""
    fault: str = ""
    """What the engine has refused of how its lines are to be read."""

    @property
    def shaped(self) -> bool:
        """Whether there is more to its events than lines and offsets."""
        return self.sizes is not None or self.marks is not None or self.times is not None


def line_starts(lines: bytes) -> Starts:
    ends = np.flatnonzero(np.frombuffer(lines, dtype=np.uint8) == 10)
    return np.concatenate((np.zeros(1, dtype=np.int64), ends + 1))


def begins_of(parcel: Parcel) -> Starts:
    """Per event: where it begins in ``lines``."""
    if parcel.sizes is None:
        return line_starts(parcel.lines)
    ends = np.cumsum(parcel.sizes[:-1].astype(np.int64) + 1)
    return np.concatenate((np.zeros(1, dtype=np.int64), ends))


def starts_of(parcel: Parcel) -> Starts:
    """Per event: its distance from ``base_offset``."""
    if parcel.distances is not None:
        return parcel.distances.astype(np.int64)
    return begins_of(parcel)


def texts_of(parcel: Parcel) -> list[bytes]:
    """The bytes of every event."""
    if parcel.sizes is None:
        return parcel.lines.split(b"\n")
    begins = begins_of(parcel).tolist()
    return [parcel.lines[begin : begin + size] for begin, size in zip(begins, parcel.sizes.tolist(), strict=True)]


def ids_of(parcel: Parcel) -> list[str]:
    """The external_id of every event."""
    file_id, base = parcel.header.file_id, parcel.base_offset
    return [
        wire.event_id(file_id, base + distance, text)
        for distance, text in zip(starts_of(parcel).tolist(), texts_of(parcel), strict=True)
    ]


def range_of(parcel: Parcel) -> tuple[str, str]:
    """The smallest range of IDs that holds those of all events, both ends included."""
    first, last = offsets_of(parcel)
    prefix = parcel.header.file_id
    return f"{prefix}-{first:0{wire.OFFSET_DIGITS}x}", f"{prefix}-{last:0{wire.OFFSET_DIGITS}x}-{_AFTER_HEX}"


def offsets_of(parcel: Parcel) -> tuple[int, int]:
    """Offsets of the first and the last event; the parcel has at least one."""
    if parcel.distances is not None:
        return parcel.base_offset + int(parcel.distances[0]), parcel.base_offset + int(parcel.distances[-1])
    last = parcel.lines.rfind(b"\n") + 1 if parcel.sizes is None else len(parcel.lines) - int(parcel.sizes[-1])
    return parcel.base_offset, parcel.base_offset + last


def picked(parcel: Parcel, which: Iterable[int]) -> Parcel:
    """The parcel with only the events (or losses) at these positions, in order; at least one."""
    chosen = list(which)
    if parcel.losses:
        return msgspec.structs.replace(parcel, losses=tuple(parcel.losses[n] for n in chosen), events=len(chosen))
    texts = texts_of(parcel)
    return msgspec.structs.replace(
        parcel,
        lines=b"\n".join([texts[n] for n in chosen]),
        events=len(chosen),
        distances=starts_of(parcel)[chosen].astype(np.uint32),
        sizes=None if parcel.sizes is None else parcel.sizes[chosen],
        marks=None if parcel.marks is None else tuple(parcel.marks[n] for n in chosen),
        times=None if parcel.times is None else tuple(parcel.times[n] for n in chosen),
    )


def cut(parcel: Parcel, most: int) -> list[Parcel]:
    """The parcel in pieces of at most ``most`` events, in order."""
    if parcel.events <= most:
        return [parcel]
    begins = begins_of(parcel)
    pieces = []
    for first in range(0, parcel.events, most):
        last = min(first + most, parcel.events)
        end = int(begins[last]) - 1 if last < parcel.events else len(parcel.lines)
        begin = int(begins[first])
        pieces.append(
            msgspec.structs.replace(
                parcel,
                lines=parcel.lines[begin:end],
                events=last - first,
                base_offset=parcel.base_offset + (begin if parcel.distances is None else 0),
                distances=None if parcel.distances is None else parcel.distances[first:last],
                sizes=None if parcel.sizes is None else parcel.sizes[first:last],
                marks=None if parcel.marks is None else parcel.marks[first:last],
                times=None if parcel.times is None else parcel.times[first:last],
            )
        )
    return pieces
