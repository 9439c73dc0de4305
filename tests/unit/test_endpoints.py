"""Several collectors: failover, one careful return, and never nobody to ask. And the limit of bytes a second."""

from __future__ import annotations

from agent.shipping.endpoints import FIRST_AWAY_S, LONGEST_AWAY_S, STRIKES, Bandwidth, Endpoints

A, B = "http://a", "http://b"


def test_the_first_is_preferred_while_it_works() -> None:
    endpoints = Endpoints([A, B])
    for now in range(5):
        assert endpoints.pick(now).url == A
        endpoints.works(endpoints.pick(now))


def test_while_the_first_is_away_the_next_is_asked_and_one_request_tries_the_return() -> None:
    endpoints = Endpoints([A, B])
    first = endpoints.pick(0.0)
    assert endpoints.failed(first, 0.0, suspicious=False), "another is worth asking at once"
    assert endpoints.pick(1.0).url == B
    assert [endpoints.pick(FIRST_AWAY_S).url for _ in range(3)] == [A, B, B], "one on trial, the others wait for its result"
    assert endpoints.works(first)
    assert not endpoints.works(first), "that it works is no news any more"
    assert [endpoints.pick(FIRST_AWAY_S).url for _ in range(2)] == [A, A]


def test_one_that_stays_away_is_tried_less_and_less_up_to_a_limit() -> None:
    endpoints, now, waits = Endpoints([A, B]), 0.0, []
    first = endpoints.pick(now)
    for _ in range(8):
        endpoints.failed(first, now, suspicious=False)
        waits.append(first.away_until_s - now)
        now = first.away_until_s
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_AWAY_S, LONGEST_AWAY_S)


def test_when_all_are_away_the_one_whose_turn_is_first_is_asked() -> None:
    endpoints = Endpoints([A, B])
    a = endpoints.pick(0.0)
    endpoints.failed(a, 0.0, suspicious=False)
    b = endpoints.pick(0.5)
    assert not endpoints.failed(b, 0.5, suspicious=False)
    assert endpoints.pick(1.0) is a


def test_a_run_that_fails_by_itself_makes_nobody_leave() -> None:
    endpoints = Endpoints([A, B])
    for _ in range(10):
        assert not endpoints.failed(endpoints.pick(0.0), 0.0, suspicious=True)
        endpoints.works(endpoints.pick(0.0))
    for _ in range(STRIKES):
        endpoints.failed(endpoints.pick(0.0), 0.0, suspicious=True)
    assert endpoints.pick(0.0).url == B


def test_one_that_is_on_trial_and_fails_again_is_left_at_once_whatever_the_fault_may_be() -> None:
    endpoints = Endpoints([A, B])
    first = endpoints.pick(0.0)
    endpoints.failed(first, 0.0, suspicious=False)
    endpoints.works(endpoints.pick(1.0))
    assert endpoints.pick(FIRST_AWAY_S) is first
    first.strikes = 0
    assert endpoints.failed(first, FIRST_AWAY_S, suspicious=True), "another is worth asking at once"
    assert endpoints.pick(FIRST_AWAY_S).url == B


def test_more_than_a_second_of_bytes_has_to_wait() -> None:
    bandwidth = Bandwidth(1000)
    assert bandwidth.take(500, 10.0) == 0.0
    assert bandwidth.take(500, 10.0) == 0.0
    assert bandwidth.take(2000, 10.0) == 0.0, "what begins within the limit may go beyond it"
    assert bandwidth.take(1, 10.0) == 2.0
    assert 2.0 < bandwidth.take(1000, 10.0) < 2.01


def test_over_a_long_time_the_limit_holds_whatever_the_sizes() -> None:
    bandwidth, now, sent = Bandwidth(1000), 0.0, 0
    for size in [1, 700, 3000, 20, 999] * 40:
        now += bandwidth.take(size, now)
        sent += size
    assert sent <= 1000 * (now + 1) + 3000


def test_no_limit_is_no_wait() -> None:
    assert Bandwidth(0).take(1 << 40, 1.0) == 0.0
