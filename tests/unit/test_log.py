import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from collector import log
from collector.serving.surround import trace_of

FACT = "first\nsecond"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the test run is put back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(False)


def fail() -> None:
    try:
        raise ValueError(FACT)
    except ValueError:
        logging.getLogger("x").exception("it broke: %s", FACT, extra=log.fields(request_id="r1"))


def test_a_fact_is_one_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("info", "text")
    fail()
    (line,) = capsys.readouterr().err.splitlines()
    assert "ERROR x: it broke: first\\nsecond request_id=r1 Traceback" in line


def test_a_fact_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("info", "json")
    fail()
    (line,) = capsys.readouterr().err.splitlines()
    fact = json.loads(line)
    assert (fact["severity_text"], fact["severity_number"], fact["body"]) == ("ERROR", 17, "it broke: first\nsecond")
    assert fact["resource"]["service.name"] == "pulsestream-collector"
    assert fact["scope"] == "x"
    attributes = fact["attributes"]
    assert (attributes["request_id"], attributes["exception.type"], attributes["exception.message"]) == (
        "r1",
        "ValueError",
        FACT,
    )
    assert attributes["exception.stacktrace"].endswith("ValueError: first\nsecond")
    assert datetime.fromisoformat(fact["timestamp"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize(("level", "number"), [("debug", 5), ("info", 9), ("warning", 13), ("error", 17), ("critical", 21)])
def test_levels_have_the_numbers_of_opentelemetry(capsys: pytest.CaptureFixture[str], level: str, number: int) -> None:
    log.start("debug", "json")
    getattr(logging.getLogger("x"), level)("said")
    assert json.loads(capsys.readouterr().err)["severity_number"] == number


def test_a_line_of_a_trace_says_so_beside_its_attributes(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("info", "json")
    parent = f"00-{'a1' * 16}-{'b2' * 8}-01"
    logging.getLogger("x").info("said", extra=log.fields(ms=1.5, **trace_of({"traceparent": parent})))
    fact = json.loads(capsys.readouterr().err)
    assert (fact["trace_id"], fact["span_id"], fact["trace_flags"]) == ("a1" * 16, "b2" * 8, "01")
    assert fact["attributes"] == {"ms": 1.5}


@pytest.mark.parametrize(
    ("parent", "is_one"),
    [
        (f"00-{'a1' * 16}-{'b2' * 8}-00", True),
        (f"cc-{'a1' * 16}-{'b2' * 8}-00-of-a-version-to-come", True),
        (f"00-{'a1' * 16}-{'b2' * 8}-00-more", False),
        (f"ff-{'a1' * 16}-{'b2' * 8}-00", False),
        (f"00-{'00' * 16}-{'b2' * 8}-00", False),
        (f"00-{'a1' * 16}-{'00' * 8}-00", False),
        (f"00-{'A1' * 16}-{'b2' * 8}-00", False),
        ("", False),
    ],
)
def test_a_trace_is_taken_from_a_header_of_the_standards_form_only(parent: str, is_one: bool) -> None:
    assert bool(trace_of({"traceparent": parent})) is is_one


def test_a_request_that_cannot_be_read_is_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("info", "text")
    try:
        raise BadHttpMessage("X-API-Key: ps_secret")
    except BadHttpMessage:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    said = capsys.readouterr().err
    assert "INFO aiohttp.server: a request that cannot be read: BadHttpMessage" in said
    assert "secret" not in said
