"""The API's description is that of the program: its routes, its types, its codes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from collector import app
from collector.api import openapi, paths
from collector.api.parameters import RESERVED_IDS
from collector.api.paths import JSON
from collector.config import Config
from collector.figures import facets, histogram, names
from collector.ingest import events
from collector.search import context, event, ids, query, reports
from collector.search.filters import ATTRIBUTE
from collector.search.read_types import EventShown, SourceShown
from collector.streams import export, tail


def test_every_route_is_described_and_nothing_else() -> None:
    found = app.build(Config()).router.routes()
    routes = {(route.method.lower(), route.resource.canonical) for route in found if route.resource and route.method != "HEAD"}
    routes.remove(("get", "/page/{name}"))  # files of the page: for its browser, no part of the API
    assert routes == {(operation.method, operation.path) for operation in paths.OPERATIONS}


TAKEN = {
    "searchEvents": query.PARAMETERS,
    "countOverTime": histogram.PARAMETERS,
    "countByValue": facets.PARAMETERS,
    "listFields": names.PARAMETERS,
    "exportEvents": export.PARAMETERS,
    "getContext": context.PARAMETERS,
    "tailEvents": tail.PARAMETERS,
    "getStats": reports.STATS_PARAMETERS,
    "getOutcomes": query.WINDOW_PARAMETERS,
    "ingestEvent": events.EVENT_PARAMETERS,
    "ingestBatch": events.BATCH_PARAMETERS,
    "listIds": ids.PARAMETERS,
    "sumIds": ids.SUMS_PARAMETERS,
}
"""Operations with query parameters of their own, and what their handlers know; the others take none."""


@pytest.mark.parametrize("operation", paths.OPERATIONS, ids=lambda op: op.name)
def test_every_parameter_that_is_taken_is_described_and_no_other(operation: paths.Operation) -> None:
    in_query = [parameter.name for parameter in operation.parameters if parameter.place == "query"]
    described = {name.replace(f"{ATTRIBUTE}NAME", ATTRIBUTE) for name in in_query}
    assert described == set(TAKEN.get(operation.name, ()))


@pytest.mark.parametrize("operation", paths.OPERATIONS, ids=lambda op: op.name)
def test_every_operation_says_that_it_refuses_what_it_does_not_know(operation: paths.Operation) -> None:
    assert "422" in openapi.described()["paths"][operation.path][operation.method]["responses"]


def test_the_budget_is_described_on_every_answer_whose_tenant_is_known() -> None:
    described = openapi.described()["paths"]
    for operation in paths.OPERATIONS:
        for status, response in described[operation.path][operation.method]["responses"].items():
            required = {name for name, header in response.get("headers", {}).items() if header["required"]}
            wanted = operation.credential == paths.KEY and status not in ("401", "503")
            assert required == (set(openapi._BUDGET_HEADERS) if wanted else set()), (operation.name, status)


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
