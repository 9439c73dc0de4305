"""The API's description is that of the program: its routes, its types, its codes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from collector import app, event, openapi, paths, query
from collector.config import Config
from collector.filters import ATTRIBUTE
from collector.paths import JSON, RESERVED_IDS
from collector.read_types import EventShown, SourceShown


def test_every_route_is_described_and_nothing_else() -> None:
    found = app.build(Config()).router.routes()
    routes = {(route.method.lower(), route.resource.canonical) for route in found if route.resource and route.method != "HEAD"}
    assert routes == {(operation.method, operation.path) for operation in paths.OPERATIONS}


def test_every_parameter_of_a_search_is_described() -> None:
    (search,) = [operation for operation in paths.OPERATIONS if operation.name == "searchEvents"]
    described = {parameter.name.replace(f"{ATTRIBUTE}NAME", ATTRIBUTE) for parameter in search.parameters}
    assert described == set(query.PARAMETERS)


@pytest.mark.parametrize("operation", [op for op in paths.OPERATIONS if op.body is not None], ids=lambda op: op.name)
def test_the_example_of_a_body_is_one_that_is_taken(operation: paths.Operation) -> None:
    assert msgspec.convert(operation.body_example, operation.body)


def test_examples_of_parameters_are_taken() -> None:
    (search,) = [operation for operation in paths.OPERATIONS if operation.name == "searchEvents"]
    pairs = [(parameter.name, str(parameter.example)) for parameter in search.parameters if parameter.example is not None]
    query.parse(
        [pair for pair in pairs if pair[0] not in ("severity", "min_severity")],
        tenant_id="t", retention_days=30, now_us=1_795_000_000_000_000,
    )  # fmt: skip


def test_an_event_is_shown_as_it_is_described() -> None:
    empty: dict[str, Any] = {"timestamp": 0, "observed_timestamp": 0, "attributes": {}, "tags": []}
    shown = event.event_of(tuple(empty.get(name, "") for name in event.COLUMNS)).shown
    assert list(shown) == list(EventShown.__struct_fields__)
    assert list(shown["source"]) == list(SourceShown.__struct_fields__)


def test_ids_that_are_other_paths_are_reserved() -> None:
    found = {op.path.rpartition("/")[2] for op in paths.OPERATIONS if op.path.startswith("/api/v1/ingestion/events/")}
    assert found - {"{event_id}"} == set(RESERVED_IDS)


def test_every_refusal_has_the_shape_of_an_error() -> None:
    for path, methods in openapi.described()["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status >= "400" and path not in ("/readyz", "/api/v1/ingestion/health"):
                    assert response["content"][JSON]["schema"] == {"$ref": "#/components/schemas/Envelope"}
