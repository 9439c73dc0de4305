"""A tenant that has as many queries under way as it may is told to come back, whatever it asks, and nobody else is.

The engine is stopped as by SIGSTOP, so that what is under way stays so.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from agent import wire
from tests.support.collector import Answer, Collector, record
from tests.support.engine import ClickHouseFront
from tests.support.records import FILE_ID

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
LINE = b"a line\n"
LINE_ID = wire.event_id(FILE_ID, 4096, LINE.rstrip())


ASKED = (
    ("GET", f"{EVENTS}/search"),
    ("GET", f"{EVENTS}/search?format=ndjson"),
    ("GET", f"{EVENTS}/histogram"),
    ("GET", f"{EVENTS}/facets"),
    ("GET", f"{EVENTS}/fields"),
    ("POST", f"{EVENTS}/aggregate"),
    ("GET", f"{EVENTS}/context/{LINE_ID}"),
    ("GET", f"{EVENTS}/export"),
    ("GET", f"{EVENTS}/{LINE_ID}"),
    ("GET", f"{wire.IDS_PATH}?from={FILE_ID}-&to={FILE_ID}-g"),
    ("GET", f"{wire.SUMS_PATH}?file_id={FILE_ID}"),
    ("GET", "/api/v1/ingestion/stats"),
    ("GET", "/api/v1/ingestion/searches"),
)
ROUNDS = 5
"""A key is looked up again after some seconds: on a machine that is too busy a round may take longer, and is made again."""


def ask(collector: Collector, key: str, method: str, path: str) -> Answer:
    body = b'{"group_by": ["service"]}' if method == "POST" else None
    return collector.request(method, path, key=key, body=body, headers={"Content-Type": "application/json"} if body else None)


def asked_at_once(collector: Collector, key: str, engine: ClickHouseFront) -> dict[str, Answer]:
    """The answers to `ASKED` while another query of the tenant is under way."""
    with ThreadPoolExecutor(len(ASKED) + 2) as threads:
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            pair = [threads.submit(collector.request, "GET", f"{EVENTS}/search", key=key) for _ in range(2)]
            wait(pair, timeout=5, return_when=FIRST_COMPLETED)
            answers = {path: threads.submit(ask, collector, key, method, path) for method, path in ASKED}
            wait(answers.values(), timeout=5)
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        return {path: answer.result() for path, answer in answers.items()}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("turnstile")
    with ClickHouseFront(folder / "data") as engine, Collector(folder / "c", store=engine.url) as collector:
        key = collector.new_tenant("eager", limits={"concurrent_queries": 1})
        assert collector.post(key, record(LINE, base_offset=4096, source_from=4096)).status == 200
        for _ in range(ROUNDS):
            assert collector.search(key)["total_count"] == 1, "the place is free again"
            found = asked_at_once(collector, key, engine)
            if all(answer.status == 429 for answer in found.values()):
                break
        return found


@pytest.mark.parametrize("path", [path for _, path in ASKED])
def test_one_query_more_than_a_tenant_may_have_is_429_wherever_it_asks(answers: dict[str, Answer], path: str) -> None:
    answer = answers[path]
    assert (answer.status, answer.body["error"]["code"]) == (429, "too_many_queries"), answer
    assert int(answer.headers["Retry-After"]) >= 1
    assert "1 queries of this tenant" in answer.body["error"]["message"]
