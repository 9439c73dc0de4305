"""Some events of a block as a record of their own, with the names they have: for sending again what is missing. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, chain

from msgspec.structs import replace

from agent import wire
from agent.codec import compress_aside
from agent.text import packing


def picked(header: wire.Header, payload: bytes, chosen: Sequence[int]) -> tuple[wire.Header, bytes]:
    """Header and payload of a record that holds only the events at these positions, ascending; at least one.

    Args:
        header: of a record that holds all of them, with all that is not about its events; ``payload``: before compression.
    """
    if isinstance(header, wire.ShapedHeader):
        return _of_shaped(header, payload, chosen)
    lines = payload.removesuffix(b"\n").split(b"\n")
    starts = list(accumulate((len(line) + 1 for line in lines[:-1]), initial=header.base_offset))
    data = b"\n".join([lines[n] for n in chosen])
    whole = chosen[-1] < len(lines) - 1 or payload.endswith(b"\n")
    first = starts[chosen[0]]
    made = data + b"\n" * whole
    distances = struct.pack(f"<{len(chosen)}I", *(starts[n] - first for n in chosen))
    return (
        replace(
            header,
            base_offset=first,
            raw_bytes=len(made),
            events=len(chosen),
            offsets=compress_aside(distances),
            flags=header.flags if not whole else header.flags & ~wire.PARTIAL,
        ),
        made,
    )


def _of_shaped(header: wire.ShapedHeader, payload: bytes, chosen: Sequence[int]) -> tuple[wire.Header, bytes]:
    events = list(packing.events_of(header, payload))
    starts, texts = [events[n][0] for n in chosen], [events[n][1] for n in chosen]
    count, at = header.events, header.data_bytes + 4 * header.events * (header.sizes + header.steps)
    data = b"".join(chain.from_iterable((text, b"\n") for text in texts))
    parts = [data, struct.pack(f"<{len(chosen)}I", *map(len, texts))]
    parts.append(struct.pack(f"<{len(chosen)}I", *(b - a for a, b in zip([starts[0], *starts], starts, strict=False))))
    if header.marks:
        numbers = struct.unpack_from(f"<{count}H", payload, at)
        parts.append(struct.pack(f"<{len(chosen)}H", *(numbers[n] for n in chosen)))
    times = b""
    if header.times_bytes:
        told = payload[len(payload) - header.times_bytes :].split(b"\n")
        times = b"".join(told[n] + b"\n" for n in chosen)
        parts.append(times)
    made = b"".join(parts)
    return (
        replace(
            header,
            base_offset=starts[0],
            raw_bytes=len(made),
            events=len(chosen),
            data_bytes=len(data),
            sizes=True,
            steps=True,
            times_bytes=len(times),
        ),
        made,
    )
