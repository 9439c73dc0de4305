"""The names of fields: every part of a shown event has one, and none of a caller's becomes SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from collector.search import event, fields
from collector.store.columns import EVENT_COLUMNS

NOT_FIELDS = {"id", "external_id", "event_id", "attributes", "offset"}


def places(shown: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in shown.items():
        if isinstance(value, dict) and value:
            yield from places(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_part_of_a_shown_event_is_a_field() -> None:
    said = dict.fromkeys(event._NAMES, "x") | dict.fromkeys((*event._METRICS, "timestamp", "observed_timestamp"), 1)
    shown = event.event_of(tuple({**said, "attributes": {}}.values())).shown
    found = [place for place in places(shown) if place not in NOT_FIELDS]
    named = [field.place for field in fields.FIELDS.values()]
    assert set(found) == set(named) - {"event_id"}
    assert [fields.field_of(place) for place in named] == list(fields.FIELDS.values())


def test_every_field_is_a_column_of_its_own() -> None:
    columns = [field.column for field in fields.FIELDS.values()]
    assert len(set(columns)) == len(columns)
    assert set(EVENT_COLUMNS) - set(columns) == {
        "tenant_id", "attributes", "retention_days", "version", "is_deleted", "zero_metrics",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("service", "service"),
        ("source.service", "service"),
        ("source", "source"),
        ("source.name", "source"),
        ("version", "version"),
        ("metrics.status_code", "status_code"),
        ("id", "event_id"),
        ("external_id", "event_id"),
        ("attr.region", "attr.region"),
        ("attributes.region", "attr.region"),
        ("attr.a.b c", "attr.a.b c"),
    ],
)
def test_a_field_has_its_short_name_and_that_of_its_place(name: str, meant: str) -> None:
    field = fields.field_of(name)
    assert field is not None
    assert field.name == meant


@pytest.mark.parametrize("name", ["", "attr.", "attributes.", "tenant_id", "version_", "is_deleted", "attributes", "a" * 2000])
def test_what_is_no_field_is_none_and_the_mend_names_those_there_are(name: str) -> None:
    assert fields.field_of(name) is None
    assert "severity" in fields.suggestion(name)


def test_a_near_name_is_suggested() -> None:
    assert fields.suggestion("sevrity").startswith("did you mean severity?")


def test_the_name_of_an_attribute_is_bound_and_never_sql() -> None:
    evil = "x'] OR 1=1 --"
    field = fields.field_of(f"attr.{evil}")
    assert field is not None
    for of in (fields.stored, fields.shown, fields.said, fields.number):
        params: dict[str, Any] = {}
        assert "1=1" not in of(field, params, "name0")
        assert params == {"name0": evil}


def test_a_number_that_was_said_to_be_0_is_told_from_one_that_was_not() -> None:
    assert fields.said(fields.FIELDS["status_code"], {}, "") == "(status_code != 0 OR has(zero_metrics, 'status_code'))"
