"""Buckets of time: aligned to the clock that is asked for, without gaps, the same whatever the window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.figures import intervals
from collector.figures.intervals import DAY_US, HOUR_US, LENGTHS, MAX_BUCKETS, SECOND_US, WEEK_US, cut
from tests.support.mutations import examples

ZONES = ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago", "America/Havana", "Asia/Beirut", "+05:45"]
FROM_2020, TO_2030 = 1_577_836_800 * SECOND_US, 1_893_456_000 * SECOND_US


def zone(name: str) -> tzinfo:
    found = intervals.zone_of(name)
    assert found is not None
    return found


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_US


def clock(moment_us: int, there: tzinfo) -> datetime:
    """What a clock there shows."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)).astimezone(there).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("1d", 86400), ("1w", 604800), ("PT5M", 300), ("pt30s", 30), ("P1D", 86400),
     ("P2W", 1209600), ("PT36H", 129600)],
)  # fmt: skip
def test_a_length_may_be_written_short_or_as_iso_8601(text: str, seconds: int) -> None:
    assert intervals.parse_length(text) == seconds * SECOND_US


@pytest.mark.parametrize(
    "text", ["", "0s", "5", "m", "-5m", "1.5h", "P", "PT", "P1M", "P1H", "PT1D", "999999999w", "٣s", "5 m"]
)
def test_what_is_no_length_is_told(text: str) -> None:
    assert intervals.parse_length(text) is None


@pytest.mark.parametrize("length_us", LENGTHS)
def test_a_length_is_shown_as_it_may_be_written(length_us: int) -> None:
    assert intervals.parse_length(intervals.show_length(length_us)) == length_us


@pytest.mark.parametrize(
    "name", ["Mars", "", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/", "+25:00", "\0", "x" * 5000]
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert intervals.zone_of(name) is None


@given(st.integers(1, 400 * DAY_US))
@examples(200)
@example(240 * DAY_US + 1)
@example(360 * DAY_US + 1)
def test_the_length_chosen_makes_a_chart_of_any_window(span_us: int) -> None:
    length_us = intervals.chosen_length(0, span_us)
    assert span_us <= intervals.CHOSEN * length_us
    assert length_us == SECOND_US or span_us >= 40 * length_us


@given(
    st.integers(FROM_2020, TO_2030), st.integers(0, 400 * DAY_US), st.sampled_from([*LENGTHS, 7 * 60 * SECOND_US, 5 * HOUR_US]),
    st.sampled_from(["UTC", *ZONES]), st.data(),
)  # fmt: skip
@examples(300)
def test_buckets_hold_the_window_without_gaps_and_do_not_move_with_it(
    start_us: int, span_us: int, length_us: int, name: str, data: st.DataObject
) -> None:
    end_us = start_us + min(span_us, length_us * 200)
    buckets = cut(start_us, end_us, length_us, zone(name))
    assert 1 <= len(buckets.starts) <= 203
    assert list(buckets.starts) == sorted(set(buckets.starts))
    assert buckets.starts[0] <= start_us
    assert buckets.starts[-1] <= end_us < buckets.end_us
    assert len(buckets.starts) == 1 or buckets.starts[1] > start_us
    narrower_us = data.draw(st.integers(start_us, end_us))
    narrower = cut(narrower_us, end_us, length_us, zone(name))
    assert narrower.starts == tuple(start for start in buckets.starts if start >= narrower.starts[0])
    assert narrower.end_us == buckets.end_us
    if name == "UTC":
        assert {end - start for start, end in buckets.bounds()} == {length_us}


@given(
    st.integers(FROM_2020, TO_2030),
    st.sampled_from(ZONES),
    st.sampled_from([3 * HOUR_US, 6 * HOUR_US, 12 * HOUR_US, DAY_US, WEEK_US]),
)
@examples(300)
def test_in_a_zone_a_bucket_is_what_its_clock_shows(moment_us: int, name: str, length_us: int) -> None:
    there = zone(name)
    ((start_us, end_us),) = cut(moment_us, moment_us, length_us, there).bounds()
    base = datetime(1970, 1, 5) if length_us == WEEK_US else datetime(1970, 1, 1)
    length = timedelta(microseconds=length_us)

    def part(at_us: int) -> int:
        return (clock(at_us, there) - base) // length

    assert part(start_us) == part(moment_us) == part(end_us - SECOND_US)
    assert part(start_us - SECOND_US) < part(start_us)
    assert part(end_us) > part(moment_us)


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/Santiago", "2026-09-06", 23),
        ("America/Havana", "2026-11-01", 25),
        ("Asia/Kolkata", "2026-03-29", 24),
    ],
)
def test_a_day_is_as_long_as_it_is_there(name: str, day: str, hours: float) -> None:
    noon_us = int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(name)).timestamp()) * SECOND_US
    ((start_us, end_us),) = cut(noon_us, noon_us, DAY_US, ZoneInfo(name)).bounds()
    assert (end_us - start_us) / HOUR_US == hours


def test_the_hour_that_comes_twice_is_two_buckets() -> None:
    buckets = cut(us("2026-10-25T00:00Z"), us("2026-10-25T02:00Z"), HOUR_US, ZoneInfo("Europe/Berlin"))
    assert [end - start for start, end in buckets.bounds()] == [HOUR_US] * 3


def test_weeks_begin_on_monday() -> None:
    (start_us,) = cut(us("2026-11-25T12:00Z"), us("2026-11-25T12:00Z"), WEEK_US).starts
    assert start_us == us("2026-11-23T00:00Z")


def test_more_buckets_than_there_may_be_are_refused_and_nothing_is_no_bucket() -> None:
    assert len(cut(0, MAX_BUCKETS * SECOND_US - 1, SECOND_US).starts) == MAX_BUCKETS
    for end_us in ((MAX_BUCKETS + 1) * SECOND_US, TO_2030):
        with pytest.raises(intervals.TooMany):
            cut(0, end_us, SECOND_US)
    assert cut(5, 4, SECOND_US).bounds() == []
