"""What was sent comes back: every field of an event by its ID, and the event by every filter. Real collector, real engine."""

from __future__ import annotations

import importlib.util
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.ingest.event_types import EVENT_TYPES, SEVERITIES
from collector.ingest.moments import show_moment
from tests.support.collector import Collector
from tests.support.events import body

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

EVENTS = "/api/v1/ingestion/events"
NOW_US = time.time_ns() // 1000
Event = dict[str, Any]
Filter = tuple[list[tuple[str, str]], Callable[[Event], bool]]
"""Parameters, and which of the shown events they should leave."""

WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)
"""Each try is a hundred requests."""
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
WORD = TEXT | st.sampled_from(["shop", "a, b", " a ", "it's", "100%", "a\\b", "größe", "\x00", "x=y", "GET", "get", "Get"])
NUMBER = st.integers(0, (1 << 63) - 1) | st.just(0)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Event]:
    return st.fixed_dictionaries(required, optional=optional)


def event_id() -> str:
    return f"{uuid.uuid4()} {chr(0x3B1)}'%/?#\\"


SENT = some(
    {
        "event_id": st.builds(event_id),
        "event_type": st.sampled_from(list(EVENT_TYPES)),
        "title": WORD,
        "source": some({"service": WORD, "endpoint": WORD, "method": WORD}, version=WORD, environment=WORD, name=WORD),
    },
    message=WORD,
    severity=st.sampled_from(list(SEVERITIES)),
    timestamp=st.integers(NOW_US - 20 * 86_400_000_000, NOW_US),
    context=some(
        {}, user_id=WORD, session_id=WORD, request_id=WORD, ip_address=WORD, user_agent=WORD,
        tags=st.lists(WORD, min_size=1, max_size=3),
    ),
    metrics=some(
        {}, status_code=st.integers(0, 65535) | st.sampled_from([0, 200, 404, 503]), request_size_bytes=NUMBER,
        response_size_bytes=NUMBER, response_time_ms=st.floats(0, 1e12) | st.just(0),
    ),
    error_details=some({}, error_code=WORD, error_message=WORD, error_type=WORD, stack_trace=WORD),
    attributes=st.dictionaries(TEXT | st.sampled_from(["host", "host.name", "a=b", "a"]), WORD | JSON, max_size=4),
    payload=JSON,
    metadata=JSON,
    trace_id=WORD,
    span_id=WORD,
)  # fmt: skip


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


def expected(sent: Event) -> Event:
    """How an event is shown that was sent like this; without the time of arrival."""
    shown: Event = dict.fromkeys(("id", "event_id", "external_id"), sent["event_id"])
    shown |= {name: sent.get(name, "") for name in ("event_type", "title", "message", "trace_id", "span_id")}
    shown["severity"] = sent.get("severity", "info")
    shown["source"] = dict.fromkeys(("version", "environment", "name"), "") | sent["source"]
    shown |= {name: sent.get(name, {}) for name in ("context", "error_details", "metrics")}
    shown["attributes"] = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in sent.get("attributes", {}).items()
    }
    shown |= {name: {} if sent.get(name) is None else sent[name] for name in ("payload", "metadata")}
    if "timestamp" in sent:
        shown["timestamp"] = show_moment(sent["timestamp"])
    return {**shown, "agent": "", "path": "", "offset": None, "parse_error": ""}


def words(text: str) -> set[str]:
    return {word if word.isascii() else word.lower() for word in re.findall(r"[0-9A-Za-z\x80-\U0010ffff]+", text)}


def filters_of(event: Event) -> Iterator[Filter]:
    """Every filter that should find this event, and what it leaves of others."""
    for name in ("service", "endpoint"):
        yield of_text(name, event["source"][name], lambda e, name=name: {e["source"][name]})
    if event["source"]["name"]:
        yield of_text("source", event["source"]["name"], lambda e: {e["source"]["name"]})
    if "user_id" in event["context"]:
        yield of_text("user_id", event["context"]["user_id"], lambda e: {e["context"].get("user_id")})
    for tag in event["context"].get("tags", ()):
        yield of_text("tags", tag, lambda e: set(e["context"].get("tags", ())))
    for method in (upper(event["source"]["method"]), event["source"]["method"]):
        yield of_text("method", method, lambda e: {e["source"]["method"], upper(e["source"]["method"])})
    for name in ("host", "host.name"):
        if event["attributes"].get(name):
            yield of_text("host", event["attributes"][name], lambda e: {e["attributes"].get(n) for n in ("host", "host.name")})
    for name, value in event["attributes"].items():
        yield [(f"attr.{name}", value)], lambda e, name=name, value=value: e["attributes"].get(name) == value
    if (status := event["metrics"].get("status_code")) is not None:
        yield [("status_code", str(status))], lambda e: e["metrics"].get("status_code") == status
        low, high = max(0, status - 100), min(65535, status + 100)
        yield [("status_code", f"{low}-{high}")], lambda e: low <= e["metrics"].get("status_code", -1) <= high
        if 100 <= status <= 999:
            yield [("status_code", f"{status // 100}xx")], lambda e: e["metrics"].get("status_code", 0) // 100 == status // 100
    yield [("event_type", event["event_type"])], lambda e: e["event_type"] == event["event_type"]
    yield [("severity", event["severity"].upper())], lambda e: e["severity"] == event["severity"]
    rising = list(SEVERITIES)
    at_least = rising[rising.index(event["severity"]) :]
    yield [("min_severity", event["severity"])], lambda e: e["severity"] in at_least
    yield [("event_id", event["event_id"])], lambda e: e["event_id"] == event["event_id"]
    moment = event["timestamp"]
    yield [("start_time", moment), ("end_time", moment)], lambda e: e["timestamp"] == moment


