"""Questions for figures from outside: statements with bound values, or every fault by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from collector.api import paths
from collector.errors import CollectorError, Invalid
from collector.figures import aggregate, facets, histogram, names
from collector.figures.aggregate_types import AggregateBody
from collector.figures.intervals import parse_length, zone_of
from collector.ingest import small_bodies
from collector.saved import searches
from collector.saved.searches import SavedBody
from collector.search import context, fields
from collector.search.query import Span, Statement
from tests.fuzz.test_fuzz_parameters import ANY_TEXT, NOW_US, VALUES
from tests.support.mutations import JSON_BOMBS, examples, mutated, refused_well

ASKED: dict[str, Any] = {"tenant_id": "t", "retention_days": 30, "now_us": NOW_US}
OWN = ("interval", "time_zone", "by", "top", "fields", "limit", "prefix", "contains", "before", "after", "cursor")
OWN_VALUES = st.sampled_from(
    ["1s", "5m", "P1D", "auto", "1w", "Europe/Berlin", "+05:30", "service", "tags", "attr.a'b", "service,attr.{x:String}", "3"]
)
NAMES = st.one_of(st.sampled_from((*names.PARAMETERS, *OWN, "attr.region")), ANY_TEXT)
PAIRS = st.lists(st.tuples(NAMES, OWN_VALUES | VALUES), max_size=5)
BODIES = {operation.name: operation.body_example for operation in paths.OPERATIONS}
MEMBERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | OWN_VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)


def written(work: Callable[[], Statement | None]) -> None:
    """What is asked can be sent to the engine with its tenant, or is refused by name."""
    try:
        statement = work()
    except CollectorError as error:
        refused_well(error)
        assert error.errors or not isinstance(error, Invalid)
        return
    if statement is not None:
        assert statement.params["tenant"] == "t"
        statement.sql.encode()
        msgspec.json.encode(statement.params)


@given(PAIRS)
@examples(300)
def test_any_parameters_are_a_question_or_are_named(pairs: list[tuple[str, str]]) -> None:
    written(lambda: histogram.counts_of(histogram.histogram_of(pairs, **ASKED)))
    written(lambda: facets.counts_of(facets.facets_of(pairs, **ASKED)))
    written(lambda: names.columns_of(names.search_of(pairs, **ASKED), Span(0, NOW_US, 1, ["x"]), 10))
    written(lambda: context.context_of(pairs, "t", "e") and None)


@given(mutated(json.dumps(BODIES["aggregateEvents"]).encode(), *JSON_BOMBS))
@examples(300)
def test_any_body_of_an_aggregate_is_a_question_or_is_refused(body: bytes) -> None:
    written(lambda: aggregate.figures_of(aggregate.aggregate_of(small_bodies.read(body, AggregateBody), **ASKED)))


@given(mutated(json.dumps(BODIES["saveSearch"]).encode(), *JSON_BOMBS))
@examples(200)
def test_any_body_of_a_saved_search_is_kept_or_refused(body: bytes) -> None:
    written(lambda: searches.checked(small_bodies.read(body, SavedBody), **ASKED) and None)


@given(st.dictionaries(st.sampled_from(searches.PARAMETERS) | ANY_TEXT, MEMBERS, max_size=4), st.lists(ANY_TEXT, max_size=3))
@examples(200)
def test_any_members_are_parameters_or_are_named(members: dict[str, Any], columns: list[str]) -> None:
    written(lambda: searches.checked(SavedBody("n", members, columns), **ASKED) and None)
    written(lambda: aggregate.figures_of(aggregate.aggregate_of(AggregateBody(members, group_by=columns), **ASKED)))


@given(VALUES | ANY_TEXT)
@examples(200)
def test_any_text_is_a_length_a_zone_a_field_or_none(text: str) -> None:
    length_us = parse_length(text)
    assert length_us is None or length_us > 0
    zone_of(text)
    if fields.field_of(text) is None:
        fields.suggestion(text)
