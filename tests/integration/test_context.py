"""What stands around an event is what lies around it in its file, or in time, when all is read by hand. Real engine."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from agent import wire
from collector.errors import Invalid
from collector.search import context, neighbours
from collector.search.event import offset_of
from collector.search.event_by_id import HIGHEST_VERSION
from collector.search.query import DAY_US
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.asked import DAYS, NOW, Asking, fill

pytestmark = pytest.mark.engine

HEAD, REST, TWIN = "00c0ffee00c0ffee", "ff00000000000000", "00c0ffee00c0ffef"
NAMES = (
    "tenant_id", "external_id", "timestamp", "message", "path", "agent", "source", "service", "retention_days", "version",
    "is_deleted",
)  # fmt: skip
Line = tuple[str, int]
"""ID and time."""


def lines(file_id: str, offsets: range, start_us: int) -> list[Line]:
    """Of one file, a second apart."""
    return [(wire.event_id(file_id, at, b"line %d" % at), start_us + n * 1_000_000) for n, at in enumerate(offsets)]


async def store_lines(asking: Asking, found: list[Line], path: str = "/a.log", **changed: Any) -> None:
    said: dict[str, Any] = {
        "retention_days": 30,
        "version": 1000,
        "is_deleted": 0,
        "agent": "web-1",
        "service": "shop",
        **changed,
    }
    rows = [
        {
            "tenant_id": asking.tenant_id,
            "external_id": id_,
            "timestamp": us,
            "message": id_,
            "path": path,
            "source": "log",
            **said,
        }
        for id_, us in found
    ]
    await asking.store.insert("events", NAMES, [[row[name] for name in NAMES] for row in rows])


async def asked(asking: Asking, event_id: str, **values: object) -> dict[str, Any]:
    question = context.context_of([(name, str(value)) for name, value in values.items()], asking.tenant_id, event_id)
    return await context.answer_of(asking.run, asking.tenant_id, event_id, question, retention_days=DAYS, now_us=NOW)


def ids(answer: dict[str, Any]) -> list[str]:
    return [event["id"] for event in (*answer["before"], answer["event"], *answer["after"])]


async def walked(asking: Asking, event_id: str, step: int) -> list[str]:
    """All there is around an event, by cursors."""
    answer = await asked(asking, event_id, before=step, after=step)
    found = ids(answer)
    cursor = answer["before_cursor"]
    while cursor:
        page = await asked(asking, event_id, before=step, cursor=cursor)
        assert page["after"] == []
        found, cursor = [event["id"] for event in page["before"]] + found, page["before_cursor"]
    cursor = answer["after_cursor"]
    while cursor:
        page = await asked(asking, event_id, after=step, cursor=cursor)
        assert page["before"] == []
        found, cursor = found + [event["id"] for event in page["after"]], page["after_cursor"]
    return found


def test_lines_have_the_neighbours_of_their_file_and_cursors_go_on_to_both_ends(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            asking, some = Asking(store, owner.tenant_id), random.Random(1)
            whole = lines(REST, range(4096, 4096 + 300 * 50, 50), NOW - 3600 * 1_000_000)
            old = [(id_, NOW - DAYS * DAY_US - 1) for id_, _ in lines(REST, range(4106, 4206, 20), 0)]
            gone = [*whole[10:100:3], *whole[150:240]]
            await store_lines(asking, whole)
            await store_lines(asking, [*whole[::2], *old], version=10)
            await store_lines(asking, gone, is_deleted=1, version=HIGHEST_VERSION)
            await store_lines(asking, lines(TWIN, range(4096, 8000, 50), NOW - 1000))
            stranger = Asking(store, f"{owner.tenant_id}-other")
            await store_lines(stranger, lines(REST, range(4096, 9000, 25), NOW - 1000))
            await store_lines(asking, [(f"{REST}-0000000013no line", NOW)])
            shown = sorted({id_ for id_, _ in whole} - {id_ for id_, _ in gone})
            for event_id in (shown[0], shown[-1], shown[60], *some.sample(shown, 3)):
                at = shown.index(event_id)
                for before, after in ((10, 10), (0, 3), (150, 0), (500, 500)):
                    answer = await asked(asking, event_id, before=before, after=after)
                    assert ids(answer) == shown[max(0, at - before) : at + after + 1]
                    assert (answer["by"], answer["exact"]) == ("file", True)
                    assert (answer["before_cursor"] is None, answer["after_cursor"] is None) == (
                        at <= before, at + after + 1 >= len(shown),
                    )  # fmt: skip
            assert await walked(asking, shown[100], 37) == shown

    asyncio.run(run())


def test_events_without_a_file_have_the_neighbours_of_their_service_in_time(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            await fill(store, owner.tenant_id)
            asking = Asking(store, owner.tenant_id)
            events = [event for event in reversed(await asking.events({})) if event["source"]["service"] == "größe"]
            shown = [event["id"] for event in events]
            assert len(shown) > 20
            for at in (0, 7, len(shown) - 1):
                answer = await asked(asking, shown[at], before=5, after=2)
                assert ids(answer) == shown[max(0, at - 5) : at + 3]
                assert answer["by"] == "time"
            assert await walked(asking, shown[9], 4) == shown

    asyncio.run(run())


def test_the_first_4096_bytes_and_the_rest_of_a_file_are_one_file(home: Home, owner: Tenant) -> None:
    """Also where another file was at the same path before and after it."""

    async def run() -> None:
        async with home.store() as store:
            asking = Asking(store, owner.tenant_id)
            generations = [("1" * 16, "a" * 16), ("2" * 16, "b" * 16), ("3" * 16, "4" * 16)]
            files = []
            for n, (head, rest) in enumerate(generations):
                start_us = NOW - (3600 - 600 * n) * 1_000_000
                first = lines(head, range(0, 4096, 512), start_us)
                second = lines(rest, range(4099, 8000, 400), start_us + 60_000_000) if n != 1 else []
                files.append([id_ for id_, _ in (*first, *second)])
                await store_lines(asking, [*first, *second])
            await store_lines(asking, lines("5" * 16, range(0, 9000, 500), NOW - 3590 * 1_000_000), path="/b.log")
            await store_lines(asking, lines("6" * 16, range(0, 9000, 500), NOW - 3590 * 1_000_000), agent="web-2")
            for file in files:
                for at in (0, 7, min(8, len(file) - 1), len(file) - 1):
                    answer = await asked(asking, file[at], before=500, after=500)
                    assert ids(answer) == file
                    assert answer["exact"] is (len(file) == 8)
                    offsets = [offset_of(id_) for id_ in ids(answer)]
                    assert offsets == sorted(offsets, key=lambda offset: offset or 0)
                assert await walked(asking, file[2], 3) == file
            assert (await asked(asking, files[0][1], before=5, after=2))["exact"]

    asyncio.run(run())


def test_a_side_ends_early_beyond_its_bytes_and_its_cursor_goes_on(
    embedded: Home, owner: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SIDE_BYTES", 1000)

    async def run() -> None:
        async with embedded.store() as store:
            asking = Asking(store, owner.tenant_id)
            whole = lines(REST, range(4096, 4096 + 40 * 50, 50), NOW - 3600 * 1_000_000)
            await store_lines(asking, whole)
            shown = [id_ for id_, _ in whole]
            answer = await asked(asking, shown[20], before=15, after=15)
            assert 1 < len(answer["after"]) < 15
            assert await walked(asking, shown[20], 15) == shown

    asyncio.run(run())


def test_a_cursor_serves_its_own_event_and_direction_only(embedded: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with embedded.store() as store:
            asking = Asking(store, owner.tenant_id)
            whole = lines(REST, range(4096, 5000, 50), NOW - 3600 * 1_000_000)
            await store_lines(asking, whole)
            cursor = (await asked(asking, whole[9][0], before=2, after=0))["before_cursor"]
            for event_id, tenant_id, values, field in (
                (whole[8][0], owner.tenant_id, {"cursor": cursor}, "cursor"),
                (whole[9][0], "another", {"cursor": cursor}, "cursor"),
                (whole[9][0], owner.tenant_id, {"cursor": "x"}, "cursor"),
                (whole[9][0], owner.tenant_id, {"cursor": cursor, "after": "3"}, "after"),
                (whole[9][0], owner.tenant_id, {"before": "501"}, "before"),
            ):
                with pytest.raises(Invalid) as refused:
                    context.context_of(values.items(), tenant_id, event_id)
                assert [fault.field for fault in refused.value.errors] == [field]

    asyncio.run(run())
