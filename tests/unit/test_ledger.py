"""How far a file is acknowledged is a low-water mark: nothing before it is still on its way."""

from __future__ import annotations

from agent import wire
from agent.ledger import Ledger


def header(start: int, end: int, origin: str = "a", kind: int = wire.DATA) -> wire.Header:
    return wire.Header(kind, f"r-{start}", origin=origin, source_from=start, source_to=end, events=1)


def ack(ledger: Ledger, *headers: wire.Header) -> None:
    for one in headers:
        ledger.acked(one, wire.RecordOutcome(one.record_id, wire.ACCEPTED, accepted=1))


def test_an_ack_that_overtakes_another_does_not_move_the_mark() -> None:
    ledger = Ledger()
    first, second, third = header(0, 10), header(10, 20), header(20, 30)
    for one in (first, second, third):
        ledger.taken(one)
    ack(ledger, second, third)
    assert ledger.acked_to("a") == 0
    ack(ledger, first)
    assert ledger.acked_to("a") == 30


def test_a_file_of_which_nothing_was_taken_has_no_mark() -> None:
    ledger = Ledger()
    ledger.taken(header(0, 10, origin="b"))
    assert ledger.acked_to("a") is None


def test_after_a_file_was_cut_back_the_mark_follows_it_down() -> None:
    ledger = Ledger()
    for one in (header(90, 100), header(20, 30)):
        ledger.taken(one)
        ack(ledger, one)
    assert ledger.acked_to("a") == 30


def test_a_record_that_was_set_aside_no_longer_holds_the_mark() -> None:
    ledger = Ledger()
    first, second = header(0, 10), header(10, 20)
    ledger.taken(first)
    ledger.taken(second)
    ack(ledger, second)
    ledger.set_aside(first)
    assert ledger.acked_to("a") == 20
    assert ledger.counts()["quarantined_events"] == 1
    ack(ledger, first)
    assert ledger.acked_to("a") == 20, "its late delivery is no news of how far the file has come"


def test_records_without_events_of_a_file_move_nothing() -> None:
    ledger = Ledger()
    ledger.taken(header(0, 10, kind=wire.LOSS))
    assert ledger.acked_to("a") is None


def test_what_was_on_its_way_when_sending_began_again_is_forgotten() -> None:
    ledger = Ledger()
    ledger.taken(header(0, 10))
    ledger.begin()
    ledger.taken(header(0, 10))
    ack(ledger, header(0, 10))
    assert ledger.acked_to("a") == 10
