"""Events as an API client sends them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

PLAIN: dict[str, Any] = {
    "event_type": "api_call",
    "title": "order placed",
    "source": {"service": "shop", "endpoint": "/orders", "method": "POST"},
}
"""What is required, and no more."""


def event(**changed: Any) -> dict[str, Any]:
    """A plain event with some members changed; ``...`` takes one away."""
    return {name: value for name, value in {**PLAIN, **changed}.items() if value is not ...}


def named(**changed: Any) -> dict[str, Any]:
    """An event with an ID that no other has."""
    return event(**{"event_id": str(uuid.uuid4()), **changed})


def full(**changed: Any) -> dict[str, Any]:
    """An event that says everything an event can say."""
    said = {
        "event_id": str(uuid.uuid4()),
        "message": "order 8 was placed by Zoë",
        "severity": "warning",
        "timestamp": ago(60),
        "source": {**PLAIN["source"], "version": "1.2.3", "environment": "prod", "name": "shop-api"},
        "context": {
            "user_id": "u-1",
            "session_id": "s-1",
            "request_id": "r-1",
            "ip_address": "10.0.0.1",
            "user_agent": "curl/8",
            "tags": ["a", "b"],
        },
        "metrics": {"response_time_ms": 12.5, "status_code": 201, "request_size_bytes": 10, "response_size_bytes": 20},
        "error_details": {"error_code": "E1", "error_message": "no", "error_type": "Oops", "stack_trace": "a\nb"},
        "attributes": {"region": "eu", "retries": 3},
        "payload": {"order": 8, "lines": [1, 2]},
        "metadata": {"sent_by": "test"},
        "trace_id": "t" * 32,
        "span_id": "s" * 16,
    }
    return event(**{**said, **changed})


def ago(seconds: float) -> str:
    """A time so long ago, as clients write times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def drained(work: Generator[None, None, T]) -> T:
    """The result of a work that pauses, without pauses."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # typed as Any there