def of_text(name: str, value: str, of: Callable[[Event], set[Any]]) -> Filter:
    """A text finds itself, and, where it has commas, each of its parts; blank parts are none."""
    parts = {part.strip() for part in value.split(",")} - {""}
    if not parts:
        return [], lambda e: True
    sought = {value, *parts}
    if name == "method":
        sought |= {upper(part) for part in sought}
    return [(name, value)], lambda e: bool(sought & of(e))


def upper(text: str) -> str:
    return re.sub("[a-z]+", lambda found: found[0].upper(), text)


def test_every_field_comes_back_as_it_was_sent_and_every_filter_finds_it(collector: Collector) -> None:
    @settings(
        max_examples=10,
        deadline=None,
        phases=WITHOUT_SHRINKING,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(SENT, min_size=1, max_size=8))
    def property_holds(events: list[Event]) -> None:
        key = collector.new_tenant(f"round trip {uuid.uuid4()}")
        headers = {"Content-Type": "application/json"}
        answer = collector.request("POST", f"{EVENTS}/batch", key=key, body=body({"events": events}), headers=headers)
        assert answer.body["processing_status"] == "completed", answer
        shown = {}
        for sent in events:
            found = collector.request("GET", f"{EVENTS}/{quote(sent['event_id'], safe='')}", key=key).body
            arrived = found.pop("observed_timestamp")
            assert {"timestamp": arrived, **expected(sent)} == found
            shown[sent["event_id"]] = found
        for event in list(shown.values())[:2]:
            for pairs, leaves in filters_of(event):
                answer = collector.request("GET", f"{EVENTS}/search?{urlencode([*pairs, ('limit', '1000')])}", key=key)
                assert answer.status == 200, (pairs, answer)
                left = {one["event_id"] for one in answer.body["events"]}
                assert left == {name for name, other in shown.items() if leaves(other)}, pairs
                assert event["event_id"] in left, pairs

    property_holds()


def test_a_metric_of_0_comes_back_as_0_and_one_not_sent_is_not_said(collector: Collector) -> None:
    key = collector.new_tenant(f"zeros {uuid.uuid4()}")
    names = ("response_time_ms", "status_code", "request_size_bytes", "response_size_bytes")
    source = {"service": "rpc", "endpoint": "/", "method": "CALL"}
    said = [{}, dict.fromkeys(names, 0), *({name: 0} for name in names), {"status_code": 7, "response_time_ms": 0}]
    for n, metrics in enumerate(said):
        sent = {"event_id": f"zero-{n}", "event_type": "api_call", "title": "-", "source": source, "metrics": metrics}
        answer = collector.request("POST", EVENTS, key=key, body=body(sent), headers={"Content-Type": "application/json"})
        assert answer.status == 200, answer
    assert [collector.request("GET", f"{EVENTS}/zero-{n}", key=key).body["metrics"] for n in range(len(said))] == said
    found = {text: {e["id"] for e in collector.search(key, status_code=text)["events"]} for text in ("0", "0-7", "1-7", "0,7")}
    assert found == {"0": {"zero-1", "zero-3"}, "0-7": {"zero-1", "zero-3", "zero-6"}, "1-7": {"zero-6"},
                     "0,7": {"zero-1", "zero-3", "zero-6"}}  # fmt: skip


def test_a_word_of_title_or_message_finds_the_event(collector: Collector) -> None:
    key = collector.new_tenant(f"words {uuid.uuid4()}")
    source = {"service": "shop", "endpoint": "/", "method": "GET"}
    texts = ["it's 100%", "a\x00b", "größe ÄNDERN", "5 \u212a", "😀 ok", "ＡＢ c", "ΟΔΟΣ.", "İ", "back\\slash 'n' \"quote\""]
    for n, text in enumerate(texts):
        for name in ("title", "message"):
            sent = {"event_id": f"{name}-{n}", "event_type": "log", "title": "-", "source": source, name: text}
            answer = collector.request("POST", EVENTS, key=key, body=body(sent), headers={"Content-Type": "application/json"})
            assert answer.status == 200, answer
    for n, text in enumerate(texts):
        assert {found["id"] for found in collector.search(key, q=text)["events"]} == {f"title-{n}", f"message-{n}"}, text
