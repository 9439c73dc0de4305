import json
import logging
from collections.abc import Iterator

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from collector import log

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
    assert (fact["level"], fact["message"], fact["request_id"]) == ("error", "it broke: first\nsecond", "r1")
    assert fact["traceback"].endswith("ValueError: first\nsecond")


def test_a_request_that_cannot_be_read_is_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("info", "text")
    try:
        raise BadHttpMessage("X-API-Key: ps_secret")
    except BadHttpMessage:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    said = capsys.readouterr().err
    assert "INFO aiohttp.server: a request that cannot be read: BadHttpMessage" in said
    assert "secret" not in said
