from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent import wire
from collector.ingest.blocks import open_run
from collector.ingest.event_checks import Checked, Rules, check
from collector.store.schema import retention_class
from collector.writing import ages
from collector.writing.ages import DAY_US, FRESH, old_partitions
from collector.writing.event_parcels import parcels_of
from collector.writing.parcels import Parcel
from tests.support.events import named
from tests.support.records import DAY_NS, NOW_NS, loss, loss_record, record, tenant

NOW_US = NOW_NS // 1000
WEEK = ages.week_of(NOW_US)


def parcel(raw: bytes, *, days: float = 0, retention_days: int = 90, **changed: Any) -> Parcel:
    said = {"observed_ns": NOW_NS - int(days * DAY_NS), **changed}
    (found,) = open_run(record(raw, **said), tenant=tenant(retention_days=retention_days), now_ns=NOW_NS)
    return found


def line(days: float, name: str = "time") -> bytes:
    return json.dumps({name: (NOW_US - int(days * DAY_US)) // 1000, "message": "x"}).encode() + b"\n"


def checked(days: Sequence[float], retention_days: int = 365) -> list[Checked]:
    rules = Rules(NOW_US, retention_days, retention_class(retention_days), 1 << 20)
    found = []
    for ago in days:
        event = check(json.dumps(named(timestamp=(NOW_US - int(ago * DAY_US)) // 1000)).encode(), rules, lambda n: ("", True))
        assert isinstance(event, Checked)
        found.append(event)
    return found


def test_weeks_begin_on_mondays() -> None:
    monday_us = 1_767_571_200 * 1_000_000  # 2026-01-05
    assert ages.week_of(monday_us) == ages.week_of(monday_us + 7 * DAY_US - 1) == ages.week_of(monday_us - 1) + 1


def test_lines_kept_as_they_are_have_the_time_of_their_record() -> None:
    assert old_partitions(parcel(b"a\nb\n", days=0.9), NOW_US) == FRESH
    assert old_partitions(parcel(b"a\nb\n", days=14), NOW_US) == {(90, WEEK - 2)}
    assert old_partitions(parcel(b"a\nb\n", days=-9), NOW_US) == FRESH


def test_of_lines_that_the_engine_parses_the_first_and_the_last_tell() -> None:
    raw = line(21) + b"no json\n" + line(0)
    assert old_partitions(parcel(raw, format="json"), NOW_US) == {(90, WEEK - n) for n in range(4)}
    assert old_partitions(parcel(line(0) + line(0.5), format="json"), NOW_US) == FRESH
    assert old_partitions(parcel(line(7), format="json"), NOW_US) == {(90, WEEK - 1)}
    named_fields = wire.Fields(time=("when",))
    assert old_partitions(parcel(line(7, "when"), format="json", fields=named_fields), NOW_US) == {(90, WEEK - 1)}


@pytest.mark.parametrize(
    "odd", [b"", b"[]", b"{", b'{"time": true}', b'{"time": "-15m"}', b'{"time": "now"}', b'{"time": {}}', b"\xff", b"[" * 5000]
)
def test_lines_that_tell_no_time_have_that_of_their_record(odd: bytes) -> None:
    raw = odd + b"\n" + odd + b"\n"
    assert old_partitions(parcel(raw, format="json"), NOW_US) == FRESH
    assert old_partitions(parcel(raw, days=14, format="json"), NOW_US) == {(90, WEEK - 2)}


def test_what_lies_beyond_the_retention_touches_no_partition_of_its_own() -> None:
    found = old_partitions(parcel(line(1000) + line(0), format="json", retention_days=30), NOW_US)
    assert len(found) in (5, 6)
    assert {kept for kept, _ in found} == {30}


def test_losses_fall_into_no_partition() -> None:
    (found,) = open_run(loss_record(loss("l"), observed_ns=NOW_NS - 30 * DAY_NS), tenant=tenant(), now_ns=NOW_NS)
    assert old_partitions(found, NOW_US) == FRESH


def test_a_batch_is_cut_into_fresh_and_old_parcels_of_few_partitions() -> None:
    events = checked([days if days % 2 else 0 for days in range(200)])
    order = ages.fresh_first(events, ages.old_before(NOW_US))
    assert order is not None
    assert sorted(order) == list(range(200))
    parcels = parcels_of("t", [events[place] for place in order], old_before_us=ages.old_before(NOW_US))
    assert [bool(each.old) for each in parcels] == [False, *[True] * (len(parcels) - 1)]
    assert [event_id for each in parcels for event_id in each.ids] == [events[place].event_id for place in order]
    assert len(parcels[0]) == 101  # a day ago exactly is not old
    assert all(len(each.old) <= ages.MAX_PARTITIONS for each in parcels)
    assert len(parcels) == 3  # 29 weeks
    touched = [{(365, ages.week_of(row[1])) for row in each.rows()} for each in parcels[1:]]
    assert touched == [each.old for each in parcels[1:]]


def test_a_batch_of_fresh_events_stays_as_it_is() -> None:
    events = checked([0, 0.5, -1])
    assert ages.fresh_first(events, ages.old_before(NOW_US)) is None
    (only,) = parcels_of("t", events, old_before_us=ages.old_before(NOW_US))
    assert only.old == FRESH


@pytest.mark.parametrize(
    ("format", "front"),
    [
        ("combined", '1.2.3.4 - - [{:%d/%b/%Y}:10:00:00 +0000] "GET /'),
        ("logfmt", "time={:%Y-%m-%d}T10:00:00Z"),
        ("syslog", "{:%Y-%m-%d}"),
    ],
)
def test_old_lines_of_other_formats_are_told_by_the_day_they_name(format: str, front: str) -> None:
    def dated(days: int) -> bytes:
        return front.format(datetime.fromtimestamp(NOW_US / 1e6, UTC) - timedelta(days=days)).encode() + b" x\n"

    assert old_partitions(parcel(dated(0), format=format), NOW_US) == FRESH
    weeks = {week for _, week in old_partitions(parcel(dated(15) + dated(8), format=format), NOW_US)}
    assert len(weeks) == 2
    assert max(weeks) < WEEK
    assert old_partitions(parcel(b"12/Abc/2020 x\n0000-00-00\n", format=format), NOW_US) == FRESH
    assert old_partitions(parcel(dated(15), format="raw"), NOW_US) == FRESH
