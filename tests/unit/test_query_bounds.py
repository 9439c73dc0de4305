import pytest

from collector.config import Limits, StoreConfig
from collector.errors import answer_of
from collector.search.bounds import GIVEN_UP_CODES, Bounds, bounds_of
from collector.search.query import Statement
from collector.tenants.tenant_command import _limits

STORE = StoreConfig(query_timeout_s=30, max_query_memory_bytes=1 << 30, max_query_rows=1_000_000)


ANY = Statement("", {})


def bounds(statement: Statement = ANY, **limits: float) -> Bounds:
    return bounds_of(STORE, Limits(**limits), statement)


def test_a_tenant_without_bounds_of_its_own_has_those_of_the_collector() -> None:
    found = bounds()
    assert [bound.value for bound in found] == [30, 1 << 30, 1_000_000]
    assert [bound.name for bound in found] == ["store.query_timeout_s", "store.max_query_memory_bytes", "store.max_query_rows"]


def test_a_tenant_may_have_less_than_the_collector_and_never_more() -> None:
    less = bounds(max_query_seconds=2.5, max_query_memory_bytes=1 << 26, max_query_rows=1000)
    assert [bound.value for bound in less] == [2.5, 1 << 26, 1000]
    assert bounds(max_query_seconds=60, max_query_memory_bytes=1 << 31, max_query_rows=1 << 40) == bounds()
    assert less.settings() == {"max_memory_usage": str(1 << 26), "max_rows_to_read": "1000"}


def test_a_statement_may_ask_for_less_than_either() -> None:
    found = bounds(Statement("", {}, timeout_s=5, max_rows=10), max_query_rows=1000)
    assert (found.time.value, found.rows.value) == (5, 10)
    assert bounds(Statement("", {}, timeout_s=50), max_query_seconds=2).time.value == 2


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        (159, "max_query_seconds", "at its bound of 2.5 s (max_query_seconds)"),
        (241, "max_query_memory_bytes", "at its bound of 64 MiB of memory (max_query_memory_bytes)"),
        (158, "max_query_rows", "at its bound of 1000 rows read (max_query_rows)"),
    ],
)
def test_what_is_given_up_names_the_bound(code: int, name: str, said: str) -> None:
    reply = answer_of(bounds(max_query_seconds=2.5, max_query_memory_bytes=1 << 26, max_query_rows=1000).given_up(code))
    assert (reply.status, reply.body.code) == (422, "query_too_expensive")
    assert said in reply.body.message
    assert [(fault.field, fault.suggestion != "") for fault in reply.body.errors] == [(name, True)]


def test_every_code_of_a_bound_has_an_answer() -> None:
    assert all("narrow it" in bounds().given_up(code).message for code in GIVEN_UP_CODES)


def test_limits_on_the_command_line_may_have_decimals() -> None:
    assert _limits(["max_query_seconds=2.5", "max_query_rows=10"]) == {"max_query_seconds": 2.5, "max_query_rows": 10}
