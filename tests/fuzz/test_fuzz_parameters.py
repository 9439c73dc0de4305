"""Query strings, cursors, moments and headers from outside: a search with bound values, or every fault by name."""

from __future__ import annotations

import base64
import string
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.errors import CollectorError, Invalid
from collector.ingest import bodies, events, ingest
from collector.ingest.event_checks import moment_of
from collector.ingest.moments import MAX_US, parse_moment, show_moment
from collector.metrics import Metrics
from collector.search import query, reports, search, summary
from collector.search.parameters import Parameters
from collector.search.query import Span
from collector.tenants.auth import AdminGate, key_in
from collector.tenants.tenants import hash_of
from tests.support.mutations import MSGPACK_BOMBS, examples, mutated, refused_well
from tests.support.records import NOW_NS

NOW_US = NOW_NS // 1000
METRICS = Metrics()
ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=30)
VALUES = st.one_of(
    ANY_TEXT,
    st.sampled_from(
        (
            "",
            ",",
            ",,,",
            "-15m",
            "-999999999w",
            "now",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "2026-W01-1",
            "9" * 19,
            "0",
            "99999999999.999999",
            "5xx",
            "400-499",
            "499-400",
            "99",
            "asc",
            "DESC",
            "ndjson",
            "-1",
            "1e3",
            "١٢",
            "error",
            "a,b",
            "x" * 5000,
            "\0",
            "a\udcffb",
            "' OR 1=1 --",
            "{tenant:String}",
            "%",
            "é" * 40,
            " ".join(map(str, range(40))),
            "2026-01-31T08:00:00 01:00",
            "T",
            "20260131T080000Z",
            "24:00",
            "2026-02-30",
        )
    ),
    st.text(alphabet=string.digits + "-:.TZ+wdhms ", max_size=32),
)
NAMES = st.one_of(st.sampled_from((*query.PARAMETERS, "attr.region", "attr.", "attr.\udcff", "Limit", "x")), ANY_TEXT)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
FIRST = query.parse([], tenant_id="t", retention_days=30, now_us=NOW_US)
CURSOR = query.cursor_after(FIRST, NOW_US, "00c0ffee00c0ffee-000000000000-00000000")
FOREIGN = query.cursor_after(query.parse([], tenant_id="u", retention_days=30, now_us=NOW_US), NOW_US, "x")


def parsed(pairs: list[tuple[str, str]], **more: Any) -> query.Search | None:
    """The search, of which every statement can be written; None after a refusal that names what is wrong."""
    try:
        found = query.parse(pairs, tenant_id="t", retention_days=30, now_us=NOW_US, **more)
    except Invalid as error:
        refused_well(error)
        assert error.errors
        assert all(fault.error for fault in error.errors)
        return None
    statements = (
        query.span_of(found, 220),
        query.page_of(found, {"timestamp": "timestamp"}, Span(0, NOW_US, 1, ["x"])),
        query.count_of(found),
        summary.events_of(found),
    )
    for statement in statements:
        assert statement.params["tenant"] == "t"
        statement.sql.encode()
        msgspec.json.encode(statement.params)
    assert 0 <= found.end_us <= MAX_US
    show_moment(found.start_us)
    return found


@given(PAIRS)
@examples(300)
def test_any_parameters_are_a_search_or_are_named(pairs: list[tuple[str, str]]) -> None:
    parsed(pairs)
    parsed(pairs, known=reports.STATS_PARAMETERS)


@given(st.sampled_from(query.PARAMETERS), VALUES)
@examples(300)
def test_any_value_of_any_parameter_is_taken_or_named(name: str, value: str) -> None:
    parsed([(name, value)])


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(
    st.one_of(
        mutated(CURSOR.encode(), FOREIGN.encode()).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
        mutated(base64.urlsafe_b64decode(CURSOR + "==")).map(_text),
    )
)
@examples(250)
@example(
    _text(
        base64.urlsafe_b64decode(CURSOR + "==")[:1].replace(b"\x96", b"\x97")
        + base64.urlsafe_b64decode(CURSOR + "==")[1:]
        + MSGPACK_BOMBS[0][:2500]
    )
)
def test_any_cursor_goes_on_with_this_query_or_is_refused(cursor: str) -> None:
    found = parsed([("cursor", cursor)])
    if found is not None:
        assert found.tenant_id == "t"
        assert found.check == FIRST.check


def test_another_tenants_cursor_is_refused() -> None:
    assert parsed([("cursor", CURSOR)]) is not None
    assert parsed([("cursor", FOREIGN)]) is None


@given(VALUES, st.one_of(VALUES, st.integers(), st.floats()))
@examples(250)
def test_any_moment_is_within_the_engines_times_or_none(text: str, sent: Any) -> None:
    for found in (parse_moment(text, NOW_US), moment_of(sent, NOW_US)):
        assert found is None or 0 <= found <= MAX_US
        show_moment(found or 0)


@given(PAIRS)
@examples(300)
def test_the_window_of_outcomes_is_bounded_whatever_is_asked(pairs: list[tuple[str, str]]) -> None:
    request: Any = SimpleNamespace(query=SimpleNamespace(items=lambda: pairs))
    try:
        start_us, end_us = reports._window(request, NOW_US)
    except CollectorError as error:
        refused_well(error)
        return
    assert 0 <= start_us <= end_us <= MAX_US


@given(st.lists(st.tuples(st.one_of(st.sampled_from(("dry_run", "results")), ANY_TEXT), VALUES), max_size=3))
@examples(200)
def test_any_choice_at_ingest_is_known_or_named(pairs: list[tuple[str, str]]) -> None:
    given = Parameters(pairs, known=events.BATCH_PARAMETERS)
    try:
        given.flag("dry_run")
        given.choice("results", ("all", "failures"))
        given.check()
    except CollectorError as error:
        refused_well(error)


HEADER_VALUE = st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(HEADER_VALUE, st.sampled_from(("", "Bearer ", "bearer", "Basic ")))
@examples(300)
def test_any_credential_is_no_key_or_one_to_look_up(value: str, scheme: str) -> None:
    for headers in ({"X-API-Key": value}, {"Authorization": scheme + value}):
        hash_of(key_in(headers))
    with pytest.raises(CollectorError) as refused:
        AdminGate("the-token-of-the-admin", METRICS).check({"X-Admin-Token": value})
    refused_well(refused.value)


@given(HEADER_VALUE)
@examples(300)
def test_any_type_and_encoding_of_a_body_are_known_or_named(value: str) -> None:
    search.wants_lines(value)
    request: Any = SimpleNamespace(headers={"Content-Encoding": value}, content_type=value)
    for work in (
        lambda: bodies.media_of(request.content_type),
        lambda: ingest._check_type(request),
        lambda: bodies.unpacked(b"{}", value, most=10),
    ):
        try:
            work()
        except CollectorError as error:
            refused_well(error)
