"""The credit account against a simple model, and its rules one by one."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.config import Limits
from collector.limits import limits
from collector.limits.limits import Account, Levels, Mode, Rate, Rates

MINUTE = Rates(events=Rate(100 / 60, 100.0), size=Rate(1e9, 1e9))
"""A hundred events a minute, bytes as good as free."""


def full(rates: Rates, now_s: float = 0.0) -> Account:
    return Account(Levels(rates.events.burst, rates.size.burst), now_s)


def test_what_is_larger_than_the_burst_is_admitted_whole_and_the_next_waits_until_the_debt_is_paid() -> None:
    account = full(MINUTE)
    assert account.take(Mode.WHOLE, MINUTE, 8000, 0, 0.0) == 8000
    assert account.take(Mode.WHOLE, MINUTE, 1, 0, 1.0) == 0
    wait_s = limits.wait_s(Mode.WHOLE, account.levels(MINUTE, 1.0), MINUTE, 1)
    assert wait_s == pytest.approx(7900 / (100 / 60) - 1)
    assert account.take(Mode.WHOLE, MINUTE, 1, 0, 1.0 + wait_s - 0.1) == 0
    assert account.take(Mode.WHOLE, MINUTE, 1, 0, 1.0 + wait_s + 0.1) == 1


def test_events_one_by_one_are_admitted_up_to_the_level_and_not_beyond() -> None:
    account = full(MINUTE)
    assert [account.take(Mode.UP_TO, MINUTE, 1, 0, 0.0) for _ in range(150)] == [1] * 100 + [0] * 50
    assert account.take(Mode.UP_TO, MINUTE, 50, 0, 6.1) == 10


def test_a_refund_gives_the_room_back_but_never_more_than_the_burst() -> None:
    account = full(MINUTE)
    account.take(Mode.UP_TO, MINUTE, 60, 0, 0.0)
    account.give(MINUTE, 20, 0, 0.0)
    assert account.levels(MINUTE, 0.0).events == 60
    account.give(MINUTE, 1000, 0, 0.0)
    assert account.levels(MINUTE, 0.0).events == 100


def test_refusing_takes_all_or_nothing_and_a_full_budget_admits_what_is_larger() -> None:
    account = full(MINUTE)
    assert account.take(Mode.REFUSE, MINUTE, 60, 0, 0.0) == 60
    assert account.take(Mode.REFUSE, MINUTE, 60, 0, 0.0) == 0
    assert account.levels(MINUTE, 0.0).events == 40
    assert account.take(Mode.REFUSE, MINUTE, 500, 0, 36.1) == 500
    assert limits.wait_s(Mode.REFUSE, account.levels(MINUTE, 36.1), MINUTE, 500) == pytest.approx(500 * 0.6)


def test_bytes_in_debt_hold_every_event_back() -> None:
    rates = Rates(events=Rate(1.0, 1000.0), size=Rate(10.0, 100.0))
    account = full(rates)
    assert account.take(Mode.UP_TO, rates, 2, 150, 0.0) == 2
    for mode in Mode:
        assert account.take(mode, rates, 1, 1, 4.9) == 0
    assert limits.wait_s(Mode.UP_TO, account.levels(rates, 4.0), rates, 1) == pytest.approx(0.1)
    assert account.take(Mode.UP_TO, rates, 1, 1, 5.1) == 1


def test_a_clock_that_goes_back_refills_nothing_and_takes_nothing_away() -> None:
    account = full(MINUTE, 1000.0)
    account.take(Mode.UP_TO, MINUTE, 100, 0, 1000.0)
    assert account.levels(MINUTE, 10.0).events == 0
    assert account.levels(MINUTE, 16.0).events == pytest.approx(10)


def test_a_limit_that_is_lowered_counts_at_once() -> None:
    account = full(MINUTE)
    lower = Rates(events=Rate(1 / 6, 10.0), size=MINUTE.size)
    assert account.take(Mode.UP_TO, lower, 50, 0, 0.0) == 10


def test_a_burst_of_zero_is_the_rate_and_a_share_divides_all() -> None:
    assert limits.rates_of(Limits(events_per_minute=120)).events == Rate(2.0, 120.0)
    assert limits.rates_of(Limits(events_per_minute=120, events_burst=30)).events == Rate(2.0, 30.0)
    assert limits.rates_of(Limits(events_per_minute=120), 0.25).events == Rate(0.5, 30.0)


class Model:
    """The same rule, with one bucket and exact numbers: level = min(burst, level + passed * rate)."""

    def __init__(self, per_s: int, burst: int) -> None:
        self.per_s, self.burst = per_s, burst
        self.level = Fraction(burst)
        self.now = Fraction(0)

    def at(self, now: Fraction) -> None:
        self.level = min(Fraction(self.burst), self.level + (now - self.now) * self.per_s)
        self.now = now

    def take(self, mode: Mode, events: int) -> int:
        granted = {
            Mode.WHOLE: events if self.level >= 0 else 0,
            Mode.UP_TO: min(events, max(0, math.floor(self.level))),
            Mode.REFUSE: events if self.level >= min(events, self.burst) else 0,
        }[mode]
        self.level -= granted
        return granted

    def give(self, events: int) -> None:
        self.level = min(Fraction(self.burst), self.level + events)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 64),  # quarters of a second until then, exact as floats
        st.sampled_from([*Mode, "give"]),
        st.integers(1, 500),
    ),
    max_size=60,
)


@given(per_s=st.integers(1, 64), burst=st.integers(1, 300), steps=STEPS)
def test_the_account_does_what_the_model_does(per_s: int, burst: int, steps: list[tuple[int, Mode | str, int]]) -> None:
    rates = Rates(events=Rate(float(per_s), float(burst)), size=Rate(1e9, 1e9))
    account, model = full(rates), Model(per_s, burst)
    now = Fraction(0)
    for quarters, what, events in steps:
        now += Fraction(quarters, 4)
        model.at(now)
        if isinstance(what, Mode):
            assert account.take(what, rates, events, 0, float(now)) == model.take(what, events)
        else:
            account.give(rates, events, 0, float(now))
            model.give(events)
        assert account.levels(rates, float(now)).events == float(model.level)


@given(per_s=st.integers(1, 50), burst=st.integers(1, 200), sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_on_credit_the_rate_holds_in_the_long_run_whatever_the_sizes(per_s: int, burst: int, sizes: list[int]) -> None:
    rates = Rates(events=Rate(float(per_s), float(burst)), size=Rate(1e9, 1e9))
    account, now_s, admitted = full(rates), 0.0, 0
    for events in sizes:
        now_s += limits.wait_s(Mode.WHOLE, account.levels(rates, now_s), rates, events) + 1e-6
        assert account.take(Mode.WHOLE, rates, events, 0, now_s) == events
        admitted += events
    assert admitted <= burst + now_s * per_s + sizes[-1] + 1
