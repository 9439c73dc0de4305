"""Which events the store has had, by their IDs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any, Protocol

from collector.errors import StoreAway, StoreError
from collector.writing.event_parcels import DELETED, DUPLICATE, EXPIRED, Verdict

MAX_ASKED = 5_000
"""IDs in one look-up."""
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,:-"
"""None of these means anything to the engine but the comma, which parts two IDs."""


class Tables(Protocol):
    """The part of the store that is used."""

    async def query_plain(self, sql: str) -> list[list[Any]]: ...


async def known_ids(
    store: Tables, asked: Mapping[str, Collection[str]], oldest_us: Mapping[str, int]
) -> dict[tuple[str, str], Verdict]:
    """Which of these events (tenant, ID) the store has had: `DUPLICATE`, `DELETED` or `EXPIRED`.

    Args:
        asked: IDs by tenant.
        oldest_us: per tenant, where its retention ends.

    Raises:
        StoreAway: it cannot be told.
    """
    known: dict[tuple[str, str], Verdict] = {}
    for portion in _portions(asked):
        ids = list(chain.from_iterable(portion.values()))
        try:
            found = await store.query_plain(
                "SELECT tenant_id, external_id, max(is_deleted), toUnixTimestamp64Micro(argMax(timestamp, version)) "
                f"FROM events PREWHERE tenant_id IN {_listed(portion)} "
                f"AND external_id IN {_listed(ids)} GROUP BY tenant_id, external_id"
            )
        except StoreError as error:
            raise StoreAway(error.code, error.message) from error
        for tenant_id, event_id, deleted, time_us in found:
            shown = EXPIRED if int(time_us) < oldest_us[tenant_id] else DUPLICATE
            known[tenant_id, event_id] = DELETED if deleted else shown
    return known


def _portions(asked: Mapping[str, Collection[str]]) -> Iterator[Mapping[str, Collection[str]]]:
    count = sum(map(len, asked.values()))
    if 0 < count <= MAX_ASKED:
        yield asked
    elif count:
        for tenant_id, ids in asked.items():
            order = sorted(ids)  # as the table's key: each of several look-ups reads one part of it
            for begin in range(0, len(order), MAX_ASKED):
                yield {tenant_id: order[begin : begin + MAX_ASKED]}


def _listed(texts: Collection[str]) -> str:
    """Texts for IN, so that nothing of theirs can be SQL: as they are where they are plain, else as hex digits.
    Thousands cost much less so than as bound values, which besides would travel in a URL. (Hex digits in a subquery: as an
    expression they would be read again for every row.)"""
    plain = ",".join(texts)
    if not plain.encode().translate(None, _PLAIN) and plain.count(",") == len(texts) - 1:
        return f"splitByChar(',', '{plain}')"
    digits = ",".join([text.encode().hex() for text in texts])
    return f"(SELECT arrayJoin(arrayMap(digits -> unhex(digits), splitByChar(',', '{digits}'))))"
