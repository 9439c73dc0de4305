"""The API's description against a real collector: every answer to generated requests has a described status and shape."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agent import wire
from collector.api import openapi, paths
from collector.api.paths import ADMIN, KEY, Operation
from collector.streams import tail
from tests.support.collector import ADMIN_TOKEN, Collector

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EXAMPLES = 20
"""Of each operation: enough to meet every kind of refusal, few enough for every run of the suite."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    return collector.new_tenant("described")


SCHEMA = schemathesis.openapi.from_dict(openapi.described())
GENERATED = [operation for operation in paths.OPERATIONS if operation.path not in (wire.BLOCKS_PATH, tail.PATH)]
"""Without the agents' records, which are no JSON: `tests/unit/test_blocks.py` has what becomes of bad ones. And without the
tail, whose answer does not end: `test_tail_http.py` has it."""


@pytest.mark.parametrize("operation", GENERATED, ids=lambda operation: operation.name)
def test_every_answer_is_described(operation: Operation, collector: Collector, key: str) -> None:
    headers = {ADMIN: {"X-Admin-Token": ADMIN_TOKEN}, KEY: {"X-API-Key": key}}.get(operation.credential, {})

    @given(case=SCHEMA[operation.path][operation.method.upper()].as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def answers(case: Case) -> None:
        case.call_and_validate(base_url=collector.url, headers=headers, checks=CHECKS)

    answers()


def test_the_description_names_every_route(collector: Collector) -> None:
    described = collector.request("GET", "/api/v1/openapi.json").body["paths"]
    assert {(method, path) for path, methods in described.items() for method in methods} == {
        (operation.method, operation.path) for operation in paths.OPERATIONS
    }
