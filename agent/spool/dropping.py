"""`spool.policy: drop_oldest`: what a segment is replaced by when its records are given up. Pure.

The new segment takes the old one's name in one rename, so the loss and what it stands for cannot come apart: before it the
records are there and nothing is lost, after it they are gone and their loss is told. It holds the old head, the losses told in
the old segment, the state of every file as the old segment left it (`SpoolHead.known`), and the loss of every byte given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent import wire
from agent.spool.segment import Damage, Recovery, SpoolHead, head_records, scan

REASON = "spool_full_dropped"

RecordOf = Callable[[tuple[wire.Loss, ...]], bytes]
"""Makes the record that tells the collector of losses."""


class Dropped(NamedTuple):
    segment: bytes
    """The new bytes of the segment."""
    losses: tuple[wire.Loss, ...]
    """Exact: one for each run of bytes of a file."""


def drop(old: bytes, record_of: RecordOf, *, now_ns: int) -> Dropped | None:
    """What a whole segment becomes; None where nothing in it could be given up."""
    recovery = Recovery()
    recovery.begin(0)
    kept: list[bytes] = []
    given_up: list[wire.Header] = []
    at_front = True
    for item in scan(old):
        if isinstance(item, Damage):
            continue
        recovery.feed(item, 0)
        at_front = at_front and item.header.kind == wire.FILES
        if at_front or item.header.kind in (wire.LOSS, wire.COMPLETED):
            kept.append(old[item.start : item.end])
        elif item.header.kind == wire.DATA:
            given_up.append(item.header)
    if not given_up:
        return None
    losses = tuple(_losses(given_up, now_ns))
    known = SpoolHead(
        recovery.scope,
        recovery.tenant_id,
        list(recovery.states.values()),
        recovery.tags,
        known=True,
        retention_days=recovery.retention_days,
        started=sorted(recovery.started),
    )
    return Dropped(b"".join((*kept, *head_records(known), record_of(losses))), losses)


def _losses(headers: list[wire.Header], now_ns: int) -> Iterator[wire.Loss]:
    """Records of a file that follow one another are one loss."""
    runs: dict[str, list[wire.Header]] = {}
    for header in headers:
        run = runs.setdefault(header.origin, [])
        if run and run[-1].source_to != header.source_from:
            yield _loss(run, now_ns)
            run.clear()
        run.append(header)
    for run in runs.values():
        yield _loss(run, now_ns)


def _loss(run: list[wire.Header], now_ns: int) -> wire.Loss:
    first, end = run[0], run[-1].source_to
    return wire.Loss(
        f"{first.origin}-{first.source_from:x}",
        first.path,
        first.source,
        REASON,
        end - first.source_from,
        False,
        first.source_from,
        first.file_id,
        now_ns,
        sum(header.events for header in run),
    )
