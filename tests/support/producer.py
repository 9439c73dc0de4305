"""A producer of JSON events, for tests: a tenant's key and the requests made with it."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

from tests.support.collector import Answer, Collector
from tests.support.events import body

EVENTS = "/api/v1/ingestion/events"
BATCH = f"{EVENTS}/batch"
JSON = "application/json"


class Producer:
    """A tenant's key and the requests made with it."""

    def __init__(self, collector: Collector, key: str) -> None:
        self.collector = collector
        self.key = key

    def send(self, value: Any, path: str = EVENTS, *, query: str = "", **headers: str) -> Answer:
        sent = {"Content-Type": JSON, **{name.replace("_", "-"): text for name, text in headers.items()}}
        raw = value if isinstance(value, bytes) else body(value)
        return self.collector.request("POST", path + query, key=self.key, body=raw, headers=sent)

    def batch(self, *events: Any, query: str = "", **headers: str) -> Any:
        """The answer to a batch that must be one."""
        answer = self.send({"events": events}, BATCH, query=query, **headers)
        assert answer.status == 200, answer
        return answer.body

    def get(self, event_id: str) -> Answer:
        return self.collector.request("GET", f"{EVENTS}/{quote(event_id, safe='')}", key=self.key)

    def delete(self, event_id: str) -> Answer:
        return self.collector.request("DELETE", f"{EVENTS}/{quote(event_id, safe='')}", key=self.key)

    def found(self, **query: object) -> list[Any]:
        return list(self.collector.search(self.key, **query)["events"])

    def count(self) -> int:
        return int(self.collector.search(self.key, limit=1)["total_count"])


def limited(collector: Collector, **limits: Any) -> Producer:
    return Producer(collector, collector.new_tenant(f"limited {uuid.uuid4()}", limits=limits))


def outcomes(answer: Any) -> list[str]:
    return [result["outcome"] for result in answer["results"]]


def refusal(answer: Answer, status: int, code: str) -> Any:
    """The error of an answer that must be one."""
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
    return answer.body["error"]
