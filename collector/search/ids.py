"""Which events are stored, by their IDs: what an agent compares its files with. For keys that may only ingest, too.

- ``GET ids`` lists the IDs between two bounds, in order, a page at a time. ``GET ids/sums`` sums up those of one file by
  where they start in it: as long as the sums agree nothing has to be listed.
- What is there is what a search shows: each event once, within the tenant's retention. What was deleted, and what is stored
  beyond the retention, is told apart: an agent that missed those would send them for nothing.
- IDs, and nothing else of an event: a key for ingesting does not read what was said.
- A page reads the IDs of a page, whatever lies between the bounds; the sums are bounded in number, and by the bounds that
  every query has.

The sum of an event is its check times (2 offset + 1), modulo 2**64: one event more, fewer or elsewhere changes it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from aiohttp import web

from agent import wire
from collector.ingest import ingest
from collector.ingest.event_types import MAX_ID_CHARS
from collector.search import query
from collector.search.parameters import Parameters
from collector.search.query import Statement
from collector.search.reading import json_of, running
from collector.tenants import caller, tenants
from collector.tenants.tenants import Tenant

T = TypeVar("T")

PARAMETERS = ("from", "to", "limit", "cursor")
SUMS_PARAMETERS = ("file_id", "from_offset", "to_offset", "step")

DEFAULT_LIMIT = 5_000
MAX_LIMIT = 20_000
MAX_SUMS = 1_024
MIN_STEP = 4_096
MAX_STEP = 1 << 40
MAX_OFFSET = 16**wire.OFFSET_DIGITS - 1
ID_CHARS = 16 + 1 + wire.OFFSET_DIGITS + 1 + 8

_FILE_ID = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_IN_RANGE = "tenant_id = {tenant:String} AND external_id >= {first:String} AND external_id <= {last:String}"


class Range(NamedTuple):
    """Bounds of IDs, both included."""

    first: str
    last: str
    limit: int = DEFAULT_LIMIT
    after: str = ""
    """The last ID of the page before."""


class Sums(NamedTuple):
    file_id: str
    from_offset: int
    to_offset: int
    """Not included."""
    step: int


async def get_ids(request: web.Request) -> web.Response:
    """An `agent.wire.IdsAnswer`."""
    tenant, asked, kept = await _asked(request, range_of)
    async with running(request, tenant, "ids") as run:
        found = await run(ids_of(tenant.tenant_id, asked, kept))
    return json_of(page(asked, found, tenant.limits.retention_days))


async def get_sums(request: web.Request) -> web.Response:
    """An `agent.wire.SumsAnswer`."""
    tenant, asked, kept = await _asked(request, sums_of)
    async with running(request, tenant, "ids_sums") as run:
        found = await run(sums(tenant.tenant_id, asked, kept))
    said = [wire.IdSum(step * asked.step, events, f"{total:016x}") for step, events, total in found]
    return json_of(wire.SumsAnswer(said, tenant.limits.retention_days))


async def _asked(request: web.Request, read: Callable[[Iterable[tuple[str, str]]], T]) -> tuple[Tenant, T, tuple[int, int]]:
    """Who asks, what for, and from when to when that tenant's events are kept. Raises Invalid, and for a key that may not."""
    tenant = await caller.tenant_of(request, tenants.INGEST, reads_query=True)
    ingest.check_owner(request, tenant)
    asked = read(request.query.items())
    return tenant, asked, query.kept(tenant.limits.retention_days, time.time_ns() // 1000)


def range_of(pairs: Iterable[tuple[str, str]]) -> Range:
    """Raises Invalid."""
    given = Parameters(pairs, known=PARAMETERS)
    first, last, cursor = (_id(given, name) for name in ("from", "to", "cursor"))
    for name in ("from", "to"):
        if name not in given.values:
            given.fault(
                name, "is missing", None, "the least and the greatest ID that are meant, such as FILE_ID- and FILE_ID-g"
            )
    if first and last and last < first:
        given.fault("to", "is less than from", last, "swap the two")
    if cursor and not first <= cursor <= last:
        given.fault("cursor", "belongs to another range", cursor, "repeat from and to of the first page beside it")
    limit = given.number("limit", 1, MAX_LIMIT, DEFAULT_LIMIT, "page by cursor")
    given.check()
    return Range(first, last, limit, cursor)


def sums_of(pairs: Iterable[tuple[str, str]]) -> Sums:
    """Raises Invalid."""
    given = Parameters(pairs, known=SUMS_PARAMETERS)
    file_id = given.get("file_id") or ""
    if not _FILE_ID.fullmatch(file_id):
        given.fault("file_id", "is not the first part of a line's ID", file_id, "16 hex digits")
    step = _whole(given, "step", MIN_STEP, MAX_STEP, 1 << 20)
    begin = _whole(given, "from_offset", 0, MAX_OFFSET, 0)
    end = _whole(given, "to_offset", 0, MAX_OFFSET, begin + MAX_SUMS * step)
    if begin % step:
        given.fault("from_offset", f"is no multiple of step, {step}", str(begin))
    if not begin <= end <= begin + MAX_SUMS * step:
        given.fault("to_offset", f"expected from_offset to {MAX_SUMS} steps more", str(end), "ask several times")
    given.check()
    return Sums(file_id, begin, end, step)


def ids_of(tenant_id: str, asked: Range, kept: tuple[int, int]) -> Statement:
    """Rows of ID, whether it was deleted, whether reads show it, and whether more may follow the last row: the first of the
    range, at most ``limit`` of them.

    Args:
        kept: first and last moment (µs) that a search shows.

    The copies of an event are put together by hand, since FINAL passes over deleted ones. First it is found how far a page
    reaches, so that no more than a page is put together; of the last event all copies are.
    """
    where = _IN_RANGE + (" AND external_id > {after:String}" if asked.after else "")
    reach = f"SELECT external_id FROM events WHERE {where} ORDER BY tenant_id, external_id LIMIT {{rows:UInt32}}"
    return Statement(
        f"WITH (SELECT (max(external_id), count()) FROM ({reach})) AS reached "
        "SELECT external_id, max(is_deleted), toUnixTimestamp64Micro(argMax(timestamp, version))  "
        "BETWEEN {start:Int64} AND {end:Int64}, reached.2 = {rows:UInt32} "
        f"FROM events WHERE {where} AND external_id <= reached.1 "
        "GROUP BY external_id ORDER BY external_id",
        {
            "tenant": tenant_id,
            "first": asked.first,
            "last": asked.last,
            "after": asked.after,
            "rows": asked.limit,
            "start": kept[0],
            "end": kept[1],
        },
    )


def page(asked: Range, found: Sequence[Sequence[Any]], retention_days: int) -> wire.IdsAnswer:
    """The answer, from the rows of `ids_of`."""
    prefix = _common(asked.first, asked.last)
    shown: tuple[list[str], list[str], list[str]] = ([], [], [])
    for external_id, deleted, there, _ in found:
        shown[1 if deleted else 0 if there else 2].append(external_id[len(prefix) :])
    last = found[-1][0] if found and found[-1][3] else None
    return wire.IdsAnswer(prefix, *shown, last is not None, last, retention_days)


def sums(tenant_id: str, asked: Sums, kept: tuple[int, int]) -> Statement:
    """Rows of step, number of events, and their sum."""
    return Statement(
        "SELECT intDiv(offset, {step:UInt64}) AS part, count(), sum(checked * (2 * offset + 1)) FROM ("
        "SELECT reinterpretAsUInt64(reverse(unhex(substring(external_id, 18, 12)))) AS offset, "
        "reinterpretAsUInt64(reverse(unhex(substring(external_id, 31, 8)))) AS checked "
        f"FROM events FINAL WHERE {_IN_RANGE} AND length(external_id) = {ID_CHARS} "
        "AND timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
        "AND timestamp <= fromUnixTimestamp64Micro({end:Int64}, 'UTC')) GROUP BY part ORDER BY part",
        {
            "tenant": tenant_id,
            "first": f"{asked.file_id}-{asked.from_offset:0{wire.OFFSET_DIGITS}x}",
            # An ID goes on where this bound ends, so that it is greater: the offset itself is not included.
            "last": f"{asked.file_id}-{asked.to_offset:0{wire.OFFSET_DIGITS}x}",
            "step": asked.step,
            "start": kept[0],
            "end": kept[1],
        },
    )


def _common(one: str, other: str) -> str:
    """What both begin with."""
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _id(given: Parameters, name: str) -> str:
    value = given.text(name)
    if len(value) > MAX_ID_CHARS:
        given.fault(name, f"is longer than {MAX_ID_CHARS} characters", value, "no ID is")
    return value


def _whole(given: Parameters, name: str, least: int, most: int, default: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    if _NUMBER.fullmatch(value) and least <= int(value) <= most:
        return int(value)
    given.fault(name, f"expected a whole number from {least} to {most}", value)
    return default
