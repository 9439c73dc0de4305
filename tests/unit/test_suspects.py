"""Runs that fail: which wait, which are taken apart, which record is convicted, and how long the pauses are."""

from __future__ import annotations

from agent.shipping import suspects
from agent.shipping.retry import ATTEMPTS_BEFORE_SPLIT
from agent.shipping.suspects import QUICK_PROBES, Apart, Convicted, Parcel, Suspects, Wait
from agent.spool.segment import Position

ONE = (Position(1, 0),)
THREE = (Position(1, 0), Position(1, 10), Position(2, 0))


def failed(places: tuple[Position, ...], times: int = ATTEMPTS_BEFORE_SPLIT) -> Parcel:
    return Parcel(places, failures=times, passes=7)


def test_a_parcel_waits_until_it_has_failed_often() -> None:
    assert isinstance(suspects.judge(failed(THREE, ATTEMPTS_BEFORE_SPLIT - 1), 9), Wait)
    assert isinstance(suspects.judge(failed(ONE, ATTEMPTS_BEFORE_SPLIT - 1), 9), Wait)


def test_several_records_are_taken_apart_whether_or_not_anything_passes() -> None:
    """Each is sent as one that may have been received, and is judged by what passes from then on."""
    for passes in (7, 9):
        verdict = suspects.judge(failed(THREE), passes)
        assert isinstance(verdict, Apart)
        assert verdict == Apart(tuple(Parcel((place,), replay=True, passes=passes) for place in THREE))


def test_one_record_is_convicted_only_when_something_else_has_passed() -> None:
    assert isinstance(suspects.judge(failed(ONE), 7), Wait)
    assert isinstance(suspects.judge(failed(ONE), 8), Convicted)


def test_what_is_refused_for_good_is_believed_at_once() -> None:
    assert isinstance(suspects.refused(Parcel(ONE, passes=7), 7), Convicted)
    assert isinstance(suspects.refused(Parcel(THREE, passes=7), 7), Apart)


def test_a_parcel_that_fails_while_others_pass_makes_nobody_wait_longer() -> None:
    parcel = failed(ONE, 4)
    assert suspects.attempt(parcel, 7, failures=4, in_flight=2) == 4
    assert suspects.attempt(parcel, 8, failures=1, in_flight=2) == 1


def test_when_everything_fails_the_pauses_grow_though_each_parcel_has_failed_once() -> None:
    parcel = failed(ONE, 1)
    attempts = [suspects.attempt(parcel, 7, failures, in_flight=4) for failures in range(1, QUICK_PROBES + 13)]
    assert attempts[: QUICK_PROBES + 7] == [1] * (QUICK_PROBES + 7)
    assert attempts[QUICK_PROBES + 7 :] == [2, 2, 2, 2, 3]


def test_those_that_are_due_come_by_their_time_and_no_other_comes() -> None:
    waiting = Suspects()
    first, second = Parcel(ONE), Parcel(THREE)
    waiting.add(second, 20.0)
    waiting.add(first, 10.0)
    assert (len(waiting), waiting.due_s) == (2, 10.0)
    assert waiting.take(9.0) is None
    assert waiting.take(30.0) is first
    assert waiting.due_s == 20.0
    waiting.hasten(15.0)
    assert waiting.due_s == 15.0
    waiting.hasten(17.0)
    assert waiting.due_s == 15.0, "what is due already is not put off"
    assert waiting.take(15.0) is second
    assert (len(waiting), waiting.due_s) == (0, None)
